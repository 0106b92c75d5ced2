"""All lines that agents move along, as one table that many agents look up at once. Geometry only: who moves there is `traffic`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wamlab.world.junction import Passage
from wamlab.world.road import Path

_STOP_ROOM_M, _EXIT_M = 8.0, 20.0  # no lane changes from here before a stop line to there behind a crossing's middle
_SAME_LINE_M, _SAME_HEADING_RAD = 0.5, 0.1


@dataclass(frozen=True, eq=False)
class Track:
    """One line with a sample a metre, and one beyond the end.

    Attributes:
        table: (L, 4) x_m, y_m, yaw_rad, and the speed that the bends ahead allow. length_m: of the line.
        enter_m: before this it lies outside of the map. passages: how it passes the crossings. drives: it is for vehicles.
    """

    table: np.ndarray
    length_m: float
    enter_m: float = 0.0
    passages: tuple[Passage, ...] = ()
    drives: bool = False

    @staticmethod
    def along(path: Path, enter_m: float = 0.0, passages: tuple[Passage, ...] = ()) -> Track:
        """`path` for those who drive."""
        s = np.arange(int(np.ceil(path.length_m)) + 1.0)
        table = np.column_stack([path.at(s), np.interp(s, path.s, path.curve_speed_mps)])
        return Track(table, float(int(path.length_m)), enter_m, passages, drives=True)

    @staticmethod
    def on_foot(path: Path) -> Track:
        """`path` for those who walk: bends do not matter."""
        s = np.arange(int(np.ceil(path.length_m)) + 1.0)
        return Track(np.column_stack([path.at(s), np.zeros(len(s))]), path.length_m)

    def clear(self) -> np.ndarray:
        """(L,) bool: far enough from every crossing to change lanes."""
        s, out = np.arange(len(self.table)), np.ones(len(self.table), bool)
        for p in self.passages:
            out &= (s < p.stop_m - _STOP_ROOM_M) | (s > p.middle_m + _EXIT_M)
        return out


@dataclass(frozen=True, eq=False)
class Tracks:
    """P tracks, one after another in one table of M samples.

    Attributes:
        table: (M, 4) as in `Track`. clear: (M,) bool, far enough from crossings to change lanes.
        lane: (M,) number of the track along whose lane a sample lies, -1: in no lane. road_m: (M,) metres along the road of that lane.
        first: (P,) each track's first sample. length_m, enter_m: (P,).
        beside: (P, 2) the lanes to the left and to the right of a lane, as numbers of tracks, -1: none.
    """

    table: np.ndarray
    clear: np.ndarray
    lane: np.ndarray
    road_m: np.ndarray
    first: np.ndarray
    length_m: np.ndarray
    enter_m: np.ndarray
    beside: np.ndarray

    @staticmethod
    def of(tracks: Sequence[Track], road_m: Mapping[int, np.ndarray], beside: np.ndarray) -> Tracks:
        """`road_m`: for the number of each track that is a lane from end to end, metres along its road at every sample."""
        first = np.cumsum([0, *(len(t.table) for t in tracks)])
        table = np.concatenate([*(t.table for t in tracks), np.zeros((1, 4))])
        lane, along = np.full(len(table), -1), np.zeros(len(table))
        for n, metres in road_m.items():
            lane[first[n] : first[n + 1]], along[first[n] : first[n + 1]] = n, metres
        lanes = np.flatnonzero(lane >= 0)
        for n, track in enumerate(tracks):
            if len(lanes) and n not in road_m and track.drives:
                here, there = _shared(track.table, table, lanes, lane)
                lane[first[n] + here], along[first[n] + here] = lane[there], along[there]
        clear = np.concatenate([*(t.clear() for t in tracks), [False]])
        length, enter = np.array([t.length_m for t in tracks]), np.array([t.enter_m for t in tracks])
        return Tracks(table, clear, lane, along, first[:-1], length, enter, beside)

    def at(self, s: np.ndarray, track: np.ndarray) -> np.ndarray:
        """Positions (n, ...) along n tracks -> rows (n, ..., 4) of the table; clamped to the ends."""
        i, share = self._sample(s, track)
        here = self.table[i]
        return here + (self.table[i + 1] - here) * share[..., None]

    def sample(self, s: np.ndarray, track: np.ndarray) -> np.ndarray:
        """Positions (n, ...) along n tracks -> samples of the table at or before them."""
        return self._sample(s, track)[0]

    def _sample(self, s: np.ndarray, track: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = (-1, *[1] * (s.ndim - 1))
        s = np.minimum(np.maximum(s, 0.0), self.length_m[track].reshape(shape))
        i = s.astype(int)
        return i + self.first[track].reshape(shape), s - i

    def abreast(self, s: float, track: int, other: int) -> tuple[float, float]:
        """The position on another lane of the same road that lies beside `s` of this one, and metres from there to the left to here."""
        x, y, _, _ = self.at(np.array([s]), np.array([track]))[0]
        i = self.sample(np.array([s]), np.array([track]))[0]
        rows = slice(self.first[other], self.first[other] + int(np.ceil(self.length_m[other])) + 1)
        s = float(np.searchsorted(self.road_m[rows], self.road_m[i]))
        for _ in range(2):
            x0, y0, yaw, _ = self.at(np.array([s]), np.array([other]))[0]
            s += float((x - x0) * np.cos(yaw) + (y - y0) * np.sin(yaw))
        return s, float((y - y0) * np.cos(yaw) - (x - x0) * np.sin(yaw))


def _shared(line: np.ndarray, table: np.ndarray, lanes: np.ndarray, lane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a line that lie in the lane where it begins or in the one where it ends, and the samples of those lanes beside them."""
    out = []
    for end in (len(line) - 2, 0):
        nearest = lanes[((table[lanes, :2] - line[end, :2]) ** 2).sum(1).argmin()]
        here = np.arange(len(line))
        there = np.clip(nearest + here - end, lanes[0], lanes[-1])
        gap = line - table[there]
        same = (gap[:, 0] ** 2 + gap[:, 1] ** 2 < (1 + _SAME_LINE_M) ** 2) & (lane[there] == lane[nearest])
        aside = gap[:, 1] * np.cos(table[there, 2]) - gap[:, 0] * np.sin(table[there, 2])
        same &= (np.abs(aside) < _SAME_LINE_M) & (np.cos(gap[:, 2]) > np.cos(_SAME_HEADING_RAD))
        out.append((here[same], there[same]))
    return np.concatenate([p for p, _ in out]), np.concatenate([q for _, q in out])
