"""Distances between predicted and true frames or latents, frame by frame: functions of tensors, leading axes kept."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.errors import InvalidShape


def rmse(preds: Tensor, target: Tensor) -> Tensor:
    """Root mean squared difference of (..., 3, H, W) uint8 frames, in grey levels 0..255 -> (...). Lower is better.

    >>> rmse(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.full((2, 3, 8, 8), 10, dtype=torch.uint8))
    tensor([10., 10.])
    """
    return _mse(preds, target).sqrt()


def psnr(preds: Tensor, target: Tensor) -> Tensor:
    """10 log10(255² / MSE) of (..., 3, H, W) uint8 frames, in dB -> (...). Higher is better; infinite for equal frames."""
    return 10 * torch.log10(255.0**2 / _mse(preds, target))


def ssim(preds: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, Gaussian window 11, sigma 1.5) of (..., 3, H, W) uint8 frames -> (...). Higher is better."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(preds, target)
    a, b = (x.flatten(0, -4).float() / 255 for x in (preds, target))
    each = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return each.reshape(preds.shape[:-3])


def sharpness(frames: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of (..., 3, H, W) uint8 frames, in grey levels -> (...): blur lowers it."""
    x = frames.float().mean(-3)
    return ((x[..., 1:, :] - x[..., :-1, :]).abs().mean((-2, -1)) + (x[..., 1:] - x[..., :-1]).abs().mean((-2, -1))) / 2


def cosine_similarity(preds: Tensor, target: Tensor) -> Tensor:
    """Cosine of the angle between (..., c, h, w) latents taken as vectors -> (...). Higher is better.

    >>> cosine_similarity(torch.ones(2, 1, 1, 1), -torch.ones(2, 1, 1, 1))
    tensor([-1., -1.])
    """
    _same(preds, target)
    return F.cosine_similarity(preds.flatten(-3).float(), target.flatten(-3).float(), dim=-1)


def _mse(preds: Tensor, target: Tensor) -> Tensor:
    _check(preds, target)
    return (preds.float() - target.float()).square().mean((-3, -2, -1))


def _check(preds: Tensor, target: Tensor) -> None:
    _same(preds, target)
    if preds.dtype != torch.uint8 or target.dtype != torch.uint8:
        raise InvalidShape(
            f"frames must be uint8, not {preds.dtype} and {target.dtype}; convert with wamlab.render.to_uint8"
        )


def _same(preds: Tensor, target: Tensor) -> None:
    if preds.shape != target.shape or preds.ndim < 3:
        raise InvalidShape(
            f"preds and target must be of one shape (..., c, h, w), not {tuple(preds.shape)} and {tuple(target.shape)}"
        )
