"""How the others move: following, signals, giving way, lane changes, pedestrians. Who they are is `population`; no drawing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from wamlab.world.driver import EGO_LENGTH_M, EGO_WIDTH_M, REAR_AXLE_TO_CENTRE_M
from wamlab.world.following import PROBES_M, Boxes, clearance, covered, idm, patience
from wamlab.world.junction import AMBER_S, CYCLE_S, GREEN_S, Stops, Yields, phase_s
from wamlab.world.junction import signal as signal
from wamlab.world.lanes import CHANGE_S, COOLDOWN_S, LEAST_MPS, Occupants, choose, moving_over, passed_s, way_m
from wamlab.world.tracks import Tracks

DECIDE_STEPS, LANE_STEPS = 2, 6  # everybody looks and decides at every second step, about lanes at every sixth
_ON_ROUTE_M = 3.0  # farther from its route, the ego car is an obstacle and no more
_EGO_AHEAD_M = 20.0  # so early one sees that it is about to change lanes
_LOOKS_OUT_S = 3.0  # nobody steps in front of a car that will be there within it
_NOWHERE_M = -1e4

CATEGORY = {
    "sedan": "vehicle.car", "hatchback": "vehicle.car", "suv": "vehicle.car", "van": "vehicle.car", "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid", "cyclist": "vehicle.bicycle", "pedestrian": "human.pedestrian.adult",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class AgentState:
    """N others at one instant.

    Attributes:
        s_m: (N,) metres along the track (inf: has left the map). speed_mps: (N,). accel_mps2: (N,) what led here.
        track: (N,) number of the track that each follows; another one after a change of lanes.
        from_m, change_s: (N,) the latest change of lanes: metres to the left of the new lane where it began, and how far it has gone on.
    """

    s_m: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray
    track: np.ndarray
    from_m: np.ndarray
    change_s: np.ndarray

    @staticmethod
    def begin(s_m: np.ndarray, speed_mps: np.ndarray, track: np.ndarray) -> AgentState:
        """Everybody in the middle of their track, and free to change lanes."""
        zero = np.zeros(len(s_m))
        return AgentState(s_m, speed_mps, zero, track, zero, zero + CHANGE_S + COOLDOWN_S)


@dataclass(frozen=True, eq=False)
class Agents:
    """N others; all that does not change while they move.

    Attributes:
        kind: N names of `vehicle_templates`. size_m: (N, 3) length, width, height. colour: (N, 3).
        speed_mps: (N,) wanted. drives: (N,) bool, follows the intelligent driver model (else walks or is parked).
        crosses: (N,) bool, walks across a road.
        tracks: P lines to move along, the last of which is the ego car's route. stops: the stop lines on each (P rows), those of a
            walker being kerbs. yields: which track gives way to which.
    """

    kind: tuple[str, ...]
    size_m: np.ndarray
    colour: np.ndarray
    speed_mps: np.ndarray
    drives: np.ndarray
    crosses: np.ndarray
    tracks: Tracks
    stops: Stops
    yields: Yields

    def __len__(self) -> int:
        return len(self.kind)

    def on_map(self, state: AgentState) -> np.ndarray:
        """(N,) bool: neither has left the map nor is yet to come to it."""
        return np.isfinite(state.s_m) & (state.s_m >= self.tracks.enter_m[state.track])

    def pose(self, state: AgentState, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Poses (n, 3) of the middles. Who has left the map, or not yet come to it, is far away from everything."""
        return np.where(self.on_map(state)[rows, None], self._poses(state, rows), (_NOWHERE_M, _NOWHERE_M, 0.0))

    def indicators(self, state: AgentState) -> np.ndarray:
        """(N,) +1 who moves over to the left, -1 to the right, else 0."""
        return np.where(state.change_s < CHANGE_S, -np.sign(state.from_m), 0.0).astype(int)

    def _poses(self, state: AgentState, rows: np.ndarray | slice) -> np.ndarray:
        pose = self.tracks.at(state.s_m[rows], state.track[rows])[:, :3]
        return self._move_over(state, rows, pose[:, None], np.zeros((1, 1)))[:, 0]

    def _move_over(
        self, state: AgentState, rows: np.ndarray | slice, poses: np.ndarray, ahead_m: np.ndarray
    ) -> np.ndarray:
        """Poses (n, K, >= 3) on the tracks, `ahead_m` (n or 1, K) of agents -> the same beside the tracks for those who change lanes."""
        moving = np.flatnonzero(state.change_s[rows] < CHANGE_S)
        if len(moving):
            start, gone, speed = (v[rows][moving, None] for v in (state.from_m, state.change_s, state.speed_mps))
            aside, angle = moving_over(start, gone, speed, ahead_m if len(ahead_m) == 1 else ahead_m[moving])
            x, y, yaw = (poses[moving, :, c] for c in range(3))
            poses[moving, :, :3] = np.stack([x - aside * np.sin(yaw), y + aside * np.cos(yaw), yaw + angle], -1)
        return poses

    @cached_property
    def ego_track(self) -> int:
        return len(self.tracks.first) - 1

    @cached_property
    def drivers(self) -> np.ndarray:
        return np.flatnonzero(self.drives)

    @cached_property
    def walkers(self) -> np.ndarray:
        return np.flatnonzero(~self.drives & (self.speed_mps > 0))

    @cached_property
    def crossers(self) -> np.ndarray:
        return np.flatnonzero(self.crosses)

    @cached_property
    def looks_m(self) -> np.ndarray:
        """(N, 1 + K): where a driver looks, metres from the vehicle's middle: here, and `PROBES_M` from its front."""
        return np.concatenate([np.zeros((len(self), 1)), self.size_m[:, :1] / 2 + PROBES_M], 1)

    @lru_cache(maxsize=4)  # noqa: B019 - another one only when somebody has changed lanes
    def _giving_way(self, track: bytes) -> Yields:
        return self.yields.among(np.append(np.frombuffer(track, int), self.ego_track))

    def giving_way(self, state: AgentState) -> Yields:
        """Who gives way to whom now; number N is the ego car."""
        return self._giving_way(state.track.tobytes())


@dataclass(frozen=True)
class EgoView:
    """The ego car as the others see it: pose (x_m, y_m, yaw_rad) and position (s_m along its route, aside_m to the left) of its rear
    axle, and its speed."""

    pose: tuple[float, float, float]
    speed_mps: float
    s_m: float
    aside_m: float

    @property
    def front_m(self) -> float:
        """Metres of its front along the route; inf if it has left it."""
        return self.s_m + REAR_AXLE_TO_CENTRE_M + EGO_LENGTH_M / 2 if abs(self.aside_m) < _ON_ROUTE_M else np.inf


@dataclass(frozen=True, eq=False)
class Observation:
    """What everybody reacts to at one instant.

    Attributes:
        drivers: (D,) numbers of those who drive and have not left the map.
        boxes: footprints of the drivers, of those who cross, and last, if it is to be seen, of the ego car.
        front_m: (N + 1,) metres of the agents' and the ego car's fronts along their tracks.
        halt_m: (N + 1,) metres to where each must halt, for a signal or to give way; inf: nowhere.
        lanes: those in lanes: the drivers, and last, if it is to be seen, the ego car.
    """

    drivers: np.ndarray
    boxes: Boxes
    front_m: np.ndarray
    halt_m: np.ndarray
    lanes: Occupants


def observe(agents: Agents, state: AgentState, time_s: float, ego: EgoView | None, offsets: np.ndarray) -> Observation:
    """Look at everybody. With `ego=None` the ego car is not there."""
    drivers = agents.drivers[np.isfinite(state.s_m[agents.drivers])]
    rows = np.concatenate([drivers, agents.crossers])
    pose, speed, half = agents._poses(state, rows), state.speed_mps[rows], agents.size_m[rows, :2] / 2
    d = len(drivers)
    walkers = Boxes(pose[d:], half[d:], speed[d:]).stretched(1.5)  # where they will be in a moment is taken, too
    pose[d:], half[d:] = walkers.pose, walkers.half
    if ego is not None:
        x, y, yaw = ego.pose
        centre = (x + REAR_AXLE_TO_CENTRE_M * np.cos(yaw), y + REAR_AXLE_TO_CENTRE_M * np.sin(yaw), yaw)
        pose, speed = np.vstack([pose, centre]), np.append(speed, ego.speed_mps)
        half = np.vstack([half, (EGO_LENGTH_M / 2, EGO_WIDTH_M / 2)])
    front, own_speed = (ego.front_m, ego.speed_mps) if ego else (np.inf, 0.0)
    length = np.append(agents.size_m[:, 0], EGO_LENGTH_M)
    fronts, speeds = np.append(state.s_m + agents.size_m[:, 0] / 2, front), np.append(state.speed_mps, own_speed)
    held = agents.stops[np.append(state.track, agents.ego_track)].gap_m(fronts, speeds, time_s, offsets)
    waits = agents.giving_way(state).gap_m(fronts, length, speeds, held)
    lanes = _occupants(agents, state, drivers, ego)
    return Observation(drivers, Boxes(pose, half, speed), fronts, np.minimum(held, waits), lanes)


def _occupants(agents: Agents, state: AgentState, drivers: np.ndarray, ego: EgoView | None) -> Occupants:
    tracks, s, track = agents.tracks, state.s_m[drivers], state.track[drivers]
    i = tracks.sample(s, track)
    leaves = np.where(state.from_m[drivers] > 0, tracks.beside[track, 0], tracks.beside[track, 1])
    leaves = np.where(state.change_s[drivers] < CHANGE_S, leaves, -1)
    lane, road_m = np.stack([tracks.lane[i], leaves], -1), tracks.road_m[i] + s % 1.0
    length, speed, wanted = agents.size_m[drivers, 0], state.speed_mps[drivers], agents.speed_mps[drivers]
    if ego is not None:
        route = np.full(2, agents.ego_track)
        here, soon = tracks.sample(ego.s_m + REAR_AXLE_TO_CENTRE_M + np.array([0.0, _EGO_AHEAD_M]), route)
        lane = np.vstack([lane, tracks.lane[[here, soon]]])
        road_m, length = np.append(road_m, tracks.road_m[here]), np.append(length, EGO_LENGTH_M)
        speed, wanted = np.append(speed, ego.speed_mps), np.append(wanted, max(10.0, ego.speed_mps))
    return Occupants(lane, road_m, length, speed, wanted)


def step_agents(
    agents: Agents, state: AgentState, seen: Observation | None, time_s: float, dt_s: float, offsets: np.ndarray
) -> AgentState:
    """Move everybody by `dt_s`, given what they see now; without, they go on as they did."""
    if not len(agents):
        return state
    speed, accel = state.speed_mps.copy(), state.accel_mps2
    if seen is not None:
        if round(time_s / dt_s) % LANE_STEPS == 0:
            state = _change_lanes(agents, state, seen)
        accel = np.zeros(len(agents))
        accel[seen.drivers] = _follow(agents, state, seen)
        speed[agents.walkers] = agents.speed_mps[agents.walkers]
        speed[agents.crossers] *= _may_walk(agents, state, time_s, offsets, seen)
    new_speed = np.maximum(0, speed + accel * dt_s)
    s = state.s_m + 0.5 * (state.speed_mps + new_speed) * dt_s
    length = agents.tracks.length_m[state.track]
    ended = s >= length  # a vehicle leaves the map, a pedestrian stands
    if ended.any():
        new_speed = np.where(ended, 0.0, new_speed)
        s = np.where(ended, np.where(agents.drives, np.inf, length), s)
    return replace(
        state, s_m=s, speed_mps=new_speed, accel_mps2=accel, change_s=state.change_s + passed_s(state.speed_mps, dt_s)
    )


def _follow(agents: Agents, state: AgentState, seen: Observation) -> np.ndarray:
    """(D,) accelerations of the drivers."""
    rows, boxes = seen.drivers, seen.boxes
    looks = agents.looks_m[rows]
    probes = agents.tracks.at(state.s_m[rows, None] + looks, state.track[rows])
    curve = probes[:, 0, 3]
    probes = agents._move_over(state, rows, probes, looks)[:, 1:]
    gap, who = clearance(probes, agents.size_m[rows, 1] / 2, boxes, np.arange(len(rows)))
    along = np.cos(boxes.pose[who, 2] - probes[:, 0, 2]) * boxes.speed_mps[who]
    gap = patience(gap, along, boxes.speed_mps[who])
    leader = np.where(who >= 0, np.maximum(along, 0), 0.0)
    halt = seen.halt_m[rows]
    leader, gap = np.where(halt < gap, 0.0, leader), np.minimum(halt, gap)
    return idm(state.speed_mps[rows], np.minimum(agents.speed_mps[rows], curve), gap, leader)


def _change_lanes(agents: Agents, state: AgentState, seen: Observation) -> AgentState:
    """Let one driver, for whom it is worth most, begin to change lanes."""
    tracks, rows = agents.tracks, seen.drivers
    s, track, speed = state.s_m[rows], state.track[rows], state.speed_mps[rows]
    way = s[:, None] + way_m(speed)[:, None] * np.array([0.0, 0.5, 1.0])
    free = (state.change_s[rows] >= CHANGE_S + COOLDOWN_S) & (speed > LEAST_MPS) & (way[:, 2] < tracks.length_m[track])
    options = (tracks.beside[track] >= 0) & free[:, None]
    if not options.any():
        return state
    options &= tracks.clear[tracks.sample(way, track)].all(1)[:, None]
    who, side = np.nonzero(options)
    best = choose(seen.lanes, who, tracks.beside[track[who], side]) if len(who) else -1
    if best < 0:
        return state
    who, target = who[best], int(tracks.beside[track[who[best]], side[best]])
    n = rows[who]
    new_s, aside = tracks.abreast(float(s[who]), int(track[who]), target)
    fields = {"s_m": new_s, "track": target, "from_m": aside, "change_s": 0.0}
    changed = {name: getattr(state, name).copy() for name in fields}
    for name, value in fields.items():
        changed[name][n] = value
    return replace(state, **changed)


def _may_walk(agents: Agents, state: AgentState, time_s: float, offsets: np.ndarray, seen: Observation) -> np.ndarray:
    """For each crosser: not waiting at the kerb until cars have red for long enough and none comes, and no car right ahead."""
    rows, tracks = agents.crossers, agents.tracks
    if not len(rows):
        return np.zeros(0, bool)
    s, track = state.s_m[rows], state.track[rows]
    cars = seen.boxes[np.r_[: len(seen.drivers), len(seen.drivers) + len(rows) : len(seen.boxes.speed_mps)]]
    free = ~covered(tracks.at(s + agents.size_m[rows, 0] / 2 + 0.6, track), 0.5, cars)
    stops, length = agents.stops[track], tracks.length_m[track]
    t = phase_s(time_s, stops.crossing[:, 0], stops.group[:, 0], offsets)
    red_s = GREEN_S + AMBER_S
    walk = (t > red_s) & (t < np.maximum(CYCLE_S - length / agents.speed_mps[rows], red_s + 1.0))
    at_kerb = s < stops.at_m[:, 0]
    free &= walk | ~at_kerb
    sets_off = np.flatnonzero(free & at_kerb)
    if len(sets_off):
        way = length[sets_off, None] * np.linspace(0.1, 0.9, 7)
        free[sets_off] = ~covered(tracks.at(way, track[sets_off]), 0.7, cars.stretched(_LOOKS_OUT_S)).any(1)
    return free
