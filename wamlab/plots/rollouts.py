"""Figures of rollouts: how good each model's future is and how it moves, the farther it looks ahead, and what warm starts do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.plots.style import TEMPLATE, Style, style_of, transparent

#: Metric -> the axis title, with its unit and an arrow towards better.
METRIC_AXES = {
    "cosine": "cosine similarity of latents ↑",
    "rmse": "pixel RMSE, grey levels ↓",
    "psnr": "PSNR, dB ↑",
    "ssim": "structural similarity ↑",
    "sharpness": "sharpness, 1 = truth",
    "kd": "kernel distance from real frames ↓",
    "low": "coarse motion, 1 = truth",
    "high": "fine motion, 1 = truth",
    "magnitude": "displacement so far, 1 = truth",
    "direction": "direction so far, 1 = truth ↑",
    "slope": "slope so far, 1 = truth",
    "paper_direction": "direction so far, paper's measure ↑",
}
#: Metrics of which the truth has 1.
RATIOS = ("sharpness", "low", "high", "magnitude", "direction", "slope", "paper_direction")
#: Routes of warm starts: the model that samples, its start.
ROUTES = {
    "diffusion": Style(style_of("diffusion").color, "diffusion, from its anchor"),
    "diffusion from direct": Style(style_of("diffusion").color, "diffusion, from direct", "dash"),
    "jump-diffusion": Style(style_of("jump-diffusion").color, "jump chain, diffusion, from its anchors", "dot"),
}
_NEUTRAL = style_of("truth").color


def error_over_horizon(
    curves: pd.DataFrame,
    metrics: Sequence[str] = ("cosine", "sharpness"),
    title: str = "",
    reach_s: float = 0,
    each: str = "one window each",
    group: str = "",
) -> go.Figure:
    """One panel a metric: its mean at each time ahead for each model, with the interval as a band.

    `curves` has the columns model, metric, time_s, mean, low, high and n; a metric that it lacks has no panel. `reach_s`, if it is within
    the curves: where the models' own horizon ends. `each`: what was seen of a scene. `group`: of widgets whose time it shares.
    """
    metrics = [m for m in metrics if m in set(curves.metric)] or list(metrics)[:1]
    figure, reach_s = _panels(metrics), reach_s if len(curves) and reach_s < curves.time_s.max() else 0
    for at, metric in _places(metrics):
        for model, rows in curves[curves.metric == metric].groupby("model", sort=False):
            _band(figure, rows.time_s, rows, style_of(model), at, metric == metrics[0])
        _mark(figure, metric, at, reach_s)
    figure.update_xaxes(title_text="time ahead, s", rangemode="tozero")
    figure.update_layout(meta={"group": group} if group else None)
    n = int(curves.n.max()) if len(curves) else 0
    note = f"Up to {n} held-out scenes, {each}. Bands: 95 % intervals over scenes."
    if reach_s:
        note += f"<br>Right of the dashed line, at {reach_s:g} s, models go on from their own pictures."
    return _laid_out(figure, title, note, len(metrics))


def warm_start_dial(
    dial: pd.DataFrame, references: Mapping[str, tuple[float, float, float]], title: str = ""
) -> go.Figure:
    """One panel a metric over the strength of the noise, a line a route; the jump chain, which does not sample, as a level.

    `dial`: route, strength, metric, mean, low, high, n. `references`: "jump/cosine" -> (mean, low, high).
    """
    metrics = list(dial.metric.unique())
    figure = _panels(metrics)
    for at, metric in _places(metrics):
        for route, rows in dial[dial.metric == metric].groupby("route", sort=False):
            _band(figure, rows.strength, rows, ROUTES[route], at, metric == metrics[0], markers=True)
        if level := references.get(f"jump/{metric}"):
            ends = pd.DataFrame({"strength": [0.0, 1.0], "mean": level[0], "low": level[1], "high": level[2]})
            _band(figure, ends.strength, ends, style_of("jump"), at, metric == metrics[0])
        _mark(figure, metric, at)
    figure.update_xaxes(title_text="strength: share of noise", range=[-0.03, 1.03])
    n = int(dial.n.max()) if len(dial) else 0
    note = (
        f"{n} held-out scenes, one window each. Bands: 95 % intervals over scenes."
        "<br>At 0 the start itself: the anchor, or direct's prediction. At 1 noise alone."
    )
    return _laid_out(figure, title, note, len(metrics))


def _panels(metrics: Sequence[str]) -> go.Figure:
    rows = -(-len(metrics) // 2)
    figure = make_subplots(
        rows=rows, cols=min(2, len(metrics)), horizontal_spacing=0.12, vertical_spacing=0.16 if rows > 1 else 0
    )
    for at, metric in _places(metrics):
        figure.update_yaxes(title_text=METRIC_AXES.get(metric, metric), **at)
    return figure


def _mark(figure: go.Figure, metric: str, at: Mapping[str, int], reach_s: float = 0) -> None:
    """Where the truth is, and where a model's own horizon ends. Only a panel that has something in it can be marked."""
    if metric in RATIOS:
        figure.add_hline(y=1, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"}, **at)
    if reach_s:
        figure.add_vline(x=reach_s, line={"color": _NEUTRAL, "width": 1, "dash": "dash"}, **at)


def _places(metrics: Sequence[str]) -> list[tuple[dict[str, int], str]]:
    return [({"row": i // 2 + 1, "col": i % 2 + 1}, metric) for i, metric in enumerate(metrics)]


def _band(
    figure: go.Figure,
    x: pd.Series,
    rows: pd.DataFrame,
    style: Style,
    at: Mapping[str, int],
    named: bool,
    markers: bool = False,
) -> None:
    """A line of `mean` with the band from `low` to `high`; in the legend if `named`."""
    shared = {"x": np.asarray(x), "legendgroup": style.label, "name": style.label}
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": transparent(style.color, 0.16)}
    figure.add_scatter(y=rows.low.to_numpy(), **shared, **edge, **at)
    figure.add_scatter(y=rows.high.to_numpy(), **shared, **edge, **fill, **at)
    figure.add_scatter(
        y=rows["mean"].to_numpy(), **shared, mode="lines+markers" if markers else "lines", showlegend=named,
        line={"color": style.color, "width": 2.5, "dash": style.dash}, customdata=rows[["low", "high"]].to_numpy(),
        hovertemplate="%{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]", **at,
    )  # fmt: skip


def _laid_out(figure: go.Figure, title: str, note: str, count: int) -> go.Figure:
    rows = -(-count // 2)
    return figure.update_layout(
        template=TEMPLATE, title={"text": title, "subtitle": {"text": note}}, height=170 + 250 * rows, margin={"t": 128}
    )
