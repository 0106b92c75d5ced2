"""A pseudo-lidar on the roof: points of a rotating 32-beam scanner, sampled from depth that virtual cameras draw. No files.

The beams are nuScenes' (a Velodyne HDL-32E at the same place), the turn is thinned to a beam every 2.5 degrees: some 4,200 points,
80 KB a scan. Every beam is moved to the middle of the nearest pixel of the virtual cameras, a quarter of a degree at most, so that
its point lies exactly on the surface that is seen there. A scan is instantaneous and free of noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wamlab.world.camera import Camera
from wamlab.world.primitives import Semantic
from wamlab.world.recording import Film
from wamlab.world.simulation import State, World

CHANNEL = "LIDAR_TOP"
POSITION_M = (0.94, 0.0, 1.84)
ROTATION = (np.sqrt(0.5), 0.0, 0.0, -np.sqrt(0.5))  # w, x, y, z: the lidar's x points right, its y forward
ELEVATION_RAD = np.radians(np.linspace(-30.67, 10.67, 32))  # ring 0 is the lowest
AZIMUTHS = 144  # a turn
REACH_M = 100.0
_BATCH = 8
_FOCAL_PX = 112
_HALF_HEIGHT_PX = 96  # the lowest beam in a corner of the view: tan(30.67°) / cos(45°) focal lengths down
#: What comes back from each class, 0..255.
_INTENSITY = {Semantic.ROAD: 12, Semantic.MARKING: 90, Semantic.PAVEMENT: 22, Semantic.TERRAIN: 16, Semantic.BUILDING: 35,
              Semantic.VEGETATION: 18, Semantic.POLE: 60, Semantic.SIGNAL: 80, Semantic.CAR: 45, Semantic.TRUCK: 50, Semantic.BUS: 50,
              Semantic.BICYCLE: 28, Semantic.PEDESTRIAN: 25}  # fmt: skip


def scan(world: World, states: Sequence[State], device: str = "cpu") -> list[np.ndarray]:
    """A scan a state: (P, 5) float64 x_m, y_m, z_m in the ego frame, intensity (0..255), ring (0 the lowest)."""
    from wamlab.world.render import Renderer

    intensity = np.array([_INTENSITY.get(kind, 0) for kind in Semantic], float)
    azimuth = np.radians((np.arange(AZIMUTHS // 4) + 0.5) * 360 / AZIMUTHS - 45)
    column = np.round(_FOCAL_PX * (1 - np.tan(azimuth)) - 0.5).astype(int)
    row = np.round(_HALF_HEIGHT_PX - _FOCAL_PX * np.tan(ELEVATION_RAD)[:, None] / np.cos(azimuth) - 0.5).astype(int)
    ring = np.broadcast_to(np.arange(len(ELEVATION_RAD))[:, None], row.shape)
    u, v = (column + 0.5) / _FOCAL_PX - 1, (row + 0.5 - _HALF_HEIGHT_PX) / _FOCAL_PX
    ray = np.stack([np.broadcast_to(u, v.shape), v, np.ones_like(v)], -1)  # (rings, azimuths, 3) for a depth of 1 m
    clouds: list[list[np.ndarray]] = [[] for _ in states]
    for yaw_rad in np.radians([0, 90, 180, 270]):
        camera = Camera(CHANNEL, 2 * _FOCAL_PX, 2 * _HALF_HEIGHT_PX, float(_FOCAL_PX), POSITION_M, float(yaw_rad))
        renderer = Renderer(world, camera, device)
        for first in range(0, len(states), _BATCH):
            drawn = renderer(list(states[first : first + _BATCH]))
            depth = drawn.depth_m.cpu().numpy()[:, row, column].astype(float)
            classes = drawn.semantic.cpu().numpy()[:, row, column]
            for k in range(len(depth)):
                hit = depth[k] * np.linalg.norm(ray, axis=-1) < REACH_M
                points = (ray[hit] * depth[k][hit][:, None]) @ camera.rotation.T + POSITION_M
                clouds[first + k].append(np.column_stack([points, intensity[classes[k][hit]], ring[hit]]))
    return [np.concatenate(parts) for parts in clouds]


def film(clouds: Sequence[np.ndarray], timestamps_us: np.ndarray, ego_pose: np.ndarray) -> Film:
    """Scans of `scan` as nuScenes stores them: float32, in the lidar's own frame."""
    return Film(CHANNEL, np.array(POSITION_M), np.array(ROTATION), timestamps_us, ego_pose, tuple(map(_encode, clouds)))


def _encode(points: np.ndarray) -> bytes:
    x, y, z = (points[:, :3] - POSITION_M).T
    return np.column_stack([-y, x, z, points[:, 3:]]).astype("<f4").tobytes()
