"""Calibration of predicted latents from training scenes, its test-set oracle beside it, and the other dials between regressor and sampler.

All give points of one frontier (`wamlab.analysis.frontier`): near to the truth at one end, like real frames at the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wamlab.analysis.predicting import Candidate, predict
from wamlab.data.latents import LatentStore
from wamlab.data.windows import window_actions, window_starts
from wamlab.errors import InvalidParameter, InvalidShape, TooFewSamples
from wamlab.types import Scene

#: What a calibration was estimated on.
TRAINING, ORACLE = "training scenes", "oracle: the test set itself"
_EPS = 1e-6


@dataclass(frozen=True)
class Calibration:
    """g -> (g - μ_pred) / (σ_pred + 1e-6) σ_true + μ_true, for each horizon step and latent channel (DiT-WAM, section 4.3).

    Attributes:
        pred_mean, pred_std, true_mean, true_std: (F, c). source: `TRAINING` or `ORACLE`. num_windows: that they are from.
    """

    pred_mean: Tensor
    pred_std: Tensor
    true_mean: Tensor
    true_std: Tensor
    source: str
    num_windows: int

    def __call__(self, latents: Tensor) -> Tensor:
        """(..., F, c, h, w) predicted latents -> calibrated ones. Raises `InvalidShape` for other horizons or channels.

        A channel that did not vary where it was estimated is moved and not scaled.
        """
        if latents.ndim < 4 or latents.shape[-4:-2] != self.pred_mean.shape:
            raise InvalidShape(
                f"this calibration is of (F, c) = {tuple(self.pred_mean.shape)}; latents are {tuple(latents.shape)}"
            )
        scale = torch.where(self.pred_std > _EPS, self.true_std / (self.pred_std + _EPS), 1.0)
        shaped = (x.to(latents)[..., None, None] for x in (self.pred_mean, scale, self.true_mean))
        pred_mean, scale, true_mean = shaped
        return (latents - pred_mean) * scale + true_mean

    @property
    def spread(self) -> Tensor:
        """(F, c) σ_pred / σ_true: above 1 the model scatters more than frames do, and calibration shrinks it."""
        return self.pred_std / self.true_std.clamp_min(_EPS)


def fit_calibration(preds: Tensor, target: Tensor, source: str) -> Calibration:
    """From predicted and true latents (N, F, c, h, w) of N windows, mean and standard deviation over windows and pixels.

    `source` is `TRAINING`, or `ORACLE` where the windows are those to be judged: then it is no result, but what could be had at best.

    Raises `InvalidShape` for other shapes, `TooFewSamples` for fewer than two windows, `InvalidParameter` for another source.
    """
    if source not in (TRAINING, ORACLE):
        raise InvalidParameter(
            f"source must be {TRAINING!r} or {ORACLE!r}, not {source!r}: a calibration says what it saw"
        )
    if preds.shape != target.shape or preds.ndim != 5:
        raise InvalidShape(
            f"calibration needs two (N, F, c, h, w) of one shape, not {tuple(preds.shape)} and {tuple(target.shape)}"
        )
    if len(preds) < 2:
        raise TooFewSamples(f"calibration needs 2 windows or more, not {len(preds)}")
    statistics = [s for x in (preds, target) for s in (x.float().mean((0, 3, 4)), x.float().std((0, 3, 4)))]
    return Calibration(*statistics, source, len(preds))


def training_calibration(
    candidate: Candidate,
    store: LatentStore,
    scenes: Sequence[Scene],
    num_context: int = 1,
    horizon: int = 4,
    num_windows: int = 200,
    seed: int = 0,
    batch: int = 16,
) -> Calibration:
    """The deployable one: roll the candidate out on `num_windows` windows of training scenes, spread evenly over them.

    Raises `InvalidParameter` for a scene that is not of the training split, and as `fit_calibration`.
    """
    others = [scene.name for scene in scenes if scene.split != "train"]
    if others:
        raise InvalidParameter(
            f"{others[0]} is not a training scene ({len(others)} of {len(scenes)} are not): a calibration from them is the oracle; "
            f"fit_calibration(…, source={ORACLE!r}) says so"
        )
    index = [(scene, t) for scene in scenes for t in window_starts(scene, num_context, horizon)]
    if len(index) < 2:
        raise TooFewSamples(
            f"{len(index)} windows of {num_context} + {horizon} frames in {len(scenes)} scenes: 2 are needed"
        )
    chosen = [index[i] for i in np.unique(np.linspace(0, len(index) - 1, num_windows).round().astype(int))]
    store.fill(list({scene.name: scene for scene, _ in chosen}.values()), progress=False)
    z = torch.stack([store.read(scene.name)[t - num_context + 1 : t + horizon + 1].float() for scene, t in chosen])
    actions = torch.as_tensor(np.stack([window_actions(scene, t, horizon, num_context) for scene, t in chosen]))
    preds = predict(candidate, z[:, :num_context], actions, seed, batch)
    return fit_calibration(preds, z[:, num_context:], TRAINING)


def interpolate(regressed: Tensor, sampled: Tensor, alpha: float) -> Tensor:
    """(1 - α) regressed + α sampled latents, of one shape. The paper's point has α = 0.5 and *uncalibrated* samples.

    Raises `InvalidParameter` for α outside [0, 1], `InvalidShape` for other shapes.
    """
    if not 0 <= alpha <= 1:
        raise InvalidParameter(f"alpha must be in [0, 1], not {alpha}")
    if regressed.shape != sampled.shape:
        raise InvalidShape(f"latents must be of one shape, not {tuple(regressed.shape)} and {tuple(sampled.shape)}")
    return torch.lerp(regressed, sampled, alpha)


def warm_starts(
    model: Any,
    context: Tensor,
    actions: Tensor,
    start: Tensor,
    strengths: Sequence[float],
    seed: int = 0,
    batch: int = 8,
    **settings: Any,
) -> dict[float, Tensor]:
    """Latents (B, F, c, h, w) by strength: the sampler starts from `start` (such as a regressor's future) with that share of the noise.

    0 gives `start` back, 1 samples from noise alone; the noise is the same for all. The model's `rollout` must take `start` and `strength`.
    """
    return {
        strength: predict(Candidate(model, settings | {"strength": strength}), context, actions, seed, batch, start)
        for strength in strengths
    }
