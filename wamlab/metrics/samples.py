"""What samples say beyond their nearness to the truth: whether they differ from each other, and whether they repeat the training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from wamlab.errors import InvalidShape, TooFewSamples
from wamlab.metrics.readout import nearest, unit_length
from wamlab.statistics import Interval, Undefined, bootstrap_ratio


def diversity(samples: Tensor) -> Tensor:
    """How far K samples (..., K, c, h, w) of one future are apart -> (...): the root of the mean squared difference over all pairs.

    With the truth as one of them, it would be as large as the samples' RMSE from the truth. 0 for a model that always says the same.
    Raises `TooFewSamples` for K < 2, `InvalidShape` for fewer axes.
    """
    if samples.ndim < 4:
        raise InvalidShape(f"samples must be (..., K, c, h, w), not {tuple(samples.shape)}")
    if samples.shape[-4] < 2:
        raise TooFewSamples(f"diversity needs two samples of a future or more, not {samples.shape[-4]}")
    return (2 * samples.float().var(-4).mean((-3, -2, -1))).sqrt()


@dataclass(frozen=True)
class Memorization:
    """How near generated frames are to the training set, against held-out ones.

    Attributes:
        ratio: mean distance of a generated frame to the nearest training frame, over that of a held-out one. Clearly below 1: the model
            repeats training frames, or what it makes is plainer than any frame.
        repeated: share of the generated frames that are nearer than all but 1 % of the held-out ones.
        generated, held_out: (G,) and (T,) the distances: 1 - cosine. nearest: (G,) which training frame.
    """

    ratio: Interval | Undefined
    repeated: float
    generated: np.ndarray
    held_out: np.ndarray
    nearest: np.ndarray


def memorization(
    generated: Tensor, held_out: Tensor, train: Tensor, rng: np.random.Generator, scenes: Sequence[str] | None = None
) -> Memorization:
    """Nearest neighbours in features (G, d), (G, d) and (M, d), such as an encoder's; each generated frame has its true one beside it.

    `scenes` (G,): of each pair, by default one each. Raises `InvalidShape` for shapes that do not fit, or features that point nowhere.
    """
    if generated.shape != held_out.shape or generated.ndim != 2 or train.shape[1:] != generated.shape[1:]:
        raise InvalidShape(
            "memorization needs features (G, d), (G, d) and (M, d), "
            f"not {tuple(generated.shape)}, {tuple(held_out.shape)} and {tuple(train.shape)}"
        )
    keys = unit_length(train)
    (made, which), (true, _) = (nearest(unit_length(x), keys, 1) for x in (generated, held_out))
    made, true = ((1 - product[:, 0].double()).clamp(min=0).numpy() for product in (made, true))
    ratio = Undefined("all held-out frames are in the training set")
    if true.any():
        ratio = bootstrap_ratio(made, true, rng, scenes=scenes)
    return Memorization(ratio, float((made < np.quantile(true, 0.01)).mean()), made, true, which[:, 0].numpy())
