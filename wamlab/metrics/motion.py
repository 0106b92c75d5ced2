"""What moves in a video, and how far: displacements of whole pictures, coarse and fine change, and agreement with the truth's motion.

One displacement for a whole picture; what moved where, pixel by pixel, is `wamlab.world.flow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.data.frames import centre_square
from wamlab.errors import InvalidShape
from wamlab.statistics import Interval, Undefined, bootstrap_ratio
from wamlab.world.flow import Flow, warp

#: The low-pass of the DiT-WAM paper's motion decomposition, pixels.
KERNEL, SIGMA = 31, 8.0
#: A step moves the picture if it does so by at least what rounds to a pixel, the finest the paper's measure tells.
THRESHOLD_PX = 0.5


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


def band_motion(frames: Tensor) -> tuple[Tensor, Tensor]:
    """How much (..., T, 3, H, W) uint8 videos change from frame to frame, coarsely and finely -> two (...), grey levels.

    The means over steps of `band_steps` (DiT-WAM, section 4.4).
    """
    low, high = band_steps(frames)
    return low.mean(-1), high.mean(-1)


def band_steps(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Coarse and fine change in each step of (..., T, 3, H, W) uint8 videos -> two (..., T - 1), grey levels.

    low_i = RMS(g(x_{i+1}) - g(x_i)), with g a Gaussian of `KERNEL` pixels and `SIGMA` (borders mirrored); high_i = the same of the
    remainder x - g(x). Raises `InvalidShape` for fewer than two frames, or frames of 15 pixels or less.
    """
    if frames.ndim < 5 or frames.shape[-4] < 2 or min(frames.shape[-2:]) <= KERNEL // 2:
        raise InvalidShape(
            f"motion needs videos (..., T, 3, H, W) of 2 frames or more, of over {KERNEL // 2} pixels, not {tuple(frames.shape)}"
        )
    down, across = (_smoothing(n).to(frames.device) for n in frames.shape[-2:])
    low, high = [], []
    for video in frames.flatten(0, -5):
        step = video.float().diff(dim=0)  # (T - 1, 3, H, W): filtering is linear
        coarse = down @ step @ across.T
        low.append(coarse.square().mean((1, 2, 3)).sqrt())
        high.append((step - coarse).square().mean((1, 2, 3)).sqrt())
    shape = (*frames.shape[:-4], -1)
    return torch.stack(low).view(shape), torch.stack(high).view(shape)


@lru_cache(maxsize=4)
def _smoothing(n: int) -> Tensor:
    """(n, n) float32: what the Gaussian does to n pixels in a row, borders mirrored."""
    x = torch.arange(KERNEL, dtype=torch.float64) - KERNEL // 2
    kernel = (-(x**2) / (2 * SIGMA**2)).softmax(0)
    source = (
        torch.arange(n)[:, None] + x.long()
    )  # (n, KERNEL): the pixels that each is made of, before they are mirrored
    source = n - 1 - (n - 1 - source.abs()).abs()
    return torch.zeros(n, n).double().scatter_add_(1, source, kernel.expand(n, -1)).float()


@dataclass(frozen=True)
class MotionSteps:
    """What each step of N videos does: coarse and fine change (N, T - 1), grey levels; displacement (N, T - 1, 2), px right and down."""

    low: Tensor
    high: Tensor
    shift_px: Tensor


def motion_steps(frames: Tensor, robust: bool = False) -> MotionSteps:
    """Of (N, T, 3, H, W) uint8 videos. A picture without contrast is taken as not displaced. Raises as `band_steps`."""
    return MotionSteps(
        *band_steps(frames), displacement_px(frames[:, :-1], frames[:, 1:], robust).nan_to_num().double()
    )


def motion_terms(
    preds: MotionSteps, target: MotionSteps, threshold_px: float = THRESHOLD_PX
) -> dict[str, tuple[Tensor, Tensor]]:
    """Each score of `MotionScores` is a ratio of two sums over videos and steps: what they add up, (N, T - 1) each."""
    p, t = preds.shift_px, target.shift_px
    p_px, t_px = p.norm(dim=-1), t.norm(dim=-1)
    both = (p_px >= threshold_px) & (t_px >= threshold_px)
    cosine = torch.where(both, (p * t).sum(-1) / (p_px * t_px).clamp_min(1e-12), 0)
    return {
        "low": (preds.low, target.low),
        "high": (preds.high, target.high),
        "magnitude": (p_px, t_px),
        "direction": (cosine, both),
        "slope": ((p * t).sum(-1), t_px**2),
    }


@dataclass(frozen=True)
class MotionScores:
    """How predicted videos move against the truth; 1 is the truth's own, and `steps` of `num_steps` count for `direction`.

    Attributes:
        low, high: coarse and fine change, over the truth's. magnitude: mean length of the displacements, over the truth's.
        direction: mean cosine of the angle between predicted and true displacement, over steps in which both are at least the threshold.
        slope: of the predicted displacements on the true ones, through the origin: 1 where the picture moves as far as it should and in
            its direction, 0 where it does not move or moves anyhow.
    """

    low: Interval | Undefined
    high: Interval | Undefined
    magnitude: Interval | Undefined
    direction: Interval | Undefined
    slope: Interval | Undefined
    steps: int
    num_steps: int


def motion_scores(
    preds: Tensor,
    target: Tensor,
    rng: np.random.Generator,
    scenes: Sequence[str] | None = None,
    threshold_px: float = THRESHOLD_PX,
    robust: bool = False,
) -> MotionScores:
    """Coarse and fine motion and displacements of (N, T, 3, H, W) uint8 videos against the true ones, with intervals over scenes.

    A picture without contrast is taken as not displaced. `scenes` (N,): whose each video is, by default a scene each.

    Raises `InvalidShape` for videos of different shapes, and as `band_motion`.
    """
    if preds.shape != target.shape or preds.ndim != 5:
        raise InvalidShape(
            f"preds and target must be of one shape (N, T, 3, H, W), not {tuple(preds.shape)} and {tuple(target.shape)}"
        )
    terms = motion_terms(motion_steps(preds, robust), motion_steps(target, robust), threshold_px)
    both = terms["direction"][1]
    scores = {
        name: _ratio(*pair, rng, scenes, undefined(name, both.numel(), threshold_px)) for name, pair in terms.items()
    }
    return MotionScores(**scores, steps=int(both.sum()), num_steps=both.numel())


def undefined(score: str, num_steps: int, threshold_px: float = THRESHOLD_PX) -> str:
    """Why a score of so many steps cannot be measured where all its denominators are 0."""
    if score in ("low", "high"):
        return "the truth does not change"
    if score == "direction":
        return f"no step of {num_steps} is displaced by {threshold_px:g} px in both prediction and truth"
    return "the truth is displaced nowhere"


def squared_flow(flow: Flow, resolution: int) -> Flow:
    """The flow of frames that are cropped to the middle square and resized to `resolution` pixels, as `load_frames` does it.

    Each pixel has the flow of the nearest one before; what leaves the square is no longer visible.
    """
    height, width = flow.visible.shape[-2:]
    left, top, right, bottom = centre_square(width, height)
    cut = torch.cat([flow.displacement_px, flow.visible[:, None].float()], 1)[..., top:bottom, left:right]
    cut = F.interpolate(cut, (resolution, resolution), mode="nearest-exact")
    displacement = cut[:, :2] * (resolution / (right - left))
    middle = torch.arange(resolution, device=cut.device) + 0.5
    place = torch.stack(torch.meshgrid(middle, middle, indexing="xy")) + displacement
    return Flow(displacement, (cut[:, 2] > 0.5) & ((place >= 0) & (place < resolution)).all(1))


def flow_agreement(
    frames: Tensor, flows: Sequence[Flow], rng: np.random.Generator, scenes: Sequence[str] | None = None
) -> Interval | Undefined:
    """Whether (N, T + 1, 3, H, W) uint8 videos move as the true optical flow says, each `Flow` of T steps: 1 exactly, 0 as well as not.

    Frame i + 1 is fetched back along the flow to where its points were in frame i; with w the squared error that is left there and s that
    of the frames as they stand, both over the pixels that stay visible, the agreement is sum (s - w) / sum (s + w). Nothing is estimated
    in the predictions. A video that stands still has -1. The truth's own is below 1 since light does not move with things: show it beside.

    Raises `InvalidShape` where there is not a flow for each step.
    """
    wanted = (frames.shape[1] - 1, *frames.shape[-2:])
    shapes = [tuple(flow.visible.shape) for flow in flows]
    if len(flows) != len(frames) or any(shape != wanted for shape in shapes):
        raise InvalidShape(f"videos {tuple(frames.shape)} need {len(frames)} flows of {wanted}, not {shapes}")
    left = []
    for video, flow in zip(frames.float(), flows, strict=True):
        before, after = video[:-1], video[1:]
        seen = flow.visible[:, None] & ~flow.displacement_px.isnan().any(1, keepdim=True)
        fetched = warp(after, flow.displacement_px.nan_to_num())
        left.append([float(((x - before).square() * seen).double().sum()) for x in (fetched, after)])
    warped, still = np.array(left).T
    return _ratio(still - warped, still + warped, rng, scenes, "no pixel of the videos changes")


def _ratio(
    numerator: Tensor | np.ndarray,
    denominator: Tensor | np.ndarray,
    rng: np.random.Generator,
    scenes: Sequence[str] | None,
    reason: str,
) -> Interval | Undefined:
    """The ratio of the sums over videos (N,) and, if there are any, steps (N, T); marked where the denominator is 0."""
    a, b = (np.asarray(x, float).reshape(len(x), -1).sum(1) for x in (numerator, denominator))
    return bootstrap_ratio(a, b, rng, scenes=scenes) if b.any() else Undefined(reason)
