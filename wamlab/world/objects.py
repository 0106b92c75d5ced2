"""How the shapes look: facades with windows, vehicles with glass and lights, trees, signals. What light does to them is `shade`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from wamlab.world.primitives import Material, Primitives
from wamlab.world.texture import Pyramid, dashes, mix
from wamlab.world.weather import Look

_GLASS, _DARK, _PLATE = (0.012, 0.014, 0.018), (0.02, 0.02, 0.022), (0.55, 0.55, 0.5)
_PANE, _HUB, _LENS, _RED = (0.03, 0.04, 0.055), (0.16, 0.16, 0.17), (0.7, 0.7, 0.68), (0.35, 0.01, 0.01)
_SIGNAL_COLOURS = ((1.0, 0.05, 0.03), (1.0, 0.55, 0.05), (0.05, 1.0, 0.35))
_BODY = (Material.PAINT + Material.CABIN) / 2  # a vehicle's body is one or the other
_BULGE = 0.45
_LIT = ((1.0, 0.62, 0.25), (1.0, 0.92, 0.75))  # windows at night, the warmest and the coolest
_CLUMP = 2.5  # leaves are drawn with the texture of turf, so many times larger
_WALL, _LEAF, _OTHER = 0, 1, 2  # groups of shapes that are drawn alike


@dataclass(frozen=True)
class Shapes:
    """`Primitives` as tensors on the drawing device: what the rasteriser needs, in float64, and what a pixel needs to know of its shape.

    Attributes:
        centre, half, yaw, taper, ellipsoid: as in `Primitives`. semantic (N,) uint8, instance (N,) int32.
        group: (N,) uint8, see `_WALL`, `_LEAF`, `_OTHER`. table: (22, N) float32, see `_columns`.
    """

    centre: Tensor
    half: Tensor
    yaw: Tensor
    taper: Tensor
    ellipsoid: Tensor
    semantic: Tensor
    instance: Tensor
    group: Tensor
    table: Tensor

    @staticmethod
    def of(p: Primitives, device: torch.device | str) -> Shapes:
        wall = (p.material == Material.FACADE) & ~p.ellipsoid
        leaf = (p.material == Material.FOLIAGE) & p.ellipsoid
        group = np.where(wall, _WALL, np.where(leaf, _LEAF, _OTHER)).astype(np.uint8)
        columns = (
            p.centre,
            p.half,
            p.yaw,
            p.taper,
            p.ellipsoid,
            p.semantic.astype(np.uint8),
            p.instance.astype(np.int32),
            group,
            _columns(p),
        )
        return Shapes(*(torch.as_tensor(column, device=device) for column in columns))

    def __add__(self, other: Shapes) -> Shapes:
        return Shapes(
            *(
                torch.cat([getattr(self, f.name), getattr(other, f.name)], -1 if f.name == "table" else 0)
                for f in fields(self)
            )
        )


def _columns(p: Primitives) -> np.ndarray:
    """(22, N): the maps from world x, y to the shape's unit coordinates (a, b, c: a x + b y + c), half-extents, cosine and sine of yaw,
    colour, height of the centre, two parameters, tapers, material, is it an ellipsoid."""
    (x, y, z), (hx, hy, hz), c, s = p.centre.T, p.half.T, np.cos(p.yaw), np.sin(p.yaw)
    rows = [c / hx, s / hx, -(c * x + s * y) / hx, -s / hy, c / hy, (s * x - c * y) / hy, hx, hy, hz, c, s,
            *p.colour.T, z, *p.param.T, *p.taper.T, p.material, p.ellipsoid]  # fmt: skip
    return np.stack(rows).astype(np.float32)


@dataclass(frozen=True)
class Finish:
    """What pixels on shapes (P,) are made of: albedo and emitted light (3, P), how polished they are (P,) in 0..1, unit normal (3, P)."""

    albedo: Tensor
    emitted: Tensor
    mirror: Tensor
    normal: Tensor


def by_group(shapes: Shapes, kind: Tensor) -> tuple[Tensor, list[int]]:
    """An order of pixels, given the shape of each (P,), in which those of a group stand together; and how many each group has."""
    group = shapes.group.index_select(0, kind)
    parts = [torch.nonzero(group == g)[:, 0] for g in (_WALL, _LEAF, _OTHER)]
    return torch.cat(parts), [len(part) for part in parts]


def finish(
    shapes: Shapes,
    kind: Tensor,
    counts: list[int],
    point: Tensor,
    ray: Tensor,
    size: Tensor,
    look: Look,
    textures: Pyramid,
    random: Tensor,
) -> Finish:
    """Colour of shapes before light falls on them.

    Args:
        kind: (P,) index of each pixel's shape, in the order and with the counts of `by_group`. point: (3, P) in the world.
        ray: (3, P) unit vector from the camera to it. size: (P,) metres that a pixel covers at right angles to the ray.
        textures, random: see `Ground`.
    """
    inputs = zip(*(torch.split(t, counts, -1) for t in (kind, point, ray, size)), strict=True)
    (walls, leaves, others), parts = inputs, []
    if counts[0]:
        parts.append(_walls(shapes.table[:17], *walls, look, random))
    if counts[1]:
        parts.append(_leaves(shapes.table[:15], *leaves, textures))
    if counts[2]:
        parts.append(_others(shapes.table, *others, look))
    return Finish(*(torch.cat([getattr(part, f.name) for part in parts], -1) for f in fields(Finish)))


def _walls(table: Tensor, kind: Tensor, point: Tensor, ray: Tensor, size: Tensor, look: Look, random: Tensor) -> Finish:
    """Boxes that stand upright, with windows."""
    ax, bx, ox, ay, by, oy, hx, hy, hz, c, s, red, green, blue, cz, seed, bay = table.index_select(1, kind)
    x, y, z = point
    lx, ly = torch.addcmul(ox, ax, x).addcmul_(bx, y), torch.addcmul(oy, ay, x).addcmul_(by, y)
    aside = (ly.abs() > lx.abs()).float()  # on a long side, not on the front or the back
    sign = torch.lerp(lx, ly, aside).sign_()
    n = torch.stack([torch.lerp(c, -s, aside).mul_(sign), torch.lerp(s, c, aside).mul_(sign), torch.zeros_like(c)])
    along = torch.lerp(ly * hy, lx * hx, aside)
    albedo, emitted, mirror = torch.stack([red, green, blue]), torch.zeros_like(point), torch.zeros_like(c)
    roof = ((z - cz) / hz > torch.maximum(lx.abs(), ly.abs())).float()
    n.mul_(1 - roof)[2].add_(roof)
    facing = -(n * ray).sum(0).clamp_(max=-0.12)
    colour, emitted, mirror = _facade(along, z, hz, seed, bay, aside, size, facing, albedo, look, random)
    return Finish(torch.lerp(colour, albedo, roof), emitted * (1 - roof), mirror * (1 - roof), n)


def _leaves(table: Tensor, kind: Tensor, point: Tensor, ray: Tensor, size: Tensor, textures: Pyramid) -> Finish:
    """Crowns of trees: clumps of leaves that stand out and catch the light, darker towards the bottom."""
    ax, bx, ox, ay, by, oy, hx, hy, hz, c, s, red, green, blue, cz = table.index_select(1, kind)
    x, y, z = point
    lx, ly = torch.addcmul(ox, ax, x).addcmul_(bx, y).div_(hx), torch.addcmul(oy, ay, x).addcmul_(by, y).div_(hy)
    lz = (z - cz).div_(hz)
    n = torch.stack([lx * c - ly * s, lx * s + ly * c, lz / hz])
    n *= (n * n).sum(0).rsqrt_()
    scale, z = 1 / _CLUMP, z * (1 / _CLUMP)
    size = size * (1.8 * scale)
    a, b = (x + y) * (0.7 * scale), (x - y) * (0.7 * scale)  # seen from two sides and from above
    sides = torch.stack([textures.at(u, v, size)[1] for u, v in ((a, z), (b, z + 3.1), (a, b + 5.3))])
    # a texture is smeared where the surface leaves its plane: there the others count
    flat = torch.stack([(n[0] - n[1]) * 0.7, (n[0] + n[1]) * 0.7, n[2]]).square_()
    grain = (sides * flat).sum(0)
    albedo = torch.stack([red, green, blue]) * (0.88 + 0.34 * grain + 0.3 * lz).clamp_(0.15, 1.9)
    n += (grain * 0.4) * n.new_tensor([[0.6], [-0.6], [0.8]])
    return Finish(albedo, torch.zeros_like(point), torch.zeros_like(lz), n * (n * n).sum(0).rsqrt_())


def _others(table: Tensor, kind: Tensor, point: Tensor, ray: Tensor, size: Tensor, look: Look) -> Finish:
    """Vehicles, people, roofs, posts: boxes that may lean in, and ellipsoids."""
    (ax, bx, ox, ay, by, oy, hx, hy, hz, c, s, red, green, blue, cz, p0, p1, tf, tb, ts, material, round_) = (
        table.index_select(1, kind)
    )
    x, y, z = point
    lx, ly = torch.addcmul(ox, ax, x).addcmul_(bx, y), torch.addcmul(oy, ay, x).addcmul_(by, y)
    lz = (z - cz).div_(hz)
    up = lz * 0.5 + 0.5
    best, face = torch.addcmul(lx, tf, up) - 1, torch.zeros_like(lx)
    for k, distance in enumerate(
        (tb * up - lx - 1, ly.abs() + ts * up - 1, up - 1, -up), 1
    ):  # front, back, side, top, bottom
        face += (distance > best).float().mul_(k - face)
        best = torch.maximum(best, distance)
    front, back, side, top, bottom = ((face == k).float() for k in range(5))
    side = side * ly.sign()
    lean = torch.where(face > 2.5, 0.0, torch.where(face > 1.5, ts, torch.where(face > 0.5, tb, tf))) * 0.5
    nx = torch.lerp(front - back, lx, round_).div_(hx)
    ny = torch.lerp(side, ly, round_).div_(hy)
    nz = torch.lerp(top - bottom + lean, lz, round_).div_(hz)
    # sheet metal is rounded: its normals lean outwards towards the edges
    bulge = (
        (((material - _BODY).abs() < 0.75).float() * _BULGE).mul_(1 - round_).mul_((nx * nx + ny * ny + nz * nz).sqrt())
    )
    nx, ny, nz = torch.addcmul(nx, bulge, lx**3), torch.addcmul(ny, bulge, ly**3), torch.addcmul(nz, bulge, lz**3)
    n = torch.stack([nx * c - ny * s, nx * s + ny * c, nz])
    n *= (n * n).sum(0).rsqrt_()
    colour, emitted, mirror = _small(torch.stack([red, green, blue]), material, face, lx, ly, lz, p0, p1, round_, look)
    tiles = (material == Material.ROOF).float() * dashes(z, 0.33, 0.07, size)
    colour *= 1 - 0.35 * tiles
    return Finish(colour, emitted, mirror, n)


def _facade(
    along, z, half, seed, bay, aside, size, facing, albedo, look: Look, random: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Windows: bays of `bay` metres, storeys of about 3 m, shop windows below; `seed` decides their proportions and which are lit."""
    storey_m = 2 * half / torch.floor(2 * half / 3.0).clamp_(min=1)
    u, v, fu, fv = along / bay + 0.5, z / storey_m, size / (facing * bay), size / storey_m
    style = random.index_select(0, seed.int())
    width, column, storey = 0.38 + 0.4 * style, u.floor(), v.floor()
    start = u - 0.5 + 0.5 * width
    window = dashes(start, 1.0, width, fu) * dashes(v - 0.3, 1.0, 0.52, fv)
    frame = dashes(start + 0.06, 1.0, width + 0.12, fu) * dashes(v - 0.24, 1.0, 0.62, fv) - window
    shop = ((v < 1) & (half > 5)).float()
    display = dashes(u - 0.08, 1.0, 0.84, fu) * ((v > 0.12) & (v < 0.8))
    window, frame = torch.lerp(window, display, shop), frame * (1 - shop)
    cell = (column * 131 + storey * 71 + seed * 977 + aside * 17).int() & 65535
    lit = random.index_select(0, cell)
    band = dashes(v - 0.94, 1.0, 0.07, fv)
    tone = 1 - 0.22 * band - 0.2 * shop + (0.75 * style - 0.3) * frame
    wall = albedo * tone.mul_(0.82 + 0.18 * (z / 4).clamp_(max=1))  # the foot of a wall is darker
    blind = (lit * 7).frac_() * 0.16
    colour = mix(wall, wall.new_tensor(_PANE)[:, None] + blind, window)
    emitted = torch.zeros_like(wall)
    if look.lights:
        share = {"night": 0.42, "dusk": 0.3, "day": 0.1}[look.time]
        on = torch.lerp((lit < share).float(), torch.full_like(lit, share), (fu > 0.6).float())
        on = torch.lerp(on, 0.35 + 0.65 * (lit < 0.5), shop)
        warm, cool = (wall.new_tensor(c)[:, None] for c in _LIT)
        emitted = torch.lerp(warm, cool, lit) * (on * window * (0.34 if look.time == "night" else 0.28))
    return colour, emitted, 0.6 * window


def _small(albedo, material, face, lx, ly, lz, p0, p1, round_, look: Look) -> tuple[Tensor, Tensor, Tensor]:
    """Vehicles, signals and lamps: albedo, emitted light, mirror."""
    paint, cabin = ((material == m) & (round_ < 0.5) & (face < 3) for m in (Material.PAINT, Material.CABIN))
    side, front, back = face > 1.5, face < 0.5, (face > 0.5) & (face < 1.5)
    glass = cabin & (lz > -0.8) & (lz < 0.8) & (~side | ((lx.abs() - 0.05).abs() > 0.05))  # between the posts
    lamp = paint & (ly.abs() > 0.55) & (ly.abs() < 0.95) & (lz > 0.1) & (lz < 0.7)
    hub = ((material == Material.WHEEL) & (lx * lx + lz * lz < 0.2)).float()
    head, tail = (lamp & front & (p1 < 0.5)).float(), (lamp & back).float()
    sill = (paint & (lz < -0.72)).float()
    plate = (paint & ~side & (ly.abs() < 0.26) & ((lz + 0.3).abs() < 0.16) & (p1 < 0.5)).float()
    colour = albedo
    for what, where in (
        (_GLASS, glass.float()),
        (_DARK, sill),
        (_PLATE, plate),
        (_HUB, hub),
        (_LENS, head),
        (_RED, tail),
    ):
        colour = mix(colour, what, where)
    power = 0.0 if not look.lights else 1.0 if look.time == "night" else 0.6
    beam, red = albedo.new_tensor([2.6, 2.5, 2.2])[:, None], albedo.new_tensor([0.9, 0.03, 0.02])[:, None]
    emitted = beam * (head * power) + red * (tail * (power + 1.5 * p0))
    row = (1 - torch.round(lz * 1.5)).clamp_(0, 2)  # a signal's lamps: red at the top, green at the bottom
    lit = ((material == Material.SIGNAL) & back & (row == p0) & (ly.abs() < 0.85)).float()
    emitted += albedo.new_tensor(_SIGNAL_COLOURS).T.index_select(1, row.long()) * (1.8 * lit)
    if look.lights and look.time != "day":
        emitted += albedo.new_tensor([3.0, 2.4, 1.5])[:, None] * (material == Material.LAMP)
    return colour, emitted, 0.75 * glass + 0.28 * ((paint | cabin) & ~glass)
