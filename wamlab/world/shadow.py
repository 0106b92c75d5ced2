"""Shadows of what moves: which ground points they reach, and how dark they are. The shadows of what stands are in the light map."""

from __future__ import annotations

import torch
from torch import Tensor

from wamlab.world.raster import expand, pixel_runs
from wamlab.world.texture import norm, take
from wamlab.world.weather import Look

_REACH_M = 45.0
_NEAR_M = 0.5
_SOFT_M = 0.35  # half the width of a shadow's edge, and of the dark under a vehicle


def moving_shadows(
    pixel: Tensor, x: Tensor, y: Tensor, casters: Tensor, look: Look, position: Tensor, rotation: Tensor, image: tuple
) -> tuple[Tensor, Tensor]:
    """Darkness at ground points (P,), both in 0..1: cast by the sun, and under the things.

    Args:
        pixel: (P,) flat index into (B, H, W) of each point. casters: (7, n) frame, x, y, yaw, half length, half width, height.
        position, rotation: (B, 3) and (B, 3, 3), the cameras. image: focal length, width and height in pixels.
    """
    frame, px, py, yaw, half_l, half_w, height = casters
    sun = -look.sun[:2] / max(look.sun[2], 0.12)
    sx, sy, c, s = height * float(sun[0]), height * float(sun[1]), torch.cos(yaw), torch.sin(yaw)
    # the outline on the ground: the corners of the footprint, and where the sun casts those of the roof
    sign = x.new_tensor([[1, 1, -1, -1.0], [1, -1, 1, -1.0]])[:, :, None]
    u, v = sign[0] * (half_l + _SOFT_M), sign[1] * (half_w + _SOFT_M)
    base = torch.stack([px + u * c - v * s, py + u * s + v * c, torch.zeros_like(u)])  # (3, 4, n)
    outline = torch.cat([base, base + torch.stack([sx, sy, torch.zeros_like(sx)])[:, None]], 1)
    number = frame.long()
    local = outline - position.index_select(0, number).T[:, None]
    local = torch.einsum("nwc,wkn->ckn", rotation.index_select(0, number), local)  # right, down, forward
    shown = (local[2].amax(0) > _NEAR_M) & (local[2].amin(0) < _REACH_M)
    thing, target = _covered(local, number, shown, image)

    place = torch.full((len(position) * image[1] * image[2],), -1, dtype=torch.int32, device=x.device)
    place.index_copy_(0, pixel, torch.arange(len(pixel), dtype=torch.int32, device=x.device))
    point = place.index_select(0, target)
    keep = torch.nonzero(point >= 0)[:, 0]
    thing, point = take(keep, thing, point)
    sx, sy = sx * c + sy * s, sy * c - sx * s  # the sun's cast in the thing's own frame
    kx, ky = (torch.copysign(1 / v.abs().clamp(min=1e-3), v) for v in (sx, sy))
    table = torch.stack([px, py, c, s, half_l, half_w, sx, sy, kx, ky, half_l * kx.abs(), half_w * ky.abs()])
    px, py, c, s, half_l, half_w, sx, sy, kx, ky, wx, wy = table.index_select(1, thing)
    dx, dy = x.index_select(0, point) - px, y.index_select(0, point) - py
    lx, ly = torch.addcmul(dx * c, dy, s), torch.addcmul(dy * c, dx, s, value=-1)
    # the footprint slides from 0 to 1 along the cast; where on the way does it cover the point best?
    tx, ty = lx * kx, ly * ky
    first, last = torch.maximum(tx - wx, ty - wy).clamp_(min=0), torch.minimum(tx + wx, ty + wy).clamp_(max=1)
    share = first.add_(last).mul_(0.5).clamp_(0, 1)

    def outside(lx: Tensor, ly: Tensor) -> Tensor:
        lx, ly = lx.abs().sub_(half_l), ly.abs().sub_(half_w)
        return norm(lx.clamp(min=0), ly.clamp(min=0)).add_(torch.maximum(lx, ly).clamp_(max=0))

    swept = (0.5 - outside(lx - share * sx, ly - share * sy) * 4).clamp_(0, 1)
    under = (0.7 - outside(lx, ly) * 2).clamp_(0, 1)
    point, dark = point.long(), torch.zeros(2, len(x), device=x.device)
    for layer, value in zip(dark, (swept, under), strict=True):
        layer.scatter_reduce_(0, point, value, "amax")
    return dark[0], dark[1]


def _covered(local: Tensor, frame: Tensor, shown: Tensor, image: tuple) -> tuple[Tensor, Tensor]:
    """Every (thing, flat pixel) pair of n convex hulls of K points in camera coordinates (3, K, n)."""
    focal_px, width, height = image
    i, j = torch.triu_indices(local.shape[1], local.shape[1], 1, device=local.device)
    p, q = local.index_select(1, i), local.index_select(1, j)  # every edge, cut at the near plane

    def cut(p: Tensor, q: Tensor) -> Tensor:
        share = ((_NEAR_M - p[2]) / (q[2] - p[2] + 1e-9)).clamp(0, 1) * (p[2] < _NEAR_M)
        end = p + (q - p) * share
        return end[:2] / end[2].clamp(min=_NEAR_M) * focal_px

    p, q = cut(p, q), cut(q, p)  # pixels from the middle of the image, (2, E, n)
    gone = torch.maximum(local.index_select(1, i)[2], local.index_select(1, j)[2]) < _NEAR_M
    p, q = p.masked_fill(gone, torch.nan), q.masked_fill(gone, torch.nan)
    ends = torch.cat([p[1], q[1]]) + height / 2 - 0.5
    top = torch.ceil(torch.nan_to_num(ends, nan=1e6).amin(0)).clamp(0, height).long()
    bottom = torch.floor(torch.nan_to_num(ends, nan=-1e6).amax(0)).clamp(-1, height - 1).long()
    thing, row = expand((bottom - top + 1).clamp(min=0) * shown, top)
    v = row + (0.5 - height / 2)
    (p_u, p_v), (q_u, q_v) = p.index_select(2, thing), q.index_select(2, thing)
    share = (v - p_v) / (q_v - p_v + 1e-9)
    u = torch.where((share >= 0) & (share <= 1), p_u + share * (q_u - p_u), torch.nan)
    left, right = torch.nan_to_num(u, nan=1e6).amin(0), torch.nan_to_num(u, nan=-1e6).amax(0)
    line, column = pixel_runs(left / focal_px, right / focal_px, focal_px, width)
    start = (frame.index_select(0, thing) * height + row) * width
    return thing.index_select(0, line), start.index_select(0, line) + column
