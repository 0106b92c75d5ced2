"""Every call of nuscenes-devkit on scenes of several kinds: a plain one, one with all sensors, left-hand traffic, a rainy night."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import Box, LidarPointCloud
from nuscenes.utils.geometry_utils import BoxVisibility, points_in_box
from PIL import Image
from pyquaternion import Quaternion

from wamlab.geometry import to_global_frame
from wamlab.world import lidar
from wamlab.world.annotation import agent_poses
from wamlab.world.camera import Camera
from wamlab.world.driver import EgoState
from wamlab.world.filming import Sensors, record
from wamlab.world.nuscenes import VERSION, write_scene, write_tables
from wamlab.world.recording import Recording
from wamlab.world.simulation import STEP_S, SceneSpec, make_world

ALL = Sensors(
    (Camera(), Camera("CAM_FRONT_LEFT", yaw_rad=0.96), Camera("CAM_BACK", yaw_rad=np.pi)),
    sweeps=True,
    lidar=True,
    depth=True,
)
KINDS = {
    "scene-0001": (SceneSpec(3, "suburban", duration_s=3.0), Sensors()),
    "scene-0002": (SceneSpec(5, "urban", turn="left", duration_s=3.0), ALL),
    "scene-0003": (SceneSpec(7, "urban", side=-1, duration_s=3.0), Sensors(lidar=True, clips=None)),
    "scene-0004": (SceneSpec(9, "urban", "night", "rain", duration_s=3.0), Sensors(lidar=True)),
}
pytestmark = pytest.mark.xdist_group("devkit")


@pytest.fixture(scope="module")
def recordings() -> dict[str, Recording]:
    return {
        name: record(name, "train", spec, 1_700_000_000_000_000 + k * 60_000_000, sensors)
        for k, (name, (spec, sensors)) in enumerate(KINDS.items())
    }


@pytest.fixture(scope="module")
def root(recordings: dict[str, Recording], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    for recording in recordings.values():
        write_scene(folder, recording)
    write_tables(folder, recordings)
    return folder


@pytest.fixture(scope="module")
def nusc(root: Path) -> NuScenes:
    return NuScenes(VERSION, str(root), verbose=False)


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, nusc: NuScenes) -> dict:
    return nusc.get("scene", nusc.field2token("scene", "name", request.param)[0])


@pytest.fixture
def figure() -> Iterator[None]:
    yield
    plt.close("all")


def samples(nusc: NuScenes, scene: dict) -> list[dict]:
    return [nusc.get("sample", t) for t in nusc.field2token("sample", "scene_token", scene["token"])]


def chain(nusc: NuScenes, token: str) -> list[dict]:
    rows = []
    while token:
        rows.append(nusc.get("sample_data", token))
        token = rows[-1]["next"]
    return rows


def test_lists(nusc, scene, capsys):
    nusc.list_scenes()
    nusc.list_categories()
    nusc.list_attributes()
    nusc.list_sample(scene["first_sample_token"])
    out = capsys.readouterr().out
    assert scene["name"] in out and "vehicle.car" in out and "vehicle.parked" in out
    sensors = KINDS[scene["name"]][1]
    assert out.count("mod: camera") == len(sensors.cameras) and out.count("mod: lidar") == sensors.lidar


def test_every_sensor_has_its_own_chain(nusc, scene):
    spec, sensors = KINDS[scene["name"]]
    first = samples(nusc, scene)[0]
    for channel, token in first["data"].items():
        rows = chain(nusc, token)
        steps = list(range(0, 31, 6))  # keyframes at 0, 0.5, … 2.5 s
        if sensors.sweeps and channel != "LIDAR_TOP":
            steps = list(range(31))
        elif sensors.clips and channel == "CAM_FRONT":
            steps = [0, *range(3, 31)]  # clips of 16 end with the last three keyframes
        times = [row["timestamp"] - rows[0]["timestamp"] for row in rows]
        np.testing.assert_allclose(times, np.array(steps) * STEP_S * 1e6, atol=1)
        assert [row["is_key_frame"] for row in rows] == [step % 6 == 0 for step in steps]
        for row in rows:
            assert nusc.get("ego_pose", row["ego_pose_token"])["timestamp"] == row["timestamp"]
            assert row["filename"].startswith(
                f"{'samples' if row['is_key_frame'] else 'sweeps'}/{channel}/{scene['name']}__"
            )
            behind = nusc.get("sample", row["sample_token"])["timestamp"] - row["timestamp"]
            assert 0 <= behind < 500_000, "a sweep belongs to the keyframe that follows it"
            if channel != "LIDAR_TOP":
                assert Image.open(nusc.get_sample_data_path(row["token"])).size == (row["width"], row["height"])


def test_sweeps_have_the_poses_and_boxes_of_their_instant(nusc, recordings):
    """Interpolated boxes against the simulated poses between the keyframes."""
    scene, recording = nusc.scene[1], recordings["scene-0002"]
    rows = chain(nusc, samples(nusc, scene)[0]["data"]["CAM_BACK"])
    for row in rows:
        k = round((row["timestamp"] - recording.can.timestamps_us[0]) / 1e6 / STEP_S)
        pose = nusc.get("ego_pose", row["ego_pose_token"])
        np.testing.assert_allclose(pose["translation"][:2], recording.can.pose[k, :2], atol=1e-4)
        assert Quaternion(pose["rotation"]).yaw_pitch_roll[0] == pytest.approx(
            np.arctan2(*[f(recording.can.pose[k, 2]) for f in (np.sin, np.cos)]), abs=1e-6
        )
    moved = 0
    for row in rows[1:6]:
        share = (row["timestamp"] - rows[0]["timestamp"]) / 500_000
        for box in nusc.get_boxes(row["token"]):
            annotation = nusc.get("sample_annotation", box.token)
            if not annotation["prev"]:
                continue
            before = nusc.get("sample_annotation", annotation["prev"])["translation"]
            expected = (1 - share) * np.array(before) + share * np.array(annotation["translation"])
            np.testing.assert_allclose(box.center, expected, atol=1e-3)
            moved += bool(np.linalg.norm(expected - before) > 0.05)
    assert moved > 3


def test_boxes_lie_where_the_semantic_map_has_their_class(nusc, root, scene):
    """The middle of a box that is well seen, projected by the devkit, is a vehicle (9 to 12) or a pedestrian (13)."""
    right, count = 0, 0
    for sample in samples(nusc, scene):
        for channel in sorted(c for c in sample["data"] if c.startswith("CAM")):
            path, boxes, intrinsics = nusc.get_sample_data(sample["data"][channel], box_vis_level=BoxVisibility.ALL)
            labels = np.array(Image.open(root / "labels" / "semantic" / channel / f"{Path(path).stem}.png"))
            for box in boxes:
                if nusc.get("sample_annotation", box.token)["visibility_token"] != "4" or "bicycle" in box.name:
                    continue
                u, v, z = intrinsics @ box.center
                kinds = {13} if box.name.startswith("human") else {9, 10, 11}
                right, count = right + (int(labels[int(v / z), int(u / z)]) in kinds), count + 1
    assert count > 5 and right / count > 0.9, f"{right} of {count}"


def test_depth_labels_are_centimetres_of_what_the_picture_shows(nusc, root):
    path = nusc.get_sample_data_path(samples(nusc, nusc.scene[1])[0]["data"]["CAM_FRONT"])
    stem = f"CAM_FRONT/{Path(path).stem}.png"
    depth = np.array(Image.open(root / "labels/depth" / stem)).astype(float) / 100
    semantic = np.array(Image.open(root / "labels/semantic" / stem))
    camera = Camera()
    assert (depth[semantic == 0] == 0).all() and (depth[semantic != 0] > 0).all()
    row = np.nonzero(semantic == 1)[0]
    expected = camera.position_m[2] * camera.focal_px / (row + 0.5 - camera.height / 2)
    np.testing.assert_allclose(depth[semantic == 1], expected, atol=0.006, rtol=1e-5)


def test_velocities_are_the_simulated_ones(nusc, recordings, scene):
    tracks = recordings[scene["name"]].agents
    times = recordings[scene["name"]].timestamps_us.tolist()
    by_place = {
        (k, *np.round(t.pose[k, :2], 3)): t.velocity_mps[k] for t in tracks for k in np.flatnonzero(t.visibility)
    }
    errors = []
    for sample in samples(nusc, scene):
        for token in sample["anns"]:
            annotation = nusc.get("sample_annotation", token)
            if not (annotation["prev"] and annotation["next"]):
                continue
            true = by_place[(times.index(sample["timestamp"]), *annotation["translation"][:2])]
            errors.append(np.linalg.norm(nusc.box_velocity(token)[:2] - true))
    assert len(errors) > 20 and np.percentile(errors, 95) < 0.4 and np.median(errors) < 0.05


def test_lidar_points_lie_on_the_ground_and_in_the_boxes(nusc, scene):
    """Points of the ground, back in the global frame, have z = 0; those in a box are as many as its annotation says."""
    for sample in samples(nusc, scene)[::2]:
        if "LIDAR_TOP" not in sample["data"]:
            continue
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        assert 60_000 < Path(path).stat().st_size < 100_000
        points = np.fromfile(path, np.float32).reshape(-1, 5)
        cloud = LidarPointCloud.from_file(path)
        inside = np.zeros(len(points), bool)
        for box in boxes:
            within = points_in_box(box, cloud.points[:3])
            assert within.sum() == nusc.get("sample_annotation", box.token)["num_lidar_pts"]
            inside |= within
        calibration = nusc.get(
            "calibrated_sensor", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["calibrated_sensor_token"]
        )
        cloud.rotate(Quaternion(calibration["rotation"]).rotation_matrix)
        cloud.translate(np.array(calibration["translation"]))
        ground = np.isin(points[:, 3], (12, 90, 22, 16))
        assert ground.mean() > 0.3 and np.abs(cloud.points[2, ground]).max() < 2e-3
        assert not (inside & ground).any() and set(points[:, 4]) <= set(range(32)) and inside.any()
        elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
        nominal = -30.67 + points[:, 4] * 41.34 / 31
        assert np.abs(elevation - nominal).max() < 0.3


def test_lidar_points_lie_on_the_faces_of_a_bus():
    """A box-shaped body seen from behind and beside: its returns are on its faces, which lean in a little, and none is deep inside."""
    worlds = (make_world(SceneSpec(seed, "urban")) for seed in range(30))
    world = next(w for w in worlds if "bus" in w.agents.kind)
    n = world.agents.kind.index("bus")
    x, y, yaw = pose = agent_poses(world, [world.start])[0][n]
    ego = (*to_global_frame(np.array([-14.0, 5.0]), pose), yaw)
    cloud = lidar.scan(world, [replace(world.start, ego=EgoState(*map(float, ego), 0.0))])[0]
    xyz = np.column_stack([to_global_frame(cloud[:, :2], ego), cloud[:, 2]])
    length, width, height = size = world.agents.size_m[n]
    box = Box([x, y, height / 2], [width + 0.1, length + 0.1, height + 0.1], Quaternion(axis=[0, 0, 1], angle=yaw))
    body = xyz[points_in_box(box, xyz.T) & (xyz[:, 2] > 1.35)]
    local = (body - box.center) @ box.rotation_matrix
    assert len(body) > 40 and np.abs((np.abs(local) - size / 2).max(1)).max() < 0.16
    back, left = local[:, 0] < -length / 2 + 0.2, local[:, 1] > width / 2 - 0.2
    assert (back | left).all() and back.sum() > 10 and left.sum() > 10


def test_visibility_is_plausible(nusc, scene):
    """Who stands behind the only camera is seen by nobody; who is well seen gets more lidar points than who is not."""
    levels = {k: [] for k in "1234"}
    one_camera = len(KINDS[scene["name"]][1].cameras) == 1
    for sample in samples(nusc, scene):
        _, boxes, _ = nusc.get_sample_data(sample["data"]["CAM_FRONT"], selected_anntokens=sample["anns"])
        in_image = {box.token for box in boxes}
        for token in sample["anns"]:
            annotation = nusc.get("sample_annotation", token)
            levels[annotation["visibility_token"]].append(annotation)
            if one_camera and annotation["visibility_token"] in "34":
                assert token in in_image
    assert levels["4"] and levels["1"], {k: len(v) for k, v in levels.items()}


def test_draws_a_sample_with_all_its_sensors(nusc, scene, figure):
    sample = samples(nusc, scene)[2]
    nusc.render_sample(sample["token"], verbose=False)
    titles = [ax.get_title().strip() for ax in plt.gcf().axes]
    assert set(sample["data"]) <= set(titles)


def test_draws_sample_data_of_camera_and_lidar(nusc, scene, figure):
    for sample in (samples(nusc, scene)[0], samples(nusc, scene)[-1]):
        for channel, token in sample["data"].items():
            nusc.render_sample_data(token, verbose=False)
            ax = plt.gca()
            assert ax.get_title().strip() == channel and len(ax.images) == 1
            assert len(ax.collections) == (channel == "LIDAR_TOP"), "the points"


def test_draws_annotations_and_instances(nusc, scene, figure):
    sample = samples(nusc, scene)[1]
    _, boxes, _ = nusc.get_sample_data(sample["data"]["CAM_FRONT"], box_vis_level=BoxVisibility.ALL)
    token = boxes[0].token
    if "LIDAR_TOP" not in sample["data"]:
        with pytest.raises(AssertionError, match="No LIDAR_TOP"):
            nusc.render_annotation(token)
        return
    nusc.render_annotation(token, extra_info=True)
    assert len(plt.gcf().axes) == 2 and plt.gcf().axes[1].get_title() == "CAM_FRONT"
    nusc.render_instance(nusc.get("sample_annotation", token)["instance_token"])


def test_projects_points_into_the_picture(nusc, root, scene, figure):
    """Each point's depth in the camera is that of the depth label under it, where both see the same surface."""
    sample = samples(nusc, scene)[2]
    if "LIDAR_TOP" not in sample["data"]:
        with pytest.raises(KeyError, match="LIDAR_TOP"):
            nusc.render_pointcloud_in_image(sample["token"])
        return
    points, depth, image = nusc.explorer.map_pointcloud_to_image(
        sample["data"]["LIDAR_TOP"], sample["data"]["CAM_FRONT"]
    )
    assert image.size == (256, 144) and points.shape[1] == len(depth) > 300
    nusc.render_pointcloud_in_image(sample["token"], verbose=False)
    assert len(plt.gca().collections[0].get_offsets()) == len(depth)
    if KINDS[scene["name"]][1].depth:
        stem = Path(nusc.get_sample_data_path(sample["data"]["CAM_FRONT"])).stem
        drawn = np.array(Image.open(root / "labels/depth/CAM_FRONT" / f"{stem}.png"))[
            points[1].astype(int), points[0].astype(int)
        ]
        assert np.median(np.abs(drawn / 100 / depth - 1)) < 0.02


def test_draws_poses_on_the_map(nusc, scene, figure):
    if "LIDAR_TOP" not in samples(nusc, scene)[0]["data"]:
        with pytest.raises(KeyError, match="LIDAR_TOP"):
            nusc.render_egoposes_on_map("synthetic", scene_tokens=[scene["token"]])
        return
    nusc.render_egoposes_on_map("synthetic", scene_tokens=[scene["token"]])
    assert len(plt.gcf().axes[0].collections[0].get_offsets()) == len(samples(nusc, scene))


def test_plays_a_channel(nusc, scene, monkeypatch, tmp_path):
    """The devkit shows it in a window, which needs an OpenCV with a GUI (`opencv-python`, not `-headless`); here the window is a stub."""
    shown = []
    for name in ("namedWindow", "moveWindow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *a: None, raising=False)
    monkeypatch.setattr(cv2, "imshow", lambda name, image: shown.append(image), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda *a: -1, raising=False)
    nusc.render_scene_channel(scene["token"], "CAM_FRONT", out_path=str(tmp_path / "drive.avi"))
    assert len(shown) == len(chain(nusc, samples(nusc, scene)[0]["data"]["CAM_FRONT"]))
    assert (
        np.abs(np.diff(np.array(shown, float), axis=0)).mean() > 0.05
        and (tmp_path / "drive.avi").stat().st_size > 10_000
    )


def test_map_mask_lies_under_the_drive(nusc, scene):
    mask = nusc.get("map", nusc.get("log", scene["log_token"])["map_token"])["mask"]
    poses = [
        nusc.get("ego_pose", row["ego_pose_token"]) for row in chain(nusc, samples(nusc, scene)[0]["data"]["CAM_FRONT"])
    ]
    x, y, _ = np.array([pose["translation"] for pose in poses]).T
    assert mask.is_on_mask(x, y).all()
    assert not mask.is_on_mask(np.array([1.0]), np.array([1.0])).any()
    assert 0.005 < mask.mask().mean() / 255 < 0.5


def test_can_bus(root, nusc, scene, figure, capsys):
    can = NuScenesCanBus(str(root))
    name = scene["name"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        messages = {message: can.get_messages(name, message) for message in can.all_messages}
        route, pose = can.get_pose_and_route(name)
    assert all(messages.values()) and set(messages["meta"]) == set(can.can_messages)
    assert np.linalg.norm(pose[:, None] - route[None], axis=2).min(1).max() < 2.0
    for message in can.can_messages:
        utimes = [row["utime"] for row in messages[message]]
        assert utimes == sorted(set(utimes)) and utimes[0] <= samples(nusc, scene)[0]["timestamp"]
        can.print_message_stats(name, message)
    can.print_all_message_stats(name)
    assert '"message_count"' in capsys.readouterr().out
    can.plot_baseline_route(name)
    can.plot_message_data(name, "pose", "vel", dimension=-1)
    assert name not in can.list_misaligned_routes()


def test_scene_can_be_made_again(scene, recordings):
    spec, _ = KINDS[scene["name"]]
    assert SceneSpec(**scene["world"]) == spec
    assert recordings[scene["name"]].description == scene["description"] != ""
