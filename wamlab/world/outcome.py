"""What came of a drive: collisions, progress, keeping to the road and the rules, comfort. A function of the log; nothing is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wamlab.world.collision import EGO_HALF_M, Collision, corners, ego_box
from wamlab.world.driver import EGO_LENGTH_M, FRONT_M
from wamlab.world.junction import RED, signal
from wamlab.world.road import Path, Road
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, State, World

_KERB_MARGIN_M = 0.3  # a corner of the car this far beyond the kerb is off the road
_CENTRE_MARGIN_M = 0.3  # the car's middle this far beyond the centreline is on the wrong side
_ON_ROUTE_M = 3.0


@dataclass(frozen=True)
class Outcome:
    """How a drive went.

    Attributes:
        ended: why: "collision", "goal", "time", or None while it goes on. duration_s: simulated.
        collisions: in the order in which they happened.
        progress_m: along the route. progress: the same as a share of the way to the goal, in [0, 1] (VaVAM, eq. 11, along the route).
        deviation_m, max_deviation_m: mean and largest distance of the rear axle from the nearest point of the route.
        off_road_s, off_road_m: how long and how far a corner of the car was more than 0.3 m beyond the kerb.
        wrong_side_s: how long, outside of crossings, the car's middle was more than 0.3 m across the centreline.
        signals_run: stop lines of the route that the front of the car crossed on red.
        max_accel_mps2, max_lateral_mps2: largest magnitudes of the longitudinal and the lateral acceleration.
        max_jerk_mps3: largest change of the longitudinal acceleration between means over 0.5 s.
    """

    ended: str | None
    duration_s: float
    collisions: tuple[Collision, ...]
    progress_m: float
    progress: float
    deviation_m: float
    max_deviation_m: float
    off_road_s: float
    off_road_m: float
    wrong_side_s: float
    signals_run: int
    max_accel_mps2: float
    max_lateral_mps2: float
    max_jerk_mps3: float


def judge(
    world: World, log: Sequence[State], goal_m: float, collisions: Sequence[Collision] = (), ended: str | None = None
) -> Outcome:
    """The outcome of a log (one state every `STEP_S`) whose goal lies `goal_m` along the world's route."""
    pose = np.array([s.ego.pose for s in log])  # (T, 3)
    speed = np.array([s.ego.speed_mps for s in log])
    along, aside = world.route.project(pose[:, :2])
    travelled = np.hypot(*np.diff(pose[:, :2], axis=0).T)
    off = (world.map.distance_to_kerb(corners(ego_box(pose), EGO_HALF_M)) > _KERB_MARGIN_M).any(1)
    accel = np.array([s.ego.accel_mps2 for s in log[1:]])
    means = accel[: len(accel) // KEYFRAME_STEPS * KEYFRAME_STEPS].reshape(-1, KEYFRAME_STEPS).mean(1)
    lateral = speed * [s.ego.yaw_rate_radps for s in log]
    return Outcome(
        ended=ended,
        duration_s=log[-1].time_s - log[0].time_s,
        collisions=tuple(collisions),
        progress_m=float(along[-1] - along[0]),
        progress=float(np.clip((along[-1] - along[0]) / (goal_m - along[0]), 0, 1)),
        deviation_m=float(np.abs(aside).mean()),
        max_deviation_m=float(np.abs(aside).max()),
        off_road_s=STEP_S * int(off[1:].sum()),
        off_road_m=float(travelled[off[1:]].sum()),
        wrong_side_s=STEP_S * int(_wrong_side(world, pose)[1:].sum()),
        signals_run=_signals_run(world, log, along + FRONT_M, np.abs(aside) < _ON_ROUTE_M),
        max_accel_mps2=float(np.abs(accel).max(initial=0)),
        max_lateral_mps2=float(np.abs(lateral).max()),
        max_jerk_mps3=float(np.abs(np.diff(means)).max(initial=0)) / (KEYFRAME_STEPS * STEP_S),
    )


def _wrong_side(world: World, pose: np.ndarray) -> np.ndarray:
    """(T,) is the car on a carriageway, outside of crossings, on the side of the oncoming traffic?"""
    box, wrong = ego_box(pose), np.zeros(len(pose), bool)
    for road in world.map.roads:
        s, d, yaw = _road_coordinates(road, box[:, :2])
        direction = np.sign(np.cos(pose[:, 2] - yaw))
        here = (np.abs(d) < road.half_width_m) & (s > 0) & (s < road.length_m)
        for middle, half in road.crossings:
            here &= np.abs(s - middle) > half + EGO_LENGTH_M / 2
        wrong |= here & (world.map.side * direction * d > _CENTRE_MARGIN_M)
    return wrong


def _road_coordinates(road: Road, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, 2) -> metres along the centreline and to its left, and its heading there, each (T,)."""
    line = Path(road.points)
    s, d = line.project(xy)
    return s, d, np.interp(s, line.s, line.yaw)


def _signals_run(world: World, log: Sequence[State], front_m: np.ndarray, on_route: np.ndarray) -> int:
    stops, count = world.agents.stops, 0
    for at, crossing, group in zip(stops.at_m[-1], stops.crossing[-1], stops.group[-1], strict=True):
        for k in np.flatnonzero((front_m[:-1] <= at) & (front_m[1:] > at) & on_route[1:]):
            count += signal(log[k].time_s, crossing, group, world.signal_offsets) == RED
    return count
