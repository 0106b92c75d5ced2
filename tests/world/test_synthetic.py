"""The embedded dataset: the same bytes from any number of processes, resumable, and read by the devkit itself."""

from pathlib import Path

import numpy as np
import pytest
from helpers import WORLD_SECONDS

from wamlab.data import open_dataset
from wamlab.errors import DatasetIncomplete, InvalidParameter
from wamlab.geometry import STEERING_RATIO, WHEELBASE_M
from wamlab.world import synthesize
from wamlab.world.nuscenes import VERSION
from wamlab.world.synthetic import dataset_specs, split_of

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


def test_the_devkit_opens_and_draws_it(small_world, tmp_path):
    from nuscenes.nuscenes import NuScenes

    nusc = NuScenes(VERSION, str(small_world), verbose=False)
    assert len(nusc.scene) == 10
    sample = nusc.sample[2]
    path, boxes, intrinsics = nusc.get_sample_data(sample["data"]["CAM_FRONT"])
    assert Path(path).is_file() and intrinsics.shape == (3, 3)
    target = tmp_path / "sample.png"
    nusc.render_sample_data(sample["data"]["CAM_FRONT"], out_path=str(target), verbose=False)
    assert target.stat().st_size > 10_000
    assert any(np.isfinite(nusc.box_velocity(a["token"])).all() for a in nusc.sample_annotation)


def test_annotated_vehicles_are_where_the_picture_shows_them(small_world):
    """A box that is well seen, projected by the devkit, covers pixels unlike an empty road: here, its centre lies inside the image."""
    from nuscenes.nuscenes import NuScenes

    nusc = NuScenes(VERSION, str(small_world), verbose=False)
    seen = 0
    for sample in nusc.sample[::3]:
        _, boxes, intrinsics = nusc.get_sample_data(sample["data"]["CAM_FRONT"])
        for box in boxes:
            if nusc.get("sample_annotation", box.token)["visibility_token"] != "4":
                continue
            u, v, z = intrinsics @ box.center
            assert z > 0
            assert -40 < u / z < 296 and -40 < v / z < 184
            seen += 1
    assert seen > 5


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
    for wrong in ({"num_scenes": 3}, {"num_scenes": 20_000}, {"num_scenes": 10, "workers": -1}):
        with pytest.raises(InvalidParameter):
            synthesize(tmp_path / "new", progress=False, **wrong)
    assert not (tmp_path / "new").exists()
