"""Who else is there: vehicles in the lanes, parked cars, cyclists, pedestrians. How they move is `traffic`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial import cKDTree

from wamlab.world.junction import Passage, Stops, Yields, passages
from wamlab.world.primitives import vehicle_templates
from wamlab.world.road import Path, RoadMap
from wamlab.world.traffic import Agents, AgentState

_PAINTS = [(0.6, 0.6, 0.6), (0.03, 0.03, 0.035), (0.22, 0.23, 0.25), (0.45, 0.03, 0.03), (0.04, 0.09, 0.32), (0.5, 0.48, 0.42),
           (0.03, 0.16, 0.1), (0.6, 0.4, 0.04), (0.3, 0.32, 0.35), (0.12, 0.2, 0.3)]  # fmt: skip
_CLOTHES = [(0.5, 0.08, 0.08), (0.08, 0.12, 0.4), (0.45, 0.4, 0.1), (0.4, 0.4, 0.4), (0.1, 0.3, 0.15), (0.35, 0.12, 0.3),
            (0.06, 0.06, 0.07)]  # fmt: skip
_FLEET = {"sedan": 0.33, "hatchback": 0.24, "suv": 0.22, "van": 0.09, "truck": 0.07, "bus": 0.05}
_PARKED = ("sedan", "hatchback", "suv", "van")
_LIMIT_MPS = {"urban": 11.0, "suburban": 12.5, "rural": 17.0}
_GIVE_WAY_MPS = 9.5  # on a road that gives way to another
_REACH_M, _PARKED_REACH_M = 220.0, 165.0  # farther from the ego car's route nobody matters


class Population:
    """Collects agents one by one; `finish` turns them into arrays. Whoever is too far from the ego car's route is left out."""

    def __init__(self, road_map: RoadMap, ego_path: Path, reached: np.ndarray, rng: np.random.Generator) -> None:
        self.map, self.ego_path, self.rng, self.rows = road_map, ego_path, rng, []
        self.tree = cKDTree(reached)
        self.sizes = {kind: size for kind, (size, _) in vehicle_templates().items()}
        self.paths: list[Path] = []
        self.passages: list[tuple[Passage, ...]] = []
        self.cycled: set[tuple[int, int]] = (
            set()
        )  # (road, direction) with a cyclist, whom nobody may cut off by a near-side turn

    def path(self, path: Path) -> int:
        """Register a path that several agents may drive along."""
        self.paths.append(path)
        self.passages.append(passages(self.map, path))
        return len(self.paths) - 1

    def near(self, xy: np.ndarray, reach_m: float = _REACH_M) -> np.ndarray:
        """(..., 2) -> (...,) bool."""
        return self.tree.query(xy, distance_upper_bound=reach_m)[0] < reach_m

    def add(
        self,
        kind: str,
        path: Path | int,
        s: float,
        speed: float,
        stops: Sequence[tuple[float, int, int]] = (),
        room_m: float = np.inf,
    ) -> None:
        """An agent at `s` of a path: of a registered one it drives along, or of its own, to walk or stand on.

        It wants `speed`, and begins with one at which it can stop within `room_m`.
        """
        palette = _CLOTHES if kind in ("pedestrian", "cyclist") else _PAINTS
        colour = np.array(palette[self.rng.integers(len(palette))]) * self.rng.uniform(0.85, 1.15)
        self.rows.append((kind, path, s, speed, min(speed, 2.0 * room_m**0.5), stops, colour))

    def finish(self) -> tuple[Agents, AgentState]:
        kind, path, s, speed, begins, stops, colour = zip(*self.rows, strict=True) if self.rows else [()] * 7
        n, shared = len(kind), len(self.paths)
        signals = self.map.place != "rural"
        everyone = [*self.passages, passages(self.map, self.ego_path)]
        *lines, own = [[(p.stop_m, p.crossing, p.group) for p in passing if signals] for passing in everyone]
        drives = np.array([isinstance(p, int) for p in path], bool)
        paths = [*self.paths, *(p for p in path if not isinstance(p, int))]
        index = np.where(drives, [p if isinstance(p, int) else 0 for p in path], shared - 1 + np.cumsum(~drives))
        index = index.astype(int)
        tables = [_table(p) for p in paths]
        begin = np.cumsum([0] + [len(t) for t in tables])
        length = np.array([p.length_m for p in paths])
        owner = np.append(np.where(drives, index, -1), shared)
        agents = Agents(
            tuple(kind), np.array([self.sizes[k] for k in kind], float).reshape(n, 3), np.array(colour, float).reshape(n, 3),
            np.concatenate([*tables, np.zeros((1, 4))]), begin[index], length[index], np.array(speed, float), drives,
            Stops.of([*(lines[p] if isinstance(p, int) else q for p, q in zip(path, stops, strict=True)), own]),
            Yields.between(everyone, owner, self.map.side, signals),
        )  # fmt: skip
        return agents, AgentState(np.array(s, float), np.array(begins, float), np.zeros(n))


def _table(path: Path) -> np.ndarray:
    """(L, 4): a sample a metre, with one beyond the end."""
    s = np.arange(int(np.ceil(path.length_m)) + 1.0)
    return np.column_stack([path.at(s), np.interp(s, path.s, path.curve_speed_mps)])


def populate(
    road_map: RoadMap,
    ego_path: Path,
    reached: np.ndarray,
    density: float,
    rng: np.random.Generator,
    stage: Callable[[Population], None] | None = None,
) -> tuple[Agents, AgentState]:
    """Fill a map around `reached`, the points (n, 2) of its route that the ego car can come to; `stage` may change who is there."""
    people = Population(road_map, ego_path, reached, rng)
    for i, road in enumerate(road_map.roads):
        if road.pavement_m > 0 and rng.random() < 0.5:
            _cyclist(people, i, int(rng.choice([-1, 1])), rng)
    for i, road in enumerate(road_map.roads):
        for direction in (1, -1):
            for lane in range(road.lanes):
                _lane(people, i, direction, lane, density, rng)
            if road.parking_m > 0:
                _park(people, i, direction, rng)
            if road.pavement_m > 0:
                _walkers(people, i, direction, density, rng)
    for k in range(len(road_map.crossings)):
        _crossers(people, k, rng)
    if stage:
        stage(people)
    return people.finish()


def _lane(people: Population, i: int, direction: int, lane: int, density: float, rng: np.random.Generator) -> None:
    """Vehicles along a lane, each of which goes straight on or turns at a crossing ahead of it."""
    road_map, road = people.map, people.map.roads[i]
    start = 0.0 if direction > 0 else road.length_m
    paths = {(-1, "straight"): people.path(road_map.route(i, direction, lane, start, {}))}
    straight = people.paths[paths[-1, "straight"]]
    ahead = {p.crossing: p for p in people.passages[paths[-1, "straight"]]}
    turns = [t for t in ("left", "right") if lane == (0 if road_map.across(t) else road.lanes - 1)]
    turns = [t for t in turns if road_map.across(t) or (i, direction) not in people.cycled]
    s = np.cumsum(rng.exponential((70 if i or road_map.place == "rural" else 45) / density, 80) + 16) + rng.uniform(
        -30, 10
    )
    s = s[(s > 6) & (s < straight.length_m - 30)]
    kinds = rng.choice(list(_FLEET), len(s), p=list(_FLEET.values()))
    limit = _GIVE_WAY_MPS if i and road_map.place == "rural" else _LIMIT_MPS[road_map.place]
    near = people.near(straight.at(s)[:, :2]) if len(s) else []
    for at, kind, close in zip(s, kinds, near, strict=True):
        length = people.sizes[kind][0]
        in_box = any(p.stop_m - 4 < at + length / 2 and at - length / 2 < p.s[-1] for p in ahead.values())
        choice = (int(rng.integers(-1, max(ahead, default=-1) + 1)), str(rng.choice(["left", "right"])))
        pace = rng.uniform(0.75, 1.05) * (0.85 if kind in ("truck", "bus") else 1)
        if in_box or not close:
            continue
        if rng.random() < 0.3 or kind in ("truck", "bus"):
            choice = (-1, "straight")
        if choice[0] not in ahead or choice[1] not in turns or ahead[choice[0]].stop_m < at + length / 2 + 4:
            choice = (-1, "straight")
        if choice not in paths:
            paths[choice] = people.path(road_map.route(i, direction, lane, start, {choice[0]: choice[1]}))
        room = min([p.stop_m - at - length / 2 for p in ahead.values() if p.stop_m > at], default=np.inf)
        people.add(str(kind), paths[choice], float(at), limit * pace, room_m=room)


def _cyclist(people: Population, i: int, direction: int, rng: np.random.Generator) -> None:
    """Somebody on a bicycle at the edge of the road, unless the ego car turns off to that side."""
    road = people.map.roads[i]
    d = -people.map.side * direction * road.lanes * road.lane_m
    s = np.arange(rng.uniform(0, road.length_m * 0.5), road.length_m)
    s, pace = s if direction > 0 else road.length_m - s, rng.uniform(3.5, 5.5)
    path = Path(road.at(s, d)[:, :2])
    in_box = (np.abs(road.crossings[:, 0] - s[0]) < road.crossings[:, 1] + 4).any()
    cut_off = (i, direction) == (0, 1) and any(
        p.turn == -people.map.side for p in passages(people.map, people.ego_path)
    )
    if not in_box and not cut_off and people.near(path.points[0]):
        people.add("cyclist", people.path(path), 0.0, pace)
        people.cycled.add((i, direction))


def _park(people: Population, i: int, direction: int, rng: np.random.Generator) -> None:
    road = people.map.roads[i]
    s = np.cumsum(rng.uniform(6.2, 9.0, int(road.length_m / 6.2))) + rng.uniform(-6, 12)
    gap = (np.abs(s[:, None] - road.crossings[:, 0]) - road.crossings[:, 1]).min(1, initial=np.inf)
    kinds, taken = rng.choice(_PARKED, len(s)), rng.random(len(s)) < 0.45
    d = -people.map.side * direction * (road.lanes * road.lane_m + road.parking_m - 0.8)
    poses = road.at(s, d)
    keep = taken & (gap > 10) & (s > 0) & (s < road.length_m)
    keep[keep] = people.near(poses[keep, :2], _PARKED_REACH_M)
    for (x, y, yaw), kind in zip(poses[keep], kinds[keep], strict=True):
        c, n = direction * np.cos(yaw), direction * np.sin(yaw)
        people.add(str(kind), Path(np.array([[x, y], [x + c, y + n]])), 0.0, 0.0)


def _walkers(people: Population, i: int, direction: int, density: float, rng: np.random.Generator) -> None:
    """Pedestrians on the pavement, up to the next corner."""
    road = people.map.roads[i]
    for s in np.cumsum(rng.exponential(55 / density, int(road.length_m / 20)) + 4):
        heading, pace, aside = (
            int(rng.choice([-1, 1])),
            rng.uniform(0.9, 1.7),
            rng.uniform(0.7, max(0.8, road.pavement_m - 0.5)),
        )
        gap = (np.abs(s - road.crossings[:, 0]) - road.crossings[:, 1]).min(initial=np.inf)
        if s > road.length_m - 10 or gap < 4:
            continue
        d = -people.map.side * direction * (road.half_width_m + aside)
        corners = road.crossings[:, 0] - heading * (road.crossings[:, 1] + 3.0)
        left = np.append((corners - s) * heading, np.inf)
        until = float(np.clip(s + heading * left[left > 0].min(), max(0, s - 60), min(s + 60, road.length_m)))
        if abs(until - s) > 2 and people.near(road.at(s, d)[:2]):
            line = road.at(np.linspace(s, until, int(abs(until - s)) + 2), d)[:, :2]
            people.add("pedestrian", Path(line), 0.0, pace)


def _crossers(people: Population, k: int, rng: np.random.Generator) -> None:
    """Pedestrians who wait at a zebra and cross when the road that they cross has a red light."""
    a, sa, b, sb = people.map.crossings[k]
    for i, s, group in ((a, sa, 0), (b, sb, 1)):
        road = people.map.roads[i]
        if road.pavement_m <= 0 or not people.near(road.at(s)[:2]):
            continue
        half = road.crossings[np.argmin(np.abs(road.crossings[:, 0] - s)), 1]
        edge = road.half_width_m + 1.0
        for end in (-1, 1):
            for _ in range(rng.integers(0, 3)):
                at, side = s + end * (half + rng.uniform(1.6, 3.6)), int(rng.choice([-1, 1]))
                line = road.at(at, np.linspace(-side * edge, side * edge, int(2 * edge) + 1))[:, :2]
                pace = max(
                    rng.uniform(1.1, 1.7), 2 * edge / 11
                )  # wide roads are crossed briskly, while the light is red
                people.add("pedestrian", Path(line), 0.0, pace, [(0.4, k, group)])
