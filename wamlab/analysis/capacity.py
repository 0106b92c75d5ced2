"""Does a larger model look more real? Two depths of the diffusion model, trained alike from scratch and for as long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from wamlab.analysis.calibration import training_calibration
from wamlab.analysis.claims import Claim
from wamlab.analysis.frontier import level_table, said
from wamlab.analysis.predicting import Candidate, predict
from wamlab.analysis.windows import Windows
from wamlab.config import override
from wamlab.data.latents import LatentStore
from wamlab.models import num_parameters
from wamlab.presets import Preset
from wamlab.training import fit_or_load

SMALL, LARGE = "half as deep", "as deep as the preset's"


def sizes(settings: Preset, train_steps: int) -> dict[str, Preset]:
    """The preset with half its diffusion model's depth, as the paper's smaller model has, and with all of it; trained from scratch."""
    depth = settings.diffusion.model.depth
    same = {"diffusion.start": None, "diffusion.train.steps": train_steps, "diffusion.train.epochs": None}
    return {
        name: override(settings, same | {"diffusion.model.depth": count})
        for name, count in ((SMALL, max(1, depth // 2)), (LARGE, depth))
    }


def probe(
    settings: Preset,
    data: Any,
    codec: Any,
    store: LatentStore,
    windows: Windows,
    measure: Callable[[str, Tensor], pd.DataFrame],
    train_steps: int,
    steps: int,
    calibration_windows: int,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """What `measure` gives of both sizes' calibrated samples; one training seed."""
    tables, train = [], data.scenes("train")
    for name, preset in sizes(settings, train_steps).items():
        model = fit_or_load("diffusion", preset, data, codec, store, seed, progress)
        candidate = Candidate(model, {"steps": steps, "guidance": settings.guidance, "strength": 1.0})
        shape = (settings.num_context, settings.horizon, calibration_windows)
        calibration = training_calibration(candidate, store, train, *shape, seed, batch=8)
        tables.append(measure(name, calibration(predict(candidate, windows.context, windows.actions, seed))))
    return pd.concat(tables, ignore_index=True)


def claim(settings: Preset, codec: Any, train_steps: int) -> Claim:
    """The paper's, with the sizes here."""
    small, large = (
        num_parameters("diffusion", preset, codec) / 1e6 for preset in sizes(settings, max(1, train_steps)).values()
    )
    return Claim(
        "capacity",
        f"A diffusion model of {large:.2g} M parameters looks more real than one of {small:.2g} M, "
        "both calibrated (difference in kernel distance)",
        "KID .0782 against .0891 (5.4 M against 3.0 M)",
        "kd", {LARGE: 1, SMALL: -1}, claimed=-1,
    )  # fmt: skip


def summary(
    table: pd.DataFrame, settings: Preset, codec: Any, train_steps: int, rng: np.random.Generator
) -> pd.DataFrame:
    """A row a size: parameters, training steps, cosine similarity and kernel distance at the last step; with 0 steps, its size."""
    rows = {}
    for name, preset in sizes(settings, max(1, train_steps)).items():
        levels = level_table(table[table.variant == name], ("cosine", "kd"), rng) if train_steps else None
        rows[name] = {
            "parameters": num_parameters("diffusion", preset, codec),
            "training steps": train_steps or "not trained",
            **{
                title: next(map(said, levels[levels.metric == metric].itertuples()), "–") if train_steps else "–"
                for metric, title in (("cosine", "cosine similarity ↑"), ("kd", "kernel distance ↓"))
            },
        }
    return pd.DataFrame.from_dict(rows, orient="index")
