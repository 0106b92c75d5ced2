"""What would really have happened, asked of a scene: other actions from any moment of it, driven, drawn and labelled.

The simulation is `World.replay`, the drawing `Renderer`; here they are joined, and kept at hand for the next question of the same scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from wamlab.errors import CounterfactualUnknown, HorizonTooLong
from wamlab.types import Scene
from wamlab.world.camera import Camera
from wamlab.world.flow import Flow, optical_flow
from wamlab.world.render import Frames, Renderer
from wamlab.world.simulation import KEYFRAME_STEPS, SceneSpec, State, World, make_world
from wamlab.world.traffic import CATEGORY

_SAME_M = 0.02  # how far a scene may lie from what its spec gives now
_KEPT = 4  # scenes at hand


@dataclass(frozen=True)
class Labels:
    """The N agents of a world in F frames.

    Attributes:
        category: N names, as nuScenes has them. size_m: (N, 3) length, width, height.
        pose: (F, N, 3) x_m, y_m, yaw_rad of the middle in the global frame, NaN for who has left the map.
        velocity_mps: (F, N, 2) in the global frame.
    """

    category: tuple[str, ...]
    size_m: np.ndarray
    pose: np.ndarray
    velocity_mps: np.ndarray


@dataclass(frozen=True, eq=False)
class Replay:
    """The true future of an action sequence, F frames, 0.5 s from one to the next.

    Attributes:
        present: the state from which it starts. states: the F states after it.
        seen: what the camera sees of them; `frames`, `semantic`, `depth_m` and `instance` are its parts.
        actions: (F * KEYFRAME_STEPS, 2) steering-wheel angle (rad) and acceleration (m/s²) in force during each step of 1/12 s: those
            asked for, but that a car at rest does not roll backwards.
        renderer: what drew them; it has the world and the camera.
    """

    present: State
    states: tuple[State, ...]
    seen: Frames
    actions: np.ndarray
    renderer: Renderer

    @property
    def frames(self) -> Tensor:
        """(F, 3, H, W) uint8."""
        return self.seen.rgb

    @property
    def semantic(self) -> Tensor:
        """(F, H, W) uint8 of `Semantic`."""
        return self.seen.semantic

    @property
    def depth_m(self) -> Tensor:
        """(F, H, W) along the optical axis, inf for the sky."""
        return self.seen.depth_m

    @property
    def instance(self) -> Tensor:
        """(F, H, W) int32: 0 for what is no agent, else its number in `labels` + 1."""
        return self.seen.instance

    @property
    def ego_pose(self) -> np.ndarray:
        """(F, 3) x_m, y_m, yaw_rad of the rear axle in the global frame."""
        return np.array([s.ego.pose for s in self.states])

    @cached_property
    def labels(self) -> Labels:
        """Where the others are in each frame."""
        agents = self.renderer.world.agents
        pose = np.stack([agents.pose(s.agents) for s in self.states])
        speed = np.stack([s.agents.speed_mps for s in self.states])
        direction = np.stack([np.cos(pose[..., 2]), np.sin(pose[..., 2])], -1)
        there = np.stack([agents.on_map(s.agents) for s in self.states])
        pose = np.where(there[..., None], pose, np.nan)
        return Labels(tuple(CATEGORY[k] for k in agents.kind), agents.size_m, pose, speed[..., None] * direction)

    @cached_property
    def flow(self) -> Flow:
        """Optical flow that leads to each of the F frames from the one before it, the first from the present."""
        chain = [self.present, *self.states]
        first = self.renderer([self.present])
        seen = Frames(*(torch.cat([getattr(f, k.name) for f in (first, self.seen)]) for k in fields(Frames)))
        world, camera = self.renderer.world, self.renderer.camera
        return optical_flow(world, camera, chain[:-1], chain[1:], seen[:-1], seen[1:])


def replay(
    scene: Scene | SceneSpec | World,
    t: float,
    actions: np.ndarray,
    reactive: bool = True,
    camera: Camera | None = None,
    device: torch.device | str = "cpu",
    every_step: bool = False,
) -> Replay:
    """What would really have happened, had these actions been taken from moment `t` of the scene on.

    The first question of a scene simulates it (half a second); the last few scenes asked are kept.

    Args:
        scene: of a synthetic dataset, or what to generate, or a world. Its own future is driven by the scripted driver.
        t: the present, in keyframes (2 Hz): an index, or any sixth between two, e.g. `3 + 1 / 6`.
        actions: (F, >= 2) steering-wheel angle (rad, left positive) and acceleration (m/s²) at `t` .. `t + F - 1`, interpolated in
            between; with `every_step` (F * 6, >= 2), a row for each step of 1/12 s.
        reactive: the others see the ego car and react to it (intelligent driver model); False: they drive as if it were not there.
        camera: `CAM_FRONT` unless given.

    Raises:
        CounterfactualUnknown: the scene was recorded in the real world, or made by another version of this one.
        InvalidAction: NaN or a wrong shape. HorizonTooLong: `t` or `t + F` is beyond the scene. InvalidParameter: `t` is between steps.
    """
    world, log = _known(scene)
    steps = world.replay_steps(log, t, actions, reactive, every_step)
    states = steps[KEYFRAME_STEPS - 1 :: KEYFRAME_STEPS]
    renderer = _renderer(world, camera or Camera(), str(device))
    return Replay(log[round(t * KEYFRAME_STEPS)], tuple(states), renderer(states), _in_force(steps), renderer)


def logged_actions(scene: Scene | SceneSpec | World, t: float, horizon: int) -> np.ndarray:
    """(horizon * 6, 2) steering-wheel angle (rad) and acceleration (m/s²) that the scripted driver took, each step from moment `t` on.

    To be changed and given to `replay` with `every_step`; unchanged, they give the scene itself. Raises `HorizonTooLong`, and as `spec_of`.
    """
    _, log = _known(scene)
    first, last = round(t * KEYFRAME_STEPS), round((t + horizon) * KEYFRAME_STEPS)
    if not 0 <= first < last < len(log):
        raise HorizonTooLong(
            f"the scene ends with keyframe {(len(log) - 1) / KEYFRAME_STEPS:g}: no {horizon} keyframes after {t:g}"
        )
    return _in_force(log[first + 1 : last + 1])


def spec_of(scene: Scene) -> SceneSpec:
    """What to generate to get a scene of a synthetic dataset again.

    Raises `CounterfactualUnknown` for a scene of the real world, or of another version of this one.
    """
    if not isinstance(scene.world, Mapping):
        raise CounterfactualUnknown(
            f"{scene.name} was recorded in the real world: nobody knows what would have happened; "
            "ask a scene of a dataset made by `wamlab data synth`"
        )
    known = {f.name for f in fields(SceneSpec)}
    if strange := sorted(set(scene.world) - known):
        raise CounterfactualUnknown(
            f"{scene.name} was made by another version of the world (it has {', '.join(strange)}): "
            "make the dataset anew with `wamlab data synth`"
        )
    return SceneSpec(**scene.world)


def _known(scene: Scene | SceneSpec | World) -> tuple[World, list[State]]:
    """The world of a scene, and how it went."""
    if isinstance(scene, World):
        return scene, _log(scene)
    world = _world(scene if isinstance(scene, SceneSpec) else spec_of(scene))
    log = _log(world)
    if isinstance(scene, Scene):
        now = np.array([s.ego.pose for s in log[::KEYFRAME_STEPS][: len(scene)]])
        if now.shape != scene.ego_pose.shape or np.abs(now - scene.ego_pose)[:, :2].max() > _SAME_M:
            raise CounterfactualUnknown(
                f"{scene.name} was made by another version of the world, in which the car drove elsewhere: "
                "make the dataset anew with `wamlab data synth`"
            )
    return world, log


def _in_force(steps: list[State]) -> np.ndarray:
    """(n, 2) steering-wheel angle and acceleration of the steps that led to these states."""
    return np.array([(s.ego.steering_rad, s.ego.accel_mps2) for s in steps])


_world = lru_cache(maxsize=_KEPT)(make_world)


@lru_cache(maxsize=_KEPT)
def _log(world: World) -> list[State]:
    return world.simulate()


@lru_cache(maxsize=2 * _KEPT)
def _renderer(world: World, camera: Camera, device: str) -> Renderer:
    return Renderer(world, camera, device)
