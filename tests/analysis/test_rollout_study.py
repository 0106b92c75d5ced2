"""The whole way from drives on disk to findings, with the smallest models."""

import dataclasses

import pytest
from helpers import make_dataset

from wamlab.analysis import rollouts
from wamlab.codecs import SmallVae, save_small_vae
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.presets import PRESETS


@pytest.fixture
def setting(project, monkeypatch):
    drives = {
        "scene-0001": "train",
        "scene-0002": "train",
        "scene-0003": "val",
        "scene-0004": "test",
        "scene-0005": "test",
    }
    make_dataset(project / "drives", drives)
    save_small_vae(SmallVae(PRESETS["smoke"].small_vae.model), project / "vae.safetensors")
    return {
        "dataset": str(project / "drives"),
        "preset": "smoke",
        "overrides": {
            "codec": "vae.safetensors",
            "resolution": 32,
            "direct.train.steps": 2,
            "diffusion.train.steps": 2,
            "jump.train.steps": 2,
            "jump_diffusion.train.steps": 2,
        },
        "progress": False,
    }


def test_from_drives_to_findings(setting):
    study = rollouts.study(**setting)
    assert set(study.per_frame.scene) == {"scene-0004", "scene-0005"}
    assert len(study.findings) == 3
    assert "2 held-out drives" in study.answer
    assert study.weights.startswith("direct: trained on") and "jump-diffusion: trained on" in study.weights
    assert study.shown[0]["rows"]["truth"].shape == (1 + PRESETS["smoke"].horizon, 32, 32, 3)
    again = rollouts.study(**setting)
    assert study.metrics == again.metrics
    assert study.answer == again.answer
    assert [dataclasses.asdict(f) for f in study.findings] == [dataclasses.asdict(f) for f in again.findings]


def test_mistakes_are_named_before_anything_is_trained(setting):
    with pytest.raises(InvalidParameter, match="at least 2"):
        rollouts.study(**setting, num_scenes=1)
    with pytest.raises(UnknownName, match="known: shipped, train"):
        rollouts.study(**setting, weights="mine")
    with pytest.raises(UnknownName, match="known: paper, quick, smoke"):
        rollouts.study(**setting | {"preset": "huge"})
