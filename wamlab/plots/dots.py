"""Dots with intervals: how figures compare many things by one number."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from wamlab.plots.style import Style


def add_dots(figure: go.Figure, rows: pd.DataFrame, styles: Sequence[Style], column: int) -> None:
    """A dot with its interval for each of `rows` (mean, low, high), from the bottom up, in a panel; hollow where the style is dotted."""
    for row, style in zip(rows.itertuples(), styles, strict=True):
        hollow = {"color": "rgba(0,0,0,0)"} if style.dash == "dot" else {"color": style.color}
        figure.add_scatter(
            x=[row.mean], y=[style.label], mode="markers", name=style.label, showlegend=False,
            marker={"size": 11, "line": {"color": style.color, "width": 2}, **hollow},
            error_x={"array": [row.high - row.mean], "arrayminus": [row.mean - row.low], "color": style.color, "thickness": 2, "width": 0},
            hovertemplate=f"{style.label}<br>%{{x:.3f}} [{row.low:.3f}, {row.high:.3f}]<extra></extra>", row=1, col=column,
        )  # fmt: skip
