"""Controlled comparisons: variants of one recipe that differ in one thing, trained alike and asked about the same held-out windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from wamlab.errors import UnknownName
from wamlab.metrics import pixel
from wamlab.metrics.distribution import kernel_by_scene
from wamlab.metrics.features import Extractor, FeatureStream
from wamlab.metrics.motion import THRESHOLD_PX, displacement_px
from wamlab.models import BASELINES, recipe_name
from wamlab.presets import Preset
from wamlab.training import fit_or_load, run_folder
from wamlab.types import Scene

#: A frame is one vector, an encoder's embedding; a frame is a grid of latents, the codec's.
POOLED, SPATIAL = "pooled", "spatial"
#: In place of a patch's size: the whole frame is one token.
WHOLE_FRAME = "whole frame"
#: Models that draw one of many futures.
SAMPLED = ("diffusion", "jump-diffusion")


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
    name = recipe_name(variant.model)
    size = space.preset.resolution // space.codec.downsample
    changes = {f"{name}.model.{key}": size if value == WHOLE_FRAME else value for key, value in variant.changes.items()}
    return override(space.preset, changes)


def trained(
    name: str,
    variant: Variant,
    space: Space,
    seed: int,
    progress: bool = True,
    on_log: Callable[[Path, str], None] | None = None,
) -> nn.Module:
    """The variant, trained: from an earlier call where everything that decides its weights was the same.

    `on_log` is called with the run's folder and the variant's `name` whenever its metrics have grown, and once it is there.
    """
    preset, tell = changed(variant, space), None
    if on_log and variant.model not in BASELINES:

        def tell(folder: Path) -> None:
            on_log(folder, name)

    made = (variant.model, preset, space.dataset, space.codec)
    model = fit_or_load(*made, space.store, seed, progress, on_log=tell)
    if tell:
        tell(run_folder(*made, seed))
    return model


def roll_out_variant(
    name: str, variant: Variant, model: nn.Module, space: Space, scenes: Sequence[Scene], draws: int, seed: int
) -> tuple[Rollouts, Tensor]:
    """One window of each scene: the rollouts, and all draws (K, N, F, c, h, w), of which there is one if the model does not sample."""
    preset, steps = space.preset, variant.steps or space.preset.sampler_steps
    count = draws if variant.model in SAMPLED else 1
    rolled = [
        roll_out(
            {name: model}, scenes, space.store, preset.num_context, preset.horizon, {"steps": steps}, seed * draws + k
        )
        for k in range(count)
    ]
    return rolled[0], torch.stack([r.predicted[name] for r in rolled])


def cells(rolled: Rollouts, drawn: Tensor, **labels: Any) -> pd.DataFrame:
    """`labels`, scene, time_s, cosine, error, spread: of every frame of every window, from draws (K, N, F, c, h, w).

    cosine: similarity to the truth, the mean over draws. error: squared error of a latent, the mean over draws. spread: the part of that
    error that is the variance between draws, unbiased; the rest, error - spread, is the squared error of the mean of many draws.
    """
    n, horizon = rolled.truth.shape[:2]
    squares = (drawn - rolled.truth).square().mean((-3, -2, -1)).mean(0)  # (N, F)
    spread = drawn.var(0).mean((-3, -2, -1)) if len(drawn) > 1 else torch.zeros_like(squares)
    cosine = torch.stack([pixel.cosine_similarity(draw, rolled.truth) for draw in drawn]).mean(0)
    return pd.DataFrame(
        {
            **labels,
            "scene": np.repeat(rolled.scenes, horizon),
            "time_s": np.tile(rolled.times_s.round(3), n),
            "cosine": cosine.flatten().numpy(),
            "error": squares.flatten().numpy(),
            "spread": spread.flatten().numpy(),
        }
    )


def kernel_cells(
    features: Tensor, truth: Tensor, scenes: Sequence[str], extractor: Extractor, **labels: Any
) -> pd.DataFrame:
    """`labels`, scene, kd: the kernel distance of all frames of a set from the truth's, as a jackknife value of each scene.

    features, truth: (N, F, d) of N scenes. See `kernel_by_scene`.
    """
    samples = [(scene, t) for scene in scenes for t in range(features.shape[1])]
    streams = [FeatureStream(extractor, max(2, len(samples))).add(x.flatten(0, 1), samples) for x in (features, truth)]
    values = kernel_by_scene(*streams)
    return pd.DataFrame({**labels, "scene": list(scenes), "kd": [values[scene] for scene in scenes]})


def motion_cells(frames: Tensor, truth: Tensor, scenes: Sequence[str], **labels: Any) -> pd.DataFrame:
    """`labels`, scene, direction, magnitude, valid: how the displacement from frame to frame agrees with the truth's.

    frames, truth: (N, 1 + F, 3, H, W) uint8, the present first. direction: the mean cosine of the angle between predicted and true
    displacement over the steps in which the truth moves by `THRESHOLD_PX` or more, NaN where there are none; magnitude: the mean predicted
    length over the mean true one ("DiT-WAM", section 4.4), in those steps; valid: how many there are.
    """
    made, real = (displacement_px(x[:, :-1], x[:, 1:], robust=True).double().nan_to_num() for x in (frames, truth))
    moving = real.norm(dim=-1) >= THRESHOLD_PX  # (N, F)
    count = moving.sum(1)
    cosine = torch.cosine_similarity(made, real, dim=-1)

    def over(x: Tensor) -> np.ndarray:
        return torch.where(count > 0, (x * moving).sum(1) / count, torch.nan).numpy()

    magnitude = over(made.norm(dim=-1)) / over(real.norm(dim=-1))
    return pd.DataFrame(
        {**labels, "scene": list(scenes), "direction": over(cosine), "magnitude": magnitude, "valid": count.numpy()}
    )
