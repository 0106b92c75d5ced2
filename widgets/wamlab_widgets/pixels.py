"""What a model drew, as bytes that can be shown: its shape checked, and its NaN made visible."""

from __future__ import annotations

from typing import Any

import numpy as np

from wamlab import render
from wamlab.errors import InvalidShape

#: What a pixel that is no number is painted in.
MAGENTA = (255, 0, 255)


def shown(frames: Any, shape: tuple[int, ...], who: str) -> tuple[np.ndarray, str]:
    """Frames of a model -> uint8 (..., H, W, 3), and what there is to say about them ('' if nothing).

    Args:
        frames: of `shape`, array or tensor; uint8, or float in [-1, 1].
        who: named in the error.

    Raises `InvalidShape`.
    """
    array = np.asarray(frames.cpu() if hasattr(frames, "cpu") else frames)
    if array.shape != shape or (array.dtype != np.uint8 and array.dtype.kind != "f"):
        raise InvalidShape(
            f"{who} gave frames {array.shape} {array.dtype}; they must be {shape}, uint8 or float in [-1, 1]"
        )
    if array.dtype == np.uint8:
        return array, ""
    import torch

    broken = ~np.isfinite(array).all(-1)
    levels = render.to_uint8(torch.as_tensor(np.where(broken[..., None], 0, array), dtype=torch.float32)).numpy()
    levels[broken] = MAGENTA
    return levels, f"{broken.mean():.2%} of the pixels are NaN or infinite: painted magenta" if broken.any() else ""


def colours(components: Any, count: int, who: str) -> tuple[np.ndarray, str]:
    """`count` small pictures of a model's latents, (count, h, w, 3) of any size, as `shown`. Raises `InvalidShape`."""
    shape = tuple(np.shape(components))
    if len(shape) != 4 or shape[0] != count or shape[3] != 3:
        raise InvalidShape(
            f"{who} gave components {shape}; they must be ({count}, h, w, 3), those of the present first"
        )
    return shown(components, shape, f"the components of {who}")


def rmse(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square difference of (T, H, W, 3) uint8 frames, in levels of 0..255: (T,)."""
    return np.sqrt(np.square(frames.astype(np.float32) - truth).mean((1, 2, 3)))
