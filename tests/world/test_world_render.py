"""What the camera sees agrees with geometry: the rasteriser with ray casting, depth with reprojection, classes with the map."""

import numpy as np
import pytest
import torch

from wamlab.errors import InvalidParameter
from wamlab.world.camera import Camera
from wamlab.world.primitives import Material, Primitives, Semantic, build, place, shape, tree, vehicle_templates
from wamlab.world.raster import rasterize
from wamlab.world.render import Renderer
from wamlab.world.simulation import SceneSpec, make_world
from wamlab.world.texture import dashes, line

CAMERA = Camera(width=96, height=54, focal_px=60.0)


@pytest.fixture(scope="module")
def scene():
    world = make_world(SceneSpec(11, "suburban", "day", "clear", duration_s=4.0))
    log = world.simulate()
    return world, log


@pytest.fixture(scope="module")
def frames(scene):
    world, log = scene
    return Renderer(world)(log[:36:6])


def street(rng: np.random.Generator) -> Primitives:
    rows = [
        shape(
            (*rng.uniform((4, -15), (60, 15)), 3),
            (*rng.uniform(0.5, 5, 2), 3),
            (0.5, 0.5, 0.5),
            yaw=rng.uniform(0, 7),
            taper=tuple(rng.uniform(0, 0.45, 3)),
        )
        for _ in range(25)
    ]
    rows += [row for _ in range(6) for row in tree(rng, *rng.uniform((4, -12), (40, 12)))]
    cars = [
        place(t, np.array([[*rng.uniform((6, -8), (30, 8)), rng.uniform(0, 7)]]))
        for _, t in vehicle_templates().values()
    ]
    return Primitives.concatenate([build(rows), *cars])


def cast_rays(shapes: Primitives, position: np.ndarray, rotation: np.ndarray, camera: Camera) -> np.ndarray:
    """Inverse depth by testing every shape against every ray, one shape at a time, in float64."""
    u = (np.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal_px
    v = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.focal_px
    ray = np.stack([*np.broadcast_arrays(u[None], v[:, None]), np.ones((len(v), len(u)))], -1) @ rotation.T
    nearest = np.where(ray[..., 2] < 0, position[2] / np.maximum(-ray[..., 2], 1e-12), np.inf)
    for k in range(len(shapes)):
        c, s = np.cos(shapes.yaw[k]), np.sin(shapes.yaw[k])
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) / shapes.half[k][:, None]
        o, d = turn @ (position - shapes.centre[k]), ray @ turn.T
        if shapes.ellipsoid[k]:
            a, b, e = (d * d).sum(-1), d @ o, o @ o - 1
            disc = b * b - a * e
            t = np.where((disc > 0) & (e > 0), (-b - np.sqrt(np.maximum(disc, 0))) / a, np.inf)
        else:
            front, back, side = shapes.taper[k]
            near, far = np.full(d.shape[:2], -np.inf), np.full(d.shape[:2], np.inf)
            for n, at in (((1, 0, front / 2), 1 - front / 2), ((-1, 0, back / 2), 1 - back / 2), ((0, 1, side / 2), 1 - side / 2),
                          ((0, -1, side / 2), 1 - side / 2), ((0, 0, 1), 1), ((0, 0, -1), 1)):  # fmt: skip
                speed, gap = d @ np.array(n, float), at - o @ np.array(n, float)
                with np.errstate(divide="ignore", invalid="ignore"):
                    t = gap / speed
                near = np.where(speed < 0, np.maximum(near, t), near)
                far = np.where(speed > 0, np.minimum(far, t), far)
            t = np.where(near < far, near, np.inf)
        nearest = np.where((t > 0.2) & (t < nearest), t, nearest)
    return 1 / nearest


def test_rasterizer_equals_ray_casting():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        shapes = street(rng)
        camera = Camera(
            width=96, height=54, focal_px=60.0, yaw_rad=rng.uniform(-0.4, 0.4), pitch_rad=rng.uniform(-0.1, 0.1)
        )
        position, rotation = camera.pose(np.array([[0, 0, 0.0], [3, 1, 0.3]]))
        t = torch.as_tensor
        seen = rasterize(
            t(shapes.centre), t(shapes.half), t(shapes.yaw), t(shapes.taper), t(shapes.ellipsoid), torch.full((len(shapes),), -1),
            t(position), t(rotation), camera.focal_px, camera.width, camera.height, 500.0,
        )  # fmt: skip
        for k in range(2):
            expected = cast_rays(shapes, position[k], rotation[k], camera)
            wrong = np.abs(seen.w[k].numpy() - expected) > 1e-3 * (1 + expected)
            assert wrong.mean() < 2e-3, f"seed {seed}, frame {k}"  # only pixels whose centre lies on an outline


def test_a_frame_does_not_depend_on_its_batch(scene):
    world, log = scene
    together = Renderer(world)(log[:24:6])
    alone = Renderer(world)([log[12]])
    assert torch.equal(together.rgb[2], alone.rgb[0])
    assert torch.equal(together.semantic[2], alone.semantic[0])
    assert torch.equal(together.depth_m[2], alone.depth_m[0])


def test_depth_of_static_points_reprojects(scene, frames):
    """A static point seen in one frame, moved by the ego motion, has the depth that the next frame shows there."""
    world, log = scene
    camera = Camera()
    position, rotation = camera.pose(np.array([s.ego.pose for s in log[:36:6]]))
    static = (frames.semantic[1] > Semantic.SKY) & (frames.instance[1] == 0) & (frames.depth_m[1] < 40)
    rows, columns = (i.numpy() for i in torch.nonzero(static, as_tuple=True))
    ray = np.stack(
        [
            (columns + 0.5 - camera.width / 2) / camera.focal_px,
            (rows + 0.5 - camera.height / 2) / camera.focal_px,
            np.ones(len(rows)),
        ],
        -1,
    )
    points = position[1] + (ray * frames.depth_m[1].numpy()[rows, columns, None]) @ rotation[1].T
    pixel, depth = camera.project(points, position[2], rotation[2])
    inside = (
        (depth > 1)
        & (pixel[:, 0] > 1)
        & (pixel[:, 0] < camera.width - 2)
        & (pixel[:, 1] > 1)
        & (pixel[:, 1] < camera.height - 2)
    )
    shown = frames.depth_m[2].numpy()[pixel[inside, 1].astype(int), pixel[inside, 0].astype(int)]
    # half a pixel of depth at grazing angles, and occlusion, are allowed for: nearly all points agree
    error = np.abs(1 / shown - 1 / depth[inside]) * camera.focal_px * 1.5
    assert np.median(error) < 0.2 and np.mean(error < 1.0) > 0.9


def test_ground_classes_agree_with_the_map(scene, frames):
    world, log = scene
    camera = Camera()
    position, rotation = camera.pose(np.array([s.ego.pose for s in log[:36:6]]))
    road = torch.isin(frames.semantic, torch.tensor([int(Semantic.ROAD), int(Semantic.MARKING)]))
    for k in (0, 3):
        near = frames.depth_m[k] < 25
        rows, columns = (i.numpy() for i in torch.nonzero(road[k] & near, as_tuple=True))
        ray = np.stack(
            [
                (columns + 0.5 - camera.width / 2) / camera.focal_px,
                (rows + 0.5 - camera.height / 2) / camera.focal_px,
                np.ones(len(rows)),
            ],
            -1,
        )
        points = position[k] + (ray * frames.depth_m[k].numpy()[rows, columns, None]) @ rotation[k].T
        assert np.abs(points[:, 2]).max() < 1e-3
        corner = 5.0  # kerbs are rounded where roads meet
        assert (world.map.distance_to_kerb(points[:, :2]) < corner).all()
        if not len(world.map.crossings):
            assert (world.map.distance_to_kerb(points[:, :2]) < 0.05).all()


def test_instances_are_the_agents(scene, frames):
    world, _ = scene
    vehicles = frames.semantic >= Semantic.CAR
    assert torch.equal(vehicles, frames.instance > 0)
    assert frames.instance.max() <= len(world.agents)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize(
    ("time", "weather"), [("day", "rain"), ("dusk", "fog"), ("night", "clear"), ("night", "rain"), ("day", "overcast")]
)
def test_every_look_is_visible(time, weather, device):
    world = make_world(SceneSpec(3, "urban", time, weather, duration_s=0.5))
    rgb = Renderer(world, CAMERA, device)([world.start]).rgb.float().cpu()
    assert rgb.shape == (1, 3, 54, 96)
    road = rgb[0, :, 40:, 30:66].mean()
    assert 12 < road < 200, "the road in front of the car can be seen"
    assert rgb.std() > 10


@pytest.mark.parametrize("pitch_rad", [-1.3, 1.3])
@pytest.mark.parametrize("weather", ["clear", "rain"])
def test_cameras_may_look_up_and_down(pitch_rad, weather):
    world = make_world(SceneSpec(5, "rural", "night", weather, duration_s=0.5))
    camera = Camera(width=64, height=36, focal_px=80.0, position_m=(1.7, 0.0, 2.5), pitch_rad=pitch_rad)
    frames = Renderer(world, camera)([world.start])
    if pitch_rad < 0:
        assert (frames.semantic == Semantic.SKY).all() and torch.isinf(frames.depth_m).all()
    else:
        assert (frames.semantic != Semantic.SKY).all() and (frames.depth_m < 4).all()


def test_paint_covers_its_share():
    footprint = torch.tensor([0.01, 0.5, 3.0])
    x = torch.linspace(-20, 20, 4001)[:, None]
    covered = line(x, 0.2, footprint).sum(0) * 0.01
    assert torch.allclose(covered, torch.full((3,), 0.2), atol=0.01)
    share = dashes(torch.linspace(0, 90, 9001)[:, None], 9.0, 3.0, footprint).mean(0)
    assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.01)


def test_camera_projects_what_its_rays_see():
    camera = Camera(yaw_rad=0.3, pitch_rad=0.05)
    position, rotation = camera.pose(np.array([[5.0, -2.0, 0.7]]))
    assert np.allclose(rotation[0].T @ rotation[0], np.eye(3))
    points = position[0] + np.array([[1.0, 0.5, 8.0], [-2.0, 0.1, 30.0]]) @ rotation[0].T
    pixel, depth = camera.project(points, position[0], rotation[0])
    assert np.allclose(depth, [8, 30])
    assert np.allclose(
        pixel[0], [camera.width / 2 + camera.focal_px / 8, camera.height / 2 + camera.focal_px * 0.5 / 8]
    )


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": -1}, {"focal_px": 0.0}])
def test_impossible_cameras_are_refused(wrong):
    with pytest.raises(InvalidParameter, match="positive"):
        Camera(**wrong)


def test_templates_stay_within_their_size():
    for name, ((length, width, height), parts) in vehicle_templates().items():
        assert np.all(np.abs(parts.centre[:, 0]) + parts.half[:, 0] <= length / 2 + 0.06), name
        assert np.all(np.abs(parts.centre[:, 1]) + parts.half[:, 1] <= width / 2 + 0.04), name
        assert np.all(parts.centre[:, 2] + parts.half[:, 2] <= height + 0.06), name
    assert set(Material) >= set(np.unique(parts.material))


def test_a_camera_within_a_shape_sees_past_it():
    """From inside of a wall nothing of it is drawn, and the sky stays the sky: a car that leaves the road drives through houses."""
    walls = build([shape((5, 0, 3), (6, 6, 3), (0.5, 0.5, 0.5)), shape((30, 0, 2), (1, 3, 2), (0.5, 0.5, 0.5))])
    position, rotation = CAMERA.pose(np.array([[0.0, 0.0, 0.0]]))
    visible = rasterize(
        *(torch.as_tensor(getattr(walls, k)) for k in ("centre", "half", "yaw", "taper", "ellipsoid")),
        torch.tensor([-1, -1]), torch.as_tensor(position), torch.as_tensor(rotation), 60.0, 96, 54, 300.0,
    )  # fmt: skip
    assert set(visible.shape.unique().tolist()) == {-1, 1}
    assert (visible.w[0, 0] == 0).all() and (visible.w >= 0).all()


def test_headlights_shine_ahead_whatever_way_the_camera_looks():
    """By night and without lamps: the road ahead of the car is lit, the one behind it is not."""
    world = make_world(SceneSpec(3, "rural", "night", "clear", density=0.05, duration_s=1.0))
    front, back = (
        Renderer(world, Camera(yaw_rad=yaw, position_m=(0.0, 0.0, 1.5)))([world.start]) for yaw in (0.0, np.pi)
    )
    road = [(f.semantic == Semantic.ROAD) & (f.depth_m < 12) for f in (front, back)]
    bright = [f.rgb.float().mean(1)[r].median() for f, r in zip((front, back), road, strict=True)]
    assert bright[0] > 1.5 * bright[1]
