"""Crash tests: whoever does nothing collides as planned, whoever looks ahead need not, and the score is NeuroNCAP's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.geometry import wrap_angle
from wamlab.world.collision import CollisionChecker
from wamlab.world.driver import FRONT_M
from wamlab.world.episode import Episode, run
from wamlab.world.ncap import CrashTest, crash_test, ncap_score
from wamlab.world.outcome import Outcome
from wamlab.world.road import PLACES
from wamlab.world.scenarios import KINDS, TARGETS, Frontal, Side, Stationary, sample
from wamlab.world.scripted import brake_and_swerve, constant_speed
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S

SEEDS = range(21)


def of(kind: str, seed: int) -> CrashTest:
    """The random scenario of a seed, on one map for each place (made once)."""
    look = {"time": "day", "weather": "clear", "side": -1 if seed % 3 == 2 else 1}
    return crash_test(sample(kind, seed, place=PLACES[seed % 3], scene=0, **look))


@pytest.fixture(scope="module", params=list(KINDS))
def undisturbed(request) -> list[tuple[CrashTest, Episode, Outcome]]:
    """Tests of a kind in which the ego car keeps its speed and its lane."""
    out = []
    for test in (of(request.param, seed) for seed in SEEDS):
        episode = test.episode(observe=False)
        out.append((test, episode, run(episode, constant_speed(test.world))))
    return out


def test_doing_nothing_ends_in_the_collision_that_was_planned(undisturbed):
    for test, _, outcome in undisturbed:
        assert outcome.ended == "collision"
        first, planned = outcome.collisions[0], test.scenario.ttc_s
        assert first.agent == test.target and first.kind == test.scenario.target
        # a target that crosses late hits the car's side while that passes
        passing = (4.5 + test.scenario.size_m[1]) / test.scenario.speed_mps if test.scenario.kind == "side" else 0.15
        assert planned - 0.2 < first.time_s < planned + passing
        assert first.impact_mps == pytest.approx(test.reference_mps, rel=0.02)
        assert test.score(outcome) < 0.1
        assert outcome.max_deviation_m < 0.1 and outcome.off_road_s == 0 and outcome.signals_run == 0


def test_the_reference_is_the_sum_of_velocities(undisturbed):
    for test, *_ in undisturbed:
        own, other = test.scenario.speed_mps, test.scenario.target_mps
        expected = {"stationary": own, "frontal": own + other, "side": np.hypot(own, other)}[test.scenario.kind]
        assert test.reference_mps == pytest.approx(expected, rel=0.12)


def test_targets_move_as_their_kind_says(undisturbed):
    for test, episode, _ in undisturbed:
        world, scenario = test.world, test.scenario
        pose = np.array([world.agents.pose(s.agents)[test.target] for s in episode.log])
        moved = np.hypot(*np.diff(pose[:, :2], axis=0).T) / STEP_S
        np.testing.assert_allclose(moved, scenario.target_mps, atol=0.3)
        s, aside = world.route.project(pose[:, :2])
        turn = wrap_angle(pose[:, 2] - np.interp(s, world.route.s, world.route.yaw))
        if scenario.kind == "stationary":
            np.testing.assert_allclose(aside, scenario.offset_m, atol=0.05)
            np.testing.assert_allclose(turn, scenario.yaw_rad, atol=0.05)
        elif scenario.kind == "frontal":
            lane = world.map.side * world.map.roads[0].lane_m
            assert aside[0] == pytest.approx(lane, abs=0.1), "it begins in the oncoming lane"
            assert aside[-1] == pytest.approx(scenario.offset_m, abs=0.1)
            assert (np.abs(turn) > np.pi / 2).all()
        else:
            far = np.abs(aside) > 5
            assert far[0] and (np.sign(aside[far]) == (1 if scenario.from_left else -1)).all()
            assert (np.abs(np.sin(turn)) > 0.9).all()


def test_nobody_else_is_in_the_way(undisturbed):
    """The target touches nobody, and nobody else is near the two in traffic."""
    for test, episode, _ in undisturbed:
        agents = test.world.agents
        others = np.flatnonzero(agents.drives)
        for state in episode.log[::6]:
            pose = agents.pose(state.agents)
            gap = np.hypot(*(pose[others, :2] - pose[test.target, :2]).T)
            assert gap.min(initial=np.inf) > 15
        start = CollisionChecker(test.world)
        assert not start(episode.log[0], episode.log[0])


@pytest.mark.parametrize("kind", list(KINDS))
def test_looking_ahead_avoids_it(kind):
    """Avoidable: brakes and swerves past the target, nearly always, and stays on the road."""
    outcomes = []
    for seed in SEEDS[:4]:
        test = of(kind, seed)
        outcome = run(test.episode(observe=False), brake_and_swerve(test.world))
        outcomes.append((test.score(outcome), outcome))
    assert np.mean([score for score, _ in outcomes]) > 4.5
    for _, outcome in outcomes:
        assert outcome.off_road_s < 0.5 and outcome.max_accel_mps2 <= 8.0 and outcome.max_lateral_mps2 < 8


def test_a_test_is_an_ordinary_world():
    """Deterministic, and replayed to the same states."""
    test, again = of("side", 4), of("side", 4)
    logs = []
    for t in (test, again):
        episode = t.episode(observe=False)
        run(episode, constant_speed(t.world))
        logs.append(episode.log)
    for a, b in zip(*logs, strict=True):
        assert a.ego == b.ego
        np.testing.assert_array_equal(a.agents.s_m, b.agents.s_m)
    actions = np.array([[s.ego.steering_rad, s.ego.accel_mps2] for s in logs[0][1 : 1 + 3 * KEYFRAME_STEPS]])
    replayed = test.world.replay(logs[0], 0, actions, every_step=True)
    for a, b in zip(replayed, logs[0][KEYFRAME_STEPS::KEYFRAME_STEPS], strict=False):
        assert a.ego == b.ego
        np.testing.assert_array_equal(a.agents.s_m, b.agents.s_m)
    other = crash_test(replace(test.scenario, seed=5))
    assert len(other.world.agents) != len(test.world.agents) or other.world.start.ego != test.world.start.ego


def test_the_camera_sees_the_target():
    test = crash_test(Frontal())
    episode = test.episode()
    seen = episode.reset()
    for _ in range(7):
        seen = episode.step(constant_speed(test.world)(seen))
    share = (seen.frames.instance == test.target + 1).float().mean()
    assert share > 0.008, "it fills 28 x 20 pixels half a second before the impact"


def test_score():
    assert ncap_score(None, 10.0) == 5.0
    assert ncap_score(0.0, 10.0) == 4.0
    assert ncap_score(2.5, 10.0) == pytest.approx(3.0)
    assert ncap_score(12.0, 10.0) == 0.0
    for impact, reference in ((1.0, 0.0), (None, -1.0), (np.nan, 5.0), (1.0, np.inf), (-1.0, 5.0)):
        with pytest.raises(InvalidParameter, match="impact speeds"):
            ncap_score(impact, reference)


@pytest.mark.parametrize("kind", list(KINDS))
def test_samples_differ_and_repeat(kind):
    drawn = [sample(kind, seed) for seed in range(60)]
    assert drawn == [sample(kind, seed) for seed in range(60)] and len(set(drawn)) == 60
    for name in ("scene", "place", "time", "weather", "side", "target"):
        assert len({getattr(s, name) for s in drawn}) > 1
    for s in drawn:
        low, high = s.offsets_m
        assert low < s.offset_m < high and s.target in TARGETS
    assert sample(kind, 3, target="bus", speed_mps=9.0).target == "bus"


def test_a_closer_test_begins_closer():
    """The front of the car is `speed * ttc` from the obstacle."""
    for speed, ttc in ((6.0, 3.0), (12.0, 4.0)):
        test = crash_test(Stationary(speed_mps=speed, ttc_s=ttc))
        s = test.world.route.project(np.array(test.world.start.ego.pose[:2]))[0]
        obstacle = test.world.agents.pose(test.world.start.agents)[test.target]
        gap = test.world.route.project(obstacle[:2])[0] - s - FRONT_M - test.scenario.size_m[0] / 2
        assert gap == pytest.approx(speed * ttc, abs=0.3)
        assert test.world.start.ego.speed_mps == speed


def test_what_cannot_be_is_refused():
    for kind, wrong in (
        (Stationary, {"speed_mps": -3.0}), (Stationary, {"speed_mps": np.nan}), (Stationary, {"ttc_s": 0.5}),
        (Stationary, {"target_mps": 2.0}), (Stationary, {"yaw_rad": 2.0}), (Stationary, {"offset_m": 1.7}),
        (Frontal, {"offset_m": -3.0}), (Frontal, {"drift_s": 3.9}), (Frontal, {"target_mps": 0.0}), (Frontal, {"duration_s": 4.0}),
        (Side, {"offset_m": 5.0}), (Side, {"target_mps": 40.0}), (Side, {"scene": -1}), (Side, {"seed": -1}), (Side, {"side": 0}),
    ):  # fmt: skip
        with pytest.raises(InvalidParameter, match=next(iter(wrong))):
            kind(**wrong)
    for wrong in ({"target": "pedestrian"}, {"place": "moon"}, {"time": "noon"}, {"weather": "hail"}):
        with pytest.raises(UnknownName, match=next(iter(wrong.values()))):
            Side(**wrong)
    with pytest.raises(UnknownName, match="overtaking"):
        sample("overtaking", 1)
    with pytest.raises(InvalidParameter, match="no 'yaw_rad'"):
        sample("side", 1, yaw_rad=0.1)
    with pytest.raises(InvalidParameter, match="no room"):
        crash_test(Side(place="rural", speed_mps=16.0, ttc_s=6.0, duration_s=20.0))
