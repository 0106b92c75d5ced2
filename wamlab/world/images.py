"""Images as the bytes of their files: JPEG for pictures, PNG for labels, depth and maps. No files, and no drawing."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from wamlab.world.primitives import SEMANTIC_COLOURS, Semantic

JPEG_QUALITY = 85
FARTHEST_M = 655.35  # what 16 bits of centimetres hold
_STRIP_BYTES = 1 << 18  # of an image that are packed at once: they fit the processor's cache
_PALETTE = bytes(channel for kind in Semantic for channel in SEMANTIC_COLOURS[kind])


def jpeg(frame: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB -> a JPEG of `JPEG_QUALITY`."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def semantic_png(labels: np.ndarray) -> bytes:
    """(H, W) uint8 of `Semantic` -> an 8-bit PNG of the class ids, with the classes' colours as its palette."""
    return png(labels, palette=_PALETTE)


def depth_png(depth_m: np.ndarray) -> bytes:
    """(H, W) metres -> a 16-bit PNG in centimetres; 0 for the sky (inf) and whatever is beyond `FARTHEST_M`."""
    return png(np.where(depth_m < FARTHEST_M, np.round(100 * depth_m), 0).astype(np.uint16))


def png(image: np.ndarray, palette: bytes = b"") -> bytes:
    """(H, W) uint8 or uint16 -> a PNG, several times as fast as the image libraries write it.

    Labels and maps are mostly like the row above: PNG's filter "up" (2) makes zeros of them, which zlib's run lengths pack at once.
    """
    depth = 8 * image.dtype.itemsize
    rows = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).view(np.uint8)
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE if depth == 8 else zlib.Z_DEFAULT_STRATEGY)
    step, packed = max(1, _STRIP_BYTES // rows.shape[1]), []
    strip = np.full((step, rows.shape[1] + 1), 2, np.uint8)
    for first in range(0, len(rows), step):
        here = rows[first : first + step]
        filtered = strip[: len(here)]
        np.subtract(here[1:], here[:-1], out=filtered[1:, 1:])
        filtered[0, 1:] = here[0] - rows[first - 1] if first else here[0]
        packed.append(packer.compress(filtered))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], depth, 3 if palette else 0, 0, 0, 0)
    colours = chunk(b"PLTE", palette) if palette else b""
    body = chunk(b"IDAT", b"".join([*packed, packer.flush()]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colours + body + chunk(b"IEND", b"")
