"""What a notebook displays so that a page can set it and a run folder can keep it: the answer, pictures, the findings, the metrics.

Each is an ordinary rich display: readable in JupyterLab, collected by the runner, set by the exporter.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wamlab import render
from wamlab.types import Finding

ANSWER_MIME = "application/vnd.wamlab.answer+json"
FINDINGS_MIME = "application/vnd.wamlab.findings+json"
METRICS_MIME = "application/vnd.wamlab.metrics+json"
TABLE_MIME = "application/vnd.wamlab.table+json"


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext wamlab.notebooks.show`, as the runner does: every DataFrame that is displayed brings all its values for the run folder."""
    formatter = shell.display_formatter.mimebundle_formatter
    for module in ("pandas.core.frame", "pandas"):  # where pandas 2 and pandas 3 say that it lives
        formatter.for_type_by_name(module, "DataFrame", _table)


def _table(frame: Any, **_: Any) -> dict[str, Any]:
    plain = list(frame.index) == list(range(len(frame)))
    table = {"csv": frame.to_csv(index=not plain)}
    if (packed := parquet(frame if plain else frame.reset_index())) is not None:
        table["parquet"] = base64.b64encode(packed).decode()
    return {TABLE_MIME: table}


def parquet(frame: Any) -> bytes | None:
    """A DataFrame's columns as Parquet; None without the `parquet` extra, and for a column that mixes types, which Parquet cannot hold."""
    try:
        from pyarrow import ArrowException
    except ImportError:  # it is not there, or is too new for this NumPy
        return None
    named = frame.set_axis([str(name) for name in frame.columns], axis=1)
    try:
        return named.to_parquet(engine="pyarrow", index=False)
    except ArrowException:
        return None


@dataclass(frozen=True)
class Answer:
    """The answer to the notebook's question in a sentence or two, written by code from what was measured (Markdown)."""

    text: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "text/plain": self.text,
            "text/markdown": f"> **Answer.** {self.text}",
            ANSWER_MIME: {"text": self.text},
        }


@dataclass(frozen=True)
class Metrics:
    """Named numbers for the run folder, each alone or with its interval, (value, low, high); shows as a small list."""

    values: Mapping[str, float | tuple[float, float, float]]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        lines = [f"{name}: {number(value)}" for name, value in self.values.items()]
        return {"text/plain": "\n".join(lines), METRICS_MIME: {k: _plain(v) for k, v in self.values.items()}}


def _plain(value: Any) -> Any:
    """As JSON: null for what is not finite."""
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class Picture:
    """(H, W, 3) uint8 pixels, shown as a JPEG, and what is on it in words for those who cannot see it."""

    pixels: np.ndarray
    description: str
    quality: int = 85

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        encoded = render.encode_image(self.pixels, "JPEG", self.quality)
        return {"text/plain": self.description, "image/jpeg": base64.b64encode(encoded).decode()}


@dataclass(frozen=True, eq=False)
class Strips:
    """Rows of small pictures that flow beside each other where there is room, each row with its name.

    rows: name -> (N, H, W, 3) uint8. captions: what each of the N is. styles: `row_styles`. note: under all of them.
    """

    rows: Mapping[str, np.ndarray]
    captions: Sequence[str]
    styles: Mapping[str, Mapping[str, str]]
    note: str = ""
    quality: int = 85

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        labels = {name: self.styles.get(name, {}).get("label", name) for name in self.rows}
        said = f"{', '.join(self.captions)} of {', '.join(labels.values())}. {self.note}".strip()
        if not self.rows:
            return {"text/plain": "no pictures", "text/html": '<p class="empty">No pictures.</p>'}
        sheet = render.encode_image(
            render.tile(np.concatenate(list(self.rows.values())), len(self.captions)), "JPEG", self.quality
        )
        body = "".join(self._row(name, labels[name]) for name in self.rows)
        grid = "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:.9rem 1.4rem"
        note = (
            f'<p style="margin:.7rem 0 0;font-size:.9em;opacity:.75">{html.escape(self.note)}</p>' if self.note else ""
        )
        return {
            "text/plain": said,
            "text/html": f'<div style="{grid}">{body}</div>{note}',
            "image/jpeg": base64.b64encode(sheet).decode(),
        }

    def _row(self, name: str, label: str) -> str:
        color = html.escape(self.styles.get(name, {}).get("color", "currentColor"))
        cells = "".join(
            f'<div><img alt="{html.escape(f"{label}, {caption}")}" style="width:100%;border-radius:4px;display:block" '
            f'src="data:image/jpeg;base64,{base64.b64encode(render.encode_image(frame, "JPEG", self.quality)).decode()}">'
            f'<span style="opacity:.75">{html.escape(caption)}</span></div>'
            for frame, caption in zip(self.rows[name], self.captions, strict=True)
        )
        grid = f"display:grid;grid-template-columns:repeat({len(self.captions)},1fr);gap:.3rem;text-align:center;font-size:.8em"
        head = f'<span style="color:{color}">■</span> {html.escape(label)}'
        return (
            f'<div><div style="margin:0 0 .2rem;font-size:.95em;font-weight:600">{head}</div>'
            f'<div style="{grid}">{cells}</div></div>'
        )


@dataclass(frozen=True, eq=False)
class Film:
    """(T, H, W, 3) uint8 frames as a film to play, and for the run folder as MP4 and GIF; and what is on it in words."""

    frames: np.ndarray
    description: str
    fps: float = 2.0

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        mp4, gif = (base64.b64encode(render.encode_film(self.frames, kind, self.fps)).decode() for kind in render.FILMS)
        width = self.frames.shape[2]
        video = (
            f'<video controls loop muted playsinline style="width:100%;max-width:{width}px" '
            f'aria-label="{html.escape(self.description)}" src="data:video/mp4;base64,{mp4}"></video>'
        )
        return {"text/plain": self.description, "text/html": video, "video/mp4": mp4, "image/gif": gif}


class Findings(tuple):
    """A tuple of `Finding`s that displays as one table: claim, paper, measured with its interval, verdict."""

    def __new__(cls, findings: Iterable[Finding]) -> Findings:
        return super().__new__(cls, findings)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        rows = [dataclasses.asdict(f) for f in self]
        return {"text/plain": self._text(), "text/html": self._html(), FINDINGS_MIME: rows}

    def _text(self) -> str:
        return "\n".join(f"{f.verdict}: {f.claim} {measured(f)} ({f.measured_on})" for f in self) or "no findings"

    def _html(self) -> str:
        if not self:
            return '<p class="empty">Nothing was measured.</p>'
        rows = "".join(
            f'<tr><td class="claim">{html.escape(f.claim)}</td><td data-label="In the paper: ">{html.escape(f.paper)}</td>'
            f'<td data-label="Here: ">{html.escape(measured(f))}</td>'
            f'<td><span class="verdict {html.escape(f.verdict.replace(" ", "-"))}">{html.escape(f.verdict)}</span></td></tr>'
            for f in self
        )
        on = html.escape("; ".join(dict.fromkeys(f.measured_on for f in self)))
        head = "<tr><th>Claim</th><th>In the paper</th><th>Measured here [95 % interval]</th><th>Verdict</th></tr>"
        note = f"<p class='note'>{on}.</p>"
        return f'<table class="findings"><thead>{head}</thead><tbody>{rows}</tbody></table>{note}'


def measured(f: Finding) -> str:
    """`0.21 [0.18, 0.24] dB`"""
    if f.measured is None:
        return "not measured"
    return number((f.measured, *f.interval)) + (f" {f.unit}" if f.unit else "")


def number(value: Any) -> str:
    """`0.21`, or `0.21 [0.18, 0.24]` of a value with its interval; what is not finite is n/a."""
    if isinstance(value, Sequence):
        middle, low, high = map(number, value)
        return f"{middle} [{low}, {high}]"
    return f"{value:.3g}".replace("-", "−") if value is not None and math.isfinite(value) else "n/a"
