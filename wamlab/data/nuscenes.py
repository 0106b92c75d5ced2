"""The one reader of nuScenes' format: the synthetic world, v1.0-mini and v1.0-trainval.

Scenes come from the index, which is built from the tables themselves. The devkit, which takes minutes and gigabytes for v1.0-trainval, is
there for whoever asks for `nusc`; here it decides only what a CAN-bus message is and which scenes belong to the official splits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wamlab.config import digest
from wamlab.data.dataset import Dataset, at_frames, state_of_files
from wamlab.data.tables import read_drives
from wamlab.errors import CanBusMissing, DatasetIncomplete, DatasetMissing, WamlabError
from wamlab.types import ACTIONS, SPLITS, Scene

if TYPE_CHECKING:
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus
    from nuscenes.nuscenes import NuScenes

SYNTHETIC = "v1.0-synthetic"
#: Folder of the tables -> what the dataset is called.
VERSIONS = {SYNTHETIC: "synthetic", "v1.0-mini": "nuscenes-mini", "v1.0-trainval": "nuscenes"}
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation", "sample_data",
    "scene", "sensor", "visibility",
)  # fmt: skip
#: Action -> the CAN-bus message and the key of it that it is taken from.
SIGNALS = {
    "steering_rad": ("steeranglefeedback", "value"),
    "accel_mps2": ("pose", "accel"),
    "speed_mps": ("pose", "vel"),
}
MESSAGES = tuple(sorted({message for message, _ in SIGNALS.values()}))
#: What to do where a dataset is not there.
HOW_TO_GET = {
    SYNTHETIC: "make one with `wamlab data synth`",
    "v1.0-mini": "unpack v1.0-mini.tgz and can_bus.zip from https://www.nuscenes.org/nuscenes#download there",
    "v1.0-trainval": "unpack the v1.0-trainval archives and can_bus.zip from https://www.nuscenes.org/nuscenes#download there",
}
#: Attribute -> what it is called when a pattern is found in a scene's description, else the last.
WORDS = {
    "time": (("night", r"\bnight"), ("dusk", r"\b(dusk|dawn|sunset|twilight)\b"), ("day", "")),
    "weather": (("rain", r"\brain"), ("fog", r"\bfog"), ("overcast", r"\b(overcast|cloudy)\b"), ("clear", "")),
}


class NuScenesDataset(Dataset):
    """A dataset in nuScenes' format.

    Attributes:
        version: the folder of the tables, one of `VERSIONS`.
    """

    def __init__(self, name: str, dataroot: Path | str, version: str) -> None:
        """Look whether the files are there; read none of them. Raises as `wamlab.data.open_dataset`."""
        super().__init__(name, dataroot)
        self.version = version
        self._check_files()

    def __repr__(self) -> str:
        return f"NuScenesDataset({self.name!r}, {str(self.dataroot)!r}, {self.version!r})"

    def __reduce__(self) -> tuple:
        """Another process opens the dataset anew: neither tables nor scenes travel."""
        return NuScenesDataset, (self.name, self.dataroot, self.version)

    @property
    def synthetic(self) -> bool:
        return self.version == SYNTHETIC

    @property
    def how_to_mend(self) -> str:
        """What to do when a file of the dataset is missing or damaged."""
        return "run `wamlab data synth` again to finish it" if self.synthetic else HOW_TO_GET[self.version]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the names and sizes of the tables and the content of the small ones, among them, when synthetic, the images' digest."""
        content = hashlib.sha256(self.version.encode())
        for table in TABLES:
            path = self._table(table)
            content.update(f"{table} {path.stat().st_size}\n".encode())
            if table in ("calibrated_sensor", "sample", "scene"):
                content.update(path.read_bytes())
        return content.hexdigest()[:32]

    def stamp(self) -> str:
        """Digest of the fingerprint and of when the tables and CAN-bus files changed."""
        tables = [self._table(table) for table in (*TABLES, *["splits"] * self.synthetic)]
        signals = [path for message in MESSAGES for path in (self.dataroot / "can_bus").glob(f"*_{message}.json")]
        return digest(self.fingerprint, state_of_files(self.dataroot, [*tables, *signals]))

    @cached_property
    def nusc(self) -> NuScenes:
        """The devkit's view of the tables. Raises `DatasetIncomplete` naming a table or map that is damaged."""
        from nuscenes.nuscenes import NuScenes

        try:
            return NuScenes(self.version, str(self.dataroot), verbose=False)
        except (ValueError, AssertionError, LookupError) as error:
            raise DatasetIncomplete(
                f"{self._damage() or f'tables that do not fit together ({error})'}: {self.how_to_mend}"
            ) from error

    @cached_property
    def can_bus(self) -> NuScenesCanBus:
        """The devkit's view of the CAN-bus messages."""
        from nuscenes.can_bus.can_bus_api import NuScenesCanBus

        return NuScenesCanBus(str(self.dataroot))

    def read_splits(self) -> dict[str, tuple[str, ...]]:
        """v1.0-mini has two parts only: its two validation scenes are both `val` and `test`."""
        if self.synthetic:
            content = json.loads(self._table("splits").read_text())
            return {split: tuple(content[f"synthetic_{split}"]) for split in SPLITS}
        from nuscenes.utils import splits as official

        if self.version == "v1.0-mini":
            return dict(
                zip(SPLITS, map(tuple, (official.mini_train, official.mini_val, official.mini_val)), strict=True)
            )
        held_out = json.loads((resources.files("wamlab.data") / "splits" / "nuscenes_dit_wam.json").read_text())["val"]
        train = tuple(name for name in official.train if name not in set(held_out))
        return {"train": train, "val": tuple(held_out), "test": tuple(official.val)}

    def read_scenes(self) -> Iterator[tuple[str, Scene | WamlabError]]:
        """Raises `DatasetIncomplete` naming the table that is damaged."""
        try:
            for drive in read_drives(self.dataroot / self.version):
                record = drive.record
                name, words = record["name"], attributes(record["description"])
                try:
                    actions = self._actions(name, drive.timestamps_us)
                except CanBusMissing as problem:
                    yield name, problem
                    continue
                yield (
                    name,
                    Scene(
                        name=name,
                        split="",
                        timestamps_s=drive.timestamps_us / 1e6,
                        image_paths=tuple(self.dataroot / image for image in drive.images),
                        actions=actions,
                        ego_pose=drive.ego_pose,
                        description=record["description"],
                        attributes={"location": drive.location, **words, **record.get("attributes", {})},
                        intrinsics=drive.intrinsics,
                        image_size=drive.image_size,
                        world=record.get("world"),
                    ),
                )
        except DatasetIncomplete as error:
            raise DatasetIncomplete(f"{error}: {self.how_to_mend}") from error

    def _actions(self, name: str, times_us: np.ndarray) -> np.ndarray:
        """(T, A) float32; NaN where no message is near. Raises `CanBusMissing`."""
        if int(name[-4:]) in self.can_bus.can_blacklist:
            raise CanBusMissing(
                f"{name} was recorded without CAN bus, so its actions are unknown: choose another scene"
            )
        signals = {}
        for message in MESSAGES:
            signals |= self._signals(name, message)
        return np.stack([at_frames(*signals[action], times_us) for action in ACTIONS], axis=1).astype(np.float32)

    def _signals(self, name: str, message: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Action -> times (N,) in us and values (N,), of those that this message carries. Raises `CanBusMissing`."""
        try:
            if rows := self.can_bus.get_messages(name, message, print_warnings=False):
                times_us = np.array([row["utime"] for row in rows], np.int64)
                keys = {action: key for action, (source, key) in SIGNALS.items() if source == message}
                values = {action: np.array([row[key] for row in rows], np.float64) for action, key in keys.items()}
                # of a vector, the component ahead
                return {action: (times_us, value.reshape(len(rows), -1)[:, 0]) for action, value in values.items()}
            problem = "is empty"
        except FileNotFoundError:
            problem = "is missing"
        except (ValueError, LookupError, TypeError, AssertionError):
            problem = "is damaged"
        path = self.dataroot / "can_bus" / f"{name}_{message}.json"
        raise CanBusMissing(f"{path} {problem}, so the actions of {name} are unknown: {self.how_to_mend}")

    def _table(self, table: str) -> Path:
        return self.dataroot / self.version / f"{table}.json"

    def _check_files(self) -> None:
        """Raise for what is missing, the largest thing first."""
        there = (self.dataroot / self.version).is_dir()
        started = self.synthetic and (there or (self.dataroot / ".parts").is_dir())
        if not there and not started:
            raise DatasetMissing(f"no {self.name} dataset at {self.dataroot}: {HOW_TO_GET[self.version]}")
        for table in (*TABLES, "splits") if self.synthetic else TABLES:
            if not self._table(table).is_file():
                raise DatasetIncomplete(
                    f"half a dataset at {self.dataroot}, no {self.version}/{table}.json: {self.how_to_mend}"
                )
        if not (self.dataroot / "can_bus").is_dir():
            get = (
                self.how_to_mend
                if self.synthetic
                else "unpack can_bus.zip from https://www.nuscenes.org/nuscenes#download there"
            )
            raise CanBusMissing(f"no folder can_bus in {self.dataroot}, so the actions are unknown: {get}")

    def _damage(self) -> str | None:
        """Which table cannot be read, if any."""
        for table in TABLES:
            try:
                json.loads(self._table(table).read_bytes())
            except ValueError:
                return f"damaged table {self._table(table)}"
        return None


def attributes(description: str) -> dict[str, str]:
    """Time of day and weather as a scene's description has them, e.g. {"time": "night", "weather": "rain"}."""
    text = description.lower()
    return {key: next(value for value, word in words if re.search(word, text)) for key, words in WORDS.items()}
