"""The table of all lines agrees with the paths that it was made of, knows the lanes, and what crosses what."""

from __future__ import annotations

import numpy as np
import pytest

from wamlab.world.following import Boxes, covered, idm
from wamlab.world.junction import passages
from wamlab.world.population import Population
from wamlab.world.road import RoadMap, generate_map
from wamlab.world.tracks import Tracks

CASES = [("urban", 1, 3), ("suburban", -1, 2), ("rural", 1, 2)]


def crossing_map(place: str, side: int, lanes: int, seed: int) -> RoadMap:
    rng = np.random.default_rng(seed)
    while not (road_map := generate_map(rng, place, side, lanes=lanes)).crossings:
        pass
    return road_map


@pytest.fixture(scope="module", params=CASES, ids=str)
def town(request) -> tuple[Population, Tracks]:
    road_map = crossing_map(*request.param, seed=4)
    route = road_map.route(0, 1, 0, 40.0, {})
    people = Population(road_map, route, route.points, np.random.default_rng(0), 100.0)
    for turn in ("left", "right"):
        lane = 0 if road_map.across(turn) else road_map.roads[0].lanes - 1
        people.path(road_map.route(0, 1, lane, -100.0, {0: turn}), 100.0)
    return people, people.finish()[0].tracks


def test_the_table_gives_what_the_path_gives(town):
    people, tracks = town
    for (road, direction, lane), n in people.lanes.items():
        path = people.map.route(road, direction, lane, people.begin_s(road, direction), {})
        s = np.linspace(0, tracks.length_m[n], 97)
        np.testing.assert_allclose(tracks.at(s, np.full(97, n))[:, :3], path.at(s), atol=0.01)
        start = people.map.lane_path(road, direction, lane).points[0]
        np.testing.assert_allclose(tracks.at(tracks.enter_m[[n]], np.array([n]))[0, :2], start, atol=0.6)


def test_a_turn_belongs_to_the_lanes_before_and_after_it(town):
    people, tracks = town
    for n in range(len(people.lanes), len(people.tracks)):
        rows = slice(tracks.first[n], tracks.first[n] + len(people.tracks[n].table))
        lane, road_m, table = tracks.lane[rows], tracks.road_m[rows], tracks.table[rows]
        first, last = lane[0], lane[-3]
        assert {first, last, -1} == set(lane.tolist()) and first != last
        for k in np.flatnonzero(lane >= 0)[::7]:
            whole = slice(tracks.first[lane[k]], tracks.first[lane[k]] + len(people.tracks[lane[k]].table))
            beside = np.abs(tracks.road_m[whole] - road_m[k]).argmin()
            assert np.hypot(*(tracks.table[whole][beside, :2] - table[k, :2])) < 1.6
        assert np.ptp(table[lane < 0, 2]) > 1.0  # the bend itself is in no lane


def test_lanes_lie_beside_each_other(town):
    people, tracks = town
    lane_m = people.map.roads[0].lane_m
    for n in people.lanes.values():
        for side, other in zip((1, -1), tracks.beside[n], strict=True):
            for s in (30.0, 150.0, 290.0) if other >= 0 else ():
                there, aside = tracks.abreast(s, n, int(other))
                a, b = tracks.at(np.array([s, there]), np.array([n, other]))
                assert aside == pytest.approx(-side * lane_m, abs=0.05)
                assert np.hypot(*(a - b)[:2]) == pytest.approx(lane_m, abs=0.05)
                assert abs((b[0] - a[0]) * np.cos(a[2]) + (b[1] - a[1]) * np.sin(a[2])) < 0.15
    assert (tracks.beside >= 0).any()


@pytest.mark.parametrize("seed", range(8))
def test_who_goes_straight_on_a_road_that_bends_does_not_turn(seed):
    road_map = crossing_map("suburban", 1, 1, seed)
    for direction in (1, -1):
        start = 0.0 if direction > 0 else road_map.roads[0].length_m
        assert {p.turn for p in passages(road_map, road_map.route(0, direction, 0, start, {}))} == {0}
        for turn, sign in (("left", 1), ("right", -1)):
            path = road_map.route(0, direction, 0, start, {0: turn})
            assert sign in {p.turn for p in passages(road_map, path)}


def test_a_bend_ahead_is_braked_for_on_a_free_road():
    accel = idm(*(np.array([v]) for v in (11.0, 4.0, np.inf, 0.0)))
    assert accel[0] == pytest.approx(-2.5)


def test_what_a_box_covers_in_a_while():
    boxes = Boxes(np.array([[0.0, 0.0, np.pi / 2]]), np.array([[2.0, 1.0]]), np.array([5.0]))
    points = np.array([[0.0, 2.4], [0.0, 11.9], [0.0, 12.6], [1.6, 5.0], [0.0, -2.6]])
    np.testing.assert_array_equal(covered(points, 0.5, boxes), [True, False, False, False, False])
    np.testing.assert_array_equal(covered(points, 0.5, boxes.stretched(2.0)), [True, True, False, False, False])
