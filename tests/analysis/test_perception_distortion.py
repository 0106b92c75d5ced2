"""The whole way of notebook 03 with the smallest models, and its judgements on tables with known answers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import make_dataset

from wamlab import statistics
from wamlab.analysis import capacity, dials, plane
from wamlab.analysis import perception_distortion as module
from wamlab.analysis.claims import evaluate
from wamlab.analysis.dials import ALPHAS, GUIDANCE, NO_RESULT, STRENGTHS
from wamlab.analysis.frontier import CEILING, METRICS, WHOLE
from wamlab.analysis.frontier_claims import CLAIMS, answer, trade_off
from wamlab.analysis.windows import Windows
from wamlab.codecs import SmallVae, load_codec, save_small_vae
from wamlab.config import override
from wamlab.errors import InvalidParameter, UnknownName, WeightsMissing
from wamlab.metrics.features import Extractor
from wamlab.plots import frontier as draw
from wamlab.plots.rollouts import error_over_horizon
from wamlab.plots.style import MODEL_STYLE
from wamlab.presets import PRESETS, get_preset
from wamlab.statistics import Interval, Undefined
from wamlab.types import Rollout
from wamlab_widgets import FrontierExplorer, RolloutPlayer

SPLITS = ("train", "train", "val", "test", "test", "test")


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frontier")
    make_dataset(folder / "drives", {f"scene-{i:04d}": split for i, split in enumerate(SPLITS, 1)})
    save_small_vae(SmallVae(PRESETS["smoke"].small_vae.model), folder / "vae.safetensors")
    changes = {"codec": str(folder / "vae.safetensors"), "resolution": 32, "seeds": (0, 1), "sampler_steps": 3}
    changes |= {"diagnosis.encoder": "vit-s16/random", "windows_per_scene": 2, "strength": 0.5}
    changes |= {f"{name}.train.steps": 2 for name in ("direct", "diffusion", "jump", "jump_diffusion")}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "RUNS"):
            patch.setenv(f"WAMLAB_{name}", str(folder / name.lower()))
        yield {
            "dataset": str(folder / "drives"), "preset": "smoke", "overrides": changes, "progress": False,
            "calibration_windows": 4, "training_frames": 6, "num_shown": 3,
        }  # fmt: skip


@pytest.fixture(scope="module")
def study(setting):
    return module.study(**setting, capacity=2)


def test_every_point_is_measured(study):
    names = [s.name for s in study.settings]
    assert len(set(names)) == len(names) and {s.model for s in study.settings} <= set(MODEL_STYLE)
    dialled = len(ALPHAS) + len(STRENGTHS) + len(GUIDANCE)
    assert sum(s.model in ("interpolation", "warm", "guided") for s in study.settings) == dialled
    assert {"diffusion, 1 step", "diffusion, 6 steps", "diffusion, preset, noise 0.5", *NO_RESULT} <= set(names)
    last = study.at_last
    for metric in (*METRICS, "sigma", "sigma_1"):
        assert list(last[last.metric == metric].variant) == names, metric
    assert (study.levels.low <= study.levels["mean"]).all() and (study.levels["mean"] <= study.levels.high).all()
    whole = set(study.levels[study.levels.step == WHOLE].variant)
    assert whole == {s.name for s in study.settings if s.whole}
    assert study.kind == "KD[vit-s16/random]" and study.summary.shape[0] == len(names)
    ceiling = last[(last.variant == CEILING) & (last.metric == "cosine")]["mean"].item()
    assert ceiling == pytest.approx(1)
    assert study.memory.iloc[0].iloc[0] == "1 [1, 1]", "held-out frames are as far as held-out frames"
    oracle = last[(last.variant == "diffusion, oracle calibration") & (last.metric == "sigma")]["mean"].item()
    assert oracle == pytest.approx(1, abs=0.2), "the jackknife's correction apart"


def test_findings_say_what_they_rest_on(study):
    assert len(study.findings) == len(CLAIMS) + 2, "with the trade-off and the capacity"
    for finding in study.findings:
        assert "3 held-out scenes, 2 seeds" in finding.measured_on
        assert finding.measured is None or finding.interval[0] <= finding.measured <= finding.interval[1]
    assert study.findings[-1].claim.startswith("A diffusion model of") and study.findings[-1].measured is not None
    assert list(study.capacity["training steps"]) == [2, 2]
    small, large = study.capacity.parameters
    assert small < large
    assert study.answer.startswith("Of the models, ") and "3 held-out drives" in study.answer
    assert {f"cosine/{s.name}" for s in study.settings} <= set(study.metrics)
    assert all(low <= value <= high for value, low, high in study.metrics.values())


def test_the_page_takes_what_the_study_gives(study):
    explorer = FrontierExplorer(
        study.points, study.truth, styles=draw.explorer_styles(study.points), labels=study.labels
    )
    assert len(study.points) == len(study.settings) - 1, "the ceiling is no prediction"
    assert study.points[draw.place_of("direct", study.points)]["model"] == "direct" and explorer.chosen == 0
    assert any(point["on_frontier"] for point in study.points)
    assert not any(point["on_frontier"] for point in study.points if point["model"] == "oracle")
    RolloutPlayer(study.shown, styles=draw.row_styles(study.sheet))
    assert len(study.shown) == 3 and study.shown[0]["rows"]["truth"].shape == (1 + PRESETS["smoke"].horizon, 32, 32, 3)
    assert draw.sheet(study.sheet).shape == (8 * 32 + 7 * 3, 3 * 32 + 2 * 3, 3)
    figure = draw.plane(study.at_last, study.settings, study.time_s, NO_RESULT)
    assert "3 held-out drives, 2 s ahead" in figure.layout.title.subtitle.text
    drawn = [len(t.x) for t in figure.data if t.xaxis == "x2"]
    assert sum(drawn) == len(study.settings), "every point is in the right panel"
    assert [t.name for t in figure.data][-1] == "frontier"
    assert len(draw.spread_dots(study.at_last, study.settings).data) == 2 * sum(
        s.whole or s.model in ("diffusion", "oracle") for s in study.settings if s.name != CEILING
    )
    assert len(set(draw.titles(study.settings).values())) == len(study.settings), "no two points are called the same"
    assert error_over_horizon(study.curves, ("cosine", "kd"), each="the same").data


def test_again_it_is_the_same_and_trains_nothing(study, setting, monkeypatch):
    monkeypatch.setattr("wamlab.training.loop.BatchOrder", lambda *_: pytest.fail("nothing is left to train"))
    again = module.study(**setting, capacity=0)
    assert again.metrics == study.metrics and again.answer == study.answer
    assert again.findings[-1].measured is None and again.findings[-1].verdict == statistics.INCONCLUSIVE
    assert "not trained unless asked for" in again.findings[-1].measured_on
    assert list(again.capacity["training steps"]) == ["not trained", "not trained"]


def test_two_windows_have_no_distance_and_the_page_says_so(setting):
    alone = setting["overrides"] | {"windows_per_scene": 1, "seeds": (0,)}
    study = module.study(**setting | {"overrides": alone}, num_scenes=2)
    assert "could not be measured" in study.answer and study.points == []
    judged = {f.claim: f for f in study.findings}
    realism = next(f for claim, f in judged.items() if claim.startswith("Diffusion looks more like real"))
    assert realism.measured is None and realism.verdict == statistics.INCONCLUSIVE
    assert all(np.isfinite(v).all() for v in map(np.array, study.metrics.values()))
    assert "too few frames" in draw.plane(study.at_last, study.settings, 2.0, NO_RESULT).layout.annotations[-1].text
    FrontierExplorer(study.points, study.truth, labels=study.labels)


def test_mistakes_are_named(setting):
    with pytest.raises(InvalidParameter, match="num_scenes must be at least 2.*not 1, "):
        module.study(**setting, num_scenes=1)
    with pytest.raises(InvalidParameter, match="capacity at least 0"):
        module.study(**setting, capacity=-1)
    with pytest.raises(UnknownName, match="no-such-net"):
        module.study(**setting, features="no-such-net")


def test_fid_by_name_where_it_can_be_had(monkeypatch):
    paper, smoke = get_preset("paper"), get_preset("smoke")
    inception = Extractor("inception-v3", "0", "none", lambda x: x, inception=True)
    monkeypatch.setattr(plane, "inception_features", lambda device: inception)
    monkeypatch.setattr(plane, "encoder_features", lambda name, device: Extractor(name, "1", "none", lambda x: x))
    assert plane.extractor_of("", paper).label("K") == "KID"
    assert plane.extractor_of(plane.INCEPTION, smoke).label("F") == "FID"
    assert plane.extractor_of("", smoke).label("K") == f"KD[{smoke.diagnosis.encoder}]"

    def refuse(device):
        raise WeightsMissing("not here")

    monkeypatch.setattr(plane, "inception_features", refuse)
    assert plane.extractor_of("", paper).label("K") == f"KD[{paper.diagnosis.encoder}]"
    with pytest.raises(WeightsMissing):
        plane.extractor_of(plane.INCEPTION, paper)


class Fake:
    """Says which settings it was asked with."""

    def __init__(self, name):
        self.name = name

    def rollout(self, context, actions, generator, steps=0, guidance=1.0, strength=1.0, start=None):
        value = 1.0 if self.name == "direct" else 100 * steps + 10 * guidance + strength
        latents = torch.full((len(context), actions.shape[1], *context.shape[2:]), value)
        return Rollout(latents if start is None else latents + 1000 * start, actions, self.name, 0)


def test_dials_turn_one_thing(monkeypatch):
    z = torch.randn(4, 2, 3, 2, 2)
    windows = Windows(("a", "a", "b", "b"), (1, 2, 1, 2), ("",) * 4, z[:, :1], z, torch.zeros(4, 2, 3), np.ones(2))
    monkeypatch.setattr(dials, "training_calibration", lambda candidate, *_, **__: lambda preds: preds + 1e6)
    models = {name: Fake(name) for name in (*dials.TRAINED, "copy", "warp")}
    found = {
        s.name: float(latents.mean())
        for s, latents in dials.predictions(models, windows, None, [], 6, strength=0.4) if s.model != "oracle"
    }  # fmt: skip
    assert found["diffusion"] == pytest.approx(611)
    assert [found[f"diffusion, {n}"] for n in ("1 step", "2 steps", "12 steps")] == pytest.approx([111, 211, 1211])
    assert found["diffusion, guidance 3"] == pytest.approx(631)
    assert found["interpolation, α = 0.25"] == pytest.approx(0.75 + 0.25 * 611)
    assert found["warm start, noise 0.7"] == pytest.approx(1610.7), "from direct's future"
    assert found["diffusion, preset, noise 0.4"] == pytest.approx(610.4)
    assert found["diffusion, calibrated"] == pytest.approx(1e6 + 611) and found["jump"] == found["warp"]
    same = [s.name for s, _ in dials.predictions(models, windows, None, [], 1)]
    assert len(same) == len(set(same)) and not any("preset" in name for name in same)


def levels(**values: tuple[float, float]) -> pd.DataFrame:
    rows = [
        {"variant": name, "step": 4, "metric": m, "mean": v, "low": v - 0.1, "high": v + 0.1, "n": 24}
        for name, pair in values.items()
        for m, v in zip(("cosine", "kd"), pair, strict=True)
    ]
    return pd.DataFrame(rows)


def test_no_model_wins_both_or_one_does():
    near, real = {"direct": (0.7, 0.3), "diffusion": (0.4, 0.1)}, {"direct": (0.7, 0.0), "diffusion": (0.4, 0.1)}
    for pair, sign in ((near, 1), (real, -1)):
        claim = trade_off(levels(**pair), ["direct", "diffusion"])
        assert list(claim.of.items()) == [("direct", 1), ("diffusion", -1)]
        rows = [
            {"variant": name, "seed": 0, "scene": f"{i}", "kd": kd + 0.001 * i}
            for name, (_, kd) in pair.items() for i in range(9)
        ]  # fmt: skip
        found = evaluate(claim, [pd.DataFrame(rows)], np.random.default_rng(0))
        assert np.sign(found.mean) == sign
        said = answer(levels(**pair), list(pair), {n: f"model {n}" for n in pair}, claim, found, 2.0)
        assert ("no model wins both" in said) == (sign > 0) and ("one model wins both" in said) == (sign < 0)
        assert said.startswith("Of the models, model direct comes nearest to the truth 2 s ahead")
    unsure = answer(levels(**near), list(near), {n: n for n in near}, claim, Interval(0.1, -0.1, 0.3, 9), 2.0)
    assert "cannot be said from these drives" in unsure
    assert trade_off(levels(direct=(0.7, 0.1)), ["direct", "jump"]) is None
    assert "could not be measured" in answer(
        levels(direct=(0.7, 0.1)), ["direct"], {"direct": "it"}, None, Undefined(""), 2.0
    )


def test_the_two_sizes_differ_in_depth_alone(setting):
    settings = override(get_preset("smoke"), setting["overrides"])
    small, large = capacity.sizes(settings, 7).values()
    assert override(small, {"diffusion.model.depth": settings.diffusion.model.depth}) == large
    assert small.diffusion.model.depth * 2 == large.diffusion.model.depth
    assert small.diffusion.train.steps == 7 and small.diffusion.start is None
    paper = capacity.claim(get_preset("paper"), SimpleNamespace(channels=4, downsample=8), 0)
    assert paper.claim.startswith("A diffusion model of 5.4 M parameters looks more real than one of 3 M")
    quick = capacity.claim(get_preset("quick"), load_codec("small-vae", "cpu"), 0)
    assert quick.claim.startswith("A diffusion model of 1.4 M parameters")
