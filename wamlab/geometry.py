"""SE(2), the kinematic bicycle and matching in time, on numpy arrays.

Poses are (..., 3): x_m, y_m, yaw_rad; x forward, y left, yaw counter-clockwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Distance between the axles of nuScenes' cars (Renault Zoe).
WHEELBASE_M = 2.588
#: Steering-wheel angle over road-wheel angle: a wheel range of 7.7 rad (nuScenes' CAN bus) for about 0.5 rad at the road.
STEERING_RATIO = 15.0


def wrap_angle(angle_rad: ArrayLike) -> NDArray[np.float64]:
    """The same angle in [-pi, pi)."""
    return (np.asarray(angle_rad, np.float64) + np.pi) % (2 * np.pi) - np.pi


def rotate(points: ArrayLike, yaw_rad: ArrayLike) -> NDArray[np.float64]:
    """(..., 2) points turned counter-clockwise about the origin by `yaw_rad`, which broadcasts over the leading axes."""
    points, cos, sin = np.asarray(points, np.float64), np.cos(yaw_rad), np.sin(yaw_rad)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def to_ego_frame(points: ArrayLike, pose: ArrayLike) -> NDArray[np.float64]:
    """Global points (..., 2) or poses (..., 3) as seen from `pose` (3,): x forward, y left."""
    points, pose = np.asarray(points, np.float64), np.asarray(pose, np.float64)
    local = rotate(points[..., :2] - pose[:2], -pose[2])
    if points.shape[-1] == 2:
        return local
    return np.concatenate([local, wrap_angle(points[..., 2:] - pose[2])], axis=-1)


def to_global_frame(points: ArrayLike, pose: ArrayLike) -> NDArray[np.float64]:
    """The inverse of `to_ego_frame`."""
    points, pose = np.asarray(points, np.float64), np.asarray(pose, np.float64)
    moved = rotate(points[..., :2], pose[2]) + pose[:2]
    if points.shape[-1] == 2:
        return moved
    return np.concatenate([moved, wrap_angle(points[..., 2:] + pose[2])], axis=-1)


def steering_to_curvature(
    steering_rad: ArrayLike, ratio: float = STEERING_RATIO, wheelbase_m: float = WHEELBASE_M
) -> NDArray[np.float64]:
    """Steering-wheel angle -> curvature of the rear axle's path, 1/m, both left positive: tan(steering / ratio) / wheelbase."""
    return np.tan(np.asarray(steering_rad, np.float64) / ratio) / wheelbase_m


def curvature_to_steering(
    curvature_per_m: ArrayLike, ratio: float = STEERING_RATIO, wheelbase_m: float = WHEELBASE_M
) -> NDArray[np.float64]:
    """The inverse of `steering_to_curvature`: ratio * atan(curvature * wheelbase)."""
    return ratio * np.arctan(np.asarray(curvature_per_m, np.float64) * wheelbase_m)


def every_nth(count: int, every: int, run: int = 1) -> list[int]:
    """Which of `count` frames are taken: the last one, and every so many before it (those at the start have the least past).

    With `run` that many in a row end there, each time.
    """
    return [t for t in range(count) if (count - 1 - t) % every < run]


def nearest(sorted_times: NDArray, wanted: NDArray) -> NDArray:
    """For each wanted time the index of the nearest of `sorted_times` (the earlier one at a tie)."""
    after = np.clip(np.searchsorted(sorted_times, wanted), 1, max(1, len(sorted_times) - 1))
    before = after - 1
    after = np.minimum(after, len(sorted_times) - 1)
    return np.where(sorted_times[after] - wanted < wanted - sorted_times[before], after, before)
