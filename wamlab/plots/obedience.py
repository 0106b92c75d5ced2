"""Figures of steering sweeps: how far the picture moves with the wheel, over the horizon and under guidance, and the wheel read back."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.analysis.obedience import said
from wamlab.plots.dots import add_dots
from wamlab.plots.style import MODEL_STYLE, TEMPLATE, style_of, transparent
from wamlab.statistics import Interval, Undefined

_NEUTRAL = MODEL_STYLE["truth"].color
SCORE_AXES = {
    "rho": "Spearman's ρ ↑",
    "slope": "slope on the truth, 1 = truth",
    "valid": "share of drives whose picture moves",
}


def shift_over_angle(curves: pd.DataFrame, title: str = "") -> go.Figure:
    """The picture's shift against the angle at the wheel, a curve a candidate: at the first and the last time ahead, a panel each."""
    times = sorted({curves.time_s.min(), curves.time_s.max()})
    heads = [f"{time_s:g} s after turning the wheel" for time_s in times]
    figure = make_subplots(cols=len(times), horizontal_spacing=0.12, subplot_titles=heads)
    for column, time_s in enumerate(times, 1):
        here = curves[curves.time_s == time_s]
        for name in here.candidate.unique():
            _curve(figure, here[here.candidate == name], "angle_rad", name, column, ".1f", legend=column == 1)
        figure.update_xaxes(title_text="steering wheel, rad (left is positive)", row=1, col=column)
    figure.update_yaxes(title_text="shift to the right, px", row=1, col=1)
    return _laid_out(figure, title, f"Mean over {_drives(curves)}; bands are 95 % intervals over drives.", 520)


def scores_over_time(levels: pd.DataFrame, guidance: float, title: str = "") -> go.Figure:
    """Spearman's ρ and, where the truth is known, the slope on it, against the time ahead."""
    rows = levels[levels.guidance == guidance]
    scores = [score for score in ("rho", "slope") if score in set(rows.score)] or ["rho"]
    figure = make_subplots(cols=len(scores), horizontal_spacing=0.12)
    for column, score in enumerate(scores, 1):
        here = rows[rows.score == score]
        for name in here.candidate.unique():
            _curve(figure, here[here.candidate == name], "time_s", name, column, ".2f", legend=column == 1)
        figure.update_xaxes(title_text="time ahead, s", rangemode="tozero", row=1, col=column)
        figure.update_yaxes(title_text=SCORE_AXES[score], row=1, col=column)
    return _laid_out(
        figure,
        title,
        f"{_drives(rows)}; bands are 95 % intervals over drives. ρ: only drives whose picture moves.",
        480,
    )


def scores_over_guidance(levels: pd.DataFrame, time_s: float, title: str = "") -> go.Figure:
    """Spearman's ρ, the slope on the truth and the share of drives that count, against guidance, of the models that have any."""
    rows = levels[levels.time_s == time_s]
    rows = rows[rows.groupby("candidate").guidance.transform("nunique") > 1]
    scores = [score for score in ("rho", "slope", "valid") if score in set(rows.score)] or ["rho"]
    figure = make_subplots(cols=len(scores), horizontal_spacing=0.1)
    for column, score in enumerate(scores, 1):
        here = rows[rows.score == score].sort_values("guidance")
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
        figure.update_xaxes(title_text="weight of guidance", dtick=1, row=1, col=column)
        figure.update_yaxes(title_text=SCORE_AXES[score], row=1, col=column)
    return _laid_out(figure, title, f"{_drives(rows)}, {time_s:g} s ahead; bars are 95 % intervals over drives.", 400)


def asked_and_read(recovered: pd.DataFrame, relative: Mapping[str, Interval | Undefined], title: str = "") -> go.Figure:
    """The angle that made a future, and the one that is read from it: a dot a drive and angle, a panel a model; the line is perfect."""
    names = [name for name in recovered.candidate.unique() if name != "copy"]
    columns = min(3, max(1, len(names)))
    heads = [f"{style_of(name).label}<br><sub>{_over_chance(relative.get(name))}</sub>" for name in names]
    shape = {"rows": -(-max(1, len(names)) // columns), "cols": columns}
    figure = make_subplots(
        **shape,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=heads,
        horizontal_spacing=0.05,
        vertical_spacing=0.16,
    )
    ends = [recovered.asked_rad.min(), recovered.asked_rad.max()]
    reach = 2.5 * (ends[1] - ends[0])
    for place, name in enumerate(names):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        rows, style = recovered[recovered.candidate == name], style_of(name)
        figure.add_scatter(
            x=ends,
            y=ends,
            mode="lines",
            line={"color": _NEUTRAL, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
            **at,
        )
        figure.add_scatter(
            x=rows.asked_rad, y=rows.named_rad.clip(ends[0] - reach, ends[1] + reach), mode="markers", showlegend=False, name=style.label,
            marker={"color": transparent(style.color, 0.45), "size": 7}, customdata=rows.scene,
            hovertemplate="%{customdata}: asked %{x:.2f}, read %{y:.2f} rad<extra></extra>", **at,
        )  # fmt: skip
        if at["col"] == 1:
            figure.update_yaxes(title_text="angle read, rad", **at)
        figure.update_xaxes(
            title_text="angle asked, rad" if place >= len(names) - columns else "", showticklabels=True, **at
        )
    note = (
        f"{recovered.scene.nunique()} drives, {recovered.asked_rad.nunique()} angles each. Dotted: read without error."
    )
    figure.update_layout(margin_t=120)
    return _laid_out(figure, title, note, 130 + 250 * shape["rows"])


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


def _curve(figure: go.Figure, rows: pd.DataFrame, x: str, name: str, column: int, digits: str, legend: bool) -> None:
    """A line with its interval as a band; the truth's is thicker."""
    style, rows = style_of(name), rows.sort_values(x)
    shared = {"x": rows[x].to_numpy(), "legendgroup": name, "name": style.label}
    flat = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": transparent(style.color, 0.1)}
    figure.add_scatter(y=rows.low.to_numpy(), **shared, **flat, row=1, col=column)
    figure.add_scatter(y=rows.high.to_numpy(), **shared, **flat, **fill, row=1, col=column)
    figure.add_scatter(
        y=rows["mean"].to_numpy(), **shared, mode="lines+markers", showlegend=legend, marker={"size": 6},
        line={"color": style.color, "width": 4 if name == "truth" else 2, "dash": style.dash}, row=1, col=column,
        customdata=rows[["low", "high"]].to_numpy(),
        hovertemplate=f"%{{y:{digits}}} [%{{customdata[0]:{digits}}}, %{{customdata[1]:{digits}}}]",
    )  # fmt: skip


def _over_chance(found: Interval | Undefined | None) -> str:
    return (
        f"error over chance ↓ {said(found)}" if isinstance(found, Interval) else "not measured: too few pictures move"
    )


def _drives(table: pd.DataFrame) -> str:
    n = int(table.n.max()) if len(table) else 0
    return f"{n} held-out drive{'s' * (n != 1)}"


def _laid_out(figure: go.Figure, title: str, note: str, height: int) -> go.Figure:
    if not figure.data:
        figure.add_annotation(text="nothing here to measure", showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    figure.update_layout(template=TEMPLATE, height=height, title={"text": title, "subtitle": {"text": note}})
    return figure
