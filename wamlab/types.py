"""The nouns of the project, with their shapes and units. No I/O, and no torch at run time.

Ego frame: x forward, y left, yaw counter-clockwise; origin at the rear axle on the ground (as in nuScenes).
Images are (T, C, H, W) uint8; inside codecs they are float in [-1, 1] (`wamlab.render` converts).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

#: Columns of every action array: steering-wheel angle (left positive), longitudinal acceleration, speed.
ACTIONS = ("steering_rad", "accel_mps2", "speed_mps")
#: Where the route goes over the horizon.
COMMANDS = ("left", "right", "straight")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Scene:
    """One drive.

    Attributes:
        name: `scene-0001`.
        split: one of `SPLITS`.
        timestamps_s: (T,) float64, of the camera keyframes.
        image_paths: T files; `wamlab.data.frames` reads them. None of them where the frames are in a video.
        actions: (T, A) float32, columns `ACTIONS`; row t is the action taken at frame t.
        ego_pose: (T, 3) float64: x_m, y_m, yaw_rad in the global frame.
        description: in words, as in the nuScenes `scene` table.
        attributes: e.g. {"time": "night", "weather": "rain"}.
        intrinsics: (3, 3) float64 for the images as stored.
        image_size: (width, height) of the images as stored, pixels.
        video_path: the file that has the frames, where they are not images.
        video_frames: (T,) int64, which of the video's frames they are, rising.
        world: what made it: the fields of a `SceneSpec`, None for a recorded scene.
    """

    name: str
    split: str
    timestamps_s: np.ndarray
    image_paths: tuple[Path, ...]
    actions: np.ndarray
    ego_pose: np.ndarray
    description: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    intrinsics: np.ndarray | None = None
    image_size: tuple[int, int] | None = None
    video_path: Path | None = None
    video_frames: np.ndarray | None = None
    world: dict | None = None

    def __len__(self) -> int:
        return len(self.timestamps_s)


@dataclass(frozen=True)
class Window:
    """A slice of a scene around a present frame t = `start`.

    Attributes:
        context: (C, 3, H, W) uint8, frames t-C+1 .. t.
        future: (F, 3, H, W) uint8, frames t+1 .. t+F.
        actions: (F, A) float32, a_t .. a_{t+F-1}: the action that leads to each future frame.
        trajectory: (F, 2) float32, x_m forward and y_m left in the ego frame at t.
        command: one of `COMMANDS`.
    """

    context: Tensor
    future: Tensor
    actions: Tensor
    trajectory: Tensor
    command: str
    scene: str
    start: int


@dataclass(frozen=True)
class Batch:
    """Collated windows in latent space: context (B, C, c, h, w), future (B, F, c, h, w), actions (B, F, A)."""

    context: Tensor
    future: Tensor
    actions: Tensor
    scenes: tuple[str, ...]
    starts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.context)

    def to(self, device: torch.device | str) -> Batch:
        moved = {k: getattr(self, k).to(device, non_blocking=True) for k in ("context", "future", "actions")}
        return dataclasses.replace(self, **moved)


class Codec(Protocol):
    """Frame <-> latent, frozen.

    `digest` identifies the weights. `encode`: (N, 3, H, W) float in [-1, 1] -> (N, channels, H/f, W/f), about unit scale.
    `decode`: the reverse, clamped to [-1, 1].
    """

    name: str
    digest: str
    channels: int
    downsample: int

    def encode(self, frames: Tensor) -> Tensor: ...
    def decode(self, latents: Tensor) -> Tensor: ...


class Encoder(Protocol):
    """Frame or clip -> embedding, frozen: what the probes read.

    Attributes:
        digest: identifies the weights and whatever else decides the embeddings.
        num_frames: 1, or how many frames its clips have, the present one last.
        resolution: pixels, the size of square frames that it need not resize.

    All methods take frames (B, 3, H, W), or clips (B, T, 3, H, W) with T <= num_frames if it reads clips, uint8.
    `encode` -> (B, 384). `features` -> (B, h, w, d), one vector a patch of the present. `activations` -> what goes into the last block and
    the gradient of `score` (embeddings (B, 384) -> (B,)) with respect to it, both (B, t, h, w, d). `visible`: maps (..., H, W) of whole
    frames -> the part of them that those patches cover.
    """

    name: str
    digest: str
    num_frames: int
    resolution: int

    def encode(self, frames: Tensor) -> Tensor: ...
    def features(self, frames: Tensor) -> Tensor: ...
    def activations(self, frames: Tensor, score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]: ...
    def visible(self, maps: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Rollout:
    """Predicted futures with what made them: latents (B, F, c, h, w), actions (B, F, A), the model's name, seed and settings."""

    latents: Tensor
    actions: Tensor
    model: str
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)


class WorldModel(Protocol):
    """Predicts the future latents from the context and the actions to come."""

    name: str

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]: ...

    def rollout(
        self,
        context: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        *,
        callback: Callable[[int, int], None] | None = None,
    ) -> Rollout: ...


@dataclass(frozen=True)
class Finding:
    """One claim, what was measured for it, and the verdict (`reproduced`, `not reproduced`, `inconclusive`).

    `measured` and `interval` are None where the data do not give the number; `measured_on` then says why.
    """

    claim: str
    paper: str
    measured: float | None
    interval: tuple[float, float] | None
    unit: str
    verdict: str
    measured_on: str
