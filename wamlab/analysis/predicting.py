"""Rolling a model out over many windows, once: what was predicted is kept by the content of everything that decides it.

An interrupted notebook so finds its finished rollouts again, and notebooks that ask the same share the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import Tensor, nn

import wamlab
from wamlab.config import data_dir, digest
from wamlab.data.latents import read_shard, write_shard
from wamlab.errors import InvalidShape
from wamlab.models.jump import Jump

#: Part of the key: raise it when the same inputs give other files.
FORMAT = 1
_PACKAGE = Path(wamlab.__file__).parent


@dataclass(frozen=True)
class Candidate:
    """A model with the settings of its `rollout`, such as steps and guidance: one row of a comparison."""

    model: Any
    settings: Mapping[str, Any]


def predict(
    candidate: Candidate,
    context: Tensor,
    actions: Tensor,
    seed: int = 0,
    batch: int = 8,
    start: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """(N, F, c, h, w) float32 latents on the CPU, of N windows, `batch` at a time, the noise of all from one generator with this seed.

    What models of this package predict is read from `rollouts/` in `data_dir()` if it was predicted before, by the same weights, code
    and numbers. Nothing says whether the code of other models has changed, so they run each time.

    Args:
        context: (N, C, c, h, w) latents, the present last. actions: (N, F, A), columns `wamlab.types.ACTIONS`.
        start: (N, F, c, h, w) that a sampler starts from with noise on it, as the setting `strength` says.
        progress: called with the windows done and N.

    Raises `InvalidShape` if these are not of the same N windows, and as the model's `rollout`.
    """
    given = [context, actions, *([] if start is None else [start])]
    if not context.ndim or {len(x) for x in given} != {len(context)} or not len(context):
        raise InvalidShape(
            f"context, actions and start must be of the same windows, not {[tuple(x.shape) for x in given]}"
        )

    def run() -> Tensor:
        generator, parts = torch.Generator().manual_seed(seed), []
        for first in range(0, len(context), batch):
            c, a, *s = (x[first : first + batch] for x in given)
            extra = {"start": s[0]} if s else {}
            parts.append(candidate.model.rollout(c, a, generator, **candidate.settings, **extra).latents.float().cpu())
            if progress:
                progress(min(first + batch, len(context)), len(context))
        return torch.cat(parts)

    if not _is_known(candidate.model):
        return run()
    device = next(candidate.model.parameters()).device.type
    numbers = (torch.__version__, device, torch.get_num_threads(), seed, batch)  # what decides the last bits, too
    asked = (repr(sorted(candidate.settings.items())), *map(_content, given))
    key = digest(FORMAT, _code(), *_weights(candidate.model), *numbers, *asked)
    path = data_dir() / "rollouts" / f"{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        try:
            return read_shard(path, {"key": key})
        except (FileNotFoundError, SafetensorError, ValueError, OSError):  # missing, or damaged: predicted anew
            latents = run()
            write_shard(path, latents, {"key": key})
    return latents


def reach(model: Any) -> int | None:
    """How many frames a model predicts at most in one go; None where there is no end, as of chains and what has nothing to train."""
    return None if isinstance(model, Jump) else getattr(getattr(model, "config", None), "horizon", None)


def predict_chain(
    candidate: Candidate, context: Tensor, actions: Tensor, seed: int = 0, batch: int = 8, window: int | None = None
) -> Tensor:
    """As `predict`, (N, F, c, h, w), of any number of frames F: `window` at a time, each seeing what was predicted before as its context.

    By default a window is the model's `reach`. Each has noise of its own; the first is what `predict` gives for so many frames.
    """
    frames = actions.shape[1]
    window, seen, parts = window or reach(candidate.model) or frames, context, []
    for k, first in enumerate(range(0, frames, window)):
        made = predict(candidate, seen, actions[:, first : first + window], window_seed(seed, k), batch)
        seen = torch.cat([seen.to(made), made], 1)[:, -context.shape[1] :]
        parts.append(made)
    return torch.cat(parts, 1)


def window_seed(seed: int, k: int) -> int:
    """The seed of the noise of the k-th window of a chain."""
    return seed if k == 0 else int(np.random.SeedSequence((seed, k)).generate_state(1)[0])


def _is_known(model: Any) -> bool:
    """Whether configuration, weights and this package's code are all that decides what it predicts."""
    trained = isinstance(model, nn.Module) and hasattr(model, "config")
    return trained and type(model).__module__.startswith("wamlab.models.")


@cache
def _code() -> str:
    """Digest of the code of all models."""
    files = [path for name in ("models", "diffusion") for path in sorted((_PACKAGE / name).glob("*.py"))]
    return digest(*(path.read_text() for path in files))


def _weights(model: nn.Module) -> tuple[str, ...]:
    """The kind of a model, its configuration, and a digest of each of its tensors."""
    tensors = (part for name, x in model.state_dict().items() for part in (name, _content(x)))
    return (type(model).__qualname__, repr(model.config), *tensors)


def _content(x: Tensor) -> str:
    """Digest of a tensor."""
    data = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return digest(str(x.dtype), tuple(x.shape), hashlib.sha256(data).hexdigest())
