"""Sets of trained models: written, loaded by name, chosen by a rule, refused by name; and those that come with the package."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import wamlab
from wamlab import pretrained
from wamlab.codecs import load_codec
from wamlab.config import override
from wamlab.data.latents import LatentStore
from wamlab.data.windows import LatentWindows, collate
from wamlab.errors import CheckpointMismatch, UnknownName, WeightsMissing
from wamlab.models import build_model
from wamlab.presets import PRESETS, SHIPPED
from wamlab.training import generator_for

SET = "dit-wam/quick"


@pytest.fixture(scope="module")
def codec():
    return load_codec("small-vae")


@pytest.fixture(scope="module")
def loaded():
    return wamlab.load(SET)


@pytest.fixture(scope="module")
def drives(small_world, codec, tmp_path_factory):
    """Windows of the procedural world that no shipped model was trained on: another seed's."""
    from wamlab.data import open_dataset

    dataset = open_dataset(small_world)
    store = LatentStore(dataset, codec, PRESETS["quick"].resolution, root=tmp_path_factory.mktemp("latents"))
    return LatentWindows(dataset.scenes(), store, 1, 4, stride=1)


@pytest.mark.xdist_group("world")
@pytest.mark.parametrize("model", pretrained.SETS[SET])
def test_shipped_models_predict_drives_of_another_seed_better_than_a_copy(model, loaded, drives):
    batch = collate([drives[i] for i in range(len(drives))])
    loss, logs = loaded[model].loss(batch, generator_for(0, 0))
    assert loss.isfinite() and logs["vs_copy"] < 0.9
    rollout = loaded[model].rollout(batch.context, batch.actions, torch.Generator().manual_seed(0), steps=3)
    assert rollout.model == model and rollout.latents.shape == batch.future.shape and rollout.latents.isfinite().all()


def test_the_set_is_whole_small_and_has_its_card(loaded):
    folder = pretrained.WEIGHTS / SET
    assert tuple(loaded.models) == pretrained.SETS[SET] and set(SHIPPED) == set(pretrained.SETS)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 15e6
    card = (folder / "README.md").read_text()
    assert loaded.codec.digest in card and "NOTES.md" in card and (folder / "NOTES.md").is_file()
    assert all(f"| {model} |" in card for model in loaded.models)
    assert (folder / "futures.webp").stat().st_size <= 300_000
    assert not any(m.training or any(p.requires_grad for p in m.parameters()) for m in loaded.models.values())


def test_what_is_written_is_what_is_loaded(codec, tmp_path):
    model = build_model("jump-diffusion", PRESETS["smoke"], codec)
    pretrained.save_model(model, codec, tmp_path / "a.safetensors")
    again = pretrained.load_model(tmp_path / "a.safetensors")
    assert again.config == model.config and again.name == "jump-diffusion"
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.half().float(), rtol=0, atol=0)


def test_the_rule_takes_shipped_weights_only_for_the_recipe_as_it_came(codec, loaded):
    quick = PRESETS["quick"]
    assert pretrained.shipped("diffusion", quick, codec) == pretrained.WEIGHTS / SET / "diffusion.safetensors"
    assert pretrained.shipped("diffusion", override(quick, {"eval_scenes": 3, "direct.model.dim": 64}), codec)
    for changes in ({"diffusion.train.steps": 3}, {"diffusion.model.dim": 64}, {"horizon": 2}, {"resolution": 256}):
        assert pretrained.shipped("diffusion", override(quick, changes), codec) is None, changes
    assert pretrained.shipped("diffusion", PRESETS["smoke"], codec) is None
    assert pretrained.shipped("mlp", quick, codec) is None and pretrained.shipped("copy", quick, codec) is None

    class OtherCodec:
        channels, downsample, digest = codec.channels, codec.downsample, "0" * 64

    assert pretrained.shipped("diffusion", quick, OtherCodec()) is None


def test_a_study_gets_shipped_weights_or_trains_and_says_which(dataset, codec, tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_RUNS", str(tmp_path / "runs"))
    store = LatentStore(dataset, codec, 32, root=tmp_path / "latents")
    model, origin = pretrained.obtain("direct", PRESETS["quick"], dataset, codec, store)
    assert model.name == "direct" and SET in origin
    small = replace(PRESETS["smoke"], resolution=32)
    small = override(small, {"direct.train.steps": 1})
    model, origin = pretrained.obtain("direct", small, dataset, codec, store, seed=3, progress=False)
    assert model.config.dim == small.direct.model.dim and origin == f"trained on {dataset.name}, seed 3"
    assert pretrained.obtain("copy", small, dataset, codec, store)[1] == "nothing to train"
    with pytest.raises(UnknownName, match="'mine'; known: shipped, train"):
        pretrained.obtain("direct", small, dataset, codec, store, weights="mine")


def test_bad_names_and_files_are_named(loaded, codec, tmp_path):
    with pytest.raises(UnknownName, match="'dit-wam/huge'; known: dit-wam/quick"):
        wamlab.load("dit-wam/huge")
    with pytest.raises(UnknownName, match="known: diffusion, direct, jump, jump-diffusion"):
        loaded["copy"]
    with pytest.raises(WeightsMissing, match=r"dit-wam/quick/direct\.safetensors"):
        pretrained.load(SET, root=tmp_path)
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"no weights")
    with pytest.raises(CheckpointMismatch, match="damaged"):
        pretrained.load_model(file)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(CheckpointMismatch, match="does not say its codec, config, name"):
        pretrained.load_model(file)
    save_file({"a": torch.zeros(1)}, file, {"name": "direct", "config": json.dumps({"dims": 3}), "codec": ""})
    with pytest.raises(CheckpointMismatch, match="not of a model of this version.*dims"):
        pretrained.load_model(file)

    class OtherCodec:
        digest = "0" * 64

    for model in loaded.models.values():
        pretrained.save_model(model, OtherCodec(), tmp_path / SET / f"{model.name}.safetensors")
    with pytest.raises(CheckpointMismatch, match="reads latents of the codec 000000000000"):
        pretrained.load(SET, root=tmp_path)
