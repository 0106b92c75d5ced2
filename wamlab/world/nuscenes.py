"""Writes recorded drives as a nuScenes dataset: 13 tables, images, point clouds, labels, CAN bus, map masks and splits.

In two phases, so that generation is parallel, resumable and flat in memory: `write_scene` writes a scene's files and, last, a shard of
its table rows; `write_tables` streams the shards into the tables and, last, writes `splits.json`, without which the dataset is not
complete. Every file is written aside and renamed. The bytes depend on the recordings alone, not on order or number of processes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from wamlab.errors import DatasetIncomplete
from wamlab.geometry import nearest
from wamlab.types import SPLITS
from wamlab.world.canbus import can_messages
from wamlab.world.images import mask_png
from wamlab.world.primitives import SEMANTIC_COLOURS, Semantic
from wamlab.world.recording import Recording
from wamlab.world.tables import CHANNEL, SCENE_TABLES, file_name, scene_tables, sensor_rows, static_tables
from wamlab.world.taxonomy import ATTRIBUTES, CATEGORIES

VERSION = "v1.0-synthetic"
_DEVKIT_RESOLUTION_M = 0.1  # of maps, metres a pixel
#: What `labels/classes.json` says of the semantic maps: class id -> name and colour.
CLASSES = {str(int(k)): {"name": k.name.lower(), "colour": list(SEMANTIC_COLOURS[k])} for k in Semantic}


def write_scene(root: Path | str, recording: Recording, recipe: str = "") -> None:
    """Write one drive's images, labels, CAN bus and map, then its shard of table rows.

    `recipe` is a digest of whatever made the recording (settings, seed): a scene of another recipe does not count as done.
    The dataset is incomplete from here until the next `write_tables`.

    Raises:
        ValueError: the recording cannot be a nuScenes scene (negative coordinates, lengths that differ, an unknown category, …).
    """
    root, name = Path(root), recording.name
    _check(recording)
    files = dict(_shots(recording))
    images_sha256 = hashlib.sha256(b"".join(files.values())).hexdigest()
    files[f"maps/{name}.png"] = mask_png(recording.map_mask, round(recording.map_resolution_m / _DEVKIT_RESOLUTION_M))
    for message, content in can_messages(recording.can, recording.route, int(recording.timestamps_us[0])).items():
        files[f"can_bus/{name}_{message}.json"] = _json(content)

    (root / VERSION / "splits.json").unlink(missing_ok=True)
    _forget(root, name)
    begun = {"files": {relative: len(content) for relative, content in files.items()}}
    # names the files before they are there, so that nothing of an interrupted scene is left behind
    _write_shard(root, name, begun)
    for relative, content in files.items():
        _write(root / relative, content)
    rows = scene_tables(recording, images_sha256)
    _write_shard(
        root,
        name,
        begun
        | {"recipe": recipe, "split": recording.split, "start_us": int(recording.timestamps_us[0])}
        | {"channels": [film.channel for film in recording.films]}
        | {"tables": {table: ",\n".join(map(_dumps, rows[table])) for table in SCENE_TABLES}},
    )


def scene_done(root: Path | str, name: str, recipe: str = "") -> bool:
    """Whether `write_scene` finished for this scene with this recipe, and each of its files still has the size written."""
    try:
        shard = _read_shard(Path(root), name)
        return shard["recipe"] == recipe and all(
            (Path(root) / f).stat().st_size == n for f, n in shard["files"].items()
        )
    except (OSError, EOFError, ValueError, KeyError, zlib.error):
        return False


def write_tables(root: Path | str, names: Iterable[str], recipe: str = "") -> None:
    """Assemble the tables and the splits from the scenes' shards, one scene in memory at a time.

    Raises:
        DatasetIncomplete: a scene is not done.
        ValueError: two scenes start at the same time (the devkit cannot list them).
    """
    root, names = Path(root), sorted(set(names))
    missing = [name for name in names if not scene_done(root, name, recipe)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DatasetIncomplete(
            f"no scene {', '.join(missing[:3])}{more} in {root}: run `wamlab data synth` again to finish it"
        )

    folder = root / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits.json").unlink(missing_ok=True)
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    starts: dict[int, str] = {}
    channels: set[str] = set()
    aside = {table: _aside(folder / f"{table}.json") for table in SCENE_TABLES}
    with ExitStack() as stack:
        streams = {table: stack.enter_context(path.open("w")) for table, path in aside.items()}
        separator = dict.fromkeys(SCENE_TABLES, "[\n")
        for name in names:
            shard = _read_shard(root, name)
            splits[shard["split"]].append(name)
            channels.update(shard["channels"])
            if (other := starts.setdefault(shard["start_us"], name)) != name:
                raise ValueError(f"{name} and {other} start at the same time ({shard['start_us']} us)")
            for table, stream in streams.items():
                if rows := shard["tables"][table]:
                    stream.write(separator[table] + rows)
                    separator[table] = ",\n"
        for table, stream in streams.items():
            stream.write("\n]\n" if separator[table] == ",\n" else "[]\n")
    for table, path in aside.items():
        path.replace(folder / f"{table}.json")
    for table, rows in {**static_tables(), "sensor": sensor_rows(channels)}.items():
        _write(folder / f"{table}.json", _json(rows))
    _write(root / "labels" / "classes.json", _json(CLASSES))
    # `synthetic_train` as in `mini_train`: the devkit's get_scenes_of_split reads this file for names that it does not define itself
    _write(folder / "splits.json", _json({f"synthetic_{split}": scenes for split, scenes in splits.items()}))


def written_scenes(root: Path | str) -> set[str]:
    """The scenes of a complete dataset, empty if it is not complete."""
    try:
        splits = json.loads((Path(root) / VERSION / "splits.json").read_text())
    except (OSError, ValueError):
        return set()
    return {name for scenes in splits.values() for name in scenes}


def _shots(recording: Recording) -> Iterator[tuple[str, bytes]]:
    """Files of all sensors and their labels: path in the dataset, content."""
    for film in recording.films:
        keyframe = np.isin(film.timestamps_us, recording.timestamps_us)
        for i, content in enumerate(film.shots):
            path = file_name(recording.name, film, i, keyframe[i])
            yield path, content
            for kind, images in film.labels.items():
                if images[i]:
                    yield f"labels/{kind}/{film.channel}/{Path(path).stem}.png", images[i]


def _check(recording: Recording) -> None:
    name, count = recording.name, len(recording.timestamps_us)
    if recording.ego_pose.shape != (count, 3) or count == 0:
        raise ValueError(f"{name}: {count} timestamps, ego_pose {recording.ego_pose.shape}")
    if np.any(np.diff(recording.timestamps_us) <= 0) or recording.split not in SPLITS:
        raise ValueError(f"{name}: timestamps must rise and the split be one of {', '.join(SPLITS)}")
    if not np.all(recording.ego_pose[:, :2] > 0):  # NaN too
        raise ValueError(f"{name}: the devkit's maps need positive coordinates, not {recording.ego_pose[:, :2].min(0)}")
    can, times_us = recording.can, recording.timestamps_us
    if np.abs(can.timestamps_us[nearest(can.timestamps_us, times_us)] - times_us).max() > 50_000:
        raise ValueError(f"{name}: a keyframe has no CAN message within 50 ms")
    if not all(np.isfinite(signal).all() for signal in vars(can).values()):
        raise ValueError(f"{name}: a CAN signal is NaN or infinite")
    if abs(recording.map_resolution_m / _DEVKIT_RESOLUTION_M % 1 - 0.5) < 0.49:
        raise ValueError(
            f"{name}: map_resolution_m must be a multiple of {_DEVKIT_RESOLUTION_M}, not {recording.map_resolution_m}"
        )
    for film in recording.films:
        lengths = {len(film.timestamps_us), len(film.ego_pose), len(film.shots), *map(len, film.labels.values())}
        if len(lengths) > 1 or not np.isin(times_us, film.timestamps_us).all():
            raise ValueError(f"{name}: {film.channel} needs a shot, a pose and each label at every keyframe")
    if len({film.channel for film in recording.films}) < len(recording.films) or recording.films[0].channel != CHANNEL:
        raise ValueError(f"{name}: the sensors must differ and {CHANNEL} be the first of them")
    for agent in recording.agents:
        if agent.category not in CATEGORIES or not set(agent.attribute) <= {"", *ATTRIBUTES}:
            raise ValueError(f"{name}: not nuScenes' vocabulary: {agent.category}, {sorted(set(agent.attribute))}")


def _shard_path(root: Path, name: str) -> Path:
    return root / ".parts" / f"{name}.json.gz"


def _read_shard(root: Path, name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress(_shard_path(root, name).read_bytes()))


def _write_shard(root: Path, name: str, content: dict[str, Any]) -> None:
    _write(_shard_path(root, name), gzip.compress(_json(content), compresslevel=1, mtime=0))


def _forget(root: Path, name: str) -> None:
    """Remove the files of a scene that was written, or begun, before."""
    try:
        files = _read_shard(root, name)["files"]
    except (OSError, EOFError, ValueError, KeyError, zlib.error):
        return
    for relative in files:
        (root / relative).unlink(missing_ok=True)


def _dumps(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _json(content: Any) -> bytes:
    return _dumps(content).encode()


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _write(path: Path, content: bytes) -> None:
    """Write aside, then rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.write_bytes(content)
    aside.replace(path)
