"""An episode obeys its actions, follows plans, ends when it should, and its outcome is what happened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wamlab.errors import EpisodeEnded, InvalidAction, InvalidParameter
from wamlab.geometry import to_ego_frame
from wamlab.world.camera import Camera
from wamlab.world.driver import FRONT_M, EgoState, step_bicycle
from wamlab.world.episode import Episode, Observation, run
from wamlab.world.junction import AMBER_S, GREEN_S, passages
from wamlab.world.outcome import judge
from wamlab.world.render import Renderer
from wamlab.world.road import Path
from wamlab.world.scripted import constant_speed
from wamlab.world.simulation import KEYFRAME_STEPS, STEP_S, SceneSpec, State, World, make_world
from wamlab.world.tracking import Tracker

CAMERA = Camera(width=64, height=36, focal_px=40)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SceneSpec(3, "urban", turn="left", density=0.3))


@pytest.fixture(scope="module")
def lone() -> World:
    """Straight on in one lane, past a signal, with hardly anybody there."""
    for seed in range(20):
        world = make_world(SceneSpec(seed, "suburban", density=0.05))
        d = Path(world.map.roads[0].points).project(world.route.points)[1]
        if np.ptp(d) < 0.2 and any(40 < p.stop_m < 250 for p in passages(world.map, world.route)):
            return world
    raise AssertionError("no such world")


def same(a: list[State], b: list[State]) -> bool:
    return len(a) == len(b) and all(
        p.ego == q.ego and np.array_equal(p.agents.s_m, q.agents.s_m) for p, q in zip(a, b, strict=True)
    )


def along(world: World, s: np.ndarray, speed: float, aside: float = 0.0, turn: float = 0.0) -> list[State]:
    """A log of the car at places `s` of its route, `aside` to the left, turned by `turn`, at a speed."""
    pose = world.route.at(s)
    x, y = pose[:, 0] - aside * np.sin(pose[:, 2]), pose[:, 1] + aside * np.cos(pose[:, 2])
    rows = zip(x.tolist(), y.tolist(), (pose[:, 2] + turn).tolist(), strict=True)
    return [State(k * STEP_S, EgoState(*row, speed), world.start.agents) for k, row in enumerate(rows)]


def behind_crossings(world: World) -> float:
    return max(p.s[-1] for p in passages(world.map, world.route)) + 12


def test_an_action_is_held_for_a_period(world):
    episode = Episode(world, observe=False)
    seen = episode.reset()
    assert seen.frames is None and seen.time_s == 0 and seen.speed_mps == world.start.ego.speed_mps
    seen = episode.step([0.3, -0.5])
    ego = world.start.ego
    for _ in range(KEYFRAME_STEPS):
        ego = step_bicycle(ego, 0.3, -0.5, STEP_S)
    assert episode.log[-1].ego == ego and len(episode.log) == 1 + KEYFRAME_STEPS
    assert seen.time_s == pytest.approx(0.5) and tuple(seen.pose) == ego.pose
    finer = Episode(world, observe=False, control_steps=1)
    for _ in range(KEYFRAME_STEPS):
        finer.step([0.3, -0.5])
    assert same(finer.log, episode.log)


@pytest.mark.parametrize("reactive", [True, False])
def test_the_log_is_a_replay(world, reactive):
    """Deterministic, and the same as what `World.replay` says of the same actions."""
    actions = np.random.default_rng(0).uniform([-0.2, -1.5], [0.2, 1.0], (6, 2))
    logs = []
    episode = Episode(world, observe=False, reactive=reactive, end_at_collision=False)
    for _ in range(2):
        episode.reset()
        for action in actions:
            episode.step(action)
        logs.append(episode.log)
    assert same(*logs)
    steps = np.repeat(actions, KEYFRAME_STEPS, axis=0)
    assert same(
        world.replay(world.simulate(), 0, steps, reactive, every_step=True), logs[0][KEYFRAME_STEPS::KEYFRAME_STEPS]
    )


def test_a_feasible_plan_is_followed():
    """The true future of driven cars, turns and unsteady hands included: < 0.2 m off after 0.5 s, < 0.5 m after 3 s."""
    after_half, after_three, moved = [], [], []
    for seed, place, turn, explore in (
        (1, "urban", "left", False),
        (2, "suburban", "right", True),
        (3, "rural", "straight", True),
    ):
        log = make_world(SceneSpec(seed, place, turn=turn, explore=explore, density=0.3)).simulate()
        pose = np.array([s.ego.pose for s in log])
        for k in range(0, len(log) - 36, 9):
            ego, tracker = (
                log[k].ego,
                Tracker(to_ego_frame(pose[k + 6 : k + 37 : 6, :2], pose[k]), log[k].ego, k * STEP_S),
            )
            for i in range(36):
                ego = step_bicycle(ego, *tracker(ego, (k + i) * STEP_S, STEP_S), STEP_S)
                if i == 5:
                    after_half.append(np.hypot(*(pose[k + 6, :2] - ego.pose[:2])))
            after_three.append(np.hypot(*(pose[k + 36, :2] - ego.pose[:2])))
            moved.append(np.hypot(*(pose[k + 36, :2] - pose[k, :2])))
    assert max(moved) > 20 and np.mean(np.array(moved) > 5) > 0.5
    assert max(after_half) < 0.2 and max(after_three) < 0.5


@pytest.mark.parametrize("speed", [0.0, 8.0])
def test_a_plan_to_stand_brings_the_car_to_rest(speed):
    ego = EgoState(50.0, 60.0, 1.0, speed)
    tracker = Tracker(np.tile([speed / 2, 0.0], (6, 1)), ego, 0.0)
    for k in range(36):
        ego = step_bicycle(ego, *tracker(ego, k * STEP_S, STEP_S), STEP_S)
    assert ego.speed_mps < 0.2 and abs(ego.yaw_rad - 1.0) < 1e-6


def test_replanning_keeps_the_lane(lone):
    episode = Episode(lone, observe=False, max_duration_s=10, reactive=False, end_at_collision=False)
    outcome = run(episode, constant_speed(lone))
    assert outcome.max_deviation_m < 0.3 and outcome.deviation_m < 0.1
    way = lone.start.ego.speed_mps * 10
    assert outcome.progress_m == pytest.approx(way, abs=0.5)
    start = float(lone.route.project(np.array(lone.start.ego.pose[:2]))[0])
    assert outcome.progress == pytest.approx(way / (lone.route.length_m - 8 - start), abs=0.01)


def test_what_is_seen(world):
    episode = Episode(world, CAMERA)
    first = episode.reset()
    seen = episode.step([0.0, 0.0])
    drawn = Renderer(world, CAMERA)([episode.log[-1]])
    assert seen.rgb.shape == (3, 36, 64) and seen.rgb.dtype == torch.uint8
    for name in ("rgb", "semantic", "depth_m", "instance"):
        assert torch.equal(getattr(seen.frames, name), getattr(drawn, name))
    assert not torch.equal(seen.rgb, first.rgb)
    assert seen.state is episode.log[-1]
    with pytest.raises(InvalidParameter, match="observe=True"):
        _ = Episode(world, observe=False).reset().rgb


@pytest.mark.parametrize("turn", ["left", "right", "straight"])
def test_the_command_says_where_the_route_goes(turn):
    world = make_world(SceneSpec(40, "urban", turn=turn, density=0.05))
    crossing = [p for p in passages(world.map, world.route) if p.turn] or list(passages(world.map, world.route))
    middle = min(crossing, key=lambda p: p.stop_m)

    def observe(s: float) -> Observation:
        return Episode(replace(world, start=along(world, np.array([s]), 5.0)[0]), observe=False).reset()

    for s in (middle.stop_m - 10, middle.stop_m + 4):
        seen = observe(s)
        assert seen.command == turn
        np.testing.assert_allclose(seen.route_m[0], [2, 0], atol=0.25)
        assert np.hypot(*np.diff(seen.route_m, axis=0).T) == pytest.approx(2.0, abs=0.1)
    assert observe(middle.s[-1] + 5).command == "straight"
    last = observe(middle.stop_m + 4).route_m[-1]
    assert {"left": last[1] > 20, "right": last[1] < -20, "straight": abs(last[1]) < 15}[turn]


def test_neat_drivers_are_judged_blameless():
    for spec in (
        SceneSpec(1, "urban", turn="right"),
        SceneSpec(0, "rural", turn="left", side=-1),
        SceneSpec(2, "suburban", turn="left"),
    ):
        world = make_world(replace(spec, density=0.3, duration_s=14.0))
        outcome = judge(world, world.simulate(), world.route.length_m)
        assert outcome.off_road_s == outcome.off_road_m == outcome.wrong_side_s == outcome.signals_run == 0
        assert outcome.max_deviation_m < 0.5 and outcome.max_lateral_mps2 < 5


def test_leaving_the_road_is_measured(lone):
    """The car's side is 0.925 m from its middle: where its middle is this near to the kerb, less the margin of 0.3 m, it is off."""
    s = behind_crossings(lone) + np.arange(49) * 0.5  # 6 m/s for 4 s
    half = lone.map.roads[0].half_width_m
    lane = abs(Path(lone.map.roads[0].points).project(lone.route.at(s[0])[:2])[1])  # from the centreline to the route
    for beyond, off in ((0.1, False), (0.6, True)):
        aside = -lone.map.side * float(half - lane - 0.925 + beyond)
        log = along(lone, s, 6.0, aside)
        way = np.hypot(*np.diff([state.ego.pose[:2] for state in log], axis=0).T).sum()
        outcome = judge(lone, log, 300)
        assert (outcome.off_road_s, outcome.off_road_m) == ((pytest.approx(4.0), pytest.approx(way)) if off else (0, 0))


def test_the_wrong_side_is_the_oncoming_one(lone):
    s = behind_crossings(lone) + np.arange(13) * 0.5
    over = lone.map.side * lone.map.roads[0].lane_m * lone.map.roads[0].lanes
    assert judge(lone, along(lone, s, 6.0), 400).wrong_side_s == 0
    assert judge(lone, along(lone, s, 6.0, over), 400).wrong_side_s == pytest.approx(1.0)
    assert judge(lone, along(lone, s[::-1], 6.0, over, np.pi), 400).wrong_side_s == 0, "there it is the right one"


def test_a_red_light_is_counted_once(lone):
    first = min(passages(lone.map, lone.route), key=lambda p: p.stop_m)
    s = first.stop_m - FRONT_M - 3 + np.arange(13) * 0.5
    for phase, runs in ((1.0, 0), (GREEN_S + 1, 0), (GREEN_S + AMBER_S + 2, 1)):
        offsets = lone.signal_offsets.copy()
        offsets[first.crossing] = phase - first.group * 12
        assert judge(replace(lone, signal_offsets=offsets), along(lone, s, 6.0), 400).signals_run == runs


def test_comfort_is_what_the_actions_ask_for(lone):
    episode = Episode(lone, observe=False)
    episode.step([0.0, -3.0])
    episode.step([0.5, 1.0])
    outcome = episode.outcome
    assert outcome.ended is None and outcome.max_accel_mps2 == 3.0
    assert outcome.max_jerk_mps3 == pytest.approx(8.0)
    ego = episode.log[-1].ego
    assert outcome.max_lateral_mps2 == pytest.approx(ego.speed_mps**2 * np.tan(0.5 / 15) / 2.588)


def test_episodes_end(lone, world):
    short = Episode(lone, observe=False, max_duration_s=0.7)
    short.step([0.0, 0.0])
    assert short.ended is None
    short.step([0.0, 0.0])
    assert short.ended == "time" and len(short.log) == 1 + round(0.7 / STEP_S)
    with pytest.raises(EpisodeEnded, match="time"):
        short.step([0.0, 0.0])
    short.reset()
    assert short.ended is None and len(short.log) == 1
    start = float(lone.route.project(np.array(lone.start.ego.pose[:2]))[0])
    near = Episode(lone, observe=False, goal_m=start + 10)
    outcome = run(near, constant_speed(lone))
    assert outcome.ended == "goal" and outcome.progress == 1.0 and outcome.progress_m == pytest.approx(10, abs=1.2)
    where = world.agents.pose(world.start.agents)
    i = int(np.flatnonzero(world.agents.drives & np.isfinite(world.start.agents.s_m))[0])
    x, y, yaw = where[i]
    inside = replace(world, start=replace(world.start, ego=EgoState(x - np.cos(yaw), y - np.sin(yaw), yaw, 5.0)))
    for end, ended in ((True, "collision"), (False, None)):
        episode = Episode(inside, observe=False, end_at_collision=end)
        assert episode.ended == ended and i in [c.agent for c in episode.collisions]


def test_what_no_car_can_do_is_refused(lone):
    episode = Episode(lone, observe=False)
    for action, words in (
        ([0.0, np.nan], "finite, not steering 0.0"), ([8.1, 0.0], "8.1"), ([0.0, -12.5], "-12.5"), ([0.0], r"\(1,\)"),
        (np.zeros((6, 3)), r"\(6, 3\)"), (np.zeros((0, 2)), r"\(0, 2\)"), (np.zeros((2, 6, 2)), r"\(2, 6, 2\)"),
        ([[1.0, 0.0], [2.0, np.inf]], "waypoint 1"),
    ):  # fmt: skip
        with pytest.raises(InvalidAction, match=words):
            episode.step(action)
    assert len(episode.log) == 1, "what is refused moves nobody"
    with pytest.raises(InvalidAction, match="ends after 0.5 s"):
        Episode(lone, observe=False, control_steps=12).step(np.array([[4.0, 0.0]]))
    for wrong in (
        {"control_steps": 0},
        {"max_duration_s": 0.0},
        {"max_duration_s": np.nan},
        {"goal_m": 0.0},
        {"goal_m": 1e4},
        {"goal_m": np.nan},
    ):
        with pytest.raises(InvalidParameter, match=next(iter(wrong))):
            Episode(lone, observe=False, **wrong)
