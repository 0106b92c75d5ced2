"""What is random in training: a function of the seed and the step alone, the same however the batch is shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

T = TypeVar("T")


def generator_for(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one step: independent streams for different (seed, step)."""
    state = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)


def seeded(seed: int, make: Callable[..., T], *args: Any) -> T:
    """`make(*args)` with torch's global CPU generator, from which modules initialise themselves, at `seed`; afterwards it is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*args)


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices, evenly spaced over 0 .. length - 1."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(int).tolist()


class DrawsOfPart(TorchFunctionMode):
    """Inside, every sample of a part of the batch gets the random numbers that it would get in the whole batch.

    `torch.rand`, `randn` and `randint` with a generator and as many rows as the part has samples, or a multiple (so many rows for each,
    one sample after the other), draw for all `total` samples of the batch and keep the part's. Draws of other shapes (a mask that all
    samples share) are the same in every part. So one generator, given to every process and to every accumulated part, makes a step
    that does not depend on how many there are. Drawing the numbers of others too costs little beside a network.

    Args:
        rows: of the batch, the samples in this part.
        total: samples in the batch.
    """

    def __init__(self, rows: slice, total: int) -> None:
        super().__init__()
        self.rows, self.total, self.count = rows, total, len(range(total)[rows])

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func not in (torch.rand, torch.randn, torch.randint) or kwargs.get("generator") is None:
            return func(*args, **kwargs)
        if "size" in kwargs:
            bounds, size = args, kwargs.pop("size")
        elif isinstance(args[-1], Sequence):
            *bounds, size = args
        else:
            bounds, size = (), args  # torch.rand(3, 4)
        if len(size) == 0 or size[0] == 0 or size[0] % self.count:
            return func(*bounds, tuple(size), **kwargs)
        each = size[0] // self.count
        drawn = func(*bounds, (self.total * each, *size[1:]), **kwargs)  # (total * each, ...)
        return drawn.unflatten(0, (self.total, each))[self.rows].flatten(0, 1)
