"""Boxes overlap as a geometry library says, and a collision is reported where, when and as hard as it happens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shapely.geometry import Polygon

from wamlab.geometry import rotate
from wamlab.world.collision import (
    EGO_HALF_M,
    Collision,
    CollisionChecker,
    corners,
    ego_box,
    overlap,
    relative_speed_mps,
)
from wamlab.world.driver import REAR_AXLE_TO_CENTRE_M, EgoState
from wamlab.world.population import Population
from wamlab.world.road import Path
from wamlab.world.simulation import STEP_S, SceneSpec, State, World, make_world

PLACE = np.array([200.0, 150.0])


@pytest.fixture(scope="module")
def empty() -> World:
    """A world without scenery."""
    world = make_world(SceneSpec(3, density=0.05))
    shapes = world.scenery.shapes
    return replace(world, scenery=replace(world.scenery, shapes=shapes[np.zeros(0, int)]))


def staged(world: World, heading: float, way_m: float, speed: float, ego: EgoState, kind: str = "sedan") -> World:
    """One other, which comes along a straight line through the middle of the ego car, `way_m` before it."""
    middle, along = ego_box(ego.pose)[:2], np.array([np.cos(heading), np.sin(heading)])
    line = Path(middle + np.arange(-60.0, 60.0)[:, None] * along)

    people = Population(world.map, world.route, PLACE[None], np.random.default_rng(0))
    people.go(kind, line, 60.0 - way_m, speed)
    agents, others = people.finish()
    return replace(world, agents=agents, start=State(0.0, ego, others))


def drive(world: World, steps: int) -> list[Collision]:
    """Nobody steers: all that the ego car touches."""
    check, state, out = CollisionChecker(world), world.start, []
    for _ in range(steps):
        after = world.step(state, 0.0, 0.0)
        out += check(state, after)
        state = after
    return out


def test_boxes_overlap_as_polygons_do():
    rng = np.random.default_rng(0)
    n = 1500
    a, b = (np.column_stack([rng.uniform(-4, 4, (n, 2)), rng.uniform(-7, 7, n)]) for _ in range(2))
    half_a, half_b = rng.uniform(0.2, 3, (n, 2)), rng.uniform(0.2, 3, (n, 2))
    areas = [
        Polygon(p).intersection(Polygon(q)).area for p, q in zip(corners(a, half_a), corners(b, half_b), strict=True)
    ]
    expected = np.array(areas) > 1e-9
    assert 0.2 < expected.mean() < 0.8
    np.testing.assert_array_equal(overlap(a, half_a, b, half_b), expected)
    np.testing.assert_array_equal(
        overlap(a[0], half_a[0], b, half_b), [overlap(a[0], half_a[0], *r) for r in zip(b, half_b, strict=True)]
    )


def test_a_cross_overlaps_though_no_corner_lies_inside():
    long = np.array([4.0, 0.3])
    assert overlap(np.zeros(3), long, np.array([0, 0, np.pi / 2]), long)
    assert not overlap(np.zeros(3), long, np.array([0, 0.6, 0]), long), "boxes that touch do not overlap"
    assert overlap(np.zeros(3), long, np.array([0, 0.599, 0]), long)


def test_corners_are_those_of_the_box():
    pose, half = np.array([3.0, -2.0, 0.7]), np.array([2.0, 1.0])
    points = corners(pose, half)
    np.testing.assert_allclose(points.mean(0), pose[:2])
    np.testing.assert_allclose(rotate(points[0] - pose[:2], -0.7), half)
    assert Polygon(points).exterior.is_ccw and Polygon(points).area == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("heading", "side"), [(0.0, "rear"), (np.pi, "front"), (np.pi / 2, "right"), (-np.pi / 2, "left")]
)
def test_somebody_drives_into_the_standing_car(empty, heading, side):
    """When and where, against the closed form for boxes at right angles."""
    yaw, speed, way = 0.4, 7.0, 12.3
    ego = EgoState(*PLACE, yaw, 0.0)
    world = staged(empty, yaw + heading, way, speed, ego)
    first, *rest = drive(world, 24)
    assert not rest, "what the car touches already is not touched again"
    across = abs(np.sin(heading)) > 0.5
    reach = EGO_HALF_M[1 if across else 0]
    assert first.time_s == pytest.approx((way - world.agents.size_m[0, 0] / 2 - reach) / speed, abs=2e-3)
    assert first.side == side and first.agent == 0 and first.kind == "sedan"
    assert first.impact_mps == pytest.approx(speed) and first.ego_mps == 0
    direction = np.array([np.cos(yaw + heading), np.sin(yaw + heading)])
    expected = ego_box(ego.pose)[:2] - reach * direction
    np.testing.assert_allclose(first.point_m, expected, atol=0.03)


@pytest.mark.parametrize("kind", ["bus", "cyclist", "pedestrian"])
def test_everybody_counts(empty, kind):
    ego = EgoState(*PLACE, 1.0, 6.0)
    world = staged(empty, 1.0, -15.0, 2.0, ego, kind)  # ahead, slower
    (hit,) = drive(world, 40)
    assert (hit.kind, hit.side) == (kind, "front")
    assert hit.impact_mps == pytest.approx(4.0) and hit.ego_mps == 6.0


def test_impact_speed_is_that_of_the_difference_of_velocities():
    a, b = np.array([5.0, 1.0, 0.3]), np.array([9.0, -1.0, 2.4])
    expected = np.sqrt(10.0**2 + 6.0**2 - 2 * 10 * 6 * np.cos(2.1))
    assert relative_speed_mps(a, 10.0, b, 6.0) == pytest.approx(expected)


def test_houses_poles_and_trees_are_hit_as_well():
    world = make_world(SceneSpec(3, "urban", density=0.05))
    check = CollisionChecker(world)
    fixed = check.fixed_pose[:, :2]
    kinds = np.array(check.kinds[len(world.agents) :])
    assert set(kinds) == {"building", "pole", "tree"}
    assert (check.half_m > 0).all()
    for kind in ("building", "pole", "tree"):
        for xy in fixed[kinds == kind][:5]:
            ego = EgoState(float(xy[0] - REAR_AXLE_TO_CENTRE_M), float(xy[1]), 0.0, 3.0)
            state = replace(world.start, ego=ego)
            hits = [c for c in check(state, state) if c.agent is None]
            assert kind in {c.kind for c in hits} and all(c.impact_mps == 3.0 for c in hits)


def test_no_collision_without_contact(empty):
    ego = EgoState(*PLACE, 0.0, 8.0)
    world = staged(empty, 0.0, -30.0, 8.0, ego)  # ahead, as fast
    assert drive(world, round(3 / STEP_S)) == []
