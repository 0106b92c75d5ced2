"""Any pose and any calibration gives a camera, the six of nuScenes see all around, and what no camera has is refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from wamlab.errors import InvalidParameter
from wamlab.world.camera import NUSCENES_CAMERAS, Camera

ANGLE = st.floats(-3.1, 3.1)
AXES = np.array(
    [[0, -1, 0], [0, 0, -1], [1, 0, 0.0]]
).T  # columns: where right, down and forward point when nothing is turned


@given(ANGLE, st.floats(-1.5, 1.5), ANGLE)
def test_rotation_is_yaw_then_pitch_then_roll(yaw, pitch, roll):
    camera = Camera(yaw_rad=yaw, pitch_rad=pitch, roll_rad=roll)
    expected = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix() @ AXES
    np.testing.assert_allclose(camera.rotation, expected, atol=1e-12)
    w, x, y, z = camera.quaternion
    np.testing.assert_allclose(Rotation.from_quat([x, y, z, w]).as_matrix(), expected, atol=1e-9)


@given(ANGLE, st.floats(-1.57, 1.57), ANGLE)
def test_a_calibration_gives_its_camera(yaw, pitch, roll):
    camera = Camera("CAM", 320, 200, 250.0, (1.0, -0.5, 2.0), yaw, pitch, roll)
    for rotation in (camera.rotation, camera.quaternion):
        again = Camera.from_intrinsics("CAM", camera.intrinsics, (320, 200), camera.position_m, rotation)
        np.testing.assert_allclose(again.rotation, camera.rotation, atol=1e-7)
        assert (again.name, again.width, again.height, again.focal_px) == ("CAM", 320, 200, 250.0)
        assert again.position_m == camera.position_m


def test_positive_angles_turn_as_documented():
    ahead = np.array([[10.0, 0, 1.5]])

    def pixel(point, **angles):
        camera = Camera(position_m=(0, 0, 1.5), **angles)
        return camera.project(point, *(a[0] for a in camera.pose(np.zeros(3))))[0][0]

    assert np.allclose(pixel(ahead), [128, 72])
    assert pixel(ahead, yaw_rad=0.1)[0] > 128, "a camera that looks left sees what is ahead on its right"
    assert pixel(ahead, pitch_rad=0.1)[1] < 72, "a camera that looks down sees what is ahead in its upper half"
    assert pixel(ahead - [0, 1, 0], roll_rad=0.1)[1] < 72, "a camera whose right side hangs sees the right horizon rise"


def test_the_six_cameras_see_all_around():
    names = [c.name for c in NUSCENES_CAMERAS]
    assert names[0] == "CAM_FRONT" and len(set(names)) == 6 and NUSCENES_CAMERAS[0] == Camera()
    bearing = np.linspace(-np.pi, np.pi, 721)
    far = 200 * np.stack([np.cos(bearing), np.sin(bearing), 0 * bearing], -1)
    seen = np.zeros(len(bearing), int)
    for camera in NUSCENES_CAMERAS:
        pixel, depth = camera.project(far, *(a[0] for a in camera.pose(np.zeros(3))))
        seen += (depth > 0) & (pixel[:, 0] > 0) & (pixel[:, 0] < camera.width)
    assert seen.min() == 1 and seen.max() == 2


def test_a_camera_is_a_key_however_its_position_is_given():
    assert len({Camera(position_m=p) for p in ((1, 0, 1.5), [1, 0, 1.5], np.array([1, 0, 1.5]))}) == 1


K = Camera().intrinsics


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"focal_px": float("nan")}, "focal"),
        ({"focal_px": float("inf")}, "focal"),
        ({"position_m": (1.0, 0.0, 0.0)}, "position_m"),
        ({"position_m": (1.0, 0.0)}, "position_m"),
        ({"position_m": (1.0, float("nan"), 1.5)}, "position_m"),
        ({"pitch_rad": 1.6}, "pitch_rad"),
        ({"yaw_rad": float("nan")}, "yaw_rad"),
        ({"roll_rad": float("inf")}, "roll_rad"),
    ],
)
def test_impossible_cameras_are_refused_by_name(wrong, said):
    with pytest.raises(InvalidParameter, match=f"CAM_FRONT.*{said}"):
        Camera(**wrong)


@pytest.mark.parametrize(
    ("intrinsics", "rotation", "said"),
    [
        (K * [[1], [1.1], [1]], np.eye(3), "square pixels"),
        (K + [[0, 0, 8], [0, 0, 0], [0, 0, 0]], np.eye(3), "principal point"),
        (K[:2], np.eye(3), "intrinsics"),
        (K, np.diag([1, 1, -1.0]), "rotation"),
        (K, 2 * np.eye(3), "rotation"),
        (K, np.zeros(4), "rotation"),
    ],
)
def test_calibrations_that_cannot_be_drawn_are_refused_by_name(intrinsics, rotation, said):
    with pytest.raises(InvalidParameter, match=f"CAM_X.*{said}"):
        Camera.from_intrinsics("CAM_X", intrinsics, (256, 144), (0, 0, 1.5), rotation)
