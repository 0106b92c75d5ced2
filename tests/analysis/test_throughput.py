import time

import pytest
import torch

from wamlab.analysis.throughput import PeakMemory, throughput


def test_the_peak_is_what_is_held_at_a_time():
    with PeakMemory() as peak:
        for _ in range(3):
            a = torch.zeros(256, 1024)  # 1 MiB
            b = a + 1
            a.add_(1)
            view = b.view(-1)[5:]
            del a, b, view
    assert peak.bytes == 2 * 2**20


def test_nothing_made_holds_nothing():
    x = torch.zeros(8)
    with PeakMemory() as peak:
        x.add_(1)
        x.view(2, 4)
    assert peak.bytes == 0


class Slow(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2**20))  # 4 MiB

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return torch.zeros(len(frames), 384)


def test_numbers_of_an_encoder_with_known_cost():
    found = throughput(Slow(), torch.zeros(5, 3, 16, 16, dtype=torch.uint8))
    assert 10 <= found["ms"] < 20
    assert found["frames_per_s"] == pytest.approx(1000 / found["ms"])
    assert found["parameters_m"] == pytest.approx(1.048576)
    assert found["memory_mib"] == pytest.approx(4 + 5 * 384 * 4 / 2**20)
