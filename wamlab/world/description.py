"""A drive in words, as nuScenes describes its scenes: from what happens in it and what the cameras see. No drawing.

Every phrase is a fact about the log or the visible annotations, not about what the scene was meant to become.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wamlab.geometry import wrap_angle
from wamlab.world.driver import REAR_AXLE_TO_CENTRE_M
from wamlab.world.junction import GREEN, passages, signal
from wamlab.world.recording import AgentTrack
from wamlab.world.road import Path
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, State, World

_SEEN = 2  # visibility level from which on something counts as seen
_MANY = 6
_STANDS_MPS, _MOVES_MPS = 0.3, 1.0
_QUEUE_M = 30.0  # before a stop line
_TURN_RAD = 0.8
_HARD_MPS2 = 4.0
_UNSTEADY_M = 0.09  # standard deviation of the car's offset from its path, on straight road
_FOLLOWS_S, _WAITS_S = 4.0, 1.0
_NAMES = {"vehicle.car": "car", "vehicle.truck": "truck", "vehicle.bus.rigid": "bus", "vehicle.bicycle": "cyclist"}


def describe(world: World, log: Sequence[State], tracks: Sequence[AgentTrack]) -> str:
    """E.g. "Rain, night, urban, turn left, wait at red light, follow bus, many parked cars, pedestrian crossing".

    Args:
        log: a state every `STEP_S`. tracks: annotations at every `KEYFRAME_STEPS`-th of them.
    """
    pose = np.array([s.ego.pose for s in log])
    s, aside = world.route.project(pose[:, :2])
    phrases = [*_look(world), world.spec.place]
    phrases += ["left-hand traffic"] * (world.map.side < 0)
    phrases += _at_crossings(world, log, s, pose[:, 2])
    phrases += ["lane change"] * changes_lane(world, pose)
    phrases += _handling(world, log, s, aside)
    phrases += _others(world, s[::KEYFRAME_STEPS], log[::KEYFRAME_STEPS], tracks)
    said = [
        p for p in dict.fromkeys(phrases) if not any(other.endswith(f" {p}") for other in phrases)
    ]  # not "follow bus, bus"
    return ", ".join(said).capitalize()


def _look(world: World) -> list[str]:
    """What nuScenes would not mention, day and a clear sky, is not mentioned."""
    return [word for word in (world.look.weather, world.look.time) if word not in ("clear", "day")]


def _at_crossings(world: World, log: Sequence[State], s: np.ndarray, yaw: np.ndarray) -> Iterator[str]:
    """Turns, crossings gone straight over, and waiting before them."""
    yaw, stands = np.unwrap(yaw), np.array([state.ego.speed_mps < _STANDS_MPS for state in log])
    for passage in sorted(passages(world.map, world.route), key=lambda p: p.stop_m):
        entered = np.flatnonzero(s >= passage.stop_m)
        if len(entered):
            inside = yaw[entered[s[entered] <= passage.s[-1]]]
            turned = float(np.ptp(inside)) if len(inside) else 0.0
            if passage.turn and turned > _TURN_RAD:
                yield "turn left" if inside[-1] > inside[0] else "turn right"
            elif not passage.turn and s.max() > passage.s.mean():
                yield "intersection"
        queue = np.flatnonzero(stands & (s < passage.stop_m) & (s > passage.stop_m - _QUEUE_M))
        lights = [signal(log[k].time_s, passage.crossing, passage.group, world.signal_offsets) for k in queue]
        if world.map.place != "rural" and np.sum(np.array(lights) != GREEN) * STEP_S >= _WAITS_S:
            yield "wait at red light"
        elif len(queue) * STEP_S >= _WAITS_S:
            yield "wait at intersection"


def changes_lane(world: World, pose: np.ndarray) -> bool:
    """Is a car with these poses (T, 3) in the middle of one lane first and of another, in the same direction, later?"""
    for road in world.map.roads:
        s, d = Path(road.points).project(pose[:, :2])
        along = np.cos(pose[:, 2] - road.at(s)[:, 2])
        lane, off = np.divmod(np.abs(d) / road.lane_m, 1.0)
        steady = (
            (np.abs(along) > 0.95) & (lane < road.lanes) & (np.abs(off - 0.5) < 0.3) & (s > 0) & (s < road.length_m)
        )
        lanes = lane[steady & (d * along * world.map.side < 0)]
        if len(lanes) and np.ptp(lanes) > 0:
            return True
    return False


def _handling(world: World, log: Sequence[State], s: np.ndarray, aside: np.ndarray) -> Iterator[str]:
    accel = np.array([state.ego.accel_mps2 for state in log])
    if (accel < -_HARD_MPS2).any():
        yield "brake hard"
    straight = np.abs(np.interp(s, world.route.s, world.route.bend)) < 0.01
    if straight.sum() * STEP_S > 1 and np.std(aside[straight]) > _UNSTEADY_M:
        yield "unsteady driving"


def _others(world: World, s: np.ndarray, keyframes: Sequence[State], tracks: Sequence[AgentTrack]) -> Iterator[str]:
    """Who is followed, overtaken, and seen; `s` (T,) of the car at the keyframes."""
    moves = np.array([state.ego.speed_mps > _MOVES_MPS for state in keyframes])
    s = s + REAR_AXLE_TO_CENTRE_M
    seen = [track for track in tracks if (track.visibility >= _SEEN).any()]
    drivers = [t for t in seen if t.category in _NAMES and "vehicle.parked" not in t.attribute]
    ahead, in_lane, beside = _places(world, s, drivers)
    leader = np.argmin(np.where(in_lane, ahead, np.inf), 0) if drivers else np.zeros(0)
    for n, track in enumerate(drivers):
        speed = np.hypot(*track.velocity_mps.T)
        name = _NAMES[track.category]
        if np.sum(in_lane[n] & (leader == n) & moves & (speed > _MOVES_MPS)) * KEYFRAME_STEPS * STEP_S >= _FOLLOWS_S:
            yield f"follow {name}"
        side_by_side = beside[n] & (speed > _MOVES_MPS)
        if side_by_side.any():
            k = int(np.argmax(side_by_side))
            if ahead[n, : k + 1].max() > 4 and ahead[n, k:].min() < -4:
                yield f"overtake {name}"
            if ahead[n, : k + 1].min() < -4 and ahead[n, k:].max() > 4:
                yield f"overtaken by {name}"
    yield from _count([t for t in seen if "vehicle.parked" in t.attribute], "parked cars")
    walkers = [t for t in seen if t.category.startswith("human")]
    yield from _count(walkers, "pedestrians")
    for track in walkers:
        walks = (track.visibility >= _SEEN) & (np.hypot(*track.velocity_mps.T) > _STANDS_MPS)
        if (world.map.distance_to_kerb(track.pose[walks, :2]) < -_STANDS_MPS).any():
            yield "pedestrian crossing"
    for name in ("cyclist", "bus", "truck"):
        yield from [name] * any(_NAMES[t.category] == name for t in drivers)
    yield from ["dense traffic"] * (len(drivers) > 2 * _MANY)


def _count(tracks: Sequence[AgentTrack], what: str) -> list[str]:
    return [] if len(tracks) < 2 else [what] if len(tracks) < _MANY else [f"many {what}"]


def _places(world: World, s: np.ndarray, tracks: Sequence[AgentTrack]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, T) for N annotated drivers: metres ahead of the car along its route (0 where not annotated), and whether each goes the
    same way in front of it, in its lane, and beside it, in another."""
    if not tracks:
        return np.zeros((0, len(s))), *np.zeros((2, 0, len(s)), bool)
    pose, there = np.stack([t.pose for t in tracks]), np.stack([t.visibility > 0 for t in tracks])
    at, aside = world.route.project(pose[..., :2])
    along = np.cos(wrap_angle(pose[..., 2] - np.interp(at, world.route.s, world.route.yaw))) > 0.7
    ahead = np.where(there & along, at - s, 0.0)
    in_lane = there & along & (np.abs(aside) < 1.5) & (ahead > 2) & (ahead < 35)
    beside = there & along & (np.abs(aside) > 1.2) & (np.abs(aside) < 6.0) & (np.abs(ahead) < 5)
    return ahead, in_lane, beside
