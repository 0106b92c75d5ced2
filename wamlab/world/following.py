"""Keeping from what is ahead: the car-following law, and what stands on a path. Who moves and who gives way is `traffic`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PROBES_M = np.arange(1.0, 46.0, 2.0)  # where a driver looks, metres from the front along the path
COMFORT_MPS2 = 1.6
_SIDE_M = 0.25  # room on both sides
_BRAKE_MPS2, _STANDSTILL_M, _HEADWAY_S = 2.2, 2.5, 1.2


@dataclass(frozen=True)
class Boxes:
    """m footprints: pose (m, 3) of their middles, half (m, 2) length and width, speed_mps (m,)."""

    pose: np.ndarray
    half: np.ndarray
    speed_mps: np.ndarray

    def __getitem__(self, rows: np.ndarray | slice) -> Boxes:
        return Boxes(self.pose[rows], self.half[rows], self.speed_mps[rows])

    def stretched(self, seconds: float) -> Boxes:
        """All that they cover within `seconds`, if they go straight on."""
        reach, yaw = self.speed_mps * seconds / 2, self.pose[:, 2]
        ahead = reach[:, None] * np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], -1)
        return Boxes(self.pose + ahead, self.half + reach[:, None] * np.array([1.0, 0.0]), self.speed_mps)


def idm(
    speed: np.ndarray, wanted: np.ndarray, gap: np.ndarray, leader: np.ndarray, comfort: float = COMFORT_MPS2
) -> np.ndarray:
    """Acceleration of the intelligent driver model (Treiber, Hennecke, Helbing 2000, eq. 3), m/s², for gaps in metres.

    Braking stays near what is needed: the free-road term above -2.5 m/s², the sum not far below what stops a metre before the obstacle.
    `comfort` is the acceleration on a free road from rest, m/s².
    """
    closing = speed * (speed - leader) / (2 * np.sqrt(comfort * _BRAKE_MPS2))
    desired = _STANDSTILL_M + np.maximum(0, speed * _HEADWAY_S + closing)
    free = np.maximum(comfort * (1 - (speed / np.maximum(wanted, 0.1)) ** 4), -2.5)
    needed = np.maximum(speed**2 - leader**2, 0) / (2 * np.maximum(gap - 1.0, 0.3))
    close = np.maximum(1 - gap / _STANDSTILL_M, 0)
    floor = np.maximum(-7.0, np.minimum(free, -0.8) - 1.3 * needed - 2.0 * close)
    return np.minimum(np.maximum(free - comfort * (desired / np.maximum(gap, 0.3)) ** 2, floor), comfort)


def patience(gap: np.ndarray, along: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """The gap (m) as a driver takes it: something that moves at `speed` across the path or towards us (`along` < 0) will soon be gone."""
    soon = np.minimum(np.maximum(gap / 6 - 0.67, 0), 1) * 1.2 * speed
    return gap + np.where((along < 0.3 * speed) & (speed > 2.5), soon, 0.0)


def covered(points: np.ndarray, radius_m: float, boxes: Boxes) -> np.ndarray:
    """Points (..., >= 2) -> (...) bool: is a footprint within `radius_m`?"""
    dx, dy = points[..., :1] - boxes.pose[:, 0], points[..., 1:2] - boxes.pose[:, 1]
    c, s = np.cos(boxes.pose[:, 2]), np.sin(boxes.pose[:, 2])
    u = np.maximum(np.abs(dx * c + dy * s) - boxes.half[:, 0], 0)
    v = np.maximum(np.abs(dy * c - dx * s) - boxes.half[:, 1], 0)
    return (u * u + v * v < radius_m**2).any(-1)


def clearance(
    probes: np.ndarray, half_width: np.ndarray, boxes: Boxes, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First obstacle on each of n paths.

    Args:
        probes: (n, K, 3) poses ahead at the first K of `PROBES_M`. half_width: (n,). own: (n,) index of each prober's own box, -1: none.

    Returns:
        gap to the obstacle (n,) (inf: free) and its index (n,) (-1: none).
    """
    n, k = probes.shape[:2]
    gap, who = np.full(n, np.inf), np.full(n, -1)
    x, y, yaw = boxes.pose.T
    coarse = probes[:, min(3, k - 1) :: 6]  # every probe is within 6 m of one of these
    reach = 6.0 + boxes.half.sum(1) + half_width.max(initial=0) + _SIDE_M
    near = ((coarse[..., :1] - x) ** 2 + (coarse[..., 1:2] - y) ** 2 < reach**2).any(1)
    rows = np.flatnonzero(own >= 0)
    near[rows, own[rows]] = False
    i, j = np.nonzero(near)
    if not len(i):
        return gap, who
    # distance from each probe to the footprint, in the footprint's frame
    dx, dy = probes[i, :, 0] - x[j, None], probes[i, :, 1] - y[j, None]
    c, s = np.cos(yaw)[j, None], np.sin(yaw)[j, None]
    u = np.maximum(np.abs(dx * c + dy * s) - boxes.half[j, :1], 0)
    v = np.maximum(np.abs(dy * c - dx * s) - boxes.half[j, 1:], 0)
    blocked = u * u + v * v < ((half_width + _SIDE_M) ** 2)[i, None]
    pairs = np.flatnonzero(blocked.any(1))
    first = blocked[pairs].argmax(1)
    i, j = i[pairs], j[pairs]
    heading = probes[i, first, 2]
    ahead = -dx[pairs, first] * np.cos(heading) - dy[pairs, first] * np.sin(heading)
    turn = yaw[j] - heading
    extent = boxes.half[j, 0] * np.abs(np.cos(turn)) + boxes.half[j, 1] * np.abs(np.sin(turn))
    distance = np.maximum(PROBES_M[first] + np.minimum(np.maximum(ahead - extent, -2.0), 2.0), 0.1)
    order = np.argsort(-distance, kind="stable")  # the nearest is written last
    gap[i[order]], who[i[order]] = distance[order], j[order]
    return gap, who
