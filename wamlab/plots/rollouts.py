"""Figures of rollouts: how good each model's future is, the farther it looks ahead."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.plots.style import TEMPLATE, style_of, transparent

#: Metric -> the axis title, with its unit and an arrow towards better.
METRIC_AXES = {
    "cosine": "cosine similarity of latents ↑",
    "rmse": "pixel RMSE, grey levels ↓",
    "psnr": "PSNR, dB ↑",
    "ssim": "structural similarity ↑",
    "sharpness": "sharpness, 1 = truth",
    "kd": "kernel distance ↓",
}


def error_over_horizon(
    curves: pd.DataFrame,
    metrics: tuple[str, ...] = ("cosine", "sharpness"),
    title: str = "",
    each: str = "one window each",
) -> go.Figure:
    """One panel a metric: its mean at each time ahead for each model, with the interval as a band.

    `curves` has the columns model, metric, time_s, mean, low, high and n; `each`: what was seen of a scene.
    """
    figure = make_subplots(cols=len(metrics), horizontal_spacing=0.12)
    for column, metric in enumerate(metrics, start=1):
        for model, rows in curves[curves.metric == metric].groupby("model", sort=False):
            style = style_of(model)
            shared = {"x": rows.time_s.to_numpy(), "legendgroup": model, "name": style.label}
            line = {"color": style.color, "width": 2.5, "dash": style.dash}
            band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            low_high = {"fill": "tonexty", "fillcolor": transparent(style.color, 0.16)}
            figure.add_scatter(y=rows.low.to_numpy(), **shared, **band, row=1, col=column)
            figure.add_scatter(y=rows.high.to_numpy(), **shared, **band, **low_high, row=1, col=column)
            figure.add_scatter(
                y=rows["mean"].to_numpy(), **shared, mode="lines", line=line, showlegend=column == 1,
                customdata=rows[["low", "high"]].to_numpy(),
                hovertemplate="%{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]", row=1, col=column,
            )  # fmt: skip
        figure.update_yaxes(title_text=METRIC_AXES.get(metric, metric), row=1, col=column)
        if metric == "sharpness":
            figure.add_hline(
                y=1, line={"color": style_of("truth").color, "width": 1.5, "dash": "dot"}, row=1, col=column
            )
    figure.update_xaxes(title_text="time ahead, s", rangemode="tozero")
    n = int(curves.n.max()) if len(curves) else 0
    note = f"Mean over {n} held-out scenes, {each}; bands are 95 % bootstrap intervals over scenes."
    figure.update_layout(template=TEMPLATE, title={"text": title, "subtitle": {"text": note}}, height=400)
    return figure
