"""The true answer to steering: the same present, other steering angles, and how far the picture moves. No model; their ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from wamlab.errors import InvalidParameter
from wamlab.metrics.control import sweep_shifts
from wamlab.types import ACTIONS, Scene
from wamlab.world.counterfactual import logged_actions, replay

#: Slower than this, half a second of steering hardly moves the picture.
MIN_SPEED_MPS = 3.0
_STEERING, _SPEED = ACTIONS.index("steering_rad"), ACTIONS.index("speed_mps")


@dataclass(frozen=True)
class SteeringSweep:
    """The futures of S presents under A steering angles, 0.5 s later or more.

    Attributes:
        frames: (S, A, 3, H, W) uint8, steering from right to left. angles_rad: (A,) of the steering wheel.
        shifts: a row a present and angle: scene, keyframe, speed_mps, angle_rad; shift_px, how far the picture has moved to the right since
            the middle angle, added up from one angle to the next and robust; and paper_px, the paper's correlation with the middle picture.
        rho: a row a present: scene, and Spearman's rank correlation of the angle with each of the two shifts.
    """

    frames: Tensor
    angles_rad: np.ndarray
    shifts: pd.DataFrame
    rho: pd.DataFrame


def true_steering_sweep(
    scenes: Sequence[Scene],
    num_angles: int = 7,
    angles_rad: Sequence[float] | None = None,
    min_speed_mps: float = MIN_SPEED_MPS,
    horizon: int = 1,
    num_context: int = 1,
) -> SteeringSweep:
    """Steer from the middle of each scene with each angle held, the acceleration as it was, and measure the picture's shift.

    Args:
        scenes: of a synthetic dataset. The present is that of `presents`.
        angles_rad: of the steering wheel, rising; by default `num_angles` from the 5th to the 95th percentile of the steering in keyframes
            that are as fast.
        horizon: keyframes of 0.5 s for which the angle is held, and after which the picture is taken.

    Raises `InvalidParameter` for angles that do not rise or fewer than 3, or if no scene is fast enough; and as `replay`.
    """
    asked = presents(scenes, horizon, num_context, min_speed_mps)
    if angles_rad is None:
        steering = [s.actions[s.actions[:, _SPEED] >= min_speed_mps, _STEERING] for s, _ in asked]
        angles_rad = np.linspace(*np.nanquantile(np.concatenate(steering), [0.05, 0.95]), num_angles)
    angles = np.asarray(angles_rad, float)
    if angles.ndim != 1 or len(angles) < 3 or not (np.diff(angles) > 0).all():
        raise InvalidParameter(f"a sweep needs 3 or more rising angles, not {angles.tolist()}")

    frames, shifts, rho = [], [], []
    for scene, t in asked:
        seen = true_futures(scene, t, angles, horizon)[:, -1]
        measured = {"shift_px": sweep_shifts(seen), "paper_px": sweep_shifts(seen, robust=False)}
        frames.append(seen)
        about = {"scene": scene.name, "keyframe": t, "speed_mps": float(scene.actions[t, _SPEED])}
        shifts.append(pd.DataFrame({**about, "angle_rad": angles, **measured}))
        rho.append({"scene": scene.name} | {k: spearmanr(angles, v).statistic for k, v in measured.items()})
    return SteeringSweep(torch.stack(frames), angles, pd.concat(shifts, ignore_index=True), pd.DataFrame(rho))


def presents(
    scenes: Sequence[Scene], horizon: int = 1, num_context: int = 1, min_speed_mps: float = MIN_SPEED_MPS
) -> list[tuple[Scene, int]]:
    """Of each scene the middle one of its keyframes of at least `min_speed_mps` with `horizon` more after it and `num_context` up to it.

    Scenes without any are left out. Raises `InvalidParameter` if that is all.
    """
    first = num_context - 1
    fast = [first + np.flatnonzero(s.actions[first : len(s) - horizon, _SPEED] >= min_speed_mps) for s in scenes]
    asked = [(scene, int(rows[len(rows) // 2])) for scene, rows in zip(scenes, fast, strict=True) if len(rows)]
    if not asked:
        raise InvalidParameter(
            f"none of {len(scenes)} scenes has a keyframe of min_speed_mps={min_speed_mps:g} with {horizon} more after it"
        )
    return asked


def true_futures(scene: Scene, t: int, angles_rad: Sequence[float], horizon: int = 1) -> Tensor:
    """(A, F, 3, H, W) uint8: what the camera sees at the F = `horizon` keyframes after keyframe t, each of the angles held until then.

    Raises as `replay`.
    """
    driven = logged_actions(scene, t, horizon)
    held = [np.column_stack([np.full(len(driven), angle), driven[:, 1]]) for angle in angles_rad]
    return torch.stack([replay(scene, t, actions, every_step=True).frames for actions in held])
