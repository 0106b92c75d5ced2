"""Each phrase on a drive of which it is true and on one of which it is not. The drives are laid out by hand on generated maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wamlab.geometry import steering_to_curvature
from wamlab.world.annotation import annotate
from wamlab.world.description import changes_lane, describe
from wamlab.world.driver import REAR_AXLE_TO_CENTRE_M, EgoState
from wamlab.world.junction import CYCLE_S, Passage, passages
from wamlab.world.recording import AgentTrack
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, SceneSpec, State, World, make_world

STEPS = 120
TIMES = np.arange(STEPS) * STEP_S


def drive(world: World, s: np.ndarray, aside: float | np.ndarray = 0.0, accel_mps2: float = 0.0) -> list[State]:
    """A log of a car at these metres (T,) along the route, so far to its left."""
    x, y, yaw = world.route.at(s).T
    speed = np.gradient(s, STEP_S)
    rows = zip(x - aside * np.sin(yaw), y + aside * np.cos(yaw), yaw, speed, strict=True)
    egos = [EgoState(*map(float, row), accel_mps2=accel_mps2) for row in rows]
    return [State(k * STEP_S, ego, world.start.agents) for k, ego in enumerate(egos)]


def track(
    world: World,
    s: np.ndarray | float,
    aside: float = 0.0,
    category: str = "vehicle.car",
    attribute: str = "vehicle.moving",
) -> AgentTrack:
    """Somebody at these metres along the car's route over the same time, well seen."""
    s = np.broadcast_to(np.asarray(s, float), STEPS)[::KEYFRAME_STEPS]
    pose = world.route.at(s)
    pose[:, :2] += aside * np.stack([-np.sin(pose[:, 2]), np.cos(pose[:, 2])], -1)
    speed = np.gradient(s, KEYFRAME_STEPS * STEP_S)
    velocity = speed[:, None] * np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], -1)
    n = len(s)
    return AgentTrack(category, (1.9, 4.5, 1.6), pose, np.full(n, 0.8), velocity, (attribute,) * n, np.full(n, 4))


def words(world: World, log: list[State], *tracks: AgentTrack) -> set[str]:
    return set(describe(world, log, tracks).lower().split(", "))


def crossing(turn: str = "straight", place: str = "urban", side: int = 1) -> tuple[World, Passage]:
    """A world whose route passes a crossing with this turn, and how."""
    for seed in range(100):
        world = make_world(SceneSpec(seed, place, turn=turn, side=side))
        wanted = {"left": 1, "right": -1, "straight": 0}[turn]
        for passage in passages(world.map, world.route):
            if passage.turn == wanted and passage.stop_m > 40:
                return world, passage
    raise AssertionError("no crossing in a hundred worlds")


@pytest.fixture(scope="module")
def town() -> tuple[World, Passage]:
    return crossing()


@pytest.fixture(scope="module")
def country() -> World:
    return make_world(SceneSpec(2, "rural"))


@pytest.fixture(scope="module")
def cruise(country: World) -> list[State]:
    return drive(country, 10 + 8 * TIMES)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SceneSpec(1, "rural", "night", "rain"), {"night", "rain", "rural"}),
        (SceneSpec(1, "rural", "dusk", "fog", side=-1), {"dusk", "fog", "rural", "left-hand traffic"}),
        (SceneSpec(1, "suburban", "day", "overcast"), {"overcast", "suburban"}),
        (SceneSpec(1, "urban"), {"urban"}),
    ],
)
def test_looks_and_places(spec, said):
    world = make_world(spec)
    got = words(world, drive(world, np.linspace(0, 5, STEPS)))
    vocabulary = {
        "night",
        "dusk",
        "day",
        "rain",
        "fog",
        "overcast",
        "clear",
        "urban",
        "suburban",
        "rural",
        "left-hand traffic",
    }
    assert got & vocabulary == said


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("turn", ["left", "right"])
def test_turns(turn, side):
    world, passage = crossing(turn, side=side)
    through = np.linspace(passage.stop_m - 30, passage.s[-1] + 5, STEPS)
    assert f"turn {turn}" in words(world, drive(world, through))
    before = np.linspace(passage.stop_m - 35, passage.stop_m - 1, STEPS)
    assert not {"turn left", "turn right", "intersection"} & words(world, drive(world, before)), (
        "it did not come to that"
    )


def test_intersections(town):
    world, passage = town
    over = words(world, drive(world, np.linspace(passage.stop_m - 30, passage.s[-1] + 5, STEPS)))
    assert "intersection" in over and not {"turn left", "turn right"} & over
    assert "intersection" not in words(world, drive(world, np.linspace(passage.stop_m - 35, passage.stop_m - 1, STEPS)))


def test_waits_at_red_light_only_if_it_is_red(town):
    world, passage = town
    stop = passage.stop_m - 3 - 15 * np.exp(-2 * TIMES)
    for turned_green_s, said in ((-15.0, "wait at red light"), (-0.5, "wait at intersection")):
        offsets = np.full_like(world.signal_offsets, -turned_green_s - passage.group * CYCLE_S / 2)
        if said == "wait at intersection":
            stop = stop[: round(6 / STEP_S)]  # while it is green
        got = words(replace(world, signal_offsets=offsets), drive(world, stop))
        assert got & {"wait at red light", "wait at intersection"} == {said}
    rolling = words(world, drive(world, np.linspace(passage.stop_m - 40, passage.stop_m - 5, STEPS)))
    assert not {"wait at red light", "wait at intersection"} & rolling


def test_lane_changes(town):
    """On a road with two lanes each way: from one lane's middle to the other's; but not within a lane, and not a turn."""
    seeds = (make_world(SceneSpec(seed, "urban")) for seed in range(50))
    world = next(w for w in seeds if w.map.roads[0].lanes > 1)
    road, s = world.map.roads[0], np.linspace(20, 80, STEPS)
    first, second = (world.map.lane_offset(0, 1, lane) for lane in (0, 1))
    share = 1 / (1 + np.exp(-(s - 50) / 3))
    assert changes_lane(world, road.at(s, first + share * (second - first)))
    assert not changes_lane(world, road.at(s, first + 0.25 * share * (second - first)))
    assert not changes_lane(world, road.at(s, first))
    turning, passage = crossing("left")
    through = turning.route.at(np.linspace(passage.stop_m - 30, passage.s[-1] + 5, STEPS))
    assert not changes_lane(turning, through)


def test_handling(country):
    s = 10 + 8 * TIMES
    neat = words(country, drive(country, s))
    assert not {"brake hard", "unsteady driving"} & neat
    assert "brake hard" in words(country, drive(country, s, accel_mps2=-4.5))
    assert "unsteady driving" in words(country, drive(country, s, 0.4 * np.sin(TIMES)))


def test_follows(country, cruise):
    s = 10 + 8 * TIMES
    assert "follow bus" in words(country, cruise, track(country, s + 20, category="vehicle.bus.rigid"))
    assert "follow bus" not in words(country, cruise, track(country, s + 20, 3.5, "vehicle.bus.rigid")), "another lane"
    assert "follow bus" not in words(country, cruise, track(country, s + 45, category="vehicle.bus.rigid")), "too far"
    assert "follow car" not in words(country, cruise, track(country, np.full(STEPS, 60.0))), "it stands"
    both = words(country, cruise, track(country, s + 30, category="vehicle.truck"), track(country, s + 15))
    assert "follow car" in both and "follow truck" not in both, "the nearest is followed"


def test_overtakes_and_is_overtaken(country, cruise):
    s = 10 + 8 * TIMES + REAR_AXLE_TO_CENTRE_M
    slow, quick = s + 20 - 4 * TIMES, s - 20 + 4 * TIMES
    assert "overtake cyclist" in words(
        country, cruise, track(country, slow, -1.6, "vehicle.bicycle", "cycle.with_rider")
    )
    assert "overtaken by truck" in words(country, cruise, track(country, quick, 3.5, "vehicle.truck"))
    for never in (
        track(country, s + 20),
        track(country, 50.0, -3, attribute="vehicle.parked"),
        track(country, slow, -9),
    ):
        assert not any(word.startswith("overtake") for word in words(country, cruise, never))


def test_counts_what_is_seen(country, cruise):
    def parked(n: int) -> list[AgentTrack]:
        return [track(country, 20.0 + 7 * k, -4, attribute="vehicle.parked") for k in range(n)]

    assert "many parked cars" in words(country, cruise, *parked(6)) and "parked cars" in words(
        country, cruise, *parked(2)
    )
    assert not any("parked" in word for word in words(country, cruise, *parked(1)))
    hidden = [replace(t, visibility=np.ones_like(t.visibility)) for t in parked(6)]
    assert not any("parked" in word for word in words(country, cruise, *hidden))
    oncoming = [track(country, 150.0 + 12 * k - 8 * TIMES, 3.5, "vehicle.truck") for k in range(13)]
    oncoming = [replace(t, pose=t.pose + [0, 0, np.pi]) for t in oncoming]
    assert {"dense traffic", "truck"} <= words(country, cruise, *oncoming)
    assert "dense traffic" not in words(country, cruise, *oncoming[:5])
    assert "truck" not in words(country, cruise, track(country, 18 + 8 * TIMES, category="vehicle.truck")), (
        "it is followed"
    )


def test_pedestrians_cross_on_the_carriageway_only(town):
    world, _ = town
    log, road = drive(world, np.linspace(10, 30, STEPS)), world.map.roads[0]
    n = len(TIMES[::KEYFRAME_STEPS])
    edge = road.half_width_m + 2

    def walk(d: np.ndarray, along: float) -> AgentTrack:
        pose = road.at(40 + along * np.arange(n), d)
        velocity = np.gradient(pose[:, :2], KEYFRAME_STEPS * STEP_S, axis=0)
        person = track(world, 40.0, category="human.pedestrian.adult", attribute="pedestrian.moving")
        return replace(person, pose=pose, velocity_mps=velocity)

    across, beside = walk(np.linspace(-edge, edge, n), 0.0), walk(np.full(n, edge), 0.6)
    assert "pedestrian crossing" in words(world, log, across)
    got = words(world, log, beside, beside)
    assert "pedestrians" in got and "pedestrian crossing" not in got
    assert "many pedestrians" in words(world, log, *[beside] * 6)


def test_a_drive_that_was_simulated_is_described_as_it_went():
    """Against the yaw gained while the steering is tighter than any road bends: more than a radian is a turn, less than half none."""
    turned = []
    for seed in range(3):
        world = make_world(SceneSpec(seed, "suburban", "dusk", "rain", turn="left"))
        log = world.simulate()
        key = log[::KEYFRAME_STEPS]
        text = describe(world, log, list(annotate(world, key, np.ones((len(key), len(world.agents))))))
        tight = steering_to_curvature([state.ego.steering_rad for state in log]) > 0.05
        turned.append(float(tight @ [state.ego.yaw_rate_radps for state in log]) * STEP_S)
        assert "turn left" in text if turned[-1] > 1.0 else "turn left" not in text or turned[-1] > 0.5, (text, turned)
        assert text.startswith("Rain, dusk, suburban")
    assert max(turned) > 1.0
