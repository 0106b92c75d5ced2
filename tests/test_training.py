"""The loop on a tiny regression: order, resuming, checkpoints, and what may go wrong with a disk."""

import ast
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from wamlab.errors import CheckpointMismatch, InvalidParameter, UnknownName, WriteFailed
from wamlab.training import BatchOrder, TrainConfig, fit
from wamlab.training import checkpoint as ckpt

CONFIG = TrainConfig(steps=12, batch_size=4, warmup_steps=3, checkpoint_every=4, log_every=2)
LONG = dataclasses.replace(CONFIG, steps=60, checkpoint_every=5)


class Regression(nn.Module):
    name = "regression"

    def __init__(self, hidden=8):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.register_buffer("offset", torch.zeros(1))

    def loss(self, batch, generator):
        noise = torch.randn(len(batch), 1, generator=generator) if self.training else 0
        loss = (self.net(batch) + self.offset + 0.1 * noise - batch.sum(1, keepdim=True)).square().mean()
        return loss, {"rms": float(loss.detach().sqrt())}


class Rows(TensorDataset):
    def __getitem__(self, i):
        return self.tensors[0][i]


def data(n=10, seed=0):
    return Rows(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)))


def run(folder, config=CONFIG, model=None, train_set=None, **options):
    return fit(model or Regression(), train_set or data(), data(6, 1), config, folder, progress=False, **options)


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Interrupted(Regression):
    """Raises at its n-th loss in training, as Ctrl-C would."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def loss(self, batch, generator):
        self.calls -= self.training
        if self.training and self.calls == 0:
            raise KeyboardInterrupt
        return super().loss(batch, generator)


def test_order_visits_everything_once_a_pass_and_needs_no_history():
    full = list(BatchOrder(10, 4, seed=3, start=0, stop=5))
    flat = [i for batch in full for i in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10)) and flat[:10] != flat[10:]
    assert list(BatchOrder(10, 4, seed=3, start=2, stop=5)) == full[2:]
    halves = [list(BatchOrder(10, 4, 3, 0, 5, rank, 2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(batch) for batch in full]


def test_learning_rate_warms_up_and_decays():
    rate = [CONFIG.learning_rate_at(s, 12) / CONFIG.learning_rate for s in range(12)]
    assert (
        rate[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
        and rate[3:] == sorted(rate[3:], reverse=True)
        and rate[-1] < 0.1
    )
    assert dataclasses.replace(CONFIG, epochs=3).num_steps(10) == 8


def test_trains_logs_and_keeps_few_checkpoints(tmp_path):
    ema = run(tmp_path, dataclasses.replace(CONFIG, steps=200, learning_rate=0.03, checkpoint_every=20))
    logged = rows(tmp_path)
    losses = [r["loss"] for r in logged if "loss" in r]
    assert losses[-1] < losses[0] / 5
    assert {"step", "seconds", "loss", "rms", "lr", "grad_norm"} <= logged[0].keys()
    assert sum("val_loss" in r for r in logged) == 10
    assert not ema.training and not any(p.requires_grad for p in ema.parameters())
    assert (tmp_path / "last").resolve().name == "step-000200"
    best = min((r for r in logged if "val_loss" in r), key=lambda r: r["val_loss"])
    assert (tmp_path / "best").resolve().name == f"step-{best['step']:06d}"
    assert len(list(tmp_path.glob("step-*"))) <= 3


def test_ema_follows_its_definition(tmp_path):
    seen = []
    model = Regression()
    want = model.net[2].weight.detach().clone()
    plain = model.loss
    model.loss = lambda batch, g: (seen.append(model.net[2].weight.detach().clone()), plain(batch, g))[1]
    ema = fit(model, data(), None, CONFIG, tmp_path, progress=False)
    for n, w in enumerate([*seen[1:], model.net[2].weight.detach()], 1):
        decay = min(CONFIG.ema_decay, n / (9 + n))
        want = decay * want + (1 - decay) * w
    torch.testing.assert_close(ema.net[2].weight, want)


@pytest.mark.parametrize("stop", [2, 7, 12])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, stop):
    whole_model, model = Regression(), Regression()
    whole = run(tmp_path / "whole", model=whole_model)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", model=Interrupted(stop))
    resumed = run(tmp_path / "parts", model=model)
    assert_same(weights(whole), weights(resumed))
    assert_same(weights(whole_model), weights(model))
    drop = [{k: v for k, v in r.items() if k != "seconds"} for r in rows(tmp_path / "parts")]
    assert drop == [{k: v for k, v in r.items() if k != "seconds"} for r in rows(tmp_path / "whole")]


KILLED_AGAIN_AND_AGAIN = """
import os, random, signal, sys
from pathlib import Path
import accelerate, torch
from test_training import LONG, Regression, run

torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # the first optimizer of a process imports for seconds
folder, moments = Path(sys.argv[1]), random.Random(0)

def dies_after(events):
    left = [events]
    def happened():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(lambda event, args: happened() if args and str(folder) in str(args[0]) else None)

    class Mortal(Regression):
        def loss(self, batch, generator):
            happened()
            return super().loss(batch, generator)

    run(folder, LONG, model=Mortal())

at = []
for _ in range(25):
    child = os.fork()
    if child == 0:
        dies_after(moments.randint(1, 90))
        os._exit(0)
    signals = os.WTERMSIG(os.waitpid(child, 0)[1])
    last = folder / "last"
    at.append((signals, last.resolve().name if last.exists() else "", bool(list(folder.glob(".step-*")))))
print(at)
"""


def test_a_run_killed_at_any_moment_resumes_bit_for_bit(tmp_path):
    """`kill -9` at random moments: at a step, or at any touch of a file, so also half-way through a checkpoint."""
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, tmp_path / "killed"]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    deaths = ast.literal_eval(done.stdout)
    assert sum(signals == signal.SIGKILL for signals, _, _ in deaths) > 5
    assert any(half_written for _, _, half_written in deaths), "none in a checkpoint"
    for name in ("killed", "whole"):
        run(tmp_path / name, LONG)
    for name in ("model", "ema", "optimizer"):
        file = f"last/{name}.safetensors"
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    for link in ("last", "best"):
        assert (tmp_path / "killed" / link).resolve().name == (tmp_path / "whole" / link).resolve().name
    seen = [[{k: v for k, v in r.items() if k != "seconds"} for r in rows(tmp_path / n)] for n in ("killed", "whole")]
    assert seen[0] == seen[1]
    assert not list((tmp_path / "killed").glob(".step-*"))


def test_a_finished_run_is_loaded_and_not_trained(tmp_path):
    first = run(tmp_path, prepare=lambda m: m.offset.fill_(0.5))
    untouched = Interrupted(1)
    again = run(tmp_path, model=untouched, prepare=lambda m: pytest.fail("prepared again"))
    assert_same(weights(first), weights(again))
    assert again.offset == 0.5


def test_another_run_or_architecture_is_refused(tmp_path):
    run(tmp_path, identity={"model": {"dim": 8}})
    with pytest.raises(CheckpointMismatch, match="model.dim is 8 there and 9 here"):
        run(tmp_path, identity={"model": {"dim": 9}})
    with pytest.raises(CheckpointMismatch, match="train.steps is 12 there and 13 here"):
        run(tmp_path, dataclasses.replace(CONFIG, steps=13), identity={"model": {"dim": 8}})
    with pytest.raises(CheckpointMismatch, match="does not fit Regression"):
        run(tmp_path, model=Regression(hidden=9), identity={"model": {"dim": 8}})
    run(tmp_path, dataclasses.replace(CONFIG, log_every=5), identity={"model": {"dim": 8}})  # decides no weight


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path, file):
    run(tmp_path)
    path = tmp_path / "last" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointMismatch, match=file):
        run(tmp_path)


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")
    plain = ckpt.save_tensors

    def full(path, tensors, metadata=None):
        plain(path, tensors, metadata)
        if "step-000008" in str(path) and path.name == "ema.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ckpt, "save_tensors", full)
    with pytest.raises(WriteFailed, match=r"step-000008 .*No space left on device.*step-000004 is intact"):
        run(tmp_path / "full")
    assert [p.name for p in sorted((tmp_path / "full").glob("*step*"))] == ["step-000004"]
    assert not list((tmp_path / "full").glob(".step*"))
    monkeypatch.undo()
    assert_same(weights(run(tmp_path / "full")), weights(whole))


def test_a_lost_pointer_is_no_loss(tmp_path):
    first = run(tmp_path)
    (tmp_path / "last").unlink()
    shutil.copytree(tmp_path / "step-000012", tmp_path / ".step-000016.123")  # half written by a killed process
    assert_same(weights(run(tmp_path)), weights(first))


def test_bad_settings_are_refused():
    with pytest.raises(UnknownName, match="'cosin'; known: constant, cosine"):
        TrainConfig(schedule="cosin")
    with pytest.raises(InvalidParameter, match="batch_size must be finite and at least 1, not 0"):
        TrainConfig(batch_size=0)
