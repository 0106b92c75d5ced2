"""World models that come trained with the package: `wamlab.load("dit-wam/quick")`, and when a study uses them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from wamlab.codecs import load_codec
from wamlab.config import override, to_dict
from wamlab.errors import CheckpointMismatch, UnknownName, WamlabError, WeightsMissing
from wamlab.models import BASELINES, MODELS, AnchoredDiTConfig, model_config, recipe_name
from wamlab.presets import PRESETS
from wamlab.training.fitting import fit_or_load
from wamlab.types import Codec
from wamlab.weights import load_weights, save_tensors

if TYPE_CHECKING:
    from wamlab.data import Dataset
    from wamlab.data.latents import LatentStore
    from wamlab.presets import Preset

#: Where a set's folder is, under its name: `README.md`, `futures.webp` and a safetensors file for each of its models.
WEIGHTS = Path(__file__).parent / "models" / "weights"
#: The sets, and the models in each.
SETS = {"dit-wam/quick": ("direct", "diffusion", "jump", "jump-diffusion")}
#: Where a study may take its models' weights from: `shipped`, where they fit, or `train` in any case.
CHOICES = ("shipped", "train")


@dataclass(frozen=True)
class Pretrained:
    """A set of trained models by name, the codec whose latents they read, and the preset that says how they are used."""

    name: str
    models: dict[str, nn.Module]
    codec: Codec
    preset: Preset

    def __getitem__(self, model: str) -> nn.Module:
        if model not in self.models:
            raise UnknownName(f"model in {self.name}", model, self.models)
        return self.models[model]


def load(name: str, device: torch.device | str = "cpu", root: Path = WEIGHTS) -> Pretrained:
    """The set called `name`. Raises `UnknownName`, `WeightsMissing` (naming the file) and `CheckpointMismatch`."""
    if name not in SETS:
        raise UnknownName("set of trained models", name, SETS)
    preset = PRESETS[name.split("/")[1]]
    codec = load_codec(preset.codec, device)
    models = {}
    for model in SETS[name]:
        path = root / name / f"{model}.safetensors"
        models[model] = load_model(path).to(device)
        if (wanted := _metadata(path)["codec"]) != codec.digest:
            raise CheckpointMismatch(
                f"{path} reads latents of the codec {wanted[:12]}…, and {codec.name} is {codec.digest[:12]}…"
            )
    return Pretrained(name, models, codec, preset)


def load_model(path: Path) -> nn.Module:
    """A model from one file that `save_model` wrote, in eval mode. Raises `WeightsMissing` and `CheckpointMismatch`."""
    told = _metadata(path)
    try:
        model = MODELS[told["name"]](override(AnchoredDiTConfig(), json.loads(told["config"])), told["name"])
    except (KeyError, ValueError, WamlabError) as error:
        raise CheckpointMismatch(f"{path} is not of a model of this version ({error!r})") from error
    load_weights(path, model)
    return model.requires_grad_(False).eval()


def save_model(model: nn.Module, codec: Codec, path: Path) -> None:
    """Write a model as float16 with what `load_model` needs to build it, and the digest of the codec whose latents it reads."""
    told = {"name": model.name, "config": json.dumps(to_dict(model.config)), "codec": codec.digest}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    save_tensors(aside, {key: value.half() for key, value in model.state_dict().items()}, told)
    aside.replace(path)


def shipped(model: str, preset: Preset, codec: Codec) -> Path | None:
    """The trained weights that come with the package for `model` as `preset` describes it, if there are any.

    The rule: a set is named after the preset, the preset's recipe of this model is as it came, and shapes and codec are those of the
    weights. Whoever changes how a model is built or trained gets it trained.
    """
    name = f"dit-wam/{preset.name}"
    path = WEIGHTS / name / f"{model}.safetensors"
    if model not in SETS.get(name, ()) or not path.is_file():
        return None
    same = getattr(preset, recipe_name(model)) == getattr(PRESETS[preset.name], recipe_name(model))
    config = json.dumps(to_dict(model_config(model, preset, codec)))
    told = _metadata(path)
    return path if same and (told["config"], told["codec"]) == (config, codec.digest) else None


def obtain(
    model: str,
    preset: Preset,
    dataset: Dataset,
    codec: Codec,
    store: LatentStore,
    seed: int = 0,
    progress: bool = True,
    weights: str = "shipped",
) -> tuple[nn.Module, str]:
    """A model ready for use, and in a few words where its weights are from: `shipped`, or trained (or loaded) by `fit_or_load`.

    Raises `UnknownName` for another choice of weights, and as `fit_or_load`.
    """
    if weights not in CHOICES:
        raise UnknownName("choice of weights", weights, CHOICES)
    path = shipped(model, preset, codec) if weights == "shipped" else None
    if path is None:
        made = fit_or_load(model, preset, dataset, codec, store, seed, progress)
        return made, "nothing to train" if model in BASELINES else f"trained on {dataset.name}, seed {seed}"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_model(path).to(device), f"shipped as dit-wam/{preset.name}"


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise WeightsMissing(
            f"no weights at {path}: take them from wamlab's repository, or train them with `wamlab ship dit-wam/quick`"
        )
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointMismatch(f"{path} is damaged ({error})") from error
    if missing := {"name", "config", "codec"} - told.keys():
        raise CheckpointMismatch(f"{path} does not say its {', '.join(sorted(missing))}: it is not of wamlab's models")
    return told
