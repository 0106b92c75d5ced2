"""How fast the procedural world goes: frames a second and core, with semantics and depth, and seconds for a scene."""

import pytest
import torch

from wamlab.world.render import Renderer
from wamlab.world.simulation import SceneSpec, make_world


@pytest.fixture(scope="module", params=["urban", "suburban", "rural"])
def world(request):
    torch.set_num_threads(1)
    return make_world(SceneSpec(5, request.param))


def test_make_a_world(benchmark):
    benchmark.pedantic(make_world, args=(SceneSpec(5),), rounds=3)


def test_simulate_twenty_seconds(benchmark, world):
    benchmark.pedantic(world.simulate, rounds=2)


def test_draw_eight_frames(benchmark, world):
    states = world.simulate()[:48:6]
    renderer = Renderer(world)
    benchmark.pedantic(renderer, args=(states,), rounds=5, warmup_rounds=1)
    benchmark.extra_info["frames_per_second"] = 8 / benchmark.stats.stats.median
