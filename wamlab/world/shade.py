"""Colours: what light makes of the shapes, the ground and the sky that the rasteriser found. Linear light inside, sRGB bytes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.world.air import bloom, colours_of, in_haze, sky, streaks, to_srgb
from wamlab.world.ground import Ground, Surface, sample_map, surface
from wamlab.world.objects import Finish, Shapes, by_group, finish
from wamlab.world.raster import Visible
from wamlab.world.shadow import moving_shadows
from wamlab.world.texture import norm, take
from wamlab.world.weather import Look

_LOW_HAZE_M = 400.0  # air near the ground is thicker: at this distance twice as thick as elsewhere
_SMEAR_PX = (-3, 3)  # rows that a wet road mixes
_RIPPLE_PX = 2.5  # rows by which its grain disturbs the picture in it


@dataclass(frozen=True)
class View:
    """The camera of each frame in the batch: position (B, 3), rotation (B, 3, 3), float32; how it is mounted (3, 3: camera -> ego frame);
    and the image's size."""

    position: Tensor
    rotation: Tensor
    mount: Tensor
    focal_px: float
    width: int
    height: int

    @cached_property
    def rays(self) -> tuple[Tensor, Tensor]:
        """World directions (3, B * H * W) with a depth of one metre, and each pixel's frame (B * H * W,)."""
        u = (torch.arange(self.width, device=self.position.device) + 0.5 - self.width / 2) / self.focal_px
        v = (torch.arange(self.height, device=self.position.device) + 0.5 - self.height / 2) / self.focal_px
        right, down, forward = self.rotation.permute(2, 1, 0)[..., None, None]  # each (3, B, 1, 1)
        frame = torch.arange(len(self.position), dtype=torch.int32, device=self.position.device)
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
    look: Look,
    view: View,
    casters: Tensor,
    rain: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour a batch of frames of one scene.

    Args:
        casters: (7, n) frame, x, y, yaw, half length, half width, height of moving things that cast a shadow.
        rain: (B,) phase of the streaks in 0..1, None without rain.

    Returns:
        rgb (B, 3, H, W) uint8, semantic (B, H, W) uint8, instance (B, H, W) int32.
    """
    b, h, w = visible.w.shape
    shape, flat_w = visible.shape.reshape(-1), visible.w.reshape(-1)
    lights = colours_of(look, flat_w.device)
    no_shape = shape < 0
    hit = torch.nonzero(~no_shape)[:, 0]
    on_ground = torch.nonzero(no_shape & (flat_w > 0))[:, 0]
    above = torch.nonzero(no_shape & (flat_w <= 0))[:, 0]

    colour, spill = torch.zeros(3, b * h * w, device=flat_w.device), None
    semantic, instance = (F.pad(t, (1, 0)).index_select(0, shape + 1) for t in (shapes.semantic, shapes.instance))

    colour.index_copy_(1, above, sky(view.rays[0].index_select(1, above), look, lights, ground.noise))
    if len(hit):
        kind = shape.index_select(0, hit)
        order, counts = by_group(shapes, kind)
        hit, kind = take(order, hit, kind)
        rgb, emitted = _objects(hit, kind, counts, flat_w, shapes, ground, look, lights, view)
        colour.index_copy_(1, hit, rgb)
        if look.lights:
            spill = bloom(emitted, hit, b, h, w)
    if len(on_ground):
        rgb, classes = _ground(on_ground, flat_w, colour, ground, look, lights, view, casters)
        colour.index_copy_(1, on_ground, rgb)
        semantic.index_copy_(0, on_ground, classes)
    image = colour.view(3, b, h, w)
    _soften(image, visible.shape)
    if spill is not None:
        image += spill
    if rain is not None:
        image += streaks(b, h, w, rain).mul_(0.1 * lights["haze"].mean())
    return to_srgb(image, look.exposure).transpose(0, 1), semantic.view(b, h, w), instance.view(b, h, w)


def _headlights(pixel: Tensor, down: Tensor, depth: Tensor, look: Look, view: View) -> Tensor:
    """Light of the car's own headlights at a pixel: a beam that is wide, cut off above, and fades with distance.

    It shines ahead of the car, wherever the camera looks.
    """
    column, row = pixel % view.width, pixel.div(view.width, rounding_mode="floor") % view.height
    u, v = ((n + (0.5 - size / 2)) / view.focal_px for n, size in ((column, view.width), (row, view.height)))
    (fx, fy, fz), (lx, ly, lz) = view.mount[:2].tolist()
    ahead = (fx * u + fy * v + fz).clamp_(min=1e-3)  # metres ahead and to the left for each metre of depth
    aside = (lx * u + ly * v + lz) / ahead
    beam = torch.exp(-((aside / 0.42) ** 2)) * torch.sigmoid((down / ahead + 0.012) * 90)
    depth = depth * ahead
    return 2.6 * beam * (depth / (depth + 4)) / (1 + (depth / 15) ** 2) * (0.25 if look.time == "dusk" else 1.0)


def _artificial(lamplight: Tensor, beam: Tensor) -> Tensor:
    """(3, P) irradiance from street lamps and from the car's headlights."""
    lamp, head = lamplight.new_tensor([1.0, 0.78, 0.5])[:, None], lamplight.new_tensor([1.0, 0.96, 0.86])[:, None]
    return lamplight * lamp + beam * head


def _ground(pixel, flat_w, colour, ground: Ground, look, lights, view: View, casters) -> tuple[Tensor, Tensor]:
    ray, position = view.seen_from(pixel)
    depth = 1 / flat_w.index_select(0, pixel)
    x, y = torch.addcmul(position[0], ray[0], depth), torch.addcmul(position[1], ray[1], depth)
    reach = norm(ray[0], ray[1])
    length, down = norm(reach, ray[2]), -ray[2]
    across = (depth * (1 / view.focal_px)).clamp_(min=1e-3)
    along = across * length / down.clamp(min=1e-3)
    s = surface(ground, x, y, across, along, ray[0] / reach, ray[1] / reach)
    albedo, image = s.albedo, (view.focal_px, view.width, view.height)
    if look.wetness > 0:
        albedo = albedo * (1 - look.wetness * (0.45 * s.asphalt + 0.2))
    cast, contact = moving_shadows(pixel, x, y, casters, look, view.position, view.rotation, image)
    direct = lights["sunlight"] * lights["sun"][2].clamp(min=0.12)
    irradiance = torch.addcmul(lights["ambient"] * (1 - 0.55 * contact), direct, s.sun * (1 - cast))
    if look.lights and look.time != "day":
        strength = 0.75 if look.time == "night" else 0.35
        beam = _headlights(pixel, down, depth, look, view)
        irradiance += _artificial(s.lamp * (1 - 0.5 * contact) * strength, beam)
    rgb = albedo * irradiance
    if look.wetness > 0:
        rgb += _reflection(colour, pixel, down / length, _puddles(s), s.grain, look, view)
    distance = depth * length
    return in_haze(rgb, distance * (1 + distance / _LOW_HAZE_M), look, lights)[0], s.semantic


def _puddles(s: Surface) -> Tensor:
    """How much wet ground mirrors, (P,): water stands where the carriageway is low."""
    return 0.2 + s.asphalt * (0.35 + 0.45 * ((s.tone - 0.2) * 2).clamp_(0, 1))


def _objects(
    pixel, kind, counts, flat_w, shapes: Shapes, ground: Ground, look, lights, view: View
) -> tuple[Tensor, Tensor]:
    ray, position = view.seen_from(pixel)
    depth = 1 / flat_w.index_select(0, pixel)
    point = torch.addcmul(position, ray, depth)
    length = norm(norm(ray[0], ray[1]), ray[2])
    down, ray = -ray[2], ray / length
    made = finish(shapes, kind, counts, point, ray, depth / view.focal_px, look, ground.textures, ground.random)
    nz, wz = made.normal[2], point[2]
    lit = look.lights and look.time != "day"
    lambert = (made.normal * lights["sun"]).sum(0).clamp_(min=0)
    # walls and crowns would stand in their own shadow: only the others look up what sunlight reaches the ground there
    first = len(wz) - counts[-1]
    start = 0 if lit else first
    if start < len(wz):
        sun, lamplight = sample_map(ground.map[:2], point[0, start:], point[1, start:])
        lambert[first:] *= 1 - (1 - wz[first:] / 6).clamp_(0, 1) * (1 - sun[first - start :])
    open_sky = (0.68 + 0.32 * nz).mul_(0.72 + 0.28 * (wz / 1.2).clamp_(0, 1))
    irradiance = torch.addcmul(lights["ambient"] * open_sky, lights["sunlight"], lambert)
    if lit:
        facing = -(made.normal * ray).sum(0).clamp_(max=-0.12)
        strength = (0.6 if look.time == "night" else 0.25) * (1 - (wz - 5).clamp(min=0) / 6).clamp(0, 1)
        beam = _headlights(pixel, down, depth, look, view) * facing
        irradiance += _artificial(lamplight * strength, beam)
    rgb = made.albedo * irradiance
    rgb += _sky_on(made, ray, lights)
    rgb, clear = in_haze(rgb, depth * length, look, lights)
    emitted = made.emitted * clear.clamp_(min=0.05).sqrt_()
    return rgb.add_(emitted), emitted


def _sky_on(made: Finish, ray: Tensor, lights: dict[str, Tensor]) -> Tensor:
    """(3, P) sky, or the street below it, that polished things mirror: more at grazing angles (Schlick 1994)."""
    cosine = -(made.normal * ray).sum(0).clamp_(max=0)
    up = torch.addcmul(ray[2], cosine, made.normal[2], value=2)  # of the mirrored ray
    share = made.mirror * torch.add(0.05, (1 - cosine).pow_(4), alpha=0.75)
    sky = torch.lerp(lights["horizon"], lights["zenith"], (up * 2).clamp_(0, 1))
    street = 0.12 * (lights["ambient"] + lights["sunlight"] * lights["sun"][2].clamp(min=0))
    return torch.lerp(street, sky, (up * 8 + 0.5).clamp_(0, 1)).mul_(share)


def _soften(image: Tensor, shape: Tensor) -> Tensor:
    """Blend pixels (3, B, H, W) along the outlines of shapes (B, H, W) with their neighbours: one ray a pixel leaves stairs."""
    b, h, w = shape.shape
    edge = torch.zeros(b, h, w, dtype=torch.bool, device=shape.device)
    across, down = shape[:, :, 1:] != shape[:, :, :-1], shape[:, 1:] != shape[:, :-1]
    for part, differs in (
        (edge[:, :, 1:], across),
        (edge[:, :, :-1], across),
        (edge[:, 1:], down),
        (edge[:, :-1], down),
    ):
        part.logical_or_(differs)
    edge[:, :: h - 1], edge[:, :, :: w - 1] = False, False
    pixel = torch.nonzero(edge.view(-1))[:, 0]
    flat = image.view(3, -1)
    around = sum(flat.index_select(1, pixel + step) for step in (-w, -1, 1, w))
    flat.index_copy_(1, pixel, flat.index_select(1, pixel).mul_(0.5).add_(around, alpha=0.125))
    return image


def _reflection(
    colour: Tensor, pixel: Tensor, slope: Tensor, puddle: Tensor, grain: Tensor, look: Look, view: View
) -> Tensor:
    """Wet ground mirrors what stands above the horizon: the picture, upside down about the horizon and smeared up and down."""
    h, w = view.height, view.width
    pitch = torch.asin(-view.rotation[:, 2, 2])
    horizon = (h / 2 - view.focal_px * torch.tan(pitch)).round().int()
    frame = view.rays[1].index_select(0, pixel)
    line = torch.div(pixel.int(), w, rounding_mode="floor")
    top = frame * h
    ripple = (grain * (_RIPPLE_PX * (1.2 - puddle))).round_().int()
    above = 2 * (top + horizon.index_select(0, frame)) - 1 - line + ripple
    offset = pixel - line.long() * w
    seen = sum(
        colour.index_select(1, torch.minimum((above - up).clamp_(min=0).maximum(top), top + h - 1) * w + offset)
        for up in _SMEAR_PX
    )
    fresnel = 0.04 + 0.96 * (1 - slope) ** 5
    return seen * (fresnel * puddle * (look.wetness / len(_SMEAR_PX)))
