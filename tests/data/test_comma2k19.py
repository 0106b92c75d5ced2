"""comma2k19's layout: a drive with known answers and the real minute become scenes; every missing or damaged piece is named."""

from __future__ import annotations

import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import segments
import torch

from wamlab.data import open_dataset
from wamlab.data.comma2k19 import Comma2k19Dataset, slope, split_of_drive
from wamlab.data.frames import load_frames
from wamlab.data.labels import load_depth
from wamlab.data.video import video_images
from wamlab.errors import (
    CanBusMissing,
    DatasetIncomplete,
    DatasetMissing,
    ImageDamaged,
    InvalidParameter,
    LabelsMissing,
)
from wamlab.types import SPLITS

NAME = "b0c9d2329ad1606b_2018-08-02--08-34-47--40"
STEERING = "processed_log/CAN/steering_angle/value"


@pytest.fixture(scope="module")
def made_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments of four seconds; not to be written to."""
    root = tmp_path_factory.mktemp("comma2k19")
    segments.write_segment(root, segments.made_arrays())
    segments.write_segment(root, segments.made_arrays(), segment=5)
    return root


@pytest.fixture
def root(made_root: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(made_root, tmp_path / "broken")


def folder(root: Path) -> Path:
    return root / "Chunk_1" / segments.DRIVE / "40"


def test_a_scene_is_the_drive_that_was_made(made_root):
    dataset = open_dataset(made_root)
    scene = dataset.scene(NAME)
    t = np.arange(8) / 2
    assert (dataset.name, len(scene), scene.image_size) == ("comma2k19", 8, (1164, 874))
    np.testing.assert_allclose(scene.timestamps_s, 1000 + t)
    np.testing.assert_array_equal(scene.video_frames, np.arange(0, 80, 10))
    steering_rad, accel_mps2, speed_mps = scene.actions.T
    np.testing.assert_allclose(steering_rad, np.radians(5 + 10 * t), atol=np.radians(0.061))  # half a CAN period
    np.testing.assert_allclose(speed_mps, 20 + t, atol=0.0061)
    np.testing.assert_allclose(accel_mps2, 1, atol=1e-4)
    np.testing.assert_allclose(scene.ego_pose[:, 2], 0.1 * t, atol=1e-9)
    yaw = scene.ego_pose[:, 2]
    # the integral of (20 + t) (cos, sin)(0.1 t)
    east = 10 * (20 + t) * np.sin(yaw) + 100 * (np.cos(yaw) - 1)
    north = 200 - 10 * (20 + t) * np.cos(yaw) + 100 * np.sin(yaw)
    np.testing.assert_allclose(scene.ego_pose[:, :2], np.stack([east, north], axis=1), atol=0.02)


def test_names_order_rate_and_copies(made_root):
    dataset = open_dataset("comma2k19", root=made_root)
    assert [scene.name for scene in dataset.scenes()] == sorted([NAME, NAME.replace("--40", "--5")])
    assert list(dataset.segments) == [NAME.replace("--40", "--5"), NAME], "in the order of driving"
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint == dataset.fingerprint and again.scene(NAME).video_path == dataset.scene(NAME).video_path
    fast = Comma2k19Dataset("comma2k19", made_root, rate_hz=20)
    assert len(fast.scene(NAME)) == 80 and fast.fingerprint != dataset.fingerprint
    with pytest.raises(InvalidParameter, match="rate_hz must divide the video's 20 Hz, .*not 3"):
        Comma2k19Dataset("comma2k19", made_root, rate_hz=3)
    with pytest.raises(DatasetMissing, match="no comma2k19 dataset at .*Chunk_1.zip"):
        open_dataset("comma2k19", root=made_root / "Chunk_1")


def test_splits_are_by_drive():
    names = [
        f"99c94dc769b5d96e_2018-{m:02d}-{d:02d}--08-34-{s:02d}"
        for m in range(1, 13)
        for d in range(1, 28)
        for s in range(9)
    ]
    drawn = [split_of_drive(name) for name in names]
    shares = [drawn.count(split) / len(drawn) for split in SPLITS]
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.02)
    assert split_of_drive("b0c9d2329ad1606b_2018-08-02--08-34-47") == "train", "for good: models were trained on it"


def test_segments_of_a_drive_share_a_split(made_root):
    assert {split: len(names) for split, names in open_dataset(made_root).splits.items()} == {
        "train": 2,
        "val": 0,
        "test": 0,
    }


def test_frames_come_from_the_video(made_root):
    scene = open_dataset(made_root).scene(NAME)
    frames = load_frames(scene, [6, 1, 6], 16)
    assert frames.shape == (3, 3, 16, 16) and frames.dtype == torch.uint8
    expected = [segments.shade(60), segments.shade(10), segments.shade(60)]
    np.testing.assert_allclose(frames[:, :, :, 1:5].float().mean(dim=(1, 2, 3)), expected, atol=4)
    assert load_frames(scene, [], 16).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    "options", ["keyint=20:open-gop=0", "keyint=20:open-gop=1", "keyint=-1", "keyint=10:bframes=0:open-gop=0"]
)
def test_any_frame_is_the_one_that_decoding_everything_gives(tmp_path, options):
    segments.write_video(tmp_path / "video.hevc", 60, options)
    whole = [np.asarray(image) for image in video_images(tmp_path / "video.hevc", range(60))]
    np.testing.assert_allclose(
        [image[:, 4:40].mean() for image in whole], [segments.shade(i) for i in range(60)], atol=4
    )
    for numbers in ([0], [37], [20, 40, 59], [39, 41]):
        images = video_images(tmp_path / "video.hevc", numbers)
        for number, image in zip(numbers, images, strict=True):
            np.testing.assert_array_equal(np.asarray(image), whole[number])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda b: b[: len(b) // 2], "ends before frame 70"),
        (lambda b: b"no video" * 99, "is damaged"),
        (None, "is missing"),
    ],
)
def test_damaged_videos(root, content, problem):
    scene = open_dataset(root).scene(NAME)
    video = folder(root) / "video.hevc"
    video.unlink() if content is None else video.write_bytes(content(video.read_bytes()))
    with pytest.raises(ImageDamaged, match=f"{NAME}: video .*video.hevc {problem}"):
        load_frames(scene, [7], 16)


@pytest.mark.parametrize(
    ("path", "damage", "error", "problem"),
    [
        ("video.hevc", None, DatasetIncomplete, "is missing, so .*40 has no images"),
        (STEERING, None, CanBusMissing, "is missing, so the actions of .*40 are unknown"),
        (STEERING, lambda b: b[:-9], CanBusMissing, "is damaged"),
        (STEERING, lambda b: b"", CanBusMissing, "is damaged"),
        ("processed_log/CAN/speed/t", lambda b: b"no array", CanBusMissing, "is damaged"),
        ("global_pose/frame_positions", None, DatasetIncomplete, "is missing, so the poses of .*40 are unknown"),
    ],
)
def test_missing_and_damaged_pieces(root, path, damage, error, problem):
    target = folder(root) / path
    target.unlink() if damage is None else target.write_bytes(damage(target.read_bytes()))
    dataset = open_dataset(root)
    with pytest.raises(error, match=f"{target.name} {problem}"):
        dataset.scene(NAME)
    with pytest.raises(error):
        dataset.scenes("train", on_damage="refuse")
    with pytest.warns(UserWarning, match=f"left out 1 scenes, {NAME}: .*{target.name}"):
        assert len(dataset.scenes()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(dataset.scenes("train")) == 1, "said once"


@pytest.mark.parametrize(
    ("path", "array"),
    [
        (STEERING, np.full(4, 1.0)),
        (STEERING, np.array([{}], object)),
        ("global_pose/frame_positions", np.full((80, 3), np.nan)),
        ("global_pose/frame_orientations", np.ones((80, 3))),
        ("global_pose/frame_orientations", np.zeros((80, 4))),
        ("global_pose/frame_times", np.array(["now"] * 80)),
        ("global_pose/frame_times", np.array(1.0)),
    ],
    ids=["lengths", "pickled", "nan", "shape", "zeros", "words", "scalar"],
)
def test_arrays_of_another_shape_or_kind(root, path, array):
    with (folder(root) / path).open("wb") as file:
        np.save(file, array)
    with pytest.raises((CanBusMissing, DatasetIncomplete), match="is damaged|of several lengths"):
        open_dataset(root).scene(NAME)


def test_slope_is_the_fitted_line_s():
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 10, 400))
    v = np.sin(t) + rng.normal(0, 0.01, 400)
    at = np.array([1.0, 5.0, 20.0])
    found = slope(t, v, at, 0.5)
    for i in range(2):
        near = np.abs(t - at[i]) <= 0.5
        assert found[i] == pytest.approx(np.polyfit(t[near], v[near], 1)[0])
    assert np.isnan(found[2]), "no value near"
    np.testing.assert_allclose(slope(t[::-1], v[::-1], at, 0.5), found)


def test_recorded_scenes_have_no_labels(made_root):
    with pytest.raises(LabelsMissing, match=f"{NAME} was recorded, so it has no depth labels"):
        load_depth(open_dataset(made_root).scene(NAME), [0], 8)
