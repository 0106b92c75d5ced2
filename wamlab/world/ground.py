"""The ground: which road a point lies on, and what is painted there. Analytic, so markings stay sharp and antialiased at any distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wamlab.world.primitives import Semantic
from wamlab.world.road import CELL_M, SPACING_M, RoadMap

_PAINT = (0.62, 0.62, 0.6)
_YELLOW = (0.62, 0.42, 0.06)
_STYLES = {"double": 0, "solid": 1, "dashed": 2}
_KERB_RADIUS_M = 5.0


@dataclass(frozen=True)
class Ground:
    """A `RoadMap` as tensors: the lookup grid, the samples of all centrelines, and a table of road properties."""

    cells: Tensor  # (rows, columns, 2, 2): road, and sample in `samples`; road -1 for none
    samples: Tensor  # (N, 5): x, y, cos, sin, curvature
    first: Tensor  # (R,) first sample of each road
    last: Tensor
    roads: Tensor  # (R, 6): half width, lanes, lane width, parking, pavement, style
    crossings: Tensor  # (R, K, 2): s and half-extent, padded far away
    noise: Tensor  # (256, 256) periodic, mean 0, deviation 1
    verge: Tensor  # (3,) colour beyond the pavement
    paved: float  # share of the verge that is paved


def noise_tile(seed: int = 7, size: int = 256, slope: float = 1.0) -> np.ndarray:
    """(size, size) periodic noise with a 1/f spectrum, mean 0, deviation 1."""
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    f[0, 0] = np.inf
    tile = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) / f**slope).real
    return (tile - tile.mean()) / tile.std()


def make_ground(road_map: RoadMap, rng: np.random.Generator, device: torch.device | str = "cpu") -> Ground:
    roads = road_map.roads
    first = np.cumsum([0] + [len(r.points) for r in roads])
    road, sample = road_map.lookup
    cells = np.stack([road, sample + first[np.maximum(road, 0)]], -1)
    samples = np.concatenate(
        [np.column_stack([r.points, np.cos(r.heading), np.sin(r.heading), r.curvature]) for r in roads]
    )
    table = [[r.half_width_m, r.lanes, r.lane_m, r.parking_m, r.pavement_m, _STYLES[r.centre]] for r in roads]
    k = max(1, max(len(r.crossings) for r in roads))
    crossings = np.full((len(roads), k, 2), (-1e5, 0.0))
    for i, r in enumerate(roads):
        crossings[i, : len(r.crossings)] = r.crossings
    verge = {
        "urban": (0.2, 0.19, 0.175),
        "suburban": (0.10, 0.16, 0.04),
        "rural": (0.11, 0.15, 0.04) if rng.random() < 0.6 else (0.2, 0.165, 0.07),
    }[road_map.place]

    def tensor(a: object, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(np.asarray(a), dtype=dtype, device=device)

    return Ground(
        tensor(cells, torch.int64), tensor(samples), tensor(first[:-1], torch.int64), tensor(first[1:] - 1, torch.int64), tensor(table),
        tensor(crossings), tensor(noise_tile()), tensor(np.array(verge) * rng.uniform(0.85, 1.15)), float(road_map.place == "urban"),
    )  # fmt: skip


def noise(tile: Tensor, x: Tensor, y: Tensor, cell_m: float) -> Tensor:
    """Bilinear lookup of periodic noise; one texel is `cell_m` metres."""
    n = tile.shape[0]
    x, y = x / cell_m, y / cell_m
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    xi, yi = x0.long() & (n - 1), y0.long() & (n - 1)
    xj, yj = (xi + 1) & (n - 1), (yi + 1) & (n - 1)
    flat = tile.reshape(-1)
    low = torch.lerp(flat.index_select(0, yi * n + xi), flat.index_select(0, yi * n + xj), fx)
    high = torch.lerp(flat.index_select(0, yj * n + xi), flat.index_select(0, yj * n + xj), fx)
    return torch.lerp(low, high, fy)


def line(x: Tensor, width: Tensor | float, footprint: Tensor) -> Tensor:
    """Share of a pixel's footprint, centred at distance x, that a line of this width covers: (0..1)."""
    half, f = width / 2, footprint / 2
    return (torch.minimum(x + f, x.new_tensor(half)) - torch.maximum(x - f, x.new_tensor(-half))).clamp(
        min=0
    ) / footprint


def dashes(x: Tensor, period: float, on: float, footprint: Tensor) -> Tensor:
    """Share of the footprint covered by dashes of length `on` repeated with this period."""

    def integral(v: Tensor) -> Tensor:
        whole = torch.floor(v / period)
        return whole * on + (v - whole * period).clamp(max=on)

    return (integral(x + footprint / 2) - integral(x - footprint / 2)) / footprint


def road_coordinates(g: Ground, x: Tensor, y: Tensor, choice: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Points (P,) and their (P, 2) lookup (road, sample) -> road, s, d, and the cosine and sine of the road's direction there."""
    road, i = choice[:, 0].clamp(min=0), choice[:, 1]
    first, last = g.first[road], g.last[road]
    for _ in range(2):
        px, py, c, s, kappa = g.samples.index_select(0, i).unbind(1)
        dx, dy = x - px, y - py
        along, aside = dx * c + dy * s, dy * c - dx * s
        step = torch.round(along / (1 - kappa * aside).clamp(min=0.3) / SPACING_M).long()
        i = torch.minimum(torch.maximum(i + step, first), last)
    px, py, c, s, kappa = g.samples.index_select(0, i).unbind(1)
    dx, dy = x - px, y - py
    along, aside = dx * c + dy * s, dy * c - dx * s
    return (
        road,
        (i - first) * SPACING_M + along / (1 - kappa * aside).clamp(min=0.3),
        aside - kappa * along * along / 2,
        c,
        s,
    )


def surface(
    g: Ground, x: Tensor, y: Tensor, across: Tensor, along: Tensor, ex: Tensor, ey: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What the ground is made of at points (P,).

    Args:
        x, y: metres. across, along: size of the pixel's footprint at right angles to and along the view direction (ex, ey), metres.

    Returns:
        albedo (P, 3), semantic class (P,), asphalt (P,): 1 on a carriageway.
    """
    rows, columns = g.cells.shape[:2]
    cy, cx = (y / CELL_M).long().clamp(0, rows - 1), (x / CELL_M).long().clamp(0, columns - 1)
    cell = g.cells.reshape(-1, 2, 2).index_select(0, cy * columns + cx)
    road, s, d, c, sn = road_coordinates(g, x, y, cell[:, 0])
    half, lanes, lane_m, parking, pavement, style = g.roads.index_select(0, road).unbind(1)
    cos, sin = (ex * c + ey * sn).abs(), (ey * c - ex * sn).abs()
    f_d = torch.hypot(across * cos, along * sin)  # footprint across the road
    f_s = torch.hypot(across * sin, along * cos)
    kerb = d.abs() - half  # signed distance to the kerb

    second = torch.nonzero(cell[:, 1, 0] >= 0)[:, 0]
    if len(second):
        road2, _, d2, _, _ = road_coordinates(g, x[second], y[second], cell[second, 1])
        a, b = kerb[second], d2.abs() - g.roads[road2, 0]
        r = _KERB_RADIUS_M
        blend = torch.hypot((a - r).clamp(max=0), (b - r).clamp(max=0))  # circular fillet where both are within r
        kerb = kerb.index_copy(0, second, torch.where((a < r) & (b < r), r - blend, torch.minimum(a, b)))

    gap = (s[:, None] - g.crossings[road, :, 0]).abs() - g.crossings[road, :, 1]
    gap, which = gap.min(1)  # metres to the nearest crossing's mouth, negative inside
    open_road = (gap > 0.0) & (d.abs() < half)

    # paint: centre, lane dividers, edges, zebra, stop line
    ad = d.abs()
    yellow = torch.where(style == 0, line(ad - 0.16, 0.12, f_d), line(d, 0.14, f_d))
    yellow = yellow * torch.where(style == 2, dashes(s, 9.0, 3.0, f_s), torch.ones_like(s))
    yellow = yellow * (gap > 5.6)
    nearest_divider = torch.round(ad / lane_m).clamp(min=1)
    divider = line(ad - nearest_divider * lane_m, 0.13, f_d) * (nearest_divider < lanes) * dashes(s, 9.0, 3.0, f_s)
    edge = line(ad - lanes * lane_m, 0.13, f_d) * (parking <= 0)
    white = torch.maximum(divider, edge) * (gap > 5.6)
    has_crossing = (g.crossings[road, which, 0] > -1e4) & (pavement > 0)
    zebra = dashes(d + 40.0, 1.0, 0.5, f_d) * line(gap - 2.6, 2.6, f_s)
    side_in = torch.where(s > g.crossings[road, which, 0], -d, d)  # approaching lanes, for right-hand traffic
    stop = line(gap - 5.2, 0.4, f_s) * (side_in < -0.1) * (ad < lanes * lane_m)
    white = torch.maximum(white, torch.maximum(zebra * (ad < half - 0.2), stop) * has_crossing)
    white, yellow = white * open_road, yellow * open_road

    # asphalt: grain, worn patches, darker wheel tracks
    fine = noise(g.noise, x, y, 0.06) * (0.06 / across).clamp(max=1)
    coarse = noise(g.noise, x, y, 1.3) * (2.6 / along).clamp(max=1)
    in_lane = torch.remainder(ad, lane_m) / lane_m - 0.5
    tracks = torch.exp(-(((in_lane.abs() - 0.24) / 0.1) ** 2)) * (lane_m / 8 / f_d).clamp(max=1)
    base = 0.085 + 0.012 * coarse + 0.01 * fine - 0.01 * tracks
    albedo = base[:, None] * base.new_tensor([1.0, 1.0, 1.03])
    worn = (0.85 + 0.1 * coarse).clamp(0.5, 1)
    albedo = torch.lerp(albedo, albedo.new_tensor(_PAINT).expand_as(albedo), (white * worn)[:, None])
    albedo = torch.lerp(albedo, albedo.new_tensor(_YELLOW).expand_as(albedo), (yellow * worn)[:, None])

    # kerb, pavement, verge; each edge blended over the footprint
    def beyond(distance: Tensor) -> Tensor:
        return ((kerb - distance) / f_d + 0.5).clamp(0, 1)[:, None]

    slab = torch.maximum(dashes(s, 1.5, 0.05, f_s), line(torch.remainder(kerb, 1.5) - 0.75, 0.05, f_d))
    stone = (0.30 + 0.02 * coarse + 0.012 * fine - 0.07 * slab)[:, None] * albedo.new_tensor([1.0, 0.98, 0.94])
    grass = g.verge * (1 + 0.18 * coarse + 0.25 * noise(g.noise, x, y, 0.21) * (0.4 / along).clamp(max=1))[:, None]
    grass = torch.lerp(grass, stone * 0.8, g.paved)
    walk = pavement > 0
    shoulder = torch.where(walk[:, None], stone, albedo.new_tensor([0.16, 0.145, 0.12]) * (1 + 0.1 * fine)[:, None])
    albedo = torch.lerp(
        albedo,
        torch.where(walk[:, None], albedo.new_tensor([0.42, 0.41, 0.4]).expand_as(albedo), shoulder),
        beyond(0.0),
    )
    albedo = torch.lerp(albedo, shoulder, beyond(0.18))
    albedo = torch.lerp(albedo, grass, beyond(torch.where(walk, pavement, torch.full_like(pavement, 0.8))))

    semantic = torch.full_like(road, int(Semantic.ROAD))
    semantic[(white + yellow) > 0.5] = int(Semantic.MARKING)
    semantic[kerb > 0] = int(Semantic.PAVEMENT)
    semantic[kerb > torch.where(walk, pavement, torch.zeros_like(pavement))] = int(Semantic.TERRAIN)
    return albedo.clamp(min=0.01), semantic, (kerb < 0).float()
