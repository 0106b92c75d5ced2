"""Models to be played with: a scene's present as what the widgets ask, each model a callable from actions to pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wamlab import render
from wamlab.analysis.feature_maps import ColourBasis, colour_basis, colours
from wamlab.analysis.rollouts import decode
from wamlab.data.frames import load_frames, squared
from wamlab.data.latents import device_of
from wamlab.data.windows import window_actions
from wamlab.errors import InvalidParameter
from wamlab.types import ACTIONS, Codec, Scene, WorldModel
from wamlab.world.counterfactual import replay, spec_of
from wamlab.world.driver import EgoState, step_bicycle
from wamlab.world.episode import Episode
from wamlab.world.simulation import STEP_S, make_world

#: Of the training actions: what lies outside is rare enough to be called outside of what a model was trained on.
USUAL = (0.02, 0.98)


def trained_range(scenes: Sequence[Scene], quantiles: tuple[float, float] = USUAL) -> dict[str, tuple[float, float]]:
    """Steering-wheel angle and acceleration between these quantiles of the scenes' frames: {"steering_rad": (low, high), …}."""
    actions = np.concatenate([scene.actions for scene in scenes])
    low, high = np.nanquantile(actions, quantiles, axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(ACTIONS[:2])}


@dataclass(frozen=True)
class Future:
    """What a widget draws of a rollout: frames (F, H, W, 3) uint8; components (F + 1, h, w, 3) in [-1, 1], the present's first."""

    frames: np.ndarray
    components: np.ndarray


def scrubbing(
    models: Mapping[str, WorldModel],
    codec: Codec,
    scene: Scene,
    t: int,
    horizon: int,
    resolution: int,
    num_context: int = 1,
    trained: Mapping[str, tuple[float, float]] | None = None,
    styles: Mapping[str, Mapping[str, str]] | None = None,
    strength: float = 1.0,
) -> dict[str, Any]:
    """What an `ActionScrubber` asks about the present `t` of a scene: `ActionScrubber(**scrubbing(…))`.

    Truth, present and predictions all went through the codec, so that its losses count for no model. In the procedural world the truth is
    the counterfactual (`replay`), drawn for whatever actions; of a recorded scene it is not known. The latents' main components, and the
    colours that stand for them, are those of the recorded window: a colour means the same for every model, and for the truth.

    Args:
        styles: colour and label by row, as `wamlab.plots.style.row_styles` gives them.
        strength: how far into the noise samplers start.

    Raises what `window_actions` and `load_frames` raise.
    """
    logged = window_actions(scene, t, horizon, num_context)
    frames = load_frames(scene, range(t - num_context + 1, t + 1), resolution)
    context = encoded(codec, frames)[None]
    window = torch.cat([context[0, -1:], encoded(codec, load_frames(scene, range(t + 1, t + horizon + 1), resolution))])
    basis = colour_basis(window.movedim(1, -1)) if window.shape[1] >= 3 else None

    def truth(actions: np.ndarray) -> np.ndarray | Future:
        seen = square(replay(scene, t, actions[:, :2]).frames, resolution)
        return drawn(codec, context, encoded(codec, seen), basis)

    return {
        "rollout": {name: asked(model, codec, context, basis, strength) for name, model in models.items()},
        "present": render.to_hwc(decode(codec, context[:, -1]))[0],
        "logged": logged,
        "truth": truth if scene.world is not None else None,
        "step_s": float(scene.timestamps_s[t + 1] - scene.timestamps_s[t]),
        "trained": trained,
    } | ({} if styles is None else {"styles": dict(styles)})


def drawn(codec: Codec, context: Tensor, latents: Tensor, basis: ColourBasis | None = None) -> np.ndarray | Future:
    """Latents (F, c, h, w) after a context (1, C, c, h, w) -> (F, H, W, 3) uint8; with a basis their components, too."""
    frames = render.to_hwc(decode(codec, latents))
    if basis is None:
        return frames
    seen = torch.cat([context[0, -1:].float(), latents.float()])
    return Future(frames, colours(seen.movedim(1, -1), basis).movedim(1, -1).numpy())


def asked(
    model: WorldModel, codec: Codec, context: Tensor, basis: ColourBasis | None = None, strength: float = 1.0
) -> Callable[..., np.ndarray | Future]:
    """A model as a callable: actions (F, A), and the settings that it has -> what `drawn` gives.

    context: (1, C, c, h, w). Only a model that samples has a seed and steps.
    """

    def predicted(actions: np.ndarray, seed: int, **settings: Any) -> np.ndarray | Future:
        generator = torch.Generator().manual_seed(seed)
        rollout = model.rollout(context, torch.as_tensor(actions)[None], generator, **settings)
        return drawn(codec, context, rollout.latents[0], basis)

    if samples(model):
        return lambda actions, seed=0, steps=10, guidance=1.0: predicted(
            actions, int(seed), steps=int(steps), guidance=float(guidance), strength=strength
        )
    return lambda actions: predicted(actions, 0)


def samples(model: WorldModel) -> bool:
    """Does the model draw one of several futures, so that it has a seed, and steps of a sampler?"""
    return getattr(getattr(model, "config", None), "objective", "") == "diffusion"


@torch.no_grad()
def encoded(codec: Codec, frames: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> latents (N, c, h, w) on the CPU."""
    return codec.encode(render.to_model(frames.to(device_of(codec)))).cpu()


def square(frames: Tensor, resolution: int) -> Tensor:
    """(N, 3, H, W) uint8 as every reader gives it: the middle square, resized to `resolution` pixels."""
    if resolution < 1:
        raise InvalidParameter(f"resolution must be 1 or more, not {resolution}")
    cropped = np.stack([squared(Image.fromarray(frame), resolution) for frame in render.to_hwc(frames)])
    return torch.from_numpy(cropped).movedim(-1, 1)


@dataclass(frozen=True)
class Seen:
    """A moment of a drive: rgb (3, H, W) uint8, pose (x_m, y_m, yaw_rad), speed_mps."""

    rgb: Tensor
    pose: tuple[float, float, float]
    speed_mps: float


class TrueDrive:
    """An episode of the procedural world, seen as a model sees it: square, and through the codec."""

    def __init__(self, episode: Episode, codec: Codec, resolution: int) -> None:
        self.episode, self.codec, self.resolution = episode, codec, resolution

    def reset(self) -> Seen:
        return self._seen(self.episode.reset())

    def step(self, action: np.ndarray) -> Seen:
        """Raises as `Episode.step`."""
        return self._seen(self.episode.step(action))

    def _seen(self, observation: Any) -> Seen:
        frame = decode(self.codec, encoded(self.codec, square(observation.rgb[None], self.resolution)))[0]
        return Seen(frame, tuple(observation.pose), observation.speed_mps)


class Dream:
    """A drive that happens in a model only: what it predicted is what it sees next, and the speed follows from the accelerations.

    The pose is that of a car that does what it is told (`step_bicycle`); no model knows it.
    """

    def __init__(
        self,
        model: WorldModel,
        codec: Codec,
        start: Tensor,
        ego: EgoState,
        step_s: float,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        """start: (C, 3, H, W) uint8, frames up to the present. ego: the car then. settings: of `model.rollout`, e.g. `steps`."""
        self.model, self.codec, self.start, self.first = model, codec, start, ego
        self.step_s, self.seed, self.settings = step_s, seed, settings

    def reset(self) -> Seen:
        self.context, self.ego = encoded(self.codec, self.start)[None], self.first
        self.generator = torch.Generator().manual_seed(self.seed)
        return self._seen()

    def step(self, action: np.ndarray) -> Seen:
        """Raises what the model's `rollout` raises."""
        steering, accel = (float(v) for v in action[:2])
        asked = torch.tensor([[[steering, accel, self.ego.speed_mps]]])  # (1, 1, A)
        seen = self.model.rollout(self.context, asked, self.generator, **self.settings).latents[:, :1].float()
        self.context = torch.cat([self.context, seen], 1)[:, 1:]
        self.ego = step_bicycle(self.ego, steering, accel, self.step_s)
        return self._seen()

    def _seen(self) -> Seen:
        return Seen(decode(self.codec, self.context[0, -1:])[0], self.ego.pose, self.ego.speed_mps)


def driving(
    models: Mapping[str, WorldModel],
    codec: Codec,
    scene: Scene,
    resolution: int,
    num_context: int = 1,
    steps: int = 4,
    trained: Mapping[str, tuple[float, float]] | None = None,
    styles: Mapping[str, Mapping[str, str]] | None = None,
    strength: float = 1.0,
) -> dict[str, Any]:
    """What a `DriveView` needs to drive from the start of a scene: `DriveView(**driving(…))`.

    In the procedural world the truth drives along; of a recorded scene nobody knows what the camera would have seen.

    Args:
        steps, strength: of the sampler, for a model that samples. styles: as in `scrubbing`.
        num_context: a model that sees several frames sees the first one so many times at the start.

    Raises what `load_frames` raises for a recorded scene.
    """
    if scene.world is None:
        ego = EgoState(*map(float, scene.ego_pose[0]), float(scene.actions[0, ACTIONS.index("speed_mps")]))
        first, truth = load_frames(scene, [0], resolution), None
        step_s = float(scene.timestamps_s[1] - scene.timestamps_s[0])
    else:
        episode = Episode(make_world(spec_of(scene)))
        ego, step_s = episode.world.start.ego, episode.control_steps * STEP_S
        first, truth = square(episode.reset().rgb[None], resolution), TrueDrive(episode, codec, resolution)
    start, sampling = first.expand(num_context, -1, -1, -1), {"steps": steps, "strength": strength}
    dreams = {
        name: Dream(model, codec, start, ego, step_s, **(sampling if samples(model) else {}))
        for name, model in models.items()
    }
    made = {"models": dreams, "truth": truth, "step_s": step_s, "trained": trained}
    return made | ({} if styles is None else {"styles": dict(styles)})
