"""Presets changed from the command line and from notebooks: every kind of field, and every kind of mistake."""

import dataclasses

import pytest

from wamlab.config import override
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.presets import PRESETS, get_preset

PRESET = get_preset("paper")


def value(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("key", "text", "parsed"),
    [
        ("horizon", "8", 8),
        ("guidance", "2", 2.0),
        ("codec", "small-vae", "small-vae"),
        ("seeds", "3, 4", (3, 4)),
        ("seeds", "5", (5,)),
        ("probing.encoders", "vq/random", ("vq/random",)),
        ("direct.train.betas", "0.9,0.95", (0.9, 0.95)),
        ("direct.train.epochs", "none", None),
        ("direct.train.epochs", "7", 7),
        ("probing.rate_hz", "2", 2.0),
        ("direct.train.precision", "bf16", "bf16"),
        ("encoders.vq.train.steps", "9", 9),  # of one of several kinds of recipe
        ("direct.model.dim", "64", 64),
        ("direct.sampling", "motion", "motion"),
    ],
)
def test_text_from_the_command_line(key, text, parsed):
    changed = override(PRESET, {key: text})
    assert value(changed, key) == parsed and type(value(changed, key)) is type(parsed)
    assert (
        override(changed, {key: value(PRESET, key)}) == PRESET
    )  # nothing else changed, and plain values are taken too


def test_values_from_a_notebook():
    changes = {"direct": {"train": {"steps": 3, "epochs": None}}, "seeds": [1, 2], "diffusion.train": {"steps": "4"}}
    changed = override(PRESET, changes)
    assert (changed.direct.train.steps, changed.direct.train.epochs, changed.diffusion.train.steps) == (3, None, 4)
    assert changed.seeds == (1, 2) and changed.direct.model == PRESET.direct.model


@pytest.mark.parametrize(
    ("key", "given", "says"),
    [
        ("horizen", "8", "Preset has no field 'horizen'; known: codec, diagnosis, diffusion, .*horizon"),
        ("direct.train.step", 1, "TrainConfig has no field 'step'; known: accumulate, .*steps"),
        ("direct.nope.steps", 1, "Recipe has no field 'nope'; known: model, sampling, start, train"),
        ("direct.train.steps.x", 1, "'x' is asked of .*, which has no fields"),
        ("direct.train", {"step": 1}, "TrainConfig has no field 'step'"),
        ("direct.train", "x", "Recipe.train must be TrainConfig, not 'x'"),
        ("direct.train.steps", "1e3", "TrainConfig.steps must be int, not '1e3'"),
        ("direct.train.steps", True, "TrainConfig.steps must be int, not True"),
        ("direct.train.steps", None, "TrainConfig.steps must be int, not None"),
        ("direct.train.betas", "x", "TrainConfig.betas must be float, not 'x'"),
        ("direct.train.betas", 0.5, "TrainConfig.betas must be one or several float, not 0.5"),
        ("direct.train.betas", "0.5", "betas must be two numbers"),
        ("direct.train.ema_decay", "1", r"ema_decay must be in \[0, 1\), not 1.0"),
        ("direct.train.learning_rate", "nan", "learning_rate must be finite and at least 0, not nan"),
        ("direct.train.accumulate", "0", "accumulate must be finite and at least 1, not 0"),
        ("resolution", "-5", "resolution must be at least 1, not -5"),
        ("seeds", "", "at least one seed"),
    ],
)
def test_a_mistake_is_named(key, given, says):
    with pytest.raises(InvalidParameter, match=says):
        override(PRESET, {key: given})


@pytest.mark.parametrize(
    ("key", "known"), [("direct.train.precision", "bf16, fp16, fp32"), ("direct.sampling", "motion")]
)
def test_an_unknown_choice_lists_the_known_ones(key, known):
    with pytest.raises(UnknownName, match=f"'x'; known: {known}"):
        override(PRESET, {key: "x"})


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda p: p.name)
def test_every_field_of_every_preset_takes_its_own_value_as_text(preset):
    def leaves(config, prefix=""):
        for field in dataclasses.fields(config):
            one = getattr(config, field.name)
            if dataclasses.is_dataclass(one):
                yield from leaves(one, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}", one

    for key, one in leaves(preset):
        text = ",".join(map(str, one)) if isinstance(one, tuple) else str(one)
        assert override(preset, {key: text}) == preset, key
