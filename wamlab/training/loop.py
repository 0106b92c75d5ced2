"""The one training loop: for anything with `loss(batch, generator) -> (loss, logs)`, the loss a mean over the samples.

Everything random is a function of (seed, step): the order of the data, and the generator that `loss` receives and draws from only,
with the samples on the first axis. So a run that is killed and resumed ends with the same weights, bit for bit on a CPU; and neither
the number of processes nor of accumulated parts changes a step by more than rounding. `accelerate` decides the device, and its launcher
starts several processes, which share each batch. (Precision is torch's autocast: accelerate's holds for a whole process, a notebook
trains models of several.)
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from wamlab.config import digest
from wamlab.errors import InvalidParameter, TrainingDiverged, UnknownName
from wamlab.training import checkpoint as ckpt
from wamlab.training.log import Log
from wamlab.training.order import BatchOrder
from wamlab.training.randomness import DrawsOfPart, generator_for, spread
from wamlab.weights import load_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Precision -> the type that autocast computes in.
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST = {
    1: ("epochs", "batch_size", "accumulate", "checkpoint_every", "log_every"),
    0: ("steps", "learning_rate", "weight_decay", "warmup_steps", "clip_norm", "patience", "val_batches", "workers"),
}


@dataclass(frozen=True)
class TrainConfig:
    """AdamW with warm-up, a decay, clipping and a moving average of the weights.

    Attributes:
        steps: optimizer steps; ignored when `epochs` is set.
        epochs: passes over the data.
        batch_size: over all processes and accumulated parts.
        accumulate: parts in which each process takes its share of a batch, for less memory; the step stays the same.
        schedule: of the learning rate after the warm-up: `cosine` (to 0) or `constant`.
        ema_decay: its limit; at step n it is min(ema_decay, (1 + n) / (10 + n)).
        precision: `fp32`, or `bf16` or `fp16` (autocast; `fp16` with a scaled loss).
        checkpoint_every: steps between checkpoints, each with a validation; the last step has one too.
        patience: stop after so many validations in a row without a new best one, and use the best weights; 0: never.
        val_batches: at most so many in a validation.
        workers: processes that load data; 0 loads in this one.
    """

    steps: int = 1000
    epochs: int | None = None
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, ...] = (0.9, 0.99)
    schedule: str = "cosine"
    warmup_steps: int = 50
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "fp32"
    checkpoint_every: int = 250
    patience: int = 0
    val_batches: int = 8
    log_every: int = 10
    workers: int = 0

    def __post_init__(self) -> None:
        for field, known in (("schedule", ("cosine", "constant")), ("precision", tuple(AUTOCAST))):
            if getattr(self, field) not in known:
                raise UnknownName(field, getattr(self, field), known)
        for least, fields in _LEAST.items():
            for field in fields:
                value = getattr(self, field)
                if value is not None and not (math.isfinite(value) and value >= least):
                    raise InvalidParameter(f"{field} must be finite and at least {least}, not {value}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InvalidParameter(f"betas must be two numbers in [0, 1), not {self.betas}")
        if not 0 <= self.ema_decay < 1:
            raise InvalidParameter(f"ema_decay must be in [0, 1), not {self.ema_decay}")

    def identity(self) -> dict[str, Any]:
        """The fields that decide the weights; how often is validated does so only where that may stop the run."""
        idle = {"accumulate", "log_every", "workers"}
        if not self.patience:
            idle |= {"checkpoint_every", "val_batches", "patience"}
        return {k: v for k, v in vars(self).items() if k not in idle}

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


class _Loss(nn.Module):
    """`model.loss` as a forward, which is what distributed wrappers synchronise."""

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model, self.dtype = model, AUTOCAST[precision]

    def forward(self, batch: Any, generator: torch.Generator, draws: Any) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(generator.device.type, self.dtype, enabled=self.dtype is not None), draws:
            return self.model.loss(batch, generator)


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
    on_log: Callable[[Path], None] | None = None,
) -> nn.Module:
    """Train `model` in `folder`, going on from its last checkpoint, and return the moving average in eval mode.

    It is that of the last step; with `patience`, that of the step with the lowest validation loss.

    Args:
        model: has `loss(batch, generator)`; is changed in place.
        train_set, val_set: map-style datasets; `collate` turns a list of items into the batch, which has `.to(device)`. If `train_set`
            has `weights`, one a sample, a pass draws in proportion to them (see `BatchOrder`).
        identity: what makes this run what it is; a checkpoint with another one is refused.
        prepare: called with the model once, before the first step (statistics, closed-form initialisation).
        resume: without it, a run that was cut short is refused rather than continued; a finished one is loaded in any case.
        progress: show a bar.
        on_log: called with `folder` whenever its `metrics.jsonl` has grown, and when a finished run is loaded.

    Raises `CheckpointMismatch`, `InvalidParameter`, and after which the last good checkpoint stays `WriteFailed` and `TrainingDiverged`.
    """
    from accelerate import Accelerator  # takes seconds to import
    from accelerate.utils import broadcast_object_list

    accelerator = Accelerator()
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    num_parts = world * config.accumulate
    if config.batch_size % num_parts:
        raise InvalidParameter(
            f"batch_size {config.batch_size} cannot be shared by {world} processes in {config.accumulate} parts each; "
            f"choose a multiple of {num_parts}"
        )
    weights = getattr(train_set, "weights", None)
    identity = {
        "train": config.identity(),
        "seed": seed,
        "num_samples": len(train_set),
        **({} if weights is None else {"weights": digest([float(w) for w in weights])}),
        **(identity or {}),
    }
    num_steps, last = config.num_steps(len(train_set)), ckpt.latest(folder)
    if last is not None:
        ckpt.check_identity(last, identity)
    elif prepare is not None:
        prepare(model)

    model.train()
    loss_of = accelerator.prepare(_Loss(model, config.precision))
    optimizer = _make_optimizer(model, config)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    ema = copy.deepcopy(model).requires_grad_(False).eval()
    state = {"step": 0, "seconds": 0.0, "best": None, "stale": 0}
    if last is not None:
        state |= ckpt.load_checkpoint(last, model, ema, optimizer)
        scaler.load_state_dict(state.get("scaler", {}))
    start = state["step"]
    finished = start >= num_steps or _given_up(config, state)
    if start and not (finished or resume):
        raise InvalidParameter(
            f"{folder} has {start} of {num_steps} steps: resume it, or remove that folder to start again"
        )
    main = accelerator.is_main_process
    if main and start:
        ckpt.tidy(folder, state)
    on_log = on_log if main and on_log else lambda folder: None
    if finished:
        on_log(folder)
        return _to_use(ema, config, folder)

    order = BatchOrder(
        len(train_set), config.batch_size, seed, start, num_steps, rank, world, config.accumulate, weights
    )
    loader = DataLoader(
        train_set, batch_sampler=order, collate_fn=collate, num_workers=config.workers, generator=torch.Generator()
    )
    batches = iter(loader)
    log = Log(folder, start) if main else None
    name = getattr(model, "name", type(model).__name__)
    bar = tqdm(total=num_steps, initial=start, desc=f"train {name}", unit="step", disable=not (progress and main))
    began = time.perf_counter() - state["seconds"]

    def write(row: Mapping[str, float]) -> None:
        if log is not None:
            log.write(step + 1, time.perf_counter() - began, row)
            on_log(folder)

    try:
        for step in range(start, num_steps):
            lr = config.learning_rate_at(step, num_steps)
            for group in optimizer.param_groups:
                group["lr"] = lr
            row = _gradients(loss_of, batches, config, seed, step, accelerator, scaler)
            scaler.unscale_(optimizer)
            norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm))
            if not math.isfinite(row["loss"]) or not (math.isfinite(norm) or scaler.is_enabled()):
                raise TrainingDiverged(_diverged(name, row["loss"], norm, step + 1, num_steps, lr, folder))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            _update_ema(ema, model, min(config.ema_decay, done / (9 + done)))

            if done % config.log_every == 0 or done == num_steps:
                write({**row, "lr": lr, "grad_norm": norm})
                bar.set_postfix_str(f"loss {row['loss']:.4f}", refresh=False)
            bar.update()
            if done % config.checkpoint_every and done < num_steps:
                continue
            if val := validate(ema, val_set, config, collate, device):
                (val,) = broadcast_object_list([val])  # on a GPU, another process may have got another last digit
                write({f"val_{k}": v for k, v in val.items()})
                better = state["best"] is None or val["loss"] < state["best"]["val_loss"]
                if better:
                    state["best"] = {"step": done, "val_loss": val["loss"]}
                state["stale"] = 0 if better else state["stale"] + 1
            state |= {"step": done, "seconds": time.perf_counter() - began, "scaler": scaler.state_dict()}
            if main:
                ckpt.save_checkpoint(folder, model, ema, optimizer, identity, state)
            accelerator.wait_for_everyone()
            if _given_up(config, state):
                break
    finally:
        bar.close()
        if log is not None:
            log.close()
    return _to_use(ema, config, folder)


def _gradients(
    loss_of: nn.Module,
    batches: Iterator[Any],
    config: TrainConfig,
    seed: int,
    step: int,
    accelerator: Accelerator,
    scaler: torch.amp.GradScaler,
) -> dict[str, float]:
    """Leave the gradients of a step in the parameters, part by part; the loss and logs, their means over the parts and processes."""
    rows, world = [], accelerator.num_processes
    num_parts = world * config.accumulate
    for part in range(accelerator.process_index, num_parts, world):
        batch = next(batches).to(accelerator.device)
        whole = num_parts == 1
        draws = nullcontext() if whole else DrawsOfPart(slice(part, None, num_parts), config.batch_size)
        last = part + world >= num_parts
        with nullcontext() if last else accelerator.no_sync(loss_of):
            loss, logs = loss_of(batch, generator_for(seed, step, accelerator.device), draws)
            scaler.scale(loss / config.accumulate).backward()
        rows.append({"loss": loss.item(), **logs})
    means = torch.tensor([[row[key] for key in rows[0]] for row in rows], dtype=torch.float64).mean(dim=0)
    if world > 1:
        means = accelerator.reduce(means.float().to(accelerator.device), "mean")
    return dict(zip(rows[0], means.tolist(), strict=True))


def _given_up(config: TrainConfig, state: Mapping[str, Any]) -> bool:
    return 0 < config.patience <= state["stale"]


def _to_use(ema: nn.Module, config: TrainConfig, folder: Path) -> nn.Module:
    """`ema`, with the weights of the best step where the run may have stopped after it."""
    best = folder / "best" / "ema.safetensors"
    if config.patience and best.is_file():
        load_weights(best, ema)
    return ema


def _diverged(name: str, loss: float, norm: float, step: int, num_steps: int, lr: float, folder: Path) -> str:
    last = ckpt.latest(folder)
    kept = f"{last.name} in {folder} is from before and intact" if last else "there is no checkpoint from before"
    what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient's norm is {norm}"
    return (
        f"training of {name} stopped: the {what} at step {step} of {num_steps} (learning rate {lr:.3g}); {kept}. "
        "Lower learning_rate or clip_norm, or look for NaN in the data"
    )


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
        loss, logs = model.loss(collate([val_set[j] for j in part]).to(device), generator_for(0, i, device))
        for key, value in {"loss": loss.item(), **logs}.items():
            totals[key] = totals.get(key, 0.0) + value * len(part) / count
    return totals
