import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from wamlab import statistics
from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.statistics import Interval


def test_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=60)
    ours = statistics.bootstrap_mean(values, np.random.default_rng(1), num_resamples=20_000)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=2).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours.n == 60


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    found = [statistics.bootstrap_mean(rng.normal(1, 2, 60), rng, 400) for _ in range(400)]
    assert 0.90 < np.mean([f.low <= 1 <= f.high for f in found]) < 0.98


def test_the_generator_decides():
    values = np.random.default_rng(0).normal(size=(20, 3))
    a, b, c = (statistics.bootstrap_mean(values, np.random.default_rng(s)).low for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_scene_is_the_unit():
    """A scene with many windows weighs as much as one with few."""
    table = pd.DataFrame({"scene": ["a"] * 9 + ["b"], "model": "m", "x": [0.0] * 9 + [1.0]})
    found = statistics.interval_table(table, "x", ["model"], np.random.default_rng(0))
    assert found.loc[0, "mean"] == 0.5
    assert found.loc[0, "n"] == 2


def test_what_cannot_be_resampled_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidShape, match="at least one scene"):
        statistics.bootstrap_mean(np.empty((0, 2)), rng)
    with pytest.raises(InvalidShape, match="1 of 2 values"):
        statistics.bootstrap_mean(np.array([1, np.nan]), rng)
    with pytest.raises(InvalidParameter, match="level"):
        statistics.bootstrap_mean(np.ones(2), rng, level=95)
    with pytest.raises(InvalidParameter, match="no column 'y'; known: scene"):
        statistics.by_scene(pd.DataFrame({"scene": [1]}), "y")


@pytest.mark.parametrize(
    ("low", "high", "claimed", "expected"),
    [
        (0.1, 0.2, 1, "reproduced"),
        (-0.2, -0.1, 1, "not reproduced"),
        (-0.1, 0.2, 1, "inconclusive"),
        (-0.2, -0.1, -1, "reproduced"),
        (0.0, 0.2, 1, "inconclusive"),
    ],
)
def test_verdict(low, high, claimed, expected):
    assert statistics.verdict(Interval(0.0, low, high, 9), claimed) == expected
