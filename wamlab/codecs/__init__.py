"""Frozen maps between frames and latents."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from wamlab.codecs.sd_vae import SdVae
from wamlab.codecs.small_vae import SmallVae, SmallVaeConfig
from wamlab.config import override, to_dict
from wamlab.errors import CheckpointMismatch, UnknownName, WamlabError, WeightsMissing
from wamlab.types import Codec
from wamlab.weights import load_weights, save_tensors, weights_digest

#: The weights that come with the package.
SMALL_VAE = Path(__file__).parent / "weights" / "small_vae.safetensors"


def load_small_vae(path: Path = SMALL_VAE) -> SmallVae:
    """The small codec from one safetensors file, whose metadata hold its configuration."""
    if not path.is_file():
        raise WeightsMissing(
            f"no weights of small-vae at {path}: train them with `wamlab train small-vae`, or give the codec's path"
        )
    try:
        with safe_open(path, "pt") as file:
            config = override(SmallVaeConfig(), json.loads((file.metadata() or {})["config"]))
    except (OSError, SafetensorError, KeyError, ValueError, WamlabError) as error:
        raise CheckpointMismatch(f"{path} is damaged, or not a small-vae of this version ({error!r})") from error
    codec = SmallVae(config)
    load_weights(path, codec)
    codec.digest = weights_digest(codec)
    return codec


def save_small_vae(codec: SmallVae, path: Path) -> None:
    """Write what `load_small_vae` reads, and set the codec's digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    save_tensors(aside, codec.state_dict(), {"config": json.dumps(to_dict(codec.config))})
    aside.replace(path)
    codec.digest = weights_digest(codec)


#: Every codec by its name in presets and commands.
CODECS = {"small-vae": load_small_vae, "sd-vae": SdVae}


def load_codec(name_or_path: str | Path, device: torch.device | str = "cpu") -> Codec:
    """A frozen codec, by a name in `CODECS`, or from a path: a `.safetensors` file of small-vae, or an `AutoencoderKL` folder of diffusers.

    Raises `UnknownName`, `WeightsMissing` and `CheckpointMismatch`.
    """
    path = Path(name_or_path)
    if name_or_path in CODECS:
        codec = CODECS[name_or_path]()
    elif path.is_dir():
        codec = SdVae(path)
    elif path.suffix == ".safetensors":
        codec = load_small_vae(path)
    else:
        raise UnknownName("codec", name_or_path, [*CODECS, "a path to a folder or a .safetensors file"])
    return codec.to(device).requires_grad_(False).eval()


__all__ = ["CODECS", "SdVae", "SmallVae", "SmallVaeConfig", "load_codec", "load_small_vae", "save_small_vae"]
