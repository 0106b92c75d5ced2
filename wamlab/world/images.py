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


def mask_png(mask: np.ndarray, enlarge: int = 1) -> bytes:
    """(H, W), 0 or not -> a grey PNG of 0 and 255, `enlarge` pixels for each; 2 bits a pixel, which readers widen to 8."""
    eight = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    enlarged = np.packbits(np.repeat(eight, 2 * enlarge, axis=1), axis=1)  # eight pixels in a byte -> 2 * enlarge bytes
    height, width = (n * enlarge for n in mask.shape)
    rows = enlarged[np.packbits(mask, axis=1)].reshape(len(mask), -1)[:, : -(-width // 4)]
    return _encode(np.repeat(rows, enlarge, axis=0), width, height, 2)


def png(image: np.ndarray, palette: bytes = b"") -> bytes:
    """(H, W) uint8 or uint16 -> a grey PNG, or one with a palette of RGB triples."""
    height, width = image.shape
    rows = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    return _encode(rows, width, height, 8 * image.dtype.itemsize, palette)


def _encode(rows: np.ndarray, width: int, height: int, depth: int, palette: bytes = b"") -> bytes:
    """Packed rows (H, bytes) -> a PNG, several times as fast as the image libraries write it.

    Labels and maps are mostly like the row above: PNG's filter "up" (2) makes zeros of them, which zlib's run lengths pack at once.
    """
    filtered = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY if depth == 16 else zlib.Z_RLE)
    body = packer.compress(filtered) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, 3 if palette else 0, 0, 0, 0)
    colours = chunk(b"PLTE", palette) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colours + chunk(b"IDAT", body) + chunk(b"IEND", b"")
