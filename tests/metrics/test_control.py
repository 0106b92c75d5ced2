"""Scores of constructed sweeps, whose answers are known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.metrics.control import inverse_control, sweep_scores, sweep_shifts
from wamlab.statistics import Undefined

ANGLES = np.linspace(-1, 1, 5)


def rng():
    return np.random.default_rng(0)


def test_a_model_that_obeys():
    truth = np.outer([8.0, 12.0, 5.0], ANGLES)
    found = sweep_scores(ANGLES, 0.5 * truth, rng(), truth)
    for score in (found.rho, found.rho_all, found.monotone, found.positive, found.sign):
        assert (score.mean, score.low, score.high, score.n) == pytest.approx((1, 1, 1, 3))
    assert found.slope.mean == pytest.approx(0.5) and (found.valid, found.num_scenes) == (3, 3)
    against = sweep_scores(ANGLES, -truth, rng(), truth)
    assert (against.rho.mean, against.sign.mean, against.monotone.mean, against.positive.mean) == pytest.approx(
        (-1, 0, 0, 0)
    )
    assert against.slope.mean == pytest.approx(-1)


def test_strict_monotonicity_is_more_than_a_positive_rank_correlation():
    shifts = np.array([[-2, -1, 0, 1, 2], [-2, -1, 0, 2, 1], [-2, 0, 0, 0, 2], [2, -1, 0, 1, 2]], float)
    found = sweep_scores(ANGLES, shifts, rng())
    assert found.monotone.mean == 0.25 and found.positive.mean == 1  # the paper would call all four monotone
    assert found.rho_of == pytest.approx([spearmanr(ANGLES, s).statistic for s in shifts])
    assert found.rho.mean == pytest.approx(found.rho_of.mean())
    assert found.sign.mean == pytest.approx((1 + 1 + 0.5 + 0.75) / 4)
    assert found.slope is None


def test_only_scenes_that_move_are_valid_and_the_others_are_counted():
    shifts = np.array([[-1, -0.5, 0, 0.5, 1], [-0.2, 0.1, 0, 0.1, 0.2], [0, 0, 0, 0, 0]])
    found = sweep_scores(ANGLES, shifts, rng(), threshold_px=0.5)
    assert (found.valid, found.num_scenes) == (1, 3) and found.valid_of.tolist() == [True, False, False]
    assert found.rho.mean == pytest.approx(1) and found.rho.n == 1
    assert found.rho_all.mean == pytest.approx(1 / 3) and found.rho_all.n == 3


def test_a_copy_of_the_present_is_marked():
    truth = np.outer([8.0, 12.0], ANGLES)
    found = sweep_scores(ANGLES, 0 * truth, rng(), truth)
    for score in (found.rho, found.monotone, found.positive, found.sign):
        assert isinstance(score, Undefined) and "in none of 2 scenes" in str(score) and "0.5 px" in str(score)
    assert found.slope.mean == found.rho_all.mean == 0 and found.valid == 0
    nothing = inverse_control(ANGLES, 0 * truth, np.array([-0.5, 0.5]), np.zeros((2, 2)), rng())
    assert isinstance(nothing.relative, Undefined) and nothing.valid == 0
    assert nothing.error_rad == pytest.approx(nothing.chance_rad) == pytest.approx(0.5)
    assert isinstance(sweep_scores(ANGLES, truth, rng(), 0 * truth).slope, Undefined)


def test_steering_is_recovered_from_what_it_does():
    gains, offsets = np.array([[8.0], [12.0], [-5.0]]), np.array([[0.3], [-1.0], [0.0]])
    shifts, targets = gains * ANGLES + offsets, (ANGLES[1:] + ANGLES[:-1]) / 2
    exact = inverse_control(ANGLES, shifts, targets, gains * targets + offsets, rng())
    assert exact.relative.mean == pytest.approx(0, abs=1e-12) and exact.valid == exact.num_scenes == 3
    halfway = inverse_control(ANGLES, shifts, targets, gains * targets / 2 + offsets, rng())
    assert halfway.relative.mean == pytest.approx(0.5)
    opposite = inverse_control(ANGLES, shifts, targets, -gains * targets + offsets, rng())
    assert opposite.relative.mean == pytest.approx(2)
    assert opposite.error_rad == pytest.approx(2 * np.abs(targets).mean())


def test_the_line_is_numpy_s():
    shifts = np.random.default_rng(1).normal(size=(4, 5)) * 5
    asked = np.random.default_rng(2).normal(size=(4, 2)) * 5
    targets = np.array([-0.5, 0.5])
    errors = [
        np.abs(np.polyval(np.polyfit(s, ANGLES, 1), a) - targets).mean() for s, a in zip(shifts, asked, strict=True)
    ]
    assert inverse_control(ANGLES, shifts, targets, asked, rng()).error_rad == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("robust", [False, True])
def test_shifts_of_pictures(robust):
    picture = torch.as_tensor(np.random.default_rng(0).integers(0, 256, (1, 32, 16), np.uint8)).repeat_interleave(4, 2)
    frames = torch.stack([picture.roll(s, 2).expand(3, -1, -1) for s in (-4, -2, 0, 2, 4)])
    both = torch.stack([frames, frames.flip(0)])
    assert sweep_shifts(both, robust) == pytest.approx(np.array([[-4, -2, 0, 2, 4], [4, 2, 0, -2, -4]]), abs=0.3)
    assert not sweep_shifts(frames[:1].expand_as(frames), robust).any()
    assert not sweep_shifts(torch.full_like(frames, 7), robust).any()


def test_what_is_no_sweep_is_refused():
    with pytest.raises(InvalidParameter, match="3 or more rising angles"):
        sweep_scores(ANGLES[::-1], np.ones((2, 5)), rng())
    with pytest.raises(InvalidShape, match=r"\(S, 5\)"):
        sweep_scores(ANGLES, np.ones((2, 4)), rng())
    with pytest.raises(InvalidShape, match="finite"):
        sweep_scores(ANGLES, np.full((2, 5), np.nan), rng())
    with pytest.raises(InvalidShape, match=r"shape of the shifts \(2, 5\), not \(3, 5\)"):
        sweep_scores(ANGLES, np.ones((2, 5)), rng(), np.ones((3, 5)))
    with pytest.raises(InvalidShape, match="targets need finite shifts"):
        inverse_control(ANGLES, np.ones((2, 5)), np.ones(2), np.ones((2, 3)), rng())
    with pytest.raises(InvalidParameter, match="all the middle"):
        inverse_control(ANGLES, np.ones((2, 5)), np.zeros(2), np.ones((2, 2)), rng())
    with pytest.raises(InvalidParameter, match="above 0 px, not 0"):
        sweep_scores(ANGLES, np.ones((2, 5)), rng(), threshold_px=0)
