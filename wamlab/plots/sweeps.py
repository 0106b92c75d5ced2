"""A metric over a grid of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from wamlab.plots.style import TEMPLATE


def metric_over_grid(table: pd.DataFrame, over: Sequence[str], title: str = "") -> go.Figure:
    """A metric against the first parameter that is no seed, one line for each combination of the others.

    Args:
        table: one metric's rows of `wamlab.notebooks.sweep.tidy`.
        over: the varied parameters. Where `seed` is one beside others, lines run through the means over seeds, and dots are the runs.
    """
    axes = [name for name in over if name != "seed"] or list(over)
    x, others = axes[0], axes[1:]
    figure = go.Figure()
    groups = table.groupby(others, sort=False) if others else [((), table)]
    for i, (key, rows) in enumerate(groups):
        label = ", ".join(f"{name} {value}" for name, value in zip(others, key, strict=True))
        color = TEMPLATE.layout.colorway[i % len(TEMPLATE.layout.colorway)]
        means = rows.groupby(x, sort=False).value.mean()
        has = rows.low.notna().any()
        bars = {"array": rows.high - rows.value, "arrayminus": rows.value - rows.low, "color": color} if has else None
        shared = {"legendgroup": label, "line": {"color": color}, "marker": {"color": color, "size": 8}}
        figure.add_scatter(x=means.index, y=means, mode="lines", name=label, showlegend=bool(others), **shared)
        figure.add_scatter(
            x=rows[x], y=rows.value, error_y=bars, mode="markers", name=label, showlegend=False, **shared
        )
    kind = None if pd.api.types.is_numeric_dtype(table[x]) and table[x].dtype != bool else "category"
    figure.update_layout(template=TEMPLATE, title=title, hovermode="closest", height=320)
    figure.update_xaxes(title=x, type=kind)
    return figure
