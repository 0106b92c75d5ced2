"""The embedded dataset: the same bytes from any number of processes, resumable, and read by the devkit itself."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import WORLD_SECONDS
from PIL import Image

from wamlab.data import open_dataset
from wamlab.encoders.vjepa2 import VJepa2Clip
from wamlab.errors import DatasetIncomplete, InvalidParameter
from wamlab.geometry import STEERING_RATIO, WHEELBASE_M
from wamlab.world import synthesize
from wamlab.world.camera import Camera
from wamlab.world.filming import CLIP_FRAMES, Sensors, _steps, record
from wamlab.world.nuscenes import VERSION, scene_done
from wamlab.world.simulation import SceneSpec
from wamlab.world.synthetic import dataset_specs, recipe_of, split_of

pytestmark = pytest.mark.xdist_group("world")


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_one_process_writes_the_same_bytes(small_world, tmp_path):
    alone = synthesize(tmp_path / "synthetic", 10, workers=1, duration_s=WORLD_SECONDS, progress=False)
    expected, got = contents(small_world), contents(alone)
    assert expected.keys() == got.keys()
    assert [name for name in expected if expected[name] != got[name]] == []


def test_goes_on_where_it_stopped(small_world, tmp_path):
    import shutil

    root = tmp_path / "synthetic"
    shutil.copytree(small_world, root)
    image = next((root / "samples" / "CAM_FRONT").glob("scene-0003*"))
    image.write_bytes(image.read_bytes()[:100])  # what a full disk leaves behind
    (root / VERSION / "splits.json").unlink()
    with pytest.raises(DatasetIncomplete, match="wamlab data synth"):
        open_dataset(root).scenes()
    kept = next((root / "samples" / "CAM_FRONT").glob("scene-0001*")).stat().st_mtime_ns
    synthesize(root, 10, workers=1, duration_s=WORLD_SECONDS, progress=False)
    assert contents(root) == contents(small_world)
    assert next((root / "samples" / "CAM_FRONT").glob("scene-0001*")).stat().st_mtime_ns == kept


def test_another_seed_is_another_world(small_world):
    assert list(dataset_specs(20, 0).items())[:10] == list(dataset_specs(10, 0).items())
    assert dataset_specs(10, 0) != dataset_specs(10, 1)


def test_splits_have_the_announced_shares():
    splits = [split_of(i) for i in range(160)]
    assert {s: splits.count(s) for s in ("train", "val", "test")} == {"train": 112, "val": 16, "test": 32}
    specs = list(dataset_specs(160, 0).values())
    for attribute, values in (("time", 3), ("weather", 4), ("place", 3), ("turn", 3), ("explore", 2), ("side", 2)):
        assert len({getattr(s, attribute) for s in specs}) == values


def test_actions_move_the_car_as_the_poses_say(small_world):
    """Steering times speed is the yaw rate, speed is the distance, acceleration the change of speed: CAN bus against poses."""
    for scene in open_dataset(small_world).scenes():
        steering, _, speed = scene.actions.T
        dt = np.diff(scene.timestamps_s)
        assert np.allclose(dt, 0.5, atol=1e-3)
        moved = np.hypot(*np.diff(scene.ego_pose[:, :2], axis=0).T)
        assert np.allclose(moved, (speed[1:] + speed[:-1]) / 2 * dt, atol=0.35), scene.name
        rate = speed * np.tan(steering / STEERING_RATIO) / WHEELBASE_M
        turned = np.diff(np.unwrap(scene.ego_pose[:, 2]))
        assert np.allclose(turned, (rate[1:] + rate[:-1]) / 2 * dt, atol=0.12), scene.name


def test_foreign_folders_and_impossible_numbers_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not overwrite")
    with pytest.raises(DatasetIncomplete, match="--out"):
        synthesize(tmp_path, 10, progress=False)
    for wrong in ({"num_scenes": 3}, {"num_scenes": 20_000}, {"workers": -1}, {"duration_s": -1}, {"duration_s": 600}):
        with pytest.raises(InvalidParameter, match=re.escape(str(list(wrong.values())[0]))):
            synthesize(tmp_path / "new", **({"num_scenes": 10, "progress": False} | wrong))
    assert not (tmp_path / "new").exists()


def test_clips_are_filmed_at_12_hz_up_to_their_keyframes_and_change_no_other_picture():
    """20 s: keyframes 0 … 39, clips of 16 frames that end with 17, 18, 19 and 37, 38, 39."""
    sensors = Sensors((Camera(), Camera("CAM_BACK", yaw_rad=np.pi)))
    front, back = (_steps(240, sensors, camera) for camera in sensors.cameras)
    assert back.tolist() == list(range(0, 240, 6))
    swept = {k for end in (17, 18, 19, 37, 38, 39) for k in range(6 * end - CLIP_FRAMES + 1, 6 * end + 1)}
    assert front.tolist() == sorted(swept | set(back.tolist())) and len(front) == 86
    assert VJepa2Clip.num_frames == CLIP_FRAMES
    assert _steps(30, Sensors(), Camera()).tolist() == list(range(25)), "a drive shorter than a clip is filmed whole"
    spec = SceneSpec(3, "suburban", weather="rain", duration_s=3.0)
    plain, clips = (
        record("scene-0001", "train", spec, 1, given).films[0] for given in (Sensors(clips=None), Sensors())
    )
    keyframes = np.isin(clips.timestamps_us, plain.timestamps_us)
    assert tuple(shot for shot, key in zip(clips.shots, keyframes, strict=True) if key) == plain.shots
    assert [bool(label) for label in clips.labels["semantic"]] == keyframes.tolist()


@pytest.mark.parametrize("clips", [(20, 0), (3, 4), (0, 0)])
def test_impossible_clips_are_refused(clips):
    with pytest.raises(InvalidParameter, match=re.escape(f"not {clips}")):
        Sensors(clips=clips)


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ((), "CAM_FRONT the first of them, not \\[\\]"),
        ((Camera("CAM_BACK"), Camera()), "CAM_FRONT the first of them"),
        ((Camera(), Camera()), "must be different ones"),
        ((Camera(), Camera("../CAM")), "like CAM_BACK_LEFT, not '../CAM'"),
    ],
)
def test_impossible_sensors_are_refused(cameras, message):
    with pytest.raises(InvalidParameter, match=message):
        Sensors(cameras)


def test_other_sensors_are_another_dataset(small_world):
    """A scene counts as done for the sensors that it was recorded with and for no others."""

    def done(sensors: Sensors) -> bool:
        return scene_done(small_world, "scene-0001", recipe_of(0, WORLD_SECONDS, sensors))

    assert done(Sensors())
    two = (Camera(), Camera("CAM_BACK", yaw_rad=np.pi))
    for other in (Sensors(two), Sensors(sweeps=True), Sensors(lidar=True), Sensors(depth=True), Sensors(clips=None)):
        assert not done(other)
    assert not done(Sensors((Camera(focal_px=200.0),)))


def test_semantic_maps_lie_beside_every_image(small_world):
    images = sorted((small_world / "samples" / "CAM_FRONT").iterdir())
    labels = sorted((small_world / "labels" / "semantic" / "CAM_FRONT").iterdir())
    assert [p.stem for p in images] == [p.stem for p in labels] and len(images) == 60
    assert not (small_world / "labels" / "depth").exists(), "and of sweeps there are none"
    classes = json.loads((small_world / "labels" / "classes.json").read_text())
    ids = np.unique([np.array(Image.open(path)) for path in labels])
    assert {classes[str(i)]["name"] for i in ids} >= {"sky", "road", "marking", "car"} and len(
        classes["0"]["colour"]
    ) == 3
