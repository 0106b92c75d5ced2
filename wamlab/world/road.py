"""Roads: centrelines, lanes, crossings, and the paths along them. Geometry only, no drawing.

A `RoadMap` is a main road crossed by others. Each road is a centreline sampled every metre; a point near it has
road coordinates (s, d): metres along it, and metres to its left. Lateral offsets of lanes are signed the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.spatial import cKDTree

from wamlab.geometry import wrap_angle

SPACING_M = 1.0  # between two samples of a centreline
CELL_M = 4.0  # of the lookup grid
KERB_RADIUS_M = 5.0  # of the rounded corners where two roads meet
PLACES = ("urban", "suburban", "rural")
MAX_LANES = {"urban": 3, "suburban": 3, "rural": 2}  # in each direction
_LATERAL_MPS2, _CURVE_BRAKE_MPS2 = 1.9, 1.3  # comfort in a bend, and on the way to it
_NEAR_TURN_M, _ACROSS_TURN_M = 7.0, 11.0  # radius of a turn to the near side, and of one across the oncoming lanes


@dataclass(frozen=True)
class Road:
    """A centreline with the same cross-section along its whole length.

    Attributes:
        points: (N, 2) metres, `SPACING_M` apart. heading: (N,) radians. curvature: (N,) 1/m, left positive.
        lanes: lanes in each direction. parking_m: width of the parking strip on both sides (0: none).
        pavement_m: width of the pavement behind the kerb (0: a soft shoulder).
        centre: marking in the middle: "double", "solid", "dashed".
        crossings: (K, 2): position s and half-extent (metres) of each crossing with another road.
    """

    points: np.ndarray
    heading: np.ndarray
    curvature: np.ndarray
    lanes: int
    lane_m: float
    parking_m: float
    pavement_m: float
    centre: str
    crossings: np.ndarray

    @property
    def length_m(self) -> float:
        return (len(self.points) - 1) * SPACING_M

    @property
    def half_width_m(self) -> float:
        """From the centreline to the kerb."""
        return self.lanes * self.lane_m + self.parking_m + 0.3

    def at(self, s: np.ndarray | float, d: np.ndarray | float = 0.0) -> np.ndarray:
        """Road coordinates -> (..., 3): x_m, y_m, yaw_rad. Positions past an end go on straight."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        i = np.clip(np.round(s / SPACING_M).astype(int), 0, len(self.points) - 1)
        ds = s - i * SPACING_M
        inside = (s >= 0) & (s <= self.length_m)
        kappa = np.where(inside, self.curvature[i], 0.0)
        heading = self.heading[i] + kappa * ds
        mid = self.heading[i] + 0.5 * kappa * ds
        x = self.points[i, 0] + ds * np.cos(mid) - d * np.sin(heading)
        y = self.points[i, 1] + ds * np.sin(mid) + d * np.cos(heading)
        return np.stack([x, y, heading], -1)


@dataclass(frozen=True)
class Path:
    """A line to drive or walk along: points (N, 2) about a metre apart, s (N,), yaw (N,), curvature (N,)."""

    points: np.ndarray

    @cached_property
    def s(self) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.points, axis=0).T))])

    @cached_property
    def yaw(self) -> np.ndarray:
        gradient = np.gradient(self.points, self.s, axis=0)
        return np.unwrap(np.arctan2(gradient[:, 1], gradient[:, 0]))

    @cached_property
    def curvature(self) -> np.ndarray:
        return np.gradient(self.yaw, self.s)

    @property
    def length_m(self) -> float:
        return float(self.s[-1])

    @cached_property
    def bend(self) -> np.ndarray:
        """(N,) curvature as a driver takes it: smoothed over a few metres, 1/m, left positive."""
        return gaussian_filter1d(self.curvature, 1.5, mode="nearest")

    @cached_property
    def curve_speed_mps(self) -> np.ndarray:
        """(N,) the speed at which all bends ahead can be taken, braking gently: v² = min over s' of v(s')² + 2 b (s' - s)."""
        slope = 2 * _CURVE_BRAKE_MPS2 * self.s
        tightest = maximum_filter1d(np.abs(self.bend), 5, mode="nearest")  # a car is no point
        square = _LATERAL_MPS2 / np.maximum(tightest, 1e-4) + slope
        return np.sqrt(np.minimum.accumulate(square[::-1])[::-1] - slope)

    @cached_property
    def _poses(self) -> np.ndarray:
        return np.column_stack([self.points, self.yaw])

    def at(self, s: np.ndarray | float) -> np.ndarray:
        """(...,) metres -> (..., 3): x_m, y_m, yaw_rad; clamped to the ends."""
        s = np.clip(s, 0.0, self.s[-1])
        i = np.clip(np.searchsorted(self.s, s) - 1, 0, len(self.s) - 2)
        share = np.asarray((s - self.s[i]) / (self.s[i + 1] - self.s[i]))[..., None]
        return self._poses[i] * (1 - share) + self._poses[i + 1] * share

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.points)

    def project(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., 2) -> s and the offset to the left, both (...,) metres."""
        i = self.tree.query(xy)[1]
        delta = np.asarray(xy) - self.points[i]
        c, n, kappa = np.cos(self.yaw[i]), np.sin(self.yaw[i]), self.curvature[i]
        along, aside = delta[..., 0] * c + delta[..., 1] * n, delta[..., 1] * c - delta[..., 0] * n
        along = along / np.maximum(1 - kappa * aside, 0.3)
        return self.s[i] + along, aside - kappa * along * along / 2


@dataclass(frozen=True)
class RoadMap:
    """Roads (the first is the main one), the side that traffic drives on, and where roads cross.

    Attributes:
        side: +1 right-hand traffic, -1 left-hand traffic.
        crossings: (road a, s on a, road b, s on b) for every pair that crosses.
        size_m: extent of the map; all coordinates lie in [0, size].
    """

    roads: tuple[Road, ...]
    crossings: tuple[tuple[int, float, int, float], ...]
    side: int
    place: str
    size_m: tuple[float, float]

    def lane_offset(self, road: int, direction: int, lane: int) -> float:
        """Offset d of a lane's middle; lane 0 is next to the centre, direction +1 runs along the centreline."""
        return -self.side * direction * (lane + 0.5) * self.roads[road].lane_m

    def lane_path(
        self, road: int, direction: int, lane: int, start: float | None = None, end: float | None = None
    ) -> Path:
        """The middle of a lane in its driving direction, between two positions s of the road."""
        length = self.roads[road].length_m
        first, last = (0.0, length) if direction > 0 else (length, 0.0)
        first, last = first if start is None else start, last if end is None else end
        s = np.linspace(first, last, max(2, int(abs(last - first) / SPACING_M) + 1))
        return Path(self.roads[road].at(s, self.lane_offset(road, direction, lane))[:, :2])

    def turn(self, crossing: int, road: int, direction: int, lane: int, turn: str) -> tuple[int, int, int]:
        """(road, direction, lane) after going `left`, `right` or `straight` at a crossing."""
        a, sa, b, sb = self.crossings[crossing]
        if turn == "straight":
            return road, direction, lane
        other, s_here, s_other = (b, sa, sb) if road == a else (a, sb, sa)
        here = self.roads[road].at(s_here)[2] + (0 if direction > 0 else np.pi)
        there = self.roads[other].at(s_other)[2]
        left = np.sin(there - here) > 0  # does the other centreline point to our left?
        new_direction = 1 if left == (turn == "left") else -1
        return other, new_direction, 0 if self.across(turn) else self.roads[other].lanes - 1

    def across(self, turn: str) -> bool:
        """Does this turn cross the oncoming lanes (left in right-hand traffic)? Such a turn starts and ends next to the centre."""
        return (turn == "left") == (self.side > 0)

    def route(self, road: int, direction: int, lane: int, start_s: float, turns: dict[int, str]) -> Path:
        """A lane-level path from `start_s` that takes the first of the given turns that lies ahead, and else goes straight on."""
        ahead = sorted(self._crossings_on(road), key=lambda c: direction * c[1])
        for crossing, s_cross in ahead:
            turn = turns.get(crossing, "straight")
            if turn == "straight":
                continue
            a, sa, b, sb = self.crossings[crossing]
            other, new_direction, new_lane = self.turn(crossing, road, direction, lane, turn)
            s_other = sb if other == b else sa
            radius = _ACROSS_TURN_M if self.across(turn) else _NEAR_TURN_M
            here = self._lane_pose(road, direction, lane, s_cross)
            before_m, after_m = _tangents(here, self._lane_pose(other, new_direction, new_lane, s_other), radius)
            entry = s_cross - direction * before_m
            if direction * (entry - start_s) < 2.0:
                continue
            before = self.lane_path(road, direction, lane, start_s, entry)
            after = self.lane_path(other, new_direction, new_lane, s_other + new_direction * after_m)
            return _resample(np.concatenate([before.points, _bend(before, after), after.points]))
        return _resample(self.lane_path(road, direction, lane, start_s).points)

    def _lane_pose(self, road: int, direction: int, lane: int, s: float) -> np.ndarray:
        pose = self.roads[road].at(s, self.lane_offset(road, direction, lane))
        return pose if direction > 0 else pose + (0, 0, np.pi)

    def _crossings_on(self, road: int) -> list[tuple[int, float]]:
        out = []
        for i, (a, sa, b, sb) in enumerate(self.crossings):
            if road in (a, b):
                out.append((i, sa if road == a else sb))
        return out

    @cached_property
    def lookup(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, columns, 2): for each grid cell the two nearest roads (-1: none) and the sample of each centreline nearest to it."""
        columns, rows = (int(np.ceil(v / CELL_M)) + 1 for v in self.size_m)
        x, y = np.meshgrid((np.arange(columns) + 0.5) * CELL_M, (np.arange(rows) + 0.5) * CELL_M)
        cells = np.stack([x, y], -1).reshape(-1, 2)
        gap, sample = [], []
        for road, tree in zip(self.roads, self._trees, strict=True):
            distance, index = tree.query(cells, distance_upper_bound=120.0)
            gap.append(distance - road.half_width_m)
            sample.append(np.minimum(index, len(road.points) - 1))
        gap, sample = np.stack(gap, -1), np.stack(sample, -1)
        order = np.argsort(gap, -1, kind="stable")[:, :2]
        best = np.take_along_axis(gap, order, -1)
        roads = np.where(np.isfinite(best), order, -1)
        nearest = np.take_along_axis(sample, order, -1)
        if roads.shape[1] == 1:
            roads, nearest = np.pad(roads, ((0, 0), (0, 1)), constant_values=-1), np.pad(nearest, ((0, 0), (0, 1)))
        roads[best[:, -1] > 30.0, 1] = -1
        return roads.reshape(rows, columns, 2), nearest.reshape(rows, columns, 2)

    @cached_property
    def _trees(self) -> list[cKDTree]:
        return [cKDTree(road.points) for road in self.roads]

    def distance_to_kerb(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) -> signed distance to the nearest kerb, negative on a carriageway, metres. Corners are rounded."""
        gaps = [t.query(xy)[0] - r.half_width_m for t, r in zip(self._trees, self.roads, strict=True)]
        first, second = np.partition([*gaps, gaps[0] + np.inf], 1, axis=0)[:2]
        r = KERB_RADIUS_M
        return np.where(second < r, r - np.hypot(np.minimum(first - r, 0), np.minimum(second - r, 0)), first)


def _tangents(here: np.ndarray, there: np.ndarray, radius_m: float) -> tuple[float, float]:
    """Metres before the pose `here` where an arc must begin, and beyond the pose `there` where it ends, to join their lines."""
    u, v = (np.array([np.cos(yaw), np.sin(yaw)]) for yaw in (here[2], there[2]))
    along, beyond = np.linalg.solve(np.stack([u, -v], 1), there[:2] - here[:2])  # where the two lines meet
    tangent = radius_m * np.tan(abs(wrap_angle(there[2] - here[2])) / 2)
    return float(tangent - along), float(tangent + beyond)


def _bend(before: Path, after: Path) -> np.ndarray:
    """A smooth turn between the end of one path and the start of another: a cubic whose ends are tangent to both."""
    p0, p3 = before.points[-1], after.points[0]
    t0 = np.array([np.cos(before.yaw[-1]), np.sin(before.yaw[-1])])
    t3 = np.array([np.cos(after.yaw[0]), np.sin(after.yaw[0])])
    turn = abs(wrap_angle(after.yaw[0] - before.yaw[-1]))
    reach = np.linalg.norm(p3 - p0) * np.tan(turn / 4) / np.sin(turn / 2) / 1.5  # nearest to an arc
    u = np.linspace(0, 1, 32)[1:-1, None]
    return (
        (1 - u) ** 3 * p0
        + 3 * (1 - u) ** 2 * u * (p0 + reach * t0)
        + 3 * (1 - u) * u**2 * (p3 - reach * t3)
        + u**3 * p3
    )


def _resample(points: np.ndarray) -> Path:
    raw = Path(points)
    s = np.linspace(0, raw.length_m, int(raw.length_m / SPACING_M) + 1)
    return Path(np.stack([np.interp(s, raw.s, points[:, k]) for k in (0, 1)], -1))


def _centreline(
    rng: np.random.Generator, length_m: float, max_curvature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Straights and bends joined by linear changes of curvature (clothoids), from the origin along +x."""
    n = int(length_m / SPACING_M) + 1
    knots, values, s = [0.0], [0.0], 0.0
    while s < length_m:
        hold, ramp = rng.uniform(25, 80), rng.uniform(15, 30)
        bend = 0.0 if rng.random() < 0.35 else rng.normal(0, max_curvature / 2)
        bend = float(np.clip(bend, -max_curvature, max_curvature))
        knots += [s + ramp, s + ramp + hold]
        values += [bend, bend]
        s += ramp + hold
    curvature = np.interp(np.arange(n) * SPACING_M, knots, values)
    heading = np.concatenate([[0.0], np.cumsum((curvature[1:] + curvature[:-1]) / 2 * SPACING_M)])
    heading = np.clip(heading, -1.9, 1.9)  # never turns back on itself
    curvature = np.gradient(heading, SPACING_M)
    mid = (heading[1:] + heading[:-1]) / 2
    steps = np.stack([np.cos(mid), np.sin(mid)], -1) * SPACING_M
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)]), heading, curvature


def generate_map(
    rng: np.random.Generator,
    place: str,
    side: int = 1,
    length_m: float = 600.0,
    arm_m: float = 150.0,
    lanes: int | None = None,
) -> RoadMap:
    """A road map of the given place. `length_m` is that of the main road; the others reach `arm_m` to both sides of it.

    Deterministic for the state of `rng`. `lanes` of the main road in each direction; None: as the place has it.
    """
    sections = {
        #              lanes              lane_m        parking pavement  curvature  crossings
        "urban": (rng.choice([1, 2, 2, 3]), 3.2, 2.2, 3.2, 0.012, 3),
        "suburban": (rng.choice([1, 1, 2]), 3.4, 2.2 * rng.integers(0, 2), 1.8, 0.02, 2),
        "rural": (1, 3.5, 0.0, 0.0, 0.022, 1),
    }
    usual, lane_m, parking_m, pavement_m, max_curvature, max_crossings = sections[place]
    lanes = usual if lanes is None else lanes
    points, heading, curvature = _centreline(rng, length_m, max_curvature)
    centre = str(rng.choice(["double", "solid", "dashed"])) if lanes < 2 else "double"
    main = Road(points, heading, curvature, int(lanes), lane_m, parking_m, pavement_m, centre, np.zeros((0, 2)))
    roads, crossings = [main], []
    slots = int((length_m - 180) // 140)
    places_s = 150.0 + 140.0 * np.arange(slots) + rng.uniform(-25, 25, slots)
    for s in places_s[: rng.integers(1 if place != "rural" else 0, max_crossings * slots // 3 + 1)]:
        x, y, yaw = main.at(s)
        if abs(main.curvature[int(s)]) > 0.01:
            continue
        angle = yaw + np.pi / 2 + rng.uniform(-0.2, 0.2)
        n = int(2 * arm_m / SPACING_M) + 1
        along = (np.arange(n) - n // 2) * SPACING_M
        cross_points = np.stack([x + along * np.cos(angle), y + along * np.sin(angle)], -1)
        cross_lanes = int(min(lanes, rng.integers(1, 3)))
        cross = Road(
            cross_points,
            np.full(n, angle),
            np.zeros(n),
            cross_lanes,
            lane_m,
            0.0,
            pavement_m,
            "dashed" if cross_lanes < 2 else "double",
            np.zeros((0, 2)),
        )
        clear = [np.min(cKDTree(r.points).query(cross_points)[0]) > 40.0 for r in roads[1:]]
        gap = cKDTree(main.points).query(cross_points)[0]
        if not all(clear) or np.any(gap[np.abs(along) > 70] < 35.0):
            continue
        crossings.append((0, float(round(s)), len(roads), float((n // 2) * SPACING_M)))
        roads.append(cross)
    per_road: list[list[tuple[float, float]]] = [[] for _ in roads]
    for a, sa, b, sb in crossings:
        per_road[a].append((sa, roads[b].half_width_m + 3.0))
        per_road[b].append((sb, roads[a].half_width_m + 3.0))
    margin = 60.0
    everything = np.concatenate([r.points for r in roads])
    low = everything.min(0) - margin
    size = everything.max(0) - everything.min(0) + 2 * margin
    roads = [
        replace(r, points=r.points - low, crossings=np.array(sorted(c), float).reshape(-1, 2))
        for r, c in zip(roads, per_road, strict=True)
    ]
    return RoadMap(tuple(roads), tuple(crossings), side, place, (float(size[0]), float(size[1])))
