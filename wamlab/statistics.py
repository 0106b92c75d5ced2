"""Means and intervals with the scene as the unit of analysis: windows of one drive are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wamlab.errors import InvalidParameter, InvalidShape

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"


@dataclass(frozen=True)
class Interval:
    """A mean over `n` scenes with its percentile bootstrap interval; each of mean, low and high is a float or an array."""

    mean: np.ndarray | float
    low: np.ndarray | float
    high: np.ndarray | float
    n: int


def bootstrap_mean(
    values: np.ndarray, rng: np.random.Generator, num_resamples: int = 1000, level: float = 0.95
) -> Interval:
    """The mean over scenes of `values` (N, …), and the percentile interval of it when scenes are drawn with replacement.

    Raises `InvalidShape` for no scenes or missing values, `InvalidParameter` for a level outside (0, 1).
    """
    values = np.asarray(values, float)
    if values.ndim < 1 or not len(values):
        raise InvalidShape(f"a bootstrap needs at least one scene, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidShape(
            f"{int((~np.isfinite(values)).sum())} of {values.size} values are NaN or infinite; leave those scenes out first"
        )
    if not 0 < level < 1 or num_resamples < 1:
        raise InvalidParameter(f"level must be in (0, 1) and num_resamples at least 1, not {level} and {num_resamples}")
    n = len(values)
    drawn = rng.integers(n, size=(num_resamples, n))
    counts = np.zeros((num_resamples, n))
    np.add.at(counts, (np.arange(num_resamples)[:, None], drawn), 1)
    means = np.tensordot(counts / n, values, axes=1)  # (R, …)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    plain = float if values.ndim == 1 else np.asarray
    return Interval(plain(values.mean(0)), plain(low), plain(high), n)


def by_scene(table: pd.DataFrame, value: str, keys: Sequence[str] = ()) -> pd.DataFrame:
    """One row a scene (N rows): the mean of `value` over its windows and seeds, a column for each combination of `keys`."""
    missing = [c for c in ("scene", value, *keys) if c not in table]
    if missing:
        raise InvalidParameter(f"the table has no column {missing[0]!r}; known: {', '.join(map(str, table.columns))}")
    return table.pivot_table(value, "scene", list(keys) or None, aggfunc="mean", observed=True)


def interval_table(
    table: pd.DataFrame, value: str, keys: Sequence[str], rng: np.random.Generator, num_resamples: int = 1000
) -> pd.DataFrame:
    """`keys`, mean, low, high and n: the scene-level bootstrap for every combination of `keys`, in the order they appear."""
    wide = by_scene(table, value, keys)
    order = table[list(keys)].drop_duplicates()
    columns = [tuple(row) if len(keys) > 1 else row[0] for row in order.itertuples(index=False)]
    found = bootstrap_mean(wide[columns].to_numpy(), rng, num_resamples)
    return order.reset_index(drop=True).assign(mean=found.mean, low=found.low, high=found.high, n=found.n)


def verdict(interval: Interval, claimed: float = 1.0) -> str:
    """Whether a difference has the claimed sign: its interval must lie wholly on that side of zero, or wholly on the other."""
    low, high = sorted((claimed * float(interval.low), claimed * float(interval.high)))
    return REPRODUCED if low > 0 else NOT_REPRODUCED if high < 0 else INCONCLUSIVE
