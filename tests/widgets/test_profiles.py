import numpy as np
import pytest

from wamlab.errors import InvalidAction, InvalidParameter
from wamlab.world.counterfactual import logged_actions, replay
from wamlab.world.simulation import SceneSpec
from wamlab_widgets import profiles

SPAN = {"steering_rad": (-0.5, 1.0), "accel_mps2": (-3.0, 2.0)}


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        (np.zeros((3, 4)), r"\(F, 2 or 3\).*\(3, 4\)"),
        (np.zeros((0, 2)), r"\(0, 2\)"),
        ([[0, np.nan], [0, 0]], "row 0"),
        ("left", "must be numbers"),
        ([[0, 0], [0]], "must be numbers"),
    ],
)
def test_what_is_no_profile_is_named(actions, says):
    with pytest.raises(InvalidAction, match=says):
        profiles.checked(actions)


def test_the_horizon_must_fit():
    assert profiles.checked(np.zeros((4, 2)), 4).shape == (4, 2)
    with pytest.raises(InvalidAction, match=r"\(4, 2 or 3\)"):
        profiles.checked(np.zeros((3, 2)), 4)


@pytest.mark.parametrize("trained", [{"speed_mps": (0, 1)}, {"steering_rad": (1, 1)}, {"accel_mps2": (2, -2)}])
def test_a_wrong_range_is_named(trained):
    with pytest.raises(InvalidParameter, match="trained must be"):
        profiles.ranges(trained)


def test_charts_reach_beyond_the_trained_range_and_around_what_was_logged():
    reach = profiles.limits({"steering_rad": (-0.5, 1.0)}, np.array([[7.0, 0.0]]))
    assert reach["steering_rad"] >= 7.0
    assert reach["accel_mps2"] == profiles.REACH["accel_mps2"]
    assert profiles.limits({"steering_rad": (-0.5, 1.0)})["steering_rad"] == pytest.approx(1.5)


def test_presets_stay_within_the_span():
    known = profiles.presets(4, SPAN, np.full((4, 3), 0.25))
    assert list(known) == ["logged", "straight", "left", "right", "brake"]
    assert (known["left"][:, 0] > 0).all() and (known["right"][:, 0] < 0).all() and (known["brake"][:, 1] < 0).all()
    for profile in known.values():
        assert profile.shape == (4, 2)
        for column, (low, high) in enumerate(SPAN.values()):
            assert (low <= profile[:, column]).all() and (profile[:, column] <= high).all()


@pytest.mark.parametrize("shape", profiles.GRIDS)
def test_every_grid_is_symmetric_and_holds_zero(shape):
    points = np.array([p[0] for p in profiles.grid(3, SPAN, shape)])
    assert len(points) == shape[0] * shape[1] == len(np.unique(points, axis=0))
    assert (np.abs(points) < 1e-12).all(axis=1).any()
    np.testing.assert_allclose(np.sort(points, axis=0), np.sort(-points, axis=0), atol=1e-12)


def test_the_finest_grid_that_can_be_paid_is_taken():
    sizes = [a * b for a, b in profiles.GRIDS]
    assert sizes == sorted(sizes)
    for affordable in (3, 14, 15, 45, 10_000):
        points = int(np.prod(profiles.grid_shape(affordable)))
        assert points <= affordable
        assert not any(points < size <= affordable for size in sizes)
    assert profiles.grid_shape(2) is None


def test_speed_never_falls_below_zero_and_logged_speeds_are_kept():
    braked = profiles.with_speed(profiles.held(4, 0.0, -4.0), 3.0, 0.5)
    np.testing.assert_allclose(braked[:, 2], [3, 1, 0, 0])
    logged = np.column_stack([np.zeros((4, 2)), [1, 2, 3, 4]])
    np.testing.assert_array_equal(profiles.with_speed(logged[:, :2], 9.0, 0.5, logged), logged.astype(np.float32))


def test_the_speed_is_the_one_that_the_world_gives():
    spec, actions = SceneSpec(3, duration_s=6.0), np.column_stack([np.zeros(4), [1.0, -0.5, -1.0, 0.5]])
    assert len(logged_actions(spec, 4, 1))
    answer = replay(spec, 4, actions)
    ours = profiles.with_speed(actions, answer.present.ego.speed_mps, 0.5)
    true = [answer.present.ego.speed_mps, *(s.ego.speed_mps for s in answer.states)][:-1]
    np.testing.assert_allclose(ours[:, 2], true, atol=1e-3)
