"""How models answer the steering wheel, beside what would really have happened: sweeps, inverse control, others' actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab.analysis.claims import crossed
from wamlab.analysis.hands_on import square
from wamlab.analysis.predicting import Candidate, predict
from wamlab.analysis.rollouts import decode
from wamlab.analysis.steering import MIN_SPEED_MPS, presents, true_futures
from wamlab.data.latents import LatentStore
from wamlab.data.windows import window_actions
from wamlab.errors import InvalidParameter
from wamlab.metrics.control import InverseControl, inverse_control, sweep_cells, sweep_shifts
from wamlab.metrics.pixel import cosine_similarity
from wamlab.statistics import Interval
from wamlab.types import ACTIONS, Scene

_STEERING, _SPEED = ACTIONS.index("steering_rad"), ACTIONS.index("speed_mps")
#: Whose actions the model was given, in the column `actions`.
OWN, OTHERS = "the drive's own", "another drive's"


@dataclass(frozen=True)
class Sweep:
    """S presents, each steered with A angles held, the noise of a present the same under all; seen at K of the future frames.

    Attributes:
        shifts_px, paper_px: (S, A, K) of `sweep_shifts`, robust and the paper's.
        middle: (S, 3, R, R) uint8 of the middle angle at the first of the K frames.
        kept: (A, K, 3, R, R) uint8 of each present that was to be kept.
    """

    shifts_px: np.ndarray
    paper_px: np.ndarray
    middle: Tensor
    kept: Mapping[int, Tensor]

    def cells(self, angles_rad: np.ndarray, frame: int, truth: Sweep | None = None) -> dict[str, np.ndarray]:
        """`sweep_cells` of the frame at this index, (S,) each; the paper's, in whole pixels, begin with `paper_`.

        In the paper a present is valid if any of its shifts is not 0.
        """
        true_px = None if truth is None else truth.shifts_px[..., frame]
        counted = sweep_cells(angles_rad, np.round(self.paper_px[..., frame]), threshold_px=1)
        papers = {f"paper_{name}": counted[name] for name in ("valid", "rho", "positive")}
        return sweep_cells(angles_rad, self.shifts_px[..., frame], true_px) | papers


def training_angles(scenes: Sequence[Scene], num_angles: int = 5, min_speed_mps: float = MIN_SPEED_MPS) -> np.ndarray:
    """(A,) rad: evenly from the 5th to the 95th percentile of the steering in training scenes, where they drive as fast as the presents.

    Raises `InvalidParameter` if they do so nowhere.
    """
    steering = np.concatenate([s.actions[s.actions[:, _SPEED] >= min_speed_mps, _STEERING] for s in scenes])
    if not np.isfinite(steering).any():
        raise InvalidParameter(f"none of {len(scenes)} training scenes drives at {min_speed_mps:g} m/s")
    return np.linspace(*np.nanquantile(steering, [0.05, 0.95]), num_angles)


def sweep(
    candidate: Candidate,
    codec: Any,
    store: LatentStore,
    asked: Sequence[tuple[Scene, int]],
    angles_rad: Sequence[float],
    num_context: int,
    horizon: int,
    frames: Sequence[int],
    seed: int,
    batch: int = 8,
    keep: Sequence[int] = (),
) -> Sweep:
    """A candidate from S presents (scene, keyframe). frames: which of the future ones are looked at, 1 .. horizon.

    Pictures are decoded a present at a time, so that memory does not grow with S. Raises `InvalidParameter` for other frames, and as the
    model's `rollout`.
    """
    if not frames or not all(1 <= k <= horizon for k in frames):
        raise InvalidParameter(f"frames must be 1 to the horizon of {horizon}, not {list(frames)}")
    latents = steer(candidate, store, asked, angles_rad, num_context, horizon, seed, batch)
    chosen = [k - 1 for k in frames]
    return _looked_at((_decoded(codec, z[:, chosen]) for z in latents), keep)


def true_sweep(
    asked: Sequence[tuple[Scene, int]],
    angles_rad: Sequence[float],
    frames: Sequence[int],
    resolution: int,
    keep: Sequence[int] = (),
) -> Sweep | None:
    """What would really have been seen, as the camera sees it; None for recorded scenes. Raises as `replay`."""
    chosen = [k - 1 for k in frames]

    def futures() -> Iterable[Tensor]:
        for scene, t in asked:
            seen = true_futures(scene, t, angles_rad, max(frames))[:, chosen]
            yield square(seen.flatten(0, 1), resolution).unflatten(0, seen.shape[:2])

    return None if all(scene.world is None for scene, _ in asked) else _looked_at(futures(), keep)


def steer(
    candidate: Candidate,
    store: LatentStore,
    asked: Sequence[tuple[Scene, int]],
    angles_rad: Sequence[float],
    num_context: int,
    horizon: int,
    seed: int,
    batch: int = 8,
) -> Tensor:
    """(S, A, F, c, h, w) latents: the future of S presents (scene, keyframe), each angle held and the rest of the actions as driven.

    The generator starts anew for each angle, so that a present has the same noise under all.
    """
    context = torch.stack([store.read(scene.name)[t - num_context + 1 : t + 1].float() for scene, t in asked])
    driven = torch.as_tensor(np.stack([window_actions(scene, t, horizon, num_context) for scene, t in asked]))
    seen = []
    for angle in angles_rad:
        actions = driven.clone()
        actions[..., _STEERING] = float(angle)
        seen.append(predict(candidate, context, actions, seed, batch))
    return torch.stack(seen, 1)


def recover(
    candidate: Candidate,
    codec: Any,
    store: LatentStore,
    asked: Sequence[tuple[Scene, int]],
    angles_rad: np.ndarray,
    known: Sweep,
    num_context: int,
    horizon: int,
    frame: int,
    seed: int,
    rng: np.random.Generator,
    batch: int = 8,
) -> tuple[np.ndarray, InverseControl]:
    """Angles (A - 1,) halfway between those of the sweep, and how well they are read from the futures that they make.

    known: the candidate's sweep of `angles_rad`, whose first frame is `frame`. seed: other noise than the sweep's.
    """
    between = (angles_rad[1:] + angles_rad[:-1]) / 2
    latents = steer(candidate, store, asked, between, num_context, horizon, seed, batch)[:, :, frame - 1]
    against = np.stack([_against(middle, _decoded(codec, z)) for middle, z in zip(known.middle, latents, strict=True)])
    return between, inverse_control(angles_rad, known.shifts_px[..., 0], between, against, rng)


def wrong_actions(
    candidates: Mapping[str, Candidate],
    store: LatentStore,
    scenes: Sequence[Scene],
    num_context: int = 1,
    horizon: int = 4,
    seed: int = 0,
    batch: int = 8,
) -> pd.DataFrame:
    """candidate, seed, scene, actions (`OWN` or `OTHERS`), step, cosine: how near the true latents are under right and wrong actions.

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
            rows |= {
                "candidate": name,
                "seed": seed,
                "actions": whose,
                "step": np.tile(np.arange(1, horizon + 1), len(asked)),
            }
            tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


def action_effect(table: pd.DataFrame, rng: np.random.Generator) -> dict[str, Interval]:
    """How much nearer each candidate of `wrong_actions` comes to the truth with its own actions than another's (cosine, more: it obeys).

    Of several tables, one a seed, put together: over scenes and seeds.
    """
    found = {}
    for name, rows in table.groupby("candidate", sort=False):
        own, others = (rows[rows.actions == w].pivot_table("cosine", "scene", "seed") for w in (OWN, OTHERS))
        found[name] = crossed((own - others).to_numpy(), rng)
    return found


def _looked_at(futures: Iterable[Tensor], keep: Sequence[int]) -> Sweep:
    """Measure (A, K, 3, R, R) uint8 of one present after the other."""
    shifts, papers, middle, kept = [], [], [], {}
    for i, seen in enumerate(futures):
        by_frame = seen.transpose(0, 1)  # (K, A, 3, R, R)
        shifts.append(sweep_shifts(by_frame).T)
        papers.append(sweep_shifts(by_frame, robust=False).T)
        middle.append(seen[len(seen) // 2, 0])
        if i in keep:
            kept[i] = seen
    return Sweep(np.stack(shifts), np.stack(papers), torch.stack(middle), kept)


def _decoded(codec: Any, latents: Tensor) -> Tensor:
    """(..., c, h, w) -> (..., 3, H, W) uint8, the same latents once only: a copy of the present is the present under every angle."""
    distinct, place = latents.flatten(0, -4).unique(dim=0, return_inverse=True)
    frames = decode(codec, distinct)[place]
    return frames.unflatten(0, latents.shape[:-3])


def _against(middle: Tensor, others: Tensor) -> np.ndarray:
    """(K,) px: how far each of K frames has moved against the sweep's middle one (3, R, R)."""
    pairs = torch.stack([middle.expand_as(others), others], 1)  # (K, 2, 3, R, R)
    return -sweep_shifts(pairs)[:, 0]  # against the second of two
