"""The ground: which road a point lies on, and what is painted there. Analytic, so markings stay sharp and antialiased at any distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wamlab.world.primitives import Semantic
from wamlab.world.road import CELL_M, KERB_RADIUS_M, SPACING_M, RoadMap

_PAINT = (0.62, 0.62, 0.6)
_YELLOW = (0.62, 0.42, 0.06)
_STYLES = {"double": 0, "solid": 1, "dashed": 2}


@dataclass(frozen=True)
class Ground:
    """A `RoadMap` as tensors: the lookup grid, the samples of all centrelines, and a table of road properties."""

    cells: Tensor  # (4, rows * columns): nearest road and its sample in `samples`, second road (-1: none) and sample
    columns: int
    samples: Tensor  # (5, N): x, y, cos, sin, curvature
    first: Tensor  # (R,) first sample of each road
    last: Tensor
    roads: Tensor  # (6, R): half width, lanes, lane width, parking, pavement, style
    crossings: Tensor  # (2, K, R): s and half-extent, padded far away
    noise: Tensor  # (256 * 256,) periodic, mean 0, deviation 1
    verge: Tensor  # (3,) colour beyond the pavement
    paved: float  # share of the verge that is paved
    side: int  # +1 right-hand traffic, -1 left-hand


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
        return torch.as_tensor(np.ascontiguousarray(a), dtype=dtype, device=device)

    return Ground(
        tensor(cells.reshape(-1, 4).T, torch.int64),
        cells.shape[1],
        tensor(samples.T),
        tensor(first[:-1], torch.int64),
        tensor(first[1:] - 1, torch.int64),
        tensor(np.array(table).T),
        tensor(crossings.transpose(2, 1, 0)),
        tensor(noise_tile().reshape(-1)),
        tensor(np.array(verge) * rng.uniform(0.85, 1.15)),
        float(road_map.place == "urban"),
        road_map.side,
    )


def noise(tile: Tensor, x: Tensor, y: Tensor, cell_m: float) -> Tensor:
    """Bilinear lookup of periodic noise at points (P,); one texel of the 256 x 256 tile is `cell_m` metres."""
    x, y = x / cell_m, y / cell_m
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    xi, yi = x0.int() & 255, y0.int() & 255
    xj, row, next_row = (xi + 1) & 255, yi * 256, ((yi + 1) & 255) * 256
    low = torch.lerp(tile.index_select(0, row + xi), tile.index_select(0, row + xj), fx)
    high = torch.lerp(tile.index_select(0, next_row + xi), tile.index_select(0, next_row + xj), fx)
    return torch.lerp(low, high, fy)


def line(x: Tensor, width: float, footprint: Tensor) -> Tensor:
    """Share of a pixel's footprint, centred at distance x, that a line of this width covers: (0..1)."""
    half, f = width / 2, footprint / 2
    return ((x + f).clamp(max=half) - (x - f).clamp(min=-half)).clamp(min=0) / footprint


def dashes(x: Tensor, period: float, on: float, footprint: Tensor) -> Tensor:
    """Share of the footprint covered by dashes of length `on` repeated with this period."""

    def integral(v: Tensor) -> Tensor:
        whole = torch.floor(v / period)
        return whole * on + (v - whole * period).clamp(max=on)

    return (integral(x + footprint / 2) - integral(x - footprint / 2)) / footprint


def norm(a: Tensor, b: Tensor) -> Tensor:
    return (a * a + b * b).sqrt()  # torch.hypot is several times slower


def wrap(x: Tensor, period: Tensor | float) -> Tensor:
    """x modulo the period."""
    return x - torch.floor(x / period) * period


def take(index: Tensor, *values: Tensor) -> list[Tensor]:
    """The given columns (last axis) of each value; `v[..., index]` is many times slower."""
    return [v.index_select(-1, index) for v in values]


def mix(a: Tensor | tuple, b: Tensor | tuple, share: Tensor) -> Tensor:
    """(3, P) blend of two colours, each (3, P), (3, 1) or three numbers."""
    a, b = (c if isinstance(c, Tensor) else share.new_tensor(c)[:, None] for c in (a, b))
    return a + (b - a) * share


def road_coordinates(g: Ground, x: Tensor, y: Tensor, road: Tensor, i: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points (P,), their road and a sample of its centreline nearby -> s, d, and the cosine and sine of the road's direction there."""
    first, last = g.first.index_select(0, road), g.last.index_select(0, road)
    px, py, c, s, kappa = g.samples.index_select(1, i)
    dx, dy = x - px, y - py
    step = torch.round((dx * c + dy * s) / (1 - kappa * (dy * c - dx * s)).clamp(min=0.3) / SPACING_M).long()
    i = torch.minimum(torch.maximum(i + step, first), last)
    px, py, c, s, kappa = g.samples.index_select(1, i)
    dx, dy = x - px, y - py
    along, aside = dx * c + dy * s, dy * c - dx * s
    return (i - first) * SPACING_M + along / (1 - kappa * aside).clamp(min=0.3), aside - kappa * along * along / 2, c, s


def surface(
    g: Ground, x: Tensor, y: Tensor, across: Tensor, along: Tensor, ex: Tensor, ey: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What the ground is made of at points (P,).

    Args:
        x, y: metres. across, along: size of the pixel's footprint at right angles to and along the view direction (ex, ey), metres.

    Returns:
        albedo (3, P), semantic class (P,) uint8, asphalt (P,) bool: on a carriageway.
    """
    rows = g.cells.shape[1] // g.columns
    cell = (y / CELL_M).int().clamp(0, rows - 1) * g.columns + (x / CELL_M).int().clamp(0, g.columns - 1)
    road, sample, road2, sample2 = g.cells.index_select(1, cell)
    road = road.clamp(min=0)
    s, d, c, sn = road_coordinates(g, x, y, road, sample)
    half, lanes, lane_m, parking, pavement, _ = g.roads.index_select(1, road)
    cos, sin = (ex * c + ey * sn).abs(), (ey * c - ex * sn).abs()
    f_d = norm(across * cos, along * sin)  # footprint across the road
    f_s = norm(across * sin, along * cos)
    kerb = d.abs() - half  # signed distance to the kerb
    second = torch.nonzero(road2 >= 0)[:, 0]
    if len(second):
        kerb = kerb.index_copy(0, second, _join(g, *take(second, x, y, kerb, road2, sample2)))

    fine = noise(g.noise, x, y, 0.06) * (0.06 / across).clamp(max=1)
    coarse = noise(g.noise, x, y, 1.3) * (2.6 / along).clamp(max=1)
    albedo = torch.zeros(3, len(x), device=x.device)
    off_road = torch.nonzero(kerb > -f_d)[:, 0]
    beside = take(off_road, x, y, s, kerb, f_d, f_s, along, fine, coarse, pavement)
    albedo.index_copy_(1, off_road, _margin(g, *beside))
    on_road = torch.nonzero(kerb < f_d)[:, 0]
    inside = take(on_road, s, d, f_d, f_s, half, lanes, lane_m, parking, pavement, road)
    white, yellow, tracks = _paint(g, *inside)
    coarse, fine, share = take(on_road, coarse, fine, (0.5 - kerb / f_d).clamp(0, 1))
    worn = (0.85 + 0.1 * coarse).clamp(0.5, 1)
    asphalt = (0.085 + 0.012 * coarse + 0.01 * (fine - tracks)) * x.new_tensor([1.0, 1.0, 1.03])[:, None]
    asphalt = mix(mix(asphalt, _PAINT, white * worn), _YELLOW, yellow * worn)
    albedo.index_copy_(1, on_road, mix(albedo.index_select(1, on_road), asphalt, share))

    semantic = torch.full_like(road, int(Semantic.ROAD), dtype=torch.uint8)
    semantic[on_road[(white + yellow) > 0.5]] = int(Semantic.MARKING)
    semantic[kerb > 0] = int(Semantic.PAVEMENT)
    semantic[kerb > pavement.clamp(min=0)] = int(Semantic.TERRAIN)
    return albedo.clamp(min=0.01), semantic, kerb < 0


def _margin(g: Ground, x, y, s, kerb, f_d, f_s, along, fine, coarse, pavement) -> Tensor:
    """(3, P) colour beside the carriageway: kerb, pavement or soft shoulder, verge; each edge blended over the footprint."""

    def beyond(distance: Tensor | float) -> Tensor:
        return ((kerb - distance) / f_d + 0.5).clamp(0, 1)

    walk = pavement > 0
    slab = torch.maximum(dashes(s, 1.5, 0.05, f_s), line(wrap(kerb, 1.5) - 0.75, 0.05, f_d))
    stone = 0.30 + 0.02 * coarse + 0.012 * fine
    stone = torch.where(walk, stone - 0.07 * slab, 0.5 * stone)
    tint = stone.new_tensor([1.0, 0.98, 0.94])[:, None]
    grass = noise(g.noise, x, y, 0.21) * (0.4 / along).clamp(max=1)
    verge = torch.lerp((1 + 0.18 * coarse + 0.25 * grass) * g.verge[:, None], stone * (0.8 * tint), g.paved)
    margin = mix(stone * tint, verge, beyond(torch.where(walk, pavement, 0.8)))
    return mix((0.42, 0.41, 0.4), margin, torch.where(walk, beyond(0.18), 1.0))


def _join(g: Ground, x: Tensor, y: Tensor, kerb: Tensor, road2: Tensor, sample2: Tensor) -> Tensor:
    """Distance to the kerb of two roads together, with a circular fillet in the corners where they meet."""
    d2 = road_coordinates(g, x, y, road2, sample2)[1]
    other, r = d2.abs() - g.roads[0].index_select(0, road2), KERB_RADIUS_M
    fillet = r - norm((kerb - r).clamp(max=0), (other - r).clamp(max=0))
    return torch.where((kerb < r) & (other < r), fillet, torch.minimum(kerb, other))


def _paint(g: Ground, s, d, f_d, f_s, half, lanes, lane_m, parking, pavement, road) -> tuple[Tensor, Tensor, Tensor]:
    """White paint, yellow paint and wheel tracks at points on a carriageway, each (P,) in 0..1."""
    style = g.roads[5].index_select(0, road)
    at, extent = g.crossings.index_select(2, road)  # (K, P)
    gap, which = ((s - at).abs() - extent).min(0)  # metres to the nearest crossing's mouth, negative inside
    at = at.gather(0, which[None])[0]
    ad = d.abs()
    yellow = torch.where(style == 0, line(ad - 0.16, 0.12, f_d), line(d, 0.14, f_d))
    interrupted = dashes(s, 9.0, 3.0, f_s)
    yellow = torch.where(style == 2, yellow * interrupted, yellow)
    nearest = torch.round(ad / lane_m).clamp(min=1)
    divider = line(ad - nearest * lane_m, 0.13, f_d) * (nearest < lanes) * interrupted
    edge = line(ad - lanes * lane_m, 0.13, f_d) * (parking <= 0)
    white = torch.maximum(divider, edge)
    zebra = dashes(d + 40.0, 1.0, 0.5, f_d) * line(gap - 2.6, 2.6, f_s) * (ad < half - 0.2)
    approach = torch.where(s > at, -d, d) * g.side < -0.1  # on the lanes that lead to the crossing
    stop = line(gap - 5.2, 0.4, f_s) * approach * (ad < lanes * lane_m)
    marked = (at > -1e4) & (pavement > 0)
    far = gap > 5.6
    white = torch.where(far, white, torch.maximum(zebra, stop) * marked) * (gap > 0)
    tracks = torch.exp(-((((wrap(ad, lane_m) / lane_m - 0.5).abs() - 0.24) / 0.1) ** 2)) * (lane_m / 8 / f_d).clamp(
        max=1
    )
    return white, yellow * far, tracks
