"""Training curves: of finished runs, and in a notebook's cell while runs go on. Reads `metrics.jsonl`, computes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.io import renderers
from plotly.subplots import make_subplots

from wamlab.plots.style import MODEL_STYLE, TEMPLATE, Style, transparent
from wamlab.training.log import read_log

#: Of runs that are called by no model's name, in their order: the palette from the colours that the fewest models of a study have.
_OTHERS = [(color, dash) for dash in ("dot", "dashdot") for color in ("#c2639b", "#d28e00", "#8c6bb1", "#12a07a")]


def training_curves(runs: Iterable[tuple[str, pd.DataFrame]], title: str = "") -> go.Figure:
    """Loss (thin as trained, with points as validated) and learning rate over the steps, of one or several runs.

    `runs` has the name of each, of a model in `MODEL_STYLE` or any other, and its table as `read_log` gives it; runs of one name, with
    other seeds, share a colour and a place in the legend.
    """
    figure = make_subplots(cols=2, column_widths=[0.72, 0.28], horizontal_spacing=0.12)
    styles: dict[str, Style] = {}
    for name, table in runs:
        first, style = name not in styles, styles.setdefault(name, _style(name, styles))
        trained, validated = table[table.loss.notna()], table[table.val_loss.notna()]
        shared = {"legendgroup": name, "name": style.label}
        line = {"color": style.color, "dash": style.dash}
        figure.add_scatter(
            x=trained.step.to_numpy(), y=trained.loss.to_numpy(), **shared, mode="lines", showlegend=False,
            line={"width": 1.2, "color": transparent(style.color, 0.55)}, hovertemplate="%{y:.4g} trained", row=1, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=validated.step.to_numpy(), y=validated.val_loss.to_numpy(), **shared, mode="lines+markers", showlegend=first,
            line={"width": 2.5, **line}, marker={"size": 6}, hovertemplate="%{y:.4g} validated", row=1, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=trained.step.to_numpy(), y=trained.lr.to_numpy(), **shared, mode="lines", showlegend=False,
            line={"width": 1.5, **line}, hovertemplate="%{y:.2e}", row=1, col=2,
        )  # fmt: skip
    figure.update_xaxes(title_text="optimizer steps", rangemode="tozero")
    figure.update_yaxes(title_text="loss ↓, log scale", type="log", row=1, col=1)
    figure.update_yaxes(title_text="learning rate", rangemode="tozero", exponentformat="power", row=1, col=2)
    note = "Thin: the batch of that step. Points: the moving average of the weights, on validation drives."
    figure.update_layout(template=TEMPLATE, title={"text": title, "subtitle": {"text": note}}, height=380)
    return figure


class LiveCurves:
    """Training curves in a notebook's cell that follow the runs as they train; what they show last stays in the page.

        with LiveCurves() as live:
            for name in ("direct", "diffusion"):
                fit_or_load(name, preset, dataset, codec, store, on_log=live)

    Called with a run's folder, as `fit` calls `on_log`, and optionally with the name to give that run: else it is the model's, taken
    from the folder's. Drawn again at most every `every_s` seconds, and once more at the end of the block. Runs shown once stay.
    """

    def __init__(self, title: str = "", every_s: float = 1.0) -> None:
        self.title, self.every_s = title, every_s
        self.runs: dict[Path, str] = {}
        self._handle: Any = None
        self._drawn_s = -float("inf")

    def __call__(self, folder: Path, name: str | None = None) -> None:
        self.runs[folder] = name or folder.name.rpartition("-")[0] or folder.name
        if time.monotonic() - self._drawn_s >= self.every_s:
            self.draw()

    def __enter__(self) -> LiveCurves:
        return self

    def __exit__(self, *_: object) -> None:
        if self.runs:
            self.draw()

    def figure(self) -> go.Figure:
        return training_curves(((name, read_log(folder)) for folder, name in self.runs.items()), self.title)

    def draw(self) -> None:
        """Display the figure, in place of the one before."""
        from IPython.display import display

        bundle = renderers["plotly_mimetype"].to_mimebundle(self.figure().to_plotly_json())
        bundle["text/plain"] = f"training curves of {', '.join(dict.fromkeys(self.runs.values()))}"
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._drawn_s = time.monotonic()


def _style(name: str, taken: dict[str, Style]) -> Style:
    others = sum(known not in MODEL_STYLE for known in taken)
    color, dash = _OTHERS[others % len(_OTHERS)]
    return MODEL_STYLE.get(name) or Style(color, name, dash)
