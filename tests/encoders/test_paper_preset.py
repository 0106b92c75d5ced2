"""Notebook 01's study with the paper's preset, on a dataset in nuScenes' own form and weights in the published layout, read by path."""

from __future__ import annotations

import json

import pytest
from encoder_folders import save_all
from helpers import make_dataset
from nuscenes.utils.splits import mini_train, mini_val

from wamlab.analysis import encoder_study
from wamlab.analysis.encoders import PAPER
from wamlab.encoders import ENCODERS
from wamlab.presets import PRESETS


@pytest.fixture
def nuscenes(tmp_path, monkeypatch):
    """v1.0-mini as the devkit ships it, in the project's data folder: no splits, no labels, none of our additions."""
    root = make_dataset(tmp_path / "nuscenes", dict.fromkeys([*mini_train, *mini_val], "train"), frames=3)
    (root / "v1.0-synthetic").rename(root / "v1.0-mini")
    (root / "v1.0-mini" / "splits.json").unlink()
    table = root / "v1.0-mini" / "scene.json"
    rows = [
        {k: v for k, v in row.items() if k not in ("attributes", "images_sha256")}
        for row in json.loads(table.read_text())
    ]
    table.write_text(json.dumps(rows))
    monkeypatch.setenv("WAMLAB_DATA", str(tmp_path))


def test_it_runs_unchanged(nuscenes, tmp_path):
    folders = save_all(tmp_path / "weights")
    names = [f"{name}={folders[name]}" for name in ENCODERS]
    study = encoder_study.study("nuscenes-mini", "paper", names, progress=False)
    assert PRESETS["paper"].probing.encoders == tuple(ENCODERS), "the published six"
    ranked = study.probed.ranking[study.probed.ranking.target == "steering_rad"]
    published = {name: value for name, (value, _) in PAPER.items()}
    assert {
        name.partition("=")[0]: value for name, value in zip(ranked.encoder, ranked.paper, strict=True)
    } == published
    assert len(study.probed.pairs) == 2 * 15, "all pairs of six, for both targets"
    assert study.readout is None, "nuScenes has no class for every pixel"
    claims = [finding.claim.split(" (")[0] for finding in study.findings]
    assert claims[0].startswith("A clip tells more") and claims[-1].startswith("Shuffling") and len(claims) == 6
    assert all(
        "nuscenes-mini data, paper preset, 2 held-out scenes" in finding.measured_on for finding in study.findings
    )
    assert len(study.cost) == 6 and "untrained" not in study.answer
