"""The reader of comma2k19's folders: one minute of highway a segment, as video, CAN signals and a fused GNSS and inertial pose.

`<dataroot>/Chunk_N/<dongle>|<date>/<segment>/` has `video.hevc`, `processed_log/CAN/{speed,steering_angle}/{t,value}` and
`global_pose/frame_{times,positions,orientations}`; the arrays are .npy files without that ending. Times are of one clock, in seconds;
steering is the wheel's angle in degrees, left positive; poses are in the Earth-centred frame (ECEF), in metres.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wamlab.config import digest
from wamlab.data.dataset import Dataset, at_frames, state_of_files
from wamlab.errors import CanBusMissing, DatasetIncomplete, DatasetMissing, InvalidParameter, WamlabError
from wamlab.types import ACTIONS, SPLITS, Scene

VIDEO_HZ = 20
IMAGE_SIZE = (1164, 874)
INTRINSICS = ((910.0, 0.0, 582.0), (0.0, 910.0, 437.0), (0.0, 0.0, 1.0))
HOW_TO_GET = "unpack Chunk_1.zip to Chunk_10.zip of https://github.com/commaai/comma2k19 there"
#: A folder of a drive: what names the recorder, and the time it started; the bar is no letter of every file system.
DRIVE = re.compile(r"(?P<dongle>[0-9a-f]{16})[|_](?P<start>\d{4}-\d\d-\d\d--\d\d-\d\d-\d\d)")
#: Array -> its columns, in the folder of the poses and in that of each signal.
POSE = {"frame_times": 1, "frame_positions": 3, "frame_orientations": 4}
SIGNAL = {"t": 1, "value": 1}
#: The files that a scene is made from.
PARTS = (
    "video.hevc",
    *(f"global_pose/{part}" for part in POSE),
    *(f"processed_log/CAN/{signal}/{part}" for signal in ("speed", "steering_angle") for part in SIGNAL),
)
#: Half the time over which the speed's slope is taken.
ACCEL_WINDOW_S = 0.25
#: The Earth's semi-major axis and squared eccentricity (WGS 84).
EARTH_RADIUS_M, EARTH_ECCENTRICITY_2 = 6_378_137.0, 6.694379990141e-3


class Comma2k19Dataset(Dataset):
    """comma2k19 at `rate_hz`, a scene a segment, named `<dongle>_<date>--<segment>`.

    Splits are by drive, since the segments of one follow each other: see `split_of_drive`. (Drives go along the same road.)

    `ego_pose` is the recorder's position in the plane that touches the Earth at the scene's first frame: x_m east, y_m north of there,
    yaw_rad counter-clockwise from east to where the recorder's forward axis points, which may be a degree beside the car's (0.9 in the
    minute of Example_1). `accel_mps2` is the slope of the CAN speed (see `slope`), since a car's speed sensor is free of the gravity that
    an accelerometer feels uphill.
    """

    how_to_mend = HOW_TO_GET

    def __init__(self, name: str, dataroot: Path | str, rate_hz: float = 2.0) -> None:
        """Look which segments are there; read none of them.

        Raises:
            DatasetMissing: there is none.
            InvalidParameter: the video's 20 Hz are not a multiple of `rate_hz`.
        """
        super().__init__(name, dataroot)
        if rate_hz <= 0 or VIDEO_HZ % rate_hz:
            raise InvalidParameter(
                f"rate_hz must divide the video's {VIDEO_HZ} Hz, as 1, 2, 4, 5 and 10 do, not {rate_hz}"
            )
        self.rate_hz = float(rate_hz)
        self.segments = find_segments(self.dataroot)
        if not self.segments:
            raise DatasetMissing(f"no comma2k19 dataset at {self.dataroot}: {HOW_TO_GET}")

    def __repr__(self) -> str:
        return f"Comma2k19Dataset({self.name!r}, {str(self.dataroot)!r}, {self.rate_hz!r})"

    def __reduce__(self) -> tuple:
        """Another process opens the dataset anew."""
        return Comma2k19Dataset, (self.name, self.dataroot, self.rate_hz)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the rate and the names and sizes of the segments' files."""
        sizes = [
            (name, path.relative_to(folder).as_posix(), path.stat().st_size)
            for name, folder in self.segments.items()
            for path in _files(folder)
        ]
        return digest("comma2k19", self.rate_hz, sizes, length=32)

    def stamp(self) -> str:
        """Digest of the fingerprint and of when the files changed."""
        files = [path for folder in self.segments.values() for path in _files(folder)]
        return digest(self.fingerprint, state_of_files(self.dataroot, files))

    def read_splits(self) -> dict[str, tuple[str, ...]]:
        """By drive; a small part of the dataset may leave a split empty."""
        of = {name: split_of_drive(name.rsplit("--", 1)[0]) for name in self.segments}
        return {split: tuple(name for name in of if of[name] == split) for split in SPLITS}

    def read_scenes(self) -> Iterator[tuple[str, Scene | WamlabError]]:
        for name, folder in self.segments.items():
            try:
                yield name, self._read(name, folder)
            except (CanBusMissing, DatasetIncomplete) as problem:
                yield name, problem

    def _read(self, name: str, folder: Path) -> Scene:
        video = folder / "video.hevc"
        if not video.is_file():
            raise DatasetIncomplete(f"{video} is missing, so {name} has no images: {HOW_TO_GET}")
        pose = _load_together(folder / "global_pose", POSE, DatasetIncomplete, f"the poses of {name}")
        speed, steering = (
            _load_together(folder / "processed_log" / "CAN" / signal, SIGNAL, CanBusMissing, f"the actions of {name}")
            for signal in ("speed", "steering_angle")
        )
        numbers = np.arange(0, len(pose["frame_times"]), round(VIDEO_HZ / self.rate_hz))
        times_s = pose["frame_times"][numbers]
        signals = {
            "steering_rad": _at(steering["t"], np.radians(steering["value"]), times_s),
            "speed_mps": _at(speed["t"], speed["value"], times_s),
            "accel_mps2": slope(speed["t"], speed["value"], times_s, ACCEL_WINDOW_S),
        }
        ego_pose = to_local_plane(pose["frame_positions"][numbers], pose["frame_orientations"][numbers])
        if not np.isfinite(ego_pose).all():  # a quaternion of zeros
            raise DatasetIncomplete(
                f"{folder / 'global_pose'} is damaged, so the poses of {name} are unknown: {HOW_TO_GET}"
            )
        drive = DRIVE.match(name)
        return Scene(
            name=name,
            split="",
            timestamps_s=times_s,
            image_paths=(),
            actions=np.stack([signals[action] for action in ACTIONS], axis=1).astype(np.float32),
            ego_pose=ego_pose,
            description=f"comma2k19, highway, {drive['start'][:10]}",
            attributes={"location": "california", "recorder": drive["dongle"]},
            intrinsics=np.array(INTRINSICS),
            image_size=IMAGE_SIZE,
            video_path=video,
            video_frames=numbers,
        )


def find_segments(dataroot: Path) -> dict[str, Path]:
    """Scene name -> folder of each segment, in the order of the names' parts; none of what is in it is looked at."""
    found = {}
    for folder in dataroot.glob("*/*/*"):
        drive = DRIVE.fullmatch(folder.parent.name)
        if drive and folder.name.isdigit():
            found[drive["dongle"], drive["start"], int(folder.name)] = folder
    return {f"{dongle}_{start}--{segment}": found[dongle, start, segment] for dongle, start, segment in sorted(found)}


def split_of_drive(drive: str) -> str:
    """80 % of the drives are `train`, 10 % `val`, 10 % `test`, by a digest of the name `<dongle>_<date>`: always the same ones."""
    share = int(digest(drive, length=8), 16) / 16**8
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def slope(times_s: NDArray, values: NDArray, at_s: NDArray, half_window_s: float) -> NDArray[np.float64]:
    """(T,) slope per second of the line fitted to the values (N,) less than `half_window_s` from each time; NaN if under two."""
    order = np.argsort(times_s, kind="stable")
    times_s, values = times_s[order], values[order]
    first, last = (np.searchsorted(times_s, at_s + offset) for offset in (-half_window_s, half_window_s))
    slopes = np.full(len(at_s), np.nan)
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        if b - a >= 2 and times_s[b - 1] > times_s[a]:
            centred_s = times_s[a:b] - times_s[a:b].mean()
            slopes[i] = centred_s @ values[a:b] / (centred_s @ centred_s)
    return slopes


def to_local_plane(positions_m: NDArray, orientations: NDArray) -> NDArray[np.float64]:
    """(T, 3) x_m east, y_m north and yaw_rad counter-clockwise from east, in the plane touching the Earth (WGS 84) at the first position.

    `positions_m` (T, 3) are Earth-centred, Earth-fixed. `orientations` (T, 4) are quaternions w, x, y, z that turn vectors of the vehicle
    (forward, right, down) into that frame; one of length 0 gives NaN. Height is dropped; over 2 km the plane is off by less than 1 mm.
    """
    x, y, z = positions_m[0]
    longitude, latitude = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y) * (1 - EARTH_ECCENTRICITY_2))
    for _ in range(5):  # the vertical does not pass through the Earth's centre; each step leaves 1 % of the error
        normal_m = EARTH_RADIUS_M / np.sqrt(1 - EARTH_ECCENTRICITY_2 * np.sin(latitude) ** 2)
        latitude = np.arctan2(z + EARTH_ECCENTRICITY_2 * normal_m * np.sin(latitude), np.hypot(x, y))
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    north = np.array([-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude)])

    with np.errstate(invalid="ignore"):
        w, i, j, k = (orientations / np.linalg.norm(orientations, axis=1, keepdims=True)).T
    forward = np.stack([1 - 2 * (j * j + k * k), 2 * (i * j + w * k), 2 * (i * k - w * j)], axis=1)
    moved_m = positions_m - positions_m[0]
    return np.stack([moved_m @ east, moved_m @ north, np.arctan2(forward @ north, forward @ east)], axis=1)


def _at(signal_s: NDArray, values: NDArray, times_s: NDArray) -> NDArray[np.float64]:
    return at_frames(np.round(signal_s * 1e6).astype(np.int64), values, np.round(times_s * 1e6).astype(np.int64))


def _files(folder: Path) -> list[Path]:
    """Those files of a segment's that a scene is made from and that are there."""
    return [folder / part for part in PARTS if (folder / part).is_file()]


def _load_together(
    folder: Path, widths: Mapping[str, int], error: type[WamlabError], lost: str
) -> dict[str, NDArray[np.float64]]:
    """Arrays (N,), or (N, width) of a width above 1, of one length and finite. Raises `error`, saying what is `lost` with them."""
    arrays = {}
    for part, width in widths.items():
        problem = "is damaged"
        try:
            array = np.asarray(np.load(folder / part, allow_pickle=False), np.float64)
            if array.size and array.size == len(array) * width and np.isfinite(array).all():
                arrays[part] = array.reshape(-1, width) if width > 1 else array.reshape(-1)
                continue
        except FileNotFoundError:
            problem = "is missing"
        except (ValueError, TypeError, EOFError, OSError):
            pass
        raise error(f"{folder / part} {problem}, so {lost} are unknown: {HOW_TO_GET}")
    if len({len(array) for array in arrays.values()}) > 1:
        raise error(f"{folder} has arrays of several lengths, so {lost} are unknown: {HOW_TO_GET}")
    return arrays
