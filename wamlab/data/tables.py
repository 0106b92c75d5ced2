"""nuScenes' JSON tables, streamed: the front camera's keyframes of every scene, one row of one table in memory at a time. No devkit.

The tables of v1.0-trainval are 2 GB; of their 5 million rows we need one in fifty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wamlab.errors import DatasetIncomplete

CHANNEL = "CAM_FRONT"
#: Characters read at once, and the longest row there may be.
CHUNK, MAX_ROW = 1 << 22, 1 << 24
_BETWEEN_ROWS = re.compile(r"[\s,]*")

Row = dict[str, Any]


@dataclass(frozen=True)
class Drive:
    """A row of the table `scene` with what its front camera's keyframes point to.

    Attributes:
        record: the row.
        location: of its log.
        timestamps_us: (T,) int64.
        images: T file names, relative to the dataset.
        ego_pose: (T, 3) x_m, y_m, yaw_rad.
        intrinsics: (3, 3).
        image_size: (width, height), pixels.
    """

    record: Row
    location: str
    timestamps_us: np.ndarray
    images: tuple[str, ...]
    ego_pose: np.ndarray
    intrinsics: np.ndarray
    image_size: tuple[int, int]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a table, one after the other.

    Raises:
        DatasetIncomplete: the file is not a JSON list of objects.
    """
    damaged = DatasetIncomplete(f"damaged table {path}")
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as file:
        try:
            text = file.read(CHUNK).lstrip()
            if not text.startswith("["):
                raise damaged
            at = 1
            while True:
                at = _BETWEEN_ROWS.match(text, at).end()
                if text.startswith("]", at):
                    return
                try:
                    row, at = decode(text, at)
                except json.JSONDecodeError:  # the rest of this row is still in the file, unless it holds none
                    more = file.read(CHUNK)
                    if not more or len(text) - at > MAX_ROW:
                        raise damaged from None
                    text, at = text[at:] + more, 0
                else:
                    yield row
        except UnicodeDecodeError:
            raise damaged from None


def read_drives(folder: Path) -> Iterator[Drive]:
    """The scenes of the tables in `folder`, in the order of the table.

    Raises:
        DatasetIncomplete: a table is damaged, or names a row that is not in its table.
    """

    def table(name: str) -> Iterator[Row]:
        return rows(folder / f"{name}.json")

    try:
        cameras = {row["token"] for row in table("sensor") if row["channel"] == CHANNEL}
        calibrations = {
            row["token"]: row["camera_intrinsic"]
            for row in table("calibrated_sensor")
            if row["sensor_token"] in cameras
        }
        locations = {row["token"]: row["location"] for row in table("log")}
        following = {row["token"]: row["next"] for row in table("sample")}
        keyframes = {
            row["sample_token"]: row
            for row in table("sample_data")
            if row["is_key_frame"] and row["calibrated_sensor_token"] in calibrations
        }
        wanted = {row["ego_pose_token"] for row in keyframes.values()}
        poses = {row["token"]: _pose(row) for row in table("ego_pose") if row["token"] in wanted}
        for record in table("scene"):
            images, token = [], record["first_sample_token"]
            while token:
                images.append(keyframes[token])
                token = following[token]
            yield Drive(
                record=record,
                location=locations[record["log_token"]],
                timestamps_us=np.array([image["timestamp"] for image in images], np.int64),
                images=tuple(image["filename"] for image in images),
                ego_pose=np.array([poses[image["ego_pose_token"]] for image in images]),
                intrinsics=np.array(calibrations[images[0]["calibrated_sensor_token"]], np.float64),
                image_size=(images[0]["width"], images[0]["height"]),
            )
    except (LookupError, TypeError, ValueError) as error:
        raise DatasetIncomplete(f"tables in {folder} that do not fit together ({error!r})") from error


def _pose(row: Row) -> tuple[float, float, float]:
    """x_m, y_m and the yaw of a quaternion w, x, y, z."""
    w, x, y, z = row["rotation"]
    yaw_rad = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return row["translation"][0], row["translation"][1], float(yaw_rad)
