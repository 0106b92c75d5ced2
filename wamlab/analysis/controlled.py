"""Controlled comparisons: variants of one recipe that differ in one thing, trained alike and asked about the same held-out windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from wamlab.analysis.rollouts import Rollouts, roll_out
from wamlab.config import override
from wamlab.data.embeddings import EmbeddingStore
from wamlab.data.latents import LatentStore
from wamlab.encoders import EMBEDDING, load_encoder
from wamlab.errors import InvalidShape, UnknownName
from wamlab.metrics import pixel
from wamlab.models import model_config
from wamlab.presets import Preset
from wamlab.statistics import Interval
from wamlab.training import fit_or_load
from wamlab.types import Scene

#: A frame is one vector, an encoder's embedding; a frame is a grid of latents, the codec's.
POOLED, SPATIAL = "pooled", "spatial"
#: In place of a patch's size: the whole frame is one token.
WHOLE_FRAME = "whole frame"
COPY = "copy"


@dataclass(frozen=True)
class Variant:
    """What is trained and how it is asked.

    Attributes:
        model: its name in `MODELS`, whose recipe it is a variant of.
        space: `POOLED` or `SPATIAL`.
        changes: fields of the model's config that differ from the recipe's.
        steps: of the sampler; 0: the preset's.
    """

    model: str
    space: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0


@dataclass(frozen=True)
class Space:
    """What the variants of one space share: the preset with the space's recipes, the codec's shapes and the latents of every frame."""

    preset: Preset
    dataset: Any
    codec: Any
    store: Any


@dataclass(frozen=True)
class PooledCodec:
    """An encoder where training asks for a codec: frames become latents of one pixel, and none comes back."""

    name: str
    digest: str
    downsample: int
    channels: int = EMBEDDING


class PooledStore:
    """Embeddings (T, 384) as latents of one pixel, (T, 384, 1, 1)."""

    def __init__(self, embeddings: EmbeddingStore) -> None:
        self.embeddings, self.fill = embeddings, embeddings.fill

    def read(self, name: str) -> Tensor:
        return self.embeddings.read(name)[..., None, None]


def open_space(name: str, settings: Preset, dataset: Any, codec: Any, device: torch.device | str = "cpu") -> Space:
    """The space called `name`; `codec` is the spatial one's. Raises `UnknownName`, and as `load_encoder`."""
    recipe = settings.diagnosis
    if name == SPATIAL:
        preset = dataclasses.replace(settings, **recipe.spatial.by_model())
        return Space(preset, dataset, codec, LatentStore(dataset, codec, settings.resolution))
    if name != POOLED:
        raise UnknownName("space", name, (POOLED, SPATIAL))
    encoder = load_encoder(recipe.encoder, device)
    preset = dataclasses.replace(
        settings, resolution=encoder.resolution, horizon=recipe.pooled_horizon, **recipe.pooled.by_model()
    )
    pooled = PooledCodec(encoder.name, encoder.digest, encoder.resolution)
    return Space(preset, dataset, pooled, PooledStore(EmbeddingStore(dataset, encoder)))


def changed(variant: Variant, space: Space) -> Preset:
    """The space's preset with the variant's changes in its model's recipe. Raises `InvalidParameter` for an unknown field."""
    name = variant.model.replace("-", "_")
    size = space.preset.resolution // space.codec.downsample
    changes = {f"{name}.model.{key}": size if value == WHOLE_FRAME else value for key, value in variant.changes.items()}
    return override(space.preset, changes)


def trained(variant: Variant, space: Space, seed: int, progress: bool = True) -> nn.Module:
    """The variant, trained: from an earlier call where everything that decides its weights was the same."""
    preset = changed(variant, space)
    return fit_or_load(variant.model, preset, space.dataset, space.codec, space.store, seed, progress)
