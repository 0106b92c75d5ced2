"""What a training step of the paper's model costs: 5.4 M parameters, batch 64 on a GPU; on the CPU a batch of 2, one thread."""

import json
import resource
import statistics
import time

import pytest
import torch

from wamlab.data.windows import collate
from wamlab.models import build_model
from wamlab.presets import get_preset
from wamlab.training import TrainConfig, fit
from wamlab.types import ACTIONS

GPU = torch.cuda.is_available()
BATCH, STEPS = (64, 40) if GPU else (2, 3)


class StableDiffusionVae:
    channels, downsample = 4, 8


class Windows(torch.utils.data.Dataset):
    """Noise of the shape of the paper's windows."""

    def __init__(self, horizon: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.latents = torch.randn(8, 1 + horizon, 4, 32, 32, generator=generator)
        self.actions = torch.randn(8, horizon, len(ACTIONS), generator=generator)

    def __len__(self) -> int:
        return BATCH * 8

    def __getitem__(self, i):
        return self.latents[i % 8][:1], self.latents[i % 8][1:], self.actions[i % 8], "scene", i


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step(benchmark, capsys, tmp_path, precision):
    if not GPU:
        torch.set_num_threads(1)
    preset = get_preset("paper")
    model = build_model("diffusion", preset, StableDiffusionVae())
    config = TrainConfig(steps=STEPS, batch_size=BATCH, precision=precision, log_every=1, checkpoint_every=10**6)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # the first optimizer of a process imports for seconds
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    began = time.process_time()
    benchmark.pedantic(
        fit, (model, Windows(preset.horizon), None, config, tmp_path), {"collate": collate, "progress": False}, rounds=1
    )
    cpu_s = time.process_time() - began
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [after - before for before, after in zip(seconds, seconds[1:], strict=False)]
    peak = torch.cuda.max_memory_allocated() if GPU else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    benchmark.extra_info |= {
        "device": torch.cuda.get_device_name() if GPU else "cpu",
        "parameters_m": sum(p.numel() for p in model.parameters()) / 1e6,
        "batch": BATCH,
        "step_s": statistics.median(steps),
        "cpu_s_per_step": cpu_s / STEPS,
        "peak_memory_gb": peak / 1e9,
    }
    with capsys.disabled():
        print(f"\ntraining step, {precision}: " + ", ".join(f"{k} {v}" for k, v in benchmark.extra_info.items()))
