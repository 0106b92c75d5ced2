"""Figures of the perception-distortion plane: its points and dials, how much latents scatter, and sheets of what the points look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.analysis.dials import Setting
from wamlab.analysis.frontier import CEILING, efficient
from wamlab.analysis.frontier_claims import PAPER_SPREAD
from wamlab.plots.sheets import contact_sheet
from wamlab.plots.style import MODEL_STYLE, TEMPLATE, Style, row_styles, style_of, transparent

_NEUTRAL = MODEL_STYLE["truth"].color
#: Under the axes, which way is better.
X_AXES = {"cosine": "cosine similarity to the truth ↑", "rmse": "pixel RMSE, grey levels ↓"}
#: What stands on nothing that was predicted, or knew the answer.
_HOLLOW = ("ceiling", "copy", "warp", "oracle")


def plane(
    levels: pd.DataFrame,
    settings: Sequence[Setting],
    time_s: float,
    leave_out: Sequence[str],
    title: str = "",
) -> go.Figure:
    """Every point with its intervals, nearness in latents (left) and in pixels (right) against the kernel distance; dials are lines.

    levels: of one step, `time_s` ahead. leave_out: points that cannot be on the frontier, which is dotted.
    """
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.08)
    wide = levels.pivot(index="variant", columns="metric", values=["mean", "low", "high"])
    there = [s for s in settings if ("mean", "kd") in wide and np.isfinite(wide.loc[s.name, ("mean", "kd")])]
    for column, metric in enumerate(X_AXES, 1):
        for model in dict.fromkeys(s.model for s in there):
            rows = [s for s in there if s.model == model and (s.name != CEILING or metric == "rmse")]
            if rows:
                _series(
                    figure, wide.loc[[s.name for s in rows]], rows, style_of(model), metric, column, model in _HOLLOW
                )
        figure.update_xaxes(title_text=X_AXES[metric], showgrid=True, row=1, col=column)
    best = [name for name in efficient(levels, leave_out) if name in wide.index] if there else []
    if best:
        line = wide.loc[best]["mean"].sort_values("cosine")
        figure.add_scatter(
            x=line.cosine, y=line.kd, mode="lines", line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"}, name="frontier",
            hoverinfo="skip", row=1, col=1,
        )  # fmt: skip
    else:
        where = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
        figure.add_annotation(text="too few frames for a kernel distance", **where)
    figure.update_yaxes(title_text="kernel distance ↓", row=1, col=1)
    figure.update_yaxes(zeroline=True, showticklabels=True)
    n = int(levels.n.max()) if len(levels) else 0
    note = (
        f"{n} held-out drives, {time_s:g} s ahead; 95 % intervals over drives. Hollow: nothing learned, or no result."
    )
    return figure.update_layout(
        template=TEMPLATE, height=560, hovermode="closest", title={"text": title, "subtitle": {"text": note}},
        legend={"y": -0.2, "yanchor": "top"}, margin={"b": 8},
    )  # fmt: skip


def _series(
    figure: go.Figure, wide: pd.DataFrame, rows: Sequence[Setting], style: Style, metric: str, column: int, hollow: bool
) -> None:
    x, y = (wide["mean"][name].to_numpy() for name in (metric, "kd"))
    reach = {
        axis: {
            "array": wide["high"][name].to_numpy() - value, "arrayminus": value - wide["low"][name].to_numpy(),
            "color": transparent(style.color, 0.3), "thickness": 1.2, "width": 0,
        }
        for axis, name, value in (("error_x", metric, x), ("error_y", "kd", y))
    }  # fmt: skip
    marker = {
        "size": 10,
        "line": {"color": style.color, "width": 2},
        "color": "rgba(0,0,0,0)" if hollow else style.color,
    }
    figure.add_scatter(
        x=x, y=y, **reach, mode="lines+markers" if len(rows) > 1 else "markers", marker=marker,
        line={"color": transparent(style.color, 0.6), "width": 1.5}, name=style.label, legendgroup=style.label, showlegend=column == 2,
        customdata=list(titles(rows).values()),
        hovertemplate="%{customdata}<br>%{x:.3f}, kernel distance %{y:.4f}<extra></extra>", row=1, col=column,
    )  # fmt: skip


def spread_dots(levels: pd.DataFrame, settings: Sequence[Setting], title: str = "") -> go.Figure:
    """Standard deviation of predicted latents over the truth's: a dot with its interval for the mean over channels, rings for each.

    Of the points that are seen at every step, and of every number of steps.

    The band is where the paper's uncalibrated diffusion lies.
    """
    figure = go.Figure()
    names = {s.name: s for s in settings if s.name != CEILING and (s.whole or s.model in ("diffusion", "oracle"))}
    label_of = titles(settings)
    rows = levels[levels.metric.str.startswith("sigma") & levels.variant.isin(names)]
    for name, part in reversed(list(rows.groupby("variant", sort=False))):
        style, label = style_of(names[name].model), label_of[name]
        mean, channels = part[part.metric == "sigma"].iloc[0], part[part.metric != "sigma"]
        figure.add_scatter(
            x=channels["mean"], y=[label] * len(channels), mode="markers", showlegend=False, customdata=channels.metric.str[6:],
            marker={"size": 9, "color": "rgba(0,0,0,0)", "line": {"color": transparent(style.color, 0.7), "width": 1.5}},
            hovertemplate=f"{label}<br>channel %{{customdata}}: %{{x:.2f}}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[mean["mean"]], y=[label], mode="markers", showlegend=False, marker={"size": 11, "color": style.color},
            error_x={"array": [mean.high - mean["mean"]], "arrayminus": [mean["mean"] - mean.low], "color": style.color, "width": 0},
            hovertemplate=f"{label}<br>mean: %{{x:.2f}} [{mean.low:.2f}, {mean.high:.2f}]<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=1, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"})
    figure.add_vrect(*PAPER_SPREAD, fillcolor=_NEUTRAL, opacity=0.2, line_width=0)
    figure.add_annotation(
        x=sum(PAPER_SPREAD) / 2, y=1, yref="paper", yanchor="top", text="uncalibrated<br>diffusion<br>in the paper",
        showarrow=False, font_size=12,
    )  # fmt: skip
    figure.update_xaxes(title_text="spread, 1 = truth", showgrid=True, rangemode="tozero")
    note = "Dot: mean over channels with its 95 % interval over drives. Rings: each channel. Dotted: the truth."
    return figure.update_layout(
        template=TEMPLATE,
        height=150 + 30 * max(1, rows.variant.nunique()),
        hovermode="closest",
        title={"text": title, "subtitle": {"text": note}},
    )


def titles(settings: Sequence[Setting]) -> dict[str, str]:
    """What a reader calls each point, by its name."""
    return {s.name: f"{style_of(s.model).label}, {s.value}" if s.value else style_of(s.model).label for s in settings}


def sheet(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """A row a model, its name in the first picture: model -> (N, H, W, 3) uint8 of the same windows."""
    labels = [style_of(model).label if k == 0 else "" for model, row in rows.items() for k in range(len(row))]
    return contact_sheet(np.concatenate(list(rows.values())), labels, columns=len(next(iter(rows.values()))))


def explorer_styles(points: Sequence[Mapping]) -> dict[str, dict[str, str]]:
    """As the `FrontierExplorer` takes them."""
    return row_styles(dict.fromkeys(p["model"] for p in points))


def place_of(model: str, points: Sequence[Mapping]) -> int:
    """Where the first point of a model is; 0 if there is none."""
    return next((i for i, point in enumerate(points) if point["model"] == model), 0)
