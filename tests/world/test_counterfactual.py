"""A scene of a dataset can be asked what would have happened; asked for what did happen, it answers with itself, pixel for pixel."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from wamlab import world
from wamlab.errors import CounterfactualUnknown, HorizonTooLong, InvalidAction, InvalidParameter
from wamlab.geometry import to_ego_frame
from wamlab.types import Scene
from wamlab.world.camera import NUSCENES_CAMERAS
from wamlab.world.counterfactual import logged_actions, spec_of
from wamlab.world.render import Renderer
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, SceneSpec, State, make_world

SPEC = SceneSpec(5, "urban", turn="left", duration_s=6.0)
KEEP = np.zeros((4, 2))


@pytest.fixture(scope="module")
def keyframes() -> list[State]:
    """What a dataset has of the scene."""
    return make_world(SPEC).simulate()[:-1:KEYFRAME_STEPS]


@pytest.fixture(scope="module")
def scene(keyframes) -> Scene:
    count = len(keyframes)
    pose, none = np.array([s.ego.pose for s in keyframes]), np.zeros((count, 3), np.float32)
    return Scene("scene-0001", "test", np.arange(count) / 2, (), none, pose, world=asdict(SPEC))


@pytest.fixture(scope="module")
def left(scene):
    return world.replay(scene, 4, np.tile([1.5, 0.0], (4, 1)))


@pytest.mark.parametrize("t", [0, 3, 7])
def test_what_did_happen_happens_again(scene, keyframes, t):
    filmed = Renderer(make_world(SPEC))(keyframes)
    again = world.replay(scene, t, logged_actions(scene, t, 4), every_step=True)
    np.testing.assert_array_equal(again.ego_pose, scene.ego_pose[t + 1 : t + 5])
    for part in ("rgb", "semantic", "depth_m", "instance"):
        assert torch.equal(getattr(again.seen, part), getattr(filmed, part)[t + 1 : t + 5])
    assert torch.equal(again.frames, again.seen.rgb)
    np.testing.assert_array_equal(again.actions, logged_actions(scene, t, 4))


def test_any_step_can_be_the_present(scene):
    early, late = (
        world.replay(scene, t, logged_actions(scene, t, 2), every_step=True) for t in (2, 2 + 1 / KEYFRAME_STEPS)
    )
    log = make_world(SPEC).simulate()
    np.testing.assert_array_equal(early.ego_pose, [log[i].ego.pose for i in (18, 24)])
    np.testing.assert_array_equal(late.ego_pose, [log[i].ego.pose for i in (19, 25)])
    assert late.present.time_s == pytest.approx(early.present.time_s + STEP_S)


def test_scene_spec_and_world_give_the_same(scene, left):
    for other in (SPEC, make_world(SPEC)):
        again = world.replay(other, 4, np.tile([1.5, 0.0], (4, 1)))
        np.testing.assert_array_equal(again.ego_pose, left.ego_pose)
        assert torch.equal(again.frames, left.frames)


def test_other_actions_have_other_futures(scene, left):
    right = world.replay(scene, 4, np.tile([-1.5, 0.0], (4, 1)))
    present = np.array(left.present.ego.pose)
    assert to_ego_frame(left.ego_pose, present)[-1, 1] > 0.5 > -0.5 > to_ego_frame(right.ego_pose, present)[-1, 1]
    assert (left.frames != right.frames).float().mean() > 0.3
    assert left.actions.shape == (24, 2) and (left.actions[:, 0] == 1.5).all()


def test_the_others_react_if_asked_to(scene, left):
    stop = np.tile([0.0, -9.0], (4, 1))
    unseen = [world.replay(scene, 4, a, reactive=False).labels.pose for a in (stop, np.tile([1.5, 0.0], (4, 1)))]
    np.testing.assert_array_equal(*unseen)
    assert (world.replay(scene, 4, stop).labels.pose != left.labels.pose).any()


def test_a_car_that_stops_brakes_no_more_than_it_can(scene):
    stopped = world.replay(scene, 4, np.tile([0.0, -9.0], (4, 1)))
    assert stopped.states[-1].ego.speed_mps == 0
    assert (stopped.actions[-6:, 1] == 0).all() and (stopped.actions[:6, 1] == -9).all()


def test_labels_are_what_the_images_show(left):
    labels = left.labels
    n = len(labels.category)
    assert labels.size_m.shape == (n, 3) and labels.pose.shape == (4, n, 3) and labels.velocity_mps.shape == (4, n, 2)
    shown = left.instance.flatten(1)
    for k, ids in enumerate(shown):
        for who in ids[ids > 0].unique():
            pose = labels.pose[k, int(who) - 1]
            assert np.linalg.norm(pose[:2] - left.ego_pose[k, :2]) < 200
    moved = np.diff(labels.pose[:, :, :2], axis=0)
    mean = (labels.velocity_mps[1:] + labels.velocity_mps[:-1]) / 2 * 0.5
    assert np.nanquantile(np.abs(moved - mean), 0.99) < 0.3
    assert {c.split(".")[0] for c in labels.category} <= {"vehicle", "human"}


def test_flow_leads_from_frame_to_frame(left):
    flow = left.flow
    assert flow.displacement_px.shape == (4, 2, 144, 256) and flow.visible.shape == (4, 144, 256)
    assert 0.1 < flow.visible.float().mean() < 0.95
    turned = left.states[0].ego.yaw_rad - left.present.ego.yaw_rad  # to the left, so that the far away moves right
    far = (left.renderer([left.present]).depth_m[0] > 80) & ~flow.displacement_px[0].isnan().any(0)
    assert flow.displacement_px[0, 0][far].median() == pytest.approx(turned * 160, rel=0.25) and turned > 0.02


def test_another_camera_sees_the_same_future(scene, left):
    back = world.replay(scene, 4, np.tile([1.5, 0.0], (4, 1)), camera=NUSCENES_CAMERAS[3])
    np.testing.assert_array_equal(back.ego_pose, left.ego_pose)
    assert back.frames.shape == left.frames.shape and not torch.equal(back.frames, left.frames)


def test_a_recorded_scene_cannot_be_asked(scene):
    recorded = replace(scene, name="scene-0061", world=None)
    for ask in (spec_of, lambda s: world.replay(s, 0, KEEP), lambda s: logged_actions(s, 0, 2)):
        with pytest.raises(CounterfactualUnknown, match="scene-0061 was recorded.*nobody knows"):
            ask(recorded)


def test_a_scene_of_another_version_is_not_mistaken(scene):
    assert spec_of(scene) == SPEC
    with pytest.raises(CounterfactualUnknown, match="another version of the world .it has wind.*wamlab data synth"):
        spec_of(replace(scene, world={**asdict(SPEC), "wind": 3}))
    elsewhere = scene.ego_pose.copy()
    elsewhere[5, 1] += 0.1
    with pytest.raises(CounterfactualUnknown, match="drove elsewhere"):
        world.replay(replace(scene, ego_pose=elsewhere), 0, KEEP)


def test_what_cannot_be_asked_has_a_name(scene):
    for t in (-1, 13, float("nan")):
        with pytest.raises(HorizonTooLong, match=r"keyframes 0\.\.12, not"):
            world.replay(scene, t, KEEP)
    with pytest.raises(
        HorizonTooLong, match="4 keyframes after keyframe 9 the scene is over: it ends with keyframe 12"
    ):
        world.replay(scene, 9, KEEP)
    with pytest.raises(HorizonTooLong, match="ends with keyframe 12: no 4 keyframes after 9"):
        logged_actions(scene, 9, 4)
    with pytest.raises(InvalidParameter, match="3.25"):
        world.replay(scene, 3.25, KEEP)
    with pytest.raises(InvalidAction, match="row 1"):
        world.replay(scene, 0, np.array([[0, 0], [np.nan, 0]]))
    with pytest.raises(InvalidAction, match=r"\(4,\)"):
        world.replay(scene, 0, np.zeros(4))
    assert world.replay(scene, 8, KEEP).frames.shape[0] == 4  # up to the very end
