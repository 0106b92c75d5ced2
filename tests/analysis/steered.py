"""Models whose obedience is known, and drives to steer in, made without a renderer's pictures."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import torch

from wamlab.types import Rollout, Scene
from wamlab.world.simulation import KEYFRAME_STEPS, SceneSpec, make_world

R = 48


class Shifts:
    """Moves the present by `gain` pixels a radian of the last step's steering, and adds noise. Guidance of 3 turns it round."""

    def __init__(self, gain: float, noise: float = 0.0, objective: str = "direct") -> None:
        self.gain, self.noise, self.config = gain, noise, SimpleNamespace(objective=objective)

    def rollout(self, context, actions, generator, scale: float = 1.0, guidance: float = 1.0):
        gain = scale * self.gain * (2 - guidance)
        frames = [c[-1].roll(round(float(gain * a[-1, 0])), -1) for c, a in zip(context, actions, strict=True)]
        latents = torch.stack(frames)[:, None].expand(-1, actions.shape[1], -1, -1, -1)
        noise = torch.randn(latents.shape, generator=generator) * self.noise
        return Rollout(latents + noise, actions, "shifts", 0)


def drive(name: str, spec: SceneSpec) -> Scene:
    """A scene as a dataset has it, without its images."""
    log = make_world(spec).simulate()[:-1:KEYFRAME_STEPS]
    actions = np.array([(s.ego.steering_rad, s.ego.accel_mps2, s.ego.speed_mps) for s in log], np.float32)
    pose = np.array([s.ego.pose for s in log])
    return Scene(name, "test", np.arange(len(log)) / 2, (), actions, pose, world=asdict(spec))


def drives() -> list[Scene]:
    """Three short ones."""
    kinds = {11: "urban", 12: "suburban", 14: "rural"}
    specs = [SceneSpec(seed, kind, duration_s=3.0) for seed, kind in kinds.items()]
    return [drive(f"scene-{k}", spec) for k, spec in enumerate(specs)]


class Store:
    """Pictures of nothing in particular, in the place of a latent store."""

    resolution = R

    def fill(self, scenes, progress):
        pass

    def read(self, name):
        texture = torch.rand(1, 3, R, R // 3, generator=torch.Generator().manual_seed(int(name[-1]))) * 2 - 1
        return texture.repeat_interleave(3, -1).expand(20, -1, -1, -1)
