"""Frozen encoders of frames and clips: what the probes read. One family a file; their names are here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from wamlab.encoders.clip import Clip, SmallClip
from wamlab.encoders.dinov2 import Dinov2, SmallDinov2
from wamlab.encoders.frozen import EMBEDDING, FrozenEncoder
from wamlab.encoders.loading import config_type, save_backbone
from wamlab.encoders.preprocess import Preprocess
from wamlab.encoders.vit import SmallVit, Vit
from wamlab.encoders.vjepa2 import SmallVJepa2, VJepa2Clip, VJepa2Frame
from wamlab.encoders.vq import SmallVq, Vq
from wamlab.errors import UnknownName, WeightsMissing

#: The embedded weights that come with the package: a folder each, in the real layout, with a card `README.md`.
WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Entry:
    """Attributes:
    family: the class that reads such weights.
    source: the name of the real ones on the Hugging Face hub.
    folder: of the embedded ones, in `WEIGHTS`.
    """

    family: type[FrozenEncoder]
    source: str
    folder: str

    @property
    def embedded(self) -> Path:
        return WEIGHTS / self.folder


#: Every encoder by its name in presets and commands.
ENCODERS = {
    "vit-s16": Entry(Vit, "WinKawaks/vit-small-patch16-224", "vit"),
    "dinov2-s14": Entry(Dinov2, "facebook/dinov2-small", "dinov2"),
    "clip-b32": Entry(Clip, "openai/clip-vit-base-patch32", "clip"),
    "vjepa2-rep1": Entry(VJepa2Frame, "facebook/vjepa2-vitl-fpc64-256", "vjepa2"),
    "vjepa2-rep64": Entry(VJepa2Clip, "facebook/vjepa2-vitl-fpc64-256", "vjepa2"),
    "vq": Entry(Vq, "amused/amused-256", "vq"),
}


def load_encoder(
    name_or_path: str | Path, device: torch.device | str = "cpu", precision: str | None = None
) -> FrozenEncoder:
    """A frozen encoder.

    Args:
        name_or_path: one of

            - `dinov2-s14`, a name in `ENCODERS`, or its name on the hub: the real weights, from the hub's cache, else downloaded;
            - `dinov2-s14/embedded`: the small instance that comes with the package;
            - `dinov2-s14/random`, or `dinov2-s14/random-7` for another seed than 0: its twin that was never trained;
            - `dinov2-s14=path/to/folder`: weights of the user's own in the real layout, or another name on the hub;
            - `path/to/folder`: likewise, the family being what its `config.json` says (V-JEPA 2 reads clips).
        device: where it works.
        precision: `float32`, `bfloat16` or `float16`; by default `default_precision`. It is part of the digest.

    Raises `UnknownName`, `WeightsMissing`, `CheckpointMismatch`; `InvalidParameter` for another precision.
    """
    text = str(name_or_path)
    name, _, source = text.partition("=")
    base, _, variant = text.partition("/")
    hub = [key for key, entry in ENCODERS.items() if entry.source == text]
    precision = precision or default_precision(device)
    if source and name in ENCODERS:
        return _read(name, source, name, precision).to(device)
    if text in ENCODERS or hub:
        name = text if text in ENCODERS else hub[-1]
        return _read(name, ENCODERS[name].source, name, precision).to(device)
    if base in ENCODERS and variant == "embedded":
        return _read_embedded(base, precision).to(device)
    if base in ENCODERS and (match := re.fullmatch(r"random(?:-(\d+))?", variant)):
        return _make_random(base, text, int(match[1] or 0), precision).to(device)
    if Path(text).is_dir():
        return _read(_family_of(Path(text)), text, None, precision).to(device)
    forms = ["NAME/embedded", "NAME/random", "NAME=path/to/folder", "a path to a folder"]
    raise UnknownName("encoder", name_or_path, [*ENCODERS, *forms])


def default_precision(device: torch.device | str) -> str:
    """On a GPU bfloat16, or float16 where it has none; elsewhere float32."""
    if torch.device(device).type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _read(key: str, source: str | Path, name: str | None, precision: str) -> FrozenEncoder:
    name, family = name or key, ENCODERS[key].family
    return family(*family.read(source, name), name, precision)


def _read_embedded(key: str, precision: str) -> FrozenEncoder:
    folder = ENCODERS[key].embedded
    if not folder.is_dir():
        raise WeightsMissing(
            f"the embedded weights of {key} are not in this copy of wamlab (no folder {folder}): "
            f"take them from its repository, or use {key}/random, or the real ones as {key} or {key}=path/to/folder"
        )
    return _read(key, folder, f"{key}/embedded", precision)


def _make_random(key: str, name: str, seed: int, precision: str) -> FrozenEncoder:
    family = ENCODERS[key].family
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family(*family.small(), name, precision)


def _family_of(folder: Path) -> str:
    """The name whose family reads the folder."""
    kind = config_type(folder) or config_type(folder / Vq.SUBFOLDER)
    keys = [key for key, entry in ENCODERS.items() if kind in entry.family.config_types]
    if not keys:
        known = sorted({kind for entry in ENCODERS.values() for kind in entry.family.config_types})
        raise UnknownName(f"model type in {folder / 'config.json'}:", kind, known)
    return keys[-1]


__all__ = [
    "EMBEDDING", "ENCODERS", "WEIGHTS", "FrozenEncoder", "Preprocess", "SmallClip", "SmallDinov2", "SmallVJepa2", "SmallVit", "SmallVq",
    "load_encoder", "save_backbone",
]  # fmt: skip
