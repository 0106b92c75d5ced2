"""What `wamlab train` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wamlab.codecs import SMALL_VAE, SmallVae, load_codec
from wamlab.config import override
from wamlab.encoders import ENCODERS, WEIGHTS
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.models import BASELINES, MODELS, recipe_name
from wamlab.training.codec import train_small_vae
from wamlab.training.encoders import train_encoder
from wamlab.training.fitting import fit_or_load, run_folder
from wamlab.training.log import read_log

if TYPE_CHECKING:
    from wamlab.data.dataset import OnDamage
    from wamlab.presets import Preset

#: Every name that `train` takes.
TRAINABLE = (*(name for name in MODELS if name not in BASELINES), SmallVae.name, *ENCODERS)


def train(
    model_name: str,
    dataset_name: str = "synthetic",
    preset: str | Preset = "quick",
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    *,
    seed: int | None = None,
    output: Path | str | None = None,
    progress: bool = True,
    on_damage: OnDamage = "refuse",
) -> Path:
    """Train a world model and return the folder of its run; or `small-vae`, or an embedded encoder, and return where its weights are.

    Args:
        overrides: dotted keys into the preset; `train.…` and `model.…` are short for those of this model's recipe.
        resume: go on from the last checkpoint. Without it a run that was cut short is refused; a finished one is never repeated.
        seed: the preset's first by default.
        output: only for small-vae and the encoders, the folder for weights and model card. By default that of the package: it replaces the
            included ones.
        on_damage: only for world models, what to do with scenes whose images are damaged: `refuse` or `skip` them.

    Raises `UnknownName`, `InvalidParameter`, the dataset's errors, and what `fit` raises.
    """
    from wamlab.data import open_dataset
    from wamlab.data.latents import LatentStore
    from wamlab.presets import get_preset

    if model_name not in TRAINABLE:
        raise UnknownName("model to train", model_name, TRAINABLE)
    if output is not None and model_name in MODELS:
        raise InvalidParameter(
            "output is only for small-vae and the encoders; world models are kept in the runs folder (WAMLAB_RUNS)"
        )
    changes = {_full_key(model_name, key): value for key, value in (overrides or {}).items()}
    preset = override(get_preset(preset) if isinstance(preset, str) else preset, changes)
    seed = preset.seeds[0] if seed is None else seed
    dataset = open_dataset(dataset_name)
    if model_name not in MODELS:
        options = "".join(f" --set {key}={value}" for key, value in changes.items())
        command = f"wamlab train {model_name} --dataset {dataset_name} --preset {preset.name}{options}"
        settings = (command, seed, resume, progress)
        if model_name in ENCODERS:
            return train_encoder(model_name, dataset, preset, Path(output or WEIGHTS), *settings)
        return train_small_vae(dataset, preset, Path(output or SMALL_VAE.parent), *settings)
    codec = load_codec(preset.codec, "cuda" if torch.cuda.is_available() else "cpu")
    store = LatentStore(dataset, codec, preset.resolution)
    fit_or_load(model_name, preset, dataset, codec, store, seed, progress, resume, on_damage)
    return run_folder(model_name, preset, dataset, codec, seed)


def outcome(trained: Path) -> str:
    """A line for what `train` returned: where it is and, for a run, how far it went and how well it did in its validations."""
    validated = read_log(trained).dropna(subset="val_loss")
    if validated.empty:
        return f"{trained}"
    last, best = validated.iloc[-1], validated.loc[validated.val_loss.idxmin()]
    return (
        f"{trained}: step {last.step:.0f}, validation loss {last.val_loss:.4g}, "
        f"the lowest {best.val_loss:.4g} at step {best.step:.0f}"
    )


def _full_key(model_name: str, key: str) -> str:
    """`train.steps` of small-vae is `small_vae.train.steps` of the preset, of clip-b32 `encoders.clip.train.steps`; full keys stay."""
    if key.split(".")[0] not in ("train", "model"):
        return key
    recipe = f"encoders.{ENCODERS[model_name].folder}" if model_name in ENCODERS else recipe_name(model_name)
    return f"{recipe}.{key}"
