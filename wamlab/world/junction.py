"""Crossings as traffic meets them: where a path enters one, its signal, and whose path has priority over whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from wamlab.geometry import wrap_angle
from wamlab.world.road import Path, RoadMap

RED, AMBER, GREEN = 0, 1, 2
CYCLE_S, GREEN_S, AMBER_S = 24.0, 8.0, 3.0  # a group is red for the rest; for 1 s both are
STOP_LINE_M = 8.6  # before the other road's kerb: clear of its corner and of the zebra
_ZONE_M = 34.0  # a path this near to a crossing's middle is passing it
_APART_M = 2.6  # paths that come nearer than this conflict
_FAR_M = 1e6


def phase_s(time_s: float, crossing: np.ndarray, group: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Seconds since the signal last turned green, for the main road (group 0) or the cross road (group 1)."""
    return (time_s + offsets[crossing] + group * (CYCLE_S / 2)) % CYCLE_S


def signal(time_s: float, crossing: int, group: int, offsets: np.ndarray) -> int:
    """RED, AMBER or GREEN for the main road (group 0) or the cross road (group 1)."""
    t = phase_s(time_s, np.intp(crossing), np.intp(group), offsets)
    return GREEN if t < GREEN_S else AMBER if t < GREEN_S + AMBER_S else RED


@dataclass(frozen=True)
class Passage:
    """How a path passes one crossing.

    Attributes:
        group: 0 arrives on the main road, 1 on the cross road. direction: +1 along that road's centreline.
        turn: +1 left, 0 straight, -1 right. stop_m: s of the stop line. middle_m: s nearest to the crossing's middle.
        points (n, 2) and s (n,): the part within the crossing.
    """

    crossing: int
    group: int
    direction: int
    turn: int
    stop_m: float
    middle_m: float
    points: np.ndarray
    s: np.ndarray


def passages(road_map: RoadMap, path: Path) -> tuple[Passage, ...]:
    """The crossings that a path passes, in no particular order."""
    out = []
    for k, (a, sa, b, sb) in enumerate(road_map.crossings):
        x, y, main_yaw = road_map.roads[a].at(sa)
        rel = path.points - (x, y)
        square = (rel**2).sum(1)
        zone = np.flatnonzero(square < _ZONE_M**2)
        if len(zone) < 2:
            continue
        heading = path.yaw[zone[0]]
        along = rel @ np.array([np.cos(heading), np.sin(heading)])
        if along[zone[0]] > 0:  # the path begins behind the crossing
            continue
        group = 0 if abs(np.cos(heading - main_yaw)) > 0.7 else 1
        yaw = main_yaw if group == 0 else road_map.roads[b].at(sb)[2]
        own, other = (road_map.roads[i] for i in ((a, b) if group == 0 else (b, a)))
        stays = ((own.points - path.points[zone[-1]]) ** 2).sum(1).min() < own.half_width_m**2
        beyond = zone[along[zone] > -(other.half_width_m + STOP_LINE_M)]
        direction = 1 if np.cos(heading - yaw) > 0 else -1
        turn = 0 if stays else int(np.sign(wrap_angle(path.yaw[zone[-1]] - heading)))
        stop, middle = float(path.s[beyond[0]]), float(path.s[square.argmin()])
        out.append(Passage(k, group, direction, turn, stop, middle, path.points[zone], path.s[zone]))
    return tuple(out)


def conflict(a: Passage, b: Passage) -> tuple[float, float, float, float] | None:
    """Where two paths are too near to each other: first and last s on a's path, first and last on b's; None if nowhere."""
    gap = a.points[:, None] - b.points[None]
    near = gap[..., 0] ** 2 + gap[..., 1] ** 2 < _APART_M**2
    on_a, on_b = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not len(on_a):
        return None
    return float(a.s[on_a[0]]), float(a.s[on_a[-1]]), float(b.s[on_b[0]]), float(b.s[on_b[-1]])


def right_of_way(a: Passage, b: Passage, side: int, signals: bool) -> float | None:
    """Must `b` give way to `a` at a crossing that both pass? Yes once `a` has come to this s of its path; None: never."""
    if a.group != b.group:
        if signals:  # these two never have green together; but who is still in the middle may leave it first
            return a.stop_m + 1.0
        return -_FAR_M if a.group == 0 else None  # the main road first
    return -_FAR_M if a.direction != b.direction and b.turn == side and a.turn != side else None


@dataclass(frozen=True)
class Stops:
    """Stop lines of n paths, K at most each: at_m (n, K) (far behind where there is none), crossing and group (n, K)."""

    at_m: np.ndarray
    crossing: np.ndarray
    group: np.ndarray

    @staticmethod
    def of(rows: Sequence[Sequence[tuple[float, int, int]]]) -> Stops:
        """From (s, crossing, group) of the stop lines of each path."""
        k = max([len(r) for r in rows], default=0)
        table = np.full((len(rows), k, 3), (-_FAR_M, 0, 0))
        for i, row in enumerate(rows):
            if row:
                table[i, : len(row)] = row
        return Stops(table[..., 0], table[..., 1].astype(int), table[..., 2].astype(int))

    def __getitem__(self, rows: np.ndarray) -> Stops:
        return Stops(self.at_m[rows], self.crossing[rows], self.group[rows])

    def gap_m(self, front_m: np.ndarray, speed_mps: np.ndarray, time_s: float, offsets: np.ndarray) -> np.ndarray:
        """(n,) metres from the front to a stop line that must be respected now, inf if there is none."""
        if not self.at_m.shape[1]:
            return np.full(len(front_m), np.inf)
        gap = self.at_m - front_m[:, None]
        t = phase_s(time_s, self.crossing, self.group, offsets)
        # on amber stops who can do so gently, and who would not be there in time
        enough = np.minimum((speed_mps**2 / 5.0)[:, None], 0.9 * speed_mps[:, None] * (GREEN_S + AMBER_S - t))
        hold = (gap > -0.5) & (gap < 60) & (t >= GREEN_S) & (gap > enough)
        return np.where(hold, np.maximum(gap, 0.1), np.inf).min(1)


@dataclass(frozen=True)
class Yields:
    """Q pairs: `who` must give way to `whom` (numbers of paths, or of participants).

    Attributes:
        at_m, leave_m: where `who` waits, and where the conflict ends on its path. from_m, to_m: of the conflict on the path of `whom`.
        since_m: s on the path of `whom` from where on this holds.
    """

    who: np.ndarray
    whom: np.ndarray
    at_m: np.ndarray
    leave_m: np.ndarray
    from_m: np.ndarray
    to_m: np.ndarray
    since_m: np.ndarray

    @staticmethod
    def between(paths: Sequence[tuple[Passage, ...]], side: int, signals: bool) -> Yields:
        """All pairs of paths, given how each passes the crossings."""
        passing, rows = [(p, a) for p, passages in enumerate(paths) for a in passages], []
        for p, a in passing:
            for q, b in passing:
                since = right_of_way(b, a, side, signals) if p != q and a.crossing == b.crossing else None
                zone = conflict(a, b) if since is not None else None
                if zone:
                    at = zone[0] if since <= 0 else a.stop_m
                    rows.append((p, q, at, *zone[1:], since))
        table = np.array(rows, float).reshape(-1, 7)
        return Yields(table[:, 0].astype(int), table[:, 1].astype(int), *table[:, 2:].T)

    def among(self, path: np.ndarray) -> Yields:
        """The same for n participants, number i of whom is on path number `path[i]`."""
        order = np.argsort(path, kind="stable")
        who, whom = np.searchsorted(path[order], self.who), np.searchsorted(path[order], self.whom)
        count = np.bincount(path, minlength=max(self.who.max(initial=0), self.whom.max(initial=0)) + 1)
        pairs = count[self.who] * count[self.whom]
        row = np.repeat(np.arange(len(pairs)), pairs)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        each = np.maximum(count[self.whom], 1)[row]
        out = self[row]
        return replace(out, who=order[who[row] + nth // each], whom=order[whom[row] + nth % each])

    def __getitem__(self, rows: np.ndarray) -> Yields:
        return Yields(*(getattr(self, f.name)[rows] for f in fields(self)))

    def gap_m(self, front_m: np.ndarray, length_m: np.ndarray, speed_mps: np.ndarray, held_m: np.ndarray) -> np.ndarray:
        """(n,) metres from the front of each participant to where it must wait for another, inf if it need not.

        Args:
            front_m, length_m, speed_mps: (n,) of the participants. held_m: (n,) metres to the stop line that holds each, inf if none.
        """
        out = np.full(len(front_m), np.inf)
        gap = self.at_m - front_m[self.who]
        there = front_m[self.whom]
        left = self.to_m - there + length_m[self.whom]  # until the other is gone
        q = np.flatnonzero((gap > -1) & (gap < 60) & (left > 0) & (self.from_m - there < 150) & (there > self.since_m))
        if not len(q):
            return out
        who, whom, gap, left = self.who[q], self.whom[q], gap[q], left[q]
        comes = self.from_m[q] - front_m[whom]
        pace = np.maximum(speed_mps[whom] + 0.7, 2.5)
        speed = speed_mps[who]
        way = np.maximum(self.leave_m[q] + length_m[who] - front_m[who], 0)
        # until `who` could be there, and until the crossing is clear of it: it gathers speed, but turns slowly
        there_s = (np.sqrt(speed**2 + 2 * 1.4 * np.maximum(gap, 0)) - speed) / 1.4
        needs_s = np.maximum((np.sqrt(speed**2 + 2 * 1.4 * way) - speed) / 1.4, way / 5.0)
        moves = ((speed_mps[whom] > 0.2) & (held_m[whom] > comes)) | (comes <= 0)
        meet = (comes / pace < needs_s + 1.0) & (left / pace > there_s - 1.3)
        block = moves & meet & (speed**2 < 6 * gap + 1)  # too late to stop: go
        np.minimum.at(out, who[block], np.maximum(gap[block], 0.1))
        return out
