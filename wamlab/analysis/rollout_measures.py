"""Rollouts against the truth, frame by frame: how near, how sharp, how they move, how like real pictures; and what that comes to.

Frames are decoded and measured a few windows at a time and then dropped, so that memory does not grow with the number of models or seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import statistics
from wamlab.analysis.claims import crossed
from wamlab.analysis.rollouts import Rollouts, decode
from wamlab.metrics import pixel
from wamlab.metrics.distribution import kernel_by_scene
from wamlab.metrics.features import Extractor, FeatureStream
from wamlab.metrics.motion import MotionSteps, motion_steps, motion_terms, undefined
from wamlab.statistics import Interval, Undefined
from wamlab.types import Codec


def _sharpness(preds: Tensor, target: Tensor) -> Tensor:
    """As a fraction of the truth's."""
    return pixel.sharpness(preds) / pixel.sharpness(target).clamp_min(1e-6)


#: What compares decoded frames one by one.
NEAR = {"rmse": pixel.rmse, "ssim": pixel.ssim, "sharpness": _sharpness}
#: A number a frame, averaged over frames and scenes.
PER_FRAME = ("cosine", "rmse", "ssim", "sharpness", "kd")
#: Sums over steps and scenes, one over the other: see `wamlab.metrics.motion.MotionScores`.
MOTION = ("low", "high", "magnitude", "direction", "slope", "paper_direction")
#: Of displacements: few steps count at any one time, so that curves have all steps up to it.
SO_FAR = ("magnitude", "direction", "slope", "paper_direction")
#: Windows whose frames are in memory together.
CHUNK = 8


@dataclass(frozen=True)
class Measures:
    """Attributes:
    frames: scene, model, seed, time_s, and a column for each of `PER_FRAME`; kd, a jackknife value (see `kernel_by_scene`), only with
        an extractor and three scenes or more.
    steps: scene, model, seed, time_s, metric, top, below: of the step to that frame; the score is the sum of top over that of below.
    """

    frames: pd.DataFrame
    steps: pd.DataFrame

    def until(self, time_s: float) -> Measures:
        """The same, no farther ahead than this."""
        return Measures(*(t[t.time_s <= time_s + 1e-6] for t in (self.frames, self.steps)))

    def of(self, model: str) -> Measures:
        return Measures(*(t[t.model == model] for t in (self.frames, self.steps)))

    @property
    def models(self) -> list[str]:
        return list(self.frames.model.unique())

    @property
    def metrics(self) -> list[str]:
        return [*(m for m in PER_FRAME if m in self.frames), *MOTION]


def measure(
    rolled: Mapping[int, Rollouts],
    codec: Codec,
    extractor: Extractor | None = None,
    metrics: Sequence[str] = tuple(NEAR),
    chunk: int = CHUNK,
) -> Measures:
    """Of all models and seeds; `rolled`: seed -> rollouts of the same windows. The truth is decoded from its own latents.

    metrics: those of `NEAR` that are wanted beside the cosine similarity, motion and, with an extractor, the kernel distance.
    """
    any_rolled = next(iter(rolled.values()))
    todo = [(seed, name, z) for seed, r in rolled.items() for name, z in r.predicted.items()]
    frames, steps, features = [], [], {}
    for first in range(0, len(any_rolled.scenes), chunk):
        part = slice(first, first + chunk)
        scenes, present = any_rolled.scenes[part], any_rolled.present[part][:, None]
        film = decode(codec, torch.cat([present, any_rolled.truth[part]], 1))  # (n, 1 + F, 3, H, W)
        moved = _motion(film)
        if extractor is not None:
            features.setdefault(None, []).append(extractor(film[:, 1:]))
        for seed, name, latents in todo:
            made = torch.cat([film[:, :1], decode(codec, latents[part])], 1)
            key = {"model": name, "seed": seed}
            near = {"cosine": pixel.cosine_similarity(latents[part], any_rolled.truth[part])}
            near |= {name: NEAR[name](made[:, 1:], film[:, 1:]) for name in metrics}
            frames.append(_frame_rows(near, scenes, any_rolled.times_s).assign(**key))
            steps.append(_step_rows(_motion(made), moved, scenes, any_rolled.times_s).assign(**key))
            if extractor is not None:
                features.setdefault((name, seed), []).append(extractor(made[:, 1:]))
    table = pd.concat(frames, ignore_index=True)
    if extractor is not None and len(any_rolled.scenes) > 2:
        whole = {key: torch.cat(parts) for key, parts in features.items()}
        distances = _distances(whole, any_rolled, extractor)
        table = table.merge(distances, on=["scene", "model", "seed", "time_s"], how="left")
    order = {name: i for i, (_, name, _) in enumerate(todo)}
    return Measures(*(_in_order(t, order) for t in (table, pd.concat(steps, ignore_index=True))))


def _in_order(table: pd.DataFrame, order: Mapping[str, int]) -> pd.DataFrame:
    return table.sort_values("model", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _rows(scenes: Sequence[str], times_s: np.ndarray) -> dict[str, np.ndarray]:
    return {"scene": np.repeat(scenes, len(times_s)), "time_s": np.tile(times_s.round(3), len(scenes))}


def _frame_rows(found: Mapping[str, Tensor], scenes: Sequence[str], times_s: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(_rows(scenes, times_s) | {name: x.flatten().double().numpy() for name, x in found.items()})


def _motion(frames: Tensor) -> tuple[MotionSteps, MotionSteps]:
    """By the robust displacement, which the paper's measure takes for none where the picture has moved far; and by the paper's."""
    return motion_steps(frames, robust=True), motion_steps(frames)


def _step_rows(
    made: tuple[MotionSteps, ...], truth: tuple[MotionSteps, ...], scenes: Sequence[str], times_s: np.ndarray
) -> pd.DataFrame:
    terms, paper = (motion_terms(m, t) for m, t in zip(made, truth, strict=True))
    parts = [
        pd.DataFrame(
            _rows(scenes, times_s)
            | {"metric": name, "top": top.flatten().double().numpy(), "below": below.flatten().double().numpy()}
        )
        for name, (top, below) in (terms | {"paper_direction": paper["direction"]}).items()
    ]
    return pd.concat(parts, ignore_index=True)


def _distances(features: Mapping, rolled: Rollouts, extractor: Extractor) -> pd.DataFrame:
    """scene, model, seed, time_s, kd: at each time, of the frames of all scenes from the true ones."""
    truth, tables = features[None], []
    for key, made in features.items():
        if key is None:
            continue
        for i, time_s in enumerate(rolled.times_s.round(3)):
            samples = [(scene, i) for scene in rolled.scenes]
            streams = [FeatureStream(extractor, len(samples)).add(x[:, i], samples) for x in (made, truth)]
            values = kernel_by_scene(*streams)
            tables.append(
                pd.DataFrame(
                    {"scene": values.keys(), "model": key[0], "seed": key[1], "time_s": time_s, "kd": values.values()}
                )
            )
    return pd.concat(tables, ignore_index=True)


def level(found: Measures, model: str, metric: str, rng: np.random.Generator) -> Interval | Undefined:
    """A model's value of a metric over all frames, with its interval over scenes, and over seeds if there are several."""
    if metric in MOTION:
        rows = found.steps[(found.steps.model == model) & (found.steps.metric == metric)]
        return ratio(rows, metric, rng)
    rows = found.frames[found.frames.model == model]
    wide = rows.pivot_table(metric, "scene", "seed") if metric in rows else pd.DataFrame()
    return mean(wide, rng)


def difference(found: Measures, a: str, b: str, metric: str, rng: np.random.Generator) -> Interval | Undefined:
    """Model a's value of a metric minus model b's on the same frames; of motion, on the steps that count for both.

    A model with one seed (which has nothing to train) is compared with each seed of the other.
    """
    if missing := [name for name in (a, b) if name not in found.models]:
        return Undefined(f"{' and '.join(missing)} did not run")
    if metric in MOTION:
        index = ["scene", "seed", "time_s"]
        rows = found.steps[found.steps.metric == metric]
        both = (
            rows[rows.model == a]
            .set_index(index)
            .join(rows[rows.model == b].set_index(index), rsuffix="_b", how="inner")
        )
        both = both[(both.below > 0) & (both.below_b > 0)]
        return ratio(both.assign(top=both.top - both.top_b).reset_index(), metric, rng)
    if metric not in found.frames:
        return Undefined("three drives are needed to tell how like real pictures they are")
    wide = [found.frames[found.frames.model == name].pivot_table(metric, "scene", "seed") for name in (a, b)]
    seeds = max((w.columns for w in wide), key=len)
    first, second = (
        w if len(w.columns) == len(seeds) else w.iloc[:, [0] * len(seeds)].set_axis(seeds, axis=1) for w in wide
    )
    return mean(first - second, rng)


def mean(wide: pd.DataFrame, rng: np.random.Generator) -> Interval | Undefined:
    """Of scene × seed; what a scene lacks in any seed leaves it out."""
    values = wide.dropna()
    if len(values) < 2:
        return Undefined(f"{len(values)} drives have a value, an interval needs two", len(values))
    return crossed(values.to_numpy(), rng)


def ratio(rows: pd.DataFrame, metric: str, rng: np.random.Generator) -> Interval | Undefined:
    """The sum of `top` over that of `below`; where there are several seeds, the interval is that of its first-order expansion."""
    sums = rows.groupby(["scene", "seed"])[["top", "below"]].sum().unstack()
    sums = sums[(sums.below > 0).any(axis=1)].fillna(0.0) if len(sums) else sums
    if len(sums) == 0:
        return Undefined(undefined(metric.removeprefix("paper_"), len(rows)))
    if len(sums) < 2:
        return Undefined("only one drive has a step that counts, an interval needs two", len(sums))
    top, below = sums.top.to_numpy(), sums.below.to_numpy()  # (N, K)
    if top.shape[1] == 1:
        return statistics.bootstrap_ratio(top[:, 0], below[:, 0], rng)
    value = top.mean() / below.mean()
    return statistics.crossed_mean(value + (top - value * below) / below.mean(), rng)


def curves(found: Measures, rng: np.random.Generator, metrics: Iterable[str] = ()) -> pd.DataFrame:
    """model, metric, time_s, mean, low, high, n: at each time ahead, of `SO_FAR` up to it; without the rows that are undefined."""
    rows = []
    for time_s, frames in found.frames.groupby("time_s"):
        now, so_far = Measures(frames, found.steps[found.steps.time_s == time_s]), found.until(time_s)
        for model in found.models:
            for metric in metrics or found.metrics:
                value = level(so_far if metric in SO_FAR else now, model, metric, rng)
                if isinstance(value, Interval):
                    rows.append({"model": model, "metric": metric, "time_s": time_s, **vars(value)})
    table = pd.DataFrame(rows, columns=["model", "metric", "time_s", "mean", "low", "high", "n"])
    return _in_order(table, {name: i for i, name in enumerate(found.models)})
