"""Drivers without a model: two that bracket every score. Both plan as a policy does, in waypoints at 2 Hz; both see the true state."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from wamlab.geometry import to_ego_frame, wrap_angle
from wamlab.world.collision import EGO_HALF_M, CollisionChecker, corners, ego_box, overlap
from wamlab.world.driver import EgoState
from wamlab.world.episode import Controller, Observation
from wamlab.world.simulation import State, World
from wamlab.world.tracking import WAYPOINT_S

_HORIZON_S, _CHECK_S = 6.0, 0.25
_TIMES_S = np.arange(1, round(_HORIZON_S / _CHECK_S) + 1) * _CHECK_S
_PER_WAYPOINT = round(WAYPOINT_S / _CHECK_S)
_MARGIN_M = np.array([0.5, 0.3])  # kept to others, in front and aside
_SEEN_M = 80.0


def constant_speed(world: World) -> Controller:
    """Keeps the lane and the speed with which it began, whatever comes: the lower end of the scale."""
    speed, route = world.start.ego.speed_mps, world.route
    ahead_m = speed * WAYPOINT_S * np.arange(1, 7)

    def plan(seen: Observation) -> np.ndarray:
        s = float(route.project(seen.pose[:2])[0])
        return to_ego_frame(route.at(s + ahead_m)[:, :2], seen.pose)

    return plan


class BrakeAndSwerve:
    """Knows where everybody is going, brakes, and swerves where there is room: the upper end of the scale.

    Every half second it tries braking at several rates with sidesteps to several distances from the route, checks each against the boxes of
    all others 6 s ahead, and takes the gentlest that touches nobody and gets on: sampling in the frame of the route (Werling et al. 2010).
    """

    accels_mps2 = (0.0, -2.0, -4.0, -7.5)
    asides_m = (0.0, 1.2, -1.2, 2.2, -2.2, 3.3, -3.3)
    reach_s = (1.0, 1.8, 2.6)  # time that a sidestep takes at the present speed
    lateral_mps2 = 6.0  # largest lateral acceleration

    def __init__(self, world: World) -> None:
        self.world, self.check = world, CollisionChecker(world)
        self.cruise_mps = world.start.ego.speed_mps
        self.manoeuvres = np.array(list(product(self.accels_mps2, self.asides_m, self.reach_s)))

    def __call__(self, seen: Observation) -> np.ndarray:
        accel, aside, reach = self.manoeuvres.T
        ego = seen.state.ego
        # towards the speed it began with, where it need not brake
        gain = np.clip((self.cruise_mps - ego.speed_mps) / _HORIZON_S, 0.0, 1.5)
        pose, lateral = self._paths(ego, np.where(accel == 0, gain, accel), aside, reach)
        hit_s = self._first_hit_s(seen.state, pose)
        kerb = self.world.map.distance_to_kerb(corners(ego_box(pose[:, ::4]), EGO_HALF_M)).max((1, 2))
        lost_m = self.cruise_mps * _HORIZON_S - np.hypot(*(pose[:, -1, :2] - pose[:, 0, :2]).T)
        cost = 0.15 * np.abs(accel) + 0.4 * np.abs(aside) + 0.05 * lateral + 0.04 * lost_m
        cost += 6.0 * np.maximum(kerb, 0) + 50.0 * np.maximum(lateral - self.lateral_mps2, 0)
        # what hits somebody anyway: late, and slow by then
        cost += np.where(np.isfinite(hit_s), 100.0 - 10.0 * np.minimum(hit_s, _HORIZON_S) + 5.0 * accel, 0.0)
        best = pose[np.argmin(cost)]
        return to_ego_frame(best[_PER_WAYPOINT - 1 :: _PER_WAYPOINT, :2], seen.pose)

    def _paths(
        self, ego: EgoState, accel: np.ndarray, aside: np.ndarray, reach_s: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Poses (M, T, 3) of the rear axle for M manoeuvres at `_TIMES_S`, and each one's largest lateral acceleration (M,)."""
        route = self.world.route
        s0, d0 = (float(v) for v in route.project(np.array([ego.x_m, ego.y_m])))
        slope = float(np.tan(np.clip(wrap_angle(ego.yaw_rad - route.at(s0)[2]), -1, 1)))
        braking = np.where(accel < 0, ego.speed_mps / np.maximum(-accel, 1e-9), np.inf)
        t = np.minimum(_TIMES_S, braking[:, None])
        speed = ego.speed_mps + accel[:, None] * t
        way = ego.speed_mps * t + accel[:, None] * t**2 / 2  # (M, T)
        # a quintic from (d0, slope, 0) to (aside, 0, 0) over `length`
        length = np.maximum(reach_s * ego.speed_mps, 4.0)[:, None]
        u = np.minimum(way / length, 1.0)
        gap = aside[:, None] - d0
        blend, d_blend, dd_blend = (
            u**3 * (10 - 15 * u + 6 * u**2),
            30 * (u * (1 - u)) ** 2,
            60 * u * (1 - u) * (1 - 2 * u),
        )
        ease, d_ease = u * (1 - u) ** 3 * (1 + 3 * u), (1 - u) ** 2 * (1 + 2 * u - 15 * u**2)
        dd_ease = -36 * u + 96 * u**2 - 60 * u**3
        d = d0 + gap * blend + slope * length * ease
        d_slope = gap * d_blend / length + slope * d_ease
        curvature = (gap * dd_blend / length + slope * dd_ease) / length
        along = route.at(s0 + way)
        lateral = np.abs(speed**2 * (curvature + np.interp(s0 + way, route.s, route.bend))).max(1)
        normal = np.stack([-np.sin(along[..., 2]), np.cos(along[..., 2])], -1)
        yaw = along[..., 2] + np.arctan(d_slope)
        return np.concatenate([along[..., :2] + d[..., None] * normal, yaw[..., None]], -1), lateral

    def _first_hit_s(self, state: State, pose: np.ndarray) -> np.ndarray:
        """(M,) when each path (M, T, 3) first touches somebody, inf if never; the others keep their paths and speeds."""
        agents, others, box = self.world.agents, state.agents, ego_box(pose)
        now = agents.pose(others)
        near = np.flatnonzero(np.hypot(*(now[:, :2] - box[0, 0, :2]).T) < _SEEN_M)
        # long enough for what happens between two looks
        sweep_m = np.outer(others.speed_mps[near], [_CHECK_S / 2, 0])
        half = self.check.half_m[near] + _MARGIN_M / 2 + sweep_m
        own = EGO_HALF_M + _MARGIN_M / 2 + [state.ego.speed_mps * _CHECK_S / 2, 0]
        hits = np.zeros(box.shape[:2], bool)
        for k, t in enumerate(_TIMES_S):
            then = replace(
                others,
                s_m=np.minimum(others.s_m + others.speed_mps * t, agents.tracks.length_m[others.track]),
                change_s=others.change_s + t,
            )
            hits[:, k] = overlap(box[:, k, None], own, agents.pose(then, near), half).any(1)
        return np.where(hits.any(1), _TIMES_S[hits.argmax(1)], np.inf)


def brake_and_swerve(world: World) -> Controller:
    """See `BrakeAndSwerve`."""
    return BrakeAndSwerve(world)


#: Scripted drivers by name.
DRIVERS = {"constant speed": constant_speed, "brake and swerve": brake_and_swerve}
