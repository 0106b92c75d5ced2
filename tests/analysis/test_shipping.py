"""Making a set of shipped models, at the smallest scale: weights, card, and the frames of the contact sheet."""

import pytest
import torch
from helpers import make_dataset

from wamlab import pretrained
from wamlab.analysis import shipping
from wamlab.codecs import SmallVae, save_small_vae
from wamlab.config import override
from wamlab.errors import UnknownName
from wamlab.presets import PRESETS

SET = "dit-wam/quick"


@pytest.fixture
def drives(project, monkeypatch):
    splits = {f"scene-{i:04d}": s for i, s in enumerate(["train", "train", "val", "test", "test", "test"], 1)}
    make_dataset(project / "drives", splits)
    save_small_vae(SmallVae(PRESETS["smoke"].small_vae.model), project / "vae.safetensors")
    changes = {"codec": "vae.safetensors", "resolution": 32, "diffusion.start": "direct"}
    for model in ("direct", "diffusion", "jump", "jump_diffusion"):
        changes[f"{model}.train.steps"] = 2
    monkeypatch.setattr(shipping, "SHIPPED", {SET: override(PRESETS["smoke"], changes)})
    return project / "drives"


def test_weights_card_and_sheet_are_made_and_made_again_alike(drives, project):
    made = shipping.ship(SET, str(drives), project / "out", progress=False)
    card = (made.folder / "README.md").read_text()
    assert made.folder == project / "out" / SET
    for model in pretrained.SETS[SET]:
        loaded = pretrained.load_model(made.folder / f"{model}.safetensors")
        assert loaded.name == model and f"| {model} |" in card and "2 of 8" in card
    assert "wamlab ship dit-wam/quick --dataset drives`" in card and str(project) not in card
    assert "3 test drives" in card and "diffusion from noise" in card
    rows, horizon = 6, PRESETS["smoke"].horizon
    assert made.frames.shape == (3 * rows * (1 + horizon), 32, 32, 3) and made.columns == 2 * (1 + horizon)
    assert len(made.labels) == len(made.frames) and made.labels[:2] == ("truth", "+0.5 s")
    again = shipping.ship(SET, str(drives), project / "out", progress=False)
    assert (again.frames == made.frames).all() and (made.folder / "README.md").read_text() == card


def test_an_unknown_set_is_named(drives):
    with pytest.raises(UnknownName, match="'dit-wam/huge'; known: dit-wam/quick"):
        shipping.ship("dit-wam/huge", str(drives))


def test_the_drives_of_the_sheet_are_the_extremes_of_what_was_driven():
    notes = ["synthetic, day, clear, urban", "synthetic, night, rain, urban", "synthetic, day, fog, rural"]
    notes += ["synthetic, day, clear, rural"] * 7
    actions = torch.zeros(10, 4, 3)
    actions[..., 2] = torch.arange(10.0)[:, None] + 1
    actions[9, :, 0], actions[7, :, 0] = 5.0, 1.0

    class Rolled:
        pass

    Rolled.notes, Rolled.actions = notes, actions
    picked = shipping._pick(Rolled)
    assert picked[0] == 9 and len(set(picked)) == 6
    assert picked[2:] == [1, 2, 0, 8]  # the only night, the only other rain or fog, the only town, the fastest left
