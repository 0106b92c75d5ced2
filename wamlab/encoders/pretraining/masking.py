"""V-JEPA 2: from the visible part of a clip, predict what its own moving average sees in the rest (Assran et al., 2025, arXiv:2506.09985).

The masks are V-JEPA's (Bardes et al., 2024, arXiv:2404.08471): blocks of the picture hidden through the whole clip, of two kinds. The
encoder reads the visible patches only; `transformers.VJEPA2Model` would read all and mask its output, so its parts are called here.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.encoders.pretraining.data import Batch
from wamlab.encoders.pretraining.objective import Objective, follow
from wamlab.encoders.vjepa2 import SmallVJepa2, VJepa2Clip

#: (Number of blocks, share of the picture that each hides) of the two masks: many small ones, and few large ones.
MASKS = ((8, 0.15), (2, 0.7))
ASPECT = (0.75, 1.5)
#: At most so many hidden patches, drawn at random, are predicted in a step: what predicting all would cost is better spent on more steps.
MAX_TARGETS = 128
MOMENTUM = 0.99


class MaskedPrediction(Objective):
    """See the module's docstring. The backbone is the whole model, predictor included, as the real checkpoint has it."""

    num_frames = VJepa2Clip.num_frames
    summary = "L1 distance of the predicted features of hidden patches to those of a moving average that sees the whole clip; no labels"
    measure = "predicted"
    meaning = "1 - (L1 error of the predicted features) / (L1 error of their mean), at hidden patches; each against its own targets"

    def __init__(self, config: SmallVJepa2) -> None:
        from transformers import VJEPA2Model

        super().__init__()
        self.backbone, self.preprocess = VJEPA2Model(config.config()), config.preprocess()
        self.teacher = copy.deepcopy(self.backbone.encoder).requires_grad_(False)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if self.training:
            follow(self.teacher, self.backbone.encoder, MOMENTUM)
        pixels, side = self.preprocess(batch.frames), self.preprocess.crop // self.backbone.config.patch_size
        with torch.no_grad():
            targets = self.teacher(pixels).last_hidden_state
            targets = F.layer_norm(targets.float(), targets.shape[-1:])
        patches, errors, spreads = self.backbone.encoder.embeddings(pixels), [], []
        for count, share in MASKS:
            hidden = hide(side, count, share, generator).flatten().repeat(targets.shape[1] // side**2)
            visible, wanted = (~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]
            wanted = wanted[torch.randperm(len(wanted), generator=generator, device=generator.device)[:MAX_TARGETS]]
            truth = targets[:, wanted]
            errors.append((self._predict(patches, visible, wanted).float() - truth).abs().mean())
            spreads.append((truth.mean(dim=(0, 1)) - truth).abs().mean())
        loss = torch.stack(errors).mean()
        return loss, {"predicted": float(1 - loss.detach() / torch.stack(spreads).mean())}

    def _predict(self, patches: Tensor, visible: Tensor, wanted: Tensor) -> Tensor:
        """Embedded patches (B, N, D), indices (V,) and (W,) of some -> predicted features (B, W, D)."""
        encoder, indices = self.backbone.encoder, [i.expand(len(patches), -1) for i in (visible, wanted)]
        tokens = patches[:, visible]
        for layer in encoder.layer:
            tokens = layer(tokens, indices[0])[0]
        tokens = encoder.layernorm(tokens)
        placed = tokens.new_zeros(patches.shape)
        placed[:, visible] = tokens
        return self.backbone.predictor(placed, [indices[0]], [indices[1]]).last_hidden_state


def hide(side: int, count: int, share: float, generator: torch.Generator) -> Tensor:
    """(side, side) bool: what `count` random rectangles hide, each `share` of the square. At least one patch stays visible."""
    hidden = torch.zeros(side, side, dtype=torch.bool, device=generator.device)
    amounts = torch.rand(count, 3, generator=generator, device=generator.device).tolist()
    for aspect, down, right in amounts:
        ratio = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect
        height, width = (min(side, max(1, round(side * (share * r) ** 0.5))) for r in (ratio, 1 / ratio))
        top, left = int(down * (side - height + 1)), int(right * (side - width + 1))
        hidden[top : top + height, left : left + width] = True
    if hidden.all():
        hidden.view(-1)[int(amounts[0][1] * side**2)] = False
    return hidden
