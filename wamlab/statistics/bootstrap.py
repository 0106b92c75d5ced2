"""Means, ratios and their intervals when scenes, or scenes and seeds, are drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wamlab.errors import InvalidParameter, InvalidShape, UnknownName

METHODS = ("percentile", "bca")
CROSSED = ("anova", "bootstrap")


@dataclass(frozen=True)
class Interval:
    """A mean over `n` scenes with its bootstrap interval; each of mean, low and high is a float or an array."""

    mean: np.ndarray | float
    low: np.ndarray | float
    high: np.ndarray | float
    n: int


@dataclass(frozen=True)
class Undefined:
    """In the place of an `Interval`: a number that these scenes do not give, and why. Never NaN, so that nobody averages over it."""

    reason: str
    n: int = 0

    def __str__(self) -> str:
        return f"not measured: {self.reason}"


def resample_weights(n: int, rng: np.random.Generator, num_resamples: int = 1000) -> np.ndarray:
    """(R, n) how often each of n scenes is drawn, over n, in R draws of n scenes with replacement: each row sums to 1."""
    drawn = rng.integers(n, size=(num_resamples, n))
    counts = np.zeros((num_resamples, n))
    np.add.at(counts, (np.arange(num_resamples)[:, None], drawn), 1)
    return counts / n


def bootstrap_mean(
    values: np.ndarray,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
    method: str = "percentile",
) -> Interval:
    """The mean over scenes of `values` (N, …), and its bootstrap interval when scenes are drawn with replacement.

    `method` is `percentile` (the papers') or `bca`, bias-corrected and accelerated (Efron 1987), which is the better one where few
    scenes with large errors skew the mean.

    Raises `InvalidShape` for no scenes or missing values, `InvalidParameter` for a level outside (0, 1), `UnknownName` for a method.
    """
    values = per_scene(values)
    if not 0 < level < 1 or num_resamples < 1:
        raise InvalidParameter(f"level must be in (0, 1) and num_resamples at least 1, not {level} and {num_resamples}")
    if method not in METHODS:
        raise UnknownName("bootstrap method", method, METHODS)
    means = np.tensordot(resample_weights(len(values), rng, num_resamples), values, axes=1)  # (R, …)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "percentile":
        low, high = np.quantile(means, tails, axis=0)
    else:
        columns = zip(values.reshape(len(values), -1).T, means.reshape(num_resamples, -1).T, strict=True)
        ends = np.array([np.quantile(m, _bca_tails(v, m, tails)) for v, m in columns])
        low, high = ends.T.reshape(2, *values.shape[1:])
    plain = float if values.ndim == 1 else np.asarray
    return Interval(plain(values.mean(0)), plain(low), plain(high), len(values))


def _bca_tails(values: np.ndarray, means: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """The quantiles of the resampled `means` (R,) that stand in for `tails`: Efron 1987, equations 2.3 and 6.6, of the mean of (N,)."""
    from scipy.special import ndtr, ndtri

    below = ((means < values.mean()).mean() + (means <= values.mean()).mean()) / 2
    bias = ndtri(np.clip(below, 0.5 / len(means), 1 - 0.5 / len(means)))
    centred = values - values.mean()
    spread = (centred**2).sum()
    acceleration = (centred**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + ndtri(tails)
    return ndtr(bias + z / (1 - acceleration * z))


def bootstrap_ratio(
    numerator: np.ndarray,
    denominator: np.ndarray,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
    scenes: Sequence[str] | None = None,
) -> Interval:
    """sum(numerator) / sum(denominator), (N,) each, and its percentile interval when scenes are drawn with replacement.

    Ratios of means, slopes through the origin and means over steps of which scenes have different numbers are all of this form. A scene
    whose denominator is 0 has no say in it and does not count in `n`. `scenes` (N,): whose each row is, by default a scene each.

    Raises `InvalidShape` for other shapes or missing values, `InvalidParameter` for a denominator below 0 or 0 in all scenes.
    """
    numerator, denominator = per_scene(numerator), per_scene(denominator)
    if (
        numerator.shape != denominator.shape
        or numerator.ndim != 1
        or len(numerator if scenes is None else scenes) != len(numerator)
    ):
        raise InvalidShape(
            f"a ratio needs two arrays (N,) of the same scenes, not {numerator.shape}, {denominator.shape}"
        )
    if (denominator < 0).any() or not denominator.any():
        raise InvalidParameter("the denominators of a ratio must be at least 0, and above it in some scene")
    if scenes is not None:
        _, row = np.unique(np.asarray(scenes), return_inverse=True)
        numerator, denominator = np.bincount(row, numerator), np.bincount(row, denominator)
    there = denominator > 0
    numerator, denominator = numerator[there], denominator[there]
    weights = resample_weights(len(numerator), rng, num_resamples)
    ratios = (weights @ numerator) / (weights @ denominator)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numerator.sum() / denominator.sum()), float(low), float(high), len(numerator))


def crossed_mean(
    values: np.ndarray,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
    method: str = "anova",
) -> Interval:
    """The mean of `values` (N scenes, K seeds) when both the scenes and the seeds are a sample: its interval says what others would give.

    `bootstrap` draws scenes and seeds with replacement, each by itself (Owen 2007). With few seeds it is too short, since three drawn
    from three vary less than three new ones. `anova`, the default, has a variance (MS_scenes + MS_seeds - MS_rest) / (N K) with
    Satterthwaite's degrees of freedom, which knows how little is known of seeds that are few.

    Raises `InvalidShape` for fewer than two scenes or seeds or missing values, `UnknownName` for a method.
    """
    values = per_scene(values)
    if values.ndim != 2 or min(values.shape) < 2:
        raise InvalidShape(f"crossed factors need values (N, K) of 2 scenes and 2 seeds or more, not {values.shape}")
    if method not in CROSSED:
        raise UnknownName("method for crossed factors", method, CROSSED)
    (n, k), mean, tails = values.shape, values.mean(), np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bootstrap":
        scenes, seeds = (resample_weights(count, rng, num_resamples) for count in (n, k))
        low, high = np.quantile(((scenes @ values) * seeds).sum(1), tails)
        return Interval(float(mean), float(low), float(high), n)
    from scipy.special import stdtrit

    rows, columns = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - rows[:, None] - columns
    freedom = np.array([n - 1, k - 1, (n - 1) * (k - 1)])
    squares = np.array([k * (rows**2).sum(), n * (columns**2).sum(), (rest**2).sum()]) / freedom
    # where scenes or seeds vary no more than the rest, the rest is what there is
    signs = np.array([1, 1, -1]) if min(squares[:2]) > squares[2] else np.arange(3) == squares[:2].argmax()
    variance = signs @ squares
    if variance <= 0:
        return Interval(float(mean), float(mean), float(mean), n)
    half = stdtrit(variance**2 / ((signs * squares) ** 2 / freedom).sum(), tails[1]) * np.sqrt(variance / values.size)
    return Interval(float(mean), float(mean - half), float(mean + half), n)


def pseudo_values(whole: np.ndarray | float, left: np.ndarray) -> np.ndarray:
    """(N, …) N D - (N - 1) D_i from a number D of all N scenes, (…), and D_i (N, …) without each of them (Tukey's jackknife).

    Their mean estimates the number, corrected for bias, and they vary over scenes as it does: so what is one number of a whole set enters
    the same tables and tests as a mean over scenes.
    """
    left = np.asarray(left, float)
    return len(left) * np.asarray(whole, float) - (len(left) - 1) * left


def per_scene(values: np.ndarray) -> np.ndarray:
    """`values` as (N, …) floats. Raises `InvalidShape` if there is no scene, or a value is missing."""
    values = np.asarray(values, float)
    if values.ndim < 1 or not len(values):
        raise InvalidShape(f"a bootstrap or test needs at least one scene, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidShape(
            f"{int((~np.isfinite(values)).sum())} of {values.size} values are NaN or infinite; leave those scenes out first"
        )
    return values
