"""The one training loop: for anything with `loss(batch, generator) -> (loss, logs)`.

Everything random is a function of (seed, step, process): the order of the data, and the generator that `loss` receives. So a run that
is killed and resumed ends with the same weights, bit for bit on a CPU. Models draw from that generator only. `accelerate` decides the
device and spreads the batch over processes.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from wamlab.errors import InvalidParameter, UnknownName, WriteFailed
from wamlab.training import checkpoint as ckpt

T = TypeVar("T")


@dataclass(frozen=True)
class TrainConfig:
    """AdamW with warm-up, a decay, clipping and a moving average of the weights.

    Attributes:
        steps: optimizer steps; ignored when `epochs` is set.
        epochs: passes over the data.
        batch_size: over all processes.
        schedule: of the learning rate after the warm-up: `cosine` (to 0) or `constant`.
        ema_decay: its limit; at step n it is min(ema_decay, (1 + n) / (10 + n)).
        precision: `fp32` or `bf16` (autocast).
        checkpoint_every: steps between checkpoints, each with a validation; the last step has one too.
        val_batches: at most so many in a validation.
        workers: processes that load data; 0 loads in this one.
    """

    steps: int = 1000
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, ...] = (0.9, 0.99)
    schedule: str = "cosine"
    warmup_steps: int = 50
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "fp32"
    checkpoint_every: int = 250
    val_batches: int = 8
    log_every: int = 10
    workers: int = 0

    def __post_init__(self) -> None:
        for field, known in (("schedule", ("cosine", "constant")), ("precision", ("fp32", "bf16"))):
            if getattr(self, field) not in known:
                raise UnknownName(field, getattr(self, field), known)
        for field in ("batch_size", "checkpoint_every", "log_every"):
            if getattr(self, field) < 1:
                raise InvalidParameter(f"{field} must be at least 1, not {getattr(self, field)}")

    def identity(self) -> dict[str, Any]:
        """The fields that decide the weights."""
        return {
            k: v for k, v in vars(self).items() if k not in ("checkpoint_every", "val_batches", "log_every", "workers")
        }

    def num_steps(self, num_samples: int) -> int:
        return self.steps if self.epochs is None else math.ceil(self.epochs * num_samples / self.batch_size)

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """The learning rate of step 0, 1, …: linear warm-up, then the schedule."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup_steps) / max(1, num_steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class BatchOrder:
    """The indices of every batch from step `start` to `stop`: one shuffled pass over the data after the other, without a seam."""

    def __init__(
        self, num_samples: int, batch_size: int, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
    ) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.steps, self.rank, self.world = range(start, stop), rank, world

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        passes: dict[int, np.ndarray] = {}
        for step in self.steps:
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, offset = divmod(position, self.num_samples)
                if epoch not in passes:
                    passes = {epoch: np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)}
                batch.append(int(passes[epoch][offset]))
            yield batch[self.rank :: self.world]


class _Loss(nn.Module):
    """`model.loss` as a forward, which is what distributed wrappers synchronise."""

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model, self.bf16 = model, precision == "bf16"

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(generator.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model.loss(batch, generator)


def generator_for(seed: int, step: int, rank: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one step: independent streams for different (seed, step, rank)."""
    state = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)


def seeded(seed: int, make: Callable[..., T], *args: Any) -> T:
    """`make(*args)` with torch's global CPU generator, from which modules initialise themselves, at `seed`; afterwards it is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*args)


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices, evenly spaced over 0 .. length - 1."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(int).tolist()


def fit(
    model: nn.Module,
    train_set: Dataset,
    val_set: Dataset | None,
    config: TrainConfig,
    folder: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
    collate: Callable[[Sequence[Any]], Any] = default_collate,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> nn.Module:
    """Train `model` in `folder`, going on from its last checkpoint, and return the moving average in eval mode.

    Args:
        model: has `loss(batch, generator)`; is changed in place.
        train_set, val_set: map-style datasets; `collate` turns a list of items into the batch, which has `.to(device)`.
        identity: what makes this run what it is; a checkpoint with another one is refused.
        prepare: called with the model once, before the first step (statistics, closed-form initialisation).
        resume: without it, a run that was cut short is refused rather than continued; a finished one is loaded in any case.
        progress: show a bar.

    Raises `CheckpointMismatch`, `WriteFailed` (the last good checkpoint stays) and `InvalidParameter`.
    """
    from accelerate import Accelerator  # takes seconds to import

    accelerator = Accelerator()
    rank, world = accelerator.process_index, accelerator.num_processes
    if config.batch_size % world:
        raise InvalidParameter(
            f"batch_size {config.batch_size} cannot be shared by {world} processes; choose a multiple"
        )
    identity = {"train": config.identity(), "seed": seed, "num_samples": len(train_set), **(identity or {})}
    num_steps, last = config.num_steps(len(train_set)), ckpt.latest(folder)
    if last is not None:
        ckpt.check_identity(last, identity)
    elif prepare is not None:
        prepare(model)

    model.train()
    loss_of, optimizer = accelerator.prepare(_Loss(model, config.precision), _make_optimizer(model, config))
    ema = copy.deepcopy(model).requires_grad_(False).eval()
    state = {"step": 0, "seconds": 0.0, "best": None}
    if last is not None:
        state = ckpt.load_checkpoint(last, model, ema, optimizer)
    start = state["step"]
    if start >= num_steps:
        return ema
    if start and not resume:
        raise InvalidParameter(
            f"{folder} has {start} of {num_steps} steps: resume it, or remove that folder to start again"
        )

    order = BatchOrder(len(train_set), config.batch_size, seed, start, num_steps, rank, world)
    loader = DataLoader(
        train_set, batch_sampler=order, collate_fn=collate, num_workers=config.workers, generator=torch.Generator()
    )
    log = _Log(folder / "metrics.jsonl", start, enabled=accelerator.is_main_process)
    quiet = not (progress and accelerator.is_main_process)
    name = getattr(model, "name", type(model).__name__)
    bar = tqdm(total=num_steps, initial=start, desc=f"train {name}", unit="step", disable=quiet)
    began = time.perf_counter() - state["seconds"]
    try:
        for step, batch in enumerate(loader, start):
            lr = config.learning_rate_at(step, num_steps)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss, logs = loss_of(batch.to(accelerator.device), generator_for(seed, step, rank, accelerator.device))
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            _update_ema(ema, model, min(config.ema_decay, done / (9 + done)))

            if done % config.log_every == 0 or done == num_steps:
                row = {"loss": loss.item(), **logs, "lr": lr, "grad_norm": float(norm)}
                log.write(done, time.perf_counter() - began, row)
                bar.set_postfix_str(f"loss {row['loss']:.4f}", refresh=False)
            if done % config.checkpoint_every == 0 or done == num_steps:
                val = validate(ema, val_set, config, collate, accelerator.device)
                if val is not None:
                    log.write(done, time.perf_counter() - began, {f"val_{k}": v for k, v in val.items()})
                    if state["best"] is None or val["loss"] < state["best"]["val_loss"]:
                        state["best"] = {"step": done, "val_loss": val["loss"]}
                state["seconds"] = time.perf_counter() - began
                if accelerator.is_main_process:
                    _save(folder, done, model, ema, optimizer, identity, state)
                accelerator.wait_for_everyone()
            bar.update()
    finally:
        bar.close()
        log.close()
    return ema


def _make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW that decays matrices and leaves biases and other vectors alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas, fused=True
    )


@torch.no_grad()
def _update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
    for mine, theirs in zip(ema.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)


@torch.no_grad()
def validate(
    model: nn.Module, val_set: Dataset | None, config: TrainConfig, collate: Callable, device: torch.device
) -> dict[str, float] | None:
    """Mean loss and logs of evenly spaced validation samples, with the same randomness every time; `model` is in eval mode."""
    if val_set is None or len(val_set) == 0:
        return None
    count = min(len(val_set), config.val_batches * config.batch_size)
    indices = spread(len(val_set), count)
    totals: dict[str, float] = {}
    for i in range(0, count, config.batch_size):
        part = indices[i : i + config.batch_size]
        loss, logs = model.loss(collate([val_set[j] for j in part]).to(device), generator_for(0, i, 0, device))
        for key, value in {"loss": loss.item(), **logs}.items():
            totals[key] = totals.get(key, 0.0) + value * len(part) / count
    return totals


def _save(
    folder: Path, step: int, model: nn.Module, ema: nn.Module, optimizer: Any, identity: Mapping, state: dict
) -> None:
    saved = ckpt.save_checkpoint(folder, step, model, ema, optimizer, identity, {**state, "step": step})
    if state["best"] and state["best"]["step"] == step:
        ckpt.point(folder / "best", saved)
    ckpt.prune(folder)


class _Log:
    """`metrics.jsonl`, a row at a time; rows after the checkpoint that a run resumes from are dropped first."""

    def __init__(self, path: Path, start: int, enabled: bool) -> None:
        self.file = None
        if enabled:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [line for line in _complete_lines(path) if json.loads(line)["step"] <= start]
            path.write_text("".join(kept))
            self.file = path.open("a", buffering=1)

    def write(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        if self.file is None:
            return
        try:
            self.file.write(json.dumps({"step": step, "seconds": round(seconds, 2), **values}) + "\n")
        except OSError as error:
            raise WriteFailed(f"{self.file.name}: {error}. Make room and run the same again: it resumes") from error

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _complete_lines(path: Path) -> list[str]:
    return (
        [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")] if path.exists() else []
    )
