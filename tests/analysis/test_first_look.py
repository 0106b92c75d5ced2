"""The first look: which moment is put into a newcomer's hands, what is said of the models, and what is recorded to drive."""

import numpy as np
import pytest

from wamlab import statistics
from wamlab.analysis import first_look
from wamlab.errors import InvalidParameter
from wamlab.statistics import Interval, Undefined
from wamlab.types import Scene


def drive(name, steering, speed=5.0):
    actions = np.zeros((len(steering), 3), np.float32)
    actions[:, 0], actions[:, 2] = steering, speed
    return Scene(name, "test", np.arange(len(steering)) / 2, (), actions, np.zeros((len(steering), 3)))


def test_the_moment_is_a_turn_but_not_the_sharpest():
    drives = [drive(f"turns-{k}", [0.1 * k] * 5) for k in range(11)]
    assert first_look.turning(drives, 1, 4, (-9.0, 9.0))[0].name == "turns-8"
    assert first_look.turning(drives, 1, 4, (-9.0, 0.55))[0].name == "turns-4", "of those with usual angles"
    assert first_look.turning(drives, 1, 4, (-9.0, -5.0))[0].name == "turns-8", "all have unusual ones"
    assert first_look.turning([drive("bend", [0, 0, 0, 1.0, 1.0, 1.0])], 1, 2, (-9.0, 9.0))[1] == 2
    with pytest.raises(InvalidParameter, match="none of 11"):
        first_look.turning(drives, 1, 20, (-1.0, 1.0))


@pytest.mark.parametrize(
    "low, high, said", [(0.1, 0.3, "nearer"), (-0.3, -0.1, "farther"), (-0.1, 0.1, "cannot be told")]
)
def test_the_answer_follows_the_interval(low, high, said):
    text = first_look._answer({"direct": Interval((low + high) / 2, low, high, 7), "jump": Undefined("x")}, 2.0)
    assert said in text and "7 drives" in text and "the direct model" in text


def test_without_numbers_the_answer_says_so():
    assert "Too few drives" in first_look._answer({"direct": Undefined("x")}, 2.0)
    assert statistics.verdict(Undefined("x")) == statistics.INCONCLUSIVE


def test_recorded_drives_go_to_both_sides_within_the_usual_range():
    drives = first_look.profiles(6, {"steering_rad": (-2.0, 1.0), "accel_mps2": (-1.0, 1.0)})
    assert {name: a[:, 0].tolist() for name, a in drives.items()} == {
        "straight on": [0.0] * 6, "to the left": [0.5] * 6, "to the right": [-1.0] * 6,
    }  # fmt: skip
    assert all(a.shape == (6, 2) and (a[:, 1] == 0).all() for a in drives.values())
