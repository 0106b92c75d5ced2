"""The study behind notebook 01, on seven short drives and encoders that were never trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_dataset

from wamlab.analysis import encoder_study as page
from wamlab.analysis.encoder_views import moments, pick, steering_score
from wamlab.analysis.encoders import NO_ENCODER, title
from wamlab.data import open_dataset
from wamlab.data.embeddings import EmbeddingStore
from wamlab.encoders import load_encoder
from wamlab.errors import WeightsMissing
from wamlab.geometry import every_nth
from wamlab.presets import PRESETS
from wamlab.probing import fit_mlp
from wamlab.probing.data import Labelled
from wamlab.types import Scene

FRAME, CLIP = "vjepa2-rep1/random", "vjepa2-rep64/random"
SPLITS = {f"scene-{i:04d}": split for i, split in enumerate(["train"] * 4 + ["val"] + ["test"] * 2, 1)}
CHANGES = {"probing.every": 2, "probing.perturbations": ("dark",), "probing.frames_shown": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("drives"), SPLITS)


@pytest.fixture(scope="module")
def study(root) -> page.Study:
    return page.study(root, "smoke", overrides=CHANGES | {"probing.encoders": (FRAME, CLIP, "vq/random")})


def test_everything_is_there(study):
    assert set(study.probed.probes.encoder) == {FRAME, CLIP, "vq/random", NO_ENCODER}
    assert set(study.changes.perturbation) == {"dark", page.SHUFFLED}
    assert set(study.changes[study.changes.perturbation == page.SHUFFLED].encoder) == {CLIP}
    assert (study.cost.frames_per_s > 0).all() and (study.cost.memory_mib > 1).all()
    assert set(study.explained.encoder) == set(study.probed.probes.encoder)
    assert set(study.learning.encoder) == {FRAME, CLIP, "vq/random"} and study.learning.drives.max() == 4
    assert study.readout is None, "these drives have no labels"
    assert not study.left_out
    assert len(study.findings) == 3
    for finding in study.findings:
        assert finding.interval[0] <= finding.measured <= finding.interval[1]
        assert finding.measured_on.endswith("smoke preset, 2 held-out scenes, 3 seeds")


def test_the_ablation_agrees_with_the_ranking(study):
    ranked = study.probed.ranking.set_index(["target", "encoder"])["mean"]
    table = study.temporal.set_index(["target", "seen"])["mean"]
    for target in ("steering_rad", "accel_mps2"):
        assert table[target, page.FRAME] == pytest.approx(ranked[target, FRAME], rel=1e-4)
        assert table[target, page.CLIP] == pytest.approx(ranked[target, CLIP], rel=1e-4)
    rows = list(study.temporal[study.temporal.target == "steering_rad"].seen)
    assert rows == [page.FRAME, page.CLIP, page.CLIP_SHUFFLED, "mean action", "last action", "image shift"]
    change = study.changes.set_index(["target", "encoder", "perturbation"])["mean"]["steering_rad", CLIP, page.SHUFFLED]
    assert table["steering_rad", page.CLIP_SHUFFLED] - table["steering_rad", page.CLIP] == pytest.approx(change)
    assert study.findings[-1].measured == pytest.approx(change)


def test_looks_are_of_the_liveliest_frames(study, root):
    (look,) = study.looks
    scene = open_dataset(root).scene(look.scene)
    assert look.camera.shape == (3, 128, 128, 3)
    sides = {FRAME: 6, CLIP: 6, "vq/random": 16}
    assert set(look.heat) == set(look.colours) == set(sides)
    for name, side in sides.items():
        assert look.heat[name].shape == (3, side, side) and look.heat[name].max(axis=(1, 2)) == pytest.approx(1)
        assert look.colours[name].shape == (3, side, side, 3)
    probed = scene.actions[every_nth(len(scene), 2)]
    shown = [t for t in range(len(probed) - 2) if np.allclose(probed[t : t + 3], look.actions)]
    assert len(shown) == 1
    ranges = [np.ptp(probed[t : t + 3, 0]) for t in range(len(probed) - 2)]
    assert ranges[shown[0]] == max(ranges)


def test_the_past_has_all_the_shares(study):
    assert study.moments["mean"].sum() == pytest.approx(1)
    assert study.moments.age_s.tolist() == [7.25, 6.25, 5.25, 4.25, 3.25, 2.25, 1.25, 0.25], "pairs of frames, 2 Hz"


def test_only_what_counts_has_a_share(root):
    """A probe that says the same whatever it is given hangs on nothing."""
    data = open_dataset(root)
    store = EmbeddingStore(data, load_encoder(CLIP))
    flat = Labelled(torch.randn(20, 384), torch.zeros(20, 2), ("a",) * 20)
    probe = fit_mlp(flat)
    blind = type(probe)(
        probe.seeds, tuple(torch.zeros_like(w) for w in probe.weights), probe.inputs, probe.targets, (1,)
    )
    found = moments(store, blind, data.scenes("test"), np.random.default_rng(0))
    assert found["mean"].sum() == pytest.approx(0)


def test_the_score_is_the_steering(root):
    generator = torch.Generator().manual_seed(0)
    data = Labelled(torch.randn(40, 8, generator=generator), torch.randn(40, 2, generator=generator), ("a",) * 40)
    probe = fit_mlp(data)
    assert torch.equal(steering_score(probe)(data.embeddings), probe.predict(data)[..., 0].mean(0))


def test_missing_weights_are_named_and_left_out(root, monkeypatch, tmp_path):
    monkeypatch.setattr("wamlab.encoders.WEIGHTS", tmp_path / "nowhere")
    recipe = PRESETS["smoke"].probing
    loaded, left_out = page.load((), recipe)
    assert set(loaded) == {name for name in recipe.encoders if name.endswith("/random")}
    assert set(left_out) == {name for name in recipe.encoders if name.endswith("/embedded")}
    assert "not in this copy" in left_out["vit-s16/embedded"]
    assert "Not measured, since their weights are not here: ViT" in page._missed(left_out)
    with pytest.raises(WeightsMissing, match="embedded weights of vq"):
        page.load(("vit-s16/random", "vq/embedded"), recipe)
    only = type(recipe)(encoders=("vq/embedded", "vq/random"))
    with pytest.raises(WeightsMissing, match="embedded weights of vq"):
        page.load((), only)


def test_scenes_are_spread():
    assert page.spread(list("abcdefg"), 3) == ["a", "d", "g"]
    assert page.spread(list("abc"), 0) == page.spread(list("abc"), 5) == ["a", "b", "c"]


def test_drives_to_show_alternate_between_day_and_night():
    def drive(name: str, turn: float, time: str) -> Scene:
        return Scene(
            name, "test", np.arange(2.0), (), np.array([[0, 0, 0], [turn, 0, 0]]), np.zeros((2, 3)), "", {"time": time}
        )

    drives = [drive("a", 1, "day"), drive("b", 3, "day"), drive("c", 2, "dusk"), drive("d", 0.1, "night")]
    both, first = ({scene.name: taken for scene in drives} for taken in ([0, 1], [0]))
    assert [scene.name for scene in pick(drives, both, 3)] == ["b", "d", "c"]
    assert [scene.name for scene in pick(drives[:3], both, 2)] == ["b", "c"]
    assert [scene.name for scene in pick(drives[:3], first, 2)] == ["a", "b"], "turns elsewhere do not count"


def test_which_frames_are_taken():
    assert list(every_nth(40, 8)) == [7, 15, 23, 31, 39]
    assert every_nth(3, 8) == [2] and every_nth(3, 1) == [0, 1, 2]
    assert every_nth(40, 20, 3) == [17, 18, 19, 37, 38, 39] and every_nth(2, 20, 3) == [0, 1] and not every_nth(0, 4)


def test_titles_are_for_readers():
    assert title("vjepa2-rep64/embedded") == "V-JEPA 2, 16 frames"
    assert title("dinov2-s14=weights/folder") == "DINOv2"
    assert title("vq/random-3") == "VQ tokenizer, untrained"
    assert title("some/folder") == "some/folder"
