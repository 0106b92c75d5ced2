"""Figures of how a dataset is driven, from the tables of `wamlab.analysis.driving`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.plots.style import TEMPLATE

#: Of the drivers, in the order in which they appear; truth's neutral and two of the palette's colours.
_COLOURS = ("#2a86d1", "#d9541e", "#8a8a8a")


def distributions(table: pd.DataFrame, titles: dict[str, str], bins: int = 60, title: str = "") -> go.Figure:
    """A histogram for each quantity (`titles`: column -> axis title), a line for each driver; the outermost half per cent is cut off."""
    columns = list(titles)
    figure = make_subplots(rows=2, cols=-(-len(columns) // 2), vertical_spacing=0.24, horizontal_spacing=0.1)
    drivers = list(table.driver.unique())
    for k, column in enumerate(columns):
        values = table[column].dropna()
        low, high = values.quantile([0.005, 0.995])
        edges = np.linspace(low, max(high, low + 1e-6), bins + 1)
        where = {"row": 1 + k // 2, "col": 1 + k % 2}
        for driver, colour in zip(drivers, _COLOURS, strict=False):
            part = table.loc[table.driver == driver, column].dropna()
            share = np.histogram(part, edges)[0] / max(1, len(part)) * 100
            figure.add_scatter(
                x=(edges[1:] + edges[:-1]) / 2, y=share, name=driver, legendgroup=driver, showlegend=k == 0, mode="lines",
                line={"color": colour, "width": 2, "shape": "hvh"}, hovertemplate="%{y:.1f} %", **where,
            )  # fmt: skip
        figure.update_xaxes(title_text=titles[column], **where)
        figure.update_yaxes(title_text="% of frames", type="log" if column == "steering_rad" else "linear", **where)
    counts = ", ".join(f"{driver}: {table[table.driver == driver].scene.nunique()} scenes" for driver in drivers)
    figure.update_layout(template=TEMPLATE, height=620, title={"text": title, "subtitle": {"text": counts}})
    return figure


def signals_and_path(table: pd.DataFrame, title: str = "") -> go.Figure:
    """What steering and speed say of the turning, against the turning of the car's path; on the diagonal they agree."""
    moving = table.dropna(subset=["yaw_rate_radps", "signal_radps"])
    shown = moving.iloc[:: max(1, len(moving) // 1500)]
    reach = float(np.abs(moving[["yaw_rate_radps", "signal_radps"]]).quantile(0.999).max()) if len(moving) else 1.0
    figure = go.Figure()
    figure.add_scatter(
        x=[-reach, reach], y=[-reach, reach], mode="lines", line={"color": "#8a8a8a", "dash": "dot"}, showlegend=False
    )
    for driver, colour in zip(table.driver.unique(), _COLOURS, strict=False):
        part = shown[shown.driver == driver]
        figure.add_scatter(
            x=part.signal_radps, y=part.yaw_rate_radps, mode="markers", name=driver, text=part.scene,
            marker={"color": colour, "size": 4, "opacity": 0.5}, hovertemplate="%{text}<br>%{x:.3f}, %{y:.3f}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="yaw rate from steering and speed, rad/s", range=[-reach, reach])
    figure.update_yaxes(title_text="yaw rate of the path, rad/s", range=[-reach, reach])
    note = f"{len(moving)} frames of {moving.scene.nunique()} scenes, 2 Hz; at most 1,500 of them drawn"
    figure.update_layout(
        template=TEMPLATE, height=460, hovermode="closest", title={"text": title, "subtitle": {"text": note}}
    )
    return figure
