"""Crash tests after NeuroNCAP (Ljungbergh et al. 2024): worlds in which a car that does nothing collides, and their score. No driving.

Three kinds, as Euro NCAP has them: something stands in the lane, something comes towards the car in its own lane, something crosses
from a side road. The adversary keeps its path and its speed whatever the ego car does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.world.collision import EGO_HALF_M, relative_speed_mps
from wamlab.world.driver import EGO_LENGTH_M, EGO_WIDTH_M, EgoState
from wamlab.world.episode import Episode
from wamlab.world.junction import CYCLE_S, GREEN_S, passages
from wamlab.world.outcome import FRONT_M, Outcome
from wamlab.world.population import populate
from wamlab.world.primitives import vehicle_templates
from wamlab.world.road import PLACES, Path
from wamlab.world.simulation import STEP_S, SceneSpec, State, World, make_world
from wamlab.world.weather import TIMES, WEATHERS

TARGETS = ("sedan", "hatchback", "suv", "van", "truck", "bus", "cyclist")
_DENSITY = 0.6
_CLEAR_M = 25.0  # other vehicles that would come nearer to the two are left out
_SETTLE_S = 0.5  # an oncoming vehicle is in the ego car's lane this long before the impact
_OVERLAP_M = 0.25  # a car that does nothing hits its target by at least as much
_RUN_UP_M, _RUN_OUT_M = 75.0, 160.0  # of the route before the last crossing's stop line, and behind it


@dataclass(frozen=True)
class Scenario:
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
        SceneSpec(self.seed, self.place, self.time, self.weather, side=self.side)  # refuses unknown names
        if self.target not in TARGETS:
            raise UnknownName("target", self.target, TARGETS)
        if self.scene < 0:
            raise InvalidParameter(f"scene must be 0 or more, not {self.scene}")
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

    def path(self, world: World, start_m: float) -> tuple[Path, float]:
        """The target's path, and where on it the target's middle is `ttc_s` after the start at `start_m` of the route."""
        raise NotImplementedError

    def starts_m(self, world: World) -> np.ndarray:
        """Where on the route the ego car can start: so that it meets its target on the open road."""
        need = self.speed_mps * self.ttc_s + FRONT_M + 25.0
        starts = np.arange(25.0, world.route.length_m - need - _RUN_OUT_M)
        busy = np.zeros(len(starts))
        for p in passages(world.map, world.route):
            busy += (starts < p.s[-1]) & (starts + need > p.stop_m)
        return starts[busy == busy.min()]


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
        length, width = self.size_m
        reach = (length * np.cos(self.yaw_rad) + width * abs(np.sin(self.yaw_rad))) / 2
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
        path, s, own_s = self._crossing(world, min(ahead, key=lambda p: p.stop_m).crossing)
        return path, s + self.offset_m

    def starts_m(self, world: World) -> np.ndarray:
        way = self.speed_mps * self.ttc_s + FRONT_M + self.size_m[1] / 2
        crossings = (p.crossing for p in passages(world.map, world.route))
        starts = np.array([self._crossing(world, k)[2] - way for k in crossings])
        return starts[starts > 2]

    def _crossing(self, world: World, k: int) -> tuple[Path, float, float]:
        """The target's path across crossing `k`, and where the two paths meet: on it and on the route."""
        _, _, road, middle = world.map.crossings[k]
        for direction in (1, -1):
            path = world.map.lane_path(road, direction, 0)
            s, aside = path.project(world.route.points)
            i = int(np.argmin(np.abs(aside) + 1e3 * (np.abs(s - path.project(world.map.roads[road].at(middle)[:2])[0]) > 25)))
            if (np.sin(path.yaw[0] - world.route.yaw[i]) < 0) == self.from_left:
                break
        # the route's sample i is `aside` from the path: on from there
        own = world.route.s[i] + aside[i] / np.sin(path.yaw[0] - world.route.yaw[i]) * -1
        return path, float(path.project(world.route.at(own)[:2])[0]), float(own)


KINDS: dict[str, type[Scenario]] = {kind.kind: kind for kind in (Stationary, Frontal, Side)}


@dataclass(frozen=True, eq=False)
class CrashTest:
    """A scenario come to life: `world` is an ordinary world, in which agent `target` is the adversary.

    Attributes:
        reference_mps: v_r, the speed at which the two meet if the ego car keeps speed and lane.
        goal_m: where on the route it would then be at the end if there were no target.
    """

    scenario: Scenario
    world: World
    target: int
    reference_mps: float
    goal_m: float

    def episode(self, **options: Any) -> Episode:
        """An `Episode` of this test; `options` are those of `Episode`."""
        return Episode(self.world, max_duration_s=self.scenario.duration_s, goal_m=self.goal_m, **options)

    def score(self, outcome: Outcome) -> float:
        """See `ncap_score`; it is the first collision that counts."""
        impact = outcome.collisions[0].impact_mps if outcome.collisions else None
        return ncap_score(impact, self.reference_mps)


def ncap_score(impact_mps: float | None, reference_mps: float) -> float:
    """0 to 5: 5 without a collision (`impact_mps` is None), else 4 max(0, 1 - v_i / v_r) (NeuroNCAP; VaVAM, eq. 10).

    v_i is the magnitude of the relative velocity at the impact, v_r the same if nothing had been done. Raises `InvalidParameter` for
    speeds that cannot be.
    """
    if not (0 < reference_mps < np.inf and (impact_mps is None or 0 <= impact_mps < np.inf)):
        raise InvalidParameter(f"impact speeds must be finite, the reference positive: {impact_mps}, {reference_mps} m/s")
    return 5.0 if impact_mps is None else 4.0 * max(0.0, 1 - impact_mps / reference_mps)


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


def crash_test(scenario: Scenario) -> CrashTest:
    """Bring a scenario to life. Deterministic.

    Raises `InvalidParameter` if no place on the map has room for it.
    """
    base = _base(scenario.scene, scenario.place, scenario.time, scenario.weather, scenario.side)
    rng = np.random.default_rng([scenario.scene, scenario.seed])
    starts = scenario.starts_m(base)
    if not len(starts):
        raise InvalidParameter(f"scene {scenario.scene} has no room for {scenario}; take a shorter ttc_s or another scene")
    start_m = float(rng.choice(starts))
    path, meet = scenario.path(base, start_m)
    begin = meet - scenario.target_mps * scenario.ttc_s
    reached = base.route.points[base.route.s < start_m + scenario.speed_mps * scenario.duration_s + 30]
    people = populate(base.map, base.route, reached, _DENSITY, scenario.duration_s, rng)
    # nobody stands or walks where the target drives; it comes last
    people.keep_clear(path, scenario.size_m[1] / 2 + (1.3 if scenario.target_mps else scenario.size_m[0] / 2))
    people.go(scenario.target, path, begin, scenario.target_mps)
    agents, others = people.finish()
    x, y, yaw = (float(v) for v in base.route.at(start_m))
    world = replace(
        base,
        spec=replace(base.spec, duration_s=scenario.duration_s, density=_DENSITY),
        agents=agents,
        driver=replace(base.driver, speed_mps=scenario.speed_mps),
        signal_offsets=_green(base, start_m, scenario.speed_mps),
        start=State(0.0, EgoState(x, y, yaw, scenario.speed_mps), others),
    )
    world = _make_room(world, start_m)
    target = len(agents) - 1
    contact_s = start_m + scenario.speed_mps * scenario.ttc_s
    reference = relative_speed_mps(base.route.at(contact_s), scenario.speed_mps, path.at(meet), scenario.target_mps)
    return CrashTest(scenario, world, target, reference, start_m + scenario.speed_mps * scenario.duration_s)


@lru_cache(maxsize=32)
def _base(scene: int, place: str, time: str, weather: str, side: int) -> World:
    """The map of a scene: its ego car drives straight on next to the centre, and passes a crossing with room before and behind it."""
    for attempt in range(100):
        spec = SceneSpec(1000 * scene + attempt, place, time, weather, side=side, density=0.05, duration_s=20.0)
        world = make_world(spec)
        d = Path(world.map.roads[0].points).project(world.route.points[0])[1]
        inner = abs(d - world.map.lane_offset(0, 1, 0)) < 0.5
        room = [_RUN_UP_M < p.stop_m < world.route.length_m - _RUN_OUT_M for p in passages(world.map, world.route)]
        if inner and any(room):
            return world
    raise InvalidParameter(f"no {place} map of scene {scene} has a crossing with room for a crash test")


def _beside(route: Path, s: np.ndarray | float, aside_m: np.ndarray | float) -> np.ndarray:
    """Poses (..., 3) at `s` and `aside_m` to the left of a route."""
    pose = route.at(s)
    yaw = pose[..., 2]
    return np.stack([pose[..., 0] - aside_m * np.sin(yaw), pose[..., 1] + aside_m * np.cos(yaw), yaw], -1)


def _green(world: World, start_m: float, speed_mps: float) -> np.ndarray:
    """Signal offsets with which the ego car arrives in the middle of the green phase everywhere."""
    offsets = world.signal_offsets.copy()
    for p in passages(world.map, world.route):
        offsets[p.crossing] = (GREEN_S / 2 - (p.stop_m - start_m) / speed_mps - p.group * CYCLE_S / 2) % CYCLE_S
    return offsets


def _make_room(world: World, start_m: float) -> World:
    """Without the vehicles that would come near to the ego car or its target if the ego car kept its lane and its speed."""
    state, agents, speed = world.start, world.agents, world.start.ego.speed_mps
    taken = np.zeros(len(agents), bool)
    for k in range(round(world.spec.duration_s / STEP_S)):
        if k % 3 == 0:
            pose = agents.pose(state.agents)[:, :2]
            for xy in (world.route.at(start_m + speed * state.time_s)[:2], pose[-1]):
                taken |= np.hypot(*(pose - xy).T) < _CLEAR_M
        state = world.step(state, 0.0, 0.0, reactive=False)
    taken &= agents.drives
    others = world.start.agents
    others = replace(
        others, s_m=np.where(taken, np.inf, others.s_m), speed_mps=np.where(taken, 0.0, others.speed_mps)
    )
    return replace(world, start=replace(world.start, agents=others))
