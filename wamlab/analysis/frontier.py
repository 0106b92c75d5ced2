"""The perception-distortion frontier: of each model and setting, how near to the truth and how like real frames, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab.analysis.rollouts import decode
from wamlab.errors import InvalidShape
from wamlab.metrics.distribution import Distance, frechet_distance, kernel_distance
from wamlab.metrics.features import Extractor, FeatureStream
from wamlab.metrics.pixel import cosine_similarity
from wamlab.statistics import Interval, bootstrap_mean
from wamlab.types import Codec

#: The row of the true latents, decoded: nothing that predicts latents can look more real.
CEILING = "codec ceiling"


@dataclass(frozen=True)
class Point:
    """A model at a setting: `cosine` to the true latents, higher is nearer; its distances from the real frames, lower is more real."""

    model: str
    setting: str
    cosine: Interval
    frechet: Distance
    kernel: Distance


def frontier(
    predicted: Mapping[tuple[str, str], Tensor],
    truth: Tensor,
    real: Tensor,
    scenes: Sequence[str],
    starts: Sequence[int],
    codec: Codec,
    extractor: Extractor,
    steps: Sequence[int] | None = None,
    subset_size: int = 50,
    seed: int = 0,
) -> list[Point]:
    """A `Point` of each prediction and, first, of the true latents themselves.

    The real frames go through the extractor once.

    Args:
        predicted: (model, setting) -> latents (N, F, c, h, w).
        truth: latents (N, F, c, h, w). real: (N, F, 3, R, R) uint8 camera frames of the same windows; decoded true latents in their place
            make the paper's ceiling of 0, which says nothing.
        scenes, starts: (N,) of each window, its scene and present frame.
        steps: of the future, 1 .. F, that count (the paper's: the last); by default all.
        subset_size: of the kernel distance; the papers take min(50, number of frames).

    Raises `InvalidShape` for shapes that do not fit, `TooFewSamples` as the distances.
    """
    n, horizon = truth.shape[:2]
    chosen = [step - 1 for step in steps] if steps is not None else list(range(horizon))
    wrong = [key for key, z in predicted.items() if z.shape != truth.shape]
    if wrong or real.shape[:2] != (n, horizon) or not len(scenes) == len(starts) == n:
        raise InvalidShape(
            f"a frontier needs predictions and real frames of the {n} windows of {horizon} frames in the truth, each with scene and start; "
            f"{wrong or 'real frames, scenes or starts'} are not"
        )
    samples = [(scene, start + i + 1) for scene, start in zip(scenes, starts, strict=True) for i in chosen]
    target = FeatureStream(extractor).update(real[:, chosen].flatten(0, 1), samples)
    rng, points = np.random.default_rng(seed), []
    for (model, setting), latents in {(CEILING, ""): truth, **predicted}.items():
        preds = FeatureStream(extractor).update(decode(codec, latents[:, chosen]).flatten(0, 1), samples)
        near = pd.Series(cosine_similarity(latents[:, chosen], truth[:, chosen]).mean(1).numpy())
        cosine = bootstrap_mean(near.groupby(np.asarray(scenes)).mean().to_numpy(), rng)
        distances = frechet_distance(preds, target), kernel_distance(preds, target, subset_size, seed=seed)
        points.append(Point(model, setting, cosine, *distances))
    return points


def table(points: Sequence[Point]) -> pd.DataFrame:
    """model, setting, and for cosine, frechet and kernel: the value, _low, _high; kernel_std over subsets, and n scenes."""
    rows = []
    for p in points:
        row = {"model": p.model, "setting": p.setting}
        for name, i in (("cosine", p.cosine), ("frechet", p.frechet.interval), ("kernel", p.kernel.interval)):
            row |= {name: float(i.mean), f"{name}_low": float(i.low), f"{name}_high": float(i.high)}
        rows.append(row | {"kernel_std": p.kernel.settings["std"], "n": p.cosine.n})
    return pd.DataFrame(rows)


def efficient(points: Sequence[Point]) -> list[Point]:
    """Those on the frontier: no other is both nearer to the truth and more real (kernel distance). The ceiling is left out."""
    rivals = [p for p in points if p.model != CEILING]
    at = torch.tensor([[float(p.cosine.mean), -p.kernel.value] for p in rivals], dtype=torch.float64).reshape(-1, 2)
    beaten = ((at[None] >= at[:, None]).all(-1) & (at[None] > at[:, None]).any(-1)).any(1)
    return [p for p, b in zip(rivals, beaten.tolist(), strict=True) if not b]
