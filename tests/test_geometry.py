import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wamlab.geometry import (
    curvature_to_steering,
    nearest,
    steering_to_curvature,
    to_ego_frame,
    to_global_frame,
    wrap_angle,
)

angles = st.floats(-20, 20)
coordinates = st.floats(-1e3, 1e3)
poses = st.tuples(coordinates, coordinates, angles)


@given(angles)
def test_wrapped_angles_are_the_same_angle(angle):
    wrapped = wrap_angle(angle)
    assert -np.pi <= wrapped < np.pi
    np.testing.assert_allclose([np.cos(wrapped), np.sin(wrapped)], [np.cos(angle), np.sin(angle)], atol=1e-9)


@given(st.lists(poses, min_size=1, max_size=5), poses)
def test_frames_are_inverse_and_keep_distances(points, pose):
    points = np.array(points)
    local = to_ego_frame(points, pose)
    back = to_global_frame(local, pose)
    np.testing.assert_allclose(back[:, :2], points[:, :2], atol=1e-8)
    np.testing.assert_allclose(wrap_angle(back[:, 2] - points[:, 2]), 0, atol=1e-9)
    np.testing.assert_allclose(np.hypot(*local[:, :2].T), np.hypot(*(points[:, :2] - pose[:2]).T), atol=1e-8)


def test_forward_is_x_and_left_is_y():
    facing_north = (10.0, 20.0, np.pi / 2)
    np.testing.assert_allclose(to_ego_frame([[10, 25], [7, 20]], facing_north), [[5, 0], [0, 3]], atol=1e-12)


@given(st.floats(-7, 7))
def test_steering_and_curvature_are_inverse(steering):
    curvature = steering_to_curvature(steering)
    assert curvature * steering >= 0
    np.testing.assert_allclose(curvature_to_steering(curvature), steering, atol=1e-9)


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=20, unique=True), st.lists(st.integers(-50, 1050), min_size=1)
)
def test_nearest_is_the_least_distance(times, wanted):
    times, wanted = np.sort(times), np.array(wanted)
    found = np.abs(times[nearest(times, wanted)] - wanted)
    np.testing.assert_array_equal(found, np.abs(times[None] - wanted[:, None]).min(axis=1))
