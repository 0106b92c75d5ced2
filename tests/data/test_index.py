"""The index's promises: its scenes are what the devkit says; it is built once, never stale, and never read when damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_dataset
from safetensors import safe_open
from safetensors.numpy import save_file

from wamlab.data import NuScenesDataset, open_dataset
from wamlab.data import tables as streaming
from wamlab.data.nuscenes import attributes
from wamlab.data.tables import rows
from wamlab.errors import DatasetIncomplete
from wamlab.geometry import nearest
from wamlab.types import ACTIONS, Scene

#: A process that opens a dataset when told to, and says whether it built the index.
OPEN = """
import sys
from wamlab.data import NuScenesDataset, open_dataset
read = NuScenesDataset.read_scenes
NuScenesDataset.read_scenes = lambda self: (print("built"), read(self))[1]
dataset = open_dataset(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(len(dataset.scenes()), "torch" in sys.modules, "nuscenes" in sys.modules, flush=True)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset to change, and a data folder of its own."""
    monkeypatch.setenv("WAMLAB_DATA", str(tmp_path / "data"))
    return make_dataset(tmp_path / "set", {"scene-0001": "train", "scene-0002": "val", "scene-0161": "val"}, frames=4)


def index_file() -> Path:
    (path,) = (Path(os.environ["WAMLAB_DATA"]) / "index").glob("*.safetensors")
    return path


def built(root: Path) -> bool:
    """Whether opening the dataset in `root` builds the index; the same scenes either way."""
    calls = []

    class Counting(NuScenesDataset):
        def read_scenes(self):
            calls.append(self)
            return super().read_scenes()

    Counting("synthetic", root, "v1.0-synthetic").scenes()
    return bool(calls)


def by_the_devkit(dataset: NuScenesDataset, name: str) -> dict[str, Any]:
    """A scene's fields looked up through the devkit, as its tutorial does."""
    nusc, can_bus = dataset.nusc, dataset.can_bus
    record = next(row for row in nusc.scene if row["name"] == name)
    images, token = [], record["first_sample_token"]
    while token:
        sample = nusc.get("sample", token)
        images.append(nusc.get("sample_data", sample["data"]["CAM_FRONT"]))
        token = sample["next"]
    times_us = np.array([image["timestamp"] for image in images])
    poses = [nusc.get("ego_pose", image["ego_pose_token"]) for image in images]
    from pyquaternion import Quaternion

    messages = {name_: can_bus.get_messages(name, name_) for name_ in ("steeranglefeedback", "pose")}
    near = {key: nearest(np.array([m["utime"] for m in rows_]), times_us) for key, rows_ in messages.items()}
    steering = [messages["steeranglefeedback"][i]["value"] for i in near["steeranglefeedback"]]
    pose = [messages["pose"][i] for i in near["pose"]]
    columns = {
        "steering_rad": steering,
        "accel_mps2": [m["accel"][0] for m in pose],
        "speed_mps": [m["vel"][0] for m in pose],
    }
    description = record["description"]
    location = nusc.get("log", record["log_token"])["location"]
    calibration = nusc.get("calibrated_sensor", images[0]["calibrated_sensor_token"])
    return {
        "name": name,
        "timestamps_s": times_us / 1e6,
        "image_paths": tuple(Path(nusc.get_sample_data_path(image["token"])) for image in images),
        "actions": np.stack([columns[key] for key in ACTIONS], axis=1).astype(np.float32),
        "ego_pose": np.array([(*p["translation"][:2], Quaternion(p["rotation"]).yaw_pitch_roll[0]) for p in poses]),
        "description": description,
        "attributes": {"location": location, **attributes(description), **record.get("attributes", {})},
        "intrinsics": np.array(calibration["camera_intrinsic"]),
        "image_size": (images[0]["width"], images[0]["height"]),
        "video_path": None,
        "video_frames": None,
        "world": record.get("world"),
    }


def assert_same(scene: Scene, expected: dict[str, Any]) -> None:
    for field in dataclasses.fields(Scene):
        if field.name == "split":
            continue
        value = getattr(scene, field.name)
        if field.name == "ego_pose":  # the devkit's quaternions are normalised first
            np.testing.assert_array_equal(value[:, :2], expected["ego_pose"][:, :2])
            np.testing.assert_allclose(value[:, 2], expected["ego_pose"][:, 2], atol=1e-7)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, expected[field.name])
            assert value.dtype == expected[field.name].dtype
        else:
            assert value == expected[field.name], field.name


def add_world(root: Path, version: str) -> None:
    """What the writer says of the scene's making, and rows that are not the front camera's keyframes: sweeps and another camera's."""
    folder = root / version
    content = {
        table: json.loads((folder / f"{table}.json").read_text()) for table in ("scene", "sensor", "sample_data")
    }
    content["scene"][0]["world"] = {"seed": 3, "road": "urban", "lanes": [1, 2], "speed_mps": 12.25}
    calibrations = json.loads((folder / "calibrated_sensor.json").read_text())
    content["sensor"].append({"token": "back", "channel": "CAM_BACK", "modality": "camera"})
    calibrations.append(
        calibrations[0] | {"token": "behind", "sensor_token": "back", "camera_intrinsic": [[1, 0, 0]] * 3}
    )
    for row in list(content["sample_data"]):
        content["sample_data"].append(
            row | {"token": f"sweep{row['token']}", "is_key_frame": False, "filename": "sweeps/x.jpg"}
        )
        content["sample_data"].append(
            row | {"token": f"b{row['token']}", "calibrated_sensor_token": "behind", "filename": "y.jpg"}
        )
    for table, found in (content | {"calibrated_sensor": calibrations}).items():
        (folder / f"{table}.json").write_text(json.dumps(found, indent=0))


@pytest.mark.parametrize("version", ["v1.0-synthetic", "v1.0-mini"])
@pytest.mark.filterwarnings("ignore:.*left out")
def test_scenes_are_the_devkit_s(root, version, monkeypatch):
    if version != "v1.0-synthetic":
        (root / "v1.0-synthetic").rename(root / version)
        monkeypatch.setattr("nuscenes.utils.splits.mini_train", ["scene-0001"])
        monkeypatch.setattr("nuscenes.utils.splits.mini_val", ["scene-0002", "scene-0161"])
    add_world(root, version)
    monkeypatch.setattr(streaming, "CHUNK", 700)  # rows lie across the pieces that are read
    dataset = open_dataset(root)
    first, second = dataset.scenes(), open_dataset(root).scenes()
    assert [scene.name for scene in first] == [scene.name for scene in second] == ["scene-0001", "scene-0002"]
    for scene in (*first, *second):
        assert_same(scene, by_the_devkit(dataset, scene.name))
    assert first[0].world == second[0].world == {"seed": 3, "road": "urban", "lanes": [1, 2], "speed_mps": 12.25}
    assert first[1].world is None and dataset.splits == open_dataset(root).splits


@pytest.mark.filterwarnings("ignore:.*left out")
def test_problems_are_kept_too(root):
    for _ in range(2):
        dataset = open_dataset(root)
        with pytest.raises(dataset.index.problems["scene-0161"].__class__, match="recorded without CAN bus"):
            dataset.scene("scene-0161")


@pytest.mark.filterwarnings("ignore:.*left out")
def test_it_is_built_once_and_never_stale(root):
    assert built(root) and not built(root)
    can = root / "can_bus" / "scene-0002_pose.json"
    messages = json.loads(can.read_text())
    messages[0]["vel"][0] += 1
    can.write_text(json.dumps(messages, separators=(",", ":")))
    assert built(root) and not built(root)
    table = root / "v1.0-synthetic" / "ego_pose.json"
    table.write_text(table.read_text().replace("120.", "121."))  # of one size
    assert built(root) and not built(root)
    os.utime(table)
    assert built(root)
    (root / "can_bus" / "scene-0001_pose.json").unlink()
    assert built(root) and not built(root)
    assert len(list(index_file().parent.glob("*.safetensors"))) == 1, "one file a dataset"


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("where", ["header", "metadata", "data", "cut", "empty"])
def test_damage_is_named_and_mended(root, where):
    expected = open_dataset(root).scenes()
    path = index_file()
    content = bytearray(path.read_bytes())
    place = {"header": 3, "metadata": content.find(b"Night") + 1, "data": len(content) - 20}
    if where in place:
        content[place[where]] ^= 0x04
    path.write_bytes({"cut": content[:-30], "empty": b""}.get(where, bytes(content)))
    with pytest.warns(UserWarning, match=f"damaged index .*{path.name}"):
        found = open_dataset(root).scenes()
    for scene, before in zip(found, expected, strict=True):
        assert_same(scene, dataclasses.asdict(before) | {"attributes": before.attributes, "world": before.world})
    assert not built(root)


@pytest.mark.filterwarnings("ignore:.*left out")
def test_an_altered_index_is_not_read(root):
    open_dataset(root).scenes()
    with safe_open(index_file(), framework="np") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["scene-0001/actions"] = 2 * tensors["scene-0001/actions"]
    save_file(tensors, index_file(), metadata)
    with pytest.warns(UserWarning, match="does not match its checksum"):
        open_dataset(root).scenes()


@pytest.mark.filterwarnings("ignore:.*left out")
def test_nowhere_to_keep_it(root, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WAMLAB_DATA", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot keep the index"):
        assert len(open_dataset(root).scenes()) == 2


def test_two_processes_build_it_once_and_a_third_needs_no_devkit(root):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start() -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", "-c", OPEN, str(root)]
        process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    both = [start(), start()]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].split("\n") for process in both]
    assert sorted(len(lines) for lines in outputs) == [2, 3], "one builds, one reads"
    assert start().communicate("\n")[0] == "2 False False\n"


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_rows_in_pieces_of_any_size(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    expected = [{"a": [1, -2.5e3], "b": '}],[{ " é'}, {"c": None}, {}]
    for text in (json.dumps(expected), json.dumps(expected, indent=0), "[ ]\n"):
        (tmp_path / "table.json").write_text(text, encoding="utf-8")
        assert list(rows(tmp_path / "table.json")) == json.loads(text)


def test_a_row_without_an_end_is_not_read_to_the_file_s(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", 10)
    monkeypatch.setattr(streaming, "MAX_ROW", 100)
    (tmp_path / "table.json").write_text('[{"a": "' + "x" * 90 + '"}, {"b": "' + "x" * 110 + '"}]')
    found = rows(tmp_path / "table.json")
    assert len(next(found)["a"]) == 90
    with pytest.raises(DatasetIncomplete, match="damaged table"):
        next(found)


@pytest.mark.parametrize("text", ["", "[", '[{"a": 1}', '[{"a": 1}, {"b": ', '{"a": 1}', '[{"a": 1} nonsense', "[\xff"])
def test_damaged_tables_are_named(tmp_path, text):
    (tmp_path / "table.json").write_text(text, encoding="latin-1")
    with pytest.raises(DatasetIncomplete, match="damaged table .*table.json"):
        list(rows(tmp_path / "table.json"))


def test_tables_that_do_not_fit_together(root):
    table = root / "v1.0-synthetic" / "log.json"
    table.write_text("[]")
    with pytest.raises(
        DatasetIncomplete, match=r"tables in .* that do not fit together \(KeyError\('.*run `wamlab data synth`"
    ):
        open_dataset(root).scenes()


def test_damage_beyond_what_the_index_needs_is_the_devkit_s_to_find(root):
    (root / "v1.0-synthetic" / "instance.json").write_text("[{")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*left out")
        assert len(open_dataset(root).scenes()) == 2
    with pytest.raises(DatasetIncomplete, match="damaged table .*instance.json"):
        _ = open_dataset(root).nusc
