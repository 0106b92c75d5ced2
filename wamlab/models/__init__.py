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

__all__ = ["MODELS", "AnchoredDiT", "AnchoredDiTConfig", "CopyPresent", "build_model"]


def build_model(name: str, preset: Preset, codec: Codec) -> nn.Module:
    """An untrained model: its recipe's config, with the shapes that preset and codec decide. Initialised from the global generator.

    Raises `UnknownName`, and `InvalidParameter` when the config does not fit the latents.
    """
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    if name == "copy":
        return CopyPresent()
    shapes = {
        "channels": codec.channels,
        "size": preset.resolution // codec.downsample,
        "horizon": preset.horizon,
        "num_context": preset.num_context,
    }
    return MODELS[name](dataclasses.replace(getattr(preset, name).model, **shapes), name)
