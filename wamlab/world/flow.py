"""Optical flow from geometry: where in another image is the surface point that a pixel sees. No drawing, no estimation.

Convention: the displacement of a pixel is (right, down) in pixels, from its place in the image before to the place of the same surface
point in the image after. Positions are (column + 0.5, row + 0.5), so the image spans (0, 0) to (W, H), as in `Camera.project`.
What moves are things, not light: shadows, reflections and headlight beams have the flow of the surface they fall on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.errors import InvalidShape
from wamlab.world.camera import Camera
from wamlab.world.render import Frames
from wamlab.world.simulation import State, World

_NEAR_M = 0.2  # what is closer than this is not drawn
_SAME_SHARE, _SAME_PER_M = 0.0025, 1e-4  # inverse depths that differ by no more are of one surface


@dataclass(frozen=True)
class Flow:
    """Flow of B pairs of images.

    Attributes:
        displacement_px: (B, 2, H, W) float32, right and down. NaN where the point is behind the camera afterwards, or on an agent that has
            left the map. It may lead out of the image or behind something.
        visible: (B, H, W) bool: the point is in the image after, and nothing hides it there. Strict at outlines: a place whose four nearest
            pixels see different surfaces does not count.
    """

    displacement_px: Tensor
    visible: Tensor


@torch.inference_mode()
def optical_flow(
    world: World, camera: Camera, before: list[State], after: list[State], seen: Frames, then: Frames
) -> Flow:
    """Flow from each of B states to its partner; the other way round is the backward flow.

    With a pixel's ray r = (u, v, 1) and inverse depth w = 1/z, a rigid motion X -> A X + b between two camera frames takes it to
    A r + w b, up to scale. Things that stand share one motion, that of the camera; each agent has its own; for the sky w = 0, and only the
    rotation counts.

    Args:
        before, after: B states each. seen, then: what `Renderer(world, camera)` draws of them.

    Raises `InvalidShape` if these are not equally many.
    """
    counts = (len(before), len(after), len(seen.depth_m), len(then.depth_m))
    if len(set(counts)) > 1:
        raise InvalidShape(f"flow needs as many states as frames, before and after, not {counts}")
    device = seen.depth_m.device
    motions = torch.as_tensor(_motions(world, camera, before, after), dtype=torch.float32, device=device)
    frame = torch.arange(len(before), device=device)[:, None, None]
    motion = motions[frame, seen.instance.long()].permute(3, 4, 0, 1, 2)  # (3, 4, B, H, W)

    place = _places(camera.width, camera.height, device)
    u, v = (place - place.new_tensor([camera.width / 2, camera.height / 2])[:, None, None]) / camera.focal_px
    w = 1 / seen.depth_m
    x, y, z = motion[:, 0] * u + motion[:, 1] * v + motion[:, 2] + motion[:, 3] * w
    z = torch.where(z > _NEAR_M * w, z, torch.nan)
    displacement = camera.focal_px * torch.stack([x / z - u, y / z - v], 1)

    target = place + displacement
    edge = place.new_tensor([camera.width, camera.height])[:, None, None]
    inside = ((target >= 0) & (target < edge)).all(1)
    column, row = torch.where(inside[:, None], target, 0).long().unbind(1)
    same_thing = then.instance[frame, row, column] == seen.instance
    w_then, w_expected = warp(1 / then.depth_m[:, None], displacement)[:, 0], w / z
    same_place = (w_then - w_expected).abs() <= _SAME_SHARE * w_expected + _SAME_PER_M
    return Flow(displacement, inside & same_thing & same_place)


def warp(then: Tensor, displacement_px: Tensor) -> Tensor:
    """Images after (B, C, H, W) fetched from where the flow leads, (B, C, H, W) float: the images before, where points stay visible.

    Bilinear; beyond the image its border counts; NaN displacements give NaN.
    """
    height, width = displacement_px.shape[2:]
    target = _places(width, height, displacement_px.device) + displacement_px
    grid = target / target.new_tensor([width, height])[:, None, None] * 2 - 1
    fetched = F.grid_sample(
        then.float(), grid.nan_to_num().permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    return torch.where(displacement_px.isnan().any(1, keepdim=True), torch.nan, fetched)


def _places(width: int, height: int, device: torch.device) -> Tensor:
    """(2, H, W): column and row of the middle of each pixel."""
    row, column = torch.meshgrid(
        torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
    )
    return torch.stack([column, row])


def _motions(world: World, camera: Camera, before: list[State], after: list[State]) -> np.ndarray:
    """(B, N + 1, 3, 4) rigid motions from the camera frame before to the one after: first of what stands, then of each agent."""
    (p, r), (q, s) = (camera.pose(np.array([t.ego.pose for t in states])) for states in (before, after))
    turn, shift = _agent_motions(world, before, after)
    back = s.transpose(0, 2, 1)[:, None]
    a = back @ turn @ r[:, None]
    b = back @ (turn @ p[:, None, :, None] + shift[..., None] - q[:, None, :, None])
    return np.concatenate([a, b], -1)


def _agent_motions(world: World, before: list[State], after: list[State]) -> tuple[np.ndarray, np.ndarray]:
    """World-frame rotations (B, N + 1, 3, 3) and shifts (B, N + 1, 3); the first leaves all as it is, NaN for who has left the map."""
    pose, moved = (np.stack([_poses(world, t) for t in states]) for states in (before, after))
    yaw = moved[..., 2] - pose[..., 2]
    c, s, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    turn = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], -1).reshape(*yaw.shape, 3, 3)
    x, y = (np.concatenate([at[..., :2], zero[..., None]], -1) for at in (pose, moved))
    return turn, y - (turn @ x[..., None])[..., 0]


def _poses(world: World, state: State) -> np.ndarray:
    """(N + 1, 3) x, y, yaw: the world itself, then the agents, NaN for who has left the map."""
    pose = world.agents.pose(state.agents)
    pose = np.where(world.agents.on_map(state.agents)[:, None], pose, np.nan)
    return np.concatenate([np.zeros((1, 3)), pose])
