"""How every figure looks: one plotly template for light and dark, and one table of what each model is called and drawn as."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import plotly.graph_objects as go

from wamlab.analysis.encoders import NO_ENCODER, base, title, untrained
from wamlab.errors import UnknownName


class Style(NamedTuple):
    """A model's colour, its name in figures, its line."""

    color: str
    label: str
    dash: str = "solid"


#: Colours after Okabe and Ito, chosen so that each stands out on white and on near-black. Truth is the same neutral everywhere.
MODEL_STYLE = {
    "truth": Style("#8a8a8a", "truth"),
    "ceiling": Style("#8a8a8a", "codec ceiling"),
    "copy": Style("#d28e00", "copy of the present", "dot"),
    "warp": Style("#7f9a1f", "constant-velocity warp", "dot"),
    "anchor": Style("#5f62b5", "anchor alone", "dot"),
    "direct": Style("#2a86d1", "direct"),
    "direct-calibrated": Style("#6db3e8", "direct, calibrated", "dash"),
    "diffusion": Style("#d9541e", "diffusion"),
    "calibrated": Style("#c2639b", "diffusion, calibrated", "dash"),
    "oracle": Style("#d79bbf", "diffusion, oracle calibration", "dot"),
    "guided": Style("#a5421a", "diffusion, guided", "dot"),
    "warm": Style("#e0965c", "diffusion from direct's future", "dash"),
    "interpolation": Style("#7b7fd4", "direct-diffusion mix", "dash"),
    "jump": Style("#12a07a", "jump chain"),
    "jump-diffusion": Style("#8a6a1f", "jump chain, diffusion", "dash"),
    "mlp": Style("#8c6bb1", "MLP", "dashdot"),
    "mlp-matched": Style("#b04fc4", "MLP of equal size", "dashdot"),
    "pooled-dit": Style("#5b8fa8", "DiT, pooled", "longdash"),
    "pooled-mlp": Style("#a8705b", "MLP, pooled", "longdash"),
}

#: Of the encoders, by the name of the family; what they are called is in `wamlab.analysis.encoders.TITLES`.
ENCODER_COLORS = {
    "vit-s16": "#c2639b",
    "dinov2-s14": "#2a86d1",
    "clip-b32": "#12a07a",
    "vjepa2-rep1": "#d28e00",
    "vjepa2-rep64": "#d9541e",
    "vq": "#8c6bb1",
}

#: Text and lines in a grey that reads on both; a page replaces them by its own.
_INK, _LINE, _GRID = "#7d8187", "rgba(128,128,128,.6)", "rgba(128,128,128,.2)"

_AXIS = {
    "gridcolor": _GRID,
    "linecolor": _LINE,
    "zerolinecolor": _LINE,
    "ticks": "",
    "automargin": True,
    "zeroline": False,
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "-apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif",
            "size": 14,
            "color": _INK,
        },
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [s.color for s in MODEL_STYLE.values()],
        "title": {"x": 0, "xanchor": "left", "xref": "container", "font": {"size": 16}},
        "xaxis": _AXIS | {"showgrid": False, "showline": True},
        "yaxis": _AXIS,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
        },
        "margin": {"l": 8, "r": 8, "t": 84, "b": 8},
        "hovermode": "x unified",
        "hoverlabel": {"font": {"size": 13}},
        "height": 420,
    }
)

#: What a table calls each model: `table.rename(index=LABELS)`.
LABELS = {name: style.label for name, style in MODEL_STYLE.items()}


def style_of(model: str) -> Style:
    """The style of a model; raises `UnknownName` for one that is not in `MODEL_STYLE`."""
    if model not in MODEL_STYLE:
        raise UnknownName("model in MODEL_STYLE", model, MODEL_STYLE)
    return MODEL_STYLE[model]


def encoder_style(name: str) -> Style:
    """The style of `dinov2-s14/embedded`: its family's colour, dotted for a twin that was never trained; truth's neutral for the rest."""
    dash = "dot" if untrained(name) or name == NO_ENCODER else "solid"
    return Style(ENCODER_COLORS.get(base(name), MODEL_STYLE["truth"].color), title(name), dash)


def row_styles(models: Iterable[str]) -> dict[str, dict[str, str]]:
    """The same table as a widget takes it: {"direct": {"color": …, "label": …}}."""
    return {m: {"color": style_of(m).color, "label": style_of(m).label} for m in models}


def transparent(color: str, alpha: float) -> str:
    """`#rrggbb` as `rgba(…)`, for interval bands."""
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"
