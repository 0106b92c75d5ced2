"""What each encoder's patches know of the scene: the semantic classes read out by nearest neighbours, on a dataset with labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.analysis.side_by_side import AT_ONCE, side_by_side
from wamlab.data.embeddings import EmbeddingStore
from wamlab.data.frames import load_frames
from wamlab.data.labels import load_semantic
from wamlab.metrics.readout import IGNORE, build_memory, confusion, mean_iou_interval, read_out
from wamlab.types import Scene
from wamlab.world.primitives import Semantic

NUM_CLASSES = len(Semantic)
#: In the column `encoder` of the classes that are commonest at each pixel, whatever the frame shows.
NO_ENCODER = "no encoder"


@dataclass(frozen=True)
class Readout:
    """Attributes:
    table: encoder, mean, low, high, n: the mean IoU of all test frames together, its interval over scenes.
    frames, truth: the first test frames (K, 3, R, R) and their classes (K, R, R); predicted: by encoder, (K, R, R).
    """

    table: pd.DataFrame
    frames: Tensor
    truth: Tensor
    predicted: Mapping[str, Tensor]


def dense_readout(
    stores: Mapping[str, EmbeddingStore],
    train: Sequence[Scene],
    test: Sequence[Scene],
    seed: int = 0,
    resolution: int = 128,
    num_kept: int = 4,
    frame: Callable[[Scene], int] = lambda scene: len(scene) // 2,
) -> Readout:
    """One `frame` of each training scene, by default the middle one, is remembered, one of each test scene is read out.

    Every encoder is asked about the part of the frame that it sees. `resolution`: of the class maps, pixels.

    Raises `LabelsMissing` for recorded scenes.
    """
    known, asked = (torch.cat([_labels(scene, frame, resolution) for scene in scenes]) for scenes in (train, test))
    names = [scene.name for scene in test]
    predicted = {NO_ENCODER: F.one_hot(known.long(), NUM_CLASSES).sum(0).argmax(-1).expand_as(asked)}
    rows = [_row(NO_ENCODER, predicted[NO_ENCODER], asked, names, seed)]

    def told(store: EmbeddingStore) -> tuple[Tensor, Tensor]:
        remembered, seen = (_features(store, scenes, frame) for scenes in (train, test))
        generator = torch.Generator().manual_seed(seed)
        memory = build_memory(remembered, store.codec.visible(known), NUM_CLASSES, generator)
        truth = store.codec.visible(asked)
        return read_out(memory, seen, tuple(truth.shape[-2:]), k=min(30, len(memory.keys))), truth

    at_once = 1 if torch.cuda.is_available() else AT_ONCE
    for name, (maps, truth) in zip(stores, side_by_side(told, stores.values(), at_once), strict=True):
        predicted[name] = maps
        rows.append(_row(name, maps, truth, names, seed))
    frames = torch.cat([load_frames(scene, [frame(scene)], resolution) for scene in test[:num_kept]])
    kept = {name: _whole(maps[:num_kept], resolution) for name, maps in predicted.items()}
    return Readout(pd.DataFrame(rows), frames, asked[:num_kept], kept)


def _labels(scene: Scene, frame: Callable[[Scene], int], resolution: int) -> Tensor:
    return torch.from_numpy(load_semantic(scene, [frame(scene)], resolution))


def _features(store: EmbeddingStore, scenes: Sequence[Scene], frame: Callable[[Scene], int], batch: int = 16) -> Tensor:
    parts = []
    for first in range(0, len(scenes), batch):
        inputs = [store.inputs(scene, [frame(scene)]) for scene in scenes[first : first + batch]]
        parts.append(store.codec.features(torch.cat(inputs)).cpu())
    return torch.cat(parts)


def _row(name: str, predicted: Tensor, truth: Tensor, scenes: Sequence[str], seed: int) -> dict[str, object]:
    counts = confusion(predicted, truth, NUM_CLASSES)
    return {"encoder": name, **vars(mean_iou_interval(counts, scenes, np.random.default_rng(seed)))}


def _whole(maps: Tensor, resolution: int) -> Tensor:
    """Maps of the part that was seen, in the middle of whole frames; the rest is `IGNORE`."""
    out = torch.full((len(maps), resolution, resolution), IGNORE, dtype=torch.uint8)
    top, left = ((resolution - size) // 2 for size in maps.shape[-2:])
    out[:, top : top + maps.shape[-2], left : left + maps.shape[-1]] = maps.to(torch.uint8)
    return out
