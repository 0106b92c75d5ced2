"""The whole way of notebook 02: every variant trained on short drives with the smallest networks, measured and judged."""

import pytest
from helpers import make_dataset

from wamlab.analysis import controlled, diagnosis
from wamlab.analysis.claims import CLAIMS, HYPOTHESES, INGREDIENTS
from wamlab.analysis.controlled import POOLED, SPATIAL, Variant, changed, open_space
from wamlab.codecs import SmallVae, load_codec, save_small_vae
from wamlab.config import override, to_dict
from wamlab.data import open_dataset
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.models import model_config
from wamlab.plots import diagnosis as draw
from wamlab.plots.training import LiveCurves
from wamlab.presets import PRESETS, get_preset
from wamlab_widgets import RolloutPlayer

SPLITS = ("train", "train", "val", "test", "test", "test")


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnosis")
    splits = {f"scene-{i:04d}": split for i, split in enumerate(SPLITS, 1)}
    make_dataset(folder / "drives", splits)
    save_small_vae(SmallVae(PRESETS["smoke"].small_vae.model), folder / "vae.safetensors")
    changes = {"codec": str(folder / "vae.safetensors"), "resolution": 64, "diagnosis.encoder": "vit-s16/random"}
    for space in ("pooled", "spatial"):
        changes |= {f"diagnosis.{space}.train.steps": 2, f"diagnosis.{space}.train.log_every": 1}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "RUNS"):
            patch.setenv(f"WAMLAB_{name}", str(folder / name.lower()))
        yield {"dataset": str(folder / "drives"), "preset": "smoke", "overrides": changes, "progress": False}


@pytest.fixture(scope="module")
def study(setting):
    return diagnosis.study(**setting, num_shown=2)


def spaces(setting):
    settings = override(get_preset("smoke"), setting["overrides"])
    data, codec = open_dataset(setting["dataset"]), load_codec(settings.codec, "cpu")
    return {name: open_space(name, settings, data, codec) for name in (POOLED, SPATIAL)}


def test_everything_is_measured(study):
    assert set(study.frames.variant) == set(diagnosis.VARIANTS) == set(diagnosis.TITLES)
    spatial = {name for name, variant in diagnosis.VARIANTS.items() if variant.space == SPATIAL}
    assert set(study.drives.variant) == spatial
    assert study.drives.kd.notna().all()
    assert (study.frames.groupby(["variant", "seed"]).size() == 3 * 4).all(), "three drives, four frames"
    assert set(study.frames.seed) == {0, 1}
    assert (study.levels.low <= study.levels["mean"]).all() and (study.levels["mean"] <= study.levels.high).all()
    assert list(study.claims.key) == [claim.key for claim in CLAIMS]
    assert len(study.findings) == len(CLAIMS)
    assert all(f.measured_on.startswith(study.findings[0].measured_on.split(";")[0]) for f in study.findings)
    assert "3 held-out scenes, 2 seeds" in study.findings[0].measured_on
    assert study.answer.count(".") >= 2


def test_only_what_draws_has_a_spread(study):
    spread = study.frames.groupby("variant").spread.sum()
    drawn = {name for name, variant in diagnosis.VARIANTS.items() if variant.model in controlled.SAMPLED}
    assert set(spread[spread > 0].index) == drawn


def test_a_second_call_trains_nothing(study, setting, monkeypatch):
    def refuse(*_):
        raise AssertionError("an optimizer is made only to train")

    monkeypatch.setattr("wamlab.training.loop.BatchOrder", refuse)
    live = LiveCurves()
    live.draw = lambda: None
    again = diagnosis.study(**setting, num_shown=2, on_log=live)
    assert again.metrics == study.metrics
    assert again.answer == study.answer
    trained = {name for name, variant in diagnosis.VARIANTS.items() if variant.model != "copy"}
    assert set(live.runs.values()) <= trained
    assert len(live.figure().data) == 3 * len(live.runs), "the curves of what was trained before are there"
    with pytest.raises(AssertionError, match="optimizer"):
        diagnosis.study(**setting | {"overrides": setting["overrides"] | {"diagnosis.spatial.train.steps": 3}})


def test_the_page_takes_what_the_study_gives(study):
    rows = study.shown[0]["rows"]
    assert list(rows)[0] == "truth"
    assert set(INGREDIENTS.values()) | {"direct", "diffusion", "jump"} < set(rows)
    player = RolloutPlayer(study.shown, styles=draw.player_styles(rows))
    assert player._catalog[0]["rows"] == list(rows)
    for figure in (
        draw.pooled_dots(study.levels, study.gaps),
        draw.ingredient_dots(study.levels),
        draw.error_bars(study.levels),
        draw.frontier(study.levels),
    ):
        assert len(figure.data) >= 4
        assert figure.layout.title.subtitle.text
    assert study.drives.direction.isna().all(), "the pictures of these drives change, but move nowhere"
    assert "nothing here to measure" in draw.motion_dots(study.levels).layout.annotations[-1].text
    assert len(draw.hypothesis_table(study.claims)) == len(HYPOTHESES)
    assert len(draw.level_text(study.levels)) == len(diagnosis.VARIANTS)


def test_pairs_differ_in_one_thing(setting):
    opened = spaces(setting)

    def told(name):
        variant = diagnosis.VARIANTS[name]
        space = opened[variant.space]
        preset = changed(variant, space)
        recipe = getattr(preset, controlled.recipe_name(variant.model))
        return {
            "steps": variant.steps,
            "train": recipe.train,
            **to_dict(model_config(variant.model, preset, space.codec)),
        }

    def differ(a, b):
        first, second = told(a), told(b)
        assert first.keys() == second.keys(), "one kind of model"
        return {key for key in first if first[key] != second[key]}

    assert differ("diffusion", "one token") == {"patch"}
    assert differ("diffusion", "eps") == {"prediction"}
    assert differ("diffusion", "unanchored") == {"anchored"}
    assert differ("diffusion", "one step") == {"steps"}
    assert differ("diffusion", "direct") == {"objective"}
    assert differ("pooled x0", "pooled eps") == {"prediction"}
    assert differ("pooled direct", "pooled direct, first action") == {"action_sequence"}
    assert differ("pooled mlp", "pooled mlp, first action") == {"action_sequence"}
    assert told("pooled mlp")["train"] == told("pooled direct")["train"]


def test_a_whole_frame_is_one_token(setting):
    space = spaces(setting)[SPATIAL]
    config = model_config("diffusion", changed(diagnosis.VARIANTS["one token"], space), space.codec)
    assert config.patch == config.size == 8


def test_mistakes_are_named(setting):
    with pytest.raises(InvalidParameter, match="at least 2"):
        diagnosis.study(**setting, num_scenes=1)
    with pytest.raises(InvalidParameter, match="seeds not empty"):
        diagnosis.study(**setting | {"overrides": {"diagnosis.seeds": ()}})
    with pytest.raises(UnknownName, match="known: pooled, spatial"):
        open_space("latent", get_preset("smoke"), None, None)
    wrong = Variant("diffusion", SPATIAL, {"pach": 2})
    with pytest.raises(InvalidParameter, match="no field 'pach'"):
        changed(wrong, spaces(setting)[SPATIAL])
    with pytest.raises(UnknownName, match="unknown encoder"):
        diagnosis.study(**setting | {"overrides": setting["overrides"] | {"diagnosis.encoder": "resnet"}})
