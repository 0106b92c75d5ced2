"""Weights of modules as safetensors: saving, loading with a clear refusal, and the digest that identifies them. Nothing is unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wamlab.errors import CheckpointMismatch


def weights_digest(module: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of a module's parameters and buffers; the same wherever they were loaded from."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors, from any device, to a safetensors file."""
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises `CheckpointMismatch` when it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointMismatch(f"{path} cannot be read ({error}); remove it to go on from an earlier one") from error


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module from a safetensors file. Raises `CheckpointMismatch` when it is damaged or of another architecture."""
    tensors, own = read_tensors(path), module.state_dict()
    differ = sorted(k for k in {*tensors, *own} if k not in tensors or k not in own or tensors[k].shape != own[k].shape)
    if differ:
        raise CheckpointMismatch(
            f"{path} does not fit {type(module).__name__}: {len(differ)} tensors are missing or of another shape, "
            f"e.g. {differ[0]}; build the module with the configuration that stands beside the weights"
        )
    module.load_state_dict(tensors)
