"""What an annotator would say of a drive: boxes of the agents around the car, their attributes, and how well they are seen. No files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wamlab.geometry import to_ego_frame
from wamlab.world.camera import Camera
from wamlab.world.recording import AgentTrack
from wamlab.world.simulation import State, World
from wamlab.world.traffic import CATEGORY

ANNOTATED_M = 50.0  # as far as nuScenes' boxes go, about
#: A box leaves this much room around the body and above the ground: points measured on the body are inside, those on the ground are not.
ROOM_M, CLEAR_M = 0.05, 0.01
_LEVELS = (0.4, 0.6, 0.8)  # of visibility
#: Share of its box's outline that a body fills: the median of what nothing hides, measured in 30 drives.
_FILLED = {
    "sedan": 0.8,
    "hatchback": 0.8,
    "suv": 0.8,
    "van": 0.88,
    "truck": 1.0,
    "bus": 1.0,
    "cyclist": 0.33,
    "pedestrian": 0.56,
}


def annotate(
    world: World, keyframes: Sequence[State], share: np.ndarray, points: Sequence[np.ndarray] | None = None
) -> Iterator[AgentTrack]:
    """Tracks of the agents that come within `ANNOTATED_M` of the car.

    Args:
        share: (T, N) of each agent that is seen (`pixel_share`).
        points: T clouds (P, 5) in the ego frame, x_m, y_m, z_m, …; None without a lidar.
    """
    agents = world.agents
    if not len(agents):
        return
    pose, ego = agent_poses(world, keyframes), np.array([s.ego.pose for s in keyframes])
    speed = np.stack([s.agents.speed_mps for s in keyframes])
    distance = np.linalg.norm(pose[..., :2] - ego[:, None, :2], axis=-1)
    level = np.where(distance < ANNOTATED_M, 1 + np.digitize(share, _LEVELS), 0)
    for n in np.flatnonzero((distance < ANNOTATED_M).any(0)):
        kind, (length, width, height) = agents.kind[n], agents.size_m[n]
        yaw = pose[:, n, 2]
        size = (float(width) + 2 * ROOM_M, float(length) + 2 * ROOM_M, float(height) + ROOM_M - CLEAR_M)
        z = np.full(len(yaw), CLEAR_M + size[2] / 2)
        inside = None
        if points is not None:
            boxes = [to_ego_frame(p, e) for p, e in zip(pose[:, n], ego, strict=True)]
            inside = np.array([count_inside(c, b, z[0], size) for c, b in zip(points, boxes, strict=True)])
        yield AgentTrack(
            category=CATEGORY[kind],
            size_m=size,
            pose=pose[:, n],
            z_m=z,
            velocity_mps=speed[:, n, None] * np.stack([np.cos(yaw), np.sin(yaw)], -1),
            attribute=tuple(_attribute(kind, agents.speed_mps[n] == 0, v) for v in speed[:, n]),
            visibility=level[:, n],
            lidar_points=inside,
        )


def agent_poses(world: World, states: Sequence[State]) -> np.ndarray:
    """(T, N, 3) x_m, y_m, yaw_rad of all agents."""
    return np.stack([world.agents.pose(s.agents) for s in states])


def count_inside(points: np.ndarray, pose: np.ndarray, z_m: float, size_m: tuple[float, float, float]) -> int:
    """How many points (P, 3 or more) are in an upright box: pose (3,) x, y, yaw, height of its centre, (width, length, height)."""
    x, y = to_ego_frame(points[:, :2], pose).T
    width, length, height = size_m
    return int(
        np.sum((np.abs(x) <= length / 2) & (np.abs(y) <= width / 2) & (np.abs(points[:, 2] - z_m) <= height / 2))
    )


def pixel_share(world: World, keyframes: Sequence[State], camera: Camera, seen: np.ndarray) -> np.ndarray:
    """(T, N) share of each agent that a camera sees, for `seen` (T, N) pixels.

    What it would cover if nothing hid it, also beyond the image's edges: from direction u, in the frame of its box, the outline
    of a box of sides l, w, h has the area |u_x| w h + |u_y| l h + |u_z| l w; an area at distance r and angle θ from the
    optical axis covers f² / (r² cos³ θ) pixels.
    """
    agents = world.agents
    if not len(agents):
        return np.zeros(seen.shape)
    pose = agent_poses(world, keyframes)
    position, rotation = camera.pose(np.array([s.ego.pose for s in keyframes]))
    centre = np.concatenate([pose[..., :2], np.broadcast_to(agents.size_m[:, 2:] / 2, (*pose.shape[:2], 1))], -1)
    ray = centre - position[:, None]
    r = np.linalg.norm(ray, axis=-1)
    cosine = np.einsum("tnk,tk->tn", ray, rotation[..., 2]) / r
    x, y, z = np.moveaxis(ray, -1, 0)
    c, s = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    length, width, height = agents.size_m.T
    area = np.abs(x * c + y * s) * width * height + np.abs(y * c - x * s) * length * height
    area = (area + np.abs(z) * length * width) / r
    filled = np.array([_FILLED[kind] for kind in agents.kind])
    whole = filled * area * camera.focal_px**2 / (np.maximum(r, 2.0) ** 2 * np.maximum(cosine, 0.1) ** 3)
    return np.where(cosine > 0, np.minimum(seen / np.maximum(whole, 1.0), 1.0), 0.0)


def _attribute(kind: str, parked: bool, speed_mps: float) -> str:
    moving = speed_mps > 0.2
    if kind == "pedestrian":
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if kind == "cyclist":
        return "cycle.with_rider"
    return "vehicle.parked" if parked else "vehicle.moving" if moving else "vehicle.stopped"
