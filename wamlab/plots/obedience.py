"""Figures of steering sweeps: how far the picture moves with the wheel, over the horizon and under guidance, and the wheel read back."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.analysis.obedience import said
from wamlab.analysis.obedience_scores import ANCHOR
from wamlab.models import BASELINES
from wamlab.plots.dots import add_dots
from wamlab.plots.style import MODEL_STYLE, TEMPLATE, style_of, transparent
from wamlab.statistics import Interval, Undefined

_NEUTRAL = MODEL_STYLE["truth"].color
SCORE_AXES = {
    "rho": "Spearman's ρ ↑",
    "slope": "slope on the truth, 1 = truth",
}


def shift_over_angle(curves: pd.DataFrame, title: str = "") -> go.Figure:
    """The picture's shift against the angle at the wheel, a curve a candidate: at the first and the last time ahead, a panel each."""
    times = sorted({curves.time_s.min(), curves.time_s.max()})
    figure = make_subplots(cols=len(times), horizontal_spacing=0.12)
    for column, time_s in enumerate(times, 1):
        _curves(figure, curves[curves.time_s == time_s], "angle_rad", column, ".1f")
        figure.update_xaxes(title_text=f"wheel, rad (left > 0), {time_s:g} s ahead", row=1, col=column)
    figure.update_yaxes(title_text="shift to the right, px", row=1, col=1)
    return _laid_out(figure, title, f"Mean over {_drives(curves)}; bands are 95 % intervals over drives.", 480)


def scores_over_time(levels: pd.DataFrame, guidance: float, title: str = "") -> go.Figure:
    """Spearman's ρ and, where the truth is known, the slope on it, against the time ahead."""
    rows = levels[levels.guidance == guidance]
    scores = [score for score in ("rho", "slope") if score in set(rows.score)]
    figure = make_subplots(cols=max(1, len(scores)), horizontal_spacing=0.12)
    for column, score in enumerate(scores, 1):
        _curves(figure, rows[rows.score == score], "time_s", column, ".2f")
        figure.update_xaxes(title_text="time ahead, s", rangemode="tozero", row=1, col=column)
        _score_axis(figure, score, rows[rows.score == score], column)
    note = f"{_drives(rows)}; bands are 95 % intervals over drives. ρ: only drives whose picture moves."
    return _laid_out(figure, title, note, 440)


def scores_over_guidance(levels: pd.DataFrame, title: str = "") -> go.Figure:
    """Spearman's ρ, and the slope on the truth where it is known, of the models that have guidance: a panel a score and time ahead."""
    rows = levels[levels.groupby(["candidate", "time_s"]).guidance.transform("nunique") > 1]
    panels = [
        (score, t) for score in ("rho", "slope") for t in sorted(rows.time_s.unique()) if score in set(rows.score)
    ]
    figure = make_subplots(cols=max(1, len(panels)), horizontal_spacing=0.25 / max(1, len(panels)))
    for column, (score, time_s) in enumerate(panels, 1):
        here = rows[(rows.score == score) & (rows.time_s == time_s)].sort_values("guidance")
        for place, name in enumerate(here.candidate.unique()):
            style, part = style_of(name), here[here.candidate == name]
            bars = {
                "array": part.high - part["mean"],
                "arrayminus": part["mean"] - part.low,
                "width": 0,
                "thickness": 2,
            }
            figure.add_scatter(
                x=part.guidance + 0.06 * place, y=part["mean"], mode="lines+markers", name=style.label, legendgroup=name,
                showlegend=column == 1, line={"color": style.color, "dash": style.dash, "width": 2}, marker={"size": 9},
                error_y=bars, customdata=part[["low", "high"]].to_numpy(), row=1, col=column,
                hovertemplate=f"{style.label}: %{{y:.3f}} [%{{customdata[0]:.3f}}, %{{customdata[1]:.3f}}]<extra></extra>",
            )  # fmt: skip
        figure.update_xaxes(title_text=f"guidance, {time_s:g} s ahead", dtick=1, row=1, col=column)
        _score_axis(figure, score, here, column)
    return _laid_out(figure, title, f"{_drives(rows)}; bars are 95 % intervals over drives.", 400)


def asked_and_read(recovered: pd.DataFrame, relative: Mapping[str, Interval | Undefined], title: str = "") -> go.Figure:
    """The angle that made a future, and the one that is read from it: a dot a drive and angle, a panel a model that learns."""
    names = [name for name in recovered.candidate.unique() if name not in (*BASELINES, ANCHOR)]
    figure = make_subplots(cols=max(1, len(names)), shared_yaxes="all", horizontal_spacing=0.04)
    ends = [recovered.asked_rad.min(), recovered.asked_rad.max()]
    reach = 0.6 * (ends[1] - ends[0])
    for column, name in enumerate(names, 1):
        at, rows, style = {"row": 1, "col": column}, recovered[recovered.candidate == name], style_of(name)
        line = {"color": _NEUTRAL, "dash": "dot"}
        figure.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False, **at)
        figure.add_scatter(
            x=rows.asked_rad, y=rows.named_rad.clip(ends[0] - reach, ends[1] + reach), mode="markers",
            name=f"{style.label}: {said(relative[name])}",
            marker={"color": transparent(style.color, 0.5), "size": 7}, customdata=rows.scene,
            hovertemplate="%{customdata}: asked %{x:.2f}, read %{y:.2f} rad<extra></extra>", **at,
        )  # fmt: skip
        figure.update_xaxes(title_text="angle asked, rad", **at)
        figure.update_yaxes(title_text="angle read, rad" if column == 1 else "", showticklabels=True, **at)
    asked = f"{recovered.scene.nunique()} drives, {recovered.asked_rad.nunique()} angles each"
    note = f"{asked}. Dotted: read without error; what is far off stands at the edge. Beside the names: error over chance ↓."
    figure.update_layout(hovermode="closest")
    return _laid_out(figure, title, note, 400)


def action_dots(effect: pd.DataFrame, title: str = "") -> go.Figure:
    """How much nearer to the truth each model comes with the drive's own actions than with another drive's."""
    figure = make_subplots(cols=1)
    rows = effect.iloc[::-1]
    add_dots(figure, rows, [style_of(name)._replace(dash="solid") for name in rows.candidate], 1)
    figure.add_vline(x=0, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(title_text="gain in cosine similarity ↑", showgrid=True)
    return _laid_out(
        figure,
        title,
        f"{_drives(effect)}; 95 % intervals over drives. Dotted: the actions make no difference.",
        130 + 36 * len(rows),
    )


def _curves(figure: go.Figure, table: pd.DataFrame, x: str, column: int, digits: str) -> None:
    """For each candidate a line with its interval as a band, named in the legend once; the truth's is thicker."""
    for name in table.candidate.unique():
        style, rows = style_of(name), table[table.candidate == name].sort_values(x)
        named = any(trace.legendgroup == name and trace.showlegend for trace in figure.data)
        shared = {"x": rows[x].to_numpy(), "legendgroup": name, "name": style.label}
        flat = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        fill = {"fill": "tonexty", "fillcolor": transparent(style.color, 0.1)}
        figure.add_scatter(y=rows.low.to_numpy(), **shared, **flat, row=1, col=column)
        figure.add_scatter(y=rows.high.to_numpy(), **shared, **flat, **fill, row=1, col=column)
        figure.add_scatter(
            y=rows["mean"].to_numpy(), **shared, mode="lines+markers", showlegend=not named, marker={"size": 6},
            line={"color": style.color, "width": 4 if name == "truth" else 2, "dash": style.dash}, row=1, col=column,
            customdata=rows[["low", "high"]].to_numpy(),
            hovertemplate=f"%{{y:{digits}}} [%{{customdata[0]:{digits}}}, %{{customdata[1]:{digits}}}]",
        )  # fmt: skip


def _score_axis(figure: go.Figure, score: str, rows: pd.DataFrame, column: int) -> None:
    """From 0, or below where intervals reach there, to a little above 1: differences that are rounding look like none."""
    ends = [min(0.0, rows.low.min()) - 0.05, max(1.0, rows.high.max()) + 0.05]
    figure.update_yaxes(title_text=SCORE_AXES[score], tickformat=".2~f", range=ends, row=1, col=column)


def _drives(table: pd.DataFrame) -> str:
    n = int(table.n.max()) if len(table) else 0
    return f"{n} held-out drive{'s' * (n != 1)}"


def _laid_out(figure: go.Figure, title: str, note: str, height: int) -> go.Figure:
    if not figure.data:
        figure.add_annotation(text="nothing here to measure", showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    figure.update_layout(template=TEMPLATE, height=height, title={"text": title, "subtitle": {"text": note}})
    return figure
