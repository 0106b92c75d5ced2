"""Films: the futures of one drive side by side, labelled, with the actions below, as frames for an MP4 or a GIF. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wamlab.errors import InvalidShape
from wamlab.types import ACTIONS

_GAP, _BACK, _INK, _FAINT = 6, (24, 26, 29), (232, 232, 232), (90, 94, 100)
#: What each column of the actions is called on a film.
_CALLED = {"steering_rad": "steering wheel, rad", "accel_mps2": "acceleration, m/s per s", "speed_mps": "speed, m/s"}


def side_by_side(
    scene: Mapping[str, Any], styles: Mapping[str, Mapping[str, str]] | None = None, columns: int = 4
) -> np.ndarray:
    """(T, h, w, 3) uint8: each row of a scene as the `RolloutPlayer` takes it under its label, and the actions with the moment marked.

    styles: row -> {"color", "label"}. Raises `InvalidShape` if the scene has no rows, or they are not of one shape (T, H, W, 3).
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = {name: np.asarray(frames) for name, frames in scene["rows"].items()}
    shapes = {frames.shape for frames in rows.values()}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 4 or shape[3] != 3:
        raise InvalidShape(
            f"a film needs rows of one shape (T, H, W, 3), not {', '.join(map(str, sorted(shapes))) or 'none'}"
        )
    count, height, width, _ = shape
    labels = {name: (styles or {}).get(name, {}).get("label", name) for name in rows}
    fonts = (ImageFont.load_default(size) for size in range(13, 6, -1))
    font = next(
        (f for f in fonts if max(f.getlength(label) for label in labels.values()) <= width), ImageFont.load_default(7)
    )
    head = font.size + 5
    columns = min(columns, len(rows))
    places = [
        (_GAP + (i % columns) * (width + _GAP), head + _GAP + (i // columns) * (height + head + _GAP))
        for i in range(len(rows))
    ]
    bottom = places[-1][1] + height + _GAP
    times = np.asarray(scene.get("times_s", np.arange(count)), float)
    traces = _traces(scene.get("actions"), count)
    strip = (3 * font.size + _GAP) * len(traces) + head if traces else head
    size = (columns * (width + _GAP) + _GAP, bottom + strip)

    base = Image.new("RGB", size, _BACK)
    pen = ImageDraw.Draw(base)
    for (x, y), name in zip(places, rows, strict=True):
        color = (styles or {}).get(name, {}).get("color", _INK)
        pen.text((x, y - 4), labels[name], fill=color, font=font, anchor="ls")
    found = []
    for t in range(count):
        image = base.copy()
        pen = ImageDraw.Draw(image)
        for (x, y), frames in zip(places, rows.values(), strict=True):
            image.paste(Image.fromarray(frames[t]), (x, y))
        pen.text((_GAP, bottom + 2), "now" if times[t] == 0 else f"+{times[t]:.1f} s", fill=_INK, font=font)
        for k, (label, values) in enumerate(traces):
            _draw(pen, (_GAP, bottom + head + k * (3 * font.size + _GAP), size[0] - _GAP), label, values, t, font)
        found.append(np.asarray(image))
    return np.stack(found)


def _traces(actions: Any, count: int) -> list[tuple[str, np.ndarray]]:
    """Label and values (T,) of each column of (T or T - 1, A) actions; the last frame has no action of its own."""
    if actions is None:
        return []
    array = np.asarray(actions, float)[:count]
    return [(_CALLED[name], array[:, i]) for i, name in enumerate(ACTIONS[: array.shape[1]])]


def _draw(pen: Any, place: Sequence[int], label: str, values: np.ndarray, t: int, font: Any) -> None:
    """One trace from left to right, its zero faint, the moment marked with its value."""
    left, top, right = place
    low, high = min(0.0, np.nanmin(values)), max(0.0, np.nanmax(values))
    span = high - low or 1.0
    start, height = left + 13 * font.size, 2 * font.size
    x = np.linspace(start, right, len(values) + 1)

    def y(value: float) -> float:
        return top + height * (1 - (value - low) / span)

    now = min(t, len(values) - 1)
    pen.text((left, top), label, fill=_INK, font=font)
    pen.text((left, top + font.size + 1), f"{values[now]:+.2f}", fill=_INK, font=font)
    pen.line([(start, y(0)), (right, y(0))], fill=_FAINT)
    pen.line([(px, y(v)) for i, v in enumerate(values) if np.isfinite(v) for px in x[i : i + 2]], fill=_INK, width=2)
    pen.line(
        [(x[min(t, len(values))], top - 2), (x[min(t, len(values))], top + height + 2)], fill=(217, 84, 30), width=2
    )
