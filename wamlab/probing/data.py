"""What a probe learns from and is tested on: embeddings with the actions at their frames. No encoders and no fitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wamlab.errors import InvalidAction, InvalidParameter, InvalidShape
from wamlab.geometry import every_nth
from wamlab.types import ACTIONS, Scene

#: What a probe predicts.
TARGETS = ACTIONS[:2]


@dataclass(frozen=True)
class Labelled:
    """Embeddings (N, D) float32 of frames, their actions (N, 2) float32 in SI units (`TARGETS`), and the names of their scenes (N,).

    The frames of a scene stand together, in the order of time. `before` (N, 2) are the actions one frame earlier, NaN where there is no
    such frame; by default those of the row before, as if no frame had been left out.
    Raises `InvalidShape` for shapes that do not fit or embeddings that are not finite, `InvalidAction` for an unknown action.
    """

    embeddings: Tensor
    actions: Tensor
    scenes: tuple[str, ...]
    before: Tensor | None = None

    def __post_init__(self) -> None:
        n, shapes = len(self.scenes), (tuple(self.embeddings.shape), tuple(self.actions.shape))
        if self.embeddings.ndim != 2 or shapes != ((n, self.embeddings.shape[1]), (n, len(TARGETS))) or not n:
            raise InvalidShape(
                f"embeddings (N, D), actions (N, 2) and N scenes with N > 0 are needed, not {shapes} and {n}"
            )
        if not self.embeddings.isfinite().all():
            bad = int((~self.embeddings.isfinite().all(1)).nonzero()[0])
            raise InvalidShape(f"the embedding of row {bad}, in {self.scenes[bad]}, is NaN or infinite")
        if not self.actions.isfinite().all():
            bad = int((~self.actions.isfinite().all(1)).nonzero()[0])
            raise InvalidAction(
                f"the action of row {bad}, in {self.scenes[bad]}, is unknown: `collect` leaves such frames out"
            )

        if self.before is None:
            starts = [i == 0 or self.scenes[i] != self.scenes[i - 1] for i in range(n)]
            object.__setattr__(self, "before", self.actions.roll(1, dims=0))
            self.before[torch.tensor(starts)] = torch.nan
        if self.before.shape != self.actions.shape:
            raise InvalidShape(f"before must be {shapes[1]}, as the actions, not {tuple(self.before.shape)}")

    def __len__(self) -> int:
        return len(self.scenes)


class Probe(Protocol):
    """Something fitted that says which action belongs to each embedding.

    `predict` gives (S, N, 2) in SI units, one prediction for each of the `seeds` it was fitted with.
    """

    seeds: tuple[int, ...]

    def predict(self, data: Labelled) -> Tensor: ...


def collect(scenes: Sequence[Scene], embeddings: Mapping[str, Tensor], every: int = 1, run: int = 1) -> Labelled:
    """The frames of some scenes whose action is known, with their embeddings: scene name -> (T, D), of the frames of `every_nth` alone.

    Raises `InvalidShape` where a scene has not one embedding a frame, `InvalidParameter` for a scene without, or no known action at all.
    """
    parts, actions, before, names = [], [], [], []
    for scene in scenes:
        if scene.name not in embeddings:
            raise InvalidParameter(f"no embeddings of {scene.name}: encode it first")
        taken = every_nth(len(scene), every, run)
        if len(embeddings[scene.name]) != len(taken):
            each = "" if every == 1 else f", {len(taken)} of them taken,"
            raise InvalidShape(
                f"{scene.name} has {len(scene)} frames{each} but {len(embeddings[scene.name])} embeddings"
            )
        acted = np.asarray(scene.actions)[:, : len(TARGETS)]
        earlier = np.vstack([np.full((1, len(TARGETS)), np.nan, acted.dtype), acted])[taken]
        known = np.isfinite(acted[taken]).all(axis=1)
        parts.append(embeddings[scene.name][torch.from_numpy(known)].float())
        actions.append(torch.from_numpy(acted[taken][known]).float())
        before.append(torch.from_numpy(earlier[known]).float())
        names += [scene.name] * int(known.sum())
    if not names:
        raise InvalidParameter(f"no frame of {len(scenes)} scenes has a known action")
    device = parts[0].device
    return Labelled(torch.cat(parts), torch.cat(actions).to(device), tuple(names), torch.cat(before).to(device))


@dataclass(frozen=True)
class Scaling:
    """x -> (x - mean) / scale, a column each; `undo` is the reverse."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, x: Tensor) -> Scaling:
        """Mean and standard deviation of (N, D); a column that is constant, up to rounding, is only shifted."""
        mean, scale = x.mean(0), x.std(0, correction=0)
        constant = scale <= 1e-6 * x.abs().amax(0)
        return cls(mean, scale.masked_fill(constant, 1.0))

    def apply(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale

    def undo(self, x: Tensor) -> Tensor:
        return x * self.scale + self.mean
