"""Lane changes: the rule against a plain reference, the way over, and that they happen, safely, where they should."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from wamlab.geometry import to_ego_frame, wrap_angle
from wamlab.world.following import idm
from wamlab.world.lanes import CHANGE_S, Occupants, choose, move_over, moving_over
from wamlab.world.road import Path
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, SceneSpec, State, World, make_world

SPECS = [
    SceneSpec(201, "urban", lanes=3, density=1.3, duration_s=15),
    SceneSpec(202, "urban", lanes=2, side=-1, turn="left", density=1.3, duration_s=15),
    SceneSpec(203, "suburban", lanes=3, side=-1, turn="right", duration_s=15),
    SceneSpec(204, "suburban", lanes=2, duration_s=15),
    SceneSpec(205, "rural", lanes=2, density=1.5, duration_s=15),
]


@pytest.fixture(scope="module")
def drives() -> list[tuple[World, list[State]]]:
    return [(world, world.simulate()) for world in map(make_world, SPECS)]


def occupants(*rows: tuple[int, float, float, float]) -> Occupants:
    """From (lane, road_m, speed_mps, wanted_mps) of each vehicle, 5 m long."""
    lane, road_m, speed, wanted = np.array(rows, float).T
    lanes = np.stack([lane, -np.ones(len(rows))], -1).astype(int)
    return Occupants(lanes, road_m, np.full(len(rows), 5.0), speed, wanted)


def mobil(seen: Occupants, who: int, target: int) -> float:
    """The incentive of one change (Kesting, Treiber, Helbing 2007, eq. 6), -inf where it is not safe; vehicle by vehicle."""

    def leader(me: int, lane: int, leave_out: int = -1) -> int | None:
        ahead = [j for j in range(len(seen.road_m)) if j not in (me, leave_out) and seen.lane[j, 0] == lane]
        ahead = [j for j in ahead if seen.road_m[j] >= seen.road_m[me]]
        return min(ahead, key=lambda j: seen.road_m[j], default=None)

    def follower(me: int, lane: int) -> int | None:
        behind = [j for j in range(len(seen.road_m)) if seen.lane[j, 0] == lane and seen.road_m[j] < seen.road_m[me]]
        return max(behind, key=lambda j: seen.road_m[j], default=None)

    def accel(me: int | None, other: int | None) -> float:
        if me is None:
            return 0.0
        gap = np.inf if other is None else seen.road_m[other] - seen.road_m[me] - 5.0
        speed = 0.0 if other is None else seen.speed_mps[other]
        return float(idm(*(np.array([v]) for v in (seen.speed_mps[me], seen.wanted_mps[me], gap, speed)))[0])

    lane = int(seen.lane[who, 0])
    new, old = follower(who, target), follower(who, lane)
    before = leader(who, target)
    room = min([abs(seen.road_m[j] - seen.road_m[who]) - 5.0 for j in (new, before) if j is not None], default=np.inf)
    if room <= 3.0 or accel(new, who) <= -1.8 or accel(who, before) <= -1.0:
        return -np.inf
    own = accel(who, before) - accel(who, leader(who, lane))
    others = accel(new, who) - accel(new, None if new is None else leader(new, target))
    others += accel(old, None if old is None else leader(old, lane, who)) - accel(old, who)
    return own + 0.25 * others


def test_a_slow_truck_is_overtaken_if_the_other_lane_is_free():
    me, truck = (0, 100.0, 10.0, 13.0), (0, 120.0, 6.0, 6.0)
    assert choose(occupants(me, truck), np.array([0]), np.array([1])) == 0
    assert choose(occupants(me, truck, (1, 102.0, 10.0, 10.0)), np.array([0]), np.array([1])) == -1  # abreast
    assert choose(occupants(me, truck, (1, 88.0, 14.0, 14.0)), np.array([0]), np.array([1])) == -1  # it comes fast
    assert choose(occupants(me, truck, (1, 118.0, 6.0, 6.0)), np.array([0]), np.array([1])) == -1  # no gain
    assert choose(occupants(me), np.array([0]), np.array([1])) == -1


def test_who_is_leaving_a_lane_is_still_in_it():
    seen = occupants((0, 100.0, 10.0, 13.0), (0, 120.0, 6.0, 6.0), (2, 102.0, 10.0, 10.0))
    assert choose(seen, np.array([0]), np.array([1])) == 0
    leaving = np.array([[0, -1], [0, -1], [2, 1]])
    assert choose(replace(seen, lane=leaving), np.array([0]), np.array([1])) == -1


def test_the_choice_is_that_of_the_published_rule():
    rng, taken = np.random.default_rng(0), 0
    for _ in range(200):
        n = 9
        rows = [(rng.integers(3), s, rng.uniform(4, 12), rng.uniform(6, 14)) for s in rng.uniform(0, 150, n)]
        seen = occupants(*rows)
        options = [(i, t) for i in range(n) for t in (seen.lane[i, 0] - 1, seen.lane[i, 0] + 1) if 0 <= t < 3]
        gains = [mobil(seen, *o) for o in options]
        who, target = np.array(options).T
        expected = int(np.argmax(gains)) if max(gains) > 0.3 else -1
        assert choose(seen, who, target) == expected
        taken += expected >= 0
    assert 20 < taken < 200


def test_the_way_over_is_smooth():
    t = np.linspace(0, CHANGE_S, 2001)
    for speed in (3.0, 7.0, 13.0):
        pace = max(speed, 7.0)
        aside, angle = moving_over(3.2, t, speed, 0.0)
        assert aside[0] == pytest.approx(3.2) and aside[-1] == pytest.approx(0) and (np.diff(aside) <= 0).all()
        np.testing.assert_allclose(np.tan(angle), np.gradient(aside, t * pace), atol=1e-3)
        assert np.abs(np.gradient(np.gradient(aside, t), t)).max() < 1.6  # m/s²
        later, _ = moving_over(3.2, 1.0, speed, 0.5 * pace)
        assert later == pytest.approx(moving_over(3.2, 1.5, speed, 0.0)[0])


def test_a_path_moves_over_and_stays_there():
    angle = np.linspace(0, 1.0, 201)
    path = Path(200 * np.stack([np.sin(angle), 1 - np.cos(angle)], -1))
    moved = move_over(path, 60.0, 40.0, -3.2)
    np.testing.assert_array_equal(moved.points[:60], path.points[:60])
    _, aside = path.project(moved.points)
    assert np.abs(aside[102:] + 3.2).max() < 0.01
    assert np.abs(moved.curvature[5:-5] - 1 / 200).max() < 0.016


def test_others_change_lanes_and_end_in_the_middle_of_one(drives):
    changes = dict.fromkeys(SPECS, 0)
    for world, log in drives:
        agents, tracks = world.agents, world.agents.tracks
        for now, later in itertools.pairwise(log):
            for i in np.flatnonzero(now.agents.track != later.agents.track):
                changes[world.spec] += 1
                assert later.agents.track[i] in tracks.beside[now.agents.track[i]]
                before, after = (agents.pose(s.agents)[i] for s in (now, later))
                x, y, yaw = to_ego_frame(after, before)
                assert 0.2 < x < 1.6 and abs(y) < 0.15 and abs(yaw) < 0.05  # nobody jumps
        done = agents.drives & np.isfinite(log[-1].agents.s_m) & (log[-1].agents.change_s >= CHANGE_S)
        s = np.where(done, log[-1].agents.s_m, 0.0)
        gap = tracks.at(s, log[-1].agents.track)[:, :2] - agents.pose(log[-1].agents)[:, :2]
        inside = done & (s >= tracks.enter_m[log[-1].agents.track])
        assert np.hypot(*gap[inside].T).max() < 0.2
    assert sum(changes.values()) >= 8 and sum(n > 0 for n in changes.values()) >= 3, changes


def test_nobody_changes_lanes_at_a_crossing_or_before_a_turn(drives):
    for world, log in drives:
        agents, tracks = world.agents, world.agents.tracks
        middles = np.array([world.map.roads[a].at(s)[:2] for a, s, _, _ in world.map.crossings]).reshape(-1, 2)
        for state in log:
            moving = np.flatnonzero((state.agents.change_s < CHANGE_S) & np.isfinite(state.agents.s_m))
            assert (tracks.beside[state.agents.track[moving]] >= 0).any(1).all()  # a lane's track goes straight on
            pose = agents.pose(state.agents)[moving]
            if len(moving) and len(middles):
                assert np.hypot(*(pose[:, None, :2] - middles).transpose(2, 0, 1)).min() > 12


def test_others_move_as_vehicles_do(drives):
    for world, log in drives:
        agents = world.agents
        rows = agents.drivers
        pose = np.stack([agents.pose(s.agents)[rows] for s in log])
        speed = np.stack([s.agents.speed_mps[rows] for s in log])
        there = (pose[1:, :, 0] > 0) & (pose[:-1, :, 0] > 0)
        accel = np.diff(speed, axis=0) / STEP_S
        lateral = wrap_angle(np.diff(pose[..., 2], axis=0)) / STEP_S * (speed[1:] + speed[:-1]) / 2
        moved = np.hypot(*np.diff(pose[..., :2], axis=0).transpose(2, 0, 1)) / STEP_S - (speed[1:] + speed[:-1]) / 2
        assert np.abs(accel[there]).max() <= 8 and np.abs(lateral[there]).max() <= 4
        assert np.abs(moved[there]).max() < 2.0


def test_replaying_with_the_logged_actions_repeats_the_lane_changes(drives):
    world, log = drives[0]
    actions = np.array([[s.ego.steering_rad, s.ego.accel_mps2] for s in log[13:]])
    actions = actions[: len(actions) // KEYFRAME_STEPS * KEYFRAME_STEPS]
    again = world.replay(log, 2, actions, every_step=True)
    assert any((a.agents.track != log[12].agents.track).any() for a in again)
    for state, logged in zip(again, log[18::KEYFRAME_STEPS], strict=False):
        for name in ("s_m", "speed_mps", "accel_mps2", "track", "from_m", "change_s"):
            np.testing.assert_array_equal(getattr(state.agents, name), getattr(logged.agents, name))


def test_the_indicator_tells_the_side(drives):
    seen = set()
    for world, log in drives:
        for state in log[::6]:
            side = world.agents.indicators(state.agents)
            ahead = replace(state.agents, change_s=state.agents.change_s + 0.2)
            before, after = world.agents.pose(state.agents), world.agents.pose(ahead)
            for i in np.flatnonzero(side & (before[:, 0] > 0)):
                seen.add(int(side[i]))
                assert to_ego_frame(after[i], before[i])[1] * side[i] >= -0.1  # the body already points that way
    assert seen == {-1, 1}
