"""Paired comparisons over scenes: tests, effect sizes, corrections for several of them, and rankings."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.statistics.bootstrap import per_scene, resample_weights
from wamlab.statistics.tables import by_scene, interval_table


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test over `n` scenes: the mean difference, t with n - 1 degrees of freedom, two-sided p, and Cohen's d."""

    difference: float
    t: float
    p: float
    d: float
    n: int


def paired_test(a: np.ndarray, b: np.ndarray) -> PairedTest:
    """The paired t-test of a - b over scenes, (N,) each; d is the mean over the standard deviation (ddof 1) of the differences.

    Where all differences are equal there is nothing to test against: t and d are infinite (or 0 for no difference) and p is 0 (or 1).

    Raises `InvalidShape` for other shapes, fewer than two scenes or missing values.
    """
    from scipy.special import stdtr

    a, b = per_scene(a), per_scene(b)
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
    differences = per_scene(differences)
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
