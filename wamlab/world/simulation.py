"""A scene of the procedural world: what is in it, and how it goes on for any action. No drawing.

Everything follows from a `SceneSpec`; a step uses no randomness, so a scene can be resumed from any logged state with other actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wamlab.errors import HorizonTooLong, InvalidAction, InvalidParameter, UnknownName
from wamlab.types import COMMANDS
from wamlab.world.driver import Driver, EgoState, step_bicycle
from wamlab.world.road import PLACES, Path, RoadMap, generate_map
from wamlab.world.scenery import Scenery, make_scenery
from wamlab.world.traffic import (
    _PROBES_M,
    Agents,
    AgentState,
    clearance,
    idm,
    obstacle_circles,
    path_stops,
    populate,
    signal_gap,
    step_agents,
)
from wamlab.world.weather import TIMES, WEATHERS, Look, make_look

STEP_S = 1 / 12
KEYFRAME_STEPS = 6  # keyframes at 2 Hz


@dataclass(frozen=True)
class SceneSpec:
    """What to generate.

    Attributes:
        seed: decides all that the other fields leave open.
        explore: the driver covers a wide range of steering and speed instead of driving neatly.
        side: +1 right-hand traffic, -1 left-hand traffic. density: of traffic, 1 is normal.
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

    def __post_init__(self) -> None:
        chosen = {"place": PLACES, "time": TIMES, "weather": WEATHERS, "turn": COMMANDS}
        for kind, known in chosen.items():
            value = getattr(self, kind)
            if value not in known:
                raise UnknownName(kind, value, known)
        if self.side not in (-1, 1):
            raise InvalidParameter(f"side must be 1 (right-hand traffic) or -1 (left-hand), not {self.side!r}")
        if not 0 < self.duration_s <= 60:
            raise InvalidParameter(f"duration_s must be in (0, 60], not {self.duration_s!r}")
        if not self.density > 0:
            raise InvalidParameter(f"density must be positive, not {self.density!r}")

    @property
    def description(self) -> str:
        words = [self.time, self.weather, self.place]
        words.append("drive straight" if self.turn == "straight" else f"turn {self.turn}")
        if self.explore:
            words.append("unsteady driver")
        return ", ".join(words).capitalize()


@dataclass(frozen=True)
class State:
    """The world at one instant."""

    time_s: float
    ego: EgoState
    agents: AgentState


@dataclass(frozen=True)
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

    def drive(self, state: State) -> tuple[float, float]:
        """The scripted driver's steering-wheel angle (rad) and acceleration (m/s²) in this state."""
        ego, path = state.ego, self.driver.path
        steering = self.driver.steer(ego, state.time_s, STEP_S)
        s = float(path.project(np.array([ego.x_m, ego.y_m]))[0])
        front = s + 3.6
        probes = path.at(front + _PROBES_M)[None, :, :2]
        gap, leader = np.inf, 0.0
        if len(self.agents):
            pose = self.agents.pose(state.agents.s_m)
            circles, radii = obstacle_circles(pose, self.agents.size_m[:, 0], self.agents.size_m[:, 1])
            distance, who = clearance(probes, np.array([0.93]), circles, radii, np.array([-1]))
            gap = float(distance[0])
            if who[0] >= 0:
                leader = max(0.0, float(np.cos(pose[who[0], 2] - ego.yaw_rad) * state.agents.speed_mps[who[0]]))
        stop = signal_gap(front, ego.speed_mps, path_stops(self.map, path), state.time_s, self.signal_offsets)
        if stop < gap:
            gap, leader = stop, 0.0
        left = path.length_m - s
        wanted = min(self.driver.desired_speed_mps(state.time_s, s), max(0.0, left - 5.0))
        accel = idm(*(np.array(v) for v in (ego.speed_mps, wanted, gap, leader)))
        return steering, float(np.clip(accel, -7.0, 2.5))

    def step(self, state: State, steering_rad: float, accel_mps2: float, reactive: bool = True) -> State:
        """The state `STEP_S` later. `reactive=False`: the others do not see the ego car."""
        ego = step_bicycle(state.ego, steering_rad, accel_mps2, STEP_S)
        agents = step_agents(
            self.agents,
            state.agents,
            state.time_s,
            STEP_S,
            np.array(state.ego.pose),
            state.ego.speed_mps,
            self.signal_offsets,
            reactive,
        )
        return State(state.time_s + STEP_S, ego, agents)

    def simulate(self, controller: Callable[[State], tuple[float, float]] | None = None) -> list[State]:
        """The whole scene, one state every `STEP_S`; driven by the scripted driver unless a controller is given."""
        states = [self.start]
        for _ in range(round(self.spec.duration_s / STEP_S)):
            states.append(self.step(states[-1], *(controller or self.drive)(states[-1])))
        return states

    def replay(self, log: list[State], keyframe: int, actions: np.ndarray, reactive: bool = True) -> list[State]:
        """What would really have happened: from a keyframe of `log`, other actions are taken.

        Args:
            actions: (F, >= 2) steering-wheel angle (rad) and acceleration (m/s²) at keyframes `keyframe` .. `keyframe + F - 1`; between
                keyframes they are interpolated, after the last one it is held. Further columns are ignored.

        Returns:
            The F states at the following keyframes.

        Raises `InvalidAction` for NaN or a wrong shape, `HorizonTooLong` for a keyframe that the log does not have.
        """
        actions = np.asarray(actions, float)
        if actions.ndim != 2 or actions.shape[1] < 2 or not len(actions):
            raise InvalidAction(f"actions must be (F, 2 or more) with steering and acceleration, not {actions.shape}")
        if not np.isfinite(actions[:, :2]).all():
            raise InvalidAction(
                f"actions must be finite; row {int(np.argmin(np.isfinite(actions[:, :2]).all(1)))} is not"
            )
        last = (len(log) - 1) // KEYFRAME_STEPS
        if not 0 <= keyframe <= last:
            raise HorizonTooLong(f"the scene has keyframes 0..{last}, not {keyframe}")
        state, out = log[keyframe * KEYFRAME_STEPS], []
        grid = np.arange(len(actions))
        for k in range(len(actions) * KEYFRAME_STEPS):
            steering, accel = (np.interp((k + 0.5) / KEYFRAME_STEPS, grid, actions[:, c]) for c in (0, 1))
            state = self.step(state, float(steering), float(accel), reactive)
            if (k + 1) % KEYFRAME_STEPS == 0:
                out.append(state)
        return out


def make_world(spec: SceneSpec) -> World:
    """Generate a scene. Deterministic for `spec`."""
    streams = np.random.SeedSequence(spec.seed).spawn(5)
    rng_map, rng_look, rng_scenery, rng_ego, rng_traffic = (np.random.default_rng(s) for s in streams)
    for _ in range(50):
        road_map = generate_map(rng_map, spec.place, spec.side)
        if spec.turn == "straight" or road_map.crossings:
            break
    look = make_look(spec.time, spec.weather, rng_look)
    scenery = make_scenery(road_map, look, rng_scenery)

    road = road_map.roads[0]
    lane, turns, start = int(rng_ego.integers(0, road.lanes)), {}, rng_ego.uniform(20, 110)
    if spec.turn != "straight" and road_map.crossings:
        k = int(rng_ego.integers(len(road_map.crossings)))
        turns = {k: spec.turn}
        start = max(8.0, road_map.crossings[k][1] - rng_ego.uniform(45, 85))
        inner = (spec.turn == "left") == (spec.side > 0)
        lane = 0 if inner else road.lanes - 1
    path = road_map.route(0, 1, lane, start, turns)
    limit = {"urban": 10.5, "suburban": 12.0, "rural": 15.5}[spec.place]
    speed = limit * rng_ego.uniform(0.8, 1.1) * (0.85 if spec.weather in ("rain", "fog") else 1.0)
    wander, sway = (rng_ego.uniform(0.5, 0.9), rng_ego.uniform(0.3, 0.6)) if spec.explore else (0.06, 0.05)
    driver = Driver(path, float(speed), float(wander), float(sway), rng_ego.uniform(0, 2 * np.pi, 6))
    x, y, yaw = path.at(2.0)
    ego = EgoState(float(x), float(y), float(yaw), driver.desired_speed_mps(0.0, 2.0) * 0.9)
    agents, agent_state = populate(road_map, path, 2.0, spec.density, rng_traffic)
    offsets = rng_traffic.uniform(0, 24, max(1, len(road_map.crossings)))
    world = World(spec, road_map, look, scenery, agents, driver, offsets, State(0.0, ego, agent_state))
    state = world.start  # the others get going, with the ego car where it is, until they drive as they would
    for _ in range(36):
        agents = step_agents(
            world.agents, state.agents, state.time_s, STEP_S, np.array(ego.pose), ego.speed_mps, offsets
        )
        state = State(state.time_s + STEP_S, ego, agents)
    return World(spec, road_map, look, scenery, world.agents, driver, offsets, state)
