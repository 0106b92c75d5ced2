"""Segments in comma2k19's layout for the tests: a drive with known answers, or the real minute where it is at hand, and a video."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

DRIVE = "b0c9d2329ad1606b|2018-08-02--08-34-47"
WIDTH, HEIGHT, VIDEO_HZ = 96, 64, 20
#: Where the synthetic drives start: 37.4 degrees north, 122.2 degrees west, at sea level.
LATITUDE, LONGITUDE = np.radians([37.4, -122.2])
EARTH_RADIUS_M, FLATTENING = 6_378_137.0, 1 / 298.257223563
#: The real minute's car, a Toyota RAV4 of 2016.
REAL_WHEELBASE_M = 2.66


def real_arrays() -> dict[str, np.ndarray]:
    """Relative path -> array of the real minute. Skips the test where it is not at hand."""
    folder = Path(os.environ.get("WAMLAB_REAL_DATA", "")) / "comma2k19"
    if "WAMLAB_REAL_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("needs the minute of comma2k19 in $WAMLAB_REAL_DATA/comma2k19")
    flat = {path.stem: np.load(path, allow_pickle=False) for path in folder.glob("*.npy")}
    names = {"CAN_speed": "processed_log/CAN/speed/", "CAN_steering_angle": "processed_log/CAN/steering_angle/"}
    can = {new + part: flat[f"{old}_{part}"] for old, new in names.items() for part in ("t", "value")}
    parts = ("frame_times", "frame_positions", "frame_orientations")
    return can | {f"global_pose/{part}": flat[f"global_pose_{part}"] for part in parts}


def made_arrays(seconds: float = 4.0, speed_mps: float = 20.0, yaw_rate_radps: float = 0.1) -> dict[str, np.ndarray]:
    """The same of a level left turn that starts eastward; the speed rises by 1 m/s each second."""
    frames_s = np.arange(round(seconds * VIDEO_HZ)) / VIDEO_HZ
    can_s = np.arange(-0.1, seconds + 0.1, 0.012)
    fine_s = np.linspace(0, seconds, 20_001)
    yaw = yaw_rate_radps * fine_s
    path_m = np.cumsum((speed_mps + fine_s)[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1), axis=0) * fine_s[1]
    plane_m = np.stack([np.interp(frames_s, fine_s, path_m[:, axis] - path_m[0, axis]) for axis in (0, 1)], axis=1)

    east, north, up = local_axes()
    square = FLATTENING * (2 - FLATTENING)
    normal_m = EARTH_RADIUS_M / np.sqrt(1 - square * np.sin(LATITUDE) ** 2)
    start_m = normal_m * np.array(
        [
            np.cos(LATITUDE) * np.cos(LONGITUDE),
            np.cos(LATITUDE) * np.sin(LONGITUDE),
            (1 - square) * np.sin(LATITUDE),
        ]
    )
    yaw = yaw_rate_radps * frames_s[:, None]
    forward = np.cos(yaw) * east + np.sin(yaw) * north
    right = np.sin(yaw) * east - np.cos(yaw) * north
    return {
        "global_pose/frame_times": 1000 + frames_s,
        "global_pose/frame_positions": start_m + plane_m[:, :1] * east + plane_m[:, 1:] * north,
        "global_pose/frame_orientations": quaternions(np.stack([forward, right, np.tile(-up, (len(yaw), 1))], axis=2)),
        "processed_log/CAN/speed/t": 1000 + can_s,
        "processed_log/CAN/speed/value": (speed_mps + can_s)[:, None],
        "processed_log/CAN/steering_angle/t": 1000 + can_s,
        "processed_log/CAN/steering_angle/value": 5 + 10 * can_s,
    }


def local_axes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """East, north and up, at the start of the synthetic drives."""
    east = np.array([-np.sin(LONGITUDE), np.cos(LONGITUDE), 0])
    up = np.array([np.cos(LATITUDE) * np.cos(LONGITUDE), np.cos(LATITUDE) * np.sin(LONGITUDE), np.sin(LATITUDE)])
    return east, np.cross(up, east), up


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """(T, 4) w, x, y, z of (T, 3, 3) rotations."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotations).as_quat()[:, [3, 0, 1, 2]]


def write_segment(
    root: Path, arrays: dict[str, np.ndarray], drive: str = DRIVE, segment: int = 40, chunk: str = "Chunk_1"
) -> Path:
    """The arrays and a video of as many frames, in the original's layout. Returns the segment's folder."""
    folder = root / chunk / drive / str(segment)
    for relative, array in arrays.items():
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        with (folder / relative).open("wb") as file:
            np.save(file, array)
    write_video(folder / "video.hevc", len(arrays["global_pose/frame_times"]))
    return folder


def write_video(path: Path, frames: int, options: str = "keyint=20:open-gop=0") -> None:
    """A raw HEVC stream whose frame i is grey of `shade(i)` on the left, with a white bar that moves on the right."""
    with av.open(str(path), "w", format="hevc") as container:
        stream = container.add_stream("libx265", rate=VIDEO_HZ)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "10", "x265-params": f"log-level=none:{options}"}
        for i in range(frames):
            image = np.full((HEIGHT, WIDTH, 3), shade(i), np.uint8)
            image[:, WIDTH // 2 + i % (WIDTH // 2)] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def shade(frame: int) -> int:
    """Far from that of the frames around: 20 to 230."""
    return 20 + frame * 37 % 211
