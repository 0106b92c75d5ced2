"""What the tests share: a drive with known answers, made without a renderer; a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wamlab.geometry import curvature_to_steering
from wamlab.notebooks.browser import find_browser
from wamlab.world.images import jpeg
from wamlab.world.nuscenes import write_scene, write_tables
from wamlab.world.recording import AgentTrack, CanBus, Film, Recording

WIDTH, HEIGHT = 96, 64
START_US = 1_893_456_000_000_000


#: How long the drives of the `small_world` fixture are.
WORLD_SECONDS = 3.0


def launched() -> Iterator[Any]:
    """Chromium for as long as a fixture lives, or a skip that says what is missing."""
    path = find_browser()
    if not path:
        pytest.skip("no Chromium: install Debian's `chromium`, or name another one in WAMLAB_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def arc(t: np.ndarray, speed_mps: float, curvature: float, origin: tuple[float, float] = (120.0, 120.0)) -> np.ndarray:
    """(T, 3) poses on a circle (a line where the curvature is 0), at `origin` heading along x when t = 0."""
    s = speed_mps * np.asarray(t)
    yaw = curvature * s
    x = np.sin(yaw) / curvature if curvature else s
    y = (1 - np.cos(yaw)) / curvature if curvature else 0 * s
    return np.stack([origin[0] + x, origin[1] + y, yaw], axis=1)


def make_recording(
    name: str = "scene-0001",
    split: str = "train",
    frames: int = 12,
    speed_mps: float = 8.0,
    curvature: float = 0.02,
    **changes: object,
) -> Recording:
    """A constant-curvature drive at 2 Hz behind one moving car, with gradient images and 50 Hz signals."""
    number = int(name[-4:])
    t, dense = np.arange(frames) / 2, np.arange(-10, frames * 25 + 10) / 50
    start_us = START_US + 60_000_000 * number
    pose, can_pose = arc(t, speed_mps, curvature), arc(dense, speed_mps, curvature)
    gradient = np.linspace(0, 200, WIDTH, dtype=np.uint8)[None, None, :, None]
    shade = (np.arange(frames, dtype=np.uint8) * 4 + number % 8)[:, None, None, None]
    images = np.broadcast_to(gradient + shade, (frames, HEIGHT, WIDTH, 3)).copy()
    lead = arc(t + 15 / speed_mps, speed_mps, curvature)
    visibility = np.full(frames, 4)
    visibility[0] = 0
    car = AgentTrack(
        category="vehicle.car",
        size_m=(1.9, 4.5, 1.6),
        pose=lead,
        z_m=np.full(frames, 0.8),
        velocity_mps=speed_mps * np.stack([np.cos(lead[:, 2]), np.sin(lead[:, 2])], axis=1),
        attribute=("vehicle.moving",) * frames,
        visibility=visibility,
    )
    ones = np.ones(len(dense))
    can = CanBus(
        timestamps_us=start_us + np.round(dense * 1e6).astype(np.int64),
        pose=can_pose,
        speed_mps=speed_mps * ones,
        accel_mps2=np.stack([0.1 * dense, speed_mps**2 * curvature * ones], axis=1),
        yaw_rate_radps=speed_mps * curvature * ones,
        steering_rad=float(curvature_to_steering(curvature)) + 0.01 * dense,
        brake=0 * ones,
        throttle=0.2 * ones,
    )
    mask = np.zeros((480, 640), np.uint8)
    mask[200:300] = 255  # y 90 .. 140 m at 0.5 m a pixel, row 0 at y = 240 m
    fields = dict(
        name=name,
        split=split,
        description="Night, urban, rain, keep the lane",
        timestamps_us=start_us + np.round(t * 1e6).astype(np.int64),
        ego_pose=pose,
        can=can,
        agents=(car,),
        route=arc(np.linspace(-5, frames / 2 + 5, 60), speed_mps, curvature)[:, :2],
        map_mask=mask,
        map_resolution_m=0.5,
        attributes={"place": "urban"},
    )
    fields |= changes
    film = Film(
        channel="CAM_FRONT",
        translation_m=np.array([1.7, 0.0, 1.5]),
        rotation=np.array([0.5, -0.5, 0.5, -0.5]),
        timestamps_us=fields["timestamps_us"],
        ego_pose=fields["ego_pose"],
        shots=tuple(map(jpeg, images)),
        intrinsics=np.array([[80.0, 0, WIDTH / 2], [0, 80.0, HEIGHT / 2], [0, 0, 1]]),
        size=(WIDTH, HEIGHT),
    )
    return Recording(**({"films": (film,)} | fields))


def make_dataset(root: Path, scenes: dict[str, str] | None = None, **drive: object) -> Path:
    """A dataset of `scenes` (name -> split), by default one scene a split."""
    scenes = scenes or {"scene-0001": "train", "scene-0002": "val", "scene-0003": "test"}
    for name, split in scenes.items():
        write_scene(root, make_recording(name, split, **drive))
    write_tables(root, scenes)
    return root


class MeanCodec:
    """The mean colour of 8 x 8 patches: (N, 3, H, W) -> (N, 3, H/8, W/8)."""

    name, digest, channels, downsample = "mean", "0" * 8, 3, 8

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(frames, self.downsample)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents, scale_factor=self.downsample).clamp(-1, 1)


class IdentityCodec:
    """Frames as their own latents."""

    name, digest, channels, downsample = "identity", "1" * 8, 3, 1

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return frames

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.clamp(-1, 1)
