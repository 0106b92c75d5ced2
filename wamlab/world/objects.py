"""How the shapes look: facades with windows, vehicles with glass and lights, trees, signals. What light does to them is `shade`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wamlab.world.primitives import Material
from wamlab.world.texture import dashes, mix, noise, take
from wamlab.world.weather import Look

_GLASS, _DARK, _PLATE = (0.016, 0.019, 0.024), (0.02, 0.02, 0.022), (0.55, 0.55, 0.5)
_SIGNAL_COLOURS = ((1.0, 0.05, 0.03), (1.0, 0.55, 0.05), (0.05, 1.0, 0.35))
_FACES = 6  # front, back, left, right, top, bottom


@dataclass(frozen=True)
class Shapes:
    """The columns of `Primitives` as tensors on the drawing device (float64 where the rasteriser needs it)."""

    centre: Tensor
    half: Tensor
    yaw: Tensor
    taper: Tensor
    ellipsoid: Tensor
    material: Tensor
    semantic: Tensor
    instance: Tensor
    colour: Tensor
    param: Tensor

    def table(self) -> Tensor:
        """(18, N) float32 of what a pixel needs to know of its shape."""
        c, s = torch.cos(self.yaw)[:, None], torch.sin(self.yaw)[:, None]
        columns = [self.centre, self.half, c, s, self.taper, self.param, self.colour,
                   self.material[:, None], self.ellipsoid[:, None]]  # fmt: skip
        return torch.cat([column.float() for column in columns], 1).T.contiguous()

    def normals(self) -> Tensor:
        """(3, N * 6) outward unit normals of the faces of the boxes, in the world."""
        hx, hy, hz = self.half.T
        lean = self.taper.T / (2 * hz)
        zero, one = torch.zeros_like(hx), torch.ones_like(hx)
        local = [(1 / hx, zero, lean[0]), (-1 / hx, zero, lean[1]), (zero, 1 / hy, lean[2]), (zero, -1 / hy, lean[2]),
                 (zero, zero, one), (zero, zero, -one)]  # fmt: skip
        x, y, z = torch.stack([torch.stack(n) for n in local], -1)  # (N, 6) each
        c, s = torch.cos(self.yaw)[:, None], torch.sin(self.yaw)[:, None]
        normal = torch.stack([x * c - y * s, x * s + y * c, z])
        return (normal / normal.norm(dim=0)).float().reshape(3, -1)


@dataclass(frozen=True)
class Finish:
    """What pixels on shapes (P,) are made of: albedo and emitted light (3, P), how they mirror the sky (P,), unit normal (3, P), and
    whether they see the light map's shadow (P,): walls and trees would stand in their own."""

    albedo: Tensor
    emitted: Tensor
    mirror: Tensor
    normal: Tensor
    shaded: Tensor


def finish(shapes: Shapes, kind: Tensor, point: Tensor, ray: Tensor, size: Tensor, look: Look, tile: Tensor, random: Tensor) -> Finish:
    """Colour of shapes before light falls on them.

    Args:
        kind: (P,) index of each pixel's shape. point: (3, P) in the world. ray: (3, P) unit vector from the camera to it.
        size: (P,) metres that a pixel covers at right angles to the ray. tile, random: see `Ground`.
    """
    cx, cy, cz, hx, hy, hz, cos, sin, tf, tb, ts, p0, p1, red, green, blue, material, round_ = shapes.table().index_select(1, kind)
    dx, dy = point[0] - cx, point[1] - cy
    lx, ly = torch.addcmul(dx * cos, dy, sin).div_(hx), torch.addcmul(dy * cos, dx, sin, value=-1).div_(hy)
    lz = (point[2] - cz).div_(hz)
    up = lz * 0.5 + 0.5
    best, face = torch.addcmul(lx, tf, up) - 1, torch.zeros_like(lx)
    rest = (tb * up - lx - 1, torch.addcmul(ly, ts, up) - 1, ts * up - ly - 1, up - 1, -up)
    for k, distance in enumerate(rest, 1):
        face += (distance > best).float().mul_(k - face)
        best = torch.maximum(best, distance)
    normal = shapes.normals().index_select(1, (kind * _FACES + face.long()))
    ball = torch.nonzero(round_)[:, 0]
    if len(ball):
        x, y, z, c, s, a, b, h = take(ball, lx, ly, lz, cos, sin, hx, hy, hz)
        x, y, z = x / a, y / b, z / h
        n = torch.stack([x * c - y * s, x * s + y * c, z])
        normal.index_copy_(1, ball, n * (n * n).sum(0).rsqrt_())

    albedo, emitted, mirror = torch.stack([red, green, blue]), torch.zeros(3, len(lx), device=lx.device), torch.zeros_like(lx)
    wall = (material == Material.FACADE).float()
    i = torch.nonzero(wall * (face < 4))[:, 0]
    if len(i):
        aside = face > 1.5
        along = torch.where(aside, lx * hx, ly * hy)
        facing = -(normal * ray).sum(0).clamp_(max=-0.12)
        a, e, m = _facade(*take(i, along, point[2], hz, p0, p1, face, size, facing, albedo), look, random)
        albedo.index_copy_(1, i, a)
        emitted.index_copy_(1, i, e)
        mirror.index_copy_(0, i, m)
    leaf = (material == Material.FOLIAGE).float()
    i = torch.nonzero(leaf)[:, 0]
    if len(i):
        albedo.index_copy_(1, i, _foliage(*take(i, albedo, point, lz, size), tile))
    i = torch.nonzero((material >= Material.PAINT) & (leaf < 0.5))[:, 0]
    if len(i):
        a, e, m = _small(*take(i, albedo, material, face, lx, ly, lz, p0, p1, round_), look)
        albedo.index_copy_(1, i, a)
        emitted.index_copy_(1, i, e)
        mirror.index_copy_(0, i, m)
    return Finish(albedo, emitted, mirror, normal, 1 - wall - leaf)


def _facade(along, z, half, seed, bay, face, size, facing, albedo, look: Look, random: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    cell = (column * 131 + storey * 71 + seed * 977 + (face > 1.5) * 17).int() & 65535
    lit = random.index_select(0, cell)
    band = dashes(v - 0.94, 1.0, 0.07, fv)
    tone = 1 - 0.22 * band - 0.2 * shop + (0.75 * style - 0.3) * frame
    wall = albedo * tone.mul_(0.82 + 0.18 * (z / 4).clamp_(max=1))  # the foot of a wall is darker
    blind = (lit * 7).frac_() * 0.16
    colour = mix(wall, torch.stack([0.03 + blind, 0.04 + blind, 0.055 + blind]), window)
    emitted = torch.zeros_like(wall)
    if look.lights:
        share = {"night": 0.42, "dusk": 0.3, "day": 0.1}[look.time]
        on = torch.lerp((lit < share).float(), torch.full_like(lit, share), (fu > 0.6).float())
        on = torch.lerp(on, 0.35 + 0.65 * (lit < 0.5), shop)
        warm = torch.stack([torch.ones_like(lit), 0.62 + 0.3 * lit, 0.25 + 0.5 * lit])
        emitted = warm * (on * window * (0.34 if look.time == "night" else 0.28))
    return colour, emitted, 0.25 * window


def _foliage(albedo: Tensor, point: Tensor, lz: Tensor, size: Tensor, tile: Tensor) -> Tensor:
    """Leaves: clumps that catch the light, darker towards the bottom of the crown."""
    x, y, z = point
    grain = noise(tile, x + z, y - z, 0.11) * (0.2 / size).clamp_(max=1)
    return albedo * (0.9 + 0.26 * grain + 0.22 * lz).clamp_(0.25, 1.8)


def _small(albedo, material, face, lx, ly, lz, p0, p1, round_, look: Look) -> tuple[Tensor, Tensor, Tensor]:
    """Vehicles, signals and lamps: albedo, emitted light, mirror."""
    paint, cabin = ((material == m) & (round_ < 0.5) & (face < 4) for m in (Material.PAINT, Material.CABIN))
    side, front, back = face > 1.5, face < 0.5, (face > 0.5) & (face < 1.5)
    glass = cabin & (lz > -0.8) & (lz < 0.8) & (~side | ((lx.abs() - 0.05).abs() > 0.05))  # between the posts
    lamp = paint & (ly.abs() > 0.55) & (ly.abs() < 0.95) & (lz > 0.1) & (lz < 0.7)
    head, tail = (lamp & front & (p1 < 0.5)).float(), (lamp & back).float()
    sill = (paint & (lz < -0.72)).float()
    plate = (paint & ~side & (ly.abs() < 0.26) & ((lz + 0.3).abs() < 0.16) & (p1 < 0.5)).float()
    colour = mix(mix(mix(mix(mix(albedo, _GLASS, glass.float()), _DARK, sill), _PLATE, plate), (0.7, 0.7, 0.68), head),
                 (0.35, 0.01, 0.01), tail)  # fmt: skip
    power = 0.0 if not look.lights else 1.0 if look.time == "night" else 0.6
    beam, red = albedo.new_tensor([2.6, 2.5, 2.2])[:, None], albedo.new_tensor([0.9, 0.03, 0.02])[:, None]
    emitted = beam * (head * power) + red * (tail * (power + 1.5 * p0))
    row = (1 - torch.round(lz * 1.5)).clamp_(0, 2)  # a signal's lamps: red at the top, green at the bottom
    lit = ((material == Material.SIGNAL) & back & (row == p0) & (ly.abs() < 0.85)).float()
    emitted += albedo.new_tensor(_SIGNAL_COLOURS).T.index_select(1, row.long()) * (1.8 * lit)
    if look.lights and look.time != "day":
        emitted += albedo.new_tensor([3.0, 2.4, 1.5])[:, None] * (material == Material.LAMP)
    return colour, emitted, 0.3 * glass + 0.06 * paint
