"""The one reader of nuScenes' format: the synthetic world, v1.0-mini and v1.0-trainval, tables through the devkit.

The devkit is imported on the first look at a scene: opening a dataset only looks at which files are there.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wamlab.errors import CanBusMissing, DatasetIncomplete, DatasetMissing, UnknownName
from wamlab.geometry import nearest
from wamlab.types import ACTIONS, SPLITS, Scene

if TYPE_CHECKING:
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus
    from nuscenes.nuscenes import NuScenes

SYNTHETIC = "v1.0-synthetic"
VERSIONS = (SYNTHETIC, "v1.0-mini", "v1.0-trainval")
CHANNEL = "CAM_FRONT"
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation", "sample_data",
    "scene", "sensor", "visibility",
)  # fmt: skip
#: An action is the CAN message nearest to a frame, if it is this near.
MAX_CAN_DELAY_US = 50_000
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

OnMissing = Literal["refuse", "skip"]


class Dataset:
    """A nuScenes dataset on disk.

    Attributes:
        name: `synthetic`, `nuscenes-mini` or `nuscenes`.
        dataroot: the folder with `samples/`, `can_bus/`, `maps/` and the version's folder.
        version: the folder of the tables.
    """

    def __init__(self, name: str, dataroot: Path | str, version: str) -> None:
        """Look whether the files are there; read none of them. Raises as `wamlab.data.open_dataset`."""
        self.name, self.dataroot, self.version = name, Path(dataroot), version
        self._scenes: dict[str, Scene] = {}
        self._warned: set[str] = set()
        self._check_files()

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {str(self.dataroot)!r}, {self.version!r})"

    def __reduce__(self) -> tuple:
        """Another process opens the dataset anew: the devkit's tables do not travel."""
        return Dataset, (self.name, self.dataroot, self.version)

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
        digest = hashlib.sha256(self.version.encode())
        for table in TABLES:
            path = self._table(table)
            digest.update(f"{table} {path.stat().st_size}\n".encode())
            if table in ("calibrated_sensor", "sample", "scene"):
                digest.update(path.read_bytes())
        return digest.hexdigest()[:32]

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

    @cached_property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Split -> scene names. v1.0-mini has two parts only: its two validation scenes are both `val` and `test`."""
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

    def scenes(self, split: str | None = None, on_missing: OnMissing = "skip") -> list[Scene]:
        """The scenes of a split, or all, in the order of their names.

        Scenes without CAN bus are refused, or left out with one warning that names them.

        Raises:
            UnknownName: no such split.
            CanBusMissing: a scene has no CAN bus and `on_missing` is "refuse".
        """
        if split is not None and split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        names = self.splits[split] if split else {name for part in self.splits.values() for name in part}
        scenes, skipped = [], []
        for name in sorted(names):
            try:
                scenes.append(self._scene(name, split))
            except CanBusMissing:
                if on_missing == "refuse":
                    raise
                skipped.append(name)
        if fresh := [name for name in skipped if name not in self._warned]:
            self._warned.update(fresh)
            warnings.warn(
                f"{self.name}: {len(fresh)} scenes without CAN bus left out: {', '.join(fresh)}", stacklevel=2
            )
        return scenes

    def scene(self, name: str) -> Scene:
        """One scene by its name. Raises `UnknownName` (listing some known ones) or `CanBusMissing`."""
        return self._scene(name, None)

    def _scene(self, name: str, split: str | None) -> Scene:
        """The scene as a member of `split`, by default of the first that has it."""
        split = split or next((s for s in SPLITS if name in self.splits[s]), None)
        if split is None or name not in self._records:
            known = sorted(self._records)
            raise UnknownName("scene", name, known if len(known) <= 12 else [*known[:12], f"… ({len(known)} in all)"])
        key = f"{split}/{name}"
        if key not in self._scenes:
            self._scenes[key] = self._read(self._records[name], split)
        return self._scenes[key]

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        return {record["name"]: record for record in self.nusc.scene}

    def _read(self, record: dict[str, Any], split: str) -> Scene:
        images, token = [], record["first_sample_token"]
        while token:
            sample = self.nusc.get("sample", token)
            images.append(self.nusc.get("sample_data", sample["data"][CHANNEL]))
            token = sample["next"]
        times_us = np.array([image["timestamp"] for image in images], np.int64)
        calibration = self.nusc.get("calibrated_sensor", images[0]["calibrated_sensor_token"])
        location = self.nusc.get("log", record["log_token"])["location"]
        return Scene(
            name=record["name"],
            split=split,
            timestamps_s=times_us / 1e6,
            image_paths=tuple(self.dataroot / image["filename"] for image in images),
            actions=self._actions(record["name"], times_us),
            ego_pose=np.array([_pose(self.nusc.get("ego_pose", image["ego_pose_token"])) for image in images]),
            description=record["description"],
            attributes={"location": location, **attributes(record["description"]), **record.get("attributes", {})},
            intrinsics=np.array(calibration["camera_intrinsic"], np.float64),
            image_size=(images[0]["width"], images[0]["height"]),
        )

    def _actions(self, name: str, times_us: np.ndarray) -> np.ndarray:
        """(T, A) float32; NaN where no message is within `MAX_CAN_DELAY_US`."""
        steering, pose = self._messages(name, "steeranglefeedback"), self._messages(name, "pose")
        columns = {
            "steering_rad": (steering, [message["value"] for message in steering]),
            "accel_mps2": (pose, [message["accel"][0] for message in pose]),
            "speed_mps": (pose, [message["vel"][0] for message in pose]),
        }
        return np.stack([_sample(*columns[key], times_us) for key in ACTIONS], axis=1).astype(np.float32)

    def _messages(self, name: str, message: str) -> list[dict[str, Any]]:
        if int(name[-4:]) in self.can_bus.can_blacklist:
            raise CanBusMissing(
                f"{name} was recorded without CAN bus, so its actions are unknown: choose another scene"
            )
        try:
            if messages := self.can_bus.get_messages(name, message, print_warnings=False):
                return messages
            problem = "is empty"
        except FileNotFoundError:
            problem = "is missing"
        except ValueError:
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


def _pose(record: dict[str, Any]) -> tuple[float, float, float]:
    """x_m, y_m and the yaw of a quaternion w, x, y, z."""
    w, x, y, z = record["rotation"]
    yaw_rad = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return record["translation"][0], record["translation"][1], float(yaw_rad)


def _sample(messages: list[dict[str, Any]], values: list[float], times_us: np.ndarray) -> np.ndarray:
    """(T,) value of the nearest message, NaN where it is too far in time."""
    utimes = np.array([message["utime"] for message in messages], np.int64)
    index = nearest(utimes, times_us)
    return np.where(np.abs(utimes[index] - times_us) <= MAX_CAN_DELAY_US, np.array(values, np.float64)[index], np.nan)
