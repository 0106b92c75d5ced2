"""Models whose obedience is known, asked to steer in drives whose true answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import IdentityCodec
from steered import Shifts, Store, drives

from wamlab.analysis import controllability as study
from wamlab.analysis.predicting import Candidate
from wamlab.analysis.steering import presents
from wamlab.errors import CounterfactualUnknown, InvalidParameter
from wamlab.metrics.control import sweep_scores
from wamlab.models import CopyPresent
from wamlab.statistics import Undefined

HORIZON, FRAMES = 2, [1, 2]
ANGLES = np.linspace(-0.6, 0.6, 5)
WINDOW = {"num_context": 1, "horizon": HORIZON}
CANDIDATES = {
    "copy": Candidate(CopyPresent(), {}),
    "obeys": Candidate(Shifts(12), {}),
    "twice": Candidate(Shifts(12), {"scale": 2}),
    "rebels": Candidate(Shifts(-12), {}),
    "noise": Candidate(Shifts(0, 0.3), {}),
}


@pytest.fixture(scope="module")
def scenes():
    return drives()


@pytest.fixture(scope="module")
def asked(scenes):
    return presents(scenes, HORIZON)


@pytest.fixture(scope="module")
def truth(asked):
    return study.true_sweep(asked, ANGLES, FRAMES, Store.resolution, keep=[0])


@pytest.fixture(scope="module")
def swept(asked):
    at = {"frames": FRAMES, "seed": 0, "keep": [1], **WINDOW}
    return {
        name: study.sweep(candidate, IdentityCodec(), Store(), asked, ANGLES, **at)
        for name, candidate in CANDIDATES.items()
    }


def test_scores_are_those_of_the_models(swept, truth):
    rng, true_px = np.random.default_rng(0), truth.shifts_px[..., 0]
    scores = {name: sweep_scores(ANGLES, s.shifts_px[..., 0], rng, true_px) for name, s in swept.items()}
    obeys = scores["obeys"]
    assert (obeys.rho.mean, obeys.monotone.mean, obeys.sign.mean) == pytest.approx((1, 1, 1))
    assert (scores["rebels"].rho.mean, scores["rebels"].slope.mean < 0) == (pytest.approx(-1), True)
    assert scores["twice"].slope.mean == pytest.approx(2 * obeys.slope.mean, rel=0.15)
    own = sweep_scores(ANGLES, true_px, rng, true_px)
    assert own.slope.mean == pytest.approx(1) and own.rho.mean > 0.9


def test_the_true_picture_moves_farther_the_later_it_is(truth):
    spans = np.ptp(truth.shifts_px, axis=1)  # (S, K)
    assert (spans[:, 1] > spans[:, 0]).all()
    assert truth.kept[0].shape == (5, 2, 3, Store.resolution, Store.resolution)


def test_cells_count_as_we_do_and_as_the_paper_does(swept, truth):
    cells = swept["obeys"].cells(ANGLES, 0, truth)
    assert set(cells["valid"]) == set(cells["paper_valid"]) == {1.0}
    np.testing.assert_allclose(cells["rho"], 1)
    assert (cells["squared"] > 0).all() and "along" not in swept["obeys"].cells(ANGLES, 0)
    assert not swept["copy"].cells(ANGLES, 0)["paper_valid"].any()


def test_the_noise_is_the_same_under_all_angles(swept):
    """A model that ignores the wheel has pictures that do not move at all, though noise decides them."""
    for name in ("copy", "noise"):
        assert not swept[name].shifts_px.any() and not swept[name].paper_px.any()
    assert not torch.equal(swept["noise"].kept[1], swept["copy"].kept[1])


def test_steering_is_read_from_what_the_models_show(swept, asked):
    rng, found = np.random.default_rng(0), {}
    for name, candidate in CANDIDATES.items():
        between, found[name] = study.recover(
            candidate, IdentityCodec(), Store(), asked, ANGLES, swept[name], frame=1, seed=7, rng=rng, **WINDOW
        )
        np.testing.assert_allclose(between, [-0.45, -0.15, 0.15, 0.45])
    for name in ("obeys", "rebels"):
        assert found[name].relative.mean < 0.3
        assert np.abs(found[name].named_rad - between).mean() == pytest.approx(found[name].error_rad)
        assert found[name].error_of.mean() / found[name].chance_of.mean() == pytest.approx(found[name].relative.mean)
    for name in ("copy", "noise"):
        assert isinstance(found[name].relative, Undefined)
        np.testing.assert_allclose(found[name].named_rad, 0)


def test_recorded_scenes_have_no_truth(asked):
    assert study.true_sweep([(replace(s, world=None), t) for s, t in asked], ANGLES, FRAMES, Store.resolution) is None
    other = [(replace(s, world={**s.world, "moons": 2}), t) for s, t in asked]
    with pytest.raises(CounterfactualUnknown, match="another version of the world"):
        study.true_sweep(other, ANGLES, FRAMES, Store.resolution)


def test_another_drive_s_actions_tell_who_listens(scenes):
    candidates = {"copy": Candidate(CopyPresent(), {}), "listens": Candidate(Shifts(60), {})}
    table = study.wrong_actions(candidates, Store(), scenes, horizon=HORIZON)
    effect = study.action_effect(table, np.random.default_rng(0))
    assert effect["copy"].low == effect["copy"].high == 0 and effect["copy"].n == 3
    assert effect["listens"].mean != 0
    with pytest.raises(InvalidParameter, match="two scenes or more"):
        study.wrong_actions(candidates, Store(), scenes[:1], horizon=HORIZON)


def test_angles_are_those_of_training_and_frames_within_the_horizon(scenes, asked):
    angles = study.training_angles(scenes)
    driven = np.concatenate([s.actions[:, 0] for s in scenes])
    assert len(angles) == 5 and driven.min() <= angles[0] < angles[-1] <= driven.max()
    for frames in ([3], [0, 1], []):
        with pytest.raises(InvalidParameter, match="frames must be 1 to the horizon of 2"):
            study.sweep(CANDIDATES["copy"], IdentityCodec(), Store(), asked, ANGLES, frames=frames, seed=0, **WINDOW)
    with pytest.raises(InvalidParameter, match="drives at 90 m/s"):
        study.training_angles(scenes, min_speed_mps=90)
