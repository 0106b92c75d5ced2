"""Distances between predicted and true frames or latents, frame by frame: functions of tensors, leading axes kept."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.errors import ExtraMissing, InvalidShape, UnknownName, WeightsMissing
from wamlab.render import to_model

#: Side of SSIM's Gaussian window, pixels.
WINDOW = 11
LPIPS = ("alex", "squeeze", "vgg")
BATCH = 32


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
    """Structural similarity of (..., 3, H, W) uint8 frames -> (...). Higher is better; 1 for equal frames.

    Wang et al. 2004 with their Gaussian window (11 pixels, sigma 1.5), variances with divisor N, C = (0.01 · 255)² and (0.03 · 255)²;
    the mean over channels and over the pixels whose window lies within the image, as scikit-image has it with `gaussian_weights=True`
    and `use_sample_covariance=False`. Raises `InvalidShape` also for frames smaller than the window.
    """
    _check(preds, target)
    if min(preds.shape[-2:]) < WINDOW:
        raise InvalidShape(f"SSIM needs frames of {WINDOW} pixels or more a side, not {tuple(preds.shape[-2:])}")
    pairs = zip(*(frames.flatten(0, -3).split(BATCH) for frames in (preds, target)), strict=True)
    similar = torch.cat([_similarity(x.double(), y.double()) for x, y in pairs])  # (N,), a channel each
    return similar.view(preds.shape[:-2]).mean(-1).float()


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of (N, H, W) channels -> (N,)."""
    mean_x, mean_y, c1, c2 = _window(x), _window(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    var_x, var_y, both = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2, _window(x * y) - mean_x * mean_y
    similar = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similar.mean((1, 2))


def _window(z: Tensor) -> Tensor:
    """(N, H, W) -> (N, H - 10, W - 10): weighted means in SSIM's window. Sums of slices: in doubles many times faster than convolving."""
    offset = torch.arange(WINDOW, dtype=z.dtype) - WINDOW // 2
    weights = (-(offset**2) / (2 * 1.5**2)).softmax(0).tolist()
    for axis in (-1, -2):
        size = z.shape[axis] - WINDOW + 1
        found = z.narrow(axis, 0, size) * weights[0]
        for k in range(1, WINDOW):
            found.add_(z.narrow(axis, k, size), alpha=weights[k])
        z = found
    return z


def lpips(preds: Tensor, target: Tensor, network: str = "alex") -> Tensor:
    """Learned perceptual distance (Zhang et al. 2018) of (..., 3, H, W) uint8 frames, by torchmetrics -> (...). Lower is better.

    `network`: alex, squeeze or vgg, of torchvision, which downloads its weights when they are first asked for. Raises `ExtraMissing`
    without torchvision, `WeightsMissing` where the weights are neither in torch's cache nor within reach, `UnknownName` for a network.
    """
    _check(preds, target)
    net = _lpips(network).to(preds.device)
    a, b = (to_model(x.flatten(0, -4)) for x in (preds, target))
    with torch.no_grad():
        each = [net(p, t, normalize=False).flatten() for p, t in zip(a.split(BATCH), b.split(BATCH), strict=True)]
    return torch.cat(each).view(preds.shape[:-3]).cpu()


@lru_cache(maxsize=1)
def _lpips(network: str) -> torch.nn.Module:
    if network not in LPIPS:
        raise UnknownName("network of LPIPS", network, LPIPS)
    instead = "SSIM, RMSE and PSNR need nothing"
    try:
        import torchvision  # noqa: F401
        from torchmetrics.functional.image.lpips import _NoTrainLpips
    except (ImportError, RuntimeError) as error:
        raise ExtraMissing(
            f"LPIPS needs torchvision, which cannot be imported ({error}): install it with `pip install 'wamlab[fid]'`. {instead}"
        ) from error
    try:
        return _NoTrainLpips(net=network)
    except OSError as error:  # the download
        raise WeightsMissing(
            f"the weights of {network} are not in {torch.hub.get_dir()} and could not be downloaded ({error}): "
            f"run it once where there is a network, and copy that folder. {instead}"
        ) from error


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


def delta_cosine(preds: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """Cosine of the angle between the predicted and the true change since the present, of (..., c, h, w) latents -> (...).

    Higher is better. A copy of the present changes nothing and has 0, however near to the truth it is.

    >>> present = torch.ones(1, 1, 1)
    >>> delta_cosine(torch.tensor([3.0, 0.0, 1.0]).view(3, 1, 1, 1), 2 * torch.ones(3, 1, 1, 1), present)
    tensor([ 1., -1.,  0.])
    """
    _same(preds, target)
    return cosine_similarity(preds - present, target - present)


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
