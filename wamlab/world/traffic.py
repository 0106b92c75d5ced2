"""How the others move: intelligent driver model, signals, giving way, pedestrians. Who they are is `population`; no drawing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wamlab.world.driver import EGO_LENGTH_M, EGO_WIDTH_M, REAR_AXLE_TO_CENTRE_M
from wamlab.world.junction import AMBER_S, CYCLE_S, GREEN_S, Stops, Yields, phase_s
from wamlab.world.junction import signal as signal

PROBES_M = np.arange(1.0, 46.0, 2.0)  # where a driver looks, metres from the front along the path
_SIDE_M = 0.25  # room on both sides
_NOWHERE_M = -1e4
_BRAKE_MPS2, _COMFORT_MPS2, _STANDSTILL_M, _HEADWAY_S = 2.2, 1.6, 2.5, 1.2

CATEGORY = {
    "sedan": "vehicle.car", "hatchback": "vehicle.car", "suv": "vehicle.car", "van": "vehicle.car", "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid", "cyclist": "vehicle.bicycle", "pedestrian": "human.pedestrian.adult",
}  # fmt: skip


@dataclass(frozen=True)
class Boxes:
    """m footprints: pose (m, 3) of their middles, half (m, 2) length and width, speed_mps (m,)."""

    pose: np.ndarray
    half: np.ndarray
    speed_mps: np.ndarray


@dataclass(frozen=True)
class Agents:
    """N others; all that does not change while they move.

    Attributes:
        kind: N names of `vehicle_templates`. size_m: (N, 3) length, width, height. colour: (N, 3).
        table: (M, 4) all paths one after another, a sample a metre: x, y, yaw, and the speed that the bends ahead allow.
        first: (N,) each agent's first sample. length_m: (N,) of the paths.
        speed_mps: (N,) wanted. drives: (N,) bool, follows the intelligent driver model (else walks or is parked).
        stops: (N + 1 rows) the stop lines on each path, those of a walker being kerbs; the last row is the ego car's.
        yields: who gives way to whom; number N is the ego car.
    """

    kind: tuple[str, ...]
    size_m: np.ndarray
    colour: np.ndarray
    table: np.ndarray
    first: np.ndarray
    length_m: np.ndarray
    speed_mps: np.ndarray
    drives: np.ndarray
    stops: Stops
    yields: Yields

    def __len__(self) -> int:
        return len(self.kind)

    def pose(self, s: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Positions (n,) along the paths -> poses (n, 3). Who has left the map (s is inf) is far away from everything."""
        return np.where(np.isfinite(s)[:, None], self._along(s, rows)[:, :3], (_NOWHERE_M, _NOWHERE_M, 0.0))

    def _along(self, s: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """Positions (n, ...) along the paths of n agents -> rows (n, ..., 4) of the table."""
        shape = (-1, *[1] * (s.ndim - 1))
        length = self.length_m[rows].reshape(shape)
        s = np.minimum(np.maximum(s, 0.0), length)
        i = np.minimum(s, np.maximum(np.ceil(length) - 1, 0)).astype(int)
        share, i = (s - i)[..., None], i + self.first[rows].reshape(shape)
        return self.table[i] * (1 - share) + self.table[i + 1] * share

    @cached_property
    def drivers(self) -> np.ndarray:
        return np.flatnonzero(self.drives)

    @cached_property
    def walkers(self) -> np.ndarray:
        return np.flatnonzero(~self.drives & (self.speed_mps > 0))

    @cached_property
    def crossers(self) -> np.ndarray:
        """Walkers who cross a road."""
        return np.flatnonzero(~self.drives & (self.stops.at_m[:-1] > 0).any(1))

    @cached_property
    def on_road(self) -> np.ndarray:
        """Who can be in somebody's way."""
        return np.concatenate([self.drivers, self.crossers])

    @cached_property
    def looks_m(self) -> np.ndarray:
        """(drivers, 1 + K): where each driver looks, metres from the vehicle's middle: here, and `PROBES_M` from its front."""
        ahead = self.size_m[self.drivers, :1] / 2 + PROBES_M
        return np.concatenate([np.zeros((len(ahead), 1)), ahead], 1)

    @cached_property
    def to_others(self) -> Yields:
        """How the agents give way."""
        return self.yields[self.yields.who < len(self)]

    @cached_property
    def by_ego(self) -> Yields:
        """How the ego car does."""
        return self.yields[self.yields.who == len(self)]


@dataclass(frozen=True)
class AgentState:
    """(N,) metres along the path (inf: has left the map), speed, and the acceleration that led here."""

    s_m: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray


@dataclass(frozen=True)
class EgoView:
    """The ego car as the others see it: pose (x_m, y_m, yaw_rad) of the rear axle, speed, metres along its route of its front."""

    pose: tuple[float, float, float]
    speed_mps: float
    front_m: float


def idm(speed: np.ndarray, wanted: np.ndarray, gap: np.ndarray, leader: np.ndarray) -> np.ndarray:
    """Acceleration of the intelligent driver model (Treiber, Hennecke, Helbing 2000, eq. 3), m/s², for gaps in metres.

    Braking stays near what is needed: the free-road term above -2.5 m/s², the sum not far below what stops a metre before the obstacle.
    """
    closing = speed * (speed - leader) / (2 * np.sqrt(_COMFORT_MPS2 * _BRAKE_MPS2))
    desired = _STANDSTILL_M + np.maximum(0, speed * _HEADWAY_S + closing)
    free = np.maximum(_COMFORT_MPS2 * (1 - (speed / np.maximum(wanted, 0.1)) ** 4), -2.5)
    needed = np.maximum(speed**2 - leader**2, 0) / (2 * np.maximum(gap - 1.0, 0.3))
    floor = np.maximum(-7.0, -1.5 - 1.5 * needed)
    return np.clip(free - _COMFORT_MPS2 * (desired / np.maximum(gap, 0.3)) ** 2, floor, _COMFORT_MPS2)


def patience(gap: np.ndarray, along: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """The gap (m) as a driver takes it: something that moves at `speed` across the path or towards us (`along` < 0) will soon be gone."""
    return gap + np.where((along < 0.3 * speed) & (speed > 2.5), np.clip(gap / 6 - 0.67, 0, 1) * 1.2 * speed, 0.0)


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
    at = PROBES_M[first]
    distance = np.maximum(at + np.clip(ahead - extent, -2.0, 2.0), 0.1)
    order = np.argsort(-distance, kind="stable")  # the nearest is written last
    gap[i[order]], who[i[order]] = distance[order], j[order]
    return gap, who


@dataclass(frozen=True)
class Observation:
    """What everybody reacts to at one instant.

    Attributes:
        boxes: footprints of `agents.on_road` and last, if it is to be seen, the ego car.
        front_m, length_m, speed_mps, held_m: (N + 1,) of the agents and the ego car: metres of the front along the path, length,
            speed, and metres to the stop line that holds it (inf: none).
    """

    boxes: Boxes
    front_m: np.ndarray
    length_m: np.ndarray
    speed_mps: np.ndarray
    held_m: np.ndarray


def observe(agents: Agents, state: AgentState, time_s: float, ego: EgoView | None, offsets: np.ndarray) -> Observation:
    """Look at everybody. With `ego=None` the ego car is not there."""
    rows = agents.on_road
    pose, speed = agents.pose(state.s_m[rows], rows), state.speed_mps[rows]
    half = agents.size_m[rows, :2] / 2
    reach = 0.75 * speed  # where a pedestrian will be in a moment is taken, too
    reach[: len(agents.drivers)] = 0
    pose[:, 0] += reach * np.cos(pose[:, 2])
    pose[:, 1] += reach * np.sin(pose[:, 2])
    half[:, 0] += reach
    front, own_speed = np.inf, 0.0
    if ego is not None:
        x, y, yaw = ego.pose
        centre = (x + REAR_AXLE_TO_CENTRE_M * np.cos(yaw), y + REAR_AXLE_TO_CENTRE_M * np.sin(yaw), yaw)
        pose, speed = np.vstack([pose, centre]), np.append(speed, ego.speed_mps)
        half = np.vstack([half, (EGO_LENGTH_M / 2, EGO_WIDTH_M / 2)])
        front, own_speed = ego.front_m, ego.speed_mps
    length = np.append(agents.size_m[:, 0], EGO_LENGTH_M)
    fronts, speeds = np.append(state.s_m + agents.size_m[:, 0] / 2, front), np.append(state.speed_mps, own_speed)
    held = agents.stops.gap_m(fronts, speeds, time_s, offsets)
    return Observation(Boxes(pose, half, speed), fronts, length, speeds, held)


def step_agents(
    agents: Agents, state: AgentState, seen: Observation, time_s: float, dt_s: float, offsets: np.ndarray
) -> AgentState:
    """Move everybody by `dt_s`, given what they see now."""
    if not len(agents):
        return state
    accel = np.zeros(len(agents))
    rows = agents.drivers
    if len(rows):
        probes = agents._along(state.s_m[rows, None] + agents.looks_m, rows)
        here, probes = probes[:, 0], probes[:, 1:]
        gap, who = clearance(probes[..., :3], agents.size_m[rows, 1] / 2, seen.boxes, np.arange(len(rows)))
        along = np.cos(seen.boxes.pose[who, 2] - probes[:, 0, 2]) * seen.boxes.speed_mps[who]
        gap = patience(gap, along, seen.boxes.speed_mps[who])
        leader = np.where(who >= 0, np.maximum(along, 0), 0.0)
        waits = agents.to_others.gap_m(seen.front_m, seen.length_m, seen.speed_mps, seen.held_m)
        halt = np.minimum(seen.held_m, waits)[rows]
        leader, gap = np.where(halt < gap, 0.0, leader), np.minimum(halt, gap)
        wanted = np.minimum(agents.speed_mps[rows], here[:, 3])
        accel[rows] = idm(state.speed_mps[rows], wanted, gap, leader)
    new_speed = np.maximum(0, state.speed_mps + accel * dt_s)
    new_speed[agents.walkers] = agents.speed_mps[agents.walkers]
    new_speed[agents.crossers] *= _may_walk(agents, state, time_s, offsets, seen.boxes)
    s = state.s_m + 0.5 * (state.speed_mps + new_speed) * dt_s
    ended = s >= agents.length_m  # a vehicle leaves the map, a pedestrian stands
    new_speed = np.where(ended, 0.0, new_speed)
    return AgentState(np.where(ended, np.where(agents.drives, np.inf, agents.length_m), s), new_speed, accel)


def _may_walk(agents: Agents, state: AgentState, time_s: float, offsets: np.ndarray, boxes: Boxes) -> np.ndarray:
    """For each crosser: not waiting at the kerb for cars to have red for long enough, and no car right ahead."""
    rows = agents.crossers
    if not len(rows):
        return np.zeros(0, bool)
    s, stops = state.s_m[rows], agents.stops[rows]
    need = agents.length_m[rows] / agents.speed_mps[rows]
    t = phase_s(time_s, stops.crossing[:, 0], stops.group[:, 0], offsets)
    walk = (t > GREEN_S + AMBER_S) & (t < np.maximum(CYCLE_S - need, GREEN_S + AMBER_S + 1.0))
    at_kerb = s < stops.at_m[:, 0]
    probe = agents._along(s[:, None] + agents.size_m[rows, :1] / 2 + 0.5, rows)[..., :3]
    cars = np.r_[: len(agents.drivers), len(agents.on_road) : len(boxes.speed_mps)]
    seen = Boxes(boxes.pose[cars], boxes.half[cars], boxes.speed_mps[cars])
    blocked = clearance(probe, np.full(len(rows), 0.25), seen, np.full(len(rows), -1))[1] >= 0
    return np.where(at_kerb, walk, True) & ~blocked
