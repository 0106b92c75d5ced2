"""Camera frames of a scene as tensors, from its images or its video."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
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
        ImageDamaged: an image is missing, truncated or not an image, or the video is; the scene is named.
    """
    check_indices(scene, indices)
    read = _from_images if scene.video_path is None else _from_video
    frames = np.empty((len(indices), resolution, resolution, 3), np.uint8)
    try:
        for t, frame in read(scene, indices, resolution):
            frames[t] = frame
    except ImageDamaged as error:
        raise ImageDamaged(f"{scene.name}: {error}") from error
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


def remembering(num_kept: int = 8) -> Callable[[Scene, Sequence[int], int], torch.Tensor]:
    """A `load_frames` that keeps what it read last and gives that again: several encoders then see a scene for one decoding.

    What it gives is shared, so not to be written to; several threads may ask. Files that change meanwhile are not read again.
    """
    kept: OrderedDict[tuple, torch.Tensor] = OrderedDict()

    def load(scene: Scene, indices: Sequence[int], resolution: int) -> torch.Tensor:
        check_indices(scene, indices)
        video = scene.video_path is not None
        frames = scene.video_frames[list(indices)].tolist() if video else [scene.image_paths[i] for i in indices]
        key = (scene.video_path, tuple(frames), resolution)
        found = kept.pop(key, None)
        if found is None:
            found = load_frames(scene, indices, resolution)
        kept[key] = found
        while len(kept) > num_kept:
            kept.popitem(last=False)
        return found

    return load


def check_indices(scene: Scene, indices: Sequence[int]) -> None:
    """Raises `HorizonTooLong` if an index is outside the scene."""
    outside = [i for i in indices if not 0 <= i < len(scene)]
    if outside:
        raise HorizonTooLong(f"no frame {outside[0]} in {scene.name}: it has frames 0 to {len(scene) - 1}")


def load_image(path: Path, resolution: int) -> np.ndarray:
    """(R, R, 3) uint8; see `load_frames`."""
    try:
        with Image.open(path) as image:
            return squared(image, resolution)
    except FileNotFoundError:
        raise ImageDamaged(
            f"image {path} is missing: put it back, or run `wamlab data synth` if it is synthetic"
        ) from None
    except (OSError, SyntaxError) as error:
        raise ImageDamaged(
            f"image {path} is damaged ({error}): put it back, or run `wamlab data synth` if it is synthetic"
        ) from error


def centre_square(width: int, height: int) -> tuple[int, int, int, int]:
    """The crop (left, top, right, bottom) that makes an image square."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def squared(image: Image.Image, resolution: int) -> np.ndarray:
    """(R, R, 3) uint8: an image of any size as `load_frames` gives it."""
    square = image.convert("RGB").crop(centre_square(*image.size))
    return np.asarray(square.resize((resolution, resolution), Image.Resampling.LANCZOS))


def _from_images(scene: Scene, indices: Sequence[int], resolution: int) -> Iterator[tuple[int, np.ndarray]]:
    """(t, frame) of every index."""
    with ThreadPoolExecutor(WORKERS) as pool:  # Pillow decodes and resizes outside the interpreter lock
        yield from enumerate(pool.map(lambda i: load_image(scene.image_paths[i], resolution), indices))


def _from_video(scene: Scene, indices: Sequence[int], resolution: int) -> Iterator[tuple[int, np.ndarray]]:
    """(t, frame) of every index, in the video's order."""
    from wamlab.data.video import video_images

    wanted = sorted(set(indices))
    for i, image in zip(wanted, video_images(scene.video_path, scene.video_frames[wanted]), strict=True):
        frame = squared(image, resolution)
        yield from ((t, frame) for t, index in enumerate(indices) if index == i)
