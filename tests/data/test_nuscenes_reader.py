"""The reader against the drive that was written, and every way a dataset can be wrong."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import HEIGHT, WIDTH, make_dataset, make_recording

from wamlab.data import DATASETS, open_dataset
from wamlab.data import nuscenes as reader
from wamlab.errors import CanBusMissing, DatasetIncomplete, DatasetMissing, InvalidParameter, UnknownName
from wamlab.geometry import wrap_angle
from wamlab.types import SPLITS
from wamlab.world import nuscenes as writer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dataset to break: two scenes of four frames."""
    return make_dataset(tmp_path / "broken", {"scene-0001": "train", "scene-0002": "train"}, frames=4)


def test_importing_costs_neither_torch_nor_the_devkit():
    code = "import sys, wamlab.data; sys.exit(any(m in sys.modules for m in ('torch', 'nuscenes', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_a_scene_is_the_drive_that_was_recorded(dataset):
    scene, drive = dataset.scene("scene-0001"), make_recording()
    assert (scene.name, scene.split, scene.image_size) == ("scene-0001", "train", (WIDTH, HEIGHT))
    np.testing.assert_array_equal(np.round(scene.timestamps_s * 1e6).astype(int), drive.timestamps_us)
    np.testing.assert_allclose(scene.ego_pose[:, :2], drive.ego_pose[:, :2], atol=1e-4)
    np.testing.assert_allclose(wrap_angle(scene.ego_pose[:, 2] - drive.ego_pose[:, 2]), 0, atol=1e-6)
    np.testing.assert_array_equal(scene.intrinsics, drive.films[0].intrinsics)
    assert scene.attributes == {"location": "synthetic", "time": "night", "weather": "rain", "place": "urban"}
    assert all(path.is_file() for path in scene.image_paths)


def test_actions_are_the_signals_at_the_keyframes(dataset):
    drive = make_recording()
    at = np.searchsorted(drive.can.timestamps_us, drive.timestamps_us)
    expected = np.stack([drive.can.steering_rad, drive.can.accel_mps2[:, 0], drive.can.speed_mps], axis=1)[at]
    actions = dataset.scene("scene-0001").actions
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, expected, atol=1e-4)
    assert np.all(actions[:, 0] > 0), "a left turn: steering and yaw rate have one sign"


def test_messages_in_any_order(root):
    expected = open_dataset(root).scene("scene-0001").actions
    for message in reader.MESSAGES:
        path = root / "can_bus" / f"scene-0001_{message}.json"
        path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    np.testing.assert_array_equal(open_dataset(root).scene("scene-0001").actions, expected)


def test_splits_and_order(dataset):
    assert {split: [s.name for s in dataset.scenes(split)] for split in SPLITS} == {
        "train": ["scene-0001"], "val": ["scene-0002"], "test": ["scene-0003"],
    }  # fmt: skip
    assert [scene.split for scene in dataset.scenes()] == ["train", "val", "test"]
    assert dataset.scene("scene-0002") is dataset.scenes("val")[0], "read once"
    with pytest.raises(UnknownName, match="unknown split 'dev'; known: test, train, val"):
        dataset.scenes("dev")


def test_fingerprint_follows_the_content(dataset, tmp_path):
    again = make_dataset(tmp_path / "again")
    assert open_dataset(again).fingerprint == dataset.fingerprint == pickle.loads(pickle.dumps(dataset)).fingerprint
    other = make_recording("scene-0003", "test", frames=12)
    film = other.films[0]
    writer.write_scene(again, replace(other, films=(replace(film, shots=film.shots[::-1]),)))
    writer.write_tables(again, ["scene-0001", "scene-0002", "scene-0003"])
    assert open_dataset(again).fingerprint != dataset.fingerprint, "other images, same tables otherwise"


def test_names_use_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_DATA", str(tmp_path))
    make_dataset(tmp_path / "synthetic", {"scene-0001": "train"}, frames=3)
    dataset = open_dataset("synthetic")
    assert dataset.synthetic and dataset.name == "synthetic" and len(dataset.scenes()) == 1
    assert open_dataset("synthetic", root=tmp_path / "synthetic").fingerprint == dataset.fingerprint
    assert reader.SYNTHETIC == writer.VERSION and set(reader.VERSIONS.values()) < set(DATASETS)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("synthetic", "wamlab data synth"), ("nuscenes-mini", "v1.0-mini.tgz"), ("nuscenes", "can_bus.zip")],
)
def test_no_dataset(tmp_path, name, advice):
    with pytest.raises(DatasetMissing, match=f"no {name} dataset at .*{advice}") as error:
        open_dataset(name, root=tmp_path)
    assert "\n" not in str(error.value)


def test_neither_a_name_nor_a_path(tmp_path):
    with pytest.raises(
        UnknownName, match="unknown dataset 'nuscene'; known: comma2k19, nuscenes, nuscenes-mini, synthetic"
    ):
        open_dataset("nuscene")
    with pytest.raises(DatasetMissing, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(
        DatasetMissing, match="neither a folder v1.0-synthetic, v1.0-mini, v1.0-trainval in it nor comma2k19"
    ):
        open_dataset(tmp_path)


def test_a_path_with_several_versions(root):
    (root / "v1.0-mini").mkdir()
    with pytest.raises(InvalidParameter, match="v1.0-synthetic and v1.0-mini"):
        open_dataset(root)
    assert open_dataset(root / "v1.0-synthetic").dataroot == root


def test_interrupted_generation(tmp_path):
    writer.write_scene(tmp_path, make_recording(frames=3))
    with pytest.raises(DatasetIncomplete, match="run `wamlab data synth` again to finish it"):
        open_dataset(tmp_path)
    writer.write_tables(tmp_path, ["scene-0001"])
    open_dataset(tmp_path)
    writer.write_scene(tmp_path, make_recording("scene-0002", frames=3))
    with pytest.raises(DatasetIncomplete, match="splits.json"):
        open_dataset(tmp_path)


def test_missing_and_damaged_tables(root):
    table = root / "v1.0-synthetic" / "ego_pose.json"
    content = table.read_text()
    table.write_text(content[: len(content) // 2])
    with pytest.raises(DatasetIncomplete, match="damaged table .*ego_pose.json"):
        open_dataset(root).scenes()
    table.unlink()
    with pytest.raises(DatasetIncomplete, match="no v1.0-synthetic/ego_pose.json"):
        open_dataset(root)


def test_missing_map(root):
    (root / "maps" / "scene-0002.png").unlink()
    with pytest.raises(DatasetIncomplete, match="scene-0002.png does not exist"):
        _ = open_dataset(root).nusc
    assert len(open_dataset(root).scenes()) == 2, "only the devkit's drawings need a map"


def test_missing_can_bus_folder(root):
    (root / "can_bus").rename(root / "elsewhere")
    with pytest.raises(CanBusMissing, match="no folder can_bus in"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        ("[]", "is empty"),
        ("[{", "is damaged"),
        ("{}", "is empty"),
        ('{"value": 3}', "is damaged"),
        ('[{"utime": 1}]', "is damaged"),
        ('[{"utime": 1, "value": "far"}]', "is damaged"),
        ('[{"utime": "now", "value": 1}]', "is damaged"),
    ],
)
def test_a_scene_without_can_messages(root, content, problem):
    path = root / "can_bus" / "scene-0002_steeranglefeedback.json"
    path.unlink() if content is None else path.write_text(content)
    dataset = open_dataset(root)
    with pytest.raises(CanBusMissing, match=f"scene-0002_steeranglefeedback.json {problem}"):
        dataset.scene("scene-0002")
    with pytest.raises(CanBusMissing):
        dataset.scenes("train", on_damage="refuse")
    with pytest.warns(UserWarning, match="left out 1 scenes, scene-0002: .*steeranglefeedback.json"):
        assert [scene.name for scene in dataset.scenes("train")] == ["scene-0001"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.scenes(), "says it once"


def test_a_scene_on_the_devkit_s_blacklist(tmp_path):
    root = make_dataset(tmp_path, {"scene-0161": "train"}, frames=3)
    with pytest.raises(CanBusMissing, match="scene-0161 was recorded without CAN bus"):
        open_dataset(root).scene("scene-0161")


def test_no_message_near_enough_is_nan(root):
    path = root / "can_bus" / "scene-0001_pose.json"
    frame_us = make_recording(frames=4).timestamps_us[2]
    kept = [m for m in json.loads(path.read_text()) if abs(m["utime"] - frame_us) > 50_000]
    path.write_text(json.dumps(kept))
    unknown = np.isnan(open_dataset(root).scene("scene-0001").actions)
    assert np.argwhere(unknown).tolist() == [[2, 1], [2, 2]]


def test_unknown_scene(dataset):
    with pytest.raises(UnknownName, match="unknown scene 'scene-9999'; known: scene-0001, scene-0002, scene-0003"):
        dataset.scene("scene-9999")


@pytest.mark.parametrize(
    ("description", "time", "weather"),
    [
        ("Night, after rain, bus", "night", "rain"),
        ("Turn left at the train station, knight", "day", "clear"),
        ("Parked cars, Overcast", "day", "overcast"),
    ],
)
def test_words_of_a_description(description, time, weather):
    assert reader.attributes(description) == {"time": time, "weather": weather}


def as_real(root: Path, version: str, names: list[str]) -> Path:
    """A written dataset under a real version's name, as the devkit ships it: without splits or our additions to `scene`."""
    make_dataset(root, dict.fromkeys(names, "train"), frames=3)
    (root / "v1.0-synthetic").rename(root / version)
    (root / version / "splits.json").unlink()
    scenes = json.loads((root / version / "scene.json").read_text())
    rows = [{k: v for k, v in row.items() if k not in ("attributes", "images_sha256")} for row in scenes]
    (root / version / "scene.json").write_text(json.dumps(rows))
    return root


def test_mini_has_the_official_scenes(tmp_path):
    from nuscenes.utils.splits import mini_train, mini_val

    dataset = open_dataset("nuscenes-mini", root=as_real(tmp_path, "v1.0-mini", [*mini_train, *mini_val]))
    assert not dataset.synthetic
    assert [s.name for s in dataset.scenes("train")] == mini_train
    assert [s.name for s in dataset.scenes("val")] == [s.name for s in dataset.scenes("test")] == mini_val
    assert [s.split for s in dataset.scenes("test")] == ["test", "test"] and len(dataset.scenes()) == 10
    assert dataset.scene("scene-0061").attributes == {"location": "synthetic", "time": "night", "weather": "rain"}


def test_trainval_has_the_paper_s_split(tmp_path):
    from nuscenes.utils.splits import train, val

    splits = open_dataset("nuscenes", root=as_real(tmp_path, "v1.0-trainval", ["scene-0001"])).splits
    assert {split: len(names) for split, names in splits.items()} == {"train": 630, "val": 70, "test": 150}
    assert set(splits["test"]) == set(val) and set(splits["train"]) | set(splits["val"]) == set(train)
