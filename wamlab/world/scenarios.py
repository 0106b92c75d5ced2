"""Crash tests by their parameters, after NeuroNCAP (Ljungbergh et al. 2024): where the adversary drives, and when. No simulation.

Three kinds, as Euro NCAP has them: something stands in the lane, something comes towards the car in its own lane, something crosses
from a side road. The adversary keeps its path and its speed whatever the ego car does. `ncap` brings them to life.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.world.collision import EGO_HALF_M, overlap
from wamlab.world.driver import EGO_LENGTH_M, EGO_WIDTH_M, FRONT_M
from wamlab.world.junction import passages
from wamlab.world.primitives import vehicle_templates
from wamlab.world.road import PLACES, Path
from wamlab.world.simulation import SceneSpec, World
from wamlab.world.weather import TIMES, WEATHERS

TARGETS = ("sedan", "hatchback", "suv", "van", "truck", "bus", "cyclist")
_SETTLE_S = 0.5  # an oncoming vehicle is in the ego car's lane this long before the impact
_OVERLAP_M = 0.25  # a car that does nothing hits its target by at least as much
_FREE_M = 25.0  # of open road behind an obstacle
_AT_CROSSING_M = 20.0  # from the middle of a crossing


@dataclass(frozen=True)
class Scenario(ABC):
    """What all crash tests have in common. Nothing about a test is random beyond these fields.

    Attributes:
        scene: which map of this place. seed: of the other traffic. side: +1 right-hand traffic, -1 left-hand.
        speed_mps: of the ego car at the start. ttc_s: time to the collision if it keeps speed and lane.
        offset_m: of the target's middle: to the left of the ego car's lane, or, if it crosses, along its own path at the impact.
        target: one of `TARGETS`. target_mps: its speed. duration_s: when the test is over.
    """

    scene: int = 0
    seed: int = 0
    place: str = "urban"
    time: str = "day"
    weather: str = "clear"
    side: int = 1
    speed_mps: float = 10.0
    ttc_s: float = 4.0
    offset_m: float = 0.0
    target: str = "sedan"
    target_mps: float = 7.0
    duration_s: float = 8.0

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        SceneSpec(0, self.place, self.time, self.weather, side=self.side)  # refuses unknown names
        if self.target not in TARGETS:
            raise UnknownName("target", self.target, TARGETS)
        if min(self.scene, self.seed) < 0:
            raise InvalidParameter(f"scene and seed must be 0 or more, not {self.scene} and {self.seed}")
        self._within(speed_mps=(4, 16), ttc_s=(2, 6), target_mps=self._target_mps, duration_s=(self.ttc_s + 1, 20))
        self._within(offset_m=self.offsets_m)

    def _within(self, **ranges: tuple[float, float]) -> None:
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:  # NaN is not either
                raise InvalidParameter(
                    f"{name} of a {self.kind} test must be in [{low:.3g}, {high:.3g}], not {getattr(self, name)}"
                )

    _target_mps: ClassVar[tuple[float, float]] = (3, 14)

    @property
    def size_m(self) -> tuple[float, float]:
        """Length and width of the target."""
        return vehicle_templates()[self.target][0][:2]

    @property
    def offsets_m(self) -> tuple[float, float]:
        """The least and the greatest offset for which a car that does nothing collides."""
        reach = (EGO_WIDTH_M + self.size_m[1]) / 2 - _OVERLAP_M
        return -reach, reach

    @abstractmethod
    def path(self, world: World, start_m: float) -> tuple[Path, float]:
        """The target's path, and where on it the target's middle is `ttc_s` after the start at `start_m` of the route."""

    def starts_m(self, world: World) -> np.ndarray:
        """Where on the route the ego car can start: so that it meets its target on the open road."""
        need = self.speed_mps * self.ttc_s + FRONT_M + _FREE_M
        starts = np.arange(_FREE_M, self._last_m(world))
        busy = np.zeros(len(starts))
        for p in passages(world.map, world.route):
            busy += (starts < p.s[-1]) & (starts + need > p.stop_m)
        return starts[busy == busy.min(initial=np.inf)]

    def _last_m(self, world: World) -> float:
        """From farther on the ego car would come to the end of the route, or its target begin beyond it."""
        way = max(self.speed_mps * self.duration_s, (self.speed_mps + self.target_mps) * (self.ttc_s + 1))
        return world.route.length_m - way - _FREE_M


@dataclass(frozen=True)
class Stationary(Scenario):
    """Something stands in the ego car's lane. yaw_rad: how it is turned against the lane."""

    target_mps: float = 0.0
    yaw_rad: float = 0.0

    kind = "stationary"
    _target_mps = (0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within(yaw_rad=(-0.6, 0.6))

    def path(self, world: World, start_m: float) -> tuple[Path, float]:
        ahead = np.arange(0.0, self.size_m[0], 0.02)  # of the car's front to the target's middle: how near is contact?
        boxes = np.stack(np.broadcast_arrays(ahead, self.offset_m, self.yaw_rad), -1)
        touch = overlap(np.array([-EGO_HALF_M[0], 0.0, 0.0]), EGO_HALF_M, boxes, np.array(self.size_m) / 2)
        reach = ahead[touch].max()
        x, y, yaw = _beside(world.route, start_m + self.speed_mps * self.ttc_s + FRONT_M + reach, self.offset_m)
        c, s = np.cos(yaw + self.yaw_rad), np.sin(yaw + self.yaw_rad)
        return Path(np.array([[x, y], [x + c, y + s]])), 0.0


@dataclass(frozen=True)
class Frontal(Scenario):
    """Something that comes towards the ego car drifts into its lane. drift_s: how long that takes; 0.5 s before the impact it is there."""

    drift_s: float = 2.0

    kind = "frontal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within(drift_s=(1.0, self.ttc_s - _SETTLE_S))

    def path(self, world: World, start_m: float) -> tuple[Path, float]:
        meet = start_m + self.speed_mps * self.ttc_s + FRONT_M + self.size_m[0] / 2
        s = np.arange(
            meet + self.target_mps * (self.ttc_s + 1), meet - self.target_mps * (self.duration_s - self.ttc_s + 1), -1.0
        )
        s = s[s >= 0]
        share = np.clip((s - meet - self.target_mps * _SETTLE_S) / (self.target_mps * self.drift_s), 0, 1)
        own_lane = world.map.side * world.map.roads[0].lane_m
        aside = self.offset_m + (own_lane - self.offset_m) * share**2 * (3 - 2 * share)
        path = Path(_beside(world.route, s, aside)[:, :2])
        return path, float(path.project(_beside(world.route, meet, self.offset_m)[:2])[0])


@dataclass(frozen=True)
class Side(Scenario):
    """Something comes out of a side road and crosses, from the left or the right, against its red light where there is one."""

    from_left: bool = True

    kind = "side"

    @property
    def offsets_m(self) -> tuple[float, float]:
        length, width = self.size_m
        reach = (length + EGO_WIDTH_M) / 2 - _OVERLAP_M
        return -reach - self.target_mps * (EGO_LENGTH_M + width - 2 * _OVERLAP_M) / self.speed_mps, reach

    def path(self, world: World, start_m: float) -> tuple[Path, float]:
        ahead = [p for p in passages(world.map, world.route) if p.stop_m > start_m]
        path, s, _ = self._crossing(world, min(ahead, key=lambda p: p.stop_m).crossing)
        return path, s + self.offset_m

    def starts_m(self, world: World) -> np.ndarray:
        way = self.speed_mps * self.ttc_s + FRONT_M + self.size_m[1] / 2
        crossings = (p.crossing for p in passages(world.map, world.route))
        starts = np.array([self._crossing(world, k)[2] - way for k in crossings])
        return starts[(starts > 2) & (starts < self._last_m(world))]

    def _crossing(self, world: World, k: int) -> tuple[Path, float, float]:
        """The target's path across crossing `k`, and where the two paths meet: on it and on the route."""
        _, middle, road, _ = world.map.crossings[k]
        route, path = world.route, world.map.lane_path(road, 1, 0)
        near = np.flatnonzero(np.hypot(*(route.points - world.map.roads[0].at(middle)[:2]).T) < _AT_CROSSING_M)
        if (np.sin(path.yaw[0] - route.yaw[near[0]]) < 0) != self.from_left:
            path = world.map.lane_path(road, -1, 0)
        aside = path.project(route.points[near])[1]  # changes its sign where they meet
        order = np.argsort(aside)
        own = float(np.interp(0.0, aside[order], route.s[near][order]))
        return path, float(path.project(route.at(own)[:2])[0]), own


KINDS: dict[str, type[Scenario]] = {kind.kind: kind for kind in (Stationary, Frontal, Side)}


def sample(kind: str, seed: int, **fixed: Any) -> Scenario:
    """A random scenario of a kind (`KINDS`); `fixed` fields are not drawn.

    Ten maps for each place. As in NeuroNCAP a seed shifts the target along and across the road and turns it; the ego car's speed, place,
    hour, weather, target and traffic side are drawn, too.

    Raises `UnknownName` for another kind, `InvalidParameter` for a field that this kind does not have or a value out of range.
    """
    if kind not in KINDS:
        raise UnknownName("kind of crash test", kind, KINDS)
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    scenario = KINDS[kind]
    drawn: dict[str, Any] = {
        "scene": int(rng.integers(10)),
        "seed": seed,
        "place": str(rng.choice(PLACES, p=[0.5, 0.3, 0.2])),
        "time": str(rng.choice(TIMES, p=[0.6, 0.2, 0.2])),
        "weather": str(rng.choice(WEATHERS, p=[0.5, 0.2, 0.2, 0.1])),
        "side": 1 if rng.random() < 0.8 else -1,
        "speed_mps": float(rng.uniform(8.0, 12.0)),
        "ttc_s": float(rng.uniform(3.5, 4.5)),
        "target": str(rng.choice(TARGETS, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])),
    }
    shift = float(rng.uniform(0.12, 0.88))
    if kind == "stationary":
        drawn |= {"yaw_rad": float(rng.uniform(-0.5, 0.5))}
    else:
        drawn |= {"target_mps": float(rng.uniform(5.0, 9.0))}
    if kind == "frontal":
        drawn |= {"drift_s": float(rng.uniform(1.5, 2.5))}
    if kind == "side":
        drawn |= {"from_left": bool(rng.random() < 0.5)}
    unknown = [name for name in fixed if name not in scenario.__dataclass_fields__]
    if unknown:
        known = ", ".join(scenario.__dataclass_fields__)
        raise InvalidParameter(f"a {kind} test has no {unknown[0]!r}; known: {known}")
    drawn |= fixed
    if "offset_m" not in drawn:
        low, high = scenario(**drawn).offsets_m
        drawn["offset_m"] = low + shift * (high - low)
    return scenario(**drawn)


def _beside(route: Path, s: np.ndarray | float, aside_m: np.ndarray | float) -> np.ndarray:
    """Poses (..., 3) at `s` and `aside_m` to the left of a route."""
    pose = route.at(s)
    yaw = pose[..., 2]
    return np.stack([pose[..., 0] - aside_m * np.sin(yaw), pose[..., 1] + aside_m * np.cos(yaw), yaw], -1)
