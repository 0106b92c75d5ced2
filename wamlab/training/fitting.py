"""A named world model, trained on a dataset: what notebooks call."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from torch import nn

from wamlab.config import digest, runs_dir, to_dict
from wamlab.errors import DatasetIncomplete, InvalidParameter
from wamlab.models import BASELINES, build_model, model_config, recipe_name
from wamlab.training.loop import fit
from wamlab.training.randomness import seeded, spread
from wamlab.types import Codec, Scene

if TYPE_CHECKING:
    from wamlab.data import Dataset
    from wamlab.data.dataset import OnDamage
    from wamlab.data.latents import LatentStore
    from wamlab.data.windows import LatentWindows
    from wamlab.presets import Preset

#: The training windows from which normalisation statistics are taken, evenly spaced.
STATISTICS_WINDOWS = 512


def fit_or_load(
    model_name: str,
    preset: Preset,
    dataset: Dataset,
    codec: Codec,
    store: LatentStore,
    seed: int = 0,
    progress: bool = True,
    resume: bool = True,
    on_damage: OnDamage = "refuse",
    on_log: Callable[[Path], None] | None = None,
) -> nn.Module:
    """The model, trained: from an earlier call where everything that decides its weights was the same, else by training it now.

    A recipe with a `start` goes on from that model's weights, which are got in the same way.

    Its run lives in `run_folder`; one that was cut short goes on where it was, and a second process waits for the first. Returns the
    moving average in eval mode. `on_damage` is as `LatentWindows` takes it, `on_log` as `fit` does.

    Raises `UnknownName`, `DatasetIncomplete` (a split without scenes), `HorizonTooLong`, `ImageDamaged`, `InvalidParameter` (a start
    of another network), and what `fit` raises.
    """
    from wamlab.data.windows import LatentWindows, collate

    model = seeded(seed, build_model, model_name, preset, codec)
    if model_name in BASELINES:
        model.see_as(scenes_of(dataset, "train")[0])
        return model.eval()
    recipe = getattr(preset, recipe_name(model_name))
    shape = (preset.num_context, preset.horizon, preset.stride)
    train_set, val_set = (
        LatentWindows(scenes_of(dataset, split), store, *shape, on_damage=on_damage) for split in ("train", "val")
    )
    if recipe.sampling == "motion":
        train_set.weights = np.sqrt(latent_motion(train_set))

    def prepare(model: nn.Module) -> None:
        if recipe.start:
            how = {"progress": progress, "resume": resume, "on_damage": on_damage, "on_log": on_log}
            first = fit_or_load(recipe.start, preset, dataset, codec, store, seed, **how).state_dict()
            if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in model.state_dict().items()}:
                raise InvalidParameter(
                    f"{model_name} cannot start from {recipe.start}: their networks differ; give both recipes the same sizes, "
                    f"or set {recipe_name(model_name)}.start to none"
                )
            model.load_state_dict(first)
            return
        batches = [collate([train_set[i] for i in spread(len(train_set), STATISTICS_WINDOWS)])]
        model.fit_normalization(batches)
        if hasattr(model, "fit_anchor"):
            model.fit_anchor(batches, codec)

    folder = run_folder(model_name, preset, dataset, codec, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(folder / ".lock") if is_main() else nullcontext()
    ):  # the processes of one distributed run share the lock
        return fit(
            model,
            train_set,
            val_set,
            recipe.train,
            folder,
            identity=_identity(model_name, preset, dataset, codec, seed),
            prepare=prepare,
            collate=collate,
            seed=seed,
            resume=resume,
            progress=progress,
            on_log=on_log,
        )


def is_main() -> bool:
    """Whether this is the only process of a run, or the first of those that a launcher started."""
    return int(os.environ.get("RANK", 0)) == 0


def run_folder(model_name: str, preset: Preset, dataset: Dataset, codec: Codec, seed: int = 0) -> Path:
    """`runs/models/<model>-<digest>`: the digest is of all that decides the weights (model, training settings, data, codec, seed)."""
    settings = getattr(preset, recipe_name(model_name)).train.identity()
    identity = _identity(model_name, preset, dataset, codec, seed)
    return runs_dir() / "models" / f"{model_name}-{digest(identity, settings, seed)}"


def scenes_of(dataset: Dataset, split: str) -> list[Scene]:
    """The scenes of a split. Raises `DatasetIncomplete` when there are none."""
    scenes = dataset.scenes(split)
    if not scenes:
        raise DatasetIncomplete(f"dataset {dataset.name} has no {split} scene; training needs some in train and val")
    return scenes


def latent_motion(windows: LatentWindows) -> np.ndarray:
    """(N,) of each window, from its present to its horizon: how far the latents move from one frame to the next, root mean square."""
    squared = {}
    for name in dict(windows.index):
        latents = windows.store.read(name).float()  # (T, c, h, w)
        squared[name] = (latents[1:] - latents[:-1]).square().mean(dim=(1, 2, 3)).double().numpy()
    return np.sqrt([squared[name][t : t + windows.horizon].mean() for name, t in windows.index])


def _identity(model_name: str, preset: Preset, dataset: Dataset, codec: Codec, seed: int) -> dict[str, Any]:
    recipe = getattr(preset, recipe_name(model_name))
    return {
        "model": {"name": model_name, **to_dict(model_config(model_name, preset, codec))},
        "data": {
            "dataset": dataset.fingerprint,
            "codec": codec.digest,
            "resolution": preset.resolution,
            "stride": preset.stride,
            **({"sampling": recipe.sampling} if recipe.sampling != "uniform" else {}),
        },
        **({"start": run_folder(recipe.start, preset, dataset, codec, seed).name} if recipe.start else {}),
    }
