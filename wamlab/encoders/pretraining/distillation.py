"""DINOv2: a student that says of a crop what its own moving average, the teacher, says of another crop of the same frame.

The loss is DINO's (Caron et al., 2021, arXiv:2104.14294), two large crops for both and small ones for the student only, with DINOv2's
targets, balanced by Sinkhorn-Knopp, and its regulariser that spreads features (Oquab et al., 2023, arXiv:2304.07193). Left out is the loss
of masked patches. Crops are not mirrored, because left and right are not the same to a driver.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.encoders.dinov2 import SmallDinov2
from wamlab.encoders.pretraining.data import Batch
from wamlab.encoders.pretraining.objective import Objective, follow

#: Side of the crops in patches, and the range of their share of the frame's side; two large ones and `SMALL_CROPS` small ones.
LARGE_PATCHES, LARGE_SCALE = 7, (0.6, 1.0)
SMALL_PATCHES, SMALL_SCALE, SMALL_CROPS = 4, (0.25, 0.5), 2
PROTOTYPES, HIDDEN, BOTTLENECK = 128, 256, 64
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
MOMENTUM = 0.99
#: Weight of the regulariser, and rounds of Sinkhorn-Knopp.
SPREAD, ROUNDS = 0.1, 3
#: Range of the factor by which a crop's contrast changes, and of what is added to its normalised values.
JITTER = 0.3


class Head(nn.Module):
    """(B, D) -> (B, PROTOTYPES) cosines with learned prototypes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, BOTTLENECK))
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, BOTTLENECK))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.mlp(tokens), dim=1) @ F.normalize(self.prototypes, dim=1).T


class SelfDistillation(Objective):
    """See the module's docstring."""

    summary = "self-distillation of crops (DINO loss, Sinkhorn-Knopp targets, KoLeo; 2 large, 2 small crops, not mirrored); no labels"
    measure = "matched"
    meaning = (
        "share of frames whose second random crop has the nearest class token, by cosine, among those of the batch"
    )

    def __init__(self, config: SmallDinov2) -> None:
        from transformers import Dinov2Model

        super().__init__()
        self.backbone, self.preprocess = Dinov2Model(config.config()), config.preprocess()
        self.backbone.embeddings.mask_token.requires_grad_(False)  # only the loss of masked patches has a use for it
        self.head = Head(config.width)
        self.teacher, self.teacher_head = (
            copy.deepcopy(part).requires_grad_(False) for part in (self.backbone, self.head)
        )

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if self.training:
            follow(self.teacher, self.backbone, MOMENTUM)
            follow(self.teacher_head, self.head, MOMENTUM)
        pixels, patch = self.preprocess(batch.frames[:, 0]), self.backbone.config.patch_size
        large = torch.cat([crop(pixels, LARGE_PATCHES * patch, LARGE_SCALE, generator) for _ in range(2)])
        small = torch.cat([crop(pixels, SMALL_PATCHES * patch, SMALL_SCALE, generator) for _ in range(SMALL_CROPS)])
        with torch.no_grad():
            says = self.teacher_head(self._read(self.teacher, large))
            targets = balance(says.float() / TEACHER_TEMPERATURE).chunk(2)
        tokens = self._read(self.backbone, large)
        told = torch.cat([self.head(tokens), self.head(self._read(self.backbone, small))]) / STUDENT_TEMPERATURE
        views = told.log_softmax(dim=1).chunk(2 + SMALL_CROPS)
        pairs = [
            -(target * view).sum(1).mean() for i, target in enumerate(targets) for j, view in enumerate(views) if i != j
        ]
        one, other = F.normalize(tokens.float(), dim=1).chunk(2)
        loss = torch.stack(pairs).mean() + SPREAD * (crowding(one) + crowding(other)) / 2
        nearest = (one @ other.T).argmax(dim=1)
        matched = (nearest == torch.arange(len(nearest), device=nearest.device)).float().mean()
        return loss, {"matched": float(matched)}

    @staticmethod
    def _read(backbone: nn.Module, pixels: Tensor) -> Tensor:
        """The class tokens (B, D) of crops."""
        return backbone(pixels).last_hidden_state[:, 0]


@torch.no_grad()
def balance(logits: Tensor) -> Tensor:
    """(N, K) -> (N, K) probabilities that use all K about equally: Sinkhorn-Knopp (SwAV, Caron et al., 2020, arXiv:2006.09882)."""
    shares = (logits - logits.max()).exp()
    for _ in range(ROUNDS):
        shares = shares / (shares.sum(dim=0, keepdim=True) + 1e-12)
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares


def crowding(features: Tensor) -> Tensor:
    """-mean log of the distance to the nearest other of N unit vectors (N, D): KoLeo (Sablayrolles et al., 2018, arXiv:1806.03198)."""
    with torch.no_grad():
        nearest = (features @ features.T).fill_diagonal_(-1).argmax(dim=1)
    return -((features - features[nearest]).norm(dim=1) + 1e-6).log().mean()


def crop(pixels: Tensor, side: int, scale: tuple[float, float], generator: torch.Generator) -> Tensor:
    """(B, 3, S, S) normalised -> (B, 3, side, side): of each image a random square, `scale` of its side, with another contrast."""
    amounts = torch.rand(5, len(pixels), generator=generator, device=generator.device)
    size = scale[0] + (scale[1] - scale[0]) * amounts[0]
    x, y = ((1 - size) * (2 * a - 1) for a in amounts[1:3])  # of the centre, so that the square stays inside
    zero = torch.zeros_like(size)
    corners = torch.stack([torch.stack([size, zero, x], 1), torch.stack([zero, size, y], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(corners, [len(pixels), 3, side, side], align_corners=False)
    views = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    contrast, brightness = (JITTER * (2 * a - 1)[:, None, None, None] for a in amounts[3:])
    return views * (1 + contrast) + brightness
