"""What future each model sees: windows of held-out drives, rolled out as far as wanted, decoded, and picked for showing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import render
from wamlab.analysis.predicting import Candidate, predict_chain
from wamlab.analysis.windows import Windows, take_windows
from wamlab.data.latents import device_of
from wamlab.data.windows import window_starts
from wamlab.errors import InvalidParameter
from wamlab.metrics.motion import KERNEL, band_steps
from wamlab.types import Codec, Scene

TRUTH = "truth"


@dataclass(frozen=True)
class Rollouts:
    """Latents of the same windows: truth and predictions (N, F, c, h, w), the present (N, c, h, w), actions (N, F, A), times_s (F,)."""

    scenes: tuple[str, ...]
    notes: tuple[str, ...]
    present: Tensor
    truth: Tensor
    predicted: Mapping[str, Tensor]
    actions: Tensor
    times_s: np.ndarray

    @classmethod
    def of(cls, given: Windows, predicted: Mapping[str, Tensor]) -> Rollouts:
        shared = given.scenes, given.notes, given.present, given.truth
        return cls(*shared, predicted, given.actions, given.times_s)


def longest(scenes: Sequence[Scene], num_context: int, asked: int, multiple: int = 1) -> int:
    """The most frames up to `asked` for which half of the scenes or more have a window; a multiple of `multiple`.

    Raises `InvalidParameter` if there is none.
    """
    wanted = -(-len(scenes) // 2)
    for frames in range(asked - asked % multiple, 0, -multiple):
        if sum(bool(window_starts(scene, num_context, frames)) for scene in scenes) >= max(1, wanted):
            return frames
    raise InvalidParameter(
        f"half of the {len(scenes)} held-out scenes have no window of {num_context} + {multiple} frames with known actions"
    )


def roll_out(
    models: Mapping[str, Any],
    scenes: Sequence[Scene],
    store: Any,
    num_context: int,
    horizon: int,
    sampling: Mapping[str, Any],
    seed: int,
    batch: int = 8,
) -> Rollouts:
    """`roll_out_windows` of the window in the middle of each scene that is long enough."""
    return roll_out_windows(models, take_windows(scenes, store, num_context, horizon), sampling, seed, batch)


def roll_out_windows(
    models: Mapping[str, Any], given: Windows, sampling: Mapping[str, Any], seed: int, batch: int = 8
) -> Rollouts:
    """Every model from the same context and actions; one that reaches less far goes on from its own last frames.

    `sampling`: settings of `rollout`, of which models without a sampler read none.
    """
    predicted = {
        name: predict_chain(Candidate(model, sampling), given.context, given.actions, seed, batch)
        for name, model in models.items()
    }
    return Rollouts.of(given, predicted)


@torch.no_grad()
def decode(
    codec: Codec, latents: Tensor, chunk: int = 32, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """(..., c, h, w) latents -> (..., 3, H, W) uint8 frames on the CPU, a few at a time."""
    flat = latents.flatten(0, -4)
    device, parts = device_of(codec), []
    for part in flat.split(chunk):
        parts.append(render.to_uint8(codec.decode(part.to(device))).cpu())
        if progress:
            progress(sum(map(len, parts)), len(flat))
    frames = torch.cat(parts)
    return frames.reshape(*latents.shape[:-3], *frames.shape[1:])


def shown_scenes(rolled: Rollouts, codec: Codec, errors: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Scenes for the player, spread over the range of how hard they are to predict; the present stands before t+1 .. t+F.

    errors: scene, model, rmse: a row a frame, for the models in `rolled.predicted`.
    """
    hard = errors.groupby("scene").rmse.mean().reindex(rolled.scenes).to_numpy().argsort()
    picked = sorted({int(hard[i]) for i in np.linspace(0, len(hard) - 1, min(count, len(hard))).round().astype(int)})
    present = rolled.present[picked][:, None]
    films = {
        name: decode(codec, torch.cat([present, z[picked]], dim=1))
        for name, z in {TRUTH: rolled.truth, **rolled.predicted}.items()
    }
    rmse = {name: t.rmse.to_numpy().reshape(len(rolled.scenes), -1) for name, t in errors.groupby("model", sort=False)}
    return [
        {
            "name": rolled.scenes[i],
            "note": rolled.notes[i],
            "rows": {name: render.to_hwc(f[k]) for name, f in films.items()},
            "errors": {name: np.concatenate([[0.0], values[i]]) for name, values in rmse.items()},
            "motion": {name: _coarse_motion(f[k]) for name, f in films.items()},
            "actions": rolled.actions[i].numpy(),
            "times_s": np.concatenate([[0.0], rolled.times_s]),
        }
        for k, i in enumerate(picked)
    ]


def _coarse_motion(frames: Tensor) -> np.ndarray:
    """(T,) grey levels, of the step to each of (T, 3, H, W) frames; NaN at the first, and where they are too small to tell."""
    if min(frames.shape[-2:]) <= KERNEL // 2:
        return np.full(len(frames), np.nan)
    return np.concatenate([[np.nan], band_steps(frames[None])[0][0].numpy()])
