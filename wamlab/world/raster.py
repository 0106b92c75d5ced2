"""Which shape does each pixel see, and how far away is it: a scanline rasteriser for convex shapes, on CPU or GPU.

Everything is done in inverse depth w = 1/z. A plane seen by a pinhole camera has an inverse depth that is linear in the pixel (u, v),
so a box of six planes covers, in one image row, exactly the pixels of an interval that six linear forms give; an ellipsoid
gives the interval between the roots of a quadratic. So only pixels that are covered are ever visited, all shapes and rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

_FAR = 1e6
_NEAR_M = 0.2  # what is closer than this is not drawn


@dataclass(frozen=True)
class Candidates:
    """M (shape, frame) pairs that may be visible.

    Attributes:
        shape: (M,) index into the shapes. frame: (M,).
        origin: (M, 3) the camera in the shape's own unit coordinates. ray: (M, 3, 3) maps (u, v, 1) to the pixel ray in them,
            and `back` (M, 3, 3) is its inverse.
        ellipsoid: (M,) bool.
    """

    shape: Tensor
    frame: Tensor
    origin: Tensor
    ray: Tensor
    back: Tensor
    ellipsoid: Tensor


@dataclass(frozen=True)
class Visible:
    """What the pixels see: `candidate` (B, H, W) int64, -1 where no shape is hit, and inverse depth `w` (B, H, W) in 1/m, 0 for the sky."""

    candidate: Tensor
    w: Tensor
    candidates: Candidates


def rasterize(
    centre: Tensor,
    half: Tensor,
    yaw: Tensor,
    taper: Tensor,
    ellipsoid: Tensor,
    frame: Tensor,
    position: Tensor,
    rotation: Tensor,
    focal_px: float,
    width: int,
    height: int,
    reach_m: float,
) -> Visible:
    """Find the nearest shape in every pixel.

    Args:
        centre, half, yaw, taper, ellipsoid: N shapes as in `Primitives`, float64.
        frame: (N,) the frame that a shape belongs to, -1 for all.
        position, rotation: (B, 3) and (B, 3, 3), cameras (columns: right, down, forward), float64.
        reach_m: shapes whose near side is farther away are left out.

    Pixel (u, v) has its centre at u = (column + 0.5 - width/2) / focal. Ground (z = 0) and sky are filled in where no shape is.
    """
    c = _candidates(centre, half, yaw, taper, ellipsoid, frame, position, rotation, reach_m)
    w_ground = _ground(position, rotation, focal_px, width, height)
    image = (focal_px, width, height)
    low, high = _bounds(c, taper.index_select(0, c.shape))
    boxes, balls = torch.nonzero(~c.ellipsoid)[:, 0], torch.nonzero(c.ellipsoid)[:, 0]
    parts = [_boxes(c, taper, boxes, low, high, image), _balls(c, balls, low, high, image)]
    candidate, pixel, w = (torch.cat(p) for p in zip(*parts, strict=True))

    w = w * ((w > 0) & (w < 1 / _NEAR_M))
    best = w_ground.reshape(-1).scatter_reduce(0, pixel, w, "amax")
    wins = torch.nonzero((w >= best.index_select(0, pixel)) & (w > 0))[:, 0]
    none = len(c.shape)
    winner = torch.full((best.numel(),), none, dtype=torch.int64, device=best.device)
    winner = winner.scatter_reduce(0, pixel.index_select(0, wins), candidate.index_select(0, wins), "amin")
    winner = winner - (winner == none) * (none + 1)
    return Visible(winner.view(w_ground.shape), best.view(w_ground.shape), c)


def _ground(position: Tensor, rotation: Tensor, focal_px: float, width: int, height: int) -> Tensor:
    """(B, H, W) inverse depth of the plane z = 0, 0 above the horizon."""
    u = (torch.arange(width, device=position.device, dtype=torch.float64) + 0.5 - width / 2) / focal_px
    v = (torch.arange(height, device=position.device, dtype=torch.float64) + 0.5 - height / 2) / focal_px
    down = -(
        rotation[:, 2, 0, None, None] * u + rotation[:, 2, 1, None, None] * v[:, None] + rotation[:, 2, 2, None, None]
    )
    return (down / position[:, 2, None, None]).clamp(min=0).float()


def _candidates(centre, half, yaw, taper, ellipsoid, frame, position, rotation, reach_m) -> Candidates:
    frames = torch.arange(len(position), device=centre.device)
    offset = centre[None] - position[:, None]  # (B, N, 3)
    radius = half.norm(dim=-1)
    ahead = (offset * rotation[:, None, :, 2]).sum(-1)
    aside = (offset * rotation[:, None, :, 0]).sum(-1).abs()
    near = (ahead > -radius) & (ahead - radius < reach_m) & (aside - 1.5 * radius < 1.2 * ahead.clamp(min=0) + 2.0)
    f, n = torch.nonzero(near & ((frame < 0)[None] | (frame[None] == frames[:, None])), as_tuple=True)
    cos, sin, zero = torch.cos(yaw[n]), torch.sin(yaw[n]), torch.zeros_like(yaw[n])
    turn = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], -1).view(-1, 3, 3)  # world -> shape
    view, size = turn @ rotation.index_select(0, f), half.index_select(0, n)
    origin = (turn @ -offset[f, n][:, :, None])[:, :, 0] / size
    return Candidates(n, f, origin, view / size[:, :, None], view.transpose(1, 2) * size[:, None], ellipsoid[n])


def _planes(c: Candidates, taper: Tensor) -> tuple[Tensor, Tensor]:
    """The six planes of each box as inverse depths: w = W · (u, v, 1), (M, 6, 3), and which of them face the camera, (M, 6)."""
    front, back, side = taper.unbind(-1)
    one, zero = torch.ones_like(front), torch.zeros_like(front)
    rows = [(one, zero, front, -one), (-one, zero, back, -one), (zero, one, side, -one), (zero, -one, side, -one),
            (zero, zero, one, -one), (zero, zero, -one, zero)]  # fmt: skip
    plane = torch.stack([torch.stack(r, -1) for r in rows], 1)  # (M, 6, 4) over (x, y, (z+1)/2, 1)
    scale = torch.tensor([1.0, 1.0, 0.5], dtype=taper.dtype, device=taper.device)
    o = c.origin * scale + torch.tensor([0, 0, 0.5], dtype=taper.dtype, device=taper.device)
    a = (plane[..., :3] @ o[:, :, None])[..., 0] + plane[..., 3]
    a = torch.where(a.abs() < 1e-9, torch.full_like(a, -1e-9), a)
    return -(plane[..., :3] @ (c.ray * scale[:, None])) / a[..., None], a > 0


def _slots(w: Tensor, wanted: Tensor, filler: float) -> Tensor:
    """(M, 6, 3) -> (M, K, 3): the wanted planes first, the remaining slots a constant inverse depth."""
    k = int(wanted.sum(-1).max()) if len(wanted) else 0
    order = torch.argsort(wanted.int(), dim=-1, descending=True, stable=True)[:, : max(k, 1)]
    constant = torch.tensor([0, 0, filler], dtype=w.dtype, device=w.device)
    picked = torch.gather(w, 1, order[..., None].expand(-1, -1, 3))
    return torch.where(torch.gather(wanted, 1, order)[..., None], picked, constant)


def _bounds(c: Candidates, taper: Tensor) -> tuple[Tensor, Tensor]:
    """(M,) lowest and highest v of each shape's eight corners; edges that pass behind the camera are cut at the near plane."""
    x, y = torch.tensor([1, 1, -1, -1.0], device=taper.device), torch.tensor([1, -1, 1, -1.0], device=taper.device)
    lean = torch.where(x > 0, taper[:, :1], taper[:, 1:2])
    bottom = torch.stack([x, y, -torch.ones_like(x)], -1).to(taper.dtype).expand(len(taper), -1, -1)
    top = torch.stack([x * (1 - lean), y * (1 - taper[:, 2:]), torch.ones_like(lean)], -1)
    corner = torch.cat([bottom, top], 1)  # (M, 8, 3) in unit coordinates
    camera = (corner - c.origin[:, None]) @ c.back.transpose(1, 2)  # right, down, forward
    i = torch.tensor([0, 0, 3, 3, 4, 4, 7, 7, 0, 1, 2, 3], device=taper.device)
    j = torch.tensor([1, 2, 1, 2, 5, 6, 5, 6, 4, 5, 6, 7], device=taper.device)
    p, q = camera[:, i], camera[:, j]
    gap = q[..., 2] - p[..., 2]
    s = ((_NEAR_M - p[..., 2]) / torch.where(gap.abs() < 1e-9, torch.full_like(gap, 1e-9), gap))[..., None]
    cut = torch.where((s > 0) & (s < 1), p + s * (q - p), torch.nan)
    points = torch.cat([torch.where(camera[..., 2:] >= _NEAR_M, camera, torch.nan), cut], 1)
    v = points[..., 1] / points[..., 2]
    return torch.nan_to_num(v, nan=_FAR).amin(1), torch.nan_to_num(v, nan=-_FAR).amax(1)


def _row_of(which: Tensor, low: Tensor, high: Tensor, image: tuple[float, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The image rows of the given candidates: index into `which` (R,), row number (R,), and v (R,)."""
    focal_px, _, height = image
    low, high = low.index_select(0, which), high.index_select(0, which)
    first = torch.ceil(low * focal_px + height / 2 - 0.5).clamp(0, height).long()
    last = torch.floor(high * focal_px + height / 2 - 0.5).clamp(-1, height - 1).long()
    m, row = expand((last - first + 1).clamp(min=0), first)
    return m, row, ((row + 0.5 - height / 2) / focal_px).float()


def pixel_runs(left: Tensor, right: Tensor, focal_px: float, width: int) -> tuple[Tensor, Tensor]:
    """The pixels whose centres lie in row intervals (R,) of u: index of the interval (P,), column (P,)."""
    first = torch.ceil(left * focal_px + (width / 2 - 0.5)).clamp_(0, width).long()
    last = torch.floor(right * focal_px + (width / 2 - 0.5)).clamp_(-1, width - 1).long()
    return expand((last - first + 1).clamp_(min=0), first)


def _boxes(
    c: Candidates, taper: Tensor, which: Tensor, low: Tensor, high: Tensor, image: tuple
) -> tuple[Tensor, Tensor, Tensor]:
    """Covered pixels of the boxes among the candidates: candidate, flat pixel, inverse depth, each (P,)."""
    chosen = Candidates(*(getattr(c, f.name).index_select(0, which) for f in fields(c)))
    planes, facing = _planes(chosen, taper.index_select(0, chosen.shape))
    seen = torch.nonzero(facing.any(1))[:, 0]  # else the camera is inside
    which, planes, facing = (t.index_select(0, seen) for t in (which, planes, facing))
    m, row, v = _row_of(which, low, high, image)
    near, far = _slots(planes, facing, _FAR), _slots(planes, ~facing, 0.0)
    near, far = _along_row(near, m, v), _along_row(far, m, v)  # K pairs (slope, level): w = slope * u + level
    edge = (image[1] / 2 + 1) / image[0]
    left, right = torch.full_like(v, -edge), torch.full_like(v, edge)
    for near_u, near_1 in near:
        for far_u, far_1 in [(0.0, 0.0), *far]:  # in front of the camera, and in front of every plane on the far side
            slope = near_u - far_u + 1e-20
            root = (far_1 - near_1) / slope
            rising = (slope > 0).float()
            left = torch.maximum(left, root * rising - edge * (1 - rising))
            right = torch.minimum(right, root * (1 - rising) + edge * rising)
    line, column = pixel_runs(left, right, image[0], image[1])
    u = (column + (0.5 - image[1] / 2)) / image[0]
    w = torch.full_like(u, _FAR)
    for slope, level in near:
        w = torch.minimum(w, slope.index_select(0, line) * u + level.index_select(0, line))
    return _flat(c, which.index_select(0, m), row, line, column, image) + (w,)


def _along_row(w: Tensor, m: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(M, K, 3) forms in (u, v, 1) -> in the rows (R,) K pairs of slope and level."""
    u, one_v, one = w.float().permute(2, 1, 0).contiguous()
    return [
        (u[k].index_select(0, m), one_v[k].index_select(0, m) * v + one[k].index_select(0, m)) for k in range(len(u))
    ]


def _balls(c: Candidates, which: Tensor, low: Tensor, high: Tensor, image: tuple) -> tuple[Tensor, Tensor, Tensor]:
    """Covered pixels of the ellipsoids. With the ray o + t d in unit coordinates, w = (-b + sqrt(disc)) / k, and disc is quadratic in u."""
    d, o = c.ray.index_select(0, which), c.origin.index_select(0, which)
    k = (o * o).sum(-1) - 1
    outside = torch.nonzero(k > 0)[:, 0]
    which, d, o, k = (t.index_select(0, outside) for t in (which, d, o, k))
    m, row, v = _row_of(which, low, high, image)
    b = (o[:, :, None] * d).sum(1)  # (M, 3) over (u, v, 1)
    q = b[:, :, None] * b[:, None] - k[:, None, None] * (d.transpose(1, 2) @ d)
    table = torch.cat([q.reshape(-1, 9), b, k[:, None]], 1).float().T.contiguous().index_select(1, m)
    q2, q_uv, q_u, _, q_vv, q_v, _, _, q_1, b_u, b_v, b_1, k = table
    q1, q0 = 2 * (q_uv * v + q_u), (q_vv * v + 2 * q_v) * v + q_1
    disc = q1 * q1 - 4 * q2 * q0
    hit = (disc > 0) & (q2 < 0)
    half = disc.clamp(min=0).sqrt() / 2
    left, right = (-q1 / 2 + half) / q2, (-q1 / 2 - half) / q2
    edge = (image[1] / 2 + 1) / image[0]
    right = right.clamp(-edge, edge) * hit - (edge + 2.0) * ~hit
    line, column = pixel_runs(left.clamp(-edge, edge), right, image[0], image[1])
    u = (column + (0.5 - image[1] / 2)) / image[0]
    q2, q1, q0, b_u, b_1, k = torch.stack([q2, q1, q0, b_u, b_v * v + b_1, k]).index_select(1, line)
    w = (-(b_u * u + b_1) + ((q2 * u + q1) * u + q0).clamp(min=0).sqrt()) / k
    return _flat(c, which.index_select(0, m), row, line, column, image) + (w,)


def _flat(
    c: Candidates, candidate: Tensor, row: Tensor, line: Tensor, column: Tensor, image: tuple
) -> tuple[Tensor, Tensor]:
    """Rows of candidates and columns in them -> candidate and flat pixel index, each (P,)."""
    start = (c.frame.index_select(0, candidate) * image[2] + row) * image[1]
    return candidate.index_select(0, line), start.index_select(0, line) + column


def expand(count: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Runs of `count` consecutive numbers from `first`: for every number, which run it is of, and the number itself."""
    run = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    start = count.cumsum(0) - count - first
    return run, torch.arange(len(run), device=count.device) - start.index_select(0, run)
