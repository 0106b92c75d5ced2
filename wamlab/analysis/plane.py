"""Every point of the perception-distortion plane, predicted and looked at, one after the other; tables with a row a scene. No judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab.analysis.dials import Setting, ceiling, predictions
from wamlab.analysis.frontier import Seen, cells, see, spread_cells
from wamlab.analysis.predicting import Candidate, predict
from wamlab.analysis.rollouts import decode
from wamlab.analysis.windows import Windows
from wamlab.data.latents import LatentStore
from wamlab.errors import ExtraMissing, WeightsMissing
from wamlab.metrics.features import Extractor, encoder_features, inception_features
from wamlab.metrics.samples import diversity, memorization
from wamlab.presets import Preset
from wamlab.training.randomness import spread
from wamlab.types import Codec, Scene

#: In place of an encoder's name: the network whose distances are FID and KID.
INCEPTION = "inception-v3"
#: In tables, from a draw to another draw of the same future, and from a draw to the truth.
APART, OFF = "between two draws", "from a draw to the truth"


@dataclass(frozen=True)
class Measured:
    """Of all points: settings and, of the first training seed, what was seen; and tables with a row a variant, seed and scene.

    cells: of every step (see `cells`). sigma: see `spread_cells`. draws: apart, of the variants `APART` and `OFF`. memory: nearest, the
    distance to the nearest training frame. repeated: share of frames that repeat one. weights: where the models are from.
    """

    settings: Mapping[str, Setting]
    seen: Mapping[str, Seen]
    cells: pd.DataFrame
    sigma: pd.DataFrame
    draws: pd.DataFrame
    memory: pd.DataFrame
    repeated: Mapping[str, float]
    weights: str


def extractor_of(name: str, settings: Preset, device: torch.device | str = "cpu") -> Extractor:
    """`INCEPTION`, or an encoder as `load_encoder` takes it. By default, with the preset `paper` Inception where `wamlab[fid]` and its
    weights are there, and else the encoder of the preset's diagnosis.

    Raises as `inception_features` and `encoder_features`.
    """
    if name == INCEPTION:
        return inception_features(device)
    if not name and settings.name == "paper":
        try:
            return inception_features(device)
        except (ExtraMissing, WeightsMissing):
            pass  # the encoder's name stands beside every number
    return encoder_features(name or settings.diagnosis.encoder, device)


def hardest_to_easiest(windows: Windows, count: int) -> list[int]:
    """Which windows are shown: at most `count`, evenly from those whose pictures change most to those that change least."""
    change = (windows.truth[:, -1] - windows.context[:, -1]).square().mean((1, 2, 3))
    order = change.argsort(descending=True).tolist()
    return [order[i] for i in spread(len(order), count)]


def training_features(
    scenes: Sequence[Scene], store: LatentStore, codec: Codec, extractor: Extractor, count: int
) -> Tensor:
    """(M, d) of training frames, decoded from their latents as predictions are; `count` evenly spread ones, 0: all."""
    index = [(scene, t) for scene in scenes for t in range(len(scene))]
    chosen = [index[i] for i in spread(len(index), count or len(index))]
    store.fill(list({scene.name: scene for scene, _ in chosen}.values()), progress=False)
    parts = []
    for first in range(0, len(chosen), 64):
        z = torch.stack([store.read(scene.name)[t].float() for scene, t in chosen[first : first + 64]])
        parts.append(extractor(decode(codec, z)))
    return torch.cat(parts)


def measure(
    models: Mapping[int, Mapping[str, Any]],
    windows: Windows,
    store: LatentStore,
    train: Sequence[Scene],
    codec: Codec,
    extractor: Extractor,
    real: Tensor,
    memories: Tensor,
    picked: Sequence[int],
    how: Mapping[str, Any],
    strength: float = 1.0,
    calibration_windows: int = 64,
    weights: str = "",
) -> Measured:
    """Predict and look at every point of every training seed. models: seed -> name -> model; `how`: steps and guidance."""
    known, first, repeated, last = {}, {}, {}, windows.horizon
    tables, sigma, draws, memory = [], [], [], []
    for s, found in models.items():
        counts = {"strength": strength, "calibration_windows": calibration_windows, "seed": s}
        rolled = predictions(found, windows, store, train, **how, **counts)
        held_out = None
        for setting, latents in chain([ceiling(windows)], rolled):
            labels = {"variant": setting.name, "seed": s}
            seen = see(latents, windows, codec, extractor, None if setting.whole else [last], picked)
            tables.append(cells(seen, real, windows, extractor, **labels))
            sigma.append(spread_cells(latents[:, -1], windows.truth[:, -1], windows.scenes, step=last, **labels))
            held_out = seen.features[:, -1] if held_out is None else held_out
            if setting.whole:
                near = memorization(seen.features[:, -1], held_out, memories, np.random.default_rng(s), windows.scenes)
                memory.append(pd.DataFrame({**labels, "scene": windows.scenes, "nearest": near.generated}))
                repeated.setdefault(setting.name, near.repeated)
            if setting.name == "diffusion":
                draws.append(draw_cells(found[setting.name], latents, windows, how, s))
            known.setdefault(setting.name, setting)
            first.setdefault(setting.name, seen)
    joined = (pd.concat(parts, ignore_index=True) for parts in (tables, sigma, draws, memory))
    return Measured(known, first, *joined, repeated, weights)


def draw_cells(model: Any, drawn: Tensor, windows: Windows, how: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """variant, seed, scene, apart: RMS distance of latents at the last step, from a second draw (`APART`) and the truth (`OFF`)."""
    again = predict(Candidate(model, {**how, "strength": 1.0}), windows.context, windows.actions, seed + 1)
    pairs = {APART: (drawn, again), OFF: (drawn, windows.truth)}
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "variant": name,
                    "seed": seed,
                    "scene": windows.scenes,
                    "apart": diversity(torch.stack([a[:, -1], b[:, -1]], 1)).numpy(),
                }
            )
            for name, (a, b) in pairs.items()
        ],
        ignore_index=True,
    )
