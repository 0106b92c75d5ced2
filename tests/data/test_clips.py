"""Which frames make a clip: with sweeps, with some missing, without any, at a scene's beginning and for a scene of one frame."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import HEIGHT, WIDTH, make_dataset
from PIL import Image

from wamlab.data import open_dataset
from wamlab.data.clips import Film, film_of, load_clips
from wamlab.data.frames import load_frames
from wamlab.errors import InvalidParameter

SWEEPS = 5  # between two keyframes, so 12 frames a second


def add_sweeps(root: Path) -> None:
    """Five sweeps between any two keyframes of the front camera, each a grey that rises by 2 from frame to frame."""
    path = root / "v1.0-synthetic" / "sample_data.json"
    rows = json.loads(path.read_text())
    rows.sort(key=lambda row: row["timestamp"])
    chain = []
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        chain.append(row)
        for i in range(1, SWEEPS + 1 if after else 0):
            time_us = row["timestamp"] + (after["timestamp"] - row["timestamp"]) * i // (SWEEPS + 1)
            name = f"sweeps/CAM_FRONT/{time_us}.jpg"
            chain.append(
                row | {"token": f"sweep{time_us}", "timestamp": time_us, "filename": name, "is_key_frame": False}
            )
    for before, row in zip([None, *chain], [*chain, None], strict=True):
        if before:
            before["next"] = row["token"] if row else ""
        if row:
            row["prev"] = before["token"] if before else ""
    (root / "sweeps" / "CAM_FRONT").mkdir(parents=True)
    for i, row in enumerate(chain):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 2 * i, np.uint8)).save(root / row["filename"], quality=95)
    path.write_text(json.dumps(chain))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    root = make_dataset(tmp_path_factory.mktemp("swept"), {"scene-0001": "train"}, frames=6)
    add_sweeps(root)
    dataset = open_dataset(root)
    return dataset, dataset.scene("scene-0001")


def test_a_film_has_the_sweeps(swept):
    dataset, scene = swept
    film = film_of(dataset, scene)
    assert len(scene) == 6 and len(film.timestamps_s) == len(film.image_paths) == 5 * 6 + 1
    assert film.keyframes.tolist() == [0, 6, 12, 18, 24, 30]
    assert tuple(film.image_paths[i] for i in film.keyframes) == scene.image_paths
    np.testing.assert_allclose(np.diff(film.timestamps_s), 1 / 12, atol=1e-4)
    assert film.rate_hz == pytest.approx(12, rel=1e-3)


def test_a_clip_is_the_frames_up_to_the_present(swept):
    film = film_of(*swept)
    assert film.clip(4, 16).tolist() == list(range(9, 25))
    assert film.clip(4, 16, rate_hz=12.0).tolist() == list(range(9, 25))
    assert film.clip(5, 4, rate_hz=2.0).tolist() == [12, 18, 24, 30], "one pace, whatever was recorded"
    assert film.clip(5, 4, rate_hz=4.0).tolist() == [21, 24, 27, 30]


def test_before_the_beginning_the_first_frame_is_repeated(swept):
    film = film_of(*swept)
    assert film.clip(1, 16).tolist() == [0] * 10 + [1, 2, 3, 4, 5, 6]
    assert film.clip(0, 16).tolist() == [0] * 16


def test_a_missing_sweep_is_replaced_by_a_neighbour_in_its_place(swept, tmp_path):
    """The pace stays: the clip of the same present reaches as far back, and no keyframe from elsewhere is put in."""
    film = film_of(*swept)
    kept = np.delete(np.arange(31), [20, 21, 23])
    thin = Film(
        film.timestamps_s[kept], tuple(film.image_paths[i] for i in kept), np.searchsorted(kept, film.keyframes)
    )
    shown = kept[thin.clip(4, 16)]
    assert shown[0] == 9 and shown[-1] == 24 and np.abs(shown - np.arange(9, 25)).max() == 1
    assert np.all(np.diff(shown) >= 0) and not {20, 21, 23} & set(shown.tolist())


def test_sweeps_in_some_places_only(swept):
    """As the embedded dataset has them: the pace is that of the sweeps, and only clips that lie among them are whole."""
    film = film_of(*swept)
    kept = np.union1d(film.keyframes, np.arange(9, 25))
    part = Film(
        film.timestamps_s[kept], tuple(film.image_paths[i] for i in kept), np.searchsorted(kept, film.keyframes)
    )
    assert part.rate_hz == pytest.approx(12, rel=1e-3)
    assert kept[part.clip(4, 16)].tolist() == list(range(9, 25))
    assert [part.is_whole(t, 16) for t in range(6)] == [False] * 4 + [True, False]
    assert [film.is_whole(t, 16) for t in range(6)] == [False] * 3 + [True] * 3
    own = Film(film.timestamps_s[film.keyframes], (), np.arange(6))
    assert own.rate_hz == pytest.approx(2, rel=1e-3) and own.is_whole(5, 6) and not own.is_whole(5, 7)


def test_nothing_after_the_present_is_shown(swept):
    film = film_of(*swept)
    for t in range(6):
        for rate_hz in (1.0, 7.0, 12.0, 50.0):
            clip = film.clip(t, 16, rate_hz)
            assert clip.max() == clip[-1] == film.keyframes[t] and np.all(np.diff(clip) >= 0)


def test_sweeps_that_are_not_on_disk_are_left_out(tmp_path):
    root = make_dataset(tmp_path, {"scene-0001": "train"}, frames=4)
    add_sweeps(root)
    gone = sorted((root / "sweeps" / "CAM_FRONT").iterdir())
    for path in gone[::2]:
        path.unlink()
    dataset = open_dataset(root)
    film = film_of(dataset, dataset.scene("scene-0001"))
    assert len(film.timestamps_s) == 4 + 15 // 2 and not set(gone[::2]) & set(film.image_paths)
    for path in gone[1::2]:
        path.unlink()
    bare = film_of(dataset, dataset.scene("scene-0001"))
    assert bare.image_paths == dataset.scene("scene-0001").image_paths and bare.rate_hz == pytest.approx(2)


def test_without_sweeps_a_clip_is_of_keyframes(dataset):
    scene = dataset.scene("scene-0001")
    film = film_of(dataset, scene)
    assert film.clip(11, 4).tolist() == [8, 9, 10, 11], "at their own two frames a second"
    assert film.clip(11, 16, rate_hz=12.0).tolist() == [8] + [9] * 6 + [10] * 6 + [11] * 3, (
        "or repeated, each half a second"
    )


def test_a_scene_of_one_frame(dataset):
    scene = dataset.scene("scene-0001")
    film = Film(scene.timestamps_s[:1], scene.image_paths[:1], np.arange(1))
    assert film.clip(0, 16).tolist() == [0] * 16 and film.rate_hz == 12


def test_datasets_without_sweeps_of_any_kind_have_films(dataset):
    class Other:
        pass

    scene = dataset.scene("scene-0001")
    assert film_of(Other(), scene).clip(3, 4).tolist() == [0, 1, 2, 3]


def test_loaded_clips_show_those_frames(swept):
    dataset, scene = swept
    film = film_of(dataset, scene)
    clips = load_clips(scene, film, [0, 4, 5], 32)
    assert clips.shape == (3, 16, 3, 32, 32) and clips.dtype == torch.uint8
    grey = clips.float().mean(dim=(2, 3, 4)).round() / 2
    want = np.stack([film.clip(t, 16) for t in (0, 4, 5)])
    np.testing.assert_allclose(grey.numpy(), want, atol=0.5)
    own = load_clips(scene, Film(scene.timestamps_s, scene.image_paths, np.arange(6)), [3], 32, num_frames=4)
    assert torch.equal(own[0], load_frames(scene, [0, 1, 2, 3], 32))


@pytest.mark.parametrize("rate_hz", [0.0, -2.0, float("nan")])
def test_an_impossible_rate_is_named(swept, rate_hz):
    with pytest.raises(InvalidParameter, match=f"rate_hz must be positive, not {rate_hz}"):
        film_of(*swept).clip(3, 16, rate_hz)


def test_scenes_are_not_changed(swept):
    dataset, scene = swept
    before = dataclasses.asdict(scene)
    load_clips(scene, film_of(dataset, scene), [5], 16)
    assert all(np.array_equal(value, before[key]) for key, value in dataclasses.asdict(scene).items())
