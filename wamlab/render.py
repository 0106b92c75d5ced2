"""Tensor -> uint8 -> image bytes. The only place where pixel ranges convert: bytes 0..255 on one side, floats -1..1 on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def to_model(frames: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1], any shape."""
    return frames.float().div_(127.5).sub_(1.0)


def to_uint8(frames: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8 0..255, any shape; values outside are clamped, so `to_uint8(to_model(x)) == x`."""
    import torch

    return frames.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
