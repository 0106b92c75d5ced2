"""What the pretraining objectives share: a backbone that is kept and whatever else is trained with it. No family lives here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from wamlab.encoders.preprocess import Preprocess
from wamlab.encoders.pretraining.data import Batch
from wamlab.types import Scene


class Objective(nn.Module, ABC):
    """A backbone with its training objective, as the training loop takes it.

    Attributes:
        backbone: what is shipped; the rest (heads, teachers, the tower of texts) is left behind.
        preprocess: of the backbone.
        num_frames: 1, or frames of a clip.
        summary: the objective in words, for the card.
        measure: the key of `loss`'s logs by which it is judged on scenes that it was not trained on.
        meaning: what that number is.
    """

    num_frames: ClassVar[int] = 1
    summary: ClassVar[str]
    measure: ClassVar[str]
    meaning: ClassVar[str]

    backbone: nn.Module
    preprocess: Preprocess

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the logs, of frames at the backbone's resolution."""

    def labels(self, scene: Scene) -> Tensor:
        """(T, K) float32 labels of a scene's frames, K = 0 where frames are enough. Raises `LabelsMissing` where the scene has none."""
        return torch.zeros(len(scene), 0)

    def prepare(self, frames: Tensor) -> None:
        """Whatever is to be done once before training, with (N, T, 3, S, S) uint8 training frames."""


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, in place."""
    torch._foreach_lerp_(list(teacher.parameters()), [p.detach() for p in student.parameters()], 1 - momentum)
