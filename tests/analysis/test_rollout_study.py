"""The whole way from drives on disk to findings, with the smallest models."""

import dataclasses

import pytest
from helpers import make_dataset

from wamlab.analysis import rollout_study
from wamlab.analysis.rollout_measures import MOTION, PER_FRAME
from wamlab.analysis.warm_starts import ROUTES
from wamlab.codecs import SmallVae, save_small_vae
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.plots.rollouts import METRIC_AXES, warm_start_dial
from wamlab.plots.rollouts import ROUTES as DRAWN
from wamlab.plots.style import LABELS, MODEL_STYLE
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
    study = rollout_study.study(**setting)
    assert set(study.measures.frames.scene) == {"scene-0004", "scene-0005"}
    assert len(study.findings) == len(rollout_study.CLAIMS)
    assert all("smoke preset, 2 held-out scenes, 1 seed" in f.measured_on for f in study.findings)
    assert study.reach_s == 2.0 and study.whole_s == 5.5, "drives of 12 frames shorten the 8 s"
    assert "2 held-out drives" in study.answer
    assert study.weights.startswith("direct: trained on") and "jump-diffusion: trained on" in study.weights
    assert list(study.shown[0]["rows"]) == ["truth", *rollout_study.MODELS]
    assert study.shown[0]["rows"]["truth"].shape == (12, 32, 32, 3)
    again = rollout_study.study(**setting)
    assert study.metrics == again.metrics
    assert study.answer == again.answer
    assert [dataclasses.asdict(f) for f in study.findings] == [dataclasses.asdict(f) for f in again.findings]


def test_the_dial_starts_at_the_guess_and_ends_at_noise(setting):
    study = rollout_study.study(**setting, strengths=(0.0, 1.0))
    at = study.dial.set_index(["route", "strength", "metric"])["mean"]
    assert at["diffusion from direct", 0.0, "cosine"] == pytest.approx(study.metrics["direct/cosine"][0], abs=1e-6)
    assert at["diffusion from direct", 1.0, "cosine"] == at["diffusion", 1.0, "cosine"]
    assert at["diffusion", 0.0, "low"] == at["jump-diffusion", 0.0, "low"] == 0, (
        "the anchor stands still in this preset"
    )
    figure = warm_start_dial(study.dial, study.metrics)
    assert "2 held-out scenes" in figure.layout.title.subtitle.text
    assert {"diffusion, from direct", "jump chain"} <= {t.name for t in figure.data if t.showlegend is not False}
    assert rollout_study.study(**setting, strengths=()).dial is None


def test_several_seeds_are_crossed_with_scenes(setting):
    overrides = setting["overrides"] | {"seeds": [0, 1]}
    study = rollout_study.study(
        **setting | {"overrides": overrides}, models=("copy", "direct", "jump"), seconds=2.0, strengths=()
    )
    assert study.measures.frames.groupby("model").seed.nunique().to_dict() == {"copy": 1, "direct": 2, "jump": 2}
    assert study.findings[0].measured_on.count("2 seeds") == 1
    assert study.reach_s == study.whole_s == 2.0
    assert len(study.shown[0]["rows"]) == 4


def test_every_model_has_a_style_and_a_name():
    assert {"truth", *rollout_study.MODELS} <= set(MODEL_STYLE) == set(LABELS)
    assert set(rollout_study.MODELS) == set(rollout_study.CALLED)
    assert set(rollout_study.NAMES) == {*PER_FRAME, *MOTION} <= set(METRIC_AXES)
    assert set(DRAWN) == set(ROUTES)


def test_mistakes_are_named_before_anything_is_trained(setting):
    with pytest.raises(InvalidParameter, match="at least 2"):
        rollout_study.study(**setting, num_scenes=1)
    with pytest.raises(InvalidParameter, match="seconds above 0"):
        rollout_study.study(**setting, seconds=0.0)
    with pytest.raises(UnknownName, match="known: shipped, train"):
        rollout_study.study(**setting, weights="mine")
    with pytest.raises(UnknownName, match="known: paper, quick, smoke"):
        rollout_study.study(**setting | {"preset": "huge"})
