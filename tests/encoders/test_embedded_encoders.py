"""The embedded weights: rebuilt by the command, and those in the package (there, judged, with cards, small)."""

import re
import socket

import pytest
import torch
from encoder_folders import smooth_frames
from typer.testing import CliRunner

from wamlab import encoders, training
from wamlab.cli import app
from wamlab.encoders import ENCODERS, WEIGHTS, load_encoder

FOLDERS = sorted({entry.folder for entry in ENCODERS.values()})
LIMIT_MB, FILE_LIMIT_MB = 12, 5


def test_the_command_rebuilds_an_encoder(dataset_root, tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("wamlab.training.command.WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(encoders, "WEIGHTS", tmp_path / "weights")
    command = ["train", "dinov2-s14", "--dataset", str(dataset_root), "--preset", "smoke"]
    result = CliRunner().invoke(app, [*command, "--set", "model.width=32"])
    assert result.exit_code == 0, result.output
    encoder = load_encoder("dinov2-s14/embedded")
    card = (tmp_path / "weights" / "dinov2" / "README.md").read_text()
    assert encoder.backbone.config.hidden_size == 32
    assert encoder.digest in card and "--set encoders.dinov2.model.width=32" in card
    assert re.search(r"held out \| 0\.\d{3}, never trained: 0\.\d{3}", card)
    overrides = {"model.width": 32}
    again = training.train("dinov2-s14", dataset_root, "smoke", overrides, output=tmp_path / "again", progress=False)
    assert load_encoder(f"dinov2-s14={again}").digest != "" and again == tmp_path / "again" / "dinov2"
    monkeypatch.setenv("WAMLAB_RUNS", str(tmp_path / "other"))
    fresh = training.train("dinov2-s14", dataset_root, "smoke", overrides, output=tmp_path / "fresh", progress=False)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (again, fresh)]
    assert weights[0] == weights[1], "the same command gives the same weights"


@pytest.mark.parametrize("name", ENCODERS)
def test_shipped_weights_load_without_a_network_and_differ_from_the_twin(name, monkeypatch):
    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    encoder, twin = load_encoder(f"{name}/embedded"), load_encoder(f"{name}/random")
    frames = smooth_frames(3)
    frames = frames if encoder.num_frames == 1 else frames[:, None]
    pair = [model.encode(frames) for model in (encoder, twin)]
    assert pair[0].isfinite().all() and pair[0].shape == (3, 384)
    assert encoder.digest != twin.digest and not torch.allclose(*pair, atol=1e-2)
    assert (pair[0][0] - pair[0][1]).norm() > 1e-3 * pair[0].norm(), "it has not collapsed"
    shapes = [{k: v.shape for k, v in model.backbone.state_dict().items()} for model in (encoder, twin)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("folder", FOLDERS)
def test_cards_are_of_the_weights_beside_them(folder):
    card = (WEIGHTS / folder / "README.md").read_text()
    names = [name for name, entry in ENCODERS.items() if entry.folder == folder]
    assert any(load_encoder(f"{name}/embedded").digest in card for name in names)
    assert "wamlab train" in card and "fingerprint" in card and "never trained" in card


def test_all_are_small():
    sizes = {path: path.stat().st_size / 1e6 for path in WEIGHTS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < LIMIT_MB and max(sizes.values()) < FILE_LIMIT_MB
