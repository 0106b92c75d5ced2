"""Frames and clips of many scenes in memory with their labels, and the batches made of them. No objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wamlab.data import Dataset
from wamlab.data.clips import film_of, filmed
from wamlab.data.frames import load_frames
from wamlab.types import Scene


@dataclass(frozen=True)
class Batch:
    """frames: (B, T, 3, S, S) uint8, T = 1 unless they are clips; labels: (B, K) float32."""

    frames: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.frames.to(device, non_blocking=True), self.labels.to(device, non_blocking=True))


class Frames(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Every frame of some scenes, or every clip that shows no frame twice, decoded once; an item is (T, 3, S, S) uint8 and its labels (K,).

    Items go through the scenes side by side: the first frame of each, the second of each, … So a few neighbours are of many scenes.
    `pace` says in words how fast clips are; it is empty for frames.

    Raises what `load_frames` and `labels` raise.
    """

    def __init__(
        self,
        dataset: Dataset,
        scenes: Sequence[Scene],
        resolution: int,
        num_frames: int = 1,
        labels: Callable[[Scene], Tensor] = lambda scene: torch.zeros(len(scene), 0),
    ) -> None:
        self.pace, count = "", 0
        frames, clips, known, times = [], [], [], []
        for scene in scenes:
            ends = np.arange(len(scene))
            wanted, source = ends[:, None], scene
            if num_frames > 1:
                film = film_of(dataset, scene)
                whole = [t for t in range(len(scene)) if film.is_whole(t, num_frames)]
                ends = np.array(whole or range(len(scene)))
                wanted = np.stack([film.clip(t, num_frames) for t in ends])
                source = filmed(scene, film)
                self.pace = f"{film.rate_hz:.0f} frames a second (a clip spans {num_frames / film.rate_hz:.1f} s), "
            needed, places = np.unique(wanted, return_inverse=True)
            known.append(labels(scene)[ends])
            frames.append(load_frames(source, needed.tolist(), resolution))
            clips.append(torch.from_numpy(places.reshape(wanted.shape)) + count)
            times.append(torch.arange(len(ends)))
            count += len(needed)
        order = torch.cat(times).argsort(stable=True)
        self.frames, self.clips, self.labels = torch.cat(frames), torch.cat(clips)[order], torch.cat(known)[order]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.frames[self.clips[i]], self.labels[i]


def collate(items: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """Items of `Frames` as a batch."""
    frames, labels = zip(*items, strict=True)
    return Batch(torch.stack(frames), torch.stack(labels))
