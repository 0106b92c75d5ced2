"""Depth, instances, classes and flow agree with geometry, to well below a pixel, for cameras in any pose."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wamlab.errors import InvalidShape
from wamlab.geometry import to_ego_frame, to_global_frame
from wamlab.world.camera import NUSCENES_CAMERAS, Camera
from wamlab.world.driver import EgoState
from wamlab.world.flow import optical_flow, warp
from wamlab.world.primitives import Semantic
from wamlab.world.render import Frames, Renderer
from wamlab.world.simulation import SceneSpec, State, make_world

FRONT, LEFT, _, BACK, *_ = NUSCENES_CAMERAS
CAMERAS = {
    "front": FRONT,
    "left": LEFT,
    "back": BACK,
    "pitched": replace(FRONT, pitch_rad=0.3, yaw_rad=-0.4),
    "rolled": replace(FRONT, roll_rad=0.5, pitch_rad=-0.1),
}
SPECS = (SceneSpec(11, "urban", turn="left"), SceneSpec(12, "suburban", "dusk"), SceneSpec(14, "rural", side=-1))
MOMENTS = (60, 63, 96, 102)  # a quarter of a second, and half of one
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def drives():
    worlds = [make_world(replace(spec, duration_s=9.0)) for spec in SPECS]
    return [(world, world.simulate()) for world in worlds]


@pytest.fixture(scope="module", params=[(c, k) for c in CAMERAS for k in range(len(SPECS))], ids=str)
def case(request, drives):
    """world, camera, two states before and two after, and what they look like."""
    name, k = request.param
    (world, log), camera = drives[k], CAMERAS[name]
    states = [log[i] for i in MOMENTS]
    frames = Renderer(world, camera)(states)
    return world, camera, states[::2], states[1::2], frames[::2], frames[1::2]


def poses(world, state: State) -> np.ndarray:
    """(N, 3) of the agents."""
    return world.agents.pose(state.agents)


def pixels(camera: Camera) -> np.ndarray:
    """(H, W, 2) places of the pixels' middles."""
    return np.stack(np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5), -1)


def lift(camera: Camera, state: State, depth: np.ndarray) -> np.ndarray:
    """(H, W, 3) world points that the pixels see, float64; the sky as 1e7 m away, where half a second of driving is 1e-4 px."""
    position, rotation = (a[0] for a in camera.pose(np.array(state.ego.pose)))
    ray = np.concatenate([pixels(camera), np.ones((*depth.shape, 1))], -1) @ np.linalg.inv(camera.intrinsics).T
    return position + (ray * np.minimum(depth, 1e7)[..., None].astype(float)) @ rotation.T


def expected_flow(world, camera, before, after, depth, instance) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 2) flow and (H, W) depth afterwards, one agent at a time, through `geometry` and `Camera.project`."""
    points = lift(camera, before, depth)
    pose, moved = (poses(world, s) for s in (before, after))
    for n in np.unique(instance[instance > 0]) - 1:
        on = instance == n + 1
        points[on, :2] = to_global_frame(to_ego_frame(points[on, :2], pose[n]), moved[n])
    position, rotation = (a[0] for a in camera.pose(np.array(after.ego.pose)))
    place, z = camera.project(points, position, rotation)
    return place - pixels(camera), z


def test_flow_is_where_lifted_points_project(case):
    world, camera, before, after, seen, then = case
    flow = optical_flow(world, camera, before, after, seen, then)
    for k in range(len(before)):
        depth, instance = seen.depth_m[k].numpy(), seen.instance[k].numpy()
        expected, z = expected_flow(world, camera, before[k], after[k], depth, instance)
        got = flow.displacement_px[k].permute(1, 2, 0).numpy()
        ahead = z > 0.2
        assert np.isnan(got[~ahead & (np.abs(z - 0.2) > 1e-3)]).all() and ahead.mean() > 0.4
        ahead &= np.abs(expected).max(-1) < 1000
        assert np.abs(got - expected)[ahead].max() < 0.02


def test_forward_and_backward_flow_agree_where_visible(case):
    world, camera, before, after, seen, then = case
    there = optical_flow(world, camera, before, after, seen, then)
    back = optical_flow(world, camera, after, before, then, seen)
    returned = there.displacement_px + warp(back.displacement_px, there.displacement_px)
    error = returned.norm(dim=1)[there.visible]
    assert there.visible.float().mean() > 0.2
    assert error.median() < 0.01 and (error < 1).float().mean() > 0.998


def test_warping_by_flow_reproduces_what_was_seen(case):
    world, camera, before, after, seen, then = case
    flow = optical_flow(world, camera, before, after, seen, then)
    image, follower = seen.rgb.float(), then.rgb.float()
    slope = (image[..., :, 1:] - image[..., :, :-1]).abs().mean(1)
    textured = flow.visible & (torch.nn.functional.pad(slope, (0, 1)) > 8)
    warped = (warp(follower, flow.displacement_px) - image).abs().mean(1)[textured].mean()
    copied = (follower - image).abs().mean(1)[textured].mean()
    assert textured.sum() > 300 and warped < 0.6 * copied, (warped, copied)


def test_what_shows_an_agent_lies_on_its_box(case):
    world, camera, before, _, seen, _ = case
    for k, state in enumerate(before):
        instance = seen.instance[k].numpy()
        points = lift(camera, state, seen.depth_m[k].numpy())
        pose = poses(world, state)
        for n in np.unique(instance[instance > 0]) - 1:
            on = instance == n + 1
            length, width, height = world.agents.size_m[n]
            local = np.concatenate([to_ego_frame(points[on, :2], pose[n]), points[on, 2:]], -1)
            assert (np.abs(local[:, :2]) < np.array([length, width]) / 2 + 0.07).all()
            assert (local[:, 2] > -0.01).all() and (local[:, 2] < height + 0.07).all()
            corner = np.stack(np.meshgrid([-length / 2, length / 2], [-width / 2, width / 2], [0, height]), -1)
            corner = corner.reshape(-1, 3)
            corner[:, :2] = to_global_frame(corner[:, :2], pose[n])
            place, z = camera.project(corner, *(a[0] for a in camera.pose(np.array(state.ego.pose))))
            if (z > 0.2).all():
                assert (pixels(camera)[on] > place.min(0) - 1).all() and (pixels(camera)[on] < place.max(0) + 1).all()


KINDS = {
    "sedan": Semantic.CAR, "hatchback": Semantic.CAR, "suv": Semantic.CAR, "van": Semantic.CAR, "truck": Semantic.TRUCK,
    "bus": Semantic.BUS,
}  # fmt: skip


def look_up(camera: Camera, state: State, points: np.ndarray, reach_m: float) -> tuple[np.ndarray, ...]:
    """Points (n, 3) of the world that are in the image and near: which (m,), row, column, depth."""
    place, z = camera.project(points, *(a[0] for a in camera.pose(np.array(state.ego.pose))))
    inside = (place > 0).all(-1) & (place < (camera.width, camera.height)).all(-1) & (z > 1) & (z < reach_m)
    column, row = place[inside].astype(int).T
    return np.flatnonzero(inside), row, column, z[inside]


def test_the_middle_of_a_vehicle_shows_it_or_what_hides_it(drives):
    found = hidden = 0
    for world, log in drives:
        for camera in CAMERAS.values():
            frames = Renderer(world, camera)(log[::36])
            for k, state in enumerate(log[::36]):
                middle = np.column_stack([poses(world, state)[:, :2], world.agents.size_m[:, 2] * 0.4])
                for n, row, column, z in zip(*look_up(camera, state, middle, 60), strict=True):
                    if world.agents.kind[n] not in KINDS:
                        continue
                    assert frames.depth_m[k, row, column] < z
                    shown = frames.instance[k, row, column] == n + 1
                    assert not shown or frames.semantic[k, row, column] == KINDS[world.agents.kind[n]]
                    found, hidden = found + int(shown), hidden + int(not shown)
    assert found > 100 and found > hidden


def centre_lines(world) -> np.ndarray:
    """(n, 4) x, y, 0, heading along the double lines, away from crossings."""
    lines = [np.zeros((0, 4))]
    for road in world.map.roads:
        s = np.arange(0.0, road.length_m, 0.5)
        s = s[(np.abs(s[:, None] - road.crossings[:, 0]) - road.crossings[:, 1] > 7).all(1)]
        if road.centre == "double":
            lines += [np.insert(road.at(s, d), 2, 0, axis=1) for d in (-0.16, 0.16)]
    return np.concatenate(lines)


def test_signals_and_centre_lines_are_where_the_map_has_them(drives):
    seen = {Semantic.SIGNAL: 0, Semantic.MARKING: 0}
    for world, log in drives:
        renderer = Renderer(world)
        frames = renderer(log[::12])
        heads = np.array([(x, y, 3.6) for x, y, *_ in renderer.signals]).reshape(-1, 3)
        lines = centre_lines(world)
        for k, state in enumerate(log[::12]):
            along = np.abs(np.cos(lines[:, 3] - state.ego.yaw_rad)) > 0.9  # seen across, a line is thinner than a pixel
            for wanted, points, reach_m in ((Semantic.SIGNAL, heads, 50), (Semantic.MARKING, lines[along, :3], 8)):
                _, row, column, z = look_up(renderer.camera, state, points, reach_m)
                free = frames.depth_m[k].numpy()[row, column] > z - 0.35  # nothing stands before it
                within_a_pixel = cv2.dilate(np.uint8(frames.semantic[k].numpy() == wanted), np.ones((3, 3)))
                assert within_a_pixel[row, column][free].all()
                seen[wanted] += free.sum()
    assert min(seen.values()) > 15, seen


# Properties of the formula, on depths and motions that no drive has


def frames_of(depth: np.ndarray, instance: np.ndarray | None = None) -> Frames:
    depth = torch.as_tensor(depth, dtype=torch.float32)[None]
    instance = torch.zeros(depth.shape, dtype=torch.int32) if instance is None else torch.as_tensor(instance)[None]
    nothing = torch.zeros(depth.shape, dtype=torch.uint8)
    return Frames(nothing[:, None].expand(-1, 3, -1, -1), depth, nothing, instance.int())


def moved(state: State, forward_m: float = 0.0, aside_m: float = 0.0, turn_rad: float = 0.0) -> State:
    return replace(
        state, ego=EgoState(*map(float, to_global_frame([forward_m, aside_m, turn_rad], state.ego.pose)), 5.0)
    )


SMALL = Camera(width=32, height=18, focal_px=20.0)
ANGLE = st.floats(-0.5, 0.5)


@given(st.integers(0, 2**32 - 1), ANGLE, ANGLE, ANGLE, ANGLE, st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=40)
def test_any_depths_and_any_motion(drives, seed, yaw, pitch, roll, turn, forward, aside):
    world, log = drives[0]
    rng = np.random.default_rng(seed)
    camera = replace(SMALL, yaw_rad=yaw * 6, pitch_rad=pitch, roll_rad=roll * 6)
    before, after = log[48], moved(log[54], forward, aside, turn)
    depth = np.exp(rng.uniform(0, 7, (18, 32)))
    depth[rng.random(depth.shape) < 0.2] = np.inf
    instance = rng.integers(0, len(world.agents) + 1, depth.shape) * (rng.random(depth.shape) < 0.3) * (depth < np.inf)
    seen = frames_of(depth, instance)
    flow = optical_flow(world, camera, [before], [after], seen, seen)
    expected, z = expected_flow(world, camera, before, after, depth, instance)
    left = (poses(world, after)[instance - 1, 0] < 0) & (instance > 0)
    got = flow.displacement_px[0].permute(1, 2, 0).numpy()
    sure = (np.abs(z) > 0.5) & (np.abs(expected).max(-1) < 1e3)
    assert np.isnan(got[(z < 0.1) | left]).all()
    assert np.abs(got - expected)[sure & (z > 0) & ~left].max(initial=0) < 0.05
    assert not flow.visible[0].numpy()[np.isnan(got).any(-1)].any()


@given(ANGLE, ANGLE, ANGLE, ANGLE)
@settings(max_examples=20)
def test_turning_on_the_spot_is_a_homography(drives, yaw, pitch, roll, turn):
    world, log = drives[0]
    camera = replace(SMALL, position_m=(0.0, 0.0, 1.5), yaw_rad=yaw, pitch_rad=pitch, roll_rad=roll)
    after = moved(log[0], turn_rad=turn)
    depth = np.exp(np.random.default_rng(0).uniform(0, 7, (18, 32)))
    seen = frames_of(depth)
    flow = optical_flow(world, camera, [log[0]], [after], seen, seen).displacement_px[0].permute(1, 2, 0).numpy()
    (_, r), (_, s) = (camera.pose(np.array(t.ego.pose)) for t in (log[0], after))
    homography = camera.intrinsics @ s[0].T @ r[0] @ np.linalg.inv(camera.intrinsics)
    place = np.concatenate([pixels(camera), np.ones((18, 32, 1))], -1) @ homography.T
    ahead = place[..., 2] > 0.2
    expected = place[..., :2] / place[..., 2:] - pixels(camera)
    assert np.abs(flow - expected)[ahead].max() < 1e-2


def test_nothing_moves_while_all_stand(drives):
    world, log = drives[0]
    seen = Renderer(world)([log[0]])
    flow = optical_flow(world, Camera(), [log[0]], [log[0]], seen, seen)
    assert flow.displacement_px.abs().max() < 1e-3
    assert flow.visible.all()


def test_driving_straight_on_leaves_the_sky_and_spreads_the_road(drives):
    world, log = drives[0]
    after = moved(log[0], forward_m=1.0)
    renderer = Renderer(world)
    seen, then = renderer([log[0]]), renderer([after])
    flow = optical_flow(world, Camera(), [log[0]], [after], seen, then)
    assert flow.displacement_px[0][:, seen.semantic[0] == Semantic.SKY].abs().max() < 1e-3
    down = flow.displacement_px[0, 1, -40:][seen.semantic[0, -40:] == Semantic.ROAD]
    assert (down > 0).all()


def test_who_leaves_the_map_has_no_flow(drives):
    world, log = drives[0]
    renderer = Renderer(world)
    seen = renderer([log[0]])
    ids, counts = seen.instance.unique(return_counts=True)
    who = int(ids[1:][counts[1:].argmax()])
    s_m = log[0].agents.s_m.copy()
    s_m[who - 1] = np.inf
    gone = replace(log[0], agents=replace(log[0].agents, s_m=s_m))
    then = renderer([gone])
    flow = optical_flow(world, Camera(), [log[0]], [gone], seen, then)
    on = seen.instance == who
    assert flow.displacement_px.isnan().any(1).equal(on) and not flow.visible[on].any()
    back = optical_flow(world, Camera(), [gone], [log[0]], then, seen)
    assert not back.displacement_px.isnan().any() and not back.visible[on].any()  # it hides what stood behind it


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_the_same_flow(drives, device):
    world, log = drives[0]
    flows = []
    for where in ("cpu", device):
        renderer = Renderer(world, device=where)
        seen, then = renderer(log[48:60:6]), renderer(log[54:66:6])
        flows.append(optical_flow(world, Camera(), log[48:60:6], log[54:66:6], seen, then))
    here, there = flows
    near = here.displacement_px.abs() < 300
    gap = (here.displacement_px - there.displacement_px.cpu()).abs()[near]
    assert (gap < 0.05).float().mean() > 0.999
    assert (here.visible == there.visible.cpu()).float().mean() > 0.999


def test_as_many_states_as_frames(drives):
    world, log = drives[0]
    seen = frames_of(np.ones((18, 32)))
    with pytest.raises(InvalidShape, match=r"\(2, 1, 1, 1\)"):
        optical_flow(world, SMALL, log[:2], log[:1], seen, seen)
