"""Calibration that undoes a known distortion, from training scenes alone; dials whose ends are known."""

import numpy as np
import pytest
import torch

from wamlab.analysis import calibration
from wamlab.analysis.calibration import ORACLE, TRAINING, fit_calibration, interpolate, training_calibration
from wamlab.analysis.controllability import Candidate
from wamlab.errors import InvalidParameter, InvalidShape, TooFewSamples
from wamlab.types import Rollout, Scene

F, C = 3, 4
GAIN = torch.tensor([2.0, 0.5, 3.0, 1.0]).view(C, 1, 1)
TINT = torch.tensor([1.0, -2.0, 0.0, 5.0]).view(C, 1, 1)


def latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_known_distortion_is_undone_on_other_windows():
    train, test = latents(60, F, C, 8, 8), latents(20, F, C, 8, 8, seed=1)
    found = fit_calibration(train * GAIN + TINT, train, TRAINING)
    assert torch.allclose(found(test * GAIN + TINT), test, atol=1e-4)
    assert torch.allclose(found.spread, GAIN.flatten().expand(F, C), rtol=1e-4)
    assert (found.source, found.num_windows) == (TRAINING, 60)


def test_the_statistics_become_those_of_the_truth():
    preds, truth = 2.6 * latents(30, F, C, 8, 8) + 0.4, 1.5 * latents(30, F, C, 8, 8, seed=2) - 1
    oracle = fit_calibration(preds, truth, ORACLE)(preds)
    assert torch.allclose(oracle.mean((0, 3, 4)), truth.mean((0, 3, 4)), atol=1e-4)
    assert torch.allclose(oracle.std((0, 3, 4)), truth.std((0, 3, 4)), rtol=1e-4)


def test_steps_have_their_own_and_constants_are_only_moved():
    truth = latents(30, 2, 1, 4, 4)
    preds = torch.cat([truth[:, :1] * 3, torch.full_like(truth[:, 1:], 7.0)], 1)
    found = fit_calibration(preds, truth, TRAINING)
    assert torch.allclose(found(preds)[:, 0], truth[:, 0], atol=1e-4)
    assert torch.allclose(found(preds)[:, 1], truth[:, 1].mean().expand(30, 1, 4, 4), atol=1e-4)
    assert float(found(preds + 0.1)[0, 1].mean() - found(preds)[0, 1].mean()) == pytest.approx(0.1, abs=1e-4)


class Tinted:
    """Predicts the present, louder and tinted."""

    def rollout(self, context, actions, generator, gain=1.0):
        future = context[:, -1:].expand(-1, actions.shape[1], -1, -1, -1)
        return Rollout(gain * future * GAIN + TINT, actions, "tinted", 0)


class Store:
    def __init__(self):
        self.filled = []

    def fill(self, scenes, progress):
        self.filled += [scene.name for scene in scenes]

    def read(self, name):
        return latents(12, C, 4, 4, seed=int(name[-1]))


def scene(k: int, split: str) -> Scene:
    return Scene(f"scene-{k}", split, np.arange(12) / 2, (), np.zeros((12, 3), np.float32), np.zeros((12, 3)))


def test_the_deployable_one_sees_training_scenes_only():
    store, scenes = Store(), [scene(k, "train") for k in range(4)]
    found = training_calibration(Candidate(Tinted(), {}), store, scenes, horizon=F, num_windows=20)
    assert found.source == TRAINING and found.num_windows == 20 and sorted(store.filled) == [s.name for s in scenes]
    assert found.spread[0] == pytest.approx(GAIN.flatten().numpy(), rel=0.2)
    loud = training_calibration(Candidate(Tinted(), {"gain": 2.0}), store, scenes, horizon=F, num_windows=20)
    assert loud.spread.numpy() == pytest.approx(2 * found.spread.numpy(), rel=1e-4)
    with pytest.raises(InvalidParameter, match=r"scene-9 is not a training scene \(1 of 5.*oracle"):
        training_calibration(Candidate(Tinted(), {}), store, [*scenes, scene(9, "test")], horizon=F)
    with pytest.raises(TooFewSamples, match="0 windows of 1 . 30 frames"):
        training_calibration(Candidate(Tinted(), {}), store, scenes, horizon=30)


def test_the_ends_of_the_interpolation():
    a, b = latents(2, F, C, 4, 4), latents(2, F, C, 4, 4, seed=1)
    assert torch.equal(interpolate(a, b, 0), a) and torch.equal(interpolate(a, b, 1), b)
    assert torch.allclose(interpolate(a, b, 0.5), (a + b) / 2, atol=1e-6)
    with pytest.raises(InvalidParameter, match=r"\[0, 1\], not 2"):
        interpolate(a, b, 2)
    with pytest.raises(InvalidShape, match="one shape"):
        interpolate(a, b[:1], 0.5)


def test_warm_starts_share_their_noise():
    class Dial:
        def rollout(self, context, actions, generator, start, strength):
            noise = torch.randn(start.shape, generator=generator)
            return Rollout(torch.lerp(start, noise, strength), actions, "dial", 0)

    start = latents(2, F, C, 4, 4)
    found = calibration.warm_starts(Dial(), start[:, :1], torch.zeros(2, F, 3), start, (0.0, 0.5, 1.0))
    assert torch.equal(found[0.0], start) and torch.allclose(found[0.5], (start + found[1.0]) / 2, atol=1e-6)


def test_what_does_not_fit_is_refused():
    x = latents(4, F, C, 4, 4)
    with pytest.raises(InvalidShape, match="of one shape"):
        fit_calibration(x, x[:2], TRAINING)
    with pytest.raises(TooFewSamples, match="2 windows or more, not 1"):
        fit_calibration(x[:1], x[:1], TRAINING)
    with pytest.raises(InvalidParameter, match="says what it saw"):
        fit_calibration(x, x, "validation")
    with pytest.raises(InvalidShape, match=r"\(F, c\) = \(3, 4\)"):
        fit_calibration(x, x, ORACLE)(x[:, :2])
