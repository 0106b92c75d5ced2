"""World models: shared blocks, and one architecture per file. No training loop and no I/O."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import nn

from wamlab.errors import UnknownName
from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig
from wamlab.models.baselines import CopyPresent
from wamlab.types import Codec

if TYPE_CHECKING:
    from wamlab.presets import Preset

#: Every world model by its name in commands, tables and figures. A trained one also has a `Recipe` of this name in `Preset`.
MODELS: dict[str, type[nn.Module]] = {
    "copy": CopyPresent,
    "direct": AnchoredDiT,
    "diffusion": AnchoredDiT,
}

__all__ = ["MODELS", "AnchoredDiT", "AnchoredDiTConfig", "CopyPresent", "build_model", "model_config"]


def model_config(name: str, preset: Preset, codec: Codec) -> AnchoredDiTConfig:
    """The recipe's config with the shapes that preset and codec decide. Raises `UnknownName`, or `InvalidParameter` if it does not fit."""
    if name not in MODELS or name == CopyPresent.name:
        raise UnknownName("trained model", name, [known for known in MODELS if known != CopyPresent.name])
    return dataclasses.replace(
        getattr(preset, name).model,
        channels=codec.channels,
        size=preset.resolution // codec.downsample,
        horizon=preset.horizon,
        num_context=preset.num_context,
    )


def build_model(name: str, preset: Preset, codec: Codec) -> nn.Module:
    """An untrained model, initialised from torch's global generator. Raises as `model_config`."""
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    if name == CopyPresent.name:
        return CopyPresent()
    return MODELS[name](model_config(name, preset, codec), name)
