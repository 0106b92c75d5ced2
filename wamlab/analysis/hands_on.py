"""Models to be played with: a scene's present as what the widgets ask, each model a callable from actions to pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wamlab import render
from wamlab.analysis.rollouts import decode
from wamlab.data.frames import load_frames, squared
from wamlab.data.windows import window_actions
from wamlab.errors import InvalidParameter
from wamlab.types import ACTIONS, Codec, Scene, WorldModel
from wamlab.world.counterfactual import replay

#: Of the training actions: what lies outside is rare enough to be called outside of what a model was trained on.
USUAL = (0.02, 0.98)


def trained_range(scenes: Sequence[Scene], quantiles: tuple[float, float] = USUAL) -> dict[str, tuple[float, float]]:
    """Steering-wheel angle and acceleration between these quantiles of the scenes' frames: {"steering_rad": (low, high), …}."""
    actions = np.concatenate([scene.actions for scene in scenes])
    low, high = np.nanquantile(actions, quantiles, axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(ACTIONS[:2])}


def scrubbing(
    models: Mapping[str, WorldModel],
    codec: Codec,
    scene: Scene,
    t: int,
    horizon: int,
    resolution: int,
    num_context: int = 1,
    trained: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """What an `ActionScrubber` asks about the present `t` of a scene: `ActionScrubber(**scrubbing(…))`.

    Truth, present and predictions all went through the codec, so that its losses count for no model. In the procedural world the truth is
    the counterfactual (`replay`), drawn for whatever actions; of a recorded scene it is not known.

    Raises what `window_actions` and `load_frames` raise.
    """
    logged = window_actions(scene, t, horizon, num_context)
    frames = load_frames(scene, range(t - num_context + 1, t + 1), resolution)
    context = encoded(codec, frames)[None]

    def truth(actions: np.ndarray) -> np.ndarray:
        seen = square(replay(scene, t, actions[:, :2]).frames, resolution)
        return render.to_hwc(decode(codec, encoded(codec, seen)))

    return {
        "rollout": {name: asked(model, codec, context) for name, model in models.items()},
        "present": render.to_hwc(decode(codec, context[:, -1]))[0],
        "logged": logged,
        "truth": truth if scene.world is not None else None,
        "step_s": float(scene.timestamps_s[t + 1] - scene.timestamps_s[t]),
        "trained": trained,
    }


def asked(model: WorldModel, codec: Codec, context: Tensor) -> Callable[..., np.ndarray]:
    """A model as a callable: actions (F, A), and the settings that it has -> (F, H, W, 3) uint8.

    context: (1, C, c, h, w). Only a model that samples has a seed and steps.
    """

    def predicted(actions: np.ndarray, seed: int, **settings: Any) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        rollout = model.rollout(context, torch.as_tensor(actions)[None], generator, **settings)
        return render.to_hwc(decode(codec, rollout.latents[0]))

    if getattr(getattr(model, "config", None), "objective", "") == "diffusion":
        return lambda actions, seed=0, steps=10, guidance=1.0: predicted(
            actions, int(seed), steps=int(steps), guidance=float(guidance)
        )
    return lambda actions: predicted(actions, 0)


@torch.no_grad()
def encoded(codec: Codec, frames: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> latents (N, c, h, w) on the CPU."""
    weights = next(iter(codec.parameters()), None) if isinstance(codec, torch.nn.Module) else None
    return codec.encode(render.to_model(frames.to(weights.device if weights is not None else "cpu"))).cpu()


def square(frames: Tensor, resolution: int) -> Tensor:
    """(N, 3, H, W) uint8 as every reader gives it: the middle square, resized to `resolution` pixels."""
    if resolution < 1:
        raise InvalidParameter(f"resolution must be 1 or more, not {resolution}")
    cropped = np.stack([squared(Image.fromarray(frame), resolution) for frame in render.to_hwc(frames)])
    return torch.from_numpy(cropped).movedim(-1, 1)
