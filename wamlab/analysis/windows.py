"""Windows of held-out drives that every model is asked about: taken once, from the same places for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wamlab.data.frames import load_frames
from wamlab.data.windows import window_actions, window_starts
from wamlab.errors import InvalidParameter
from wamlab.types import Scene


@dataclass(frozen=True)
class Windows:
    """N windows.

    Attributes:
        scenes, starts, notes: (N,) of each, its scene, present frame and attributes.
        context, truth: latents (N, C, c, h, w) and (N, F, c, h, w). actions: (N, F, A).
        times_s: (F,) since the present.
        real: (N, F, 3, R, R) uint8, what the camera saw, if it was asked for: the one thing here that grows with the number of pixels.
    """

    scenes: tuple[str, ...]
    starts: tuple[int, ...]
    notes: tuple[str, ...]
    context: Tensor
    truth: Tensor
    actions: Tensor
    times_s: np.ndarray
    real: Tensor | None = None

    @property
    def horizon(self) -> int:
        return self.truth.shape[1]

    @property
    def present(self) -> Tensor:
        """(N, c, h, w)."""
        return self.context[:, -1]

    def first(self, frames: int) -> Windows:
        """The same, as many frames ahead."""
        cut = {name: getattr(self, name)[:, :frames] for name in ("truth", "actions")}
        real = None if self.real is None else self.real[:, :frames]
        return dataclasses.replace(self, **cut, times_s=self.times_s[:frames], real=real)


def take_windows(
    scenes: Sequence[Scene], store: Any, num_context: int, horizon: int, per_scene: int = 1, camera: bool = False
) -> Windows:
    """`per_scene` windows of each scene that is long enough, at the middles of as many equal parts of it.

    `store`: a `LatentStore` of theirs. `camera`: with the camera's frames.
    Raises `InvalidParameter` if fewer than two scenes have one.
    """
    starts = {scene.name: window_starts(scene, num_context, horizon) for scene in scenes}
    index = [
        (scene, t)
        for scene in scenes
        if (known := starts[scene.name])
        for t in sorted({known[len(known) * (2 * i + 1) // (2 * per_scene)] for i in range(per_scene)})
    ]
    found = len({scene.name for scene, _ in index})
    if found < 2:
        raise InvalidParameter(
            f"{found} of {len(scenes)} held-out scenes have a window of {num_context} + {horizon} frames; 2 are needed"
        )
    store.fill([scene for scene in scenes if starts[scene.name]])
    z = torch.stack([store.read(scene.name)[t - num_context + 1 : t + horizon + 1].float() for scene, t in index])
    first, t = index[0]
    return Windows(
        tuple(scene.name for scene, _ in index),
        tuple(t for _, t in index),
        tuple(", ".join(scene.attributes.values()) for scene, _ in index),
        z[:, :num_context],
        z[:, num_context:],
        torch.as_tensor(np.stack([window_actions(scene, t, horizon, num_context) for scene, t in index])),
        np.asarray(first.timestamps_s[t + 1 : t + horizon + 1] - first.timestamps_s[t], float),
        torch.stack([load_frames(scene, range(t + 1, t + horizon + 1), store.resolution) for scene, t in index])
        if camera
        else None,
    )
