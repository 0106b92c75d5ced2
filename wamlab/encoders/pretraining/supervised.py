"""ViT: trained with labels (Dosovitskiy et al., 2021, arXiv:2010.11929), here what the world says of a scene and of what is in view.

The labels are time of day, weather, kind of place, and the share of every semantic class in each cell of a coarse grid over the frame.
No action is among them, so that a probe for actions stays honest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.data.labels import load_semantic
from wamlab.encoders.pretraining.data import Batch
from wamlab.encoders.pretraining.objective import Objective
from wamlab.encoders.vit import SmallVit
from wamlab.errors import LabelsMissing
from wamlab.types import Scene
from wamlab.world.primitives import Semantic
from wamlab.world.road import PLACES
from wamlab.world.weather import TIMES, WEATHERS

#: Attribute of a scene -> its values.
ATTRIBUTES = {"time": TIMES, "weather": WEATHERS, "place": PLACES}
#: Cells of the grid along each side, and pixels of the semantic map along each side of a cell.
CELLS, CELL_PX = 4, 16


class SceneLabels(Objective):
    """See the module's docstring. One linear layer reads all labels from the class token."""

    summary = "cross-entropy of scene labels (time, weather, place) and of the shares of semantic classes in 4 × 4 cells; no actions"
    measure = "accuracy"
    meaning = "share of time, weather and place told right, mean of the three"

    def __init__(self, config: SmallVit) -> None:
        from transformers import ViTModel

        super().__init__()
        self.backbone, self.preprocess = ViTModel(config.config(), add_pooling_layer=False), config.preprocess()
        self.sizes = [*(len(values) for values in ATTRIBUTES.values()), len(Semantic) * CELLS**2]
        self.head = nn.Linear(config.width, sum(self.sizes))

    def labels(self, scene: Scene) -> Tensor:
        """(T, 3 + C CELLS²): the indices of the attributes' values, then (C, CELLS, CELLS) shares that add up to 1 in each cell."""
        for name, values in ATTRIBUTES.items():
            if scene.attributes.get(name) not in values:
                raise LabelsMissing(
                    f"{scene.name} has no label {name!r} of {', '.join(values)}, but {scene.attributes.get(name)!r}: "
                    "supervised pretraining needs a dataset of `wamlab data synth`"
                )
        indices = torch.tensor([values.index(scene.attributes[name]) for name, values in ATTRIBUTES.items()])
        maps = torch.from_numpy(load_semantic(scene, range(len(scene)), CELLS * CELL_PX)).long()
        shares = F.avg_pool2d(F.one_hot(maps, len(Semantic)).permute(0, 3, 1, 2).float(), CELL_PX)
        return torch.cat([indices.float().expand(len(scene), -1), shares.flatten(1)], dim=1)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        tokens = self.backbone(self.preprocess(batch.frames[:, 0])).last_hidden_state
        *scene, view = self.head(tokens[:, 0]).split(self.sizes, dim=1)
        indices, shares = batch.labels.split([len(ATTRIBUTES), self.sizes[-1]], dim=1)
        truth = indices.long().unbind(1)
        loss = sum(F.cross_entropy(logits, target) for logits, target in zip(scene, truth, strict=True))
        grid = (len(Semantic), CELLS**2)
        loss = loss + F.cross_entropy(view.unflatten(1, grid), shares.unflatten(1, grid))
        right = [(logits.argmax(1) == target).float().mean() for logits, target in zip(scene, truth, strict=True)]
        return loss, {"accuracy": float(torch.stack(right).mean())}
