"""Whether a world model obeys: how far the picture that it predicts moves under a sweep of steering angles. Functions of tensors.

A sweep steers from one present with several rising angles, everything else the same, the noise too. Left is positive, and moves the
picture to the right: a model that obeys has shifts that rise with the angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.metrics.motion import THRESHOLD_PX, displacement_px
from wamlab.statistics import Interval, Undefined, bootstrap_mean, bootstrap_ratio


def sweep_shifts(frames: Tensor, robust: bool = True) -> np.ndarray:
    """How far to the right (..., A, 3, H, W) uint8 frames of A angles have moved against the middle one's -> (..., A) float64, px.

    `robust` adds up from each angle to the next, so that frames which have little in common still have a shift between them; otherwise
    it is the DiT-WAM paper's: the full correlation with the middle frame. A frame without contrast has not moved.
    """
    middle = frames.shape[-4] // 2
    if robust:
        steps = displacement_px(frames[..., :-1, :, :, :], frames[..., 1:, :, :, :], robust=True)[..., 0].nan_to_num()
        total = torch.nn.functional.pad(steps.double().cumsum(-1), (1, 0))
        return (total - total[..., middle, None]).numpy().round(6)  # what is exactly still has no sign
    still = frames[..., middle, None, :, :, :].expand_as(frames)
    return displacement_px(still, frames)[..., 0].nan_to_num().double().numpy().round(6)


@dataclass(frozen=True)
class SweepScores:
    """How S scenes answer a sweep. A scene is valid if its picture moves by the detection threshold or more between any two angles.

    Attributes:
        rho: mean over the valid scenes of Spearman's rank correlation of shift and angle; rho_all: over all, 0 for those not valid.
        monotone: share of the valid scenes whose shift rises strictly from every angle to the next; positive: that have rho > 0, which is
            what the paper calls monotone.
        sign: mean over the valid scenes of the share of angles whose shift has the right sign, against the middle one.
        slope: of the shifts on the true ones, through the middle angle, over all scenes; 1 answers as the world does. None without truth.
        valid, num_scenes: counts. rho_of, valid_of: (S,) of each scene.
    """

    rho: Interval | Undefined
    rho_all: Interval
    monotone: Interval | Undefined
    positive: Interval | Undefined
    sign: Interval | Undefined
    slope: Interval | Undefined | None
    valid: int
    num_scenes: int
    rho_of: np.ndarray
    valid_of: np.ndarray


def sweep_cells(
    angles: np.ndarray, shifts: np.ndarray, truth: np.ndarray | None = None, threshold_px: float = THRESHOLD_PX
) -> dict[str, np.ndarray]:
    """What scores are made of, (S,) each: the sums of which scenes, and seeds, are drawn.

    `valid`, 0 or 1; `rho`, `monotone`, `positive` and `sign` as in `SweepScores`, 0 where not valid; with `truth`, `along` and `squared`,
    the sums over angles of shift times true shift and of true shift squared, against the middle angle. Arguments and errors are those of
    `sweep_scores`.
    """
    angles, shifts = check_sweep(angles, shifts)
    middle = len(angles) // 2
    valid = detected(shifts, threshold_px)
    rho = np.array([spearmanr(angles, s).statistic if v else 0.0 for s, v in zip(shifts, valid, strict=True)])
    turned = np.sign(np.delete(angles - angles[middle], middle))
    moved = np.sign(np.delete(shifts - shifts[:, [middle]], middle, axis=1))
    monotone, sign = (np.diff(shifts) > 0).all(1), (moved == turned).mean(1)
    cells = {"valid": valid, "rho": rho, "monotone": monotone * valid, "positive": rho > 0, "sign": sign * valid}
    if truth is not None:
        _, truth = check_sweep(angles, truth)
        if truth.shape != shifts.shape:
            raise InvalidShape(f"truth must be of the shape of the shifts {shifts.shape}, not {truth.shape}")
        m, t = shifts - shifts[:, [middle]], truth - truth[:, [middle]]
        cells |= {"along": (m * t).sum(1), "squared": (t * t).sum(1)}
    return {name: values.astype(float) for name, values in cells.items()}


def sweep_scores(
    angles: np.ndarray,
    shifts: np.ndarray,
    rng: np.random.Generator,
    truth: np.ndarray | None = None,
    threshold_px: float = THRESHOLD_PX,
) -> SweepScores:
    """Scores of shifts (S, A) in pixels under rising angles (A,), S scenes; `truth` has the true shifts (S, A).

    The paper's own are those of whole pixels, `np.round(sweep_shifts(frames, robust=False))`, with a threshold of 1.

    Raises `InvalidShape` for shapes that do not fit or missing values, `InvalidParameter` for angles that do not rise or fewer than 3, and
    for a threshold that is not above 0.
    """
    cells = sweep_cells(angles, shifts, truth, threshold_px)
    rho, valid = cells["rho"], cells["valid"] > 0
    none = Undefined(f"in none of {len(valid)} scenes does the picture move by {threshold_px:g} px over the sweep")
    over_valid = [
        bootstrap_mean(cells[x][valid], rng) if valid.any() else none for x in ("rho", "monotone", "positive", "sign")
    ]
    slope = None
    if truth is not None:
        still = Undefined("the truth does not move")
        slope = bootstrap_ratio(cells["along"], cells["squared"], rng) if cells["squared"].any() else still
    return SweepScores(
        over_valid[0], bootstrap_mean(rho, rng), *over_valid[1:], slope, int(valid.sum()), len(valid), rho, valid
    )


@dataclass(frozen=True)
class InverseControl:
    """Whether the steering that made a future can be read from it.

    Attributes:
        relative: mean absolute error over that of always naming the middle of the sweep; below 1, the future tells something.
        error_rad, chance_rad: both. valid, num_scenes: as in `SweepScores`; in scenes that are not valid, the middle is named.
        named_rad: (S, K) the steering that was read. error_of, chance_of: (S,) of each scene.
    """

    relative: Interval | Undefined
    error_rad: float
    chance_rad: float
    valid: int
    num_scenes: int
    named_rad: np.ndarray
    error_of: np.ndarray
    chance_of: np.ndarray


def inverse_control(
    angles: np.ndarray,
    shifts: np.ndarray,
    targets: np.ndarray,
    target_shifts: np.ndarray,
    rng: np.random.Generator,
    threshold_px: float = THRESHOLD_PX,
) -> InverseControl:
    """The steering of held-out futures, read from their shift by the line that fits the sweep of their scene (DiT-WAM, section 5.5).

    Args:
        angles, shifts: (A,) and (S, A) of the sweep to which angle = a + b shift is fitted, scene by scene.
        targets, target_shifts: (K,) and (S, K): other angles, and their shifts against the sweep's middle, made with other noise.

    Raises as `sweep_scores`, and `InvalidParameter` for targets that are all the middle of the sweep.
    """
    angles, shifts = check_sweep(angles, shifts)
    targets, target_shifts = np.asarray(targets, float), np.asarray(target_shifts, float)
    if target_shifts.shape != (len(shifts), *targets.shape) or not np.isfinite(target_shifts).all():
        raise InvalidShape(
            f"{targets.shape} targets need finite shifts {(len(shifts), *targets.shape)}, not {target_shifts.shape}"
        )
    valid = detected(shifts, threshold_px)
    centred = shifts - shifts.mean(1, keepdims=True)
    spread = np.where(valid, (centred**2).sum(1), 1.0)
    slope = np.where(valid, (centred * (angles - angles.mean())).sum(1) / spread, 0.0)
    named = angles.mean() + slope[:, None] * (target_shifts - shifts.mean(1, keepdims=True))
    error = np.abs(named - targets).mean(1)
    chance = np.broadcast_to(np.abs(targets - angles.mean()).mean(), error.shape)
    if not chance.any():
        raise InvalidParameter(f"targets {targets.tolist()} are all the middle of the sweep: nothing can be recovered")
    relative = bootstrap_ratio(error, chance, rng)
    if not valid.any():
        relative = Undefined(
            f"in none of {len(valid)} scenes does the picture move by {threshold_px:g} px over the sweep"
        )
    means = float(error.mean()), float(chance.mean())
    return InverseControl(relative, *means, int(valid.sum()), len(valid), named, error, chance)


def detected(shifts: np.ndarray, threshold_px: float = THRESHOLD_PX) -> np.ndarray:
    """(S,) bool: whether shifts (S, A) differ by the threshold or more. Raises `InvalidParameter` for one that is not above 0."""
    if not threshold_px > 0:
        raise InvalidParameter(
            f"the detection threshold must be above 0 px, not {threshold_px:g}: what is still has no order"
        )
    return np.ptp(shifts, axis=1) >= threshold_px


def check_sweep(angles: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles (A,) and shifts (S, A) as float64 arrays. Raises as `sweep_scores`."""
    angles, shifts = np.asarray(angles, float), np.asarray(shifts, float)
    if angles.ndim != 1 or len(angles) < 3 or not (np.diff(angles) > 0).all():
        raise InvalidParameter(f"a sweep needs 3 or more rising angles, not {angles.tolist()}")
    if shifts.ndim != 2 or shifts.shape[1] != len(angles) or not len(shifts) or not np.isfinite(shifts).all():
        raise InvalidShape(f"shifts must be finite and (S, {len(angles)}) with S > 0 scenes, not {shifts.shape}")
    return angles, shifts
