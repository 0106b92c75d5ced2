"""Colours: what light makes of the shapes, the ground and the sky that the rasteriser found. Linear light inside, sRGB bytes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.world.air import bloom, colours_of, in_haze, sky, streaks, to_srgb
from wamlab.world.ground import Ground, dashes, mix, noise, norm, surface, take, wrap
from wamlab.world.primitives import Material
from wamlab.world.raster import Visible, spans
from wamlab.world.scenery import LIGHTMAP_M
from wamlab.world.weather import Look

_GLASS = (0.018, 0.022, 0.028)
_SIGNAL_COLOURS = ((1.0, 0.05, 0.03), (1.0, 0.55, 0.05), (0.05, 1.0, 0.35))


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


@dataclass(frozen=True)
class View:
    """The camera of each frame in the batch: position (B, 3), rotation (B, 3, 3), float32; and the image's size."""

    position: Tensor
    rotation: Tensor
    focal_px: float
    width: int
    height: int

    @cached_property
    def rays(self) -> tuple[Tensor, Tensor]:
        """World directions (3, B * H * W) with a depth of one metre, and each pixel's frame (B * H * W,)."""
        u = (torch.arange(self.width, device=self.position.device) + 0.5 - self.width / 2) / self.focal_px
        v = (torch.arange(self.height, device=self.position.device) + 0.5 - self.height / 2) / self.focal_px
        right, down, forward = self.rotation.permute(2, 1, 0)[..., None, None]  # each (3, B, 1, 1)
        frame = torch.arange(len(self.position), device=self.position.device)
        return (right * u + (down * v[:, None] + forward)).reshape(3, -1), frame.repeat_interleave(
            self.height * self.width
        )

    def seen_from(self, pixel: Tensor) -> tuple[Tensor, Tensor]:
        """The rays (3, P) of flat pixel indices (P,), and the camera position (3, P) they start from."""
        ray, frame = self.rays
        return ray.index_select(1, pixel), self.position.T.contiguous().index_select(1, frame.index_select(0, pixel))


def shade(
    visible: Visible,
    shapes: Shapes,
    ground: Ground,
    light: Tensor,
    look: Look,
    view: View,
    casters: Tensor,
    rain: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour a batch of frames of one scene.

    Args:
        light: (2, rows, columns), see `Scenery`. casters: (7, n) frame, x, y, yaw, half length, half width, height of
        moving things that cast a shadow. rain: (B,) phase of the streaks in 0..1, None without rain.

    Returns:
        rgb (B, 3, H, W) uint8, semantic (B, H, W) uint8, instance (B, H, W) int32.
    """
    b, h, w = visible.w.shape
    candidate, flat_w = visible.candidate.reshape(-1), visible.w.reshape(-1)
    lights = colours_of(look, flat_w.device)
    hit = torch.nonzero(candidate >= 0)[:, 0]
    on_ground = torch.nonzero((candidate < 0) & (flat_w > 0))[:, 0]
    above = torch.nonzero((candidate < 0) & (flat_w <= 0))[:, 0]

    colour, glow = torch.zeros(2, 3, b * h * w, device=flat_w.device)
    semantic = torch.zeros(b * h * w, dtype=torch.uint8, device=flat_w.device)
    instance = torch.zeros(b * h * w, dtype=torch.int32, device=flat_w.device)

    colour.index_copy_(1, above, sky(view.rays[0].index_select(1, above), look, lights, ground.noise))
    if len(hit):
        rgb, emitted, kind = _objects(visible, hit, shapes, light, look, lights, view, ground.noise)
        colour.index_copy_(1, hit, rgb)
        glow.index_copy_(1, hit, emitted)
        semantic.index_copy_(0, hit, shapes.semantic.to(torch.uint8).index_select(0, kind))
        instance.index_copy_(0, hit, shapes.instance.to(torch.int32).index_select(0, kind))
    if len(on_ground):
        rgb, classes = _ground(on_ground, flat_w, colour, ground, light, look, lights, view, casters)
        colour.index_copy_(1, on_ground, rgb)
        semantic.index_copy_(0, on_ground, classes)
    image = colour.view(3, b, h, w)
    if look.lights:
        image = image + bloom(glow.view(3, b, h, w))
    if rain is not None:
        image = image + streaks(b, h, w, rain) * 0.1 * lights["haze"].mean()
    return to_srgb(image * look.exposure).transpose(0, 1), semantic.view(b, h, w), instance.view(b, h, w)


def _sample_light(light: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear lookup of the light map: sunlight and lamplight at (P,) points."""
    rows, columns = light.shape[1:]
    grid = torch.stack([x / (columns * LIGHTMAP_M), y / (rows * LIGHTMAP_M)], -1) * 2 - 1
    out = F.grid_sample(light[None], grid[None, None], align_corners=False, padding_mode="border")[0, :, 0]
    return out[0], out[1]


def _aside(pixel: Tensor, view: View) -> Tensor:
    return (pixel % view.width + (0.5 - view.width / 2)) / view.focal_px


def _headlights(u: Tensor, down: Tensor, depth: Tensor, look: Look) -> Tensor:
    """Light of the car's own headlights at a pixel: a beam that is wide, cut off above, and fades with distance."""
    beam = torch.exp(-((u / 0.42) ** 2)) * torch.sigmoid((down + 0.012) * 90)
    return 2.6 * beam * (depth / (depth + 4)) / (1 + (depth / 15) ** 2) * (0.25 if look.time == "dusk" else 1.0)


def _artificial(lamplight: Tensor, beam: Tensor) -> Tensor:
    """(3, P) irradiance from street lamps and from the car's headlights."""
    lamp, head = lamplight.new_tensor([1.0, 0.78, 0.5])[:, None], lamplight.new_tensor([1.0, 0.96, 0.86])[:, None]
    return lamplight * lamp + beam * head


def _ground(pixel, flat_w, colour, ground, light, look, lights, view, casters) -> tuple[Tensor, Tensor]:
    ray, position = view.seen_from(pixel)
    depth = 1 / flat_w.index_select(0, pixel)
    x, y = position[0] + ray[0] * depth, position[1] + ray[1] * depth
    reach, length = norm(ray[0], ray[1]), ray.square().sum(0).sqrt()
    across = (depth / view.focal_px).clamp(min=1e-3)
    along = across * length / ray[2].abs().clamp(min=1e-3)
    albedo, semantic, asphalt = surface(ground, x, y, across, along, ray[0] / reach, ray[1] / reach)
    if look.wetness > 0:
        albedo = albedo * (1 - look.wetness * (0.45 * asphalt + 0.2))
    sun, lamp = _sample_light(light, x, y)
    cast, contact = _cast(pixel, x, y, casters, look, view)
    direct = lights["sunlight"] * lights["sun"][2].clamp(min=0.12)
    irradiance = lights["ambient"] * (1 - 0.55 * contact) + direct * (sun * (1 - cast))
    if look.lights and look.time != "day":
        strength = 0.75 if look.time == "night" else 0.35
        irradiance = irradiance + _artificial(
            lamp * (1 - 0.5 * contact) * strength, _headlights(_aside(pixel, view), -ray[2], depth, look)
        )
    rgb = albedo * irradiance
    if look.wetness > 0:
        rgb = rgb + _reflection(colour, pixel, -ray[2] / length, asphalt, look, view)
    return in_haze(rgb, depth * length, look, lights)[0], semantic


def _cast(pixel: Tensor, x: Tensor, y: Tensor, casters: Tensor, look: Look, view: View) -> tuple[Tensor, Tensor]:
    """Shadow of moving things at ground points: cast by the sun, and the dark under them; both (P,) in 0..1."""
    dark = torch.zeros(2, len(view.position) * view.height * view.width, device=x.device)
    frame, px, py, yaw, half_l, half_w, height = casters
    sun = -torch.as_tensor(look.sun[:2] / max(look.sun[2], 0.12), dtype=x.dtype, device=x.device)
    sx, sy = sun[0] * height, sun[1] * height
    # the pixels of a square around each shadow
    reach = norm(half_l, half_w) + norm(sx, sy) / 2 + 0.5
    corner = x.new_tensor([[1, 1, -1, -1.0], [1, -1, 1, -1.0]])[:, :, None] * reach
    offset = torch.stack([px + sx / 2, py + sy / 2])[:, None] + corner - view.position.T[:2, None, frame.long()]
    turn = view.rotation.permute(1, 2, 0)[:, :, frame.long()]  # (world, camera, n)
    right, down, forward = (
        (offset * turn[:2, k][:, None]).sum(0) - turn[2, k] * view.position[frame.long(), 2] for k in range(3)
    )
    near = forward.clamp(min=0.8)
    columns, rows = right / near * view.focal_px + view.width / 2, down / near * view.focal_px + view.height / 2
    shown = (forward.amax(0) > 0.8) & (forward.amin(0) < 45.0)
    wide = forward.amin(0) < 0.8  # reaches behind the camera: no tight bounds
    x0, x1 = torch.where(wide, 0.0, columns.amin(0)), torch.where(wide, view.width - 1.0, columns.amax(0))
    y1 = torch.where(wide, view.height - 1.0, rows.amax(0))
    thing, target = spans(x0, x1, rows.amin(0), y1, frame.long(), shown, view.width, view.height)
    place = torch.full((dark.shape[1],), -1, dtype=torch.int64, device=x.device).index_copy(
        0, pixel, torch.arange(len(pixel), device=x.device)
    )
    point = place.index_select(0, target)
    keep = torch.nonzero(point >= 0)[:, 0]
    thing, point = take(keep, thing, point)
    px, py, c, s, half_l, half_w, sx, sy = torch.stack(
        [px, py, torch.cos(yaw), torch.sin(yaw), half_l, half_w, sx, sy]
    ).index_select(1, thing)
    dx, dy = x.index_select(0, point) - px, y.index_select(0, point) - py
    share = ((dx * sx + dy * sy) / (sx * sx + sy * sy).clamp(min=1e-6)).clamp(0, 1)

    def outside(dx: Tensor, dy: Tensor) -> Tensor:
        lx, ly = (dx * c + dy * s).abs() - half_l, (dy * c - dx * s).abs() - half_w
        return norm(lx.clamp(min=0), ly.clamp(min=0)) + torch.maximum(lx, ly).clamp(max=0)

    swept = (0.5 - outside(dx - share * sx, dy - share * sy) / 0.25).clamp(0, 1)
    under = (0.7 - outside(dx, dy) / 0.5).clamp(0, 1)
    return tuple(torch.zeros_like(x).scatter_reduce(0, point, value, "amax") for value in (swept, under))


def _objects(
    visible: Visible, pixel: Tensor, shapes: Shapes, light, look, lights, view: View, tile
) -> tuple[Tensor, Tensor, Tensor]:
    ray, position = view.seen_from(pixel)
    candidate = visible.candidate.reshape(-1).index_select(0, pixel)
    depth = 1 / visible.w.reshape(-1).index_select(0, pixel)
    kind = visible.candidates.shape.index_select(0, candidate)
    table = torch.cat([shapes.centre, shapes.half, torch.cos(shapes.yaw)[:, None], torch.sin(shapes.yaw)[:, None],
                       shapes.taper, shapes.param, shapes.colour,
                       shapes.material[:, None], shapes.ellipsoid[:, None]], 1).float().T.contiguous()  # fmt: skip
    cx, cy, cz, hx, hy, hz, cos, sin, tf, tb, ts, p0, p1, *rgb, material, round_ = table.index_select(1, kind)
    wx, wy, wz = position + ray * depth
    dx, dy = wx - cx, wy - cy
    lx, ly, lz = (dx * cos + dy * sin) / hx, (dy * cos - dx * sin) / hy, (wz - cz) / hz
    up, round_ = (lz + 1) / 2, round_ > 0
    face, best = torch.zeros_like(lx), lx + tf * up - 1
    for k, distance in enumerate(
        (tb * up - lx - 1, ly.abs() + ts * up - 1, up - 1, -up), 1
    ):  # front, back, side, top, bottom
        face, best = face + (distance > best) * (k - face), torch.maximum(best, distance)
    is_face = [((face == k) & ~round_).float() for k in range(5)]
    ball = round_.float()
    nx = (ball * lx + is_face[0] - is_face[1]) / hx
    ny = (ball * ly + is_face[2] * ly.sign()) / hy
    lean = (is_face[0] * tf + is_face[1] * tb + is_face[2] * ts) / 2
    nz = (ball * lz + is_face[3] - is_face[4] + lean) / hz
    inverse = (nx * nx + ny * ny + nz * nz).rsqrt()
    nx, ny, nz = (nx * cos - ny * sin) * inverse, (nx * sin + ny * cos) * inverse, nz * inverse

    albedo = torch.stack(rgb)
    emitted = torch.zeros_like(albedo)
    mirror = torch.zeros_like(depth)
    footprint = depth / view.focal_px
    length = ray.square().sum(0).sqrt()
    facing = -((nx * ray[0] + ny * ray[1] + nz * ray[2]) / length).clamp(max=-0.12)

    i = torch.nonzero((material == Material.FACADE) & (face < 3))[:, 0]
    if len(i):
        along, half = torch.where(face == 2, lx * hx, ly * hy), hz
        wall, e, m = _facade(
            *(v.index_select(-1, i) for v in (along, wz, half, p0, p1, face, footprint / facing, albedo)), look
        )
        albedo.index_copy_(1, i, wall)
        emitted.index_copy_(1, i, e)
        mirror.index_copy_(0, i, m)
    i = torch.nonzero((material == Material.CABIN) & (face < 3))[:, 0]
    if len(i):
        a, x, u, f = take(i, albedo, lx, up, face)
        glass = ((u > 0.1) & (u < 0.9) & ((f != 2) | ((x.abs() - 0.05).abs() > 0.05))).float()  # between the posts
        albedo.index_copy_(1, i, mix(a, _GLASS, glass))
        mirror.index_copy_(0, i, 0.05 + 0.3 * glass)
    i = torch.nonzero((material == Material.PAINT) & ~round_ & (face < 3))[:, 0]
    if len(i):
        a, e = _bodywork(*take(i, face, ly, lz, p0, p1, albedo), look)
        albedo.index_copy_(1, i, a)
        emitted.index_copy_(1, i, e)
        mirror.index_fill_(0, i, 0.06)
    i = torch.nonzero(material == Material.FOLIAGE)[:, 0]
    if len(i):
        a, x, y, z, size = take(i, albedo, wx, wy, wz, footprint)
        grain = noise(tile, x + z, y - z, 0.11) * (0.2 / size).clamp(max=1)
        albedo.index_copy_(1, i, a * (1 + 0.3 * grain).clamp(0.3, 1.8))
    i = torch.nonzero((material == Material.SIGNAL) & (face == 1))[:, 0]
    if len(i):
        emitted.index_copy_(1, i, _signal(*take(i, ly, lz, p0)))
    if look.lights and look.time != "day":
        i = torch.nonzero(material == Material.LAMP)[:, 0]
        emitted.index_copy_(1, i, emitted.new_tensor([3.0, 2.4, 1.5])[:, None].expand(-1, len(i)))

    sun, lamplight = _sample_light(light, wx, wy)
    low = (1 - wz / 6).clamp(0, 1)
    own = (material == Material.FACADE) | (
        material == Material.FOLIAGE
    )  # these stand in their own shadow on the light map
    sun = 1 - low * (1 - sun) * ~own
    towards = lights["sun"]
    lambert = (nx * towards[0] + ny * towards[1] + nz * towards[2]).clamp(min=0) * sun
    open_sky = (0.68 + 0.32 * nz) * (0.72 + 0.28 * (wz / 1.2).clamp(0, 1))
    irradiance = lights["ambient"] * open_sky + lights["sunlight"] * lambert
    if look.lights and look.time != "day":
        strength = (0.6 if look.time == "night" else 0.25) * (1 - (wz - 5).clamp(min=0) / 6).clamp(0, 1)
        irradiance = irradiance + _artificial(
            lamplight * strength, _headlights(_aside(pixel, view), -ray[2], depth, look) * facing
        )
    rgb = albedo * irradiance + mix(lights["horizon"], lights["zenith"], mirror.new_tensor(0.4)) * mirror
    rgb, clear = in_haze(rgb, depth * length, look, lights)
    emitted = emitted * clear.clamp(min=0.05).sqrt()
    return rgb + emitted, emitted, kind


def _facade(along, z, half, seed, bay, face, footprint, albedo, look) -> tuple[Tensor, Tensor, Tensor]:
    """Windows: bays of `bay` metres, storeys of about 3 m, shop windows below; `seed` decides which are lit."""
    f = footprint.clamp(min=1e-3)
    storey_m = 2 * half / torch.floor(2 * half / 3.0).clamp(min=1)
    u, v, fu, fv = along / bay + 0.5, z / storey_m, f / bay, f / storey_m
    window = dashes(u - 0.22, 1.0, 0.56, fu) * dashes(v - 0.28, 1.0, 0.5, fv)
    shop = (v < 1) & (half > 5)
    display = dashes(u - 0.08, 1.0, 0.84, fu) * ((v > 0.12) & (v < 0.8))
    window = window + shop * (display - window)
    cell = torch.floor(u) * 127.1 + torch.floor(v) * 311.7 + seed * 74.7 + (face == 2) * 17.3
    lit = wrap(torch.sin(cell) * 43758.5453, 1.0)
    wall = albedo * (1 - 0.25 * dashes(v - 0.95, 1.0, 0.05, fv) - 0.12 * shop)
    colour = mix(wall, (0.06, 0.075, 0.09), window)
    emitted = torch.zeros_like(wall)
    if look.lights:
        share = {"night": 0.42, "dusk": 0.3, "day": 0.1}[look.time]
        on = torch.where(fu > 0.6, share, (lit < share).float())
        on = torch.where(shop, 0.35 + 0.65 * (lit < 0.5), on)
        warm = torch.stack([torch.ones_like(lit), 0.62 + 0.3 * lit, 0.25 + 0.5 * lit])
        emitted = warm * (on * window * (0.34 if look.time == "night" else 0.28))
    return colour, emitted, 0.22 * window


def _bodywork(face, ly, lz, braking, trailing, albedo, look) -> tuple[Tensor, Tensor]:
    """A vehicle's head and tail lights: white in front, red behind, brighter when braking."""
    band = (ly.abs() > 0.55) & (ly.abs() < 0.95) & (lz > 0.1) & (lz < 0.7)
    head, tail = band & (face == 0) & (trailing == 0), band & (face == 1)
    white, red = albedo.new_tensor([0.7, 0.7, 0.68])[:, None], albedo.new_tensor([0.35, 0.01, 0.01])[:, None]
    albedo = mix(mix(albedo, white, head.float()), red, tail.float())
    power = 0.0 if not look.lights else 1.0 if look.time == "night" else 0.6
    beam, lamp = albedo.new_tensor([2.6, 2.5, 2.2])[:, None], albedo.new_tensor([0.9, 0.03, 0.02])[:, None]
    return albedo, beam * (head * power) + lamp * (tail * (power + 1.5 * braking))


def _signal(ly: Tensor, lz: Tensor, phase: Tensor) -> Tensor:
    """The lit lamp of a traffic light: red at the top, green at the bottom."""
    lamp = torch.where(lz > 0.33, 0, torch.where(lz > -0.33, 1, 2))
    on = (lamp == phase.long()) & (ly.abs() < 0.85)
    return ly.new_tensor(_SIGNAL_COLOURS).T.index_select(1, lamp) * (1.8 * on)


def _reflection(colour: Tensor, pixel: Tensor, slope: Tensor, asphalt: Tensor, look: Look, view: View) -> Tensor:
    """Wet ground mirrors what stands above the horizon: the picture, upside down about the horizon and smeared up and down."""
    h, w = view.height, view.width
    small = F.avg_pool2d(colour.view(3, -1, h, w), 2, ceil_mode=True)
    small = F.avg_pool2d(small, (5, 1), stride=1, padding=(2, 0), count_include_pad=False)
    pitch = torch.asin(-view.rotation[:, 2, 2])
    horizon = (h / 2 - view.focal_px * torch.tan(pitch)).round().long()
    frame = view.rays[1].index_select(0, pixel)
    row, column = pixel // w - frame * h, pixel % w
    above = (2 * horizon.index_select(0, frame) - 1 - row).clamp(0, h - 1) // 2
    source = (frame * small.shape[2] + above) * small.shape[3] + column // 2
    fresnel = 0.04 + 0.96 * (1 - slope) ** 5
    return small.reshape(3, -1).index_select(1, source) * (fresnel * look.wetness * (0.25 + 0.45 * asphalt))
