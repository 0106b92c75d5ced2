"""Patterns at points: noise, antialiased lines and dashes, and small helpers on (P,) tensors. Nothing here knows of roads or cars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

_TILE = 256  # texels a side of the noise that `noise` reads
_SIZE, _LEVELS = 512, 8  # texels a side of the finest level of a `Pyramid`, and its levels


@lru_cache(maxsize=4)
def noise_tile(seed: int = 7, size: int = _TILE, slope: float = 1.0) -> np.ndarray:
    """(size, size) periodic noise with a 1/f^slope spectrum, mean 0, deviation 1."""
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.rfftfreq(size), np.fft.fftfreq(size)))
    f[0, 0] = np.inf
    tile = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32)) / f**slope, (size, size))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


@dataclass(frozen=True)
class Pyramid:
    """A periodic texture of C channels at halving resolutions, one after the other: `texels` (C, N); the finest texel is `texel_m` wide."""

    texels: Tensor
    texel_m: float

    def at(self, x: Tensor, y: Tensor, footprint: Tensor) -> Tensor:
        """(C, P) nearest texels at points (P,), from the level whose texels are about as large as the footprint (P,), metres."""
        level = torch.log2(footprint * (1 / self.texel_m)).round_().clamp_(0, _LEVELS - 1)
        size = torch.exp2(level.neg_()).mul_(_SIZE)  # texels a side
        per_m = size * (1 / (self.texel_m * _SIZE))
        edge = size.int()
        mask = edge - 1
        row, column = (y * per_m).floor_().int() & mask, (x * per_m).floor_().int() & mask
        start = (_SIZE * _SIZE - size * size).mul_(4 / 3).round_().int()  # all finer levels
        return self.texels.index_select(1, start + row * edge + column)


@lru_cache(maxsize=1)
def _asphalt_and_turf() -> np.ndarray:
    """(2, N): asphalt with grain, repairs and cracks; and the mottle of grass and soil. Both about -1..1, mean 0, all levels."""
    rng = np.random.default_rng(11)
    grain = 0.75 * rng.standard_normal((_SIZE, _SIZE), dtype=np.float32) + 0.55 * noise_tile(3, _SIZE, 0.8)
    patches, cracks = np.zeros((2, _SIZE, _SIZE), np.float32)
    for _ in range(7):  # repairs: rectangles of another tone, with a dark seam around
        corner, size = rng.integers(0, _SIZE - 140, 2), rng.integers(30, 140, 2)
        low, high = tuple(map(int, corner)), tuple(map(int, corner + size))
        cv2.rectangle(patches, low, high, float(rng.uniform(-0.9, 0.6)), -1)
        cv2.rectangle(cracks, low, high, 1.0, 1, cv2.LINE_AA)
    for _ in range(14):  # cracks wander
        steps = rng.normal(0, 5, (60, 2)) + rng.normal(0, 4, 2)
        path = rng.uniform(0, _SIZE, 2) + np.cumsum(steps, 0)
        for shift in np.stack(np.meshgrid((-_SIZE, 0, _SIZE), (-_SIZE, 0, _SIZE)), -1).reshape(-1, 2):
            points = np.round((path + shift) * 16).astype(np.int32)[:, None]
            cv2.polylines(cracks, [points], False, 1.0, 1, cv2.LINE_AA, 4)
    asphalt = grain + 1.2 * patches - 2.2 * cracks
    turf = 0.7 * rng.standard_normal((_SIZE, _SIZE), dtype=np.float32) + noise_tile(5, _SIZE, 1.1)
    levels, level = [], np.stack([asphalt - asphalt.mean(), turf])
    for _ in range(_LEVELS):
        levels.append(level.reshape(2, -1))
        level = level.reshape(2, len(level[0]) // 2, 2, -1, 2).mean((2, 4))
    return np.concatenate(levels, 1)


def ground_textures(device: torch.device | str = "cpu") -> Pyramid:
    """Two channels: asphalt; grass and soil."""
    return Pyramid(torch.as_tensor(_asphalt_and_turf(), device=device), 0.03)


def noise(tile: Tensor, x: Tensor, y: Tensor, cell_m: float) -> Tensor:
    """Bilinear lookup of a flat periodic (256 * 256,) tile at points (P,); one texel is `cell_m` metres."""
    x, y = x * (1 / cell_m), y * (1 / cell_m)
    x0, y0 = x.floor(), y.floor()
    fx, fy = x.sub_(x0), y.sub_(y0)
    xi, row = x0.int() & (_TILE - 1), (y0.int() & (_TILE - 1)) * _TILE
    xj, next_row = (xi + 1) & (_TILE - 1), (row + _TILE) & (_TILE * _TILE - 1)
    low = torch.lerp(tile.index_select(0, row + xi), tile.index_select(0, row + xj), fx)
    high = torch.lerp(tile.index_select(0, next_row + xi), tile.index_select(0, next_row + xj), fx)
    return torch.lerp(low, high, fy)


def line(x: Tensor, width: float, footprint: Tensor) -> Tensor:
    """Share of a pixel's footprint, centred at distance x, that a line of this width covers: (0..1)."""
    half, f = width / 2, footprint / 2
    return ((x + f).clamp(max=half) - (x - f).clamp(min=-half)).clamp(min=0) / footprint


def dashes(x: Tensor, period: float, on: float | Tensor, footprint: Tensor) -> Tensor:
    """Share of the footprint covered by dashes of length `on` repeated with this period."""
    half, x = footprint * (0.5 / period), x * (1 / period)
    high, low = x + half, x - half
    share, top, bottom = on / period, high.floor(), low.floor()
    covered = (top - bottom).mul_(share) + high.sub_(top).clamp_(max=share) - low.sub_(bottom).clamp_(max=share)
    return covered / half.mul_(2)


def norm(a: Tensor, b: Tensor) -> Tensor:
    """Length of (a, b); torch.hypot is several times slower."""
    return torch.addcmul(a * a, b, b).sqrt_()


def wrap(x: Tensor, period: Tensor | float) -> Tensor:
    """x modulo the period."""
    return x - torch.floor(x / period) * period


def take(index: Tensor, *values: Tensor) -> list[Tensor]:
    """The given columns (last axis) of each value; `v[..., index]` is many times slower."""
    return [v.index_select(-1, index) for v in values]


def mix(a: Tensor | tuple, b: Tensor | tuple, share: Tensor) -> Tensor:
    """(3, P) blend of two colours, each (3, P), (3, 1) or three numbers."""
    a, b = (c if isinstance(c, Tensor) else share.new_tensor(c)[:, None] for c in (a, b))
    return torch.lerp(a, b, share)
