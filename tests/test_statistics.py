import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from wamlab import statistics
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName
from wamlab.notebooks import show
from wamlab.statistics import Interval


def test_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=60)
    ours = statistics.bootstrap_mean(values, np.random.default_rng(1), num_resamples=20_000)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=2).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours.n == 60


@pytest.mark.parametrize("method", statistics.METHODS)
@pytest.mark.parametrize(("n", "draw"), [(60, "normal"), (150, "gamma")])
def test_the_interval_covers_as_often_as_it_says(method, n, draw):
    rng = np.random.default_rng(3)
    values = rng.normal(2, 3, (n, 2000)) if draw == "normal" else rng.gamma(2, 1, (n, 2000))
    found = statistics.bootstrap_mean(values, rng, method=method)
    assert 0.93 < np.mean((found.low <= 2) & (found.high >= 2)) < 0.97


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


def test_a_ratio_is_scipy_s():
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 9, 50).astype(float)
    total = steps * rng.normal(0.5, 0.2, 50)
    ours = statistics.bootstrap_ratio(total, steps, np.random.default_rng(1), 20_000)
    there = steps > 0
    theirs = bootstrap(
        (total[there], steps[there]), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, n_resamples=20_000,
        method="percentile", vectorized=True, random_state=2,
    ).confidence_interval  # fmt: skip
    assert ours.mean == pytest.approx(total.sum() / steps.sum())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert ours.n == there.sum() < 50


def test_a_slope_s_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(4)
    hit = 0
    for _ in range(500):
        x = rng.normal(0, 1, 60)
        y = 0.7 * x + rng.normal(0, 0.5, 60)
        found = statistics.bootstrap_ratio(x * y, x * x, rng, 400)
        hit += found.low <= 0.7 <= found.high
    assert 0.90 < hit / 500 < 0.98


@pytest.mark.parametrize("sd", [(1, 0.3, 0.5), (1, 0, 0.5), (0.2, 0.5, 0.5)])  # of scenes, seeds and the rest
def test_seeds_and_scenes_are_both_drawn(sd):
    """Three seeds: what treats their mean as given is far too short where seeds differ; what redraws the three, still too short."""
    rng, n, k, hits = np.random.default_rng(5), 60, 3, {"anova": [], "bootstrap": [], "scenes only": []}
    for _ in range(500):
        v = 1 + sd[0] * rng.normal(size=(n, 1)) + sd[1] * rng.normal(size=(1, k)) + sd[2] * rng.normal(size=(n, k))
        found = {method: statistics.crossed_mean(v, rng, 200, method=method) for method in statistics.CROSSED}
        found["scenes only"] = statistics.bootstrap_mean(v.mean(1), rng, 200)
        for name, interval in found.items():
            hits[name].append(interval.low <= 1 <= interval.high)
    cover = {name: np.mean(each) for name, each in hits.items()}
    assert 0.92 < cover["anova"] < 0.98
    if sd[1]:
        assert cover["scenes only"] < cover["bootstrap"] < cover["anova"]


def test_crossed_means_where_nothing_varies():
    rng = np.random.default_rng(0)
    same = statistics.crossed_mean(np.full((5, 3), 0.4), rng)
    assert (same.mean, same.low, same.high, same.n) == (pytest.approx(0.4), pytest.approx(0.4), pytest.approx(0.4), 5)
    scenes = rng.normal(size=(60, 1))
    seeds_alike = statistics.crossed_mean(np.repeat(scenes, 3, axis=1), rng)
    by_scene = statistics.bootstrap_mean(scenes[:, 0], rng)
    assert (seeds_alike.low, seeds_alike.high) == pytest.approx((by_scene.low, by_scene.high), abs=0.03)
    for method in statistics.CROSSED:
        with pytest.raises(InvalidShape, match=r"2 scenes and 2 seeds or more, not \(5, 1\)"):
            statistics.crossed_mean(np.ones((5, 1)), rng, method=method)
    with pytest.raises(UnknownName, match="known: anova, bootstrap"):
        statistics.crossed_mean(np.ones((5, 2)), rng, method="t")


def test_what_has_no_ratio_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidParameter, match="above it in some scene"):
        statistics.bootstrap_ratio(np.ones(3), np.zeros(3), rng)
    with pytest.raises(InvalidShape, match=r"\(3,\), \(4,\)"):
        statistics.bootstrap_ratio(np.ones(3), np.ones(4), rng)


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


def test_a_finding_s_verdict_is_the_rule_s():
    found = statistics.finding("c", "p", Interval(0.5, 0.4, 0.6, 9), "here", threshold=0.45)
    assert (found.measured, found.interval, found.verdict) == (0.5, (0.4, 0.6), "inconclusive")
    assert statistics.finding("c", "p", Interval(0.5, 0.4, 0.6, 9), "here", threshold=0.3).verdict == "reproduced"
    below = statistics.finding("c", "p", Interval(0.5, 0.4, 0.6, 9), "here", claimed=-1, threshold=0.3)
    assert below.verdict == "not reproduced"


def test_what_was_not_measured_is_marked():
    nothing = statistics.finding("c", "p", statistics.Undefined("0 of 9 scenes move"), "here")
    assert (nothing.measured, nothing.interval, nothing.verdict) == (None, None, "inconclusive")
    assert nothing.measured_on == "here; not measured: 0 of 9 scenes move"
    shown = show.Findings([nothing])._repr_mimebundle_()
    assert "not measured" in shown["text/html"] and "NaN" not in json.dumps(shown)
