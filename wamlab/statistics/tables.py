"""Tables with a row a scene, model, seed and so on, to one number a scene and to means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from wamlab.errors import InvalidParameter
from wamlab.statistics.bootstrap import bootstrap_mean


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
