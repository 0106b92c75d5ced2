"""World models: shared blocks, and one architecture per file. No training loop and no I/O."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import nn

from wamlab.errors import UnknownName
from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig
from wamlab.models.baselines import CopyPresent
from wamlab.models.jump import Jump
from wamlab.types import Codec

if TYPE_CHECKING:
    from wamlab.presets import Preset

#: Every world model by its name in commands, tables and figures. A trained one also has a `Recipe` in `Preset`: see `recipe_name`.
MODELS: dict[str, type[nn.Module]] = {
    "copy": CopyPresent,
    "direct": AnchoredDiT,
    "diffusion": AnchoredDiT,
    "jump": Jump,
    "jump-diffusion": Jump,
}

__all__ = [
    "MODELS",
    "AnchoredDiT",
    "AnchoredDiTConfig",
    "CopyPresent",
    "Jump",
    "build_model",
    "model_config",
    "recipe_name",
]


def recipe_name(name: str) -> str:
    """The field of `Preset` that holds a model's recipe: `jump_diffusion` of `jump-diffusion`."""
    return name.replace("-", "_")


def model_config(name: str, preset: Preset, codec: Codec) -> AnchoredDiTConfig:
    """The recipe's config with the shapes that preset and codec decide. Raises `UnknownName`, or `InvalidParameter` if it does not fit."""
    if name not in MODELS or name == CopyPresent.name:
        raise UnknownName("trained model", name, [known for known in MODELS if known != CopyPresent.name])
    chained = issubclass(MODELS[name], Jump)
    return dataclasses.replace(
        getattr(preset, recipe_name(name)).model,
        channels=codec.channels,
        size=preset.resolution // codec.downsample,
        horizon=1 if chained else preset.horizon,
        num_context=1 if chained else preset.num_context,
    )


def build_model(name: str, preset: Preset, codec: Codec) -> nn.Module:
    """An untrained model, initialised from torch's global generator. Raises as `model_config`."""
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    if name == CopyPresent.name:
        return CopyPresent()
    return MODELS[name](model_config(name, preset, codec), name)
