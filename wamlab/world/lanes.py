"""Changing lanes: who wants to and may (MOBIL), and how a body moves over. Where the lanes lie is `tracks`.

Kesting, Treiber, Helbing 2007, "General lane-changing model MOBIL for car-following models".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab.world.following import idm
from wamlab.world.road import Path

CHANGE_S, COOLDOWN_S = 3.5, 6.0
_SLOW_MPS = 7.0  # below this speed, moving over takes the same way instead of the same time
LEAST_MPS = 3.5  # nobody begins a change below it
_POLITENESS, _THRESHOLD_MPS2, _SAFE_MPS2, _OWN_MPS2 = 0.25, 0.3, 1.8, 1.0
_ROOM_M = 3.0  # to the vehicles before and behind in the new lane


def passed_s(speed_mps: np.ndarray, dt_s: float) -> np.ndarray:
    """How far a change goes on in `dt_s`, s."""
    return dt_s * np.minimum(speed_mps / _SLOW_MPS, 1.0)


def _ease(u: np.ndarray) -> np.ndarray:
    """From 0 to 1 with least jerk."""
    return u**3 * (10 - 15 * u + 6 * u * u)


def move_over(path: Path, s_m: float, way_m: float, aside_m: float) -> Path:
    """The same path, that from `s_m` on moves over by `aside_m` to the left, within `way_m`."""
    aside = aside_m * _ease(np.clip((path.s - s_m) / way_m, 0.0, 1.0))
    return Path(path.points + aside[:, None] * np.stack([-np.sin(path.yaw), np.cos(path.yaw)], -1))


def way_m(speed_mps: np.ndarray) -> np.ndarray:
    """How long a stretch of road a change takes, with a little to spare, m."""
    return np.maximum(speed_mps, _SLOW_MPS) * CHANGE_S + 5.0


def moving_over(
    from_m: np.ndarray, change_s: np.ndarray, speed_mps: np.ndarray, ahead_m: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Metres to the left of the new lane's middle, and the body's angle to it (rad), now or `ahead_m` farther on.

    The way over is the quintic of least jerk, from `from_m` at 0 to the middle at `CHANGE_S`.
    """
    pace = np.maximum(speed_mps, _SLOW_MPS)
    u = np.minimum((change_s + ahead_m / pace) / CHANGE_S, 1.0)
    aside = from_m * (1 - _ease(u))
    return aside, np.arctan(-30 * from_m * (u * (1 - u)) ** 2 / (CHANGE_S * pace))


@dataclass(frozen=True, eq=False)
class Occupants:
    """m vehicles in lanes: lane (m, 2), the second one is that which it is leaving or about to enter (-1: none); road_m (m,) of
    the middles; length, speed and the speed wanted (m,)."""

    lane: np.ndarray
    road_m: np.ndarray
    length_m: np.ndarray
    speed_mps: np.ndarray
    wanted_mps: np.ndarray

    def around(self, lane: np.ndarray, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The vehicles before and behind `who` (k,) in the given lanes (k,): numbers, -1 for none."""
        ahead = self.road_m - self.road_m[who, None]
        inside = (self.lane[:, 0] == lane[:, None]) | (self.lane[:, 1] == lane[:, None])
        inside[np.arange(len(who)), who] = False
        before = np.where(inside & (ahead >= 0), ahead, np.inf)
        behind = np.where(inside & (ahead < 0), -ahead, np.inf)
        rows = np.arange(len(who))
        i, j = before.argmin(1), behind.argmin(1)
        return np.where(np.isfinite(before[rows, i]), i, -1), np.where(np.isfinite(behind[rows, j]), j, -1)

    def accel(self, who: np.ndarray, leader: np.ndarray) -> np.ndarray:
        """Acceleration of `who` behind `leader` (-1: nobody), m/s²; 0 for nobody."""
        gap = np.where(leader >= 0, self.gap_m(leader, who), np.inf)
        moving = np.where(leader >= 0, self.speed_mps[leader], 0.0)
        return np.where(who >= 0, idm(self.speed_mps[who], self.wanted_mps[who], gap, moving), 0.0)

    def gap_m(self, front: np.ndarray, rear: np.ndarray) -> np.ndarray:
        return self.road_m[front] - self.road_m[rear] - (self.length_m[front] + self.length_m[rear]) / 2

    def safe(self, who: np.ndarray, before: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """May `who` move in between? The new follower need not brake hard (MOBIL eq. 2), nor the newcomer; and there is room."""
        room = (before < 0) | (self.gap_m(before, who) > _ROOM_M)
        room &= (behind < 0) | (self.gap_m(who, behind) > _ROOM_M)
        return room & (self.accel(behind, who) > -_SAFE_MPS2) & (self.accel(who, before) > -_OWN_MPS2)


def choose(seen: Occupants, who: np.ndarray, target: np.ndarray) -> int:
    """Which of k possible changes, vehicle `who` (k,) to lane `target` (k,), is worth it and safe: its number, -1 if none is.

    Only the best one begins at a time, so that no two vehicles take the same gap.
    """
    before, behind = seen.around(target, who)
    leader, follower = seen.around(seen.lane[who, 0], who)
    own = seen.accel(who, before) - seen.accel(who, leader)
    others = seen.accel(behind, who) - seen.accel(behind, before)
    others = others + seen.accel(follower, leader) - seen.accel(follower, who)
    gain = own + _POLITENESS * others  # MOBIL eq. 6
    gain = np.where(seen.safe(who, before, behind), gain, -np.inf)
    best = int(gain.argmax())
    return best if gain[best] > _THRESHOLD_MPS2 else -1
