"""A scene of the procedural world: what is in it, and how it goes on for any action. No drawing.

Everything follows from a `SceneSpec`; a step uses no randomness, so a scene can be resumed from any logged state with other actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from wamlab.errors import HorizonTooLong, InvalidAction, InvalidParameter, UnknownName
from wamlab.geometry import to_ego_frame
from wamlab.types import COMMANDS
from wamlab.world.driver import EGO_LENGTH_M, EGO_WIDTH_M, FRONT_M, Driver, EgoState, step_bicycle
from wamlab.world.following import COMFORT_MPS2, PROBES_M, clearance, idm, patience
from wamlab.world.junction import AMBER_S, CYCLE_S, GREEN_S, Passage, passages
from wamlab.world.lanes import LEAST_MPS, move_over
from wamlab.world.population import Population, populate
from wamlab.world.road import MAX_LANES, PLACES, Path, RoadMap, generate_map
from wamlab.world.scenery import Scenery, make_scenery
from wamlab.world.traffic import DECIDE_STEPS, Agents, AgentState, EgoView, Observation, observe, step_agents
from wamlab.world.weather import TIMES, WEATHERS, Look, make_look

STEP_S = 1 / 12
KEYFRAME_STEPS = 6  # keyframes at 2 Hz
WARM_UP_STEPS = 36
MAX_DENSITY = 3.0
_LIMIT_MPS = {"urban": 10.5, "suburban": 12.0, "rural": 15.5}
_CHANGES_LANES = (
    0.4  # share of scenes straight on a road of several lanes in which the ego car would like to change lanes
)


@dataclass(frozen=True)
class SceneSpec:
    """What to generate.

    Attributes:
        seed: decides all that the other fields leave open.
        explore: the driver covers a wide range of steering and speed instead of driving neatly.
        side: +1 right-hand traffic, -1 left-hand traffic. density: of traffic, 1 is normal.
        lanes: of the main road in each direction, 1 to 3, in rural places to 2; None: as the place has it.
    """

    seed: int
    place: str = "urban"
    time: str = "day"
    weather: str = "clear"
    turn: str = "straight"
    explore: bool = False
    side: int = 1
    density: float = 1.0
    duration_s: float = 20.0
    lanes: int | None = None

    def __post_init__(self) -> None:
        chosen = {"place": PLACES, "time": TIMES, "weather": WEATHERS, "turn": COMMANDS}
        for kind, known in chosen.items():
            value = getattr(self, kind)
            if value not in known:
                raise UnknownName(kind, value, known)
        if self.side not in (-1, 1):
            raise InvalidParameter(f"side must be 1 (right-hand traffic) or -1 (left-hand), not {self.side!r}")
        if not (isinstance(self.seed, int | np.integer) and self.seed >= 0):
            raise InvalidParameter(f"seed must be an integer of 0 or more, not {self.seed!r}")
        if not 0 < self.duration_s <= 60:
            raise InvalidParameter(f"duration_s must be in (0, 60], not {self.duration_s!r}")
        if not 0 < self.density <= MAX_DENSITY:
            raise InvalidParameter(f"density must be in (0, {MAX_DENSITY:g}], not {self.density!r}")
        most = MAX_LANES[self.place]
        if self.lanes is not None and not (isinstance(self.lanes, int) and 1 <= self.lanes <= most):
            raise InvalidParameter(f"lanes must be 1 to {most} in {self.place} places, or None, not {self.lanes!r}")


@dataclass(frozen=True, eq=False)
class State:
    """The world at one instant."""

    time_s: float
    ego: EgoState
    agents: AgentState


@dataclass(frozen=True, eq=False)
class World:
    """A generated scene, ready to be simulated from `start`."""

    spec: SceneSpec
    map: RoadMap
    look: Look
    scenery: Scenery
    agents: Agents
    driver: Driver
    signal_offsets: np.ndarray
    start: State

    @property
    def route(self) -> Path:
        return self.driver.path

    @lru_cache(maxsize=2)  # noqa: B019 - driving and stepping look at the same state
    def _observe(self, state: State, reactive: bool) -> tuple[float, float, Observation | None]:
        """Where the ego car is on its route (metres along it and to its left), and what everybody sees, at the steps when they look."""
        ego = state.ego
        s, aside = (float(v) for v in self.route.project(np.array([ego.x_m, ego.y_m])))
        if round(state.time_s / STEP_S) % DECIDE_STEPS:
            return s, aside, None
        view = EgoView(ego.pose, ego.speed_mps, s, aside) if reactive else None
        return s, aside, observe(self.agents, state.agents, state.time_s, view, self.signal_offsets)

    def drive(self, state: State) -> tuple[float, float]:
        """The scripted driver's steering-wheel angle (rad) and acceleration (m/s²) in this state."""
        s, aside, seen = self._observe(state, True)
        ego, path, driver = state.ego, self.route, self.driver
        steering = driver.steer(ego, s, aside, state.time_s, STEP_S)
        if seen is None:
            return steering, ego.accel_mps2
        boxes = seen.boxes
        probes = path.at(s + FRONT_M + PROBES_M)[None]
        gap, who = clearance(probes, np.array([EGO_WIDTH_M / 2]), boxes, np.array([len(boxes.speed_mps) - 1]))
        along = np.cos(boxes.pose[who, 2] - probes[0, 0, 2]) * boxes.speed_mps[who]
        gap, leader = patience(gap, along, boxes.speed_mps[who]), max(0.0, float(along[0]))
        if seen.halt_m[-1] < gap[0]:
            gap, leader = seen.halt_m[-1:], 0.0
        wanted = min(driver.desired_speed_mps(state.time_s, s), max(0.0, path.length_m - s - 5.0))
        accel = float(idm(np.array([ego.speed_mps]), wanted, gap, leader, driver.comfort_mps2)[0])
        return steering, min(accel, driver.pedal_mps2(state.time_s, ego.speed_mps))

    def step(self, state: State, steering_rad: float, accel_mps2: float, reactive: bool = True) -> State:
        """The state `STEP_S` later. `reactive=False`: the others do not see the ego car.

        Raises `InvalidAction` for NaN or infinity.
        """
        if not (np.isfinite(steering_rad) and np.isfinite(accel_mps2)):
            raise InvalidAction(f"an action must be finite, not steering {steering_rad} rad, {accel_mps2} m/s²")
        ego = step_bicycle(state.ego, steering_rad, accel_mps2, STEP_S)
        seen = self._observe(state, reactive)[2]
        agents = step_agents(self.agents, state.agents, seen, state.time_s, STEP_S, self.signal_offsets)
        return State(state.time_s + STEP_S, ego, agents)

    def simulate(self, controller: Callable[[State], tuple[float, float]] | None = None) -> list[State]:
        """The whole scene, one state every `STEP_S`; driven by the scripted driver unless a controller is given."""
        states = [self.start]
        for _ in range(round(self.spec.duration_s / STEP_S)):
            states.append(self.step(states[-1], *(controller or self.drive)(states[-1])))
        return states

    def replay(
        self, log: list[State], t: float, actions: np.ndarray, reactive: bool = True, every_step: bool = False
    ) -> list[State]:
        """What would really have happened: from a moment of `log` on, other actions are taken.

        Args:
            t: the moment in keyframes: 3 is the fourth keyframe, 3.5 halfway to the fifth; any step of the log, so any sixth.
            actions: (F, >= 2) steering-wheel angle (rad) and acceleration (m/s²) at `t` .. `t + F - 1`; in between they are interpolated,
                after the last one it is held. Further columns are ignored.
            every_step: `actions` has a row for each step instead, (F * KEYFRAME_STEPS, >= 2), in force during that step.

        Returns:
            The F states at `t + 1` .. `t + F`.

        Raises:
            InvalidAction: NaN or a wrong shape. HorizonTooLong: `t`, or `t + F`, is beyond the log. InvalidParameter: `t` is between steps.
        """
        return self.replay_steps(log, t, actions, reactive, every_step)[KEYFRAME_STEPS - 1 :: KEYFRAME_STEPS]

    def replay_steps(
        self, log: list[State], t: float, actions: np.ndarray, reactive: bool = True, every_step: bool = False
    ) -> list[State]:
        """As `replay`, but all F * KEYFRAME_STEPS states on the way."""
        actions = np.asarray(actions, float)
        if actions.ndim != 2 or actions.shape[1] < 2 or not len(actions):
            raise InvalidAction(f"actions must be (F, 2 or more) with steering and acceleration, not {actions.shape}")
        if not np.isfinite(actions[:, :2]).all():
            row = int(np.argmin(np.isfinite(actions[:, :2]).all(1)))
            raise InvalidAction(f"actions must be finite; row {row} is not: {actions[row, :2]}")
        if every_step and len(actions) % KEYFRAME_STEPS:
            raise InvalidAction(
                f"actions of every step must have a multiple of {KEYFRAME_STEPS} rows, not {len(actions)}"
            )
        last, horizon = (len(log) - 1) / KEYFRAME_STEPS, len(actions) / (KEYFRAME_STEPS if every_step else 1)
        if not 0 <= t <= last:
            raise HorizonTooLong(f"the scene has keyframes 0..{last:g}, not {t:g}")
        if t + horizon > last + 1e-6:
            raise HorizonTooLong(
                f"{horizon:g} keyframes after keyframe {t:g} the scene is over: it ends with keyframe {last:g}"
            )
        first = round(t * KEYFRAME_STEPS)
        if abs(t * KEYFRAME_STEPS - first) > 1e-3:
            raise InvalidParameter(f"t must be a keyframe or a {KEYFRAME_STEPS}th between two (a step), not {t!r}")
        if not every_step:
            at = (np.arange(len(actions) * KEYFRAME_STEPS) + 0.5) / KEYFRAME_STEPS
            actions = np.stack([np.interp(at, np.arange(len(actions)), actions[:, c]) for c in (0, 1)], -1)
        states = [log[first]]
        for steering, accel in actions[:, :2]:
            states.append(self.step(states[-1], float(steering), float(accel), reactive))
        return states[1:]


def make_world(spec: SceneSpec) -> World:
    """Generate a scene. Deterministic for `spec`."""
    streams = np.random.SeedSequence(spec.seed).spawn(5)
    rng_map, rng_look, rng_scenery, rng_ego, rng_traffic = (np.random.default_rng(s) for s in streams)
    top = 1.15 * _LIMIT_MPS[spec.place]  # nobody's scene ends at the end of the road
    length, arm = max(600.0, 280 + top * spec.duration_s), 150.0
    if spec.turn != "straight":
        arm = max(arm, 60 + top * (spec.duration_s - 7))
    for _ in range(50):
        road_map = generate_map(rng_map, spec.place, spec.side, length, arm, spec.lanes)
        if spec.turn == "straight" or road_map.crossings:
            break
    look = make_look(spec.time, spec.weather, rng_look)
    scenery = make_scenery(road_map, look, rng_scenery)
    speed = _LIMIT_MPS[spec.place] * rng_ego.uniform(0.8, 1.1) * (0.85 if spec.weather in ("rain", "fog") else 1.0)
    path = _ego_path(spec, road_map, rng_ego)
    lively = [float(rng_ego.uniform(*r)) for r in ((0.35, 0.7), (0.3, 0.6), (0.2, 0.6), (4.0, 6.0))]
    drift = (*lively, 3.0) if spec.explore else (0.05, 0.05, 0.0, 0.0, COMFORT_MPS2)
    driver = Driver(path, float(speed), *drift, rng_ego.uniform(0, 2 * np.pi, 11))
    x, y, yaw = path.at(2.0)
    ego = EgoState(float(x), float(y), float(yaw), driver.desired_speed_mps(0.0, 2.0) * 0.9)

    passing = passages(road_map, path)
    offsets = _signal_offsets(passing, len(road_map.crossings), speed, rng_ego)
    reach = path.s < 30 + top * spec.duration_s
    people = populate(road_map, path, path.points[reach], spec.density, spec.duration_s, rng_traffic)
    agents, others = people.finish()
    # the others get going, until they drive as they would; then the ego car joins them
    for k in range(-WARM_UP_STEPS, 0):
        seen = None if k % DECIDE_STEPS else observe(agents, others, k * STEP_S, None, offsets)
        others = step_agents(agents, others, seen, k * STEP_S, STEP_S, offsets)
    start = State(0.0, ego, _make_room(agents, others, path, ego))
    world = World(spec, road_map, look, scenery, agents, driver, offsets, start)
    if spec.turn == "straight" and road_map.roads[0].lanes > 1 and rng_ego.random() < _CHANGES_LANES:
        world = _with_lane_change(world, people, rng_ego)
    return world


def _with_lane_change(world: World, people: Population, rng: np.random.Generator) -> World:
    """The same scene, but the ego car's route moves over to a lane beside it, where it first may: found by driving so far.

    It looks for a gap for some seconds, from a random moment on; if there is none, the scene stays as it is.
    """
    earliest, way_s, left = rng.uniform(0.0, 0.3 * world.spec.duration_s), rng.uniform(3.0, 4.5), rng.random() < 0.5
    agents, state = world.agents, world.start
    tracks = agents.tracks
    while state.time_s < min(earliest + 0.5 * world.spec.duration_s, world.spec.duration_s - way_s):
        s, _, seen = world._observe(state, True)
        if seen is not None and state.time_s >= earliest and state.ego.speed_mps > LEAST_MPS:
            way = way_s * max(state.ego.speed_mps, 7.0)
            lane = tracks.lane[tracks.sample(np.array([s]), np.array([agents.ego_track]))[0]]
            for target in tracks.beside[lane, :: 1 if left else -1] if lane >= 0 else ():
                if target >= 0 and _may_move_over(agents, seen, s, way, target):
                    aside = (1 if target == tracks.beside[lane, 0] else -1) * world.map.roads[0].lane_m
                    route = move_over(world.route, s + 2.0, way, aside)
                    return replace(world, agents=people.finish(route)[0], driver=replace(world.driver, path=route))
        state = world.step(state, *world.drive(state))
    return world


def _may_move_over(agents: Agents, seen: Observation, s: float, way_m: float, target: int) -> bool:
    """Is there room for the ego car in the lane `target`, and no crossing until it is there?"""
    along = s + way_m * np.array([0.0, 0.5, 1.0]) + 2.0
    if not agents.tracks.clear[agents.tracks.sample(along, np.full(3, agents.ego_track))].all():
        return False
    ego = np.array([len(seen.drivers)])
    return bool(seen.lanes.safe(ego, *seen.lanes.around(np.array([target]), ego))[0])


def _ego_path(spec: SceneSpec, road_map: RoadMap, rng: np.random.Generator) -> Path:
    """The lane-level route, from somewhere before the crossing where the car turns, or from somewhere outside of all crossings."""
    road = road_map.roads[0]
    lane, start = int(rng.integers(0, road.lanes)), rng.uniform(60, 140)
    if spec.turn == "straight" or not road_map.crossings:
        for s, half in road.crossings:
            if s - half - 40 < start < s + half + 6:
                start = max(8.0, s - half - 40)
        return road_map.route(0, 1, lane, start, {})
    k = int(rng.integers(len(road_map.crossings)))
    start = max(8.0, road_map.crossings[k][1] - rng.uniform(55, 85))
    return road_map.route(0, 1, 0 if road_map.across(spec.turn) else road.lanes - 1, start, {k: spec.turn})


def _signal_offsets(passing: tuple[Passage, ...], n: int, speed: float, rng: np.random.Generator) -> np.ndarray:
    """When each crossing's signal turns green (n,), s: at random, but three times in four the ego car's first one when it arrives."""
    offsets = rng.uniform(0, CYCLE_S, max(1, n))
    wave, ready = rng.random() < 0.75, rng.uniform(0.5, GREEN_S + AMBER_S / 2)
    if passing and wave:
        first = min(passing, key=lambda p: p.stop_m)
        offsets[first.crossing] = (ready - first.stop_m / (0.9 * speed) - first.group * CYCLE_S / 2) % CYCLE_S
    return offsets


def _make_room(agents: Agents, state: AgentState, path: Path, ego: EgoState) -> AgentState:
    """Take away the vehicles that are where the ego car starts, or too near to it to brake."""
    if not len(agents):
        return state
    pose = agents.pose(state)
    x, y = to_ego_frame(pose[:, :2], ego.pose).T
    s, aside = path.project(pose[:, :2])
    half = agents.size_m[:, 0] / 2
    beside = np.where(agents.indicators(state) != 0, 5.7, 2.2)  # who is changing lanes may be on the way to this one
    in_front = (x > 0) & (np.abs(aside) < beside)
    behind = (x <= 0) & (x > -60) & (np.abs(y) < beside)
    faster = np.where(in_front, ego.speed_mps**2 - state.speed_mps**2, state.speed_mps**2 - ego.speed_mps**2)
    room = 7 + half + np.maximum(faster, 0) / 4
    gap = np.where(in_front, s - 2.0 - FRONT_M, -x - EGO_LENGTH_M / 2)
    taken = agents.drives & (in_front | behind) & (gap < room)
    return replace(state, s_m=np.where(taken, np.inf, state.s_m), speed_mps=np.where(taken, 0, state.speed_mps))
