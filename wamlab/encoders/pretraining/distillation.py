"""DINOv2: a student that says of a crop what its own moving average, the teacher, says of another crop of the same frame.

The loss is DINO's (Caron et al., 2021, arXiv:2104.14294): centred and sharpened targets, two large crops for both, small ones for the
student only. Left out of DINOv2 (Oquab et al., 2023, arXiv:2304.07193) are the loss of masked patches and the regulariser that spreads
features. Crops are not mirrored, because left and right are not the same to a driver.
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
PROTOTYPES, HIDDEN, BOTTLENECK = 512, 256, 64
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
MOMENTUM, CENTRE_MOMENTUM = 0.99, 0.9
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

    summary = "self-distillation of crops (DINO: teacher = moving average, centring, 2 large and 2 small crops, not mirrored); no labels"
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
        self.register_buffer("centre", torch.zeros(PROTOTYPES))

    @torch.no_grad()
    def prepare(self, frames: Tensor) -> None:
        """Begin with a centre that is one, of what the teacher says before it has learned anything."""
        self.centre.copy_(self.teacher_head(self._read(self.teacher, self.preprocess(frames[:, 0]))).mean(dim=0))

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if self.training:
            follow(self.teacher, self.backbone, MOMENTUM)
            follow(self.teacher_head, self.head, MOMENTUM)
        pixels, patch = self.preprocess(batch.frames[:, 0]), self.backbone.config.patch_size
        large = torch.cat([crop(pixels, LARGE_PATCHES * patch, LARGE_SCALE, generator) for _ in range(2)])
        small = torch.cat([crop(pixels, SMALL_PATCHES * patch, SMALL_SCALE, generator) for _ in range(SMALL_CROPS)])
        with torch.no_grad():
            says = self.teacher_head(self._read(self.teacher, large))
            targets = ((says - self.centre) / TEACHER_TEMPERATURE).softmax(dim=1).chunk(2)
        tokens = self._read(self.backbone, large)
        told = torch.cat([self.head(tokens), self.head(self._read(self.backbone, small))]) / STUDENT_TEMPERATURE
        views = told.log_softmax(dim=1).chunk(2 + SMALL_CROPS)
        pairs = [
            -(target * view).sum(1).mean() for i, target in enumerate(targets) for j, view in enumerate(views) if i != j
        ]
        if self.training:
            self.centre.lerp_(says.mean(dim=0).to(self.centre), 1 - CENTRE_MOMENTUM)
        one, other = F.normalize(tokens.detach().float(), dim=1).chunk(2)
        nearest = (one @ other.T).argmax(dim=1)
        matched = (nearest == torch.arange(len(nearest), device=nearest.device)).float().mean()
        return torch.stack(pairs).mean(), {"matched": float(matched)}

    @staticmethod
    def _read(backbone: nn.Module, pixels: Tensor) -> Tensor:
        """The class tokens (B, D) of crops."""
        return backbone(pixels).last_hidden_state[:, 0]


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
