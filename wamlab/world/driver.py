"""The car and who drives it: a kinematic bicycle, and a driver that follows a path with a little wander."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab.geometry import STEERING_RATIO, WHEELBASE_M
from wamlab.world.road import Path

MAX_STEERING_RAD = 8.0  # of the steering wheel
MAX_STEERING_RATE_RADPS = 9.0
EGO_LENGTH_M, EGO_WIDTH_M = 4.5, 1.85
REAR_AXLE_TO_CENTRE_M = 1.35


@dataclass(frozen=True)
class EgoState:
    """The car: rear axle x_m, y_m, yaw_rad; speed; and the steering-wheel angle and acceleration now in force."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    steering_rad: float = 0.0
    accel_mps2: float = 0.0

    @property
    def yaw_rate_radps(self) -> float:
        return self.speed_mps * np.tan(self.steering_rad / STEERING_RATIO) / WHEELBASE_M

    @property
    def pose(self) -> tuple[float, float, float]:
        return self.x_m, self.y_m, self.yaw_rad


def step_bicycle(state: EgoState, steering_rad: float, accel_mps2: float, dt_s: float) -> EgoState:
    """Drive `dt_s` with constant steering and acceleration: an exact arc of the kinematic bicycle. The car never rolls backwards."""
    speed = max(0.0, state.speed_mps + accel_mps2 * dt_s)
    accel = (speed - state.speed_mps) / dt_s
    distance = 0.5 * (state.speed_mps + speed) * dt_s
    turn = distance * np.tan(steering_rad / STEERING_RATIO) / WHEELBASE_M
    chord = distance * np.sinc(turn / 2 / np.pi)
    mid = state.yaw_rad + turn / 2
    return EgoState(
        float(state.x_m + chord * np.cos(mid)), float(state.y_m + chord * np.sin(mid)), float(state.yaw_rad + turn),
        float(speed), float(steering_rad), float(accel),
    )  # fmt: skip


@dataclass(frozen=True)
class Driver:
    """Follows `path` by pure pursuit.

    Attributes:
        speed_mps: what the driver wants on a free, straight road.
        wander_m, sway: amplitude of the slow drift from the path's middle, and of the speed (as a share).
        phases: (6,) radians that make the drift of one driver differ from another's.
    """

    path: Path
    speed_mps: float
    wander_m: float
    sway: float
    phases: np.ndarray

    def offset_m(self, time_s: float) -> float:
        waves = np.sin(2 * np.pi * time_s / np.array([11.0, 6.1, 3.7]) + self.phases[:3])
        return float(self.wander_m * waves @ np.array([0.6, 0.3, 0.1]))

    def desired_speed_mps(self, time_s: float, s: float) -> float:
        waves = np.sin(2 * np.pi * time_s / np.array([9.0, 5.3, 3.1]) + self.phases[3:])
        free = self.speed_mps * (1 + self.sway * waves @ np.array([0.5, 0.3, 0.2]))
        ahead = np.abs(np.interp(s + np.array([0.0, 4.0, 8.0, 14.0, 20.0]), self.path.s, self.path.curvature)).max()
        return float(min(free, np.sqrt(2.3 / max(ahead, 1e-4))))

    def steer(self, state: EgoState, time_s: float, dt_s: float) -> float:
        """The steering-wheel angle for the next step, radians."""
        s, _ = self.path.project(np.array([state.x_m, state.y_m]))
        look = 3.5 + 0.55 * state.speed_mps
        x, y, yaw = self.path.at(min(float(s) + look, self.path.length_m))
        offset = self.offset_m(time_s)
        dx, dy = x - offset * np.sin(yaw) - state.x_m, y + offset * np.cos(yaw) - state.y_m
        aside = dy * np.cos(state.yaw_rad) - dx * np.sin(state.yaw_rad)
        wanted = STEERING_RATIO * np.arctan(2 * WHEELBASE_M * aside / (dx * dx + dy * dy + 1e-6))
        limit = MAX_STEERING_RATE_RADPS * dt_s
        wanted = np.clip(wanted, state.steering_rad - limit, state.steering_rad + limit)
        return float(np.clip(wanted, -MAX_STEERING_RAD, MAX_STEERING_RAD))
