"""The rows of nuScenes' 13 tables for one recorded drive. Tokens are digests of names, so equal drives give equal rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from wamlab.world.recording import AgentTrack, Film, Recording
from wamlab.world.taxonomy import ATTRIBUTES, CATEGORIES, VISIBILITY

LOCATION = "synthetic"
CHANNEL = "CAM_FRONT"
#: Tables that a scene adds rows to; the others (`static_tables`) are the same for every dataset.
SCENE_TABLES = (
    "calibrated_sensor", "ego_pose", "instance", "log", "map", "sample", "sample_annotation", "sample_data", "scene",
)  # fmt: skip

Row = dict[str, Any]


def token(*parts: object) -> str:
    """nuScenes' kind of token, 32 hex digits, but a digest of the names instead of chance."""
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()[:32]


def file_name(name: str, film: Film, shot: int, keyframe: bool) -> str:
    """Where a shot lies in the dataset, as nuScenes has it."""
    folder, kind = "samples" if keyframe else "sweeps", "pcd.bin" if film.intrinsics is None else "jpg"
    return f"{folder}/{film.channel}/{name}__{film.channel}__{int(film.timestamps_us[shot])}.{kind}"


def scene_tables(recording: Recording, images_sha256: str) -> dict[str, list[Row]]:
    """Table -> the rows of this scene."""
    name, times = recording.name, [int(t) for t in recording.timestamps_us]
    samples = [token(name, "sample", t) for t in range(len(times))]
    date = datetime.fromtimestamp(times[0] / 1e6, UTC).strftime("%Y-%m-%d")
    poses = {
        int(t): pose for film in recording.films for t, pose in zip(film.timestamps_us, film.ego_pose, strict=True)
    }
    instances, annotations = _annotations(recording, samples)
    # three keys more than nuScenes has: what the description says in words, what the images' bytes are, and what the scene is made from
    extra = {"attributes": dict(recording.attributes), "images_sha256": images_sha256}
    extra |= {"world": recording.world} if recording.world else {}
    return {
        "log": [
            {"token": token(name, "log"), "logfile": f"{LOCATION}-{name}", "vehicle": LOCATION, "date_captured": date}
            | {"location": LOCATION}
        ],
        "map": [
            {"token": token(name, "map"), "log_tokens": [token(name, "log")], "category": "semantic_prior"}
            | {"filename": f"maps/{name}.png"}
        ],
        "scene": [
            {"token": token(name), "log_token": token(name, "log"), "nbr_samples": len(times), "name": name}
            | {"first_sample_token": samples[0], "last_sample_token": samples[-1], "description": recording.description}
            | extra
        ],
        "sample": [
            {"token": own, "timestamp": times[t], "scene_token": token(name)} | _neighbours(samples, t)
            for t, own in enumerate(samples)
        ],
        "sample_data": [row for film in recording.films for row in _sample_data(recording, film, samples)],
        # all sensors are exposed at the same instants, so they share the poses
        "ego_pose": [
            {"token": token(name, "ego_pose", t), "timestamp": t, "rotation": _quaternion(pose[2])}
            | {"translation": [*_rounded(pose[:2], 4), 0.0]}
            for t, pose in sorted(poses.items())
        ],
        "calibrated_sensor": [
            {"token": token(name, "calibrated_sensor", film.channel), "sensor_token": token("sensor", film.channel)}
            | {"translation": _rounded(film.translation_m, 6), "rotation": _rounded(film.rotation, 9)}
            | {"camera_intrinsic": [] if film.intrinsics is None else _rounded(film.intrinsics, 6)}
            for film in recording.films
        ],
        "instance": instances,
        "sample_annotation": annotations,
    }


def sensor_rows(channels: Iterable[str]) -> list[Row]:
    """The rows of `sensor`."""
    return [
        {"token": token("sensor", c), "channel": c, "modality": "camera" if c.startswith("CAM") else "lidar"}
        for c in sorted(channels)
    ]


def _sample_data(recording: Recording, film: Film, samples: list[str]) -> list[Row]:
    """One row a shot. A sweep belongs to the keyframe that follows it, as in nuScenes (the devkit interpolates boxes backwards from it)."""
    name, (width, height) = recording.name, film.size
    times = film.timestamps_us.tolist()
    owner = np.minimum(np.searchsorted(recording.timestamps_us, times), len(samples) - 1)
    keyframe = (recording.timestamps_us[owner] == times).tolist()
    tokens = [token(name, film.channel, t) for t in times]
    calibration = token(name, "calibrated_sensor", film.channel)
    return [
        {"token": own, "sample_token": samples[owner[i]], "ego_pose_token": token(name, "ego_pose", times[i])}
        | {"timestamp": times[i], "calibrated_sensor_token": calibration, "is_key_frame": keyframe[i]}
        | {"fileformat": "pcd" if film.intrinsics is None else "jpg", "width": width, "height": height}
        | {"filename": file_name(name, film, i, keyframe[i])}
        | _neighbours(tokens, i)
        for i, own in enumerate(tokens)
    ]


def _annotations(recording: Recording, samples: list[str]) -> tuple[list[Row], list[Row]]:
    """The rows of `instance` and `sample_annotation`; an agent that is never annotated has neither."""
    instances, annotations = [], []
    for index, agent in enumerate(recording.agents):
        instance = token(recording.name, "instance", index)
        frames = np.flatnonzero(agent.visibility)
        chain = [token(recording.name, "annotation", index, t) for t in frames]
        if not chain:
            continue
        instances.append(
            {"token": instance, "category_token": token("category", agent.category), "nbr_annotations": len(chain)}
            | {"first_annotation_token": chain[0], "last_annotation_token": chain[-1]}
        )
        size, rotations = _rounded(agent.size_m, 3), _quaternion(agent.pose[:, 2])
        centres = _rounded(np.column_stack([agent.pose[:, :2], agent.z_m]), 3)
        lidar = _lidar_points(agent, recording.ego_pose)
        for i, t in enumerate(frames.tolist()):
            annotations.append(
                {"token": chain[i], "sample_token": samples[t], "instance_token": instance}
                | {"visibility_token": str(agent.visibility[t])}
                | {"attribute_tokens": [token("attribute", agent.attribute[t])] if agent.attribute[t] else []}
                | {"translation": centres[t], "size": size, "rotation": rotations[t]}
                | {"num_lidar_pts": lidar[t], "num_radar_pts": 0}
                | _neighbours(chain, i)
            )
    return instances, annotations


def _lidar_points(agent: AgentTrack, ego_pose: np.ndarray) -> list[int]:
    """(T,) points in the box. Without a lidar, as many as one would see of a box of this size, distance and visibility (evaluations
    leave out boxes without any): 32 beams, 1.33 x 0.33 degrees apart."""
    if agent.lidar_points is not None:
        return agent.lidar_points.tolist()
    distance_m = np.maximum(1.0, np.hypot(*(agent.pose[:, :2] - ego_pose[:, :2]).T))
    share = np.array([0.0] + [sum(percent) / 200 for _, percent in VISIBILITY.values()])[agent.visibility]
    solid_angle = max(agent.size_m[:2]) * agent.size_m[2] / distance_m**2
    return np.maximum(1, solid_angle / (np.radians(1.33) * np.radians(0.33)) * share).astype(int).tolist()


def static_tables() -> dict[str, list[Row]]:
    return {
        "attribute": [{"token": token("attribute", n), "name": n, "description": ""} for n in ATTRIBUTES],
        "category": [{"token": token("category", n), "name": n, "description": ""} for n in CATEGORIES],
        "visibility": [
            {"token": key, "level": level, "description": f"visibility of whole object is between {low} and {high}%"}
            for key, (level, (low, high)) in VISIBILITY.items()
        ],
    }


def _neighbours(tokens: Sequence[str], i: int) -> dict[str, str]:
    return {"prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < len(tokens) else ""}


def _quaternion(yaw_rad: Any) -> list:
    """Yaw (...,) -> w, x, y, z (..., 4)."""
    zero = np.zeros_like(yaw_rad)
    return _rounded(np.stack([np.cos(yaw_rad / 2), zero, zero, np.sin(yaw_rad / 2)], -1), 8)


def _rounded(values: Any, decimals: int) -> list:
    return (np.round(np.asarray(values, np.float64), decimals) + 0.0).tolist()
