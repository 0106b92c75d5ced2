"""The perception-distortion plane: how near to the truth a set of predictions is, and how like real frames, with a value for each scene.

Streamed: of each prediction, features and a few frames to be shown are kept, never all its frames.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab.analysis.claims import contrast, crossed
from wamlab.analysis.rollouts import decode
from wamlab.analysis.windows import Windows
from wamlab.errors import InvalidShape, TooFewSamples
from wamlab.metrics.distribution import kernel_by_scene
from wamlab.metrics.features import Extractor, FeatureStream
from wamlab.metrics.pixel import cosine_similarity, rmse
from wamlab.statistics import pseudo_values
from wamlab.types import Codec

#: The true latents, decoded: nothing that predicts latents can look more real, save by chance.
CEILING = "codec ceiling"
#: In the column `step`, which else counts the predicted frames from 1: all of them together.
WHOLE = 0
METRICS = ("cosine", "rmse", "kd")


@dataclass(frozen=True)
class Seen:
    """A prediction at K steps of N windows: features (N, K, d), cosine similarity of latents and pixel RMSE (N, K), and frames
    (P, K, 3, R, R) uint8 of the P windows to be shown."""

    steps: tuple[int, ...]
    features: Tensor
    cosine: Tensor
    rmse: Tensor
    frames: Tensor


def see(
    latents: Tensor,
    windows: Windows,
    codec: Codec,
    extractor: Extractor,
    steps: Sequence[int] | None = None,
    shown: Sequence[int] = (),
    chunk: int = 8,
) -> Seen:
    """Decode predicted latents (N, F, c, h, w), `chunk` windows at a time, and compare them with truth and camera.

    steps: of the future, 1 .. F; by default all. Raises `InvalidShape` for latents that are not of these windows.
    """
    if latents.shape != windows.truth.shape:
        raise InvalidShape(
            f"predictions of these windows are {tuple(windows.truth.shape)} latents, not {tuple(latents.shape)}"
        )
    steps = tuple(steps or range(1, windows.horizon + 1))
    at = [step - 1 for step in steps]
    parts, kept = [], {}
    for first in range(0, len(latents), chunk):
        rows = slice(first, first + chunk)
        frames = decode(codec, latents[rows, at])
        near = cosine_similarity(latents[rows, at], windows.truth[rows, at])
        parts.append((extractor(frames), near, rmse(frames, windows.real[rows, at])))
        kept |= {i: frames[i - first] for i in shown if first <= i < first + len(frames)}
    features, near, off = (torch.cat(part) for part in zip(*parts, strict=True))
    return Seen(steps, features, near, off, torch.stack([kept[i] for i in shown]) if len(shown) else frames[:0])


def cells(seen: Seen, real: Tensor, windows: Windows, extractor: Extractor, **labels: object) -> pd.DataFrame:
    """`labels`, step, scene, cosine, rmse, kd: of every step that was seen and, where that is all of them, of the `WHOLE` horizon.

    real: (N, F, d) features of the camera's frames. kd: of all frames of the step from the camera's of the same windows, as jackknife
    values (see `kernel_by_scene`); NaN where there are too few frames.
    """
    groups = {step: [k] for k, step in enumerate(seen.steps)}
    if len(seen.steps) == windows.horizon:
        groups[WHOLE] = list(range(windows.horizon))
    tables = []
    for step, columns in groups.items():
        near = pd.DataFrame(
            {
                "scene": windows.scenes,
                "cosine": seen.cosine[:, columns].mean(1).double().numpy(),
                "rmse": seen.rmse[:, columns].mean(1).double().numpy(),
            }
        )
        table = near.groupby("scene").mean()
        try:
            values = kernel_by_scene(*streams(seen, columns, real, windows, extractor))
        except TooFewSamples:
            values = {}
        tables.append(table.assign(kd=pd.Series(values, dtype=float), step=step).reset_index().assign(**labels))
    return pd.concat(tables, ignore_index=True)[[*labels, "step", "scene", *METRICS]]


def streams(
    seen: Seen, columns: Sequence[int], real: Tensor, windows: Windows, extractor: Extractor
) -> tuple[FeatureStream, FeatureStream]:
    """The features of predicted and of real frames at the steps that stand in these columns of `seen`."""
    at = [seen.steps[k] - 1 for k in columns]
    samples = [(scene, t + i + 1) for scene, t in zip(windows.scenes, windows.starts, strict=True) for i in at]
    pairs = seen.features[:, list(columns)], real[:, at]
    preds, target = (FeatureStream(extractor).add(x.flatten(0, 1), samples) for x in pairs)
    return preds, target


def spread_cells(preds: Tensor, truth: Tensor, scenes: Sequence[str], **labels: object) -> pd.DataFrame:
    """`labels`, scene, sigma, sigma_1 .. sigma_c: standard deviation of predicted latents over the truth's, by channel and on average.

    preds, truth: (N, c, h, w) of one step; over windows and pixels, as calibration has it. Jackknife values, as `pseudo_values`.
    """
    names, row = np.unique(np.asarray(scenes), return_inverse=True)

    def deviations(x: Tensor) -> np.ndarray:
        """(1 + S, c): of all scenes, and without each."""
        pixels = x.double().flatten(2).numpy()  # (N, c, hw)
        sums = np.zeros((3, len(names), x.shape[1]))
        for k, moment in enumerate((np.ones_like(pixels), pixels, pixels**2)):
            np.add.at(sums[k], row, moment.sum(2))
        count, total, square = np.concatenate([sums.sum(1, keepdims=True), sums.sum(1, keepdims=True) - sums], 1)
        return np.sqrt((square / count - (total / count) ** 2).clip(min=1e-12))

    ratio = deviations(preds) / deviations(truth)
    values = pseudo_values(ratio[0], ratio[1:])
    channels = {f"sigma_{k + 1}": values[:, k] for k in range(values.shape[1])}
    return pd.DataFrame({**labels, "scene": names, "sigma": values.mean(1), **channels})


def level_table(table: pd.DataFrame, metrics: Sequence[str], rng: np.random.Generator) -> pd.DataFrame:
    """variant, step, metric, mean, low, high, n: over scenes and training seeds, of what two scenes or more have a value."""
    rows = []
    for (step, name), part in table.groupby(["step", "variant"], sort=False):
        for metric in metrics:
            values = contrast(part, metric, {name: 1}).dropna().to_numpy()
            if len(values) > 1:
                rows.append({"variant": name, "step": step, "metric": metric, **vars(crossed(values, rng))})
    return pd.DataFrame(rows, columns=["variant", "step", "metric", "mean", "low", "high", "n"])


def said(row: Any) -> str:
    """`0.71 [0.68, 0.74]` of an `Interval`, or a row with its fields as `itertuples` gives it."""
    return f"{row.mean:.3g} [{row.low:.3g}, {row.high:.3g}]".replace("-", "−")


def efficient(levels: pd.DataFrame, leave_out: Collection[str] = (CEILING,)) -> list[str]:
    """The variants on the frontier: no other is both nearer to the truth (cosine) and more real (kernel distance).

    levels: of one step. `leave_out`: those that are no predictions.
    """
    wide = levels.pivot(index="variant", columns="metric", values="mean").reindex(columns=["cosine", "kd"]).dropna()
    wide = wide.drop(index=list(leave_out), errors="ignore")
    at = np.stack([wide.cosine, -wide.kd], axis=1)
    beaten = ((at[None] >= at[:, None]).all(-1) & (at[None] > at[:, None]).any(-1)).any(1)
    kept = set(wide.index[~beaten])
    return [name for name in dict.fromkeys(levels.variant) if name in kept]
