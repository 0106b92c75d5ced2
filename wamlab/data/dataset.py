"""What every dataset on disk offers, whatever its format: named scenes in splits, read through the index. No format lives here."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wamlab.config import data_dir, digest
from wamlab.data.index import Index, load_index
from wamlab.errors import InvalidParameter, UnknownName, WamlabError
from wamlab.geometry import nearest
from wamlab.types import SPLITS, Scene

#: What to do with a scene of which a part is missing or damaged: raise its error, or leave it out with a warning that names it.
OnDamage = Literal["refuse", "skip"]
#: An action is the signal nearest to a frame, if it is this near.
MAX_SIGNAL_DELAY_US = 50_000


class Dataset(ABC):
    """The scenes of a dataset. Opening one looks at which files are there; the first look at a scene reads the index, or builds it.

    Attributes:
        name: one of `wamlab.data.DATASETS`.
        dataroot: the dataset's folder.
        how_to_mend: what to do when a file of it is missing or damaged.
    """

    name: str
    dataroot: Path
    how_to_mend: str

    def __init__(self, name: str, dataroot: Path | str) -> None:
        self.name, self.dataroot = name, Path(dataroot)
        self._scenes: dict[tuple[str, str], Scene] = {}
        self._warned: set[str] = set()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of the content, the same wherever a copy lies: part of the key of all that is made from the dataset."""

    @abstractmethod
    def stamp(self) -> str:
        """Digest of the state of all files that the index is built from, times of change included."""

    @abstractmethod
    def read_splits(self) -> dict[str, tuple[str, ...]]:
        """Split -> scene names, from the files."""

    @abstractmethod
    def read_scenes(self) -> Iterator[tuple[str, Scene | WamlabError]]:
        """Every scene's name with the scene (whatever its split), or with what is wrong with it, from the files."""

    @cached_property
    def index(self) -> Index:
        """What is known of the scenes, from `index/` in `data_dir()` if it fits the files, else built and kept there."""
        name = f"{self.name}-{digest(repr(self), str(self.dataroot.resolve()))}.safetensors"
        return load_index(data_dir() / "index" / name, self.dataroot, self.stamp(), self._build)

    def _build(self) -> Index:
        scenes, problems = {}, {}
        for name, found in self.read_scenes():
            (problems if isinstance(found, WamlabError) else scenes)[name] = found
        return Index(self.read_splits(), scenes, problems)

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Split -> scene names, also of those with a part missing."""
        return self.index.splits

    def scenes(self, split: str | None = None, on_damage: OnDamage = "skip") -> list[Scene]:
        """The scenes of a split, or all, in the order of their names.

        A scene with a part missing or damaged (21 of nuScenes have no CAN bus) is left out by default, and named once in a warning.

        Raises:
            UnknownName: no such split.
            CanBusMissing, DatasetIncomplete: what is wrong with the first such scene, if `on_damage` is "refuse".
        """
        if split is not None and split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        check_on_damage(on_damage)
        names = sorted(self.splits[split] if split else {name for part in self.splits.values() for name in part})
        damaged = [name for name in names if name in self.index.problems]
        if damaged and on_damage == "refuse":
            return [self.scene(damaged[0])]  # raises
        if fresh := [name for name in damaged if name not in self._warned]:
            self._warned.update(fresh)
            why = f"{self.index.problems[fresh[0]]}" + "; `index.problems` says why of each" * (len(fresh) > 1)
            warnings.warn(f"{self.name}: left out {len(fresh)} scenes, {', '.join(fresh)}: {why}", stacklevel=2)
        return [self._scene(name, split) for name in names if name not in self.index.problems]

    def scene(self, name: str) -> Scene:
        """One scene by its name.

        Raises:
            UnknownName: no such scene; some known ones are listed.
            CanBusMissing, DatasetIncomplete: a part of it is missing or damaged.
        """
        return self._scene(name, None)

    def _scene(self, name: str, split: str | None) -> Scene:
        """The scene as a member of `split`, by default of the first that has it."""
        index = self.index
        if name in index.problems:
            raise type(index.problems[name])(str(index.problems[name]))
        split = split or next((s for s in SPLITS if name in index.splits[s]), None)
        if split is None or name not in index.scenes:
            known = sorted(index.scenes)
            raise UnknownName("scene", name, known if len(known) <= 12 else [*known[:12], f"… ({len(known)} in all)"])
        if (split, name) not in self._scenes:
            self._scenes[split, name] = dataclasses.replace(index.scenes[name], split=split)
        return self._scenes[split, name]


def check_on_damage(on_damage: str) -> None:
    """Raises `InvalidParameter` unless it is an `OnDamage`."""
    if on_damage not in get_args(OnDamage):
        raise InvalidParameter(f"on_damage must be one of {', '.join(get_args(OnDamage))}, not {on_damage!r}")


def state_of_files(folder: Path, files: Iterable[Path]) -> str:
    """Digest of the names, sizes and times of change of some files in a folder."""
    found = hashlib.sha256()
    for path in sorted(files):
        state = path.stat()
        found.update(f"{path.relative_to(folder)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return found.hexdigest()


def at_frames(signal_us: NDArray, values: ArrayLike, frames_us: NDArray) -> NDArray[np.float64]:
    """(T,) the value (N,) of a signal nearest in time to each frame, NaN where none is within `MAX_SIGNAL_DELAY_US`; times are int64."""
    order = np.argsort(signal_us, kind="stable")
    times_us = signal_us[order]
    index = nearest(times_us, frames_us)
    near = np.abs(times_us[index] - frames_us) <= MAX_SIGNAL_DELAY_US
    return np.where(near, np.asarray(values, np.float64)[order][index], np.nan)
