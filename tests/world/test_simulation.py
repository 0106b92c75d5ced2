"""A scene follows from its spec, the car obeys its law of motion, and other actions have their true consequences."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from wamlab.errors import HorizonTooLong, InvalidAction, InvalidParameter, UnknownName
from wamlab.geometry import curvature_to_steering, steering_to_curvature, to_ego_frame, to_global_frame
from wamlab.world.road import Path
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, SceneSpec, State, World, make_world

SPEC = SceneSpec(5, "urban", turn="left", duration_s=8.0)
DIGEST = """
import hashlib, sys
from wamlab.world.simulation import SceneSpec, make_world
log = make_world(SceneSpec(5, "urban", turn="left", duration_s=8.0)).simulate()
text = repr([(s.ego, s.agents.s_m.tolist(), s.agents.speed_mps.tolist()) for s in log])
print(hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def drive() -> tuple[World, list[State]]:
    world = make_world(SPEC)
    return world, world.simulate()


def ego_rows(log: list[State]) -> np.ndarray:
    """(T, 6): x_m, y_m, yaw_rad, speed_mps, steering_rad, accel_mps2."""
    return np.array([[*s.ego.pose, s.ego.speed_mps, s.ego.steering_rad, s.ego.accel_mps2] for s in log])


def assert_same(a: list[State], b: list[State]) -> None:
    assert len(a) == len(b)
    np.testing.assert_array_equal(ego_rows(a), ego_rows(b))
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(p.agents.s_m, q.agents.s_m)
        np.testing.assert_array_equal(p.agents.speed_mps, q.agents.speed_mps)


def test_a_scene_is_the_same_in_every_process(drive):
    text = repr([(s.ego, s.agents.s_m.tolist(), s.agents.speed_mps.tolist()) for s in drive[1]])
    here = hashlib.sha256(text.encode()).hexdigest()
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there
    other = make_world(replace(SPEC, seed=6))
    assert other.start.ego != drive[0].start.ego


def test_the_car_is_a_kinematic_bicycle():
    for spec in (SPEC, SceneSpec(8, "suburban", turn="right", explore=True, side=-1), SceneSpec(9, "rural")):
        x, y, yaw, speed, steering, accel = ego_rows(make_world(spec).simulate()).T
        mean = (speed[1:] + speed[:-1]) / 2
        np.testing.assert_allclose(np.diff(yaw) / STEP_S, mean * steering_to_curvature(steering[1:]), atol=1e-12)
        np.testing.assert_allclose(np.diff(speed) / STEP_S, accel[1:], atol=1e-11)
        assert (np.hypot(np.diff(x), np.diff(y)) <= mean * STEP_S + 1e-12).all() and speed.min() >= 0


def test_yaw_rate_is_that_of_steering_and_speed(drive):
    for state in drive[1]:
        ego = state.ego
        assert ego.yaw_rate_radps == ego.speed_mps * np.tan(ego.steering_rad / 15.0) / 2.588


@pytest.mark.parametrize("turn", ["left", "right", "straight"])
@pytest.mark.parametrize("side", [1, -1])
def test_a_neat_driver_keeps_the_lane_and_a_steady_hand(turn, side):
    world = make_world(SceneSpec(21, "suburban", turn=turn, side=side))
    log = world.simulate()
    rows = ego_rows(log)
    _, aside = world.route.project(rows[:, :2])
    assert np.abs(aside).max() < 0.45
    assert np.abs(np.diff(rows[:, 4])).max() < 9.0 * STEP_S + 1e-9
    assert rows[:, 3].max() < 15 and rows[:, 5].min() > -7.01 and rows[:, 5].max() < 1.61


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("turn", ["left", "right", "straight"])
def test_every_road_can_be_asked_for(lanes, side, turn):
    world = make_world(SceneSpec(50 + lanes, "suburban", turn=turn, side=side, lanes=lanes, duration_s=4))
    assert world.map.roads[0].lanes == lanes and world.map.side == side
    assert world.map.distance_to_kerb(world.route.points[:-5]).max() < -1  # half of the car, and some room
    bend = world.route.yaw[np.searchsorted(world.route.s, 130)] - world.route.yaw[0]
    road = world.map.roads[0]
    s, _ = Path(road.points).project(world.route.points[[0]])
    bend -= road.at(min(s[0] + 130, road.length_m))[2] - road.at(s[0])[2]
    assert {"left": bend > 0.9, "right": bend < -0.9, "straight": abs(bend) < 0.3}[turn]


def test_the_ego_car_changes_lanes_in_some_scenes():
    """Its route moves over by a lane, and the driver steers there and back."""
    changes = 0
    for seed in (71, 72, 74, 76, 77):
        world = make_world(SceneSpec(seed, "urban", lanes=3, density=0.8))
        offset = Path(world.map.roads[0].points).project(world.route.points)[1]
        moved = offset[-10] - offset[2]
        assert min(abs(moved), abs(abs(moved) - 3.2)) < 0.05  # it ends in the middle of a lane
        changes += abs(moved) > 1
        if abs(moved) > 1 and changes < 3:
            rows = ego_rows(world.simulate())
            assert np.abs(world.route.project(rows[:, :2])[1]).max() < 0.5
            assert (np.sign(moved) * rows[:, 4]).max() > 0.15
    assert changes >= 3


def test_an_exploring_driver_covers_more_actions():
    """More steering than the road asks for, and more acceleration."""
    spread, widest, hardest = {}, {}, 0.0
    for explore in (False, True):
        rows = []
        for seed in (31, 32, 33):
            world = make_world(SceneSpec(seed, "rural", explore=explore, density=0.3))
            row = ego_rows(world.simulate())[24:]
            s, _ = world.route.project(row[:, :2])
            needed = curvature_to_steering(np.interp(s, world.route.s, world.route.bend))
            rows.append(np.stack([row[:, 4] - needed, row[:, 5]], -1))
        rows = np.concatenate(rows)
        spread[explore], widest[explore], hardest = rows.std(0), rows[:, 1].max(), rows[:, 1].min()
    assert (spread[True] > 1.5 * spread[False]).all(), spread
    assert widest[False] < 1.61 and widest[True] > 2.2 and hardest < -3.5


@pytest.mark.parametrize("explore", [False, True])
def test_the_ego_car_stays_on_the_road(explore):
    for seed, place, turn in ((91, "urban", "right"), (92, "suburban", "left"), (93, "rural", "straight")):
        world = make_world(SceneSpec(seed, place, turn=turn, explore=explore, duration_s=15))
        for x, y, yaw, *_ in ego_rows(world.simulate())[::3]:
            corners = np.array([[u, v] for u in (-0.9, 3.6) for v in (-0.925, 0.925)])  # from the rear axle
            assert world.map.distance_to_kerb(to_global_frame(corners, np.array([x, y, yaw]))).max() < 0


@pytest.mark.parametrize(("turn", "sign"), [("left", 1), ("right", -1)])
def test_the_car_turns_as_told(turn, sign):
    log = make_world(SceneSpec(40, "urban", turn=turn, density=0.1)).simulate()
    rows = ego_rows(log)
    assert sign * (rows[-1, 2] - rows[0, 2]) > 1 and (sign * rows[:, 4]).max() > 1.5


@pytest.mark.parametrize("keyframe", [0, 5])
def test_replaying_the_log_reproduces_it(drive, keyframe):
    world, log = drive
    first = keyframe * KEYFRAME_STEPS
    actions = ego_rows(log)[first + 1 : first + 1 + 8 * KEYFRAME_STEPS, 4:]
    again = world.replay(log, keyframe, actions, every_step=True)
    assert_same(again, log[first + KEYFRAME_STEPS : first + 8 * KEYFRAME_STEPS + 1 : KEYFRAME_STEPS])


def test_a_car_at_rest_is_replayed_exactly(drive):
    world, log = drive
    stop = world.replay(log, 2, np.tile([0.0, -9.0], (6, 1)))
    assert stop[-1].ego.speed_mps == 0.0

    def brake(state: State) -> tuple[float, float]:
        return 0.1, -3.3

    braked = world.simulate(brake)
    actions = ego_rows(braked)[1 : 1 + 12 * KEYFRAME_STEPS, 4:]
    assert braked[-1].ego.speed_mps == 0.0
    assert_same(world.replay(braked, 0, actions, every_step=True), braked[KEYFRAME_STEPS:73:KEYFRAME_STEPS])


def test_more_steering_turns_more(drive):
    world, log = drive
    angles = np.linspace(-1.5, 1.5, 13)
    poses = []
    for angle in angles:
        state = world.replay(log, 2, np.array([[angle, 0.0]]))[0]
        poses.append(to_ego_frame(np.array(state.ego.pose), np.array(log[12].ego.pose)))
    poses = np.array(poses)
    assert spearmanr(angles, poses[:, 1]).statistic > 0.99 and spearmanr(angles, poses[:, 2]).statistic > 0.99
    assert poses[0, 1] < -0.1 < 0.1 < poses[-1, 1]


def test_more_throttle_goes_farther(drive):
    world, log = drive
    accels = np.linspace(-4, 2, 9)
    ends = [world.replay(log, 1, np.tile([0.0, a], (4, 1)))[-1].ego for a in accels]
    assert (np.diff([e.speed_mps for e in ends]) > 0).all()


def test_only_reactive_traffic_sees_the_ego_car():
    follower = None
    for seed in range(60, 80):  # somebody drives behind the car
        world = make_world(SceneSpec(seed, "suburban", density=1.4))
        x, y, yaw = to_ego_frame(world.agents.pose(world.start.agents), np.array(world.start.ego.pose)).T
        behind = np.flatnonzero(world.agents.drives & (x < -5) & (x > -45) & (np.abs(y) < 1.5) & (np.abs(yaw) < 0.3))
        if len(behind):
            follower = behind[np.argmax(x[behind])]
            break
    assert follower is not None
    log = world.simulate()
    stop, go = np.tile([0.0, -7.0], (8, 1)), np.tile([0.0, 0.5], (8, 1))
    braking = [world.replay(log, 0, stop, reactive)[-1].agents for reactive in (True, False)]
    assert braking[0].s_m[follower] < braking[1].s_m[follower] - 1
    unseen = [world.replay(log, 0, a, reactive=False)[-1].agents.s_m for a in (stop, go)]
    np.testing.assert_array_equal(*unseen)


def test_a_replay_interpolates_between_keyframes_and_then_holds(drive):
    world, log = drive
    actions = np.array([[0.0, 0.0, 9.9], [0.6, -1.0, 9.9]])
    at = (np.arange(12) + 0.5) / 6
    steps = np.stack([np.interp(at, [0, 1], actions[:, c]) for c in (0, 1)], -1)
    assert_same(world.replay(log, 1, actions), world.replay(log, 1, steps, every_step=True))
    assert (steps[6:] == [0.6, -1.0]).all()


def test_what_is_wrong_has_a_name(drive):
    world, log = drive
    for wrong in ({"place": "moon"}, {"turn": "u-turn"}, {"time": "noon"}, {"weather": "hail"}):
        with pytest.raises(UnknownName, match=next(iter(wrong.values()))):
            SceneSpec(1, **wrong)
    nan, inf = float("nan"), float("inf")
    wrong = {
        "side": (0, 2),
        "duration_s": (0.0, 61.0, nan, -5.0),
        "density": (0.0, -1.0, nan, inf, 3.1),
        "seed": (-1, 1.5),
    }
    wrong["lanes"] = (0, -1, 4, 1.5, "2")
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(InvalidParameter, match=name):
                SceneSpec(**{"seed": 1, name: value})
    with pytest.raises(InvalidParameter, match="1 to 2 in rural places, or None, not 3"):
        SceneSpec(1, "rural", lanes=3)
    for action in ((nan, 0.0), (0.0, nan), (inf, 0.0), (0.0, -inf)):
        with pytest.raises(InvalidAction, match="finite"):
            world.step(log[0], *action)
    good = np.zeros((4, 3))
    bad = good.copy()
    bad[2, 1] = np.nan
    with pytest.raises(InvalidAction, match="row 2"):
        world.replay(log, 0, bad)
    for shape in ((4,), (4, 1), (0, 2), (2, 4, 2)):
        with pytest.raises(InvalidAction, match="actions must be"):
            world.replay(log, 0, np.zeros(shape))
    with pytest.raises(InvalidAction, match="multiple of 6"):
        world.replay(log, 0, np.zeros((7, 2)), every_step=True)
    for keyframe in (-1, 17):
        with pytest.raises(HorizonTooLong, match=f"0..16, not {keyframe}"):
            world.replay(log, keyframe, good)
