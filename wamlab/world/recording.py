"""What the procedural world hands to a writer: one recorded drive. Plain arrays and encoded images, no rendering and no files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class AgentTrack:
    """One annotated agent over the keyframes.

    Attributes:
        category: a nuScenes category, e.g. `vehicle.car`, `human.pedestrian.adult`.
        size_m: (width, length, height), nuScenes' order.
        pose: (T, 3) x_m, y_m of the box centre and yaw_rad, global.
        z_m: (T,) height of the box centre above the ground plane.
        velocity_mps: (T, 2) global.
        attribute: T nuScenes attributes (e.g. `vehicle.moving`), '' for none.
        visibility: (T,) int: 0 not annotated in this frame (out of range), 1..4 nuScenes' visibility levels (1: 0-40 %, 4: 80-100 %).
        lidar_points: (T,) int, how many points of the lidar are in the box; None without a lidar.
    """

    category: str
    size_m: tuple[float, float, float]
    pose: np.ndarray
    z_m: np.ndarray
    velocity_mps: np.ndarray
    attribute: tuple[str, ...]
    visibility: np.ndarray
    lidar_points: np.ndarray | None = None


@dataclass(frozen=True)
class CanBus:
    """High-rate vehicle signals (N,), all at `timestamps_us`: 10 Hz or more, a sample within 50 ms of every keyframe.

    Attributes:
        pose: (N, 3) x_m, y_m, yaw_rad, global.
        steering_rad: steering-wheel angle, left positive.
        accel_mps2: (N, 2) longitudinal and lateral, ego frame.
        brake, throttle: pedals, 0 to 1.
    """

    timestamps_us: np.ndarray
    pose: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray
    yaw_rate_radps: np.ndarray
    steering_rad: np.ndarray
    brake: np.ndarray
    throttle: np.ndarray


@dataclass(frozen=True)
class Film:
    """What one sensor took: S shots, at the keyframes and, as sweeps, between them.

    Attributes:
        channel: `CAM_FRONT`, `LIDAR_TOP`, ...
        translation_m: (3,) in the ego frame; rotation: (4,) quaternion w, x, y, z, sensor frame -> ego frame (nuScenes' convention:
            a camera's x right, y down, z forward; the lidar's x right, y forward, z up).
        timestamps_us: (S,) int64. ego_pose: (S, 3) as in `Recording`.
        shots: S files' contents: JPEG images, or points (P, 5) float32: x, y, z, intensity, ring.
        intrinsics: (3, 3); None for a lidar. size: (width, height) in pixels, (0, 0) for a lidar.
        labels: kind -> S PNG files' contents, e.g. "semantic" (class ids), "depth" (centimetres); empty for a sweep without.
    """

    channel: str
    translation_m: np.ndarray
    rotation: np.ndarray
    timestamps_us: np.ndarray
    ego_pose: np.ndarray
    shots: tuple[bytes, ...]
    intrinsics: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    labels: dict[str, tuple[bytes, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """One drive of the procedural world.

    Attributes:
        name: `scene-0001`; split: train / val / test; description: in words.
        timestamps_us: (T,) int64, of the keyframes.
        ego_pose: (T, 3) x_m, y_m, yaw_rad of the rear axle, global; all x and y positive.
        films: one a sensor, the front camera first; each has a shot at every keyframe.
        route: (R, 2) lane path that the ego follows, global, metres.
        map_mask: (h, w) uint8, 0 where one cannot drive; `map_resolution_m` (a multiple of 0.1) a pixel, row 0 at the top (largest y),
            column 0 of the last row at global (0, 0).
        attributes: e.g. {"time": "night", "weather": "rain", "place": "urban"}.
        world: what the drive can be simulated again from: the fields of its `SceneSpec`.
    """

    name: str
    split: str
    description: str
    timestamps_us: np.ndarray
    ego_pose: np.ndarray
    films: tuple[Film, ...]
    can: CanBus
    agents: tuple[AgentTrack, ...]
    route: np.ndarray
    map_mask: np.ndarray
    map_resolution_m: float = 0.2
    attributes: dict[str, str] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)
