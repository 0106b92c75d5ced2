"""Frames and windows: shapes, geometry, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers import START_US, MeanCodec, arc, make_dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wamlab.data import open_dataset
from wamlab.data.frames import load_frames
from wamlab.data.latents import LatentStore
from wamlab.data.windows import LatentWindows, collate, command, load_window, trajectory, window_actions, window_starts
from wamlab.errors import HorizonTooLong, ImageDamaged, InvalidAction, InvalidParameter
from wamlab.types import ACTIONS, Scene


def drive(frames: int, speed_mps: float = 8.0, curvature: float = 0.0, hz: float = 2.0) -> Scene:
    t = np.arange(frames) / hz
    actions = np.zeros((frames, len(ACTIONS)), np.float32)
    return Scene("scene-0001", "train", START_US / 1e6 + t, (), actions, arc(t, speed_mps, curvature))


def test_frames_are_cropped_then_resized(dataset):
    scene = dataset.scene("scene-0001")
    frames = load_frames(scene, [0, 5], 32)
    assert frames.shape == (2, 3, 32, 32) and frames.dtype == torch.uint8
    with Image.open(scene.image_paths[5]) as image:
        expected = image.crop((16, 0, 80, 64)).resize((32, 32), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(frames[1].permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize("index", [-1, 12])
def test_frames_outside_the_scene(dataset, index):
    with pytest.raises(HorizonTooLong, match=f"no frame {index} in scene-0001: it has frames 0 to 11"):
        load_frames(dataset.scene("scene-0001"), [0, index], 32)


def test_missing_truncated_and_foreign_images(tmp_path):
    scene = open_dataset(make_dataset(tmp_path, {"scene-0001": "train"}, frames=3)).scenes()[0]
    scene.image_paths[0].unlink()
    scene.image_paths[1].write_bytes(scene.image_paths[1].read_bytes()[:400])
    scene.image_paths[2].write_text("not an image")
    for i, problem in enumerate(("missing", "damaged", "damaged")):
        with pytest.raises(ImageDamaged, match=f"scene-0001: image .*{scene.image_paths[i].name} is {problem}"):
            load_frames(scene, [i], 32)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 10), st.integers(1, 4))
def test_windows_fill_the_scene_and_never_leave_it(frames, num_context, horizon, stride):
    starts = window_starts(drive(frames), num_context, horizon, stride)
    assert all(t - num_context + 1 >= 0 and t + horizon < frames for t in starts)
    assert len(starts) == len(range(0, max(0, frames - num_context - horizon + 1), stride))


def test_windows_with_unknown_actions_are_left_out_or_refused():
    scene = drive(10)
    scene.actions[4, 1] = np.nan
    assert window_starts(scene, 1, 3) == [0, 1, 5, 6]
    with pytest.raises(InvalidAction, match=r"frame 4 of scene-0001 is \[0.0, nan, 0.0\]"):
        window_actions(scene, 3, 3)
    scene.actions[4, 1] = np.inf
    with pytest.raises(InvalidAction):
        window_actions(scene, 4, 3)


@pytest.mark.parametrize(("start", "num_context"), [(7, 1), (0, 2), (-1, 1)])
def test_windows_past_the_end(start, num_context):
    with pytest.raises(HorizonTooLong, match="in scene-0001 of 10 frames: choose a present frame of"):
        window_actions(drive(10), start, 3, num_context)


def test_bad_sizes():
    with pytest.raises(InvalidParameter, match="not 1, 0, 1"):
        window_starts(drive(5), 1, 0)


@given(st.floats(1, 15), st.floats(-0.05, 0.05), st.integers(0, 10), st.floats(-3, 3))
def test_the_trajectory_of_an_arc_is_the_same_arc_from_anywhere(speed_mps, curvature, start, heading):
    curvature = 0.0 if abs(curvature) < 1e-6 else curvature
    scene = drive(20, speed_mps, curvature)
    turned = scene.ego_pose.copy()
    turned[:, 0] = np.cos(heading) * scene.ego_pose[:, 0] - np.sin(heading) * scene.ego_pose[:, 1]
    turned[:, 1] = np.sin(heading) * scene.ego_pose[:, 0] + np.cos(heading) * scene.ego_pose[:, 1]
    turned[:, 2] += heading
    expected = arc(np.arange(1, 7) / 2, speed_mps, curvature, (0, 0))[:, :2]
    np.testing.assert_allclose(trajectory(dataclasses.replace(scene, ego_pose=turned), start, 6), expected, atol=1e-3)
    lateral = expected[-1, 1]
    if abs(abs(lateral) - 2) > 1e-3:
        wanted = "left" if lateral > 2 else "right" if lateral < -2 else "straight"
        assert command(scene, start, 3.0) == wanted


def test_the_command_looks_ahead_in_seconds_not_frames():
    """The same bend, filmed at 2 Hz and at 10 Hz, is the same command."""
    for hz in (2.0, 10.0):
        scene = drive(int(8 * hz), 8.0, -0.01, hz)
        assert [command(scene, 0, seconds) for seconds in (1.0, 2.0, 3.3)] == ["straight", "straight", "right"]
    with pytest.raises(HorizonTooLong, match="goes on for 3.5 s after frame 0, not for 4.0 s"):
        command(drive(8), 0, 4.0)


def test_a_window_from_disk(dataset):
    scene = dataset.scene("scene-0001")
    window = load_window(scene, start=3, num_context=2, horizon=4, resolution=16)
    assert window.context.shape == (2, 3, 16, 16) and window.future.shape == (4, 3, 16, 16)
    torch.testing.assert_close(window.context[-1], load_frames(scene, [3], 16)[0])
    torch.testing.assert_close(window.future[0], load_frames(scene, [4], 16)[0])
    np.testing.assert_array_equal(window.actions, scene.actions[3:7])
    expected = arc(np.arange(1, 5) / 2, 8.0, 0.02, (0, 0))[:, :2]
    np.testing.assert_allclose(window.trajectory, expected, atol=1e-3)
    assert (window.command, window.scene, window.start) == ("left", "scene-0001", 3)


def test_batches_of_latents(dataset, tmp_path):
    scenes, store = dataset.scenes(), LatentStore(dataset, MeanCodec(), 32, root=tmp_path)
    windows = LatentWindows(scenes, store, num_context=2, horizon=4, stride=2)
    assert len(windows) == 3 * 4 and windows.index[:2] == [("scene-0001", 1), ("scene-0001", 3)]
    loader = torch.utils.data.DataLoader(windows, batch_size=5, collate_fn=collate, num_workers=1)
    batch = next(iter(loader))
    assert batch.context.shape == (5, 2, 3, 4, 4) and batch.future.shape == (5, 4, 3, 4, 4)
    assert batch.actions.shape == (5, 4, 3) and len(batch) == 5
    assert batch.scenes == ("scene-0001",) * 4 + ("scene-0002",) and batch.starts == (1, 3, 5, 7, 1)
    torch.testing.assert_close(batch.future[0, 0], store.read("scene-0001")[2])


def test_latent_windows_say_what_they_leave_out(dataset, tmp_path):
    store = LatentStore(dataset, MeanCodec(), 32, root=tmp_path)
    with pytest.raises(HorizonTooLong, match=r"no window of 1 \+ 16 frames in 3 scenes of at most 12 frames"):
        LatentWindows(dataset.scenes(), store, 1, 16)
    scene = dataset.scene("scene-0001")
    actions = scene.actions.copy()
    actions[5] = np.nan
    with pytest.warns(UserWarning, match="windows left out where the action is unknown, in scene-0001"):
        windows = LatentWindows([dataclasses.replace(scene, actions=actions)], store, 1, 4)
    assert [t for _, t in windows.index] == [0, 1, 6, 7]
