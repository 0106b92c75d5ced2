"""How fast the encoders read: frames a second of 128 pixels and the memory it takes, on one core; aim: 5 ms a frame, 40 ms a clip."""

import threading
import time
from pathlib import Path

import pytest
import torch

from wamlab.encoders import ENCODERS, load_encoder

BATCH = 32
PAGE_MB = 4096 / 1e6


class PeakMemory(threading.Thread):
    """Watches the process's resident memory while a `with` block runs; `megabytes` is how far it rose."""

    def __enter__(self):
        self.start_mb = self.peak_mb = self.resident_mb()
        self.running = True
        self.start()
        return self

    def run(self):
        while self.running:
            self.peak_mb = max(self.peak_mb, self.resident_mb())
            time.sleep(0.002)

    def __exit__(self, *_):
        self.running = False
        self.join()

    @property
    def megabytes(self):
        return self.peak_mb - self.start_mb

    @staticmethod
    def resident_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB


@pytest.mark.parametrize("name", ENCODERS)
def test_encode(benchmark, capsys, name):
    torch.set_num_threads(1)
    encoder = load_encoder(f"{name}/random")
    shape = (BATCH, 3, 128, 128) if encoder.num_frames == 1 else (4, encoder.num_frames, 3, 128, 128)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8)
    with PeakMemory() as memory:
        encoder.encode(frames)
    seconds = []

    def timed():
        start = time.process_time()
        encoder.encode(frames)
        seconds.append(time.process_time() - start)

    benchmark.pedantic(timed, rounds=5, warmup_rounds=1)
    each = min(seconds) / len(frames)
    what = "frame" if encoder.num_frames == 1 else "clip"
    with capsys.disabled():
        print(f"\n{name}: {1e3 * each:.2f} CPU ms a {what}, {1 / each:.0f} {what}s/s, {memory.megabytes:.0f} MB more")
