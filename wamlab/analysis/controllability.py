"""How models answer the steering wheel, beside what would really have happened: sweeps, guidance, inverse control, others' actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from wamlab.analysis.predicting import Candidate, predict
from wamlab.analysis.rollouts import TRUTH, decode
from wamlab.analysis.steering import MIN_SPEED_MPS, presents, true_futures
from wamlab.data.frames import squared
from wamlab.data.latents import LatentStore
from wamlab.data.windows import window_actions
from wamlab.errors import CounterfactualUnknown, InvalidParameter
from wamlab.metrics.control import InverseControl, SweepScores, inverse_control, sweep_scores, sweep_shifts
from wamlab.metrics.pixel import cosine_similarity
from wamlab.render import to_hwc
from wamlab.statistics import Interval, bootstrap_mean, by_scene
from wamlab.types import ACTIONS, Scene

_STEERING, _SPEED = ACTIONS.index("steering_rad"), ACTIONS.index("speed_mps")
#: Whose actions the model was given, in the column `actions`.
OWN, OTHERS = "the drive's own", "another drive's"


@dataclass(frozen=True)
class Controllability:
    """Attributes:
    angles_rad: (A,) of the sweep, rising. scenes: of the S presents.
    frames: (S, A, 3, R, R) uint8 of each candidate, and of `TRUTH` where the world can be asked.
    scores, inverse: likewise; the truth's inverse control is left out, since no noise makes its futures differ.
    shifts: candidate, scene, angle_rad, shift_px, paper_px: the shifts of `sweep_shifts`.
    """

    angles_rad: np.ndarray
    scenes: tuple[str, ...]
    frames: Mapping[str, Tensor]
    scores: Mapping[str, SweepScores]
    inverse: Mapping[str, InverseControl]
    shifts: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """A row a candidate, the scores as text with their intervals and n."""
        rows = {}
        for name, s in self.scores.items():
            inverse = self.inverse.get(name)
            rows[name] = {
                "valid scenes": f"{s.valid} of {s.num_scenes}",
                "Spearman's ρ ↑": said(s.rho),
                "ρ, all scenes ↑": said(s.rho_all),
                "strictly monotone ↑": said(s.monotone),
                "right sign ↑": said(s.sign),
                "slope on the truth (truth = 1)": "–" if s.slope is None else said(s.slope),
                "inverse control, error over chance ↓": "–" if inverse is None else said(inverse.relative),
            }
        return pd.DataFrame.from_dict(rows, orient="index")


def said(found: Any) -> str:
    """`0.81 [0.70, 0.93], n = 18`, or why there is no number."""
    if not isinstance(found, Interval):
        return str(found)
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}], n = {found.n}"


def training_angles(scenes: Sequence[Scene], num_angles: int = 5, min_speed_mps: float = MIN_SPEED_MPS) -> np.ndarray:
    """(A,) rad: evenly from the 5th to the 95th percentile of the steering in training scenes, where they drive as fast as the presents.

    Raises `InvalidParameter` if they do so nowhere.
    """
    steering = np.concatenate([s.actions[s.actions[:, _SPEED] >= min_speed_mps, _STEERING] for s in scenes])
    if not np.isfinite(steering).any():
        raise InvalidParameter(f"none of {len(scenes)} training scenes drives at {min_speed_mps:g} m/s")
    return np.linspace(*np.nanquantile(steering, [0.05, 0.95]), num_angles)


def controllability(
    candidates: Mapping[str, Candidate],
    codec: Any,
    store: LatentStore,
    scenes: Sequence[Scene],
    angles_rad: Sequence[float],
    num_context: int = 1,
    horizon: int = 4,
    step: int = 1,
    seed: int = 0,
    batch: int = 8,
) -> Controllability:
    """Sweep every candidate from one present of each scene, the angle held over the horizon, the noise of a scene the same.

    Inverse control asks for the angles halfway between those of the sweep, with the noise of another seed.

    Args:
        scenes: held-out ones; the presents are those of `presents`. Recorded ones have no truth.
        step: the future frame that is measured, 1 .. horizon. At 2 Hz, with several, even the true pictures of outer angles have little in
            common: compare with the truth's own scores.

    Raises `InvalidParameter` for another step, and as `presents`, `sweep_scores` and the models' `rollout`.
    """
    if not 1 <= step <= horizon:
        raise InvalidParameter(f"step must be 1 to the horizon of {horizon} frames, not {step}")
    asked, angles, rng = (
        presents(scenes, horizon, num_context),
        np.asarray(angles_rad, float),
        np.random.default_rng(seed),
    )
    store.fill([scene for scene, _ in asked], progress=False)
    between, names = (angles[1:] + angles[:-1]) / 2, tuple(scene.name for scene, _ in asked)
    frames, scores, inverse, tables = {}, {}, {}, []
    true = _true_frames(asked, angles, step, store.resolution)
    truth = None if true is None else sweep_shifts(true)
    if true is not None:
        frames[TRUTH], scores[TRUTH] = true, sweep_scores(angles, truth, rng, truth)
        tables.append(_long(TRUTH, names, angles, true))
    for name, candidate in candidates.items():
        at = {"num_context": num_context, "horizon": horizon, "step": step, "batch": batch}
        frames[name] = steer(candidate, codec, store, asked, angles, seed=seed, **at)
        shifts = sweep_shifts(frames[name])
        scores[name] = sweep_scores(angles, shifts, rng, truth)
        others = steer(candidate, codec, store, asked, between, seed=seed + 1, **at)
        middle = frames[name][:, len(angles) // 2]
        inverse[name] = inverse_control(angles, shifts, between, _against(middle, others), rng)
        tables.append(_long(name, names, angles, frames[name]))
    return Controllability(angles, names, frames, scores, inverse, pd.concat(tables, ignore_index=True))


def steer(
    candidate: Candidate,
    codec: Any,
    store: LatentStore,
    asked: Sequence[tuple[Scene, int]],
    angles_rad: Sequence[float],
    num_context: int,
    horizon: int,
    step: int,
    seed: int,
    batch: int = 8,
) -> Tensor:
    """(S, A, 3, R, R) uint8: future frame `step` of S presents (scene, keyframe), each angle held and the rest of the actions as driven.

    The generator starts anew for each angle, so that a present has the same noise under all.
    """
    context = torch.stack([store.read(scene.name)[t - num_context + 1 : t + 1].float() for scene, t in asked])
    driven = torch.as_tensor(np.stack([window_actions(scene, t, horizon, num_context) for scene, t in asked]))
    seen = []
    for angle in angles_rad:
        actions = driven.clone()
        actions[..., _STEERING] = float(angle)
        seen.append(decode(codec, predict(candidate, context, actions, seed, batch)[:, step - 1]))
    return torch.stack(seen, 1)


def wrong_actions(
    candidates: Mapping[str, Candidate],
    store: LatentStore,
    scenes: Sequence[Scene],
    num_context: int = 1,
    horizon: int = 4,
    seed: int = 0,
    batch: int = 8,
) -> pd.DataFrame:
    """candidate, scene, actions (`OWN` or `OTHERS`), step, cosine: how near the true latents are under the right and the wrong actions.

    The wrong ones are those of the next scene's present. A model that ignores its actions, as a copy of the present does, is as near
    with both. Raises `InvalidParameter` for fewer than two scenes, and as `presents`.
    """
    asked = presents(scenes, horizon, num_context)
    if len(asked) < 2:
        raise InvalidParameter("wrong actions are another drive's: give two scenes or more")
    store.fill([scene for scene, _ in asked], progress=False)
    z = torch.stack([store.read(scene.name)[t - num_context + 1 : t + horizon + 1].float() for scene, t in asked])
    own = torch.as_tensor(np.stack([window_actions(scene, t, horizon, num_context) for scene, t in asked]))
    tables = []
    for name, candidate in candidates.items():
        for whose, actions in ((OWN, own), (OTHERS, own.roll(1, 0))):
            near = cosine_similarity(predict(candidate, z[:, :num_context], actions, seed, batch), z[:, num_context:])
            rows = {"scene": np.repeat([scene.name for scene, _ in asked], horizon), "cosine": near.flatten().numpy()}
            rows |= {"candidate": name, "actions": whose, "step": np.tile(np.arange(1, horizon + 1), len(asked))}
            tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


def action_effect(table: pd.DataFrame, rng: np.random.Generator) -> dict[str, Interval]:
    """How much nearer each candidate of `wrong_actions` comes to the truth with its own actions than another's (cosine, more: it obeys)."""
    wide = by_scene(table, "cosine", ["candidate", "actions"])
    names = table.candidate.drop_duplicates()
    return {name: bootstrap_mean((wide[name, OWN] - wide[name, OTHERS]).to_numpy(), rng) for name in names}


def _against(middle: Tensor, others: Tensor) -> np.ndarray:
    """(S, K) px: how far each of K frames has moved against the sweep's middle one."""
    pairs = torch.stack([middle[:, None].expand_as(others), others], 2)  # (S, K, 2, 3, R, R)
    shift = sweep_shifts(pairs)  # against the second of two
    return -shift[..., 0]


def _true_frames(asked: Sequence[tuple[Scene, int]], angles: np.ndarray, step: int, resolution: int) -> Tensor | None:
    """(S, A, 3, R, R) uint8, or None for recorded scenes."""
    try:
        futures = [true_futures(scene, t, angles, step) for scene, t in asked]
    except CounterfactualUnknown:
        return None
    small = [[squared(Image.fromarray(frame), resolution) for frame in to_hwc(future)] for future in futures]
    return torch.as_tensor(np.moveaxis(np.array(small), -1, -3))


def _long(name: str, scenes: Sequence[str], angles: np.ndarray, frames: Tensor) -> pd.DataFrame:
    measured = {"shift_px": sweep_shifts(frames).ravel(), "paper_px": sweep_shifts(frames, robust=False).ravel()}
    where = {"scene": np.repeat(scenes, len(angles)), "angle_rad": np.tile(angles, len(scenes))}
    return pd.DataFrame({"candidate": name, **where, **measured})
