"""How fast the procedural world goes: frames a second with semantics, instances and depth, and what a scene, a what-if and a drive cost."""

import numpy as np
import pytest
import torch

from wamlab.world import replay
from wamlab.world.ncap import crash_test
from wamlab.world.render import Renderer
from wamlab.world.scenarios import sample
from wamlab.world.simulation import KEYFRAME_STEPS, SceneSpec, make_world
from wamlab.world.synthetic import dataset_specs

BATCH = 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def worlds():
    """The first twelve drives of the embedded dataset."""
    return [make_world(spec) for spec in list(dataset_specs(160, 0).values())[:12]]


@pytest.fixture(scope="module")
def logs(worlds):
    return [world.simulate() for world in worlds]


def test_make_twelve_worlds(benchmark):
    specs = list(dataset_specs(160, 0).values())[:12]
    benchmark.pedantic(lambda: [make_world(spec) for spec in specs], rounds=2, warmup_rounds=1)
    benchmark.extra_info["seconds_a_scene"] = benchmark.stats.stats.median / len(specs)


def test_simulate_twelve_worlds_for_twenty_seconds(benchmark, worlds):
    benchmark.pedantic(lambda: [world.simulate() for world in worlds], rounds=2, warmup_rounds=1)
    benchmark.extra_info["seconds_a_scene"] = benchmark.stats.stats.median / len(worlds)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")),
    ],
)
def test_draw_the_keyframes_of_twelve_drives(benchmark, worlds, logs, device):
    renderers = [Renderer(world, device=device) for world in worlds]
    keyframes = [log[:-1:KEYFRAME_STEPS] for log in logs]

    def draw():
        for renderer, states in zip(renderers, keyframes, strict=True):
            for first in range(0, len(states), BATCH):
                renderer(states[first : first + BATCH])
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(draw, rounds=3, warmup_rounds=1)
    benchmark.extra_info["frames_a_second"] = sum(map(len, keyframes)) / benchmark.stats.stats.median


def test_answer_a_what_if_of_four_frames(benchmark):
    spec, left = SceneSpec(5), np.tile([0.5, 0.0], (4, 1))
    benchmark.pedantic(replay, args=(spec, 10, left), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("observe", [False, True], ids=["blind", "seeing"])
def test_drive_four_seconds_in_a_closed_loop(benchmark, observe):
    """Eight decisions, 48 steps of the simulation."""
    episode = crash_test(sample("stationary", 0, ttc_s=5.0)).episode(observe=observe)

    def drive():
        episode.reset()
        for _ in range(8):
            episode.step([0.0, 0.0])

    benchmark.pedantic(drive, rounds=3, warmup_rounds=1)
    benchmark.extra_info["decisions_a_second"] = 8 / benchmark.stats.stats.median
