"""What probing costs: fitting a probe with three seeds on a small dataset, and dense readout. Aim: under 3 s of one core for the former."""

import time

import pytest
import torch

from wamlab.metrics import readout
from wamlab.probing import BASELINES, PROBES, Labelled


@pytest.fixture(scope="module")
def train() -> Labelled:
    """112 scenes of 20 frames, embeddings of 384 numbers."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2240, 384, generator=generator)
    actions = torch.tanh(embeddings[:, :2]) + 0.1 * torch.randn(2240, 2, generator=generator)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimizer of a process imports for seconds
    return Labelled(embeddings, actions, tuple(f"scene-{i // 20:04d}" for i in range(2240)))


@pytest.mark.parametrize("name", [*PROBES, *BASELINES])
def test_fit(benchmark, train, name):
    fit, cpu_s = {**PROBES, **BASELINES}[name], []

    def run():
        began = time.process_time()
        fit(train, train)
        cpu_s.append(time.process_time() - began)

    benchmark.pedantic(run, rounds=3)
    benchmark.extra_info["cpu_s"] = min(cpu_s)


def test_read_out_a_frame(benchmark):
    """A memory of 10 patches of 1,000 images, features 16 × 16 × 384, frames of 128 pixels."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    keys = readout.unit_length(torch.randn(10_000, 384, generator=generator))
    memory = readout.Memory(keys, torch.rand(10_000, 14, generator=generator))
    features = torch.randn(16, 16, 16, 384, generator=generator)
    benchmark.pedantic(readout.read_out, args=(memory, features, (128, 128)), rounds=3)
    benchmark.extra_info["ms_per_frame"] = benchmark.stats.stats.min / 16 * 1000
