"""The others on the road: who is there, and how they move (intelligent driver model, signals, pedestrians). No drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab.world.primitives import vehicle_templates
from wamlab.world.road import Path, RoadMap

_CYCLE_S, _GREEN_S, _AMBER_S = 24.0, 9.5, 2.5
_PROBES_M = np.arange(1.0, 46.0, 2.0)
RED, AMBER, GREEN = 0, 1, 2

CATEGORY = {
    "sedan": "vehicle.car", "hatchback": "vehicle.car", "suv": "vehicle.car", "van": "vehicle.car", "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid", "cyclist": "vehicle.bicycle", "pedestrian": "human.pedestrian.adult",
}  # fmt: skip
_PAINTS = [(0.6, 0.6, 0.6), (0.03, 0.03, 0.035), (0.22, 0.23, 0.25), (0.45, 0.03, 0.03), (0.04, 0.09, 0.32), (0.5, 0.48, 0.42),
           (0.03, 0.16, 0.1), (0.6, 0.4, 0.04), (0.3, 0.32, 0.35), (0.12, 0.2, 0.3)]  # fmt: skip
_CLOTHES = [
    (0.5, 0.08, 0.08),
    (0.08, 0.12, 0.4),
    (0.45, 0.4, 0.1),
    (0.4, 0.4, 0.4),
    (0.1, 0.3, 0.15),
    (0.35, 0.12, 0.3),
    (0.06, 0.06, 0.07),
]


@dataclass(frozen=True)
class Agents:
    """N others; all that does not change while they move.

    Attributes:
        kind: N names of `vehicle_templates`. size_m: (N, 3) length, width, height. colour: (N, 3).
        table: (N, L, 3) poses along each agent's path, a metre apart. length_m: (N,) of the paths.
        speed_mps: (N,) wanted. drives: (N,) bool, follows the intelligent driver model (else walks or is parked).
        stops: per agent a tuple of (s where it stops for a signal, crossing, group).
    """

    kind: tuple[str, ...]
    size_m: np.ndarray
    colour: np.ndarray
    table: np.ndarray
    length_m: np.ndarray
    speed_mps: np.ndarray
    drives: np.ndarray
    stops: tuple[tuple[tuple[float, int, int], ...], ...]

    def __len__(self) -> int:
        return len(self.kind)

    def pose(self, s: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Positions along the paths (N, ...) -> poses (N, ..., 3)."""
        table = self.table[rows]
        s = np.clip(s, 0, self.length_m[rows].reshape(-1, *[1] * (np.ndim(s) - 1)))
        i = np.minimum(s.astype(int), table.shape[1] - 2)
        rest = (s - i)[..., None]
        n = np.arange(len(table)).reshape(-1, *[1] * (np.ndim(s) - 1))
        return table[n, i] * (1 - rest) + table[n, i + 1] * rest


@dataclass(frozen=True)
class AgentState:
    """(N,) metres along the path, and speed."""

    s_m: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray


def signal(time_s: float, crossing: int, group: int, offsets: np.ndarray) -> int:
    """RED, AMBER or GREEN for the main road (group 0) or the cross road (group 1)."""
    t = (time_s + offsets[crossing] + group * _CYCLE_S / 2) % _CYCLE_S
    return GREEN if t < _GREEN_S else AMBER if t < _GREEN_S + _AMBER_S else RED


def idm(speed: np.ndarray, wanted: np.ndarray, gap: np.ndarray, leader: np.ndarray) -> np.ndarray:
    """Acceleration of the intelligent driver model (Treiber, Hennecke, Helbing 2000, eq. 3), m/s², for gaps in metres."""
    comfort, brake, headway, standstill = 1.6, 2.2, 1.2, 2.5
    desired = standstill + np.maximum(0, speed * headway + speed * (speed - leader) / (2 * np.sqrt(comfort * brake)))
    out = comfort * (1 - (speed / np.maximum(wanted, 0.1)) ** 4 - (desired / np.maximum(gap, 0.3)) ** 2)
    return np.clip(out, -7.0, comfort)


def obstacle_circles(pose: np.ndarray, length: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cover each footprint by three circles: centres (N, 3, 2), radii (N,)."""
    along = np.stack([-(length - width) / 2, np.zeros_like(length), (length - width) / 2], -1).clip(-20, 20)
    heading = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], -1)
    return pose[:, None, :2] + along[..., None] * heading[:, None], width / 2


def clearance(
    probes: np.ndarray, half_width: np.ndarray, circles: np.ndarray, radii: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First obstacle on each of n paths.

    Args:
        probes: (n, K, 2) points ahead at `_PROBES_M`. circles: (m, 3, 2). own: (n,) index of the prober among the m, -1 for none.

    Returns:
        distance to the first blocked probe (n,) (inf: free) and the obstacle's index (n,).
    """
    n, k = probes.shape[:2]
    distance = np.linalg.norm(probes[:, :, None, None] - circles[None, None], axis=-1).min(-1)  # (n, K, m)
    blocked = distance < (half_width[:, None] + radii[None])[:, None] + 0.25
    rows = np.flatnonzero(own >= 0)
    blocked[rows, :, own[rows]] = False
    first = np.where(blocked.any(2), np.arange(k), k).min(1)
    hit = first < k
    who = np.where(hit, blocked[np.arange(n), np.minimum(first, k - 1)].argmax(-1), -1)
    return np.where(hit, np.append(_PROBES_M, np.inf)[first], np.inf), who


def signal_gap(s: float, speed: float, stops: tuple, time_s: float, offsets: np.ndarray) -> float:
    """Metres to a stop line that must be respected, inf if none."""
    for at, crossing, group in stops:
        gap = at - s
        if gap < -0.5 or gap > 60:
            continue
        colour = signal(time_s, crossing, group, offsets)
        if colour == RED or (colour == AMBER and speed * speed / (2 * 3.0) < gap):
            return max(gap, 0.1)
    return np.inf


def step_agents(
    agents: Agents,
    state: AgentState,
    time_s: float,
    dt_s: float,
    ego_pose: np.ndarray,
    ego_speed: float,
    offsets: np.ndarray,
    reactive: bool = True,
) -> AgentState:
    """Move everybody by `dt_s`. With `reactive=False` nobody sees the ego car (others still see each other)."""
    if not len(agents):
        return state
    pose = agents.pose(state.s_m)
    circles, radii = obstacle_circles(pose, agents.size_m[:, 0], agents.size_m[:, 1])
    speed = state.speed_mps
    if reactive:
        ego_circles, ego_radii = obstacle_circles(ego_pose[None], np.array([4.5]), np.array([1.85]))
        circles, radii = np.concatenate([circles, ego_circles]), np.concatenate([radii, ego_radii])
        speed, pose = np.append(speed, ego_speed), np.concatenate([pose, ego_pose[None]])
    accel = np.zeros(len(agents))
    movers = np.flatnonzero(agents.drives)
    if len(movers):
        ahead = state.s_m[movers, None] + agents.size_m[movers, :1] / 2 + _PROBES_M
        points = agents.pose(ahead, movers)
        gap, who = clearance(points[..., :2], agents.size_m[movers, 1] / 2, circles, radii, movers)
        turn = np.abs(np.diff(np.unwrap(points[:, :9, 2], axis=1), axis=1)).max(1) / 2.0
        wanted = np.minimum(agents.speed_mps[movers], np.sqrt(2.2 / np.maximum(turn, 1e-4)))
        along = np.cos(pose[np.maximum(who, 0), 2] - points[:, 0, 2]) * speed[np.maximum(who, 0)]
        leader = np.where(who >= 0, np.maximum(along, 0), 0.0)
        for j, i in enumerate(movers):
            front = state.s_m[i] + agents.size_m[i, 0] / 2
            stop = signal_gap(front, state.speed_mps[i], agents.stops[i], time_s, offsets)
            if stop < gap[j]:
                gap[j], leader[j] = stop, 0.0
        accel[movers] = idm(state.speed_mps[movers], wanted, gap, leader)
    new_speed = np.maximum(0, state.speed_mps + accel * dt_s)
    for i in np.flatnonzero(~agents.drives & (agents.speed_mps > 0)):  # walkers wait at the kerb
        wait = signal_gap(state.s_m[i], 0.0, agents.stops[i], time_s, offsets) < 0.6
        new_speed[i] = 0.0 if wait else agents.speed_mps[i]
    s = state.s_m + 0.5 * (state.speed_mps + new_speed) * dt_s
    ended = s >= agents.length_m
    return AgentState(np.minimum(s, agents.length_m), np.where(ended, 0.0, new_speed), accel)


class Population:
    """Collects agents one by one; `finish` turns them into arrays."""

    def __init__(self, road_map: RoadMap, rng: np.random.Generator) -> None:
        self.map, self.rng, self.rows = road_map, rng, []
        self.templates = vehicle_templates()

    def add(
        self, kind: str, path: Path, s: float, speed: float, drives: bool, stops: tuple = (), moving: bool = True
    ) -> None:
        palette = _CLOTHES if kind in ("pedestrian", "cyclist") else _PAINTS
        colour = np.array(palette[self.rng.integers(len(palette))]) * self.rng.uniform(0.85, 1.15)
        self.rows.append((kind, path, s, speed, drives, stops, colour, moving))

    def finish(self) -> tuple[Agents, AgentState]:
        n = len(self.rows)
        longest = int(max([r[1].length_m for r in self.rows], default=1)) + 3
        table = np.zeros((n, longest, 3))
        for i, (_, path, *_rest) in enumerate(self.rows):
            table[i] = path.at(np.arange(longest, dtype=float))
        sizes = np.array([self.templates[r[0]][0] for r in self.rows]).reshape(n, 3)
        agents = Agents(
            tuple(r[0] for r in self.rows), sizes, np.array([r[6] for r in self.rows]).reshape(n, 3), table,
            np.array([r[1].length_m for r in self.rows]), np.array([r[3] for r in self.rows]), np.array([r[4] for r in self.rows], bool),
            tuple(r[5] for r in self.rows),
        )  # fmt: skip
        speed = np.array([r[3] if r[7] else 0.0 for r in self.rows])
        return agents, AgentState(np.array([r[2] for r in self.rows]), speed, np.zeros(n))


def path_stops(road_map: RoadMap, path: Path, margin_m: float = 5.6) -> tuple[tuple[float, int, int], ...]:
    """Where a path must stop for signals: (s, crossing, group), just before each crossing's zebra."""
    out = []
    if road_map.place == "rural":
        return ()
    for k, (a, sa, b, _) in enumerate(road_map.crossings):
        centre = road_map.roads[a].at(sa)[:2]
        s, aside = path.project(centre)
        if abs(aside) > 30 or s < 1:
            continue
        entry = int(np.clip(np.searchsorted(path.s, s - 25), 0, len(path.s) - 1))
        heading = path.yaw[entry]
        on_main = abs(np.cos(heading - road_map.roads[a].at(sa)[2])) > 0.7
        other = road_map.roads[b if on_main else a]
        crossing_half = other.half_width_m + 3.0 + margin_m
        # first point of the path that is within the crossing's box, measured along the approach
        rel = path.points - centre
        along = rel @ np.array([np.cos(heading), np.sin(heading)])
        inside = np.flatnonzero((along > -crossing_half) & (np.hypot(*rel.T) < 40))
        if len(inside):
            out.append((float(path.s[inside[0]]), k, 0 if on_main else 1))
    return tuple(out)


def populate(
    road_map: RoadMap, ego_path: Path, ego_s: float, density: float, rng: np.random.Generator
) -> tuple[Agents, AgentState]:
    """Fill a map: vehicles in the lanes, parked cars, cyclists, pedestrians on the pavements and waiting to cross."""
    people = Population(road_map, rng)
    ego_xy = ego_path.at(ego_s)[:2]
    limit = {"urban": 11.0, "suburban": 12.5, "rural": 17.0}[road_map.place]
    for i, road in enumerate(road_map.roads):
        for direction in (1, -1):
            for lane in range(road.lanes):
                s, gap_m = rng.uniform(0, 40), (70 if i else 45) / density
                while s < road.length_m - 30:
                    turns = {
                        k: str(rng.choice(["straight", "straight", "left", "right"]))
                        for k in range(len(road_map.crossings))
                    }
                    if (lane > 0 and "left" in turns.values()) or (lane < road.lanes - 1 and "right" in turns.values()):
                        turns = {}
                    start = s if direction > 0 else road.length_m - s
                    path = road_map.route(i, direction, lane, start, turns)
                    kinds = ["sedan", "hatchback", "suv", "van", "truck", "bus"]
                    kind = str(rng.choice(kinds, p=[0.33, 0.24, 0.22, 0.09, 0.07, 0.05]))
                    xy = path.points[0]
                    in_box = any(
                        np.hypot(*(xy - road_map.roads[a].at(sa)[:2])) < 22 for a, sa, _, _ in road_map.crossings
                    )
                    if np.hypot(*(xy - ego_xy)) > 16 and not in_box and path.length_m > 30:
                        speed = limit * rng.uniform(0.75, 1.05) * (0.85 if kind in ("truck", "bus") else 1)
                        people.add(kind, path, 0.0, speed, True, path_stops(road_map, path))
                    s += rng.exponential(gap_m) + 16
            if road.parking_m > 0:
                _park(people, road_map, i, direction, rng)
            if road.pavement_m > 0:
                _walkers(people, road_map, i, direction, density, rng)
        if rng.random() < 0.5 and road.pavement_m > 0:
            direction = int(rng.choice([-1, 1]))
            d = -road_map.side * direction * (road.lanes * road.lane_m - 0.15)
            s = np.arange(rng.uniform(0, road.length_m * 0.5), road.length_m)
            line = road.at(s if direction > 0 else road.length_m - s, d)[:, :2]
            path = Path(line)
            people.add("cyclist", path, 0.0, rng.uniform(3.5, 5.5), True, path_stops(road_map, path))
    for k in range(len(road_map.crossings)):
        _crossers(people, road_map, k, rng)
    return people.finish()


def _park(people: Population, road_map: RoadMap, i: int, direction: int, rng: np.random.Generator) -> None:
    road = road_map.roads[i]
    d = -road_map.side * direction * (road.lanes * road.lane_m + road.parking_m / 2)
    s = rng.uniform(0, 20)
    while s < road.length_m:
        gap = np.abs(s - road.crossings[:, 0]) - road.crossings[:, 1]
        x, y, yaw = road.at(s, d)
        if (not len(gap) or gap.min() > 10) and rng.random() < 0.45:
            yaw += 0.0 if direction > 0 else np.pi
            ahead = np.array([[x, y], [x + np.cos(yaw), y + np.sin(yaw)]])
            people.add(
                str(rng.choice(["sedan", "hatchback", "suv", "van"])), Path(ahead), 0.0, 0.0, False, moving=False
            )
        s += rng.uniform(6.2, 9)


def _walkers(
    people: Population, road_map: RoadMap, i: int, direction: int, density: float, rng: np.random.Generator
) -> None:
    road = road_map.roads[i]
    s = rng.uniform(0, 60)
    while s < road.length_m - 10:
        gap = np.abs(s - road.crossings[:, 0]) - road.crossings[:, 1]
        if not len(gap) or gap.min() > 3:
            heading = int(rng.choice([-1, 1]))
            d = -road_map.side * direction * (road.half_width_m + rng.uniform(0.7, max(0.8, road.pavement_m - 0.5)))
            ends = road.crossings[:, 0] - heading * (road.crossings[:, 1] - 1.0)
            ends = ends[(ends - s) * heading > 0]
            until = ends[np.argmin(np.abs(ends - s))] if len(ends) else s + heading * 60
            until = float(np.clip(until, 0, road.length_m))
            if abs(until - s) > 2:
                line = road.at(np.linspace(s, until, int(abs(until - s)) + 2), d)[:, :2]
                people.add("pedestrian", Path(line), 0.0, rng.uniform(0.9, 1.7), False)
        s += rng.exponential(55 / density) + 4


def _crossers(people: Population, road_map: RoadMap, k: int, rng: np.random.Generator) -> None:
    """Pedestrians who wait at a zebra and cross when the road that they cross has a red light."""
    a, sa, b, sb = road_map.crossings[k]
    for road_index, s, group in ((a, sa, 0), (b, sb, 1)):
        road = road_map.roads[road_index]
        if road.pavement_m <= 0:
            continue
        half = road.crossings[np.argmin(np.abs(road.crossings[:, 0] - s)), 1]
        for end in (-1, 1):
            for _ in range(rng.integers(0, 3)):
                at = s + end * (half + rng.uniform(1.6, 3.6))
                side = int(rng.choice([-1, 1]))
                edge = road.half_width_m + 1.0
                line = road.at(at, np.linspace(-side * edge, side * edge, int(2 * edge) + 1))[:, :2]
                people.add("pedestrian", Path(line), 0.0, rng.uniform(1.1, 1.7), False, ((0.4, k, group),))
