"""The devkit opens what the writer wrote, and the writer can be stopped at any point."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import arc, make_dataset, make_recording
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import get_scenes_of_split

from wamlab.errors import DatasetIncomplete
from wamlab.world import nuscenes as writer
from wamlab.world.canbus import RATES_HZ
from wamlab.world.taxonomy import ATTRIBUTES, BLACKLIST, CATEGORIES, scene_names


@pytest.fixture(scope="module")
def nusc(dataset_root: Path) -> NuScenes:
    return NuScenes(writer.VERSION, str(dataset_root), verbose=False)


@pytest.fixture(scope="module")
def can_bus(dataset_root: Path) -> NuScenesCanBus:
    return NuScenesCanBus(str(dataset_root))


def first_image(nusc: NuScenes, frame: int = 0) -> str:
    token = nusc.scene[0]["first_sample_token"]
    for _ in range(frame):
        token = nusc.get("sample", token)["next"]
    return nusc.get("sample", token)["data"]["CAM_FRONT"]


def digest_of(root: Path) -> dict[str, str]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_devkit_lists_it(nusc, capsys):
    nusc.list_scenes()
    nusc.list_sample(nusc.sample[0]["token"])
    nusc.list_categories()
    nusc.list_attributes()
    out = capsys.readouterr().out
    assert "scene-0001, Night, urban, rain" in out and "vehicle.moving: 33" in out
    assert len(nusc.sample) == 36 and len(nusc.instance) == 3 and len(nusc.sample_annotation) == 33


def test_tokens_are_unique_and_every_reference_resolves(nusc):
    tables = {table: {row["token"] for row in getattr(nusc, table)} for table in nusc.table_names}
    assert sum(map(len, tables.values())) == sum(len(getattr(nusc, table)) for table in nusc.table_names)
    for table in nusc.table_names:
        for row in getattr(nusc, table):
            for key, value in row.items():
                if key.endswith("_token") and value:
                    target = key.removesuffix("_token").removeprefix("first_").removeprefix("last_")
                    assert value in tables["sample_annotation" if target == "annotation" else target], (table, key)
                if key in ("prev", "next") and value:
                    assert nusc.get(table, value)[{"prev": "next", "next": "prev"}[key]] == row["token"]


def test_devkit_draws_the_car_where_it_is(nusc, tmp_path):
    """The lead car keeps 15 m ahead: a few metres of arc to the left, its box in the image's upper half of the road."""
    path, boxes, intrinsics = nusc.get_sample_data(first_image(nusc, 1))
    assert Path(path).is_file() and len(boxes) == 1
    right, down, forward = boxes[0].center
    ahead = arc(np.array([15 / 8.0]), 8.0, 0.02, (0, 0))[0]
    np.testing.assert_allclose([right, down, forward], [-ahead[1], 1.5 - 0.8, ahead[0] - 1.7], atol=0.01)
    nusc.render_sample_data(first_image(nusc, 1), out_path=str(tmp_path / "out.png"), verbose=False)
    assert (tmp_path / "out.png").stat().st_size > 1000


def test_first_frame_has_no_box_and_velocity_is_the_track_s(nusc):
    assert nusc.get_boxes(first_image(nusc, 0)) == []
    box = nusc.get_boxes(first_image(nusc, 5))[0]
    velocity = nusc.box_velocity(box.token)
    yaw = arc(np.array([5 / 2 + 15 / 8.0]), 8.0, 0.02)[0, 2]
    np.testing.assert_allclose(velocity[:2], 8 * np.array([np.cos(yaw), np.sin(yaw)]), atol=0.05)
    assert nusc.get("sample_annotation", box.token)["num_lidar_pts"] >= 1


def test_map_mask_lies_under_the_drive(nusc):
    mask = nusc.map[0]["mask"]
    assert mask.mask().shape == (2400, 3200)
    assert mask.is_on_mask(np.array([120.0, 120.0, 120.0]), np.array([120.0, 85.0, 145.0])).tolist() == [
        True,
        False,
        False,
    ]


def test_every_can_message(can_bus):
    recording = make_recording()
    for name, rate in RATES_HZ.items():
        messages = can_bus.get_messages("scene-0001", name)
        utimes = np.array([m["utime"] for m in messages])
        gap = np.abs(utimes[:, None] - recording.timestamps_us[None]).min(axis=0)
        assert np.all(np.diff(utimes) > 0) and len(messages) >= 6 * rate - 1
        assert gap.max() == 0, f"a {name} message falls on every keyframe"
    meta = can_bus.get_messages("scene-0001", "meta")
    assert set(meta) == set(can_bus.can_messages)
    assert (
        meta["pose"]["message_freq"] == pytest.approx(10, abs=0.1)
        and len(meta["pose"]["var_stats"]["accel"]["diff_std"]) == 3
    )
    pose, speed = (
        can_bus.get_messages("scene-0001", "pose")[0],
        can_bus.get_messages("scene-0001", "vehicle_monitor")[0],
    )
    assert pose["vel"] == [8.0, 0.0, 0.0] and speed["vehicle_speed"] == 28.8
    steering = {m["utime"]: m["value"] for m in can_bus.get_messages("scene-0001", "steeranglefeedback")}
    assert speed["steering"] == pytest.approx(np.degrees(steering[speed["utime"]]), abs=0.06)


def test_route_lies_under_the_pose(can_bus):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        route, pose = can_bus.get_pose_and_route("scene-0001")
    assert np.linalg.norm(pose[:, None] - route[None], axis=2).min(axis=1).max() < 2.0


def test_splits_are_the_devkit_s_custom_ones(nusc):
    assert get_scenes_of_split("synthetic_train", nusc) == ["scene-0001"]
    assert get_scenes_of_split("synthetic_test", nusc) == ["scene-0003"]


def test_names_skip_what_the_devkit_refuses(can_bus):
    assert set(can_bus.can_blacklist) | set(can_bus.route_blacklist) | {419} == BLACKLIST
    names = scene_names(160)
    assert len(names) == 160 and names[0] == "scene-0001" and "scene-0071" not in names
    assert len(CATEGORIES) == 23 and len(ATTRIBUTES) == 8


def test_same_bytes_in_any_order(tmp_path, dataset_root):
    root = make_dataset(tmp_path, {"scene-0003": "test", "scene-0002": "val", "scene-0001": "train"})
    assert digest_of(root) == digest_of(dataset_root)


def test_resumes_after_an_interruption(tmp_path, dataset_root):
    """Killed by force while writing the second scene: the first one stays, the rest is made, and the bytes are the same."""
    code = (
        "import os, signal; from helpers import make_recording; from wamlab.world import nuscenes as w;"
        f"w.write_scene({str(tmp_path)!r}, make_recording('scene-0001', 'train'));"
        "write, count = w._write, []\n"
        "def killed(path, content):\n"
        "    count.append(path); write(path, content)\n"
        "    if len(count) == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"w._write = killed; w.write_scene({str(tmp_path)!r}, make_recording('scene-0002', 'val'))"
    )
    paths = [str(Path(__file__).parents[1]), *sys.path]
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})
    assert done.returncode == -signal.SIGKILL
    names = ["scene-0001", "scene-0002", "scene-0003"]
    assert [writer.scene_done(tmp_path, name) for name in names] == [True, False, False]
    with pytest.raises(DatasetIncomplete, match="no scene scene-0002, scene-0003 .*wamlab data synth"):
        writer.write_tables(tmp_path, names)
    writer.write_scene(tmp_path, make_recording("scene-0002", "val"))
    writer.write_scene(tmp_path, make_recording("scene-0003", "test"))
    writer.write_tables(tmp_path, names)
    assert digest_of(tmp_path) == digest_of(dataset_root)


def test_a_scene_is_not_done_when_a_file_or_the_recipe_differs(tmp_path):
    writer.write_scene(tmp_path, make_recording(frames=3), recipe="a")
    assert writer.scene_done(tmp_path, "scene-0001", "a") and not writer.scene_done(tmp_path, "scene-0001", "b")
    image = next((tmp_path / "samples/CAM_FRONT").iterdir())
    image.write_bytes(image.read_bytes()[:-10])
    assert not writer.scene_done(tmp_path, "scene-0001", "a")
    (tmp_path / ".parts/scene-0001.json.gz").write_bytes(b"\x1f\x8b")
    assert not writer.scene_done(tmp_path, "scene-0001", "a")


def test_rewriting_a_scene_leaves_nothing_of_the_old_one(tmp_path):
    make_dataset(tmp_path, {"scene-0001": "train"}, frames=4)
    writer.write_scene(tmp_path, make_recording(frames=3))
    assert len(list((tmp_path / "samples/CAM_FRONT").iterdir())) == 3
    assert not (tmp_path / writer.VERSION / "splits.json").exists(), (
        "the tables no longer fit: the dataset is incomplete"
    )


def test_chains_bridge_gaps_and_unseen_agents_are_left_out(tmp_path):
    recording = make_recording(frames=5)
    car = recording.agents[0]
    visibility = (np.array([1, 0, 3, 4, 0]), np.zeros(5, int))
    agents = tuple(replace(car, visibility=v) for v in visibility)
    writer.write_scene(tmp_path, make_recording(frames=5, agents=agents))
    writer.write_tables(tmp_path, ["scene-0001"])
    tables = {
        t: json.loads((tmp_path / writer.VERSION / f"{t}.json").read_text()) for t in ("instance", "sample_annotation")
    }
    rows = tables["sample_annotation"]
    assert [row["visibility_token"] for row in rows] == ["1", "3", "4"] and tables["instance"][0][
        "nbr_annotations"
    ] == 3
    assert [rows[0]["next"], rows[1]["prev"], rows[2]["next"]] == [rows[1]["token"], rows[0]["token"], ""]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ego_pose": arc(np.arange(3) / 2, 8, 0.02, (-5, 5))}, "positive coordinates"),
        ({"ego_pose": np.full((3, 3), np.nan)}, "positive coordinates"),
        ({"timestamps_us": np.array([2, 1, 3])}, "timestamps must rise"),
        ({"ego_pose": np.ones((2, 3))}, "3 timestamps"),
        ({"timestamps_us": np.array([1, 2, 3])}, "no CAN message within 50 ms"),
        ({"can": replace(make_recording(frames=3).can, speed_mps=np.full(95, np.nan))}, "NaN or infinite"),
        ({"map_resolution_m": 0.25}, "multiple of 0.1, not 0.25"),
        ({"agents": (replace(make_recording().agents[0], category="vehicle.tram"),)}, "vehicle.tram"),
    ],
)
def test_refuses_what_the_format_cannot_hold(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        writer.write_scene(tmp_path, make_recording(frames=3, **changes))


def test_refuses_equal_start_times(tmp_path):
    first = make_recording("scene-0001", frames=3)
    writer.write_scene(tmp_path, first)
    writer.write_scene(
        tmp_path, make_recording("scene-0002", frames=3, timestamps_us=first.timestamps_us, can=first.can)
    )
    with pytest.raises(ValueError, match="scene-0002 and scene-0001 start at the same time"):
        writer.write_tables(tmp_path, ["scene-0001", "scene-0002"])


def test_an_interrupted_scene_leaves_nothing_behind_for_another_recording(tmp_path, monkeypatch):
    """Stopped in the middle of twelve images, then recorded anew with three: only these are there."""
    write, count = writer._write, []

    def stopped(path: Path, content: bytes) -> None:
        if len(count) == 9:
            raise KeyboardInterrupt
        count.append(path)
        write(path, content)

    monkeypatch.setattr(writer, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        writer.write_scene(tmp_path, make_recording())
    monkeypatch.undo()
    assert len(list((tmp_path / "samples/CAM_FRONT").iterdir())) == 8 and not writer.scene_done(tmp_path, "scene-0001")
    writer.write_scene(tmp_path, make_recording(frames=3))
    assert len(list((tmp_path / "samples/CAM_FRONT").iterdir())) == 3


def test_the_scene_table_says_what_the_drive_is_made_from(tmp_path):
    world = {"seed": 5, "place": "rural"}
    for name, made_from in (("scene-0001", world), ("scene-0002", {})):
        writer.write_scene(tmp_path, make_recording(name, frames=3, world=made_from))
    writer.write_tables(tmp_path, ["scene-0001", "scene-0002"])
    rows = json.loads((tmp_path / writer.VERSION / "scene.json").read_text())
    assert rows[0]["world"] == world and "world" not in rows[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": (b"",) * 2}, "CAM_FRONT needs a shot"),
        ({"labels": {"semantic": (b"",)}}, "CAM_FRONT needs a shot"),
        ({"timestamps_us": np.arange(3)}, "at every keyframe"),
        ({"channel": "CAM_BACK"}, "CAM_FRONT be the first"),
    ],
)
def test_refuses_films_that_do_not_fit(tmp_path, changes, message):
    recording = make_recording(frames=3)
    films = (replace(recording.films[0], **changes),)
    with pytest.raises(ValueError, match=message):
        writer.write_scene(tmp_path, replace(recording, films=films))
