"""Figures of the procedural world: the true answer to steering, and who crashes. From the tables of `wamlab.analysis`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.plots.sheets import contact_sheet
from wamlab.plots.style import TEMPLATE, style_of
from wamlab.render import to_hwc

_DRIVER_COLOURS = ("#d9541e", "#2a86d1")
_INK = "#7d8187"


def steering_curves(shifts: pd.DataFrame, column: str = "shift_px", title: str = "") -> go.Figure:
    """A line for each drive: how far the true picture has moved to the right, against the steering angle held for half a second."""
    figure = go.Figure()
    for scene, rows in shifts.groupby("scene", sort=False):
        figure.add_scatter(
            x=rows.angle_rad, y=rows[column], mode="lines+markers", name=scene, showlegend=False, opacity=0.7,
            line={"width": 1.5, "color": style_of("truth").color}, marker={"size": 5},
            hovertemplate=f"{scene}<br>%{{x:.2f}} rad, %{{y:.1f}} px<extra>{rows.speed_mps.iloc[0]:.1f} m/s</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="steering wheel, rad (left positive)")
    figure.update_yaxes(title_text="shift of the picture to the right, px")
    note = f"{shifts.scene.nunique()} drives, one present each; the other cars react"
    figure.update_layout(
        template=TEMPLATE, height=420, hovermode="closest", title={"text": title, "subtitle": {"text": note}}
    )
    return figure


def steering_sheet(frames: Sequence, angles_rad: np.ndarray, count: int = 4) -> np.ndarray:
    """Frames (S, A, 3, H, W) of a sweep as one picture: a row for each of `count` drives, steering from left to right."""
    picked = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    shown = to_hwc(frames[picked].flip(1).flatten(0, 1))
    labels = [f"{a:+.2f} rad" for a in angles_rad[::-1]]
    return contact_sheet(shown, [*labels, *[""] * (len(shown) - len(labels))], columns=len(labels))


def crash_scores(summary: pd.DataFrame, names: dict[str, str], title: str = "") -> go.Figure:
    """A panel for each metric of `names` (column -> axis title): a bar for each kind of test and driver, with its interval."""
    figure = make_subplots(cols=len(names), horizontal_spacing=0.1)
    for column, (metric, axis) in enumerate(names.items(), 1):
        for colour, (driver, rows) in zip(
            _DRIVER_COLOURS, summary[summary.metric == metric].groupby("driver", sort=False), strict=False
        ):
            figure.add_bar(
                x=rows.kind, y=rows["mean"], name=driver, legendgroup=driver, showlegend=column == 1, marker={"color": colour},
                error_y={"array": rows.high - rows["mean"], "arrayminus": rows["mean"] - rows.low, "color": _INK, "thickness": 1.5},
                customdata=rows[["low", "high", "n"]], row=1, col=column,
                hovertemplate="%{y:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}], n = %{customdata[2]}",
            )  # fmt: skip
        figure.update_yaxes(title_text=axis, rangemode="tozero", row=1, col=column)
    n = int(summary[summary.metric == next(iter(names))].n.min())
    note = f"{n} tests of each kind; 95 % bootstrap intervals over tests"
    figure.update_layout(template=TEMPLATE, height=400, title={"text": title, "subtitle": {"text": note}})
    return figure
