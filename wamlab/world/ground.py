"""The ground: which road a point lies on, and what it looks like there. Analytic, so markings stay sharp at any distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.world.primitives import Semantic
from wamlab.world.profile import MARGIN_M, STRIP_M, YELLOW_WITHIN_M, profiles
from wamlab.world.road import CELL_M, SPACING_M, RoadMap
from wamlab.world.scenery import LIGHTMAP_M
from wamlab.world.texture import Pyramid, dashes, ground_textures, line, mix, noise_tile, norm, take

_WHITE, _YELLOW = (0.62, 0.62, 0.6), (0.6, 0.4, 0.06)
_KERB_RADIUS_M = 5.0


@dataclass(frozen=True)
class Ground:
    """A `RoadMap` as tensors.

    Attributes:
        cells: (9, rows * columns), one column a cell of `CELL_M`: a point on the centreline of the nearest road
            (x, y, cosine, sine, curvature, s), that road's index, and the crossing next on it: s, half-extent.
        second: (rows * columns,) column of `others` where another road is near, else 0.
        others: (6, n) a point on that road's centreline (x, y, cosine, sine, curvature), its half width.
        roads: (3, R): half width, lanes' width on each side, has it pavements. profile: see `profiles`; strips: N of it.
        map: (3, rows, columns) at `LIGHTMAP_M`: sunlight, lamplight, and how the ground's tone varies (mean 0, deviation 1).
        textures: see `ground_textures`. noise: (256 * 256,) flat tile. random: (65536,) uniform in 0..1.
        side: +1 right-hand traffic, -1 left-hand.
    """

    cells: Tensor
    second: Tensor
    others: Tensor
    columns: int
    roads: Tensor
    profile: Tensor
    strips: int
    map: Tensor
    textures: Pyramid
    noise: Tensor
    random: Tensor
    side: int


@dataclass(frozen=True)
class Surface:
    """The ground at points (P,): albedo (3, P), class (P,) uint8, and each (P,): share of carriageway, sunlight, lamplight, tone of the
    place and grain of the asphalt (both mean 0, deviation about 1)."""

    albedo: Tensor
    semantic: Tensor
    asphalt: Tensor
    sun: Tensor
    lamp: Tensor
    tone: Tensor
    grain: Tensor


def make_ground(
    road_map: RoadMap, light: np.ndarray, rng: np.random.Generator, device: torch.device | str = "cpu"
) -> Ground:
    """`light` as in `Scenery`; `rng` chooses the colour of the verge."""
    verge = {
        "urban": (0.2, 0.19, 0.175),
        "suburban": (0.10, 0.16, 0.04),
        "rural": (0.11, 0.15, 0.04) if rng.random() < 0.6 else (0.2, 0.165, 0.07),
    }[road_map.place]
    profile = profiles(road_map.roads, np.array(verge) * rng.uniform(0.85, 1.15), road_map.place == "urban")
    cells, second, others, columns = _cells(road_map)
    table = [[r.half_width_m, r.lanes * r.lane_m, float(r.pavement_m > 0)] for r in road_map.roads]
    layers = np.empty((3, *light.shape[1:]), np.float32)
    layers[:2] = light
    tile = noise_tile(size=512)  # a texel is LIGHTMAP_M, so it repeats after 256 m
    for row in range(0, layers.shape[1], 512):
        for column in range(0, layers.shape[2], 512):
            part = layers[2, row : row + 512, column : column + 512]
            part[:] = tile[: part.shape[0], : part.shape[1]]

    def tensor(a: object, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(a), dtype=dtype, device=device)

    return Ground(
        tensor(cells),
        tensor(second, torch.int32),
        tensor(others),
        columns,
        tensor(np.array(table).T),
        tensor(profile),
        profile.shape[1] // len(road_map.roads),
        tensor(layers),
        ground_textures(device),
        tensor(noise_tile().reshape(-1)),
        tensor(np.random.default_rng(13).random(65536, dtype=np.float32)),
        road_map.side,
    )


def _cells(road_map: RoadMap) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The lookup grid of `Ground`: cells, second, others, and the number of columns."""
    roads, sample = road_map.lookup
    rows, columns = roads.shape[:2]
    x, y = np.meshgrid((np.arange(columns) + 0.5) * CELL_M, (np.arange(rows) + 0.5) * CELL_M)
    first = np.cumsum([0] + [len(r.points) for r in road_map.roads])
    line = np.concatenate(
        [np.column_stack([r.points, np.cos(r.heading), np.sin(r.heading), r.curvature]) for r in road_map.roads]
    )
    half = np.array([r.half_width_m for r in road_map.roads])

    def foot(
        x: np.ndarray, y: np.ndarray, road: np.ndarray, i: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sample nearest to each point (its number on the road and its row of `line`), and the distance to the kerb."""
        px, py, c, s, kappa = line[first[road] + i].T
        dx, dy = x - px, y - py
        step = (dx * c + dy * s) / np.maximum(1 - kappa * (dy * c - dx * s), 0.3)
        i = np.clip(i + np.round(step / SPACING_M).astype(int), 0, first[road + 1] - first[road] - 1)
        row = line[first[road] + i]
        return i, row, np.abs((y - row[:, 1]) * row[:, 2] - (x - row[:, 0]) * row[:, 3]) - half[road]

    x, y = x.ravel(), y.ravel()
    nearest, other = np.maximum(roads.reshape(-1, 2), 0).T
    i, row, kerb = foot(x, y, nearest, sample[..., 0].ravel())
    at, extent = np.full(len(x), -1e5), np.zeros(len(x))
    for k, road in enumerate(road_map.roads):
        mine = np.flatnonzero(nearest == k)
        if len(road.crossings) and len(mine):
            gap = np.abs(i[mine, None] * SPACING_M - road.crossings[:, 0]) - road.crossings[:, 1]
            at[mine], extent[mine] = road.crossings[gap.argmin(1)].T
    near = np.flatnonzero((roads[..., 1].ravel() >= 0) & (kerb < 3 * _KERB_RADIUS_M))
    _, row2, kerb2 = foot(x[near], y[near], other[near], sample[..., 1].ravel()[near])
    joined = kerb2 < 2 * _KERB_RADIUS_M
    others = np.concatenate([np.zeros((1, 6)), np.column_stack([row2, half[other[near]]])[joined]])
    second = np.zeros(len(x), int)
    second[near[joined]] = 1 + np.arange(joined.sum())
    return np.column_stack([row, i * SPACING_M, nearest, at, extent]).T, second, others.T, columns


def sample_map(layers: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear lookup of (C, rows, columns) layers at `LIGHTMAP_M` at points (P,): (C, P)."""
    rows, columns = layers.shape[1:]
    grid = torch.complex(x * (2 / (columns * LIGHTMAP_M)) - 1, y * (2 / (rows * LIGHTMAP_M)) - 1)
    grid = torch.view_as_real(grid)  # (P, 2), several times faster than torch.stack(..., -1)
    return F.grid_sample(layers[None], grid[None, None], align_corners=False, padding_mode="border")[0, :, 0]


def _offset(x: Tensor, y: Tensor, foot: Tensor) -> tuple[Tensor, Tensor]:
    """Where points (P,) lie from a point of a centreline (5, P: x, y, cosine, sine, curvature): metres along it, metres to its left."""
    px, py, c, s, kappa = foot
    dx, dy = x - px, y - py
    along, aside = torch.addcmul(dx * c, dy, s), torch.addcmul(dy * c, dx, s, value=-1)
    stretched = along / (1 - kappa * aside).clamp_(min=0.3)
    return stretched, torch.addcmul(aside, kappa * along, stretched, value=-0.5)


def surface(g: Ground, x: Tensor, y: Tensor, across: Tensor, along: Tensor, ex: Tensor, ey: Tensor) -> Surface:
    """What the ground is made of at points.

    Args:
        x, y: (P,) metres. across, along: size of the pixel's footprint at right angles to and along the view direction (ex, ey), metres.
    """
    row = (y * (1 / CELL_M)).clamp_(0, g.cells.shape[1] // g.columns - 1).int()
    cell = row * g.columns + (x * (1 / CELL_M)).clamp_(0, g.columns - 1).int()
    foot = g.cells.index_select(1, cell)
    s, d = _offset(x, y, foot[:5])
    s += foot[5]
    road = foot[6].int()
    half, driven, walks = g.roads.index_select(1, road)
    cos, sin = torch.addcmul(ex * foot[2], ey, foot[3]), torch.addcmul(ey * foot[2], ex, foot[3], value=-1)
    f_d, f_s = norm(across * cos, along * sin), norm(across * sin, along * cos)  # footprint across and along the road

    distance = d.abs()  # to the centreline, or what it would be for the kerb that the corner of a junction has
    second = g.second.index_select(0, cell)
    corner = torch.nonzero(second)[:, 0]
    if len(corner):
        joined = _join(g, *take(corner, x, y, distance - half, second))
        distance.index_copy_(0, corner, (joined + half.index_select(0, corner)).clamp_(min=0))
    q = torch.copysign(distance, d) * (1 / STRIP_M) + g.strips // 2
    width = (f_d * (1 / STRIP_M)).clamp_(1, MARGIN_M / STRIP_M).round_()
    low = torch.minimum((q - 0.5 * width).round_().clamp_(min=0), g.strips - 1 - width)
    low, high = torch.add(low, road, alpha=g.strips).int(), torch.add(low + width, road, alpha=g.strips).int()
    mean = g.profile.index_select(1, high).sub_(g.profile.index_select(1, low)).div_(width)
    albedo, solid, broken, asphalt, walk = mean[:3], *mean[3:]

    paint = torch.addcmul(solid, broken, dashes(s, 9.0, 3.0, f_s))
    gap = (s - foot[7]).abs_() - foot[8]  # metres to the nearest junction's mouth, negative inside
    paint *= gap > 5.6
    mouth = torch.nonzero(((gap - 3.0).abs_() < 2.6) & (walks > 0) & (distance < half))[:, 0]
    yellow = (distance < YELLOW_WITHIN_M).float()
    if len(mouth):
        yellow.index_fill_(0, mouth, 0.0)
        paint.index_copy_(0, mouth, _crossing(g, *take(mouth, gap, d, s - foot[7], driven, f_d, f_s)))

    sun, lamp, tone = sample_map(g.map, x, y)
    grain, turf = g.textures.at(x, y, (across * along).sqrt_())
    soft = (1 - asphalt).sub_(walk)
    slabs = dashes(s, 0.9, 0.05, f_s).mul_(walk)
    rough = torch.addcmul(0.12 * tone, torch.addcmul(grain, soft, turf - grain), 0.09 + 0.09 * soft)
    albedo = albedo * rough.sub_(slabs, alpha=0.25).add_(1).clamp_(0.3, 2.0)
    worn = torch.add(0.86 + 0.06 * tone, grain, alpha=0.07).clamp_(0.4, 1)
    white, rest = x.new_tensor(_WHITE)[:, None], x.new_tensor(_YELLOW)[:, None] - x.new_tensor(_WHITE)[:, None]
    albedo = mix(albedo, white + rest * yellow, worn.mul_(paint))

    # exactly one of: asphalt (painted or not), pavement, all else
    marked = (paint > 0.5).int()
    on, beside = (asphalt > 0.5).int(), (walk > 0.5).int()
    semantic = on * (int(Semantic.ROAD) + marked) + (1 - on) * (int(Semantic.TERRAIN) - beside)
    return Surface(albedo, semantic.to(torch.uint8), asphalt, sun, lamp, tone, grain)


def _join(g: Ground, x: Tensor, y: Tensor, kerb: Tensor, second: Tensor) -> Tensor:
    """Distance to the kerb of two roads together, with a circular fillet in the corners where they meet."""
    foot, r = g.others.index_select(1, second), _KERB_RADIUS_M
    other = _offset(x, y, foot[:5])[1].abs_() - foot[5]
    fillet = r - norm((kerb - r).clamp(max=0), (other - r).clamp(max=0))
    return torch.where((kerb < r) & (other < r), fillet, torch.minimum(kerb, other))


def _crossing(g: Ground, gap: Tensor, d: Tensor, beyond: Tensor, driven: Tensor, f_d: Tensor, f_s: Tensor) -> Tensor:
    """Paint at the mouth of a junction, (P,) in 0..1: a zebra crossing, and the stop line before it."""
    zebra = dashes(d + 40.0, 1.0, 0.5, f_d) * line(gap - 2.6, 2.6, f_s)
    approach = (d * beyond.sign() * -g.side < -0.1) & (d.abs() < driven)  # on the lanes that lead to the junction
    return torch.maximum(zebra, line(gap - 5.2, 0.4, f_s) * approach)
