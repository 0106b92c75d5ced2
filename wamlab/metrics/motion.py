"""How far one image is displaced against another: functions of tensors, leading axes kept.

One number for a whole image; what moved where, pixel by pixel, is `wamlab.world.flow`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wamlab.errors import InvalidShape


def displacement_px(source: Tensor, target: Tensor, robust: bool = False) -> Tensor:
    """Shift (right, down) in pixels that takes (..., 3, H, W) source frames to the target frames -> (..., 2) float32.

    For each direction the argmax over d of c(d) = sum_x p(x) q(x + d), where p and q are the mean-free profiles of the two images (column
    means for right, row means for down), zero outside, and d = -(n - 1) .. n - 1: the full cross-correlation of the DiT-WAM paper's
    motion metric. Finer than a pixel by the parabola through the peak and its neighbours, where the paper has integers.

    That favours small shifts, since large ones overlap less, and what moves with the camera, such as the beam of its headlights.
    `robust` takes the correlation coefficient over the overlap instead, up to a quarter of the image, and leaves out what
    varies more slowly along the profile than a sixteenth of it.

    NaN where a profile has no contrast. Raises `InvalidShape` for frames of different shapes.

    >>> image = torch.zeros(3, 8, 32)
    >>> image[:, :, 10:14] = 1
    >>> displacement_px(image, image.roll(3, -1)).round()
    tensor([3., nan])
    """
    if source.shape != target.shape or source.ndim < 3:
        raise InvalidShape(
            f"source and target must be of one shape (..., 3, H, W), not {tuple(source.shape)} and {tuple(target.shape)}"
        )
    grey = [frames.double().mean(-3) for frames in (source, target)]
    shifts = [_shift(*(g.mean(axis) for g in grey), robust) for axis in (-2, -1)]
    return torch.stack(shifts, -1).float()


def _shift(p: Tensor, q: Tensor, robust: bool) -> Tensor:
    """Displacement (...) of profiles q against p (..., n)."""
    n = p.shape[-1]
    if robust:
        p, q = p - _slow(p), q - _slow(q)
    p, q = p - p.mean(-1, keepdim=True), q - q.mean(-1, keepdim=True)
    c = _coefficients(p, q) if robust else _correlate(p, q)  # (..., 2n - 1)
    reach = max(1, n // 4) if robust else n - 1
    peak = c[..., n - 1 - reach : n + reach].argmax(-1, keepdim=True) + n - 1 - reach
    before, at, after = (c.gather(-1, (peak + k).clamp(0, 2 * n - 2)) for k in (-1, 0, 1))
    bend = before - 2 * at + after
    fraction = torch.where(bend < 0, (before - after) / (2 * bend), 0.0).clamp(-0.5, 0.5)
    flat = torch.minimum(p.abs().amax(-1), q.abs().amax(-1)) < 1e-6
    return torch.where(flat, torch.nan, (peak - n + 1 + fraction)[..., 0])


def _correlate(p: Tensor, q: Tensor) -> Tensor:
    """(..., 2n - 1): sum_x p(x) q(x + d) for d = -(n - 1) .. n - 1, zero outside."""
    n = p.shape[-1]
    spectrum = torch.fft.rfft(p, 2 * n).conj() * torch.fft.rfft(q, 2 * n)
    return torch.fft.irfft(spectrum, 2 * n).roll(n, -1)[..., 1:]


def _coefficients(p: Tensor, q: Tensor) -> Tensor:
    """(..., 2n - 1): Pearson's correlation of p(x) and q(x + d) over their overlap, for the same d."""
    one = torch.ones_like(p)
    count, p1, q1 = _correlate(one, one), _correlate(p, one), _correlate(one, q)
    p2, q2 = _correlate(p * p, one) - p1 * p1 / count, _correlate(one, q * q) - q1 * q1 / count
    floor = 1e-6 * (p * p).sum(-1, keepdim=True)
    return (_correlate(p, q) - p1 * q1 / count) / (p2.clamp(min=0) * q2.clamp(min=0) + floor**2 + 1e-12).sqrt()


def _slow(p: Tensor) -> Tensor:
    """The profiles (..., n) smoothed by a Gaussian of n / 16, borders continued."""
    from scipy.ndimage import gaussian_filter1d

    smooth = gaussian_filter1d(p.cpu().numpy(), max(1.0, p.shape[-1] / 16), axis=-1, mode="nearest")
    return torch.as_tensor(np.ascontiguousarray(smooth), device=p.device)
