"""World models: shared blocks, and one architecture per file. No training loop and no I/O."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import nn

from wamlab.errors import UnknownName
from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig
from wamlab.models.baselines import AnchorAlone, ConstantVelocityWarp, CopyPresent
from wamlab.models.jump import Jump
from wamlab.models.mlp import MlpConfig, PatchMlp, count_parameters, match_parameters
from wamlab.models.pooled import PooledDiT, PooledMlp
from wamlab.types import Codec

if TYPE_CHECKING:
    from wamlab.presets import Preset

#: Every world model by its name in commands, tables and figures. A trained one also has a `Recipe` in `Preset`: see `recipe_name`.
MODELS: dict[str, type[nn.Module]] = {
    "copy": CopyPresent,
    "warp": ConstantVelocityWarp,
    "direct": AnchoredDiT,
    "diffusion": AnchoredDiT,
    "jump": Jump,
    "jump-diffusion": Jump,
    "mlp": PatchMlp,
    "mlp-matched": PatchMlp,
    "pooled-dit": PooledDiT,
    "pooled-mlp": PooledMlp,
}

#: Those that have nothing to train.
BASELINES = ("copy", "warp")

__all__ = [
    "BASELINES",
    "MODELS",
    "AnchorAlone",
    "AnchoredDiT",
    "AnchoredDiTConfig",
    "ConstantVelocityWarp",
    "CopyPresent",
    "Jump",
    "MlpConfig",
    "PatchMlp",
    "PooledDiT",
    "PooledMlp",
    "build_model",
    "count_parameters",
    "match_parameters",
    "model_config",
    "num_parameters",
    "recipe_name",
]


def recipe_name(name: str) -> str:
    """The field of `Preset` that holds a model's recipe: `jump_diffusion` of `jump-diffusion`; `mlp-matched` shares that of `mlp`."""
    return "mlp" if name == "mlp-matched" else name.replace("-", "_")


def model_config(name: str, preset: Preset, codec: Codec) -> AnchoredDiTConfig | MlpConfig:
    """The recipe's config with the shapes that preset and codec decide. Raises `UnknownName`, or `InvalidParameter` if it does not fit.

    `mlp-matched` is the recipe's MLP, made as wide as it takes to have the parameters of the preset's `direct`.
    """
    if name not in MODELS or name in BASELINES:
        raise UnknownName("trained model", name, [known for known in MODELS if known not in BASELINES])
    chained = issubclass(MODELS[name], Jump)
    config = dataclasses.replace(
        getattr(preset, recipe_name(name)).model,
        channels=codec.channels,
        size=preset.resolution // codec.downsample,
        horizon=1 if chained else preset.horizon,
        num_context=1 if chained else preset.num_context,
    )
    return match_parameters(config, num_parameters("direct", preset, codec)) if name == "mlp-matched" else config


def build_model(name: str, preset: Preset, codec: Codec) -> nn.Module:
    """An untrained model, initialised from torch's global generator. Raises as `model_config`."""
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    if name in BASELINES:
        return MODELS[name]()
    return MODELS[name](model_config(name, preset, codec), name)


def num_parameters(name: str, preset: Preset, codec: Codec) -> int:
    """Of a model, without making it."""
    with torch.device("meta"):
        return count_parameters(build_model(name, preset, codec))
