"""Frames made harder to read: blur, noise, brightness, occlusion, shuffled order. uint8 in, uint8 out; no models and no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.errors import InvalidParameter, InvalidShape, UnknownName

#: A vehicle whose middle is further aside than this from the path is not in the lane ahead, m.
HALF_LANE_M = 1.75


def perturb(name: str, frames: Tensor, generator: torch.Generator) -> Tensor:
    """Frames (…, 3, H, W) uint8 after the perturbation of that name in `PERTURBATIONS`; `frame order` takes clips (…, T, 3, H, W).

    Raises `UnknownName` for another name, `InvalidShape` for other frames.
    """
    if name not in PERTURBATIONS:
        raise UnknownName("perturbation", name, PERTURBATIONS)
    return PERTURBATIONS[name](frames, generator)


def blur(frames: Tensor, sigma: float = 0.02) -> Tensor:
    """Gaussian blur; `sigma` in heights of the frame, so that a frame of any resolution loses the same detail."""
    _check(frames)
    sigma_px = sigma * frames.shape[-2]
    if not 0 < sigma < 0.25:
        raise InvalidParameter(f"sigma must be in (0, 0.25) heights of the frame, not {sigma}")
    radius = max(1, min(round(3 * sigma_px), min(frames.shape[-2:]) - 1))  # reflection needs a frame wider than that
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=frames.device) / sigma_px) ** 2)
    kernel /= kernel.sum()
    down, right = (_blurring(n, kernel) for n in frames.shape[-2:])
    return _bytes(down.T @ frames.float() @ right)


def noise(frames: Tensor, generator: torch.Generator, std: float = 25.0) -> Tensor:
    """Independent Gaussian noise on every value, `std` in grey levels of 255."""
    _check(frames)
    drawn = torch.randn(frames.shape, generator=generator, device=generator.device).to(frames.device)
    return _bytes(frames + std * drawn)


def brightness(frames: Tensor, gain: float) -> Tensor:
    """Every value times `gain`, cut at 255."""
    _check(frames)
    if not gain > 0:
        raise InvalidParameter(f"gain must be positive, not {gain}")
    return _bytes(frames * gain)


def occlude_third(frames: Tensor, side: str) -> Tensor:
    """The `left` or `right` third of the columns black, as in the paper: is the lane's edge on that side what is read?"""
    _check(frames)
    if side not in ("left", "right"):
        raise UnknownName("side", side, ("left", "right"))
    third, out = round(frames.shape[-1] / 3), frames.clone()
    (out[..., :third] if side == "left" else out[..., -third:]).zero_()
    return out


def occlude_boxes(frames: Tensor, boxes_px: np.ndarray) -> Tensor:
    """Frames (N, 3, H, W) with a black box each: (N, 4) left, top, right, bottom in pixels; a row of NaN leaves its frame as it is.

    Raises `InvalidShape` if there is not one box a frame.
    """
    _check(frames)
    boxes_px = np.asarray(boxes_px, float)
    if frames.ndim != 4 or boxes_px.shape != (len(frames), 4):
        raise InvalidShape(f"frames (N, 3, H, W) need boxes (N, 4), not {tuple(frames.shape)} and {boxes_px.shape}")
    out = frames.clone()
    for frame, box in zip(out, boxes_px, strict=True):
        if np.isfinite(box).all():
            left, top = np.floor(box[:2]).clip(0).astype(int)
            right, bottom = np.ceil(box[2:]).clip(0).astype(int)
            frame[:, top:bottom, left:right] = 0
    return out


def lead_vehicle_box(
    corners_m: np.ndarray,
    intrinsics: np.ndarray,
    image_size: tuple[int, int],
    resolution: int,
    curvature_per_m: float = 0.0,
) -> np.ndarray:
    """Where the nearest vehicle ahead is in the square frame of `load_frames`: (4,) left, top, right, bottom, pixels.

    Ahead is: wholly in front of the camera, its middle within `HALF_LANE_M` of the path that the ego is on, and in the picture. NaN where
    there is none.

    Args:
        corners_m: (K, 8, 3) corners of vehicles in the camera's frame (x right, y down, z forward), as the devkit's `Box.corners().T`.
        intrinsics: (3, 3), and image_size: (width, height), of the image as stored.
        resolution: of the frame, which is the image's middle square.
        curvature_per_m: of the path, left positive, as `wamlab.geometry.steering_to_curvature` has it. Without it a bend hides the vehicle
            ahead, and shows oncoming ones in its place.
    """
    corners_m = np.asarray(corners_m, float).reshape(-1, 8, 3)
    middle = corners_m.mean(1)
    aside_m = middle[:, 0] + curvature_per_m * middle[:, 2] ** 2 / 2
    ahead = (corners_m[..., 2].min(1, initial=np.inf) > 0.5) & (np.abs(aside_m) < HALF_LANE_M)
    for k in np.argsort(middle[:, 2]):
        if not ahead[k]:
            continue
        projected = corners_m[k] @ np.asarray(intrinsics, float).T
        pixels = projected[:, :2] / projected[:, 2:]
        side, size = min(image_size), np.array(image_size)
        pixels = (pixels - (size - side) // 2) * resolution / side
        (left, top), (right, bottom) = pixels.min(0).clip(0, resolution), pixels.max(0).clip(0, resolution)
        if right > left and bottom > top:
            return np.array([left, top, right, bottom])
    return np.full(4, np.nan)


def shuffle_order(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (…, T, 3, H, W) with their frames in a random order, another one for each clip: what is shown stays, how it moves does not."""
    _check(clips)
    if clips.ndim < 4:
        raise InvalidShape(f"a clip is (…, T, 3, H, W); one frame of {tuple(clips.shape)} has no order")
    flat = clips.flatten(0, -5) if clips.ndim > 4 else clips[None]
    order = torch.rand(flat.shape[:2], generator=generator, device=generator.device).argsort(1).to(clips.device)
    return flat[torch.arange(len(flat), device=clips.device)[:, None], order].reshape(clips.shape)


#: The perturbation that needs annotations: `wamlab.data.lead` says where the vehicle is, `occlude_boxes` hides it.
LEAD_VEHICLE = "lead vehicle"
#: Name -> f(frames, generator), of those that need nothing but frames. The last is for clips.
PERTURBATIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": lambda frames, _: frames,
    "blur": lambda frames, _: blur(frames),
    "noise": noise,
    "dark": lambda frames, _: brightness(frames, 0.4),
    "bright": lambda frames, _: brightness(frames, 1.8),
    "left third": lambda frames, _: occlude_third(frames, "left"),
    "right third": lambda frames, _: occlude_third(frames, "right"),
    "frame order": shuffle_order,
}


def _blurring(n: int, kernel: Tensor) -> Tensor:
    """(n, n): x @ it is a row x convolved with the kernel, reflected at its ends: eight times as fast as a convolution of one channel."""
    radius, rows = len(kernel) // 2, torch.eye(n, device=kernel.device)[:, None]
    return F.conv1d(F.pad(rows, (radius, radius), mode="reflect"), kernel[None, None])[:, 0]


def _check(frames: Tensor) -> None:
    if frames.ndim < 3 or frames.shape[-3] != 3 or frames.dtype != torch.uint8:
        raise InvalidShape(f"frames must be (…, 3, H, W) uint8, not {tuple(frames.shape)} {frames.dtype}")


def _bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)
