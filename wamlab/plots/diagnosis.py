"""Figures of the diagnosis: pairs that differ in one thing, what each ingredient adds, what errors consist of. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wamlab.analysis.claims import HYPOTHESES, INGREDIENTS
from wamlab.analysis.diagnosis import TITLES
from wamlab.plots.dots import add_dots
from wamlab.plots.style import MODEL_STYLE, TEMPLATE, Style, transparent

_NEUTRAL = MODEL_STYLE["truth"].color
#: Variants that share no colour with a model of `MODEL_STYLE`.
_COLORS = {"eps": "#c2639b", "one token": "#8a6a1f", "unanchored": "#7a9a2b", "one step": "#e59a72"}
#: From the bottom up.
POOLED_ORDER = (
    "pooled copy", "pooled direct, first action", "pooled mlp, first action", "pooled eps", "pooled x0", "pooled direct", "pooled mlp",
)  # fmt: skip
SPATIAL_ORDER = ("copy", "mlp", "direct", "jump", "diffusion", *INGREDIENTS.values())
#: Hypothesis -> what its number is.
ASKED = {
    "H1": "transformer, direct, minus MLP",
    "H2": "share of the gap, noise to MLP, closed by x0",
    "H3": "diffusion minus MLP at the last frame",
    "H3, trend": "the same, last frame minus first",
    "H4": "gain from the sequence, transformer minus MLP",
}
METRIC_AXES = {
    "cosine": "cosine similarity to the true future ↑",
    "kd": "kernel distance ↓, log scale",
    "direction": "direction of displacement, 1 = truth ↑",
    "magnitude": "length of displacement, 1 = truth",
}


def variant_style(name: str) -> Style:
    """The colour of a variant's model where it is that model as such, else one of its own; dotted if it sees the first action only."""
    base = name.removeprefix("pooled ").removesuffix(", first action")
    base = {"x0": "diffusion"}.get(base, base)
    color = _COLORS.get(base) or MODEL_STYLE[base].color
    return Style(color, TITLES[name], "dot" if name.endswith("first action") else "solid")


def player_styles(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Colours and labels of the player's rows, as the widget takes them."""
    truth = MODEL_STYLE["truth"]
    styles = {name: truth if name == "truth" else variant_style(name) for name in names}
    return {name: {"color": style.color, "label": style.label} for name, style in styles.items()}


def pooled_dots(levels: pd.DataFrame, gaps: pd.DataFrame, title: str = "") -> go.Figure:
    """Left: the cosine similarity of each pooled variant. Right: how far each is above or below the MLP, by the time ahead."""
    figure = make_subplots(cols=2, horizontal_spacing=0.14, column_widths=[0.5, 0.5])
    _level_dots(figure, levels, "cosine", POOLED_ORDER, 1)
    for name, rows in gaps.groupby("variant", sort=False):
        _band(figure, rows, variant_style(name), 2)
    figure.add_hline(y=0, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"}, row=1, col=2)
    figure.update_xaxes(title_text=METRIC_AXES["cosine"], showgrid=True, row=1, col=1)
    figure.update_xaxes(title_text="time ahead, s", rangemode="tozero", row=1, col=2)
    figure.update_yaxes(title_text="difference to the MLP ↑", row=1, col=2)
    note = f"{_counted(levels)}. Hollow: sees the first action only. Right, dotted: the MLP."
    return _laid_out(figure, title, note, 420)


def ingredient_dots(levels: pd.DataFrame, title: str = "") -> go.Figure:
    """Closeness and realism of the full model, and of the full model without each ingredient; dotted lines: with all four."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    for column, metric in enumerate(("cosine", "kd"), 1):
        rows = _level_dots(figure, levels, metric, SPATIAL_ORDER[::-1], column)
        if "diffusion" in rows.index:
            line = {"color": variant_style("diffusion").color, "width": 1.5, "dash": "dot"}
            figure.add_vline(x=rows.loc["diffusion", "mean"], line=line, row=1, col=column)
        figure.update_xaxes(title_text=METRIC_AXES[metric], showgrid=True, row=1, col=column)
    figure.update_xaxes(type="log", dtick=1, row=1, col=2)
    return _laid_out(
        figure, title, f"{_counted(levels)}. Dotted: diffusion with all four.", 150 + 34 * len(SPATIAL_ORDER)
    )


def error_bars(levels: pd.DataFrame, title: str = "", most: float = 3.0) -> go.Figure:
    """What each variant's squared error consists of, as multiples of the error of copying the present; cut off at `most`."""
    figure = make_subplots(
        cols=2, horizontal_spacing=0.2, subplot_titles=["a frame is one vector", "a grid of latents"]
    )
    wide = levels.pivot(index="variant", columns="metric", values="mean")
    orders = (("pooled copy", POOLED_ORDER), ("copy", SPATIAL_ORDER[::-1]))
    for column, (copy, order) in enumerate(orders, 1):
        rows = wide.reindex([name for name in order if name in wide.index])
        scale = wide.error.get(copy, np.nan)
        names = [TITLES[name] for name in rows.index]
        spread, rest = rows.spread.clip(lower=0) / scale, (rows.error - rows.spread.clip(lower=0)) / scale
        for value, what, alpha in (
            (rest, "error of the mean of all draws", 1.0),
            (spread, "spread between draws", 0.4),
        ):
            colors = [transparent(variant_style(name).color, alpha) for name in rows.index]
            figure.add_bar(
                x=value.to_numpy(), y=names, orientation="h", marker={"color": colors}, name=what, legendgroup=what, showlegend=False,
                hovertemplate=f"%{{y}}, {what}: %{{x:.2f}}<extra></extra>", row=1, col=column,
            )  # fmt: skip
        for name, total in zip(names, (rest + spread).to_numpy(), strict=True):
            beyond = total > most
            figure.add_annotation(
                x=most if beyond else total, y=name, text=f"{total:.2f}{' →' if beyond else ''}", showarrow=False,
                xanchor="right" if beyond else "left", xshift=-4 if beyond else 4, font={"size": 12}, row=1, col=column,
            )  # fmt: skip
        figure.add_vline(x=1, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"}, row=1, col=column)
        figure.update_xaxes(
            title_text="squared error, 1 = copy ↓", range=[0, min(most, 1.15 * float((rest + spread).max()))], row=1, col=column
        )  # fmt: skip
    figure.update_layout(barmode="stack", margin_t=104)
    note = "Solid: error of the mean of all draws. Pale: spread between draws. Dotted: a copy of the present."
    return _laid_out(figure, title, note, 430)


def frontier(levels: pd.DataFrame, title: str = "") -> go.Figure:
    """Each spatial variant by its closeness to the one true future and its distance from real pictures: right and down is better."""
    wide = levels.pivot(index="variant", columns="metric", values=["mean", "low", "high"])
    figure = go.Figure()
    for place, name in enumerate(SPATIAL_ORDER):
        if name not in wide.index or ("mean", "kd") not in wide:
            continue
        style, row = variant_style(name), wide.loc[name]
        x, y = row["mean", "cosine"], max(row["mean", "kd"], 1e-4)
        reach = {"array": [row["high", "cosine"] - x], "arrayminus": [x - row["low", "cosine"]]}
        figure.add_scatter(
            x=[x], y=[y], mode="markers+text", text=[style.label], textposition=("top center", "bottom center")[place % 2],
            name=style.label, showlegend=False,
            textfont={"size": 12}, marker={"size": 12, "color": style.color}, cliponaxis=False,
            error_x={"color": transparent(style.color, 0.5), "thickness": 1.5, "width": 0, **reach},
            hovertemplate=f"{style.label}<br>cosine similarity %{{x:.3f}}<br>kernel distance %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text=METRIC_AXES["cosine"], showgrid=True)
    figure.update_yaxes(title_text=METRIC_AXES["kd"], type="log", dtick=1)
    return _laid_out(figure, title, f"{_counted(levels)}. Right is closer, down is more real.", 460)


def motion_dots(levels: pd.DataFrame, title: str = "") -> go.Figure:
    """How the picture moves from frame to frame, against the truth: the direction of its displacement, and how far it goes."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    for column, metric in enumerate(("direction", "magnitude"), 1):
        _level_dots(figure, levels, metric, SPATIAL_ORDER[::-1], column)
        figure.add_vline(x=1, line={"color": _NEUTRAL, "width": 1.5, "dash": "dot"}, row=1, col=column)
        figure.update_xaxes(title_text=METRIC_AXES[metric], showgrid=True, row=1, col=column)
    return _laid_out(figure, title, f"{_counted(levels)}. Dotted: the truth.", 150 + 34 * len(SPATIAL_ORDER))


def hypothesis_table(claims: pd.DataFrame) -> pd.DataFrame:
    """The hypotheses for reading: what is asked, the measured effect, the paper's verdict, and whether that is reproduced."""
    rows = claims.set_index("key")
    return pd.DataFrame(
        {
            "hypothesis": claim.key,
            "asked": ASKED[claim.key],
            "measured": _text(rows.loc[claim.key]),
            "the paper": claim.paper,
            "its verdict here": rows.loc[claim.key, "verdict"],
        }
        for claim in HYPOTHESES
    ).set_index("hypothesis").rename_axis(None)  # fmt: skip


def level_text(
    levels: pd.DataFrame, metrics: Sequence[str] = ("cosine", "error", "spread", "kd", "direction")
) -> pd.DataFrame:
    """Every variant's level of every metric as `mean [low, high]`."""
    shown = levels[levels.metric.isin(metrics)]
    text = shown.assign(text=[_text(row) for _, row in shown.iterrows()])
    wide = text.pivot(index="variant", columns="metric", values="text")
    wide = wide.reindex(index=levels.variant.unique(), columns=[m for m in metrics if m in wide]).fillna("")
    kinds = ["pooled: " if name.startswith("pooled") else "" for name in wide.index]
    wide.index = [kind + TITLES[name] for kind, name in zip(kinds, wide.index, strict=True)]
    names = {
        "cosine": "cosine similarity ↑",
        "error": "squared error ↓",
        "spread": "of it, spread of draws",
        "kd": "kernel distance ↓",
    }
    return wide.rename(columns=names | {"direction": "direction ↑"}).rename_axis(None, axis=1)


def _text(row: pd.Series) -> str:
    return f"{row['mean']:.3g} [{row.low:.3g}, {row.high:.3g}]" if np.isfinite(row["mean"]) else "not measured"


def _level_dots(
    figure: go.Figure, levels: pd.DataFrame, metric: str, order: Sequence[str], column: int
) -> pd.DataFrame:
    """Dots of one metric for the variants of `order` that have it, from the bottom up; the rows by variant."""
    rows = levels[levels.metric == metric].set_index("variant")
    rows = rows.reindex([name for name in order if name in rows.index])
    if metric == "kd":  # a log axis: what is not above 0 stands at its foot
        foot = rows["mean"][rows["mean"] > 0].min() / 3
        rows = rows.assign(
            mean=rows["mean"].clip(lower=foot), low=rows.low.clip(lower=foot), high=rows.high.clip(lower=foot)
        )
    add_dots(figure, rows, [variant_style(name) for name in rows.index], column)
    return rows


def _band(figure: go.Figure, rows: pd.DataFrame, style: Style, column: int) -> None:
    shared = {"x": rows.time_s.to_numpy(), "legendgroup": style.label, "name": style.label}
    flat = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": transparent(style.color, 0.16)}
    figure.add_scatter(y=rows.low.to_numpy(), **shared, **flat, row=1, col=column)
    figure.add_scatter(y=rows.high.to_numpy(), **shared, **flat, **fill, row=1, col=column)
    figure.add_scatter(
        y=rows["mean"].to_numpy(), **shared, mode="lines", line={"color": style.color, "width": 2.5, "dash": style.dash}, row=1, col=column,
        hovertemplate="%{y:+.3f}",
    )  # fmt: skip


def _counted(levels: pd.DataFrame) -> str:
    n = int(levels.n.max()) if len(levels) else 0
    return f"{n} held-out drives, one window each; 95 % intervals over drives and training seeds"


def _laid_out(figure: go.Figure, title: str, note: str, height: int) -> go.Figure:
    if not figure.data:
        empty = {
            "text": "nothing here to measure",
            "showarrow": False,
            "xref": "paper",
            "yref": "paper",
            "x": 0.5,
            "y": 0.5,
        }
        figure.add_annotation(empty)
    return figure.update_layout(
        template=TEMPLATE, height=height, hovermode="closest", title={"text": title, "subtitle": {"text": note}}
    )
