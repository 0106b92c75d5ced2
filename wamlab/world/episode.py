"""The closed loop: a controller drives the ego car through a `World`, and its actions decide what it sees next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from wamlab.errors import EpisodeEnded, InvalidAction, InvalidParameter
from wamlab.geometry import to_ego_frame
from wamlab.types import COMMANDS
from wamlab.world.camera import Camera
from wamlab.world.collision import Collision, CollisionChecker
from wamlab.world.driver import MAX_STEERING_RAD
from wamlab.world.junction import passages
from wamlab.world.outcome import Outcome, judge
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, State, World
from wamlab.world.tracking import WAYPOINT_S, Tracker

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from wamlab.world.render import Frames, Renderer

MAX_ACCEL_MPS2 = 12.0  # of an action, either way: beyond what tyres do
ROUTE_AHEAD_M = np.arange(2.0, 62.0, 2.0)
_COMMAND_M = 45.0  # a turn at a crossing is announced this far before its stop line
_END_M = 8.0  # before the end of the route: there an episode without another goal is over


@dataclass(frozen=True, eq=False)
class Observation:
    """What a controller is told.

    Attributes:
        time_s: since the world began. pose: (3,) of the rear axle on the map. speed_mps: the car's.
        command: one of `COMMANDS`: what the route does at the next crossing, once that is near.
        route_m: (30, 2) the route ahead in the ego frame, a point every 2 m.
        frames: what the camera sees, a batch of one (rgb, semantic, depth_m, instance); None if the episode does not observe.
        state: the whole truth, for scripted drivers; a learned policy must not read it.
    """

    time_s: float
    pose: np.ndarray
    speed_mps: float
    command: str
    route_m: np.ndarray
    frames: Frames | None
    state: State

    @property
    def rgb(self) -> Tensor:
        """(3, H, W) uint8. Raises `InvalidParameter` if the episode does not observe."""
        if self.frames is None:
            raise InvalidParameter("this episode draws no pictures; make it with observe=True")
        return self.frames.rgb[0]


#: From an observation to an action (2,) or a plan (F, 2); see `Episode.step`.
Controller = Callable[[Observation], np.ndarray]


class Episode:
    """A drive in which every action counts. Deterministic: the same actions give the same log.

    `log` holds the state at every step of 1/12 s, so it can be drawn again (`Renderer`) or replayed (`World.replay`); `collisions` all
    that the car has touched; `ended` is None, "collision", "goal" or "time"; `outcome` says how it went so far.
    """

    def __init__(
        self,
        world: World,
        camera: Camera | None = None,
        *,
        reactive: bool = True,
        observe: bool = True,
        device: torch.device | str = "cpu",
        control_steps: int = KEYFRAME_STEPS,
        max_duration_s: float | None = None,
        goal_m: float | None = None,
        end_at_collision: bool = True,
    ) -> None:
        """
        Args:
            camera: the front camera by default. observe: draw what it sees at every observation. device: to draw on.
            reactive: the others see the ego car.
            control_steps: physics steps of 1/12 s for which an action is in force or a plan is followed: 6 is 0.5 s.
            max_duration_s: the scene's own duration by default.
            goal_m: metres along the route where the drive is complete; by default 8 m before its end.

        Raises `InvalidParameter` for a period, duration or goal out of range.
        """
        duration_s = world.spec.duration_s if max_duration_s is None else max_duration_s
        start_m = float(world.route.project(np.array(world.start.ego.pose[:2]))[0])
        last_m = world.route.length_m - _END_M
        goal_m = last_m if goal_m is None else goal_m
        if control_steps < 1:
            raise InvalidParameter(f"control_steps must be at least 1, not {control_steps}")
        if not STEP_S <= duration_s < np.inf:
            raise InvalidParameter(f"max_duration_s must be finite and at least {STEP_S:.3f} s, not {duration_s}")
        if not start_m < goal_m <= last_m:
            raise InvalidParameter(f"goal_m must be in ({start_m:.1f}, {last_m:.1f}] on this route, not {goal_m}")
        self.world, self.camera, self.device = world, camera, device
        self.reactive, self.observes, self.end_at_collision = reactive, observe, end_at_collision
        self.control_steps, self.max_duration_s, self.goal_m = control_steps, float(duration_s), float(goal_m)
        self._check = CollisionChecker(world)
        self._turns = [(p.stop_m, float(p.s[-1]), p.turn) for p in passages(world.map, world.route)]
        self._restart()

    def reset(self) -> Observation:
        """Back to the start of the world."""
        self._restart()
        return self._observation()

    def step(self, action: np.ndarray | Sequence[float]) -> Observation:
        """Drive for one control period, or until the episode ends, and look.

        Args:
            action: either (2,) steering-wheel angle (rad) and acceleration (m/s²), held for the period; or a plan (F, 2), waypoints at
                2 Hz in the ego frame of now (x_m forward, y_m left), as `Policy.plan` gives them, followed by a `Tracker`.

        Raises `EpisodeEnded` after the end, `InvalidAction` for another shape, NaN, or what no car can do.
        """
        if self.ended:
            raise EpisodeEnded(
                f"the episode ended after {self.duration_s:.2f} s ({self.ended}); call reset() to drive again"
            )
        follow = self._follow(np.asarray(action, float))
        for _ in range(self.control_steps):
            before = self.log[-1]
            after = self.world.step(before, *follow(before), self.reactive)
            self.log.append(after)
            self.collisions += self._check(before, after)
            self.ended = self._ending()
            if self.ended:
                break
        return self._observation()

    @property
    def duration_s(self) -> float:
        return self.log[-1].time_s - self.log[0].time_s

    @property
    def outcome(self) -> Outcome:
        return judge(self.world, self.log, self.goal_m, self.collisions, self.ended)

    def _restart(self) -> None:
        start = self.world.start
        self.log: list[State] = [start]
        self.collisions: list[Collision] = self._check(start, start)
        self.ended = self._ending()

    def _follow(self, action: np.ndarray) -> Callable[[State], tuple[float, float]]:
        """From an action or a plan to steering and acceleration in each state of the period."""
        if action.shape == (2,):
            steering, accel = (float(v) for v in action)
            if not np.isfinite(action).all():
                raise InvalidAction(f"an action must be finite, not steering {steering} rad, acceleration {accel} m/s²")
            if abs(steering) > MAX_STEERING_RAD or abs(accel) > MAX_ACCEL_MPS2:
                raise InvalidAction(
                    f"steering must be within ±{MAX_STEERING_RAD} rad and acceleration within ±{MAX_ACCEL_MPS2} m/s², "
                    f"not {steering} and {accel}"
                )
            return lambda state: (steering, accel)
        if action.ndim != 2:
            raise InvalidAction(
                f"an action must be (2,) steering and acceleration, or a plan (F, 2); this is {action.shape}"
            )
        tracker = Tracker(action, self.log[-1].ego, self.log[-1].time_s)
        if len(action) * WAYPOINT_S < self.control_steps * STEP_S - 1e-9:
            raise InvalidAction(
                f"a plan of {len(action)} waypoints ends after {len(action) * WAYPOINT_S} s, before the control period of "
                f"{self.control_steps * STEP_S:.2f} s does"
            )
        return lambda state: tracker(state.ego, state.time_s, STEP_S)

    def _ending(self) -> str | None:
        if self.collisions and self.end_at_collision:
            return "collision"
        if self._along_m(self.log[-1]) >= self.goal_m:
            return "goal"
        return "time" if self.duration_s > self.max_duration_s - STEP_S / 2 else None

    def _along_m(self, state: State) -> float:
        return float(self.world.route.project(np.array(state.ego.pose[:2]))[0])

    @cached_property
    def _renderer(self) -> Renderer:
        from wamlab.world.render import Renderer

        return Renderer(self.world, self.camera, self.device)

    def _observation(self) -> Observation:
        state = self.log[-1]
        pose, s = np.array(state.ego.pose), self._along_m(state)
        turn = [turn for stop, end, turn in self._turns if stop - _COMMAND_M < s < end]
        return Observation(
            time_s=state.time_s,
            pose=pose,
            speed_mps=state.ego.speed_mps,
            command=_WORDS[turn[0]] if turn else _WORDS[0],
            route_m=to_ego_frame(self.world.route.at(s + ROUTE_AHEAD_M)[:, :2], pose),
            frames=self._renderer([state]) if self.observes else None,
            state=state,
        )


_WORDS = dict(zip((1, -1, 0), COMMANDS, strict=True))  # of `Passage.turn`


def run(episode: Episode, controller: Controller) -> Outcome:
    """Drive an episode from its start to its end."""
    observation = episode.reset()
    while not episode.ended:
        observation = episode.step(controller(observation))
    return episode.outcome
