"""The table of crash tests says what happened in them, with intervals, and a film shows it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wamlab.analysis.closed_loop import NAMES, crash_tests, film, summary
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.world.camera import Camera
from wamlab.world.episode import run
from wamlab.world.ncap import crash_test
from wamlab.world.scenarios import sample
from wamlab.world.scripted import DRIVERS, constant_speed


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return crash_tests(range(2), kinds=("stationary", "side"))


def test_a_row_for_every_driver_in_every_test(table):
    assert len(table) == 2 * 2 * len(DRIVERS) and not table.duplicated(["kind", "driver", "seed"]).any()
    test = crash_test(sample("side", 1))
    outcome = run(test.episode(observe=False), constant_speed(test.world))
    row = table.query("kind == 'side' and seed == 1 and driver == 'constant speed'").iloc[0]
    assert (row.score, row.collided, row.ended) == (test.score(outcome), 1.0, "collision")
    assert row.impact_mps == outcome.collisions[0].impact_mps and row.progress == outcome.progress


def test_the_two_drivers_bracket_the_score(table):
    mean = table.groupby("driver").score.mean()
    assert mean["constant speed"] < 0.2 and mean["brake and swerve"] > 4.5


def test_the_summary_has_intervals(table):
    found = summary(table, np.random.default_rng(0), num_resamples=200).set_index(["kind", "driver", "metric"])
    assert len(found) == 2 * len(DRIVERS) * len(NAMES)
    score = found.loc["side", "constant speed", "score"]
    rows = table.query("kind == 'side' and driver == 'constant speed'")
    assert (
        score["mean"] == pytest.approx(rows.score.mean()) and score.low <= score["mean"] <= score.high and score.n == 2
    )
    none = table.assign(impact_mps=np.nan)
    impact = summary(none, np.random.default_rng(0), 50).query("metric == 'impact_mps'")
    assert (impact.n == 0).all() and impact["mean"].isna().all()


def test_a_film_freezes_at_the_end():
    test = crash_test(sample("stationary", 0))
    camera = Camera(width=48, height=27, focal_px=30)
    frames = film(test, constant_speed, [0.0, test.scenario.ttc_s - 0.5, 6.0, 7.0], camera)
    assert frames.shape == (4, 27, 48, 3) and frames.dtype == np.uint8
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()
    np.testing.assert_array_equal(frames[2], frames[3])


def test_wrong_requests_are_refused():
    with pytest.raises(UnknownName, match="overtaking"):
        crash_tests([0], kinds=("overtaking",))
    with pytest.raises(InvalidParameter, match="at least one time"):
        film(crash_test(sample("stationary", 0)), constant_speed, [])
