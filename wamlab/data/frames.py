"""Camera frames of a scene as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wamlab.errors import HorizonTooLong, ImageDamaged
from wamlab.types import Scene

WORKERS = 4


def load_frames(scene: Scene, indices: Sequence[int], resolution: int) -> torch.Tensor:
    """(T, 3, R, R) uint8: the frames centre-cropped to a square, then resized with a Lanczos filter to R = `resolution` pixels.

    Raises:
        HorizonTooLong: an index outside the scene.
        ImageDamaged: an image is missing, truncated or not an image.
    """
    outside = [i for i in indices if not 0 <= i < len(scene)]
    if outside:
        raise HorizonTooLong(f"no frame {outside[0]} in {scene.name}: it has frames 0 to {len(scene) - 1}")
    frames = np.empty((len(indices), resolution, resolution, 3), np.uint8)
    with ThreadPoolExecutor(WORKERS) as pool:  # Pillow decodes and resizes outside the interpreter lock
        for t, frame in enumerate(pool.map(lambda i: load_image(scene.image_paths[i], resolution), indices)):
            frames[t] = frame
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


def load_image(path: Path, resolution: int) -> np.ndarray:
    """(R, R, 3) uint8; see `load_frames`."""
    try:
        with Image.open(path) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            return np.asarray(square.resize((resolution, resolution), Image.Resampling.LANCZOS))
    except FileNotFoundError:
        raise ImageDamaged(
            f"image {path} is missing: put it back, or run `wamlab data synth` if it is synthetic"
        ) from None
    except (OSError, SyntaxError) as error:
        raise ImageDamaged(
            f"image {path} is damaged ({error}): put it back, or run `wamlab data synth` if it is synthetic"
        ) from error
