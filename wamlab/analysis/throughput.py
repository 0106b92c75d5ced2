"""What a frozen encoder costs: frames a second and memory. Knows nothing of datasets."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wamlab.types import Encoder


class PeakMemory(TorchDispatchMode):
    """While it is active, the most bytes that tensors made meanwhile hold at a time (`bytes`), on any device.

    Counts what operations return, not their scratch space.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self._live = 0, {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (key := _address(leaf)) not in given:
                storage = leaf.untyped_storage()
                self._live[key] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        self.bytes = max(self.bytes, sum(size for _, size in self._live.values()))
        return out


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def throughput(encoder: Encoder, inputs: Tensor, repeats: int = 2) -> dict[str, float]:
    """`frames_per_s`, `ms`, `memory_mib` and `parameters_m` of `encode` on inputs (N, 3, H, W), or clips (N, T, 3, H, W).

    A clip counts as one frame: the present that it tells about. The time is the shortest of the repeats, all threads together, after one
    pass to warm up; the memory is that of the weights and the most that the pass holds besides, for this N.
    """
    weights = sum(t.numel() * t.element_size() for t in [*encoder.parameters(), *encoder.buffers()])
    with PeakMemory() as peak:
        encoder.encode(inputs)
    seconds = min(_seconds(encoder, inputs) for _ in range(repeats))
    return {
        "frames_per_s": len(inputs) / seconds,
        "ms": 1000 * seconds / len(inputs),
        "memory_mib": (weights + peak.bytes) / 2**20,
        "parameters_m": sum(p.numel() for p in encoder.parameters()) / 1e6,
    }


def _seconds(encoder: Encoder, inputs: Tensor) -> float:
    start = time.perf_counter()
    encoder.encode(inputs).cpu()  # waits for a GPU
    return time.perf_counter() - start
