"""What the world knows of its images, pixel by pixel: semantic classes and depth, cropped like the frames. Reads, and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from wamlab.data.frames import centre_square, check_indices
from wamlab.errors import ImageDamaged, LabelsMissing
from wamlab.types import Scene

#: Depth is stored in centimetres, as 16 bits; the sky, and what is too far for them, has none.
DEPTH_UNIT_M, NO_DEPTH = 0.01, 0
#: What writes each kind.
COMMANDS = {"semantic": "`wamlab data synth`", "depth": "`wamlab data synth --depth`"}


def load_semantic(scene: Scene, indices: Sequence[int], resolution: int) -> np.ndarray:
    """(T, R, R) uint8 class ids of the frames, cropped as `load_frames` crops them; each pixel is that of the nearest stored one.

    Raises:
        HorizonTooLong: an index outside the scene.
        LabelsMissing: the dataset has no semantic maps.
        ImageDamaged: a map is damaged.
    """
    return _load(scene, indices, resolution, "semantic", ("P", "L")).astype(np.uint8)


def load_depth(scene: Scene, indices: Sequence[int], resolution: int) -> np.ndarray:
    """(T, R, R) float32 metres along the camera's axis, infinite for the sky and beyond 655 m; otherwise as `load_semantic`."""
    depth = _load(scene, indices, resolution, "depth", ("I;16", "I"))
    return np.where(depth == NO_DEPTH, np.inf, depth * DEPTH_UNIT_M).astype(np.float32)


def _load(scene: Scene, indices: Sequence[int], resolution: int, kind: str, modes: tuple[str, ...]) -> np.ndarray:
    """(T, R, R) values of `labels/<kind>/<channel>/<image>.png`."""
    check_indices(scene, indices)
    if not scene.image_paths:
        raise LabelsMissing(
            f"{scene.name} was recorded, so it has no {kind} labels: choose a scene of the synthetic dataset"
        )
    paths = [_label_path(scene.image_paths[i], kind) for i in indices]
    maps = [_squared(_read(path, scene.name, kind, modes), resolution) for path in paths]
    return np.array(maps).reshape(len(indices), resolution, resolution)


def _label_path(image: Path, kind: str) -> Path:
    """Beside `<root>/samples/<channel>/<stem>.jpg`."""
    root, channel = image.parents[2], image.parent.name
    return root / "labels" / kind / channel / f"{image.stem}.png"


def _read(path: Path, name: str, kind: str, modes: tuple[str, ...]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise ImageDamaged(f"{name}: {path} is no {kind} map, its mode is {image.mode} and not {modes[0]}")
            return np.asarray(image)
    except FileNotFoundError:
        raise LabelsMissing(
            f"{name} has no {kind} labels, no file {path}: only a synthetic dataset has them, and {COMMANDS[kind]} writes one"
        ) from None
    except (OSError, SyntaxError) as error:
        raise ImageDamaged(f"{name}: {kind} map {path} is damaged ({error}): run {COMMANDS[kind]} again") from error


def _squared(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """(R, R) of (H, W): the pixels whose areas hold the centres of the new ones."""
    left, top, right, bottom = centre_square(pixels.shape[1], pixels.shape[0])
    nearest = (2 * np.arange(resolution) + 1) * (right - left) // (2 * resolution)
    return pixels[top:bottom, left:right][np.ix_(nearest, nearest)]
