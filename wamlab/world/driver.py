"""The car and who drives it: a kinematic bicycle, and a driver that follows a path with a little wander."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab.geometry import STEERING_RATIO, WHEELBASE_M, curvature_to_steering, wrap_angle
from wamlab.world.road import Path

MAX_STEERING_RAD = 8.0  # of the steering wheel
MAX_STEERING_RATE_RADPS = 9.0
EGO_LENGTH_M, EGO_WIDTH_M = 4.5, 1.85
REAR_AXLE_TO_CENTRE_M = 1.35
FRONT_M = REAR_AXLE_TO_CENTRE_M + EGO_LENGTH_M / 2  # of the car, from its rear axle


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
    speed, accel = state.speed_mps + accel_mps2 * dt_s, accel_mps2
    if speed < 1e-9:  # it stops within the step
        speed, accel = 0.0, -state.speed_mps / dt_s
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
    """Keeps the rear axle on `path`, but for some drift.

    Attributes:
        speed_mps: what the driver wants on a free, straight road.
        wander_m, sway, dither_rad, surge_mps2: amplitude of the slow drift from the path's middle, of the speed (as a share), of quick
            movements of the steering wheel, and of deliberate braking and accelerating (0: none).
        comfort_mps2: acceleration on a free road from rest.
        phases: (11,) radians that make the drift of one driver differ from another's.
    """

    path: Path
    speed_mps: float
    wander_m: float
    sway: float
    dither_rad: float
    surge_mps2: float
    comfort_mps2: float
    phases: np.ndarray

    def offset_m(self, time_s: float) -> float:
        waves = np.sin(2 * np.pi * time_s / np.array([11.0, 6.1, 3.7]) + self.phases[:3])
        return float(self.wander_m * waves @ np.array([0.6, 0.3, 0.1]))

    def desired_speed_mps(self, time_s: float, s: float) -> float:
        waves = np.sin(2 * np.pi * time_s / np.array([9.0, 5.3, 3.1]) + self.phases[3:6])
        free = self.speed_mps * (1 + self.sway * waves @ np.array([0.5, 0.3, 0.2]))
        return float(min(free, np.interp(s, self.path.s, self.path.curve_speed_mps)))

    def pedal_mps2(self, time_s: float, speed_mps: float) -> float:
        """The most that the driver would accelerate now on a free road, m/s², -4 to 3; inf for a neat one, who has no such moods."""
        if not self.surge_mps2:
            return np.inf
        waves = np.sin(2 * np.pi * time_s / np.array([8.3, 5.3, 3.1]) + self.phases[8:])
        accel = self.surge_mps2 * waves @ np.array([0.5, 0.3, 0.2]) + 0.3 * (0.7 * self.speed_mps - speed_mps)
        return float(np.clip(accel, -4.0 * min(1.0, speed_mps / 4), 3.0))

    def steer(self, state: EgoState, s: float, aside_m: float, time_s: float, dt_s: float) -> float:
        """The steering-wheel angle for the next step, radians, for a car at `s` and `aside_m` of the path.

        The path's curvature, and a critically damped return to the path within a few metres.
        """
        path, speed = self.path, state.speed_mps
        reach = 3.2 + 0.45 * speed
        slip = wrap_angle(state.yaw_rad - np.interp(s, path.s, path.yaw))
        preview = np.interp(s + 0.3 + 0.12 * speed, path.s, path.bend)
        curvature = preview - (aside_m - self.offset_m(time_s)) / reach**2 - 2 * slip / reach
        waves = np.sin(2 * np.pi * time_s / np.array([2.7, 1.7]) + self.phases[6:8])
        dither = self.dither_rad * min(1.0, speed / 4) * waves @ np.array([0.6, 0.4])
        wanted = curvature_to_steering(np.clip(curvature, -0.2, 0.2)) + dither
        limit = MAX_STEERING_RATE_RADPS * dt_s
        wanted = np.clip(wanted, state.steering_rad - limit, state.steering_rad + limit)
        return float(np.clip(wanted, -MAX_STEERING_RAD, MAX_STEERING_RAD))
