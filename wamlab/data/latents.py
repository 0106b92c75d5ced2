"""The latent store: every frame of a scene encoded once, one memory-mapped safetensors file a scene.

The folder's name has the digest of what decides the latents: dataset, codec with its weights, resolution, number type. A shard is
written aside and renamed, under a lock of its own, and carries a checksum of its content; so a killed run resumes, processes share the
work, and a damaged shard is found when first opened, named in a warning, and encoded again.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from wamlab.config import data_dir, digest
from wamlab.data.dataset import Dataset, OnDamage, check_on_damage
from wamlab.data.frames import load_frames
from wamlab.errors import ImageDamaged, InvalidShape
from wamlab.render import to_model
from wamlab.types import Codec, Scene

#: Part of the key: raise it when the same inputs give other shards.
FORMAT = 1
BATCH = 32


class LatentStore:
    """The latents of a dataset's frames under one codec at one resolution.

    Attributes:
        folder: where the shards are, `<root>/<dataset>-<codec>-<resolution>-<key>`.
        key: digest of the dataset's fingerprint, the codec's name and digest, the resolution and the number type.

    `wamlab.data.embeddings` has the same store for encoders.
    """

    noun = "latents"

    def __init__(
        self,
        dataset: Dataset,
        codec: Codec,
        resolution: int,
        root: Path | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`root` is `latents/` in `data_dir()` by default. Raises `InvalidShape` if the codec cannot take that resolution."""
        self.dataset, self.codec, self.resolution, self.dtype = dataset, codec, resolution, dtype
        self._check()
        parts = (dataset.fingerprint, codec.name, codec.digest, resolution, str(dtype), *self._extra_key())
        self.key = digest(FORMAT, *parts)
        label = re.sub(r"[^\w.-]+", "_", f"{dataset.name}-{codec.name}-{resolution}-{self.key}")
        self.folder = (Path(root) if root is not None else data_dir() / "latents") / label
        self._open: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the shards anew."""
        return self.__dict__ | {"_open": {}}

    def fill(self, scenes: Sequence[Scene], progress: bool = True, on_damage: OnDamage = "refuse") -> set[str]:
        """Encode what is missing or damaged. Scenes that another process is encoding are waited for at the end.

        Returns the names of the scenes that were left out, with one warning, since an image or video of theirs is damaged. Refusing them
        is the default, lest a model be trained on less than its record says; what was encoded until then is kept.

        Raises:
            ImageDamaged: naming the scene, if `on_damage` is "refuse".
        """
        check_on_damage(on_damage)
        (self.folder / ".locks").mkdir(parents=True, exist_ok=True)
        todo = [scene for scene in scenes if self._load(scene.name) is None]
        damaged: dict[str, ImageDamaged] = {}

        def filled(scene: Scene, timeout: float) -> bool:
            try:
                return self._fill_one(scene, bar, timeout)
            except ImageDamaged as error:
                if on_damage == "refuse":
                    raise
                damaged[scene.name] = error
                return True

        label = f"{self.noun} of {self.codec.name}"
        with tqdm(total=len(todo), desc=label, unit="scene", disable=not (progress and todo)) as bar:
            busy = [scene for scene in todo if not filled(scene, timeout=0)]
            for scene in busy:
                filled(scene, timeout=-1)
        if damaged:
            reasons = "; ".join(str(error) for error in damaged.values())
            warnings.warn(
                f"{self.dataset.name}: left out {len(damaged)} scenes with damaged images: {reasons}", stacklevel=2
            )
        return set(damaged)

    def read(self, name: str) -> Tensor:
        """(T, c, h, w) latents of a scene, memory-mapped and not to be written to; encoded now if they are missing or damaged.

        Raises `ImageDamaged`, as `load_frames`, where they cannot be.
        """
        latents = self._load(name)
        if latents is None:
            self.fill([self.dataset.scene(name)], progress=False)
            latents = self._load(name)
        return latents

    def path(self, name: str) -> Path:
        """The shard of a scene."""
        return self.folder / f"{name}.safetensors"

    def _check(self) -> None:
        """Raise `InvalidShape` if the codec cannot take the resolution."""
        if self.resolution < 1 or self.resolution % self.codec.downsample:
            raise InvalidShape(
                f"resolution {self.resolution} is not a multiple of {self.codec.downsample}, what {self.codec.name} divides it by"
            )

    def _extra_key(self) -> tuple[Any, ...]:
        """What else decides the content."""
        return ()

    def _load(self, name: str, warn: bool = True) -> Tensor | None:
        """The checked latents, or None where there are none to be trusted."""
        if name not in self._open:
            try:
                self._open[name] = read_shard(self.path(name), {"scene": name, "key": self.key})
            except FileNotFoundError:
                return None
            except (SafetensorError, ValueError, OSError) as error:
                if warn:
                    warnings.warn(f"damaged {self.noun} {self.path(name)} ({error}): encoding them again", stacklevel=3)
                return None
        return self._open[name]

    def _fill_one(self, scene: Scene, bar: tqdm, timeout: float) -> bool:
        """Encode a scene unless it is there by now; False if another process holds its lock."""
        try:
            with FileLock(self.folder / ".locks" / f"{scene.name}.lock", timeout=timeout):
                if self._load(scene.name, warn=False) is None:
                    write_shard(self.path(scene.name), self._encode(scene), {"scene": scene.name, "key": self.key})
                bar.update()
                return True
        except Timeout:
            return False

    @torch.inference_mode()
    def _encode(self, scene: Scene) -> Tensor:
        parts = []
        indices = self._indices(scene)
        for first in range(0, len(indices), BATCH):
            latents = self._encode_frames(scene, indices[first : first + BATCH]).cpu()
            parts.append(latents.to(self.dtype) if latents.is_floating_point() else latents)
        return torch.cat(parts)

    def _indices(self, scene: Scene) -> Sequence[int]:
        """Which frames of a scene are encoded."""
        return range(len(scene))

    def _encode_frames(self, scene: Scene, indices: Sequence[int]) -> Tensor:
        frames = load_frames(scene, indices, self.resolution)
        return self.codec.encode(to_model(frames).to(device_of(self.codec)))


def device_of(codec: Codec) -> torch.device | str:
    """Where a codec that is a module has its weights; the CPU for any other."""
    parameters = codec.parameters() if isinstance(codec, torch.nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), "cpu")


def _checksum(latents: Tensor) -> str:
    return hashlib.sha256(latents.contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()


def write_shard(path: Path, latents: Tensor, metadata: dict[str, str]) -> None:
    """Write aside, then rename. The name aside is the same for every process: the lock keeps them apart, and a killed one's is reused."""
    aside = path.with_suffix(".part")
    save_file({"latents": latents.contiguous()}, aside, metadata | {"sha256": _checksum(latents)})
    aside.replace(path)


def read_shard(path: Path, metadata: dict[str, str]) -> Tensor:
    """The memory-mapped latents.

    Raises:
        FileNotFoundError: no such shard.
        SafetensorError, ValueError, OSError: its content is not what was written, or is another scene's.
    """
    with safe_open(path, framework="pt") as file:
        latents, found = file.get_tensor("latents"), file.metadata() or {}
    if found != metadata | {"sha256": _checksum(latents)}:
        raise ValueError("its content does not match its checksum")
    return latents
