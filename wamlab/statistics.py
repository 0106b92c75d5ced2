"""Means, intervals and paired comparisons with the scene as the unit of analysis: windows of one drive are not independent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wamlab.errors import InvalidParameter, InvalidShape, UnknownName

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
METHODS = ("percentile", "bca")


@dataclass(frozen=True)
class Interval:
    """A mean over `n` scenes with its bootstrap interval; each of mean, low and high is a float or an array."""

    mean: np.ndarray | float
    low: np.ndarray | float
    high: np.ndarray | float
    n: int


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test over `n` scenes: the mean difference, t with n - 1 degrees of freedom, two-sided p, and Cohen's d."""

    difference: float
    t: float
    p: float
    d: float
    n: int


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
    values = _scenes(values)
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


def by_scene(table: pd.DataFrame, value: str, keys: Sequence[str] = ()) -> pd.DataFrame:
    """One row a scene (N rows): the mean of `value` over its windows and seeds, a column for each combination of `keys`."""
    missing = [c for c in ("scene", value, *keys) if c not in table]
    if missing:
        raise InvalidParameter(f"the table has no column {missing[0]!r}; known: {', '.join(map(str, table.columns))}")
    return table.pivot_table(value, "scene", list(keys) or None, aggfunc="mean", observed=True)


def interval_table(
    table: pd.DataFrame,
    value: str,
    keys: Sequence[str],
    rng: np.random.Generator,
    num_resamples: int = 1000,
    method: str = "percentile",
) -> pd.DataFrame:
    """`keys`, mean, low, high and n: the scene-level bootstrap for every combination of `keys`, in the order they appear."""
    wide = by_scene(table, value, keys)
    order = table[list(keys)].drop_duplicates()
    columns = [tuple(row) if len(keys) > 1 else row[0] for row in order.itertuples(index=False)]
    found = bootstrap_mean(wide[columns].to_numpy(), rng, num_resamples, method=method)
    return order.reset_index(drop=True).assign(mean=found.mean, low=found.low, high=found.high, n=found.n)


def paired_test(a: np.ndarray, b: np.ndarray) -> PairedTest:
    """The paired t-test of a - b over scenes, (N,) each; d is the mean over the standard deviation (ddof 1) of the differences.

    Where all differences are equal there is nothing to test against: t and d are infinite (or 0 for no difference) and p is 0 (or 1).

    Raises `InvalidShape` for other shapes, fewer than two scenes or missing values.
    """
    from scipy.special import stdtr

    a, b = _scenes(a), _scenes(b)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InvalidShape(
            f"a paired test needs two arrays (N,) with N ≥ 2 of the same scenes, not {a.shape} and {b.shape}"
        )
    differences = a - b
    n, d = len(a), cohens_d(differences)
    t = d * np.sqrt(n)
    return PairedTest(float(differences.mean()), float(t), float(2 * stdtr(n - 1, -abs(t))), d, n)


def cohens_d(differences: np.ndarray) -> float:
    """Mean over standard deviation (ddof 1) of paired differences (N,): the size of an effect whatever the number of scenes.

    Raises `InvalidShape` for another shape, fewer than two scenes or missing values.
    """
    differences = _scenes(differences)
    if differences.ndim != 1 or len(differences) < 2:
        raise InvalidShape(f"Cohen's d needs the differences (N,) of at least two scenes, not {differences.shape}")
    mean, sd = differences.mean(), differences.std(ddof=1)
    if sd <= 1e-12 * abs(mean):
        return float(np.sign(mean) * np.inf) if mean else 0.0
    return float(mean / sd)


def bonferroni(p: np.ndarray) -> np.ndarray:
    """The p-values of m tests times m, at most 1: below alpha, the chance of any false alarm among the m is at most alpha."""
    p = np.asarray(p, float)
    return np.minimum(1.0, p * p.size)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down p-values (1979) of m tests (m,): the same guarantee as Bonferroni's, never larger."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def compare_pairs(table: pd.DataFrame, value: str, key: str) -> pd.DataFrame:
    """Every unordered pair of the levels of `key`, paired by scene: a, b, n, difference (a - b), t, p, p_bonferroni, p_holm, d.

    The correction is for the pairs in this table: six encoders make 15. Give one target at a time.

    Raises `InvalidParameter` for an unknown column or fewer than two levels, `InvalidShape` where a scene lacks one of them.
    """
    wide = by_scene(table, value, [key])
    levels = list(table[key].drop_duplicates())
    if len(levels) < 2:
        raise InvalidParameter(f"{key} has {len(levels)} level in the table: a comparison needs two")
    pairs = list(itertools.combinations(levels, 2))
    tests = [paired_test(wide[a].to_numpy(), wide[b].to_numpy()) for a, b in pairs]
    found = pd.DataFrame([{"a": a, "b": b, **vars(test)} for (a, b), test in zip(pairs, tests, strict=True)])
    found = found.assign(p_bonferroni=bonferroni(found.p), p_holm=holm(found.p))
    return found[["a", "b", "n", "difference", "t", "p", "p_bonferroni", "p_holm", "d"]]


def ranking(
    table: pd.DataFrame, value: str, key: str, rng: np.random.Generator, num_resamples: int = 1000
) -> pd.DataFrame:
    """The levels of `key` from the lowest mean of `value` up: rank, `key`, mean, low, high, n and `first`.

    `first` is the share of the resamples (the same scenes for every level) in which this level has the lowest mean: intervals that
    overlap may still hide a clear order, because every level is measured on the same scenes.
    """
    wide = by_scene(table, value, [key])
    found = interval_table(table, value, [key], rng, num_resamples)
    means = resample_weights(len(wide), rng, num_resamples) @ wide[list(found[key])].to_numpy()  # (R, levels)
    wins = np.bincount(means.argmin(1), minlength=len(found)) / num_resamples
    found = found.assign(first=wins).sort_values("mean", kind="stable", ignore_index=True)
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    return found


def verdict(interval: Interval, claimed: float = 1.0) -> str:
    """Whether a difference has the claimed sign: its interval must lie wholly on that side of zero, or wholly on the other."""
    low, high = sorted((claimed * float(interval.low), claimed * float(interval.high)))
    return REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else INCONCLUSIVE


def _scenes(values: np.ndarray) -> np.ndarray:
    """`values` as (N, …) floats, if there is a scene and none is missing."""
    values = np.asarray(values, float)
    if values.ndim < 1 or not len(values):
        raise InvalidShape(f"a bootstrap or test needs at least one scene, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidShape(
            f"{int((~np.isfinite(values)).sum())} of {values.size} values are NaN or infinite; leave those scenes out first"
        )
    return values
