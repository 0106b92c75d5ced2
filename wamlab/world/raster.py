"""Which shape does each pixel see, and how far away is it: a scanline rasteriser for convex shapes, on CPU or GPU.

Everything is done in inverse depth w = 1/z. A plane seen by a pinhole camera has an inverse depth that is linear in the pixel (u, v),
so a box of six planes covers, in one image row, exactly the pixels of an interval that six linear forms give; an ellipsoid
gives the interval between the roots of a quadratic. So only pixels that are covered are ever visited, all shapes and rows at once.
Large shapes nearby are drawn first, and what lies wholly behind them is dropped before its pixels are visited.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

_FAR = 1e6
_NEAR_M = 0.2  # what is closer than this is not drawn
_TILE_PX, _LARGEST_TILE_PX = 8, 64  # of the tiles in which hidden shapes are looked for; what is larger is drawn
_OCCLUDER_M, _OCCLUDES_WITHIN_M = 1.5, 90.0  # half-height of boxes that are drawn first, and how near they are


@dataclass(frozen=True)
class Candidates:
    """M (shape, frame) pairs that may be visible.

    Attributes:
        shape: (M,) index into the shapes. frame: (M,).
        origin: (M, 3) the camera in the shape's own unit coordinates. ray: (M, 3, 3) maps (u, v, 1) to the pixel ray in them.
        taper: (M, 3). ellipsoid: (M,) bool.
        low, high: (M, 3) bounds in camera coordinates (right, down, forward), metres.
        tall: (M,) half-height, metres.
    """

    shape: Tensor
    frame: Tensor
    origin: Tensor
    ray: Tensor
    taper: Tensor
    ellipsoid: Tensor
    low: Tensor
    high: Tensor
    tall: Tensor

    def __getitem__(self, which: Tensor) -> Candidates:
        return Candidates(*(getattr(self, f.name).index_select(0, which) for f in fields(self)))


@dataclass(frozen=True)
class Visible:
    """What the pixels see: `shape` (B, H, W) int64, -1 where no shape is hit, and inverse depth `w` (B, H, W) in 1/m, 0 for the sky."""

    shape: Tensor
    w: Tensor


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
    image = (focal_px, width, height)
    c = _candidates(centre, half, yaw, taper, ellipsoid, frame, position, rotation, reach_m, image)
    w_ground = _ground(position, rotation, focal_px, width, height)
    # the nearest (largest) inverse depth and its shape in one integer: the bits of a positive float are ordered as it is
    best = w_ground.view(torch.int32).reshape(-1).long() << 32
    first = ~c.ellipsoid & (c.tall > _OCCLUDER_M) & (c.low[:, 2] < _OCCLUDES_WITHIN_M)
    _put(best, *_boxes(c[torch.nonzero(first)[:, 0]], image))
    shown = _may_show(c, _depth(best).view(w_ground.shape), image) & ~first
    _put(best, *_boxes(c[torch.nonzero(shown & ~c.ellipsoid)[:, 0]], image))
    outside = (c.origin * c.origin).sum(-1) > 1
    _put(best, *_balls(c[torch.nonzero(shown & c.ellipsoid & outside)[:, 0]], image))
    shape = (best & 0xFFFFFFFF) - 1
    return Visible(shape.view(w_ground.shape), _depth(best).view(w_ground.shape))


def _put(best: Tensor, shape: Tensor, pixel: Tensor, w: Tensor) -> None:
    """Write pixels (P,) into `best` (B * H * W,) where they are nearest."""
    w = torch.add(w, (w > 1 / _NEAR_M).float(), alpha=-2 * _FAR)  # negative numbers never win
    best.scatter_reduce_(0, pixel, (w.view(torch.int32).long() << 32).add_(shape).add_(1), "amax")


def _depth(best: Tensor) -> Tensor:
    return (best >> 32).int().view(torch.float32)


def _may_show(c: Candidates, w: Tensor, image: tuple[float, int, int]) -> Tensor:
    """(M,) bool: is some tile that a candidate touches not filled by what is nearer? `w` (B, H, W) is what is drawn already."""
    focal_px, width, height = image
    behind = c.low[:, 2] < 2 * _NEAR_M
    near, far = c.low[:, 2].clamp(min=2 * _NEAR_M), c.high[:, 2].clamp(min=2 * _NEAR_M)
    low, high = (torch.stack([edge[:, :2] / near[:, None], edge[:, :2] / far[:, None]]) for edge in (c.low, c.high))
    centre = torch.tensor([width / 2, height / 2], dtype=low.dtype, device=low.device)
    last = torch.tensor([width - 1, height - 1], dtype=low.dtype, device=low.device)
    first = torch.minimum((low.amin(0) * focal_px + centre).floor().clamp(min=0), last)
    end = torch.maximum((high.amax(0) * focal_px + centre).floor(), first).clamp(max=last)
    tile = -F.max_pool2d(-w[:, None], _TILE_PX, ceil_mode=True)[:, 0]
    hidden, size = torch.zeros_like(behind), _TILE_PX
    while True:  # the level at which the bounds touch at most two tiles each way
        (x0, y0), (x1, y1) = (first / size).long().T, (end / size).long().T
        fits = (x1 - x0 <= 1) & (y1 - y0 <= 1)
        y0, y1 = c.frame * tile.shape[1] + y0, c.frame * tile.shape[1] + y1
        corners = torch.stack(
            [y0 * tile.shape[2] + x0, y0 * tile.shape[2] + x1, y1 * tile.shape[2] + x0, y1 * tile.shape[2] + x1]
        )
        covered = tile.reshape(-1).index_select(0, corners.reshape(-1)).view(4, -1).amin(0)
        hidden |= fits & (covered * near > 1.001)
        if size >= _LARGEST_TILE_PX or max(tile.shape[1:]) == 1:
            return behind | ~hidden
        tile, size = -F.max_pool2d(-tile[:, None], 2, ceil_mode=True)[:, 0], 2 * size


def _ground(position: Tensor, rotation: Tensor, focal_px: float, width: int, height: int) -> Tensor:
    """(B, H, W) inverse depth of the plane z = 0, 0 above the horizon."""
    u = (torch.arange(width, device=position.device, dtype=torch.float64) + 0.5 - width / 2) / focal_px
    v = (torch.arange(height, device=position.device, dtype=torch.float64) + 0.5 - height / 2) / focal_px
    right, down, forward = (rotation[:, 2, :, None] / -position[:, 2, None, None]).unbind(1)  # (B, 1) each
    return ((down * v + forward)[:, :, None] + (right * u)[:, None]).float().clamp_(min=0)


def _candidates(centre, half, yaw, taper, ellipsoid, frame, position, rotation, reach_m, image) -> Candidates:
    frames = torch.arange(len(position), device=centre.device)
    edge = torch.tensor([image[1] / 2 + 1, image[2] / 2 + 1], dtype=half.dtype, device=half.device) / image[0]
    radius = (half * half).sum(-1).sqrt()
    aside, ahead = (  # (B, N) first by the shapes' bounding spheres
        rotation[:, :, k] @ centre.T - (rotation[:, :, k] * position).sum(-1, keepdim=True) for k in (0, 2)
    )
    near = (ahead > -radius) & (ahead - radius < reach_m) & (aside.abs() - radius < edge[0] * (ahead + radius))
    near &= (frame < 0)[None] | (frame[None] == frames[:, None])
    f, n = torch.nonzero(near, as_tuple=True)
    yaw, size = yaw.index_select(0, n), half.index_select(0, n)
    cos, sin, zero = torch.cos(yaw), torch.sin(yaw), torch.zeros_like(yaw)
    turn = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], -1).view(-1, 3, 3)  # world -> shape
    view = turn @ rotation.index_select(0, f)  # camera -> shape
    offset = centre.index_select(0, n) - position.index_select(0, f)
    middle = (rotation.index_select(0, f).transpose(1, 2) @ offset[:, :, None])[:, :, 0]
    extent = (view.abs() * size[:, :, None]).sum(1)  # of the bounding box, along the camera's axes
    low, high = middle - extent, middle + extent
    depth, aside = high[:, 2], middle[:, :2].abs() - extent[:, :2]
    seen = torch.nonzero((depth > _NEAR_M) & (low[:, 2] < reach_m) & (aside < edge * depth[:, None]).all(-1))[:, 0]
    origin = -(turn @ offset[:, :, None])[:, :, 0] / size
    ray = view / size[:, :, None]
    pick = Candidates(n, f, origin, ray, taper.index_select(0, n), ellipsoid.index_select(0, n), low, high, size[:, 2])
    return pick[seen]


def _planes(c: Candidates) -> tuple[Tensor, Tensor]:
    """The six planes of each box as inverse depths: w = W · (u, v, 1), (M, 6, 3), and which of them face the camera, (M, 6)."""
    front, back, side = c.taper.T[..., None]
    x, y, t = torch.cat([c.ray, c.origin[:, :, None]], 2).unbind(
        1
    )  # (M, 4): coefficients of u, v, 1, and the camera's own coordinate
    t = 0.5 * t  # a plane leans by its taper times the height t in 0..1
    t[:, 3] += 0.5
    plane = torch.stack([x + front * t, back * t - x, y + side * t, side * t - y, t, -t], 1)
    a = plane[..., 3] - torch.tensor([1, 1, 1, 1, 1, 0.0], dtype=t.dtype, device=t.device)
    a = torch.where(a.abs() < 1e-9, -1e-9, a)
    return -plane[..., :3] / a[..., None], a > 0


def _slots(w: Tensor, wanted: Tensor, filler: float) -> Tensor:
    """(M, 6, 3) -> (M, K, 3): the wanted planes first, the remaining slots a constant inverse depth."""
    k = int(wanted.sum(-1).max()) if len(wanted) else 0
    order = torch.argsort(wanted.int(), dim=-1, descending=True, stable=True)[:, : max(k, 1)]
    constant = torch.tensor([0, 0, filler], dtype=w.dtype, device=w.device)
    picked = torch.gather(w, 1, order[..., None].expand(-1, -1, 3))
    return torch.where(torch.gather(wanted, 1, order)[..., None], picked, constant)


def _rows(c: Candidates, image: tuple[float, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The image rows that candidates may cover: index of the candidate (R,), row number (R,), and v (R,)."""
    focal_px, _, height = image
    near, far = c.low[:, 2].clamp(min=_NEAR_M), c.high[:, 2].clamp(min=_NEAR_M)
    low = torch.minimum(c.low[:, 1] / near, c.low[:, 1] / far) * focal_px + (height / 2 - 0.5)
    high = torch.maximum(c.high[:, 1] / near, c.high[:, 1] / far) * focal_px + (height / 2 - 0.5)
    first, last = torch.ceil(low).clamp(0, height).long(), torch.floor(high).clamp(-1, height - 1).long()
    m, row = expand((last - first + 1).clamp(min=0), first)
    return m, row, ((row + (0.5 - height / 2)) / focal_px).float()


def pixel_runs(left: Tensor, right: Tensor, focal_px: float, width: int) -> tuple[Tensor, Tensor]:
    """The pixels whose centres lie in row intervals (R,) of u: index of the interval (P,), column (P,)."""
    first = torch.ceil(left * focal_px + (width / 2 - 0.5)).clamp_(0, width).long()
    last = torch.floor(right * focal_px + (width / 2 - 0.5)).clamp_(-1, width - 1).long()
    return expand((last - first + 1).clamp_(min=0), first)


def _boxes(c: Candidates, image: tuple[float, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Covered pixels of boxes: shape, flat pixel, inverse depth, each (P,)."""
    planes, facing = _planes(c)
    m, row, v = _rows(c, image)
    near_u, near_1 = _along_row(_slots(planes, facing, _FAR), m, v)  # (K, R): w = slope * u + level
    far_u, far_1 = _along_row(_slots(planes, ~facing, 0.0), m, v)
    edge = torch.full_like(v, (image[1] / 2 + 1) / image[0])
    # in front of every plane on the far side and of the camera; and a box is seen where the last of its planes is entered
    far_u, far_1 = (torch.cat([far, torch.zeros_like(v)[None]]) for far in (far_u, far_1))
    left, right = _where(near_u[:, None] - far_u, far_1 - near_1[:, None], -edge, edge)
    own = torch.eye(len(near_u), device=v.device)[:, :, None]
    faces = [_where(near_u - near_u[k], near_1[k] - near_1 - own[k], left, right) for k in range(len(near_u))]
    left, right = (torch.cat(side) for side in zip(*faces, strict=True))
    line, column = pixel_runs(left, right, image[0], image[1])
    u = (column + (0.5 - image[1] / 2)) * (1 / image[0])
    slope, level = torch.stack([near_u.reshape(-1), near_1.reshape(-1)]).index_select(1, line)
    shape, start = (t.repeat(len(faces)).index_select(0, line) for t in _starts(c, m, row, image))
    return shape, start + column, torch.addcmul(level, slope, u)


def _where(slope: Tensor, level: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The part of intervals (R,) in which slope * u >= level for all conditions (..., R)."""
    slope = slope + 1e-20
    falling = (slope <= 0).float().mul_(-2 * _FAR)
    root, falling = (level / slope).clamp_(-_FAR, _FAR).flatten(0, -2), falling.flatten(0, -2)
    return torch.maximum(left, (root + falling).amax(0)), torch.minimum(right, root.add_(falling + 2 * _FAR).amin(0))


def _along_row(w: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(M, K, 3) forms in (u, v, 1) -> in the rows (R,) slopes and levels, each (K, R)."""
    u, one_v, one = w.float().permute(2, 1, 0).contiguous().index_select(2, m)
    return u, torch.addcmul(one, one_v, v)


def _balls(c: Candidates, image: tuple[float, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Covered pixels of the ellipsoids. With the ray o + t d in unit coordinates, w = (-b + sqrt(disc)) / k, and disc is quadratic in u."""
    d, o = c.ray, c.origin
    k = (o * o).sum(-1) - 1
    m, row, v = _rows(c, image)
    b = (o[:, :, None] * d).sum(1)  # (M, 3) over (u, v, 1)
    q = b[:, :, None] * b[:, None] - k[:, None, None] * (d.transpose(1, 2) @ d)
    table = torch.cat([q.reshape(-1, 9), b, k[:, None]], 1).float().T.contiguous().index_select(1, m)
    q2, q_uv, q_u, _, q_vv, q_v, _, _, q_1, b_u, b_v, b_1, k = table
    q1, q0 = 2 * torch.addcmul(q_u, q_uv, v), torch.addcmul(q_1, torch.addcmul(2 * q_v, q_vv, v), v)
    disc = q1 * q1 - 4 * q2 * q0
    hit = (disc > 0) & (q2 < 0)
    half = disc.clamp_(min=0).sqrt_().mul_(0.5)
    left, right = (half - 0.5 * q1) / q2, (half + 0.5 * q1) / -q2
    edge = (image[1] / 2 + 1) / image[0]
    right = right.clamp(-edge, edge) * hit - (edge + 2.0) * ~hit
    line, column = pixel_runs(left.clamp(-edge, edge), right, image[0], image[1])
    u = (column + (0.5 - image[1] / 2)) * (1 / image[0])
    q2, q1, q0, b_u, b_1, k = torch.stack([q2, q1, q0, b_u, torch.addcmul(b_1, b_v, v), k]).index_select(1, line)
    root = torch.addcmul(q0, torch.addcmul(q1, q2, u), u).clamp_(min=0).sqrt_()
    shape, start = (t.index_select(0, line) for t in _starts(c, m, row, image))
    return shape, start + column, (root - torch.addcmul(b_1, b_u, u)) / k


def _starts(c: Candidates, m: Tensor, row: Tensor, image: tuple) -> tuple[Tensor, Tensor]:
    """The shape of each row of candidates (R,), and the flat pixel at which the row starts."""
    shape, frame = c.shape.index_select(0, m), c.frame.index_select(0, m)
    return shape, (frame * image[2] + row) * image[1]


def expand(count: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Runs of `count` consecutive numbers from `first`: for every number, which run it is of, and the number itself."""
    run = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    start = count.cumsum(0) - count - first
    return run, torch.arange(len(run), device=count.device) - start.index_select(0, run)
