"""Writes recorded drives as a nuScenes dataset: 13 tables, camera images, CAN bus, map masks and splits.

In two phases, so that generation is parallel, resumable and flat in memory: `write_scene` writes a scene's files and, last, a shard of
its table rows; `write_tables` streams the shards into the tables and, last, writes `splits.json`, without which the dataset is not
complete. Every file is written aside and renamed. The bytes depend on the recordings alone, not on order or number of processes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from wamlab.errors import DatasetIncomplete
from wamlab.geometry import nearest
from wamlab.types import SPLITS
from wamlab.world.canbus import can_messages
from wamlab.world.recording import Recording
from wamlab.world.tables import CHANNEL, SCENE_TABLES, image_name, scene_tables, static_tables
from wamlab.world.taxonomy import ATTRIBUTES, CATEGORIES

VERSION = "v1.0-synthetic"
JPEG_QUALITY = 85
MAP_RESOLUTION_M = 0.1


def write_scene(root: Path | str, recording: Recording, recipe: str = "") -> None:
    """Write one drive's images, CAN bus and map, then its shard of table rows.

    `recipe` is a digest of whatever made the recording (settings, seed): a scene of another recipe does not count as done.
    The dataset is incomplete from here until the next `write_tables`.

    Raises:
        ValueError: the recording cannot be a nuScenes scene (negative coordinates, lengths that differ, an unknown category, …).
    """
    root, name = Path(root), recording.name
    _check(recording)
    (root / VERSION / "splits.json").unlink(missing_ok=True)
    _shard_path(root, name).unlink(missing_ok=True)
    for stale in (root / "samples" / CHANNEL).glob(f"{name}__*"):
        stale.unlink()

    files = {image_name(name, t): _jpeg(f) for t, f in zip(recording.timestamps_us, recording.frames, strict=True)}
    images_sha256 = hashlib.sha256(b"".join(files.values())).hexdigest()
    files[f"maps/{name}.png"] = _map_png(recording.map_mask, recording.map_resolution_m)
    for message, content in can_messages(recording.can, recording.route, int(recording.timestamps_us[0])).items():
        files[f"can_bus/{name}_{message}.json"] = _json(content)
    for relative, content in files.items():
        _write(root / relative, content)

    shard = {
        "recipe": recipe,
        "split": recording.split,
        "start_us": int(recording.timestamps_us[0]),
        "files": {relative: len(content) for relative, content in files.items()},
        "tables": scene_tables(recording, images_sha256),
    }
    _write(_shard_path(root, name), gzip.compress(_json(shard), mtime=0))


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
    aside = {table: _aside(folder / f"{table}.json") for table in SCENE_TABLES}
    with ExitStack() as stack:
        streams = {table: stack.enter_context(path.open("w")) for table, path in aside.items()}
        separator = dict.fromkeys(SCENE_TABLES, "[\n")
        for name in names:
            shard = _read_shard(root, name)
            splits[shard["split"]].append(name)
            if (other := starts.setdefault(shard["start_us"], name)) != name:
                raise ValueError(f"{name} and {other} start at the same time ({shard['start_us']} us)")
            for table, stream in streams.items():
                for row in shard["tables"][table]:
                    stream.write(separator[table] + json.dumps(row, separators=(",", ":")))
                    separator[table] = ",\n"
        for table, stream in streams.items():
            stream.write("\n]\n" if separator[table] == ",\n" else "[]\n")
    for table, path in aside.items():
        path.replace(folder / f"{table}.json")
    for table, rows in static_tables().items():
        _write(folder / f"{table}.json", _json(rows))
    # `synthetic_train` as in `mini_train`: the devkit's get_scenes_of_split reads this file for names that it does not define itself
    _write(folder / "splits.json", _json({f"synthetic_{split}": scenes for split, scenes in splits.items()}))


def written_scenes(root: Path | str) -> set[str]:
    """The scenes of a complete dataset, empty if it is not complete."""
    try:
        splits = json.loads((Path(root) / VERSION / "splits.json").read_text())
    except (OSError, ValueError):
        return set()
    return {name for scenes in splits.values() for name in scenes}


def _check(recording: Recording) -> None:
    name, count = recording.name, len(recording.timestamps_us)
    if len(recording.frames) != count or recording.ego_pose.shape != (count, 3) or count == 0:
        raise ValueError(
            f"{name}: {count} timestamps, {len(recording.frames)} frames, ego_pose {recording.ego_pose.shape}"
        )
    if np.any(np.diff(recording.timestamps_us) <= 0) or recording.split not in SPLITS:
        raise ValueError(f"{name}: timestamps must rise and the split be one of {', '.join(SPLITS)}")
    if not np.all(recording.ego_pose[:, :2] > 0):  # NaN too
        raise ValueError(f"{name}: the devkit's maps need positive coordinates, not {recording.ego_pose[:, :2].min(0)}")
    can, times_us = recording.can, recording.timestamps_us
    if np.abs(can.timestamps_us[nearest(can.timestamps_us, times_us)] - times_us).max() > 50_000:
        raise ValueError(f"{name}: a keyframe has no CAN message within 50 ms")
    if not all(np.isfinite(signal).all() for signal in vars(can).values()):
        raise ValueError(f"{name}: a CAN signal is NaN or infinite")
    for agent in recording.agents:
        if agent.category not in CATEGORIES or not set(agent.attribute) <= {"", *ATTRIBUTES}:
            raise ValueError(f"{name}: not nuScenes' vocabulary: {agent.category}, {sorted(set(agent.attribute))}")


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def _map_png(mask: np.ndarray, resolution_m: float) -> bytes:
    """A mask of 0 and 255 at the devkit's 0.1 m a pixel."""
    scale = resolution_m / MAP_RESOLUTION_M
    image = np.ascontiguousarray(mask, np.uint8) * np.uint8(255)
    if scale != 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    # 8 bits, as the devkit reads it. A map has tens of millions of pixels, nearly all like the one above: with PNG's filter "up" they
    # become zeros, which zlib's run lengths pack several times as fast as the image libraries write them.
    rows = np.full((image.shape[0], image.shape[1] + 1), 2, np.uint8)
    rows[0, 1:] = image[0]
    np.subtract(image[1:], image[:-1], out=rows[1:, 1:])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0, 0, 0, 0)
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    packed = packer.compress(rows.tobytes()) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _shard_path(root: Path, name: str) -> Path:
    return root / ".parts" / f"{name}.json.gz"


def _read_shard(root: Path, name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress(_shard_path(root, name).read_bytes()))


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _write(path: Path, content: bytes) -> None:
    """Write aside, then rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.write_bytes(content)
    aside.replace(path)
