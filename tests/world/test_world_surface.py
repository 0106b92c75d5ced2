"""The parts of the picture, each against what it must equal: road profiles, textures, moving shadows, glow and outlines."""

import numpy as np
import pytest
import torch

from wamlab.world.air import bloom
from wamlab.world.camera import Camera
from wamlab.world.ground import _offset, make_ground, surface
from wamlab.world.primitives import Semantic
from wamlab.world.profile import CHANNELS, STRIP_M, profiles
from wamlab.world.road import generate_map
from wamlab.world.shade import View, _soften
from wamlab.world.shadow import moving_shadows
from wamlab.world.texture import dashes, ground_textures, noise_tile
from wamlab.world.weather import make_look


@pytest.fixture(scope="module", params=["urban", "rural"])
def road_map(request):
    return generate_map(np.random.default_rng(4), request.param)


@pytest.fixture(scope="module")
def ground(road_map):
    light = np.stack([np.ones((20, 30), np.float32), np.zeros((20, 30), np.float32)])
    return make_ground(road_map, light, np.random.default_rng(0))


def look_at(ground, poses, footprint_m):
    x, y = torch.as_tensor(poses[:, :2].T, dtype=torch.float32)
    size = torch.full_like(x, footprint_m)
    return surface(ground, x, y, size, size, torch.ones_like(x), torch.zeros_like(x))


def test_running_sums_give_the_share_of_each_material(road_map):
    sums = profiles(road_map.roads, np.array([0.1, 0.2, 0.05]), False).reshape(CHANNELS, len(road_map.roads), -1)
    width_m = sums[:, :, -1] * STRIP_M
    for k, road in enumerate(road_map.roads):
        assert width_m[5, k] == pytest.approx(2 * road.half_width_m, abs=0.03)
        assert width_m[6, k] == pytest.approx(2 * road.pavement_m, abs=0.05)
    assert (np.diff(sums[3:]) >= 0).all(), "shares are never negative"


def test_classes_follow_the_cross_section(road_map, ground):
    road = road_map.roads[0]
    s = np.arange(40.0, 90.0, 3.0)  # before the first junction
    on = look_at(ground, road.at(s, 0.7 * road.lane_m), 0.02)
    assert set(on.semantic.tolist()) == {int(Semantic.ROAD)} and (on.asphalt == 1).all()
    beyond = look_at(ground, road.at(s, road.half_width_m + road.pavement_m + 1.5), 0.02)
    assert set(beyond.semantic.tolist()) == {int(Semantic.TERRAIN)}
    if road.pavement_m:
        beside = look_at(ground, road.at(s, road.half_width_m + 0.6), 0.02)
        assert set(beside.semantic.tolist()) == {int(Semantic.PAVEMENT)}


@pytest.mark.parametrize("seed", [16, 19, 22])  # wide roads crossed by narrow ones
def test_a_junction_is_all_carriageway(seed):
    road_map = generate_map(np.random.default_rng(seed), "urban")
    assert road_map.crossings
    ground = make_ground(road_map, np.ones((2, 20, 30), np.float32), np.random.default_rng(0))
    for a, s_a, b, s_b in road_map.crossings:
        for road, other, s in (
            (road_map.roads[a], road_map.roads[b], s_a),
            (road_map.roads[b], road_map.roads[a], s_b),
        ):
            reach, half = other.half_width_m, road.half_width_m - 0.5
            u, d = np.meshgrid(np.linspace(-reach, reach, 60), np.linspace(-half, half, 60))
            seen = look_at(ground, road.at(s + u.ravel(), d.ravel()), 0.05)
            assert set(seen.semantic.tolist()) <= {int(Semantic.ROAD), int(Semantic.MARKING)}


def test_far_from_the_road_is_verge_however_large_the_pixel(road_map, ground):
    road = road_map.roads[0]
    seen = look_at(ground, road.at(np.arange(40.0, 90.0, 3.0), road.half_width_m + road.pavement_m + 10.0), 8.0)
    assert set(seen.semantic.tolist()) == {int(Semantic.TERRAIN)} and (seen.asphalt < 1e-3).all()


def test_a_coarse_pixel_sees_the_mean_of_fine_ones(road_map, ground):
    """Paint is averaged over the footprint: brightness across the carriageway does not depend on the pixel's size."""
    road = road_map.roads[0]
    s = np.full(4001, 60.0)
    d = np.linspace(-road.half_width_m + 1.5, road.half_width_m - 1.5, 4001)
    x, y = torch.as_tensor(road.at(s, d)[:, :2].T, dtype=torch.float32)
    heading = float(road.at(60.0)[2])
    mean = []
    for footprint_m in (0.03, 0.5):
        across = torch.full_like(x, footprint_m)
        ex, ey = torch.full_like(x, np.cos(heading)), torch.full_like(x, np.sin(heading))
        mean.append(surface(ground, x, y, across, torch.full_like(x, 9.0), ex, ey).albedo.mean())
    assert mean[0] == pytest.approx(float(mean[1]), rel=0.05)


def test_texture_levels_are_means_of_the_finest():
    textures = ground_textures()
    x, y = (torch.randint(0, 1500, (2, 400), generator=torch.Generator().manual_seed(0)) + 0.5) * 0.03
    finest = textures.at(x, y, torch.full_like(x, 0.01))
    assert torch.equal(finest, textures.at(x + 512 * 0.03, y, torch.full_like(x, 0.01)))
    assert finest.std() > 2 * textures.at(x, y, torch.full_like(x, 4.0)).std(), "details fade with the footprint"
    column, row = 37, 250
    block = textures.texels[:, : 512 * 512].view(2, 512, 512)[:, row * 2 : row * 2 + 2, column * 2 : column * 2 + 2]
    point = torch.tensor([(column + 0.5) * 0.06]), torch.tensor([(row + 0.5) * 0.06])
    seen = textures.at(*point, torch.tensor([0.06]))
    assert torch.allclose(seen[:, 0], block.mean((1, 2)), atol=1e-5)


def test_noise_is_standard_and_periodic():
    tile = noise_tile(3, 64)
    assert abs(tile.mean()) < 1e-5 and tile.std() == pytest.approx(1, abs=1e-4)
    step = np.abs(np.diff(tile, axis=0)).mean()
    assert np.abs(tile[0] - tile[-1]).mean() < 2 * step, "no seam where it repeats"


def test_dashes_of_many_widths_at_once():
    x, widths = torch.linspace(0, 50, 5001), torch.tensor([0.1, 0.5, 0.9])[:, None]
    share = dashes(x.expand(3, -1), 1.0, widths, torch.full((3, 1), 0.37)).mean(1)
    assert torch.allclose(share, widths[:, 0], atol=0.01)


def test_shadows_lie_under_the_car_and_away_from_the_sun():
    camera, look = Camera(), make_look("day", "clear", np.random.default_rng(1))
    position, rotation = (torch.as_tensor(a).float() for a in camera.pose(np.array([[0.0, 0.0, 0.0]])))
    view = View(position, rotation, torch.eye(3), camera.focal_px, camera.width, camera.height)
    ray = view.rays[0]
    pixel = torch.nonzero(ray[2] < -0.02)[:, 0]
    ray, eye = view.seen_from(pixel)
    x, y = (eye + ray * (eye[2] / -ray[2]))[:2]
    car = torch.tensor([[0.0, 15.0, 1.0, 0.3, 2.3, 0.9, 1.5]]).T  # frame, x, y, yaw, half length, half width, height
    image = (camera.focal_px, camera.width, camera.height)
    cast, under = moving_shadows(pixel, x, y, car, look, position, rotation, image)
    dx, dy = (x - 15.0).numpy(), (y - 1.0).numpy()
    lx, ly = np.abs(dx * np.cos(0.3) + dy * np.sin(0.3)), np.abs(dy * np.cos(0.3) - dx * np.sin(0.3))
    inside, apart = (lx < 2.0) & (ly < 0.6), (lx > 2.8) | (ly > 1.4)
    assert (under.numpy()[inside] > 0.9).all() and (under.numpy()[apart] == 0).all()
    towards = dx * look.sun[0] + dy * look.sun[1]
    assert (cast.numpy()[inside] > 0.9).all(), "the sun does not reach under the car"
    assert (cast.numpy()[apart & (towards > 3.5)] == 0).all(), "nothing is cast towards the sun"
    assert (cast.numpy()[apart] > 0.9).any(), "and something away from it"


def test_glow_keeps_its_light_and_needs_a_lamp():
    emitted, pixel = torch.zeros(3, 4), torch.tensor([24 * 64 + 32, 5, 6, 7])
    assert bloom(emitted, pixel, 1, 48, 64).abs().max() == 0
    emitted[:, 0] = 2.0
    glow = bloom(emitted, pixel, 1, 48, 64)
    assert glow.sum() == pytest.approx(0.58 * 3 * 2.0, rel=0.02)
    peak = glow[0, 0].flatten().argmax()
    assert abs(int(peak) // 64 - 24) <= 3 and abs(int(peak) % 64 - 32) <= 3


def test_softening_touches_outlines_alone():
    shape = torch.full((1, 12, 16), -1)
    shape[:, 4:8, 5:9] = 3
    image = torch.rand(3, 1, 12, 16, generator=torch.Generator().manual_seed(1))
    soft = _soften(image.clone(), shape)
    changed = (soft != image).any(0)[0]
    beside = torch.zeros(12, 16, dtype=torch.bool)
    beside[3:9, 5:9] = beside[4:8, 4:10] = True
    beside[5:7, 6:8] = False
    assert torch.equal(changed, beside)
    flat = _soften(torch.full_like(image, 0.4), shape)
    assert torch.allclose(flat, torch.full_like(image, 0.4))


def test_offsets_follow_a_bend_to_a_few_millimetres():
    """Points up to 3 m along and 8 m aside a bend of 50 m radius, against the circle itself."""
    kappa, along, aside = 0.02, torch.linspace(-3, 3, 61), torch.tensor([[-8.0], [0.0], [8.0]])
    foot = torch.tensor([0.0, 0.0, 1.0, 0.0, kappa])[:, None, None]
    s, d = _offset(along.expand(3, -1), aside.expand(-1, 61), foot)
    radius = 1 / kappa
    assert torch.allclose(d, radius - torch.hypot(along.expand(3, -1), radius - aside), atol=5e-3)
    assert torch.allclose(s, radius * torch.atan2(along.expand(3, -1), radius - aside), atol=1e-2)
