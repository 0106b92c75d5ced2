"""Objectives that pretrain the embedded backbones, one a family; loops, presets and files on disk live elsewhere."""

from __future__ import annotations

from wamlab.encoders.pretraining.contrast import Contrast
from wamlab.encoders.pretraining.data import Batch, Frames, collate
from wamlab.encoders.pretraining.distillation import SelfDistillation
from wamlab.encoders.pretraining.masking import MaskedPrediction
from wamlab.encoders.pretraining.objective import Objective
from wamlab.encoders.pretraining.reconstruction import Reconstruction
from wamlab.encoders.pretraining.supervised import SceneLabels

#: Folder of the embedded weights -> what they are trained by; each takes the family's `Small…` sizes.
OBJECTIVES: dict[str, type[Objective]] = {
    "vit": SceneLabels,
    "dinov2": SelfDistillation,
    "clip": Contrast,
    "vjepa2": MaskedPrediction,
    "vq": Reconstruction,
}

__all__ = ["OBJECTIVES", "Batch", "Frames", "Objective", "collate"]
