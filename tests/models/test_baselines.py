"""The baselines against what a camera on a moving car sees."""

import math

import numpy as np
import pytest
import torch
from helpers import arc
from test_anchored_dit import generator, make_batch

from wamlab.geometry import curvature_to_steering
from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig
from wamlab.models.baselines import AnchorAlone, ConstantVelocityWarp, CopyPresent
from wamlab.types import Scene


def actions(speed_mps, steering_rad=0.0, frames=4):
    return torch.tensor([[steering_rad, 0.0, speed_mps]]).expand(1, frames, 3)


def warp(present, given, focal=1.0, horizon=0.5, interval_s=0.5):
    model = ConstantVelocityWarp()
    model.camera = torch.tensor([focal, horizon, interval_s])
    return model.rollout(present[:, None], given, generator()).latents


def test_copies_the_last_context_frame():
    context, given, seen = torch.randn(2, 3, 4, 8, 8), torch.zeros(2, 5, 3), []
    rollout = CopyPresent().rollout(context, given, generator(3), callback=lambda *a: seen.append(a))
    assert rollout.model == "copy" and rollout.seed == 3 and seen == [(1, 1)]
    assert torch.equal(rollout.latents, context[:, 2:].expand(2, 5, 4, 8, 8))


def test_errors_are_measured_against_copying():
    b = make_batch()
    assert CopyPresent().loss(b, generator())[1]["vs_copy"] == pytest.approx(1)
    loss, logs = ConstantVelocityWarp().loss(b, generator())
    change = (b.future - b.context[:, -1:]).square().mean().item()
    assert logs["vs_copy"] == pytest.approx(loss.item() / change)


def test_a_standing_car_sees_the_present():
    present = torch.randn(1, 4, 16, 16, generator=generator())
    for steering in (0.0, 3.0):
        got = warp(present, actions(0.0, steering))
        torch.testing.assert_close(got, present[:, None].expand_as(got), atol=1e-4, rtol=0)


@pytest.mark.parametrize("speed_mps", [0.5, 1.5])
def test_the_ground_comes_nearer_as_a_plane_does(speed_mps):
    """A stripe across the road at 6 m, seen by a camera 1.5 m above it: its row is horizon + focal · 1.5 m / distance."""
    size, focal, horizon = 512, 1.1, 0.4
    rows = (torch.arange(size) + 0.5) / size
    ahead_m = focal * 1.5 / (rows - horizon).clamp(min=1e-3)
    present = ((ahead_m - 6).abs() < 0.2).float().view(1, 1, size, 1).expand(1, 1, size, 16)
    for h, frame in enumerate(warp(present, actions(speed_mps), focal, horizon)[0], 1):
        centre = (frame[0, :, 8] * rows).sum() / frame[0, :, 8].sum()
        want = horizon + focal * 1.5 / (6 - speed_mps * 0.5 * h)
        assert centre.item() == pytest.approx(want, abs=0.01)


def test_the_far_turns_by_the_yaw():
    """A pole on the horizon moves right by focal · tan(yaw) when the car turns left."""
    size, focal, speed, curvature = 512, 1.0, 2.0, 0.05
    columns = (torch.arange(size) + 0.5) / size
    present = ((columns - 0.5).abs() < 0.01).float().expand(1, 1, 8, size)
    given = actions(speed, float(curvature_to_steering(curvature)), frames=2)
    for h, frame in enumerate(warp(present, given, focal)[0], 1):
        yaw = curvature * speed * 0.5 * h
        centre = (frame[0, 0] * columns).sum() / frame[0, 0].sum()
        assert centre.item() == pytest.approx(0.5 + focal * math.tan(yaw), abs=0.005)


@pytest.mark.parametrize("curvature", [0.0, 0.05, -0.1])
def test_the_car_drives_the_arc_of_its_first_action(curvature):
    model, times = ConstantVelocityWarp(), np.arange(1, 5) / 2
    given = actions(8.0, float(curvature_to_steering(curvature))).clone()
    given[:, 1:] = 99.0  # what is done later is not looked at
    want = torch.tensor(arc(times, 8.0, curvature, origin=(0.0, 0.0)), dtype=torch.float32)
    torch.testing.assert_close(model.arc(given)[0], want, atol=1e-4, rtol=1e-4)


def test_takes_the_camera_and_the_rate_of_a_scene():
    times = np.arange(5) * 0.25
    intrinsics = np.array([[1266.0, 0, 816], [0, 1266.0, 491], [0, 0, 1]])
    scene = Scene("scene-0001", "train", times, (), np.zeros((5, 3)), np.zeros((5, 3)), intrinsics=intrinsics)
    model = ConstantVelocityWarp()
    model.see_as(scene)  # the size of its images is not known
    torch.testing.assert_close(model.camera, torch.tensor([model.FOCAL, model.HORIZON, 0.25]))
    tall = Scene(**{**vars(scene), "image_size": (900, 1600)})
    model.see_as(tall)  # 350 rows are cropped above
    torch.testing.assert_close(model.camera, torch.tensor([1266 / 900, (491 - 350) / 900, 0.25]))
    model.see_as(Scene(**{**vars(scene), "image_size": (1600, 900)}))
    torch.testing.assert_close(model.camera, torch.tensor([1266 / 900, 491 / 900, 0.25]))
    assert model.camera[0].item() == pytest.approx(model.FOCAL, abs=0.01)  # nuScenes' CAM_FRONT is the default
    assert model.camera[1].item() == pytest.approx(model.HORIZON, abs=0.01)


@pytest.mark.parametrize("moves", [False, True])
def test_the_anchor_alone_is_a_model_whose_change_is_nothing(moves):
    """Before training the last layer is zero, so a direct model is its anchor, moved or not."""
    small = {"size": 8, "horizon": 3, "dim": 16, "depth": 1, "heads": 2, "num_frequencies": 4}
    model = AnchoredDiT(AnchoredDiTConfig(objective="direct", ego_motion=moves, **small)).eval()
    if moves:
        model.ego_motion.turning.fill_(0.5)
        model.ego_motion.log_relief.fill_(-0.2)
        torch.nn.init.normal_(model.ego_motion.unfold[-1].weight)
        torch.nn.init.normal_(model.ego_motion.fold[-1].weight)
    context, given = torch.randn(2, 1, 4, 8, 8), actions(8.0, 0.3, frames=3).expand(2, -1, -1)
    alone = AnchorAlone(model).rollout(context, given, generator(5), steps=3)
    assert (alone.model, alone.seed, alone.latents.shape) == ("anchor", 5, (2, 3, 4, 8, 8))
    torch.testing.assert_close(alone.latents, model.rollout(context, given, generator()).latents)
    assert torch.equal(alone.latents, context.expand_as(alone.latents)) != moves
    with torch.no_grad():
        model.head.bias.fill_(0.5)  # a change that was learned
    assert torch.equal(AnchorAlone(model).rollout(context, given, generator()).latents, alone.latents)
    assert not torch.allclose(model.rollout(context, given, generator()).latents, alone.latents)
