"""From a planned trajectory to steering and acceleration. Knows the car and no road."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from wamlab.errors import InvalidAction
from wamlab.geometry import curvature_to_steering, to_ego_frame, to_global_frame
from wamlab.world.driver import MAX_STEERING_RAD, MAX_STEERING_RATE_RADPS, EgoState

WAYPOINT_S = 0.5  # between two waypoints of a plan
MIN_ACCEL_MPS2, MAX_ACCEL_MPS2 = -8.0, 4.0  # what the controller asks of the car
_AHEAD_S = 0.5
_MIN_CHORD_M = 0.3  # nearer points say nothing about the direction


class Tracker:
    """Follows a plan by the one arc, driven with constant acceleration, that leads from where the car is to where the plan is in 0.5 s.

    The exact inverse of the kinematic bicycle for one point, taken anew at every step: to a point (x, y) in the ego frame leads the arc
    of curvature 2 y / (x² + y²) (pure pursuit, Coulter 1992), in a time T with acceleration 2 (length - v T) / T². Linearised about the
    plan, both errors die out with damping 0.7. Between waypoints the plan is interpolated by a monotone cubic (Fritsch, Carlson 1980),
    which does not overshoot where a plan stops; after the last it goes on as between the last two.
    """

    def __init__(self, plan: np.ndarray, ego: EgoState, time_s: float) -> None:
        """A plan (F, 2): x_m forward and y_m left in the ego frame of now, at 2 Hz, the first in 0.5 s.

        Raises `InvalidAction` for another shape and for values that are not finite.
        """
        plan = np.asarray(plan, float)
        if plan.ndim != 2 or plan.shape[1] != 2 or not len(plan):
            raise InvalidAction(f"a trajectory must be (F, 2) with F > 0 waypoints at 2 Hz, not {plan.shape}")
        if not np.isfinite(plan).all():
            row = int(np.argmin(np.isfinite(plan).all(1)))
            raise InvalidAction(f"a trajectory must be finite; waypoint {row} is not: {plan[row]}")
        before = np.array([[-WAYPOINT_S * ego.speed_mps, 0.0], [0.0, 0.0]])
        known = np.concatenate([before, plan])
        known = np.concatenate([known, known[-1:] + (known[-1:] - known[-2:-1])])
        self.end_s = WAYPOINT_S * (len(known) - 2)
        self.curve = PchipInterpolator(WAYPOINT_S * np.arange(-1, len(known) - 1), known)
        self.pose, self.time_s = ego.pose, time_s

    def at(self, time_s: float) -> np.ndarray:
        """(2,) where the plan is at a time, x_m and y_m on the map."""
        return to_global_frame(self.curve(min(time_s - self.time_s, self.end_s)), self.pose)

    def __call__(self, ego: EgoState, time_s: float, dt_s: float) -> tuple[float, float]:
        """Steering-wheel angle (rad) and acceleration (m/s²) for the next `dt_s`."""
        x, y = to_ego_frame(self.at(time_s + _AHEAD_S), ego.pose)
        chord = float(np.hypot(x, y))
        steering, length = ego.steering_rad, 0.0
        if x > 0 and chord > _MIN_CHORD_M:
            steering = float(curvature_to_steering(2 * y / chord**2))
            length = chord / np.sinc(np.arctan2(y, x) / np.pi)
        accel = 2 * (length - ego.speed_mps * _AHEAD_S) / _AHEAD_S**2
        limit = MAX_STEERING_RATE_RADPS * dt_s
        steering = np.clip(steering, ego.steering_rad - limit, ego.steering_rad + limit)
        return (
            float(np.clip(steering, -MAX_STEERING_RAD, MAX_STEERING_RAD)),
            float(np.clip(accel, MIN_ACCEL_MPS2, MAX_ACCEL_MPS2)),
        )
