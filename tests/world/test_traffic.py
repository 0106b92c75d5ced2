"""How the others drive: the car-following law, signals, giving way, and nobody inside of anybody else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wamlab.geometry import wrap_angle
from wamlab.world.following import PROBES_M, Boxes, clearance, idm
from wamlab.world.junction import CYCLE_S, GREEN, RED, Stops, signal
from wamlab.world.simulation import SceneSpec, State, World, make_world

CASES = [
    (101, "urban", "left", 1, 1.4),
    (102, "urban", "right", -1, 1.4),
    (103, "urban", "right", 1, 1.0),
    (104, "suburban", "left", 1, 1.4),
    (105, "suburban", "straight", -1, 1.0),
    (106, "rural", "left", 1, 1.4),
    (107, "rural", "right", -1, 1.0),
    (108, "urban", "straight", 1, 1.0),
]
SPECS = [SceneSpec(n, where, turn=t, side=side, density=d, duration_s=15) for n, where, t, side, d in CASES]


@pytest.fixture(scope="module")
def drives() -> list[tuple[World, list[State]]]:
    return [(world, world.simulate()) for world in map(make_world, SPECS)]


def fronts_m(world: World, state: State) -> np.ndarray:
    """(N + 1,) metres of the fronts along the tracks, of the agents and the ego car."""
    s, aside = world.route.project(np.array([state.ego.x_m, state.ego.y_m]))
    front = s + 1.35 + 2.25 if abs(aside) < 3 else np.inf
    return np.append(state.agents.s_m + world.agents.size_m[:, 0] / 2, front)


def corners(pose: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(n, 3), (n, 2) -> (n, 4, 2)."""
    u, v = half[:, :1] * np.array([1, 1, -1, -1]), half[:, 1:2] * np.array([1, -1, -1, 1])
    c, s = np.cos(pose[:, 2:]), np.sin(pose[:, 2:])
    return np.stack([pose[:, :1] + c * u - s * v, pose[:, 1:2] + s * u + c * v], -1)


def penetration_m(a: np.ndarray, b: np.ndarray) -> float:
    """How deep two rectangles (4, 2) overlap: the least over their four axes, 0 if they are apart."""
    depth = np.inf
    for p, k in itertools.product((a, b), (0, 1)):
        axis = (p[k + 1] - p[k]) / np.hypot(*(p[k + 1] - p[k]))
        x, y = a @ axis, b @ axis
        depth = min(depth, min(x.max(), y.max()) - max(x.min(), y.min()))
    return max(0.0, depth)


@pytest.mark.parametrize("speed", [0.0, 3.0, 8.0, 12.0])
def test_idm_stands_still_in_its_closed_form_equilibrium(speed):
    wanted = 13.0
    gap = (2.5 + 1.2 * speed) / np.sqrt(1 - (speed / wanted) ** 4)  # Treiber et al. 2000, eq. 7
    accel = idm(*(np.array([v]) for v in (speed, wanted, gap, speed)))
    assert accel == pytest.approx(0, abs=1e-12)
    nearer, farther = (idm(*(np.array([v]) for v in (speed, wanted, gap * f, speed)))[0] for f in (0.9, 1.1))
    assert nearer < 0 < farther


def test_idm_platoon_settles_at_the_equilibrium_gap():
    leader, speed, gap = 8.0, 11.0, 40.0
    for _ in range(1200):
        a = idm(*(np.array([v]) for v in (speed, 12.0, gap, leader)))[0]
        gap += (leader - speed - a / 24) / 12
        speed += a / 12
    assert speed == pytest.approx(leader, abs=1e-3)
    assert gap == pytest.approx((2.5 + 1.2 * 8) / np.sqrt(1 - (8 / 12) ** 4), abs=0.05)


def test_clearance_finds_the_nearest_footprint_on_the_path():
    probes = np.stack([PROBES_M, 0 * PROBES_M, 0 * PROBES_M], -1)[None]
    pose = np.array([[30.0, 0.3, 0.0], [20.0, 0.0, np.pi / 2], [10.0, 3.0, 0.0], [5.0, 0.0, 0.0]])
    boxes = Boxes(pose, np.tile([2.3, 0.9], (4, 1)), np.zeros(4))
    gap, who = clearance(probes, np.array([0.9]), boxes, np.array([3]))  # its own box does not count
    assert who[0] == 1 and gap[0] == pytest.approx(20 - 0.9, abs=1e-9)
    away = Boxes(pose[2:3], boxes.half[:1], np.zeros(1))
    assert clearance(probes, np.array([0.9]), away, np.array([-1]))[1][0] == -1


def test_signals_never_let_both_roads_go():
    offsets = np.random.default_rng(0).uniform(0, CYCLE_S, 4)
    for crossing in range(4):
        for t in np.arange(0, 2 * CYCLE_S, 0.05):
            both = {signal(t, crossing, 0, offsets), signal(t, crossing, 1, offsets)}
            assert RED in both
        seen = [signal(t, crossing, 1, offsets) for t in np.arange(0, CYCLE_S, 0.05)]
        assert 0.25 < np.mean(np.array(seen) == GREEN) < 0.45


def test_a_stop_line_holds_on_red_and_after_amber_only_who_can_stop():
    stops, offsets = Stops.of([[(100.0, 0, 0)]] * 2), np.zeros(1)
    front, speed = np.array([75.0, 95.0]), np.array([10.0, 10.0])
    assert np.isinf(stops.gap_m(front, speed, 1.0, offsets)).all()  # green
    np.testing.assert_allclose(stops.gap_m(front, speed, 8.5, offsets), [25.0, np.inf])  # amber
    np.testing.assert_allclose(stops.gap_m(front, speed, 15.0, offsets), [25.0, 5.0])  # red


def test_nobody_crosses_on_red(drives):
    passed = 0
    for world, log in drives:
        agents = world.agents
        for now, later in itertools.pairwise(log):
            before, after = fronts_m(world, now), fronts_m(world, later)
            track, then = (np.append(s.agents.track, agents.ego_track) for s in (now, later))
            stops = agents.stops[track]
            vehicles = np.append(agents.drives, True) & np.isfinite(after) & (track == then)
            over = (
                vehicles[:, None] & (before[:, None] < stops.at_m) & (after[:, None] >= stops.at_m) & (stops.at_m > 0)
            )
            for i, k in np.argwhere(over):
                passed += 1
                assert signal(now.time_s, stops.crossing[i, k], stops.group[i, k], world.signal_offsets) != RED
    assert passed > 20


def test_nobody_is_inside_of_anybody_else(drives):
    for world, log in drives:
        agents = world.agents
        half = np.vstack([agents.size_m[:, :2] / 2, [2.25, 0.925]])
        drives_ = np.append(agents.drives, True)
        for state in log[::6]:
            ego = state.ego
            x, y = ego.x_m + 1.35 * np.cos(ego.yaw_rad), ego.y_m + 1.35 * np.sin(ego.yaw_rad)
            pose = np.vstack([agents.pose(state.agents), [x, y, ego.yaw_rad]])
            shapes = corners(pose, half)
            reach = np.hypot(*half.T)
            apart = np.hypot(*(pose[:, None, :2] - pose[None, :, :2]).transpose(2, 0, 1))
            near = (apart < reach[:, None] + reach) & drives_[:, None] & (pose[:, :1] > 0)
            for i, j in np.argwhere(near):
                assert i == j or penetration_m(shapes[i], shapes[j]) < 0.1, (world.spec, state.time_s, i, j)


def test_vehicles_leave_the_map_and_nobody_stands_at_its_end(drives):
    left = 0
    for world, log in drives:
        agents, state = world.agents, log[-1].agents
        assert not (agents.drives & (state.s_m == agents.tracks.length_m[state.track])).any()
        gone = np.isinf(state.s_m)
        left += int(gone.sum())
        assert (agents.pose(state)[gone, :2] < -1000).all() and (state.speed_mps[gone] == 0).all()
    assert left > 0


def test_others_turn_both_ways_at_crossings(drives):
    turned = {1: 0, -1: 0}
    for world, log in drives:
        pose = np.stack([world.agents.pose(s.agents)[world.agents.drivers] for s in log[::12]])
        for now, later in zip(pose, pose[4:], strict=False):  # 4 s: no bend of a road is as tight
            change = np.where((now[:, 0] > 0) & (later[:, 0] > 0), wrap_angle(later[:, 2] - now[:, 2]), 0.0)
            for way in turned:
                turned[way] += int((way * change > 1.2).sum())
    assert min(turned.values()) >= 3, turned


def test_traffic_keeps_coming_and_nobody_comes_into_view_near_the_ego_car():
    for spec in (SceneSpec(3, "rural", duration_s=60), SceneSpec(2, "suburban", turn="left", duration_s=40)):
        world = make_world(spec)
        log = world.simulate()[::3]
        pose = np.stack([world.agents.pose(s.agents)[world.agents.drivers] for s in log])
        ego = np.array([s.ego.pose[:2] for s in log])
        there = pose[..., 0] > 0
        away = np.hypot(*(pose[..., :2] - ego[:, None]).transpose(2, 0, 1))
        assert (away[1:][there[1:] & ~there[:-1]] > 80).all()  # they come from far away,
        assert (away[:-1][there[:-1] & ~there[1:]] > 50).all()  # and leave there
        around = (there & (away < 120)).sum(1)
        assert (around[len(log) // 2 :] > 0).mean() > 0.95
        assert (there[-1] & ~there[0]).sum() >= 2


def test_a_left_turn_gives_way_to_oncoming_traffic(drives):
    """Whoever must wait for another, in some scene does; and the waiting ends."""
    waits = 0
    for world, log in drives:
        agents = world.agents
        for state in log[::12]:
            seen = world._observe(state, True)[2]
            stops = agents.stops[np.append(state.agents.track, agents.ego_track)]
            speed = np.append(state.agents.speed_mps, state.ego.speed_mps)
            held = stops.gap_m(seen.front_m, speed, state.time_s, world.signal_offsets)
            waits += (seen.halt_m < held).sum()
    assert waits > 10


def test_pedestrians_cross_while_the_cars_have_red(drives):
    crossing = 0
    for world, log in drives:
        agents = world.agents
        stops = agents.stops[log[0].agents.track]
        for now, later in itertools.pairwise(log):
            for i in agents.crossers:
                if now.agents.s_m[i] < stops.at_m[i, 0] <= later.agents.s_m[i]:
                    crossing += 1
                    assert signal(now.time_s, stops.crossing[i, 0], stops.group[i, 0], world.signal_offsets) == RED
    assert crossing > 0
