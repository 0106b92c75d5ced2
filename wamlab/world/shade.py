"""Colours: what light makes of the shapes, the ground and the sky that the rasteriser found. Linear light inside, sRGB bytes out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.world.ground import Ground, dashes, noise, surface
from wamlab.world.primitives import Material, Semantic
from wamlab.world.raster import Visible
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

    def rays(self) -> Tensor:
        """(B, H, W, 3) world directions with a depth of one metre."""
        u = (torch.arange(self.width, device=self.position.device) + 0.5 - self.width / 2) / self.focal_px
        v = (torch.arange(self.height, device=self.position.device) + 0.5 - self.height / 2) / self.focal_px
        right, down, forward = self.rotation.unbind(2)
        return (right[:, None, None] * u[:, None] + down[:, None, None] * v[:, None, None]) + forward[:, None, None]


def shade(
    visible: Visible,
    shapes: Shapes,
    ground: Ground,
    light: Tensor,
    look: Look,
    view: View,
    shadows: list[Tensor],
    rain: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour a batch of frames of one scene.

    Args:
        light: (2, rows, columns), see `Scenery`. shadows: for each frame (n, 6): x, y, yaw, half length, half width, height of
        moving things that cast one. rain: (B,) phase of the streaks in 0..1, None without rain.

    Returns:
        rgb (B, 3, H, W) uint8, semantic (B, H, W) uint8, instance (B, H, W) int32.
    """
    b, h, w = visible.w.shape
    ray = view.rays()
    as_light = _lights(look, ray.device)
    flat_w = visible.w.reshape(-1)
    hit = torch.nonzero(visible.candidate.reshape(-1) >= 0)[:, 0]
    on_ground = torch.nonzero((visible.candidate.reshape(-1) < 0) & (flat_w > 0))[:, 0]
    sky = torch.nonzero((visible.candidate.reshape(-1) < 0) & (flat_w <= 0))[:, 0]
    rays = ray.reshape(-1, 3)

    colour = torch.zeros(b * h * w, 3, device=ray.device)
    semantic = torch.zeros(b * h * w, dtype=torch.uint8, device=ray.device)
    instance = torch.zeros(b * h * w, dtype=torch.int32, device=ray.device)
    glow = torch.zeros_like(colour)

    colour[sky] = _sky(rays[sky], look, as_light, ground.noise)
    if len(hit):
        rgb, emitted, kind = _objects(visible, hit, rays[hit], shapes, light, look, as_light, view, ground.noise)
        colour[hit], glow[hit] = rgb, emitted
        semantic[hit] = shapes.semantic[kind].to(torch.uint8)
        instance[hit] = shapes.instance[kind].to(torch.int32)
    if len(on_ground):
        rgb, classes, asphalt = _ground(
            on_ground, rays[on_ground], flat_w[on_ground], ground, light, look, as_light, view, shadows
        )
        if look.wetness > 0:
            rgb = rgb + _reflection(colour + glow, on_ground, rays[on_ground], asphalt, look, view, b)
        colour[on_ground] = rgb
        semantic[on_ground] = classes.to(torch.uint8)

    depth = 1 / flat_w.clamp(min=1e-4)
    air = torch.exp(-look.haze_per_m * (depth * rays.norm(dim=1)).clamp(max=2500.0))
    solid = torch.cat([hit, on_ground])
    colour[solid] = torch.lerp(as_light["haze"].expand(len(solid), 3), colour[solid], air[solid, None])
    colour = colour + glow * air[:, None].clamp(min=0.05) ** 0.5
    image = colour.view(b, h, w, 3).permute(0, 3, 1, 2)
    if look.lights:
        image = image + _bloom(glow.view(b, h, w, 3).permute(0, 3, 1, 2))
    if rain is not None:
        image = image + _streaks(image, rain, as_light["haze"])
    return _to_srgb(image * look.exposure), semantic.view(b, h, w), instance.view(b, h, w)


def _lights(look: Look, device: torch.device) -> dict[str, Tensor]:
    names = ("sun", "sunlight", "ambient", "zenith", "horizon", "haze")
    return {n: torch.as_tensor(getattr(look, n), dtype=torch.float32, device=device) for n in names}


def _sky(ray: Tensor, look: Look, lights: dict[str, Tensor], tile: Tensor) -> Tensor:
    d = ray / ray.norm(dim=1, keepdim=True)
    up = d[:, 2].clamp(min=0)
    colour = torch.lerp(lights["horizon"], lights["zenith"], (up[:, None] / (up[:, None] + 0.18)) ** 0.9)
    towards = (d @ lights["sun"]).clamp(min=0)
    halo = 0.25 * towards**8 + 0.9 * towards**200
    if look.weather == "clear":
        colour = colour + halo[:, None] * lights["sunlight"] * 0.5
    plane = d[:, :2] / (up[:, None] + 0.12)
    shape = noise(tile, plane[:, 0] + 9.0, plane[:, 1] + 5.0, 0.045) + 0.35 * noise(
        tile, plane[:, 0], plane[:, 1], 0.012
    )
    cover = torch.sigmoid((shape - 1.6 + 2.6 * look.cloud) * 2.2) * (up * 9).clamp(max=1)
    if look.weather == "clear":
        lit = 0.55 * lights["ambient"] + 0.32 * lights["sunlight"]
        return torch.lerp(colour, lit.expand_as(colour), (0.75 * cover)[:, None])
    return colour * (1 + 0.16 * (cover[:, None] - 0.5) * (look.cloud > 0))


def _sample_light(light: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear lookup of the light map: sunlight and lamplight at (P,) points."""
    rows, columns = light.shape[1:]
    grid = torch.stack([x / (columns * LIGHTMAP_M), y / (rows * LIGHTMAP_M)], -1) * 2 - 1
    out = F.grid_sample(light[None], grid[None, None], align_corners=False, padding_mode="border")[0, :, 0]
    return out[0], out[1]


def _headlights(ray: Tensor, depth: Tensor, view: View, frame: Tensor, look: Look) -> Tensor:
    """Light of the car's own headlights at a pixel: a beam that is wide, cut off above, and fades with distance."""
    if not look.lights or look.time == "day":
        return torch.zeros_like(depth)
    aside = (ray * view.rotation[frame, :, 0]).sum(1)
    below = -ray[:, 2]
    beam = torch.exp(-((aside / 0.42) ** 2)) * torch.sigmoid((below + 0.012) * 90)
    return 2.6 * beam * (depth / (depth + 4)) / (1 + (depth / 15) ** 2) * (0.25 if look.time == "dusk" else 1.0)


def _ground(pixel, ray, w, ground, light, look, lights, view, shadows):
    frame = pixel // (view.height * view.width)
    depth = 1 / w
    position = view.position[frame]
    x, y = position[:, 0] + ray[:, 0] * depth, position[:, 1] + ray[:, 1] * depth
    reach = ray[:, :2].norm(dim=1)
    across = (depth / view.focal_px).clamp(min=1e-3)
    along = across * (reach * reach + ray[:, 2] ** 2).sqrt() / ray[:, 2].abs().clamp(min=1e-3)
    albedo, semantic, asphalt = surface(ground, x, y, across, along, ray[:, 0] / reach, ray[:, 1] / reach)
    if look.wetness > 0:
        albedo = albedo * (1 - 0.45 * look.wetness * asphalt - 0.2 * look.wetness)[:, None]
    sun, lamp = _sample_light(light, x, y)
    covered, contact = _cast(frame, x, y, depth, shadows, look)
    sun = sun * (1 - covered)
    direct = lights["sunlight"] * lights["sun"][2].clamp(min=0.12)
    irradiance = lights["ambient"] * (1 - 0.55 * contact)[:, None] + direct * sun[:, None]
    if look.lights and look.time != "day":
        strength = 0.75 if look.time == "night" else 0.35
        irradiance = (
            irradiance + lamp[:, None] * strength * lamp.new_tensor([1.0, 0.78, 0.5]) * (1 - 0.5 * contact)[:, None]
        )
        beam = _headlights(ray, depth, view, frame, look)
        irradiance = irradiance + beam[:, None] * beam.new_tensor([1.0, 0.96, 0.86])
    return albedo * irradiance, semantic, asphalt


def _cast(
    frame: Tensor, x: Tensor, y: Tensor, depth: Tensor, shadows: list[Tensor], look: Look
) -> tuple[Tensor, Tensor]:
    """Shadow of moving things at ground points: cast by the sun, and the dark under them; both (P,) in 0..1."""
    cast, contact = torch.zeros_like(x), torch.zeros_like(x)
    sun = torch.as_tensor(-look.sun[:2] / max(look.sun[2], 0.12), dtype=x.dtype, device=x.device)
    for k, things in enumerate(shadows):
        near = torch.nonzero((frame == k) & (depth < 45.0))[:, 0]
        if not len(things) or not len(near):
            continue
        px, py, yaw, half_l, half_w, height = things.unbind(1)
        dx, dy = x[near, None] - px, y[near, None] - py  # (P, n)
        shift = (sun[None] * height[:, None])[None]  # (1, n, 2)
        share = ((dx * shift[..., 0] + dy * shift[..., 1]) / (shift**2).sum(-1).clamp(min=1e-6)).clamp(0, 1)
        c, s = torch.cos(yaw), torch.sin(yaw)

        def outside(dx: Tensor, dy: Tensor, c=c, s=s, half_l=half_l, half_w=half_w) -> Tensor:
            lx, ly = (dx * c + dy * s).abs() - half_l, (dy * c - dx * s).abs() - half_w
            return torch.hypot(lx.clamp(min=0), ly.clamp(min=0)) + torch.maximum(lx, ly).clamp(max=0)

        swept = outside(dx - share * shift[..., 0], dy - share * shift[..., 1])
        cast[near] = (0.5 - swept / 0.25).clamp(0, 1).amax(1)
        contact[near] = (1 - (outside(dx, dy) + 0.15) / 0.5).clamp(0, 1).amax(1)
    return cast, contact


def _objects(visible: Visible, pixel, ray, shapes: Shapes, light, look, lights, view: View, tile):
    c = visible.candidates
    candidate = visible.candidate.reshape(-1)[pixel]
    depth = 1 / visible.w.reshape(-1)[pixel]
    kind, frame = c.shape[candidate], c.frame[candidate]
    table = torch.cat(
        [
            shapes.centre,
            shapes.half,
            torch.cos(shapes.yaw)[:, None],
            torch.sin(shapes.yaw)[:, None],
            shapes.taper,
            shapes.param,
        ],
        1,
    ).float()
    cx, cy, cz, hx, hy, hz, cos, sin, tf, tb, ts, p0, p1 = table.index_select(0, kind).unbind(1)
    world = view.position[frame] + ray * depth[:, None]
    dx, dy, dz = world[:, 0] - cx, world[:, 1] - cy, world[:, 2] - cz
    lx, ly, lz = (dx * cos + dy * sin) / hx, (dy * cos - dx * sin) / hy, dz / hz
    round_ = shapes.ellipsoid[kind]
    up = (lz + 1) / 2
    faces = torch.stack([lx + tf * up - 1, -lx + tb * up - 1, ly.abs() + ts * up - 1, up - 1, -up], 1)
    face = faces.argmax(1)  # front, back, side, top, bottom
    zero = torch.zeros_like(lx)
    nx = torch.where(round_, lx, torch.where(face == 0, 1.0, torch.where(face == 1, -1.0, zero))) / hx
    ny = torch.where(round_, ly, torch.where(face == 2, torch.sign(ly), zero)) / hy
    lean = torch.where(face == 0, tf, torch.where(face == 1, tb, torch.where(face == 2, ts, zero))) / 2
    nz = torch.where(round_, lz, torch.where(face == 3, 1.0, torch.where(face == 4, -1.0, lean))) / hz
    normal = F.normalize(torch.stack([nx * cos - ny * sin, nx * sin + ny * cos, nz], 1), dim=1)

    material = shapes.material[kind]
    albedo = shapes.colour.float().index_select(0, kind).clone()
    emitted = torch.zeros_like(albedo)
    mirror = torch.zeros_like(depth)
    footprint = depth / view.focal_px
    facing = -(normal * F.normalize(ray, dim=1)).sum(1).clamp(max=-0.12)

    facade = torch.nonzero((material == Material.FACADE) & (face < 3))[:, 0]
    if len(facade):
        a, e, m = _facade(facade, lx, ly, world[:, 2], hx, hy, hz, p0, p1, face, footprint / facing, albedo, look)
        albedo[facade], emitted[facade], mirror[facade] = a, e, m
    cabin = torch.nonzero((material == Material.CABIN) & (face < 3))[:, 0]
    if len(cabin):
        frame_post = (
            (up[cabin] < 0.1) | (up[cabin] > 0.9) | ((face[cabin] == 2) & ((lx[cabin].abs() - 0.05).abs() < 0.05))
        )
        albedo[cabin] = torch.where(frame_post[:, None], albedo[cabin], albedo.new_tensor(_GLASS))
        mirror[cabin] = torch.where(frame_post, 0.05, 0.35)
    paint = material == Material.PAINT
    mirror = torch.where(paint & (face != 3), torch.full_like(mirror, 0.06), mirror)
    lamp_band = paint & ~round_ & (face < 2) & (ly.abs() > 0.55) & (ly.abs() < 0.95) & (lz > 0.1) & (lz < 0.7)
    head, tail = lamp_band & (face == 0), lamp_band & (face == 1)
    albedo[head], albedo[tail] = albedo.new_tensor([0.7, 0.7, 0.68]), albedo.new_tensor([0.35, 0.01, 0.01])
    if look.lights:
        power = 1.0 if look.time == "night" else 0.6
        emitted[head] = emitted.new_tensor([2.6, 2.5, 2.2]) * power
        emitted[tail] = emitted.new_tensor([0.9, 0.03, 0.02]) * power
    emitted[tail] = emitted[tail] + p0[tail, None] * emitted.new_tensor([1.4, 0.06, 0.04])
    leaf = torch.nonzero(material == Material.FOLIAGE)[:, 0]
    if len(leaf):
        grain = noise(tile, world[leaf, 0] + world[leaf, 2], world[leaf, 1] - world[leaf, 2], 0.11)
        albedo[leaf] = albedo[leaf] * (1 + 0.3 * grain * (0.2 / footprint[leaf]).clamp(max=1))[:, None].clamp(0.3, 1.8)
    signal = torch.nonzero((material == Material.SIGNAL) & (face < 2))[:, 0]
    if len(signal):
        e = _signal(ly[signal], lz[signal], p0[signal], emitted)
        emitted[signal] = torch.where((face[signal] == 1)[:, None], e, 0 * e)
    lamp = material == Material.LAMP
    if look.lights and look.time != "day":
        emitted[lamp] = emitted.new_tensor([3.0, 2.4, 1.5])

    sun_reach, lamplight = _sample_light(light, world[:, 0], world[:, 1])
    low = (1 - world[:, 2] / 6).clamp(0, 1)
    sun_reach = torch.where(
        (material == Material.FACADE) | (material == Material.FOLIAGE), torch.ones_like(low), 1 - low * (1 - sun_reach)
    )
    lambert = (normal @ lights["sun"]).clamp(min=0) * sun_reach
    wrap = 0.68 + 0.32 * normal[:, 2]
    near_ground = 0.72 + 0.28 * (world[:, 2] / 1.2).clamp(0, 1)
    irradiance = lights["ambient"] * (wrap * near_ground)[:, None] + lights["sunlight"] * lambert[:, None]
    if look.lights and look.time != "day":
        strength = 0.6 if look.time == "night" else 0.25
        fade = (1 - (world[:, 2] - 5).clamp(min=0) / 6).clamp(0, 1)
        irradiance = irradiance + (lamplight * fade * strength)[:, None] * albedo.new_tensor([1.0, 0.78, 0.5])
        beam = _headlights(ray, depth, view, frame, look) * facing.clamp(0, 1)
        irradiance = irradiance + beam[:, None] * albedo.new_tensor([1.0, 0.96, 0.86])
    reflected = torch.lerp(lights["horizon"], lights["zenith"], 0.4) * mirror[:, None]
    return albedo * irradiance + reflected, emitted, kind


def _facade(i, lx, ly, z, hx, hy, hz, p0, p1, face, footprint, albedo, look):
    """Windows: bays of p1 metres, storeys of 3.2 m, a taller ground floor; p0 seeds which are lit."""
    side = face[i] == 2
    along = torch.where(side, lx[i] * hx[i], ly[i] * hy[i])
    f = footprint[i].clamp(min=1e-3)
    height, bay = 2 * hz[i], p1[i]
    storeys = torch.floor(height / 3.0).clamp(min=1)
    storey_m = height / storeys
    u, v = along / bay + 0.5, z[i] / storey_m
    window = dashes(u - 0.22, 1.0, 0.56, f / bay) * dashes(v - 0.28, 1.0, 0.5, f / storey_m)
    shop = (v < 1) & (hz[i] > 5)
    window = torch.where(shop, dashes(u - 0.08, 1.0, 0.84, f / bay) * ((v > 0.12) & (v < 0.8)), window)
    cell = torch.floor(u) * 127.1 + torch.floor(v) * 311.7 + p0[i] * 74.7 + side * 17.3
    lit = torch.remainder(torch.sin(cell) * 43758.5453, 1.0)
    ledge = dashes(v - 0.95, 1.0, 0.05, f / storey_m)
    wall = albedo[i] * (1 - 0.25 * ledge - 0.12 * shop)[:, None]
    colour = torch.lerp(wall, wall.new_tensor([0.06, 0.075, 0.09]).expand_as(wall), window[:, None])
    emitted = torch.zeros_like(wall)
    if look.lights:
        share = {"night": 0.42, "dusk": 0.3, "day": 0.1}[look.time]
        on = torch.where(f / bay > 0.6, torch.full_like(lit, share), (lit < share).float())
        on = torch.where(shop, 0.35 + 0.65 * (lit < 0.5), on)
        warm = torch.stack([torch.ones_like(lit), 0.62 + 0.3 * lit, 0.25 + 0.5 * lit], 1)
        emitted = warm * (on * window * (0.34 if look.time == "night" else 0.28))[:, None]
    return colour, emitted, 0.22 * window


def _signal(ly: Tensor, lz: Tensor, phase: Tensor, like: Tensor) -> Tensor:
    """The lit lamp of a traffic light: red at the top, green at the bottom."""
    lamp = torch.where(lz > 0.33, 0, torch.where(lz > -0.33, 1, 2))
    on = (lamp == phase.long()) & (ly.abs() < 0.85)
    return like.new_tensor(_SIGNAL_COLOURS)[lamp] * (1.8 * on)[:, None]


def _reflection(colour: Tensor, pixel: Tensor, ray: Tensor, asphalt: Tensor, look: Look, view: View, b: int) -> Tensor:
    """Wet ground mirrors what stands above the horizon: the picture, upside down about the horizon and smeared downwards."""
    h, w = view.height, view.width
    image = colour.view(b, h, w, 3).permute(0, 3, 1, 2)
    image = F.avg_pool2d(F.pad(image, (1, 1, 5, 5), mode="replicate"), (11, 3), stride=1)
    pitch = torch.asin(-view.rotation[:, 2, 2])
    horizon = (h / 2 - view.focal_px * torch.tan(pitch)).round().long()
    frame, rest = pixel // (h * w), pixel % (h * w)
    row, column = rest // w, rest % w
    above = (2 * horizon[frame] - 1 - row).clamp(0, h - 1)
    mirrored = image[frame, :, above, column]
    slope = -ray[:, 2] / ray.norm(dim=1)
    fresnel = 0.04 + 0.96 * (1 - slope) ** 5
    return mirrored * (fresnel * look.wetness * (0.25 + 0.45 * asphalt))[:, None]


def _bloom(glow: Tensor) -> Tensor:
    out = torch.zeros_like(glow)
    for k, weight in ((5, 0.28), (15, 0.3)):
        soft = F.avg_pool2d(glow, k, stride=1, padding=k // 2)
        out = out + weight * F.avg_pool2d(soft, k, stride=1, padding=k // 2)
    return out


def _streaks(image: Tensor, phase: Tensor, haze: Tensor) -> Tensor:
    """Falling rain: short vertical streaks whose places depend on the phase alone."""
    b, _, h, w = image.shape
    x, y = torch.arange(w, device=image.device), torch.arange(h, device=image.device)
    column = torch.remainder(torch.sin(x * 12.9898) * 43758.5453, 1.0)
    fall = torch.remainder(y[:, None] / h * 1.7 + column * 7.3 + phase[:, None, None] * 13.7, 1.0)
    streak = (column > 0.72) * ((fall > 0.9).float() * (fall - 0.9) * 10)
    return streak[:, None] * 0.10 * haze.mean() * torch.ones(3, 1, 1, device=image.device)


def _to_srgb(linear: Tensor) -> Tensor:
    c = linear.clamp(min=0)
    c = c * (1 + c / 6.25) / (1 + c) * 1.35  # rolls off highlights
    c = c.clamp(max=1)
    return (torch.where(c <= 0.0031308, 12.92 * c, 1.055 * c.clamp(min=1e-6) ** (1 / 2.4) - 0.055) * 255 + 0.5).to(
        torch.uint8
    )


SEMANTIC_COLOURS = {  # for pictures of the semantic image
    Semantic.SKY: (135, 185, 235), Semantic.ROAD: (90, 84, 96), Semantic.MARKING: (245, 245, 245), Semantic.PAVEMENT: (205, 160, 190),
    Semantic.TERRAIN: (150, 205, 130), Semantic.BUILDING: (130, 125, 120), Semantic.VEGETATION: (70, 130, 60),
    Semantic.POLE: (190, 190, 120),
    Semantic.SIGNAL: (250, 170, 30), Semantic.CAR: (40, 80, 200), Semantic.TRUCK: (30, 40, 120), Semantic.BUS: (20, 110, 150),
    Semantic.BICYCLE: (170, 40, 60), Semantic.PEDESTRIAN: (225, 40, 70),
}  # fmt: skip
