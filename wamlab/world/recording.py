"""What the procedural world hands to a writer: one recorded drive. Plain arrays, no rendering and no files."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """

    category: str
    size_m: tuple[float, float, float]
    pose: np.ndarray
    z_m: np.ndarray
    velocity_mps: np.ndarray
    attribute: tuple[str, ...]
    visibility: np.ndarray


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
class Recording:
    """One drive of the procedural world at the camera's keyframes.

    Attributes:
        name: `scene-0001`; split: train / val / test; description: in words.
        timestamps_us: (T,) int64.
        frames: (T, H, W, 3) uint8.
        ego_pose: (T, 3) x_m, y_m, yaw_rad of the rear axle, global; all x and y positive.
        intrinsics: (3, 3); camera_translation_m: (3,) in the ego frame; camera_rotation: (4,) quaternion w, x, y, z (nuScenes' convention:
            camera x right, y down, z forward).
        route: (R, 2) lane path that the ego follows, global, metres.
        map_mask: (h, w) bool drivable area, `map_resolution_m` a pixel, row 0 at the top (largest y), origin of the map at global (0, 0).
        attributes: e.g. {"time": "night", "weather": "rain", "place": "urban"}.
    """

    name: str
    split: str
    description: str
    timestamps_us: np.ndarray
    frames: np.ndarray
    ego_pose: np.ndarray
    intrinsics: np.ndarray
    camera_translation_m: np.ndarray
    camera_rotation: np.ndarray
    can: CanBus
    agents: tuple[AgentTrack, ...]
    route: np.ndarray
    map_mask: np.ndarray
    map_resolution_m: float = 0.1
    attributes: dict[str, str] = field(default_factory=dict)
