"""Contact sheets: many frames as one labelled picture. Computes nothing about what the frames show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wamlab import render
from wamlab.errors import InvalidShape

GAP_PX = 3


def contact_sheet(frames: np.ndarray, labels: Sequence[str] = (), columns: int = 4) -> np.ndarray:
    """(N, H, W, 3) uint8 frames, row by row with a thin gap, as one (h, w, 3) picture; each label stands in its frame's lower left corner.

    Raises `InvalidShape` for frames of another shape or a number of labels that is neither none nor N.
    """
    from PIL import Image, ImageDraw, ImageFont

    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise InvalidShape(f"frames must be (N, H, W, 3) uint8 with N > 0, not {frames.shape} {frames.dtype}")
    if labels and len(labels) != len(frames):
        raise InvalidShape(f"{len(labels)} labels for {len(frames)} frames: give one for each, or none")
    height = frames.shape[1]
    font = ImageFont.load_default(max(10, height // 11))
    drawn = []
    for k, frame in enumerate(frames):
        image = Image.fromarray(frame)
        if labels and labels[k]:
            pen = ImageDraw.Draw(image, "RGBA")
            left, top, right, bottom = pen.textbbox((6, height - 5), labels[k], font=font, anchor="lb")
            pen.rectangle((left - 4, top - 2, right + 4, bottom + 2), fill=(0, 0, 0, 150))
            pen.text((6, height - 5), labels[k], font=font, anchor="lb", fill=(255, 255, 255))
        drawn.append(np.asarray(image))
    padded = np.pad(np.stack(drawn), ((0, 0), (0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255)
    return np.ascontiguousarray(render.tile(padded, columns)[:-GAP_PX, :-GAP_PX])
