"""Named models trained on a dataset on disk: the content-addressed runs, the codec's weights and card, and the command's refusals."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import make_dataset

from wamlab.codecs import load_codec
from wamlab.config import override, runs_dir
from wamlab.data.latents import LatentStore
from wamlab.data.windows import LatentWindows, collate
from wamlab.errors import DatasetIncomplete, InvalidParameter, UnknownName
from wamlab.models import BASELINES, MODELS, AnchoredDiT, build_model, num_parameters
from wamlab.presets import PRESETS, get_preset
from wamlab.training import fit_or_load, run_folder, train

PRESET = replace(get_preset("smoke"), resolution=32, stride=1)


@pytest.fixture(scope="module")
def codec(tmp_path_factory, dataset_root):
    """A small codec, trained for a few steps by the command."""
    folder = tmp_path_factory.mktemp("codec")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAMLAB_RUNS", str(folder / "runs"))
        weights = train("small-vae", dataset_root, PRESET, {"train.steps": 4}, output=folder, progress=False)
    return load_codec(weights)


@pytest.fixture
def setting(dataset, codec, tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_RUNS", str(tmp_path / "runs"))
    return dataset, codec, LatentStore(dataset, codec, PRESET.resolution, root=tmp_path / "latents")


def weights_of(model):
    return torch.cat([v.flatten().float() for v in model.state_dict().values()])


def test_codec_is_written_with_its_card(codec, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_RUNS", str(tmp_path / "runs"))
    weights = train("small-vae", dataset.dataroot, PRESET, {"train.steps": 4}, output=tmp_path, progress=False)
    assert load_codec(weights).digest == codec.digest  # the same command gives the same weights
    card = weights.with_suffix(".md").read_text()
    assert codec.digest in card and "--set small_vae.train.steps=4" in card and "dB on" in card


@pytest.mark.parametrize("name", ["direct", "jump-diffusion", "mlp-matched", "pooled-dit", "pooled-mlp"])
def test_trains_once_and_loads_afterwards(name, setting):
    first = fit_or_load(name, PRESET, *setting, progress=False)
    folder = run_folder(name, PRESET, *setting[:2])
    written = (folder / "last").resolve().stat().st_mtime_ns
    again = fit_or_load(name, PRESET, *setting, progress=False)
    assert torch.equal(weights_of(first), weights_of(again)) and not again.training
    assert (folder / "last").resolve().stat().st_mtime_ns == written
    config = json.loads((folder / "last" / "config.json").read_text())
    assert config["model"]["name"] == name and config["data"]["codec"] == setting[1].digest

    windows = LatentWindows(setting[0].scenes("test"), setting[2], 1, PRESET.horizon)
    batch = collate([windows[0], windows[1]])
    rollout = again.rollout(batch.context, batch.actions, torch.Generator().manual_seed(0), steps=2)
    assert rollout.model == name and rollout.latents.shape == batch.future.shape and rollout.latents.isfinite().all()


def test_a_run_cut_short_goes_on_to_the_same_weights(setting, tmp_path, monkeypatch):
    whole = fit_or_load("diffusion", PRESET, *setting, progress=False)
    monkeypatch.setenv("WAMLAB_RUNS", str(tmp_path / "other"))
    plain, calls = AnchoredDiT.loss, []

    def loss(self, batch, generator):
        calls.append(0)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return plain(self, batch, generator)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AnchoredDiT, "loss", loss)
        fit_or_load("diffusion", PRESET, *setting, progress=False)
    with pytest.raises(InvalidParameter, match="has 10 of 20 steps: resume it"):
        fit_or_load("diffusion", PRESET, *setting, progress=False, resume=False)
    resumed = fit_or_load("diffusion", PRESET, *setting, progress=False)
    assert torch.equal(weights_of(whole), weights_of(resumed))


def test_what_decides_the_weights_decides_the_folder(setting):
    dataset, codec, _ = setting
    base = run_folder("direct", PRESET, dataset, codec)
    for changes, same in [
        ({"direct.model.dim": 48}, False),
        ({"direct.train.steps": 3}, False),
        ({"horizon": 2}, False),
        ({"stride": 2}, False),
        ({"direct.train.log_every": 3}, True),
        ({"sampler_steps": 3}, True),
        ({"eval_scenes": 1}, True),
    ]:
        assert (run_folder("direct", override(PRESET, changes), dataset, codec) == base) == same, changes
    assert run_folder("direct", PRESET, dataset, codec, seed=1) != base


def test_normalisation_comes_from_the_training_windows(setting):
    model = fit_or_load("direct", PRESET, *setting, progress=False)
    windows = LatentWindows(setting[0].scenes("train"), setting[2], 1, PRESET.horizon)
    actions = torch.cat([windows[i][2] for i in range(len(windows))])
    torch.testing.assert_close(model.actions.mean, actions.mean(0), atol=1e-4, rtol=1e-3)


def test_seeds_differ_and_leave_the_global_generator_alone(setting):
    before = torch.get_rng_state()
    short = override(PRESET, {"direct.train.steps": 2})
    one, two = (fit_or_load("direct", short, *setting, seed=s, progress=False) for s in (1, 2))
    assert not torch.equal(weights_of(one), weights_of(two))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_need_no_training(name, setting):
    model = fit_or_load(name, PRESET, *setting)
    assert model.name == name and not list(model.parameters()) and not runs_dir().exists()
    if (
        name == "warp"
    ):  # it took the camera and the frame rate of the drives (see `make_recording`: 96 x 64 pixels, f = 80)
        torch.testing.assert_close(model.camera, torch.tensor([80 / 64, 0.5, 0.5]))


def test_the_matched_mlp_has_the_parameters_of_the_direct_model():
    class Shapes:
        channels, downsample = 4, 8

    for preset in PRESETS.values():
        direct, mlp = (num_parameters(name, preset, Shapes()) for name in ("direct", "mlp-matched"))
        assert abs(mlp / direct - 1) < 0.01


def test_the_command_refuses_what_it_does_not_know(dataset_root):
    with pytest.raises(UnknownName, match="known: clip-b32, diffusion, .*small-vae"):
        train("copy", dataset_root)
    with pytest.raises(InvalidParameter, match="TrainConfig has no field 'step'"):
        train("direct", dataset_root, "smoke", {"train.step": "3"})
    with pytest.raises(InvalidParameter, match="output is only for small-vae"):
        train("direct", dataset_root, output="somewhere")
    with pytest.raises(UnknownName, match="unknown preset 'tiny'"):
        train("direct", dataset_root, "tiny")


def test_a_dataset_without_validation_is_named(tmp_path):
    make_dataset(tmp_path, {"scene-0001": "train"})
    with pytest.raises(DatasetIncomplete, match="no val scene"):
        train("small-vae", tmp_path, PRESET, output=tmp_path, progress=False)


def test_the_command_trains_a_world_model(setting, codec, dataset_root, tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("wamlab.training.command.load_codec", lambda *a: codec)
    folder = train("direct", dataset_root, PRESET, {"train.steps": "2", "model.dim": "16"}, progress=False)
    assert (folder / "last" / "ema.safetensors").is_file()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_every_preset_can_be_built(preset, name):
    class Shapes:
        channels, downsample = 4, 8

    model = build_model(name, preset, Shapes())
    assert model.name == name
    if name not in BASELINES:
        if isinstance(model, AnchoredDiT):
            assert model.config.objective == {"jump": "direct", "jump-diffusion": "diffusion"}.get(name, name)
        assert model.config.size * 8 == preset.resolution
        assert model.config.horizon == (1 if name.startswith("jump") else preset.horizon)
