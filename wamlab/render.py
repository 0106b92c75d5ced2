"""Tensor -> uint8 -> image bytes. The only place where pixel ranges convert: bytes 0..255 on one side, floats -1..1 on the other."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wamlab.errors import InvalidParameter, InvalidShape

if TYPE_CHECKING:
    from torch import Tensor

#: WebP cannot be wider or higher than this many pixels.
WEBP_LIMIT_PX = 16383
FORMATS = ("JPEG", "PNG", "WEBP")
FILMS = ("MP4", "GIF")


def to_model(frames: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1], any shape."""
    return frames.float().div_(127.5).sub_(1.0)


def to_uint8(frames: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8 0..255, any shape; values outside are clamped, so `to_uint8(to_model(x)) == x`."""
    import torch

    return frames.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_hwc(frames: Tensor | np.ndarray) -> np.ndarray:
    """(..., 3, H, W) uint8 tensor or array -> (..., H, W, 3) uint8 array."""
    array = frames if isinstance(frames, np.ndarray) else frames.cpu().numpy()
    if array.ndim < 3 or array.shape[-3] != 3 or array.dtype != np.uint8:
        raise InvalidShape(f"frames must be (..., 3, H, W) uint8, not {tuple(array.shape)} {array.dtype}")
    return np.ascontiguousarray(np.moveaxis(array, -3, -1))


def encode_image(frame: np.ndarray, format: str = "JPEG", quality: int = 85) -> bytes:
    """One (H, W, 3) uint8 frame as the bytes of an image file; `format` is one of `FORMATS`."""
    from PIL import Image

    if format.upper() not in FORMATS:
        raise InvalidParameter(f"no image format {format!r}; known: {', '.join(FORMATS)}")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise InvalidShape(f"a frame must be (H, W, 3) uint8, not {tuple(frame.shape)} {frame.dtype}")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(buffer, format=format.upper(), quality=quality)
    return buffer.getvalue()


def save_image(path: Path | str, frame: np.ndarray, quality: int = 85) -> Path:
    """Write one (H, W, 3) uint8 frame in the format of the file's ending, aside and then renamed.

    Raises `InvalidParameter` for an ending that is no image format.
    """
    path = Path(path)
    content = encode_image(frame, {"JPG": "JPEG"}.get(kind := path.suffix[1:].upper(), kind), quality)
    return _write(path, content)


def tile(frames: np.ndarray, columns: int | None = None) -> np.ndarray:
    """(T, H, W, 3) frames side by side, row by row: one (rows * H, columns * W, 3) picture, black where T does not fill it."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise InvalidShape(f"frames must be (T, H, W, 3) uint8 with T > 0, not {tuple(frames.shape)} {frames.dtype}")
    count, height, width, _ = frames.shape
    columns = min(count, columns or count)
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, height, width, 3), np.uint8)
    padded[:count] = frames
    grid = padded.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, 3)


def strip(frames: np.ndarray, quality: int = 80, format: str = "WEBP") -> bytes:
    """(T, H, W, 3) frames as one image: a single row, or several full ones where the row would be wider than WebP allows.

    A reader finds frame t at column `t % columns` and row `t // columns`, with `columns = image width // W`.
    """
    if frames.ndim == 4 and frames.shape[2] > WEBP_LIMIT_PX:
        raise InvalidShape(f"a frame {frames.shape[2]} pixels wide does not fit a WebP image (at most {WEBP_LIMIT_PX})")
    columns = WEBP_LIMIT_PX // max(1, frames.shape[2]) if frames.ndim == 4 else None
    return encode_image(tile(frames, columns), format, quality)


def encode_film(frames: np.ndarray, format: str = "MP4", fps: float = 2.0) -> bytes:
    """(T, H, W, 3) uint8 frames as the bytes of a film; `format` is one of `FILMS`.

    MP4: H.264 where the encoder is built in and MPEG-4 otherwise; both need even sides, so an odd last row or column is repeated.
    The same frames may give other bytes: the encoder fills its last blocks with what is in memory. A GIF of them does not.
    GIF: 256 colours for each frame, repeated for ever; neighbours that are alike are one that is shown longer.
    Raises `InvalidShape`, `InvalidParameter` for another format or a rate that is not above 0.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise InvalidShape(f"frames must be (T, H, W, 3) uint8 with T > 0, not {tuple(frames.shape)} {frames.dtype}")
    if format.upper() not in FILMS or not fps > 0:
        raise InvalidParameter(
            f"a film is one of {', '.join(FILMS)} at more than 0 frames a second, not {format!r} at {fps:g}"
        )
    return (_mp4 if format.upper() == "MP4" else _gif)(np.ascontiguousarray(frames), fps)


def _mp4(frames: np.ndarray, fps: float) -> bytes:
    from fractions import Fraction

    import av

    height, width = frames.shape[1:3]
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18"} if codec == "libx264" else {"qscale": "3"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _gif(frames: np.ndarray, fps: float) -> bytes:
    from PIL import Image

    first, *rest = (Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def save_film(path: Path | str, frames: np.ndarray, fps: float = 2.0) -> Path:
    """Write (T, H, W, 3) uint8 frames as a film of the kind that the file's ending says, aside and then renamed. As `encode_film`."""
    path = Path(path)
    return _write(path, encode_film(frames, path.suffix[1:], fps))


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(content)
    return aside.replace(path)
