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
from wamlab.metrics.motion import displacement_px
from wamlab.types import ACTIONS, Scene
from wamlab.world.counterfactual import logged_actions, replay

#: Slower than this, half a second of steering hardly moves the picture.
MIN_SPEED_MPS = 3.0
_STEERING, _SPEED = ACTIONS.index("steering_rad"), ACTIONS.index("speed_mps")


@dataclass(frozen=True)
class SteeringSweep:
    """The futures of S presents under A steering angles, 0.5 s later.

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
) -> SteeringSweep:
    """Steer from the middle of each scene with each angle held for 0.5 s, the acceleration as it was, and measure the picture's shift.

    Args:
        scenes: of a synthetic dataset. The present is the middle one of a scene's keyframes of at least `min_speed_mps`; scenes without
            any are left out.
        angles_rad: of the steering wheel, rising; by default `num_angles` from the 5th to the 95th percentile of those keyframes' own.

    Raises `InvalidParameter` for angles that do not rise or fewer than 3, or if no scene is fast enough; and as `replay`.
    """
    fast = [np.flatnonzero(scene.actions[:-1, _SPEED] >= min_speed_mps) for scene in scenes]
    asked = [(scene, int(rows[len(rows) // 2])) for scene, rows in zip(scenes, fast, strict=True) if len(rows)]
    if not asked:
        raise InvalidParameter(f"none of {len(scenes)} scenes has a keyframe of min_speed_mps={min_speed_mps:g}")
    if angles_rad is None:
        steering = np.concatenate([s.actions[rows, _STEERING] for s, rows in zip(scenes, fast, strict=True)])
        angles_rad = np.linspace(*np.nanquantile(steering, [0.05, 0.95]), num_angles)
    angles = np.asarray(angles_rad, float)
    if angles.ndim != 1 or len(angles) < 3 or not (np.diff(angles) > 0).all():
        raise InvalidParameter(f"a sweep needs 3 or more rising angles, not {angles.tolist()}")

    frames, shifts, rho = [], [], []
    for scene, t in asked:
        actions = logged_actions(scene, t, 1)
        actions = [np.column_stack([np.full(len(actions), angle), actions[:, 1]]) for angle in angles]
        seen = torch.cat([replay(scene, t, a, every_step=True).frames for a in actions])
        measured = _measured(seen)
        frames.append(seen)
        about = {"scene": scene.name, "keyframe": t, "speed_mps": float(scene.actions[t, _SPEED])}
        shifts.append(pd.DataFrame({**about, "angle_rad": angles, **measured}))
        rho.append({"scene": scene.name} | {k: spearmanr(angles, v).statistic for k, v in measured.items()})
    return SteeringSweep(torch.stack(frames), angles, pd.concat(shifts, ignore_index=True), pd.DataFrame(rho))


def _measured(frames: Tensor) -> dict[str, np.ndarray]:
    """Shifts to the right (A,) of (A, 3, H, W) frames against the middle one."""
    middle = len(frames) // 2
    steps = displacement_px(frames[:-1], frames[1:], robust=True)[:, 0].numpy()
    total = np.concatenate([[0.0], np.cumsum(steps)])
    paper = displacement_px(frames[middle].expand_as(frames), frames)[:, 0].numpy()
    return {"shift_px": total - total[middle], "paper_px": paper}
