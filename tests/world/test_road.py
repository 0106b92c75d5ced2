"""Road coordinates and routes: geometry that holds on every map."""

from __future__ import annotations

import numpy as np
import pytest

from wamlab.geometry import wrap_angle
from wamlab.world.road import PLACES, Path, RoadMap, generate_map

MAPS = [(place, side, seed) for place in PLACES for side in (1, -1) for seed in range(3)]


def crossing_map(place: str, side: int, seed: int) -> RoadMap:
    rng = np.random.default_rng(seed)
    while True:
        road_map = generate_map(rng, place, side)
        if road_map.crossings:
            return road_map


def routes(place: str, side: int, seed: int):
    """(map, turn, crossing, road, direction, path) for every turn that a lane allows, on the main and on the cross road."""
    road_map = crossing_map(place, side, seed)
    for k, (a, _, b, _) in enumerate(road_map.crossings):
        for road in (a, b):
            for direction in (1, -1):
                start = 0.0 if direction > 0 else road_map.roads[road].length_m
                for turn in ("left", "right", "straight"):
                    lane = 0 if turn == "straight" or road_map.across(turn) else road_map.roads[road].lanes - 1
                    path = road_map.route(road, direction, lane, start, {k: turn})
                    yield road_map, turn, k, road, direction, path


@pytest.mark.parametrize(("place", "side", "seed"), MAPS)
def test_road_coordinates_round_trip(place, side, seed):
    road = crossing_map(place, side, seed).roads[0]
    rng = np.random.default_rng(seed)
    s, d = rng.uniform(2, road.length_m - 2, 500), rng.uniform(-12, 12, 500)
    back_s, back_d = Path(road.points).project(road.at(s, d)[:, :2])
    np.testing.assert_allclose(back_s, s, atol=0.01)
    np.testing.assert_allclose(back_d, d, atol=0.01)


@pytest.mark.parametrize(("place", "side", "seed"), MAPS)
def test_path_coordinates_round_trip_in_turns(place, side, seed):
    for *_, path in routes(place, side, seed):
        s = np.linspace(1, path.length_m - 1, 300)
        back, aside = path.project(path.at(s)[:, :2])
        np.testing.assert_allclose(back, s, atol=0.02)
        assert np.abs(aside).max() < 0.03


@pytest.mark.parametrize(("place", "side", "seed"), MAPS)
def test_a_route_turns_the_way_its_command_says(place, side, seed):
    for road_map, turn, k, _, _, path in routes(place, side, seed):
        a, sa, _, _ = road_map.crossings[k]
        near = np.hypot(*(path.points - road_map.roads[a].at(sa)[:2]).T) < 35
        change = wrap_angle(path.yaw[near][-1] - path.yaw[near][0])
        expected = {"left": np.pi / 2, "right": -np.pi / 2, "straight": 0.0}[turn]
        assert abs(wrap_angle(change - expected)) < 0.6


@pytest.mark.parametrize(("place", "side", "seed"), MAPS)
def test_a_route_stays_on_its_side_and_off_the_kerb(place, side, seed):
    for road_map, _, _, road, direction, path in routes(place, side, seed):
        inside = path.points[5:-5]
        # the lane is on the right in right-hand traffic, before the turn and after it
        _, d = Path(road_map.roads[road].points).project(inside[:20])
        assert (np.sign(d) == -side * direction).all()
        assert road_map.distance_to_kerb(inside).max() < 1.0  # corners are rounded by more than that
        assert np.abs(path.curvature).max() < 0.2  # a car can steer it
        assert np.abs(np.diff(path.s) - 1).max() < 0.1


def test_turns_across_the_oncoming_lanes_keep_to_the_middle_lane():
    for side, across in ((1, "left"), (-1, "right")):
        road_map = crossing_map("urban", side, 0)
        assert road_map.across(across) and not road_map.across({"left": "right", "right": "left"}[across])
        assert road_map.turn(0, 0, 1, 0, across)[2] == 0


def test_curve_speed_brakes_gently_ahead_of_a_bend():
    angle = np.linspace(0, np.pi / 2, 13)
    bend = np.stack([8 * np.sin(angle), 8 * (1 - np.cos(angle))], -1)
    straight = np.stack([np.arange(-80.0, 0), np.zeros(80)], -1)
    path = Path(np.concatenate([straight, bend]))
    v = path.curve_speed_mps
    assert v[0] > 12 and v[85] < 5
    braking = -np.diff(v**2) / (2 * np.diff(path.s))
    assert braking.max() < 1.31


@pytest.mark.parametrize("place", PLACES)
def test_everything_lies_on_the_map(place):
    for seed in range(5):
        road_map = generate_map(np.random.default_rng(seed), place)
        points = np.concatenate([r.points for r in road_map.roads])
        room = 59.0  # for what stands beside the road
        assert points.min() > room and (points.max(0) < np.array(road_map.size_m) - room).all()
