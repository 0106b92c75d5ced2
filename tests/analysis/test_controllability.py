"""Models whose obedience is known, asked to steer in drives whose true answer is known."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from helpers import IdentityCodec

from wamlab.analysis import controllability as study
from wamlab.errors import InvalidParameter
from wamlab.models import CopyPresent
from wamlab.statistics import Undefined
from wamlab.types import Rollout, Scene
from wamlab.world.simulation import KEYFRAME_STEPS, SceneSpec, make_world

R, HORIZON = 48, 2
ANGLES = np.linspace(-0.6, 0.6, 5)


class Shifts:
    """Moves the present by `gain` pixels a radian of the last step's steering, and adds noise."""

    def __init__(self, gain: float, noise: float = 0.0) -> None:
        self.gain, self.noise = gain, noise

    def rollout(self, context, actions, generator, scale: float = 1.0):
        frames = [
            c[-1].roll(round(float(scale * self.gain * a[-1, 0])), -1) for c, a in zip(context, actions, strict=True)
        ]
        latents = torch.stack(frames)[:, None].expand(-1, actions.shape[1], -1, -1, -1)
        noise = torch.randn(latents.shape, generator=generator) * self.noise
        return Rollout(latents + noise, actions, "shifts", 0)


def drive(name: str, spec: SceneSpec) -> Scene:
    """A scene as a dataset has it, without its images."""
    log = make_world(spec).simulate()[:-1:KEYFRAME_STEPS]
    actions = np.array([(s.ego.steering_rad, s.ego.accel_mps2, s.ego.speed_mps) for s in log], np.float32)
    pose = np.array([s.ego.pose for s in log])
    return Scene(name, "test", np.arange(len(log)) / 2, (), actions, pose, world=asdict(spec))


class Store:
    """Pictures of nothing in particular, in the place of a latent store."""

    resolution = R

    def fill(self, scenes, progress):
        pass

    def read(self, name):
        texture = torch.rand(1, 3, R, R // 3, generator=torch.Generator().manual_seed(int(name[-1]))) * 2 - 1
        return texture.repeat_interleave(3, -1).expand(20, -1, -1, -1)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    specs = (
        SceneSpec(11, "urban", duration_s=3.0),
        SceneSpec(12, "suburban", duration_s=3.0),
        SceneSpec(14, "rural", duration_s=3.0),
    )
    return [drive(f"scene-{k}", spec) for k, spec in enumerate(specs)]


@pytest.fixture(scope="module")
def found(scenes):
    candidates = {
        "copy": study.Candidate(CopyPresent(), {}),
        "obeys": study.Candidate(Shifts(12), {}),
        "twice": study.Candidate(Shifts(12), {"scale": 2}),
        "rebels": study.Candidate(Shifts(-12), {}),
        "noise": study.Candidate(Shifts(0, 0.3), {}),
    }
    return study.controllability(candidates, IdentityCodec(), Store(), scenes, ANGLES, horizon=HORIZON)


def test_scores_are_those_of_the_models(found):
    scores = found.scores
    assert (scores["obeys"].rho.mean, scores["obeys"].monotone.mean, scores["obeys"].sign.mean) == pytest.approx(
        (1, 1, 1)
    )
    assert (scores["rebels"].rho.mean, scores["rebels"].slope.mean < 0) == (pytest.approx(-1), True)
    assert scores["twice"].slope.mean == pytest.approx(2 * scores["obeys"].slope.mean, rel=0.15)
    assert scores["truth"].slope.mean == pytest.approx(1) and scores["truth"].rho.mean > 0.9


def test_the_noise_is_the_same_under_all_angles(found):
    """A model that ignores the wheel has pictures that do not move at all, though noise decides them."""
    for name in ("copy", "noise"):
        assert found.scores[name].valid == 0 and isinstance(found.scores[name].rho, Undefined)
        assert isinstance(found.inverse[name].relative, Undefined)
    assert not torch.equal(found.frames["noise"], found.frames["copy"])


def test_steering_is_read_from_what_the_models_show(found):
    assert found.inverse["obeys"].relative.mean < 0.3 and found.inverse["rebels"].relative.mean < 0.3


def test_the_table_says_how_many_scenes_count(found):
    table = found.table()
    assert list(table.index) == ["truth", "copy", "obeys", "twice", "rebels", "noise"]
    assert table.loc["copy", "valid scenes"] == "0 of 3"
    assert "in none of 3 scenes" in table.loc["copy", "Spearman's ρ ↑"] and "nan" not in table.to_string().lower()
    assert table.loc["truth", "inverse control, error over chance ↓"] == "–"
    assert found.shifts.groupby("candidate").size().eq(3 * len(ANGLES)).all()


def test_recorded_scenes_have_no_truth_but_all_else(scenes):
    recorded = [replace(scene, world=None) for scene in scenes[:2]]
    candidates = {"obeys": study.Candidate(Shifts(12), {})}
    found = study.controllability(candidates, IdentityCodec(), Store(), recorded, ANGLES, horizon=HORIZON)
    assert list(found.scores) == ["obeys"] and found.scores["obeys"].slope is None
    assert found.table().loc["obeys", "slope on the truth (truth = 1)"] == "–"


def test_another_drive_s_actions_tell_who_listens(scenes):
    candidates = {"copy": study.Candidate(CopyPresent(), {}), "listens": study.Candidate(Shifts(60), {})}
    table = study.wrong_actions(candidates, Store(), scenes, horizon=HORIZON)
    effect = study.action_effect(table, np.random.default_rng(0))
    assert effect["copy"].low == effect["copy"].high == 0 and effect["copy"].n == 3
    assert effect["listens"].mean != 0
    with pytest.raises(InvalidParameter, match="two scenes or more"):
        study.wrong_actions(candidates, Store(), scenes[:1], horizon=HORIZON)


def test_angles_are_those_of_training_and_steps_within_the_horizon(scenes):
    angles = study.training_angles(scenes)
    driven = np.concatenate([s.actions[:, 0] for s in scenes])
    assert len(angles) == 5 and driven.min() <= angles[0] < angles[-1] <= driven.max()
    with pytest.raises(InvalidParameter, match="step must be 1 to the horizon of 2"):
        study.controllability({}, IdentityCodec(), Store(), scenes, ANGLES, horizon=HORIZON, step=3)
    with pytest.raises(InvalidParameter, match="drives at 90 m/s"):
        study.training_angles(scenes, min_speed_mps=90)
