"""Who else is there: vehicles in the lanes, parked cars, cyclists, pedestrians. How they move is `traffic`."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.spatial import cKDTree

from wamlab.world.junction import Stops, Yields, passages
from wamlab.world.primitives import vehicle_templates
from wamlab.world.road import Path, RoadMap
from wamlab.world.tracks import Track, Tracks
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
_ARRIVES = 0.6  # share of a scene for which traffic keeps arriving
_GATE_M = 60.0  # nobody begins as near as that outside of the map


class Population:
    """Collects agents one by one; `finish` turns them into arrays. Whoever is too far from the ego car's route is left out."""

    def __init__(
        self, road_map: RoadMap, ego_path: Path, reached: np.ndarray, rng: np.random.Generator, approach_m: float = 0.0
    ) -> None:
        """`approach_m`: lanes begin so far outside of the map, so that traffic keeps coming."""
        self.map, self.ego_path, self.rng, self.approach_m, self.rows = road_map, ego_path, rng, approach_m, []
        self.tree = cKDTree(reached)
        self.sizes = {kind: size for kind, (size, _) in vehicle_templates().items()}
        self.tracks: list[Track] = []
        self.lanes: dict[tuple[int, int, int], int] = {}
        self.road_m: dict[int, np.ndarray] = {}
        # (road, direction) with a cyclist, whom nobody may cut off by a near-side turn
        self.cycled: set[tuple[int, int]] = set()
        for road, direction in itertools.product(range(len(road_map.roads)), (1, -1)):
            for lane in range(road_map.roads[road].lanes):
                self._lane(road, direction, lane)

    def begin_s(self, road: int, direction: int) -> float:
        """Where on a road its lanes begin: outside of the map."""
        return -self.approach_m if direction > 0 else self.map.roads[road].length_m + self.approach_m

    def _lane(self, road: int, direction: int, lane: int) -> None:
        begin = self.begin_s(road, direction)
        middle = self.map.lane_path(road, direction, lane, begin)
        n = self.lanes[road, direction, lane] = self.path(
            self.map.route(road, direction, lane, begin, {}), self.approach_m
        )
        metres = np.arange(len(middle.s)) * (self.map.roads[road].length_m + self.approach_m) / (len(middle.s) - 1)
        self.road_m[n] = np.interp(np.arange(len(self.tracks[n].table)), middle.s, metres)

    def path(self, path: Path, enter_m: float = 0.0) -> int:
        """Register a path that several agents may drive along; before `enter_m` it is outside of the map."""
        self.tracks.append(Track.along(path, enter_m, passages(self.map, path)))
        return len(self.tracks) - 1

    def near(self, xy: np.ndarray, reach_m: float = _REACH_M) -> np.ndarray:
        """(..., 2) -> (...,) bool."""
        return self.tree.query(xy, distance_upper_bound=reach_m)[0] < reach_m

    def drive(self, kind: str, track: int, s: float, speed: float, room_m: float = np.inf) -> None:
        """A vehicle at `s` of a registered path. It wants `speed`, and begins with one at which it can stop within `room_m`."""
        begins = min(speed, 2.0 * room_m**0.5, self.tracks[track].table[int(s), 3])
        self._add(kind, track, s, speed, begins, drives=True)

    def walk(self, path: Path, speed: float, kerb: tuple[float, int, int] | None = None) -> None:
        """A pedestrian at the beginning of a path; or one who waits at a kerb (s, crossing, group) to cross there."""
        self._go("pedestrian", Track.on_foot(path), 0.0, speed, kerb)

    def go(self, kind: str, path: Path, s: float, speed: float) -> None:
        """A vehicle at `s` of a path of its own that goes along it at this speed, whoever is in its way."""
        self._go(kind, Track.along(path), s, speed)

    def _go(self, kind: str, track: Track, s: float, speed: float, kerb: tuple[float, int, int] | None = None) -> None:
        self._add(kind, len(self.tracks), s, speed, speed, kerb=kerb)
        self.tracks.append(track)

    def keep_clear(self, path: Path, reach_m: float) -> None:
        """Take away who walks or stands within `reach_m` of a path."""

        def near(track: Track) -> bool:
            return path.tree.query(track.table[:, :2])[0].min() <= reach_m

        self.rows = [row for row in self.rows if row[5] or not near(self.tracks[row[1]])]

    def park(self, kind: str, pose: np.ndarray) -> None:
        """A vehicle that stays at a pose (x_m, y_m, yaw_rad)."""
        self._add(kind, len(self.tracks), 0.0, 0.0, 0.0)
        self.tracks.append(Track(np.tile([*pose, 0.0], (2, 1)), 1.0))

    def _add(self, kind: str, track: int, *numbers: float, drives: bool = False, kerb: tuple | None = None) -> None:
        palette = _CLOTHES if kind in ("pedestrian", "cyclist") else _PAINTS
        colour = np.array(palette[self.rng.integers(len(palette))]) * self.rng.uniform(0.85, 1.15)
        self.rows.append((kind, track, *numbers, drives, kerb, colour))

    def finish(self, route: Path | None = None) -> tuple[Agents, AgentState]:
        """Everybody so far, with the ego car on `route` (by default the path given at first)."""
        kind, track, s, speed, begins, drives, kerb, colour = zip(*self.rows, strict=True) if self.rows else [()] * 8
        n, track, drives = len(kind), np.array(track, int), np.array(drives, bool)
        route = route or self.ego_path
        tracks = [*self.tracks, Track.along(route, passages=passages(self.map, route))]
        signals = self.map.place != "rural"
        lines = [[(p.stop_m, p.crossing, p.group) for p in t.passages if signals] for t in tracks]
        for i, at in zip(track, kerb, strict=True):
            lines[i] += [at] if at else []
        agents = Agents(
            tuple(kind),
            np.array([self.sizes[k] for k in kind], float).reshape(n, 3),
            np.array(colour, float).reshape(n, 3),
            np.array(speed, float),
            drives,
            np.array([at is not None for at in kerb], bool),
            Tracks.of(tracks, self.road_m, self._beside(len(tracks))),
            Stops.of(lines),
            Yields.between([t.passages for t in tracks], self.map.side, signals),
        )
        return agents, AgentState.begin(np.array(s, float), np.array(begins, float), track)

    def _beside(self, n: int) -> np.ndarray:
        """(n, 2) numbers of the tracks of the lanes to the left and to the right; -1: none."""
        out = np.full((n, 2), -1)
        for (road, direction, lane), track in self.lanes.items():
            inner, outer = (self.lanes.get((road, direction, lane + step), -1) for step in (-1, 1))
            out[track] = (inner, outer) if self.map.side > 0 else (outer, inner)
        return out


def populate(
    road_map: RoadMap,
    ego_path: Path,
    reached: np.ndarray,
    density: float,
    duration_s: float,
    rng: np.random.Generator,
) -> Population:
    """Fill a map around `reached`, the points (n, 2) of its route that the ego car can come to, for `duration_s`."""
    approach = _ARRIVES * _LIMIT_MPS[road_map.place] * duration_s
    people = Population(road_map, ego_path, reached, rng, float(round(approach)))
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
    return people


def _lane(people: Population, i: int, direction: int, lane: int, density: float, rng: np.random.Generator) -> None:
    """Vehicles along a lane, each of which goes straight on or turns at a crossing ahead of it."""
    road_map, road = people.map, people.map.roads[i]
    start, enter = people.begin_s(i, direction), people.approach_m
    paths = {(-1, "straight"): people.lanes[i, direction, lane]}
    straight = people.tracks[people.lanes[i, direction, lane]]
    ahead = {p.crossing: p for p in straight.passages}
    turns = [t for t in ("left", "right") if lane == (0 if road_map.across(t) else road.lanes - 1)]
    turns = [t for t in turns if road_map.across(t) or (i, direction) not in people.cycled]
    mean = (70 if i or road_map.place == "rural" else 45) / density
    s = np.cumsum(rng.exponential(mean, int(2 * straight.length_m / (mean + 16)) + 10) + 16) + rng.uniform(-30, 10)
    s = s[(s > 6) & (s < straight.length_m - 30)]
    s = s[(s > enter + 6) | (s < enter - _GATE_M)]  # nobody comes into view right behind the ego car as it sets off
    kinds = rng.choice(list(_FLEET), len(s), p=list(_FLEET.values()))
    limit = _GIVE_WAY_MPS if i and road_map.place == "rural" else _LIMIT_MPS[road_map.place]
    near = people.near(straight.table[np.maximum(s, enter).astype(int), :2]) if len(s) else []
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
            path = road_map.route(i, direction, lane, start, {choice[0]: choice[1]})
            paths[choice] = people.path(path, enter)
        room = min([p.stop_m - at - length / 2 for p in ahead.values() if p.stop_m > at], default=np.inf)
        people.drive(str(kind), paths[choice], float(at), limit * pace, room)


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
        people.drive("cyclist", people.path(path), 0.0, pace)
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
    for pose, kind in zip(poses[keep], kinds[keep], strict=True):
        people.park(str(kind), pose + (0, 0, 0 if direction > 0 else np.pi))


def _walkers(people: Population, i: int, direction: int, density: float, rng: np.random.Generator) -> None:
    """Pedestrians on the pavement, up to the next corner."""
    road = people.map.roads[i]
    begins = np.cumsum(rng.exponential(55 / density, int(road.length_m / 20)) + 4)
    n = len(begins)
    headings, paces = rng.choice([-1, 1], n), rng.uniform(0.9, 1.7, n)
    asides = -people.map.side * direction * (road.half_width_m + rng.uniform(0.7, max(0.8, road.pavement_m - 0.5), n))
    gap = (np.abs(begins[:, None] - road.crossings[:, 0]) - road.crossings[:, 1]).min(1, initial=np.inf)
    for k in np.flatnonzero((begins < road.length_m - 10) & (gap > 4) & people.near(road.at(begins, asides)[:, :2])):
        s, heading = begins[k], headings[k]
        corners = road.crossings[:, 0] - heading * (road.crossings[:, 1] + 3.0)
        left = np.append((corners - s) * heading, np.inf)
        until = float(np.clip(s + heading * left[left > 0].min(), max(0, s - 60), min(s + 60, road.length_m)))
        if abs(until - s) > 2:
            line = road.at(np.linspace(s, until, int(abs(until - s)) + 2), asides[k])[:, :2]
            people.walk(Path(line), float(paces[k]))


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
                people.walk(Path(line), pace, (0.4, k, group))
