"""The rows of nuScenes' 13 tables for one recorded drive. Tokens are digests of names, so equal drives give equal rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from wamlab.world.recording import AgentTrack, Recording
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


def image_name(name: str, timestamp_us: int) -> str:
    return f"samples/{CHANNEL}/{name}__{CHANNEL}__{int(timestamp_us)}.jpg"


def scene_tables(recording: Recording, images_sha256: str) -> dict[str, list[Row]]:
    """Table -> the rows of this scene."""
    name, times = recording.name, [int(t) for t in recording.timestamps_us]
    height, width = recording.frames.shape[1:3]
    samples = [token(name, "sample", t) for t in range(len(times))]
    images = [token(name, CHANNEL, t) for t in range(len(times))]
    poses = [token(name, "ego_pose", t) for t in range(len(times))]
    date = datetime.fromtimestamp(times[0] / 1e6, UTC).strftime("%Y-%m-%d")
    instances, annotations = _annotations(recording, samples)
    return {
        "log": [
            {"token": token(name, "log"), "logfile": f"{LOCATION}-{name}", "vehicle": LOCATION, "date_captured": date}
            | {"location": LOCATION}
        ],
        "map": [
            {"token": token(name, "map"), "log_tokens": [token(name, "log")], "category": "semantic_prior"}
            | {"filename": f"maps/{name}.png"}
        ],
        # two keys more than nuScenes has: what the description says in words, and what the images' bytes are
        "scene": [
            {"token": token(name), "log_token": token(name, "log"), "nbr_samples": len(times), "name": name}
            | {"first_sample_token": samples[0], "last_sample_token": samples[-1], "description": recording.description}
            | {"attributes": dict(recording.attributes), "images_sha256": images_sha256}
        ],
        "sample": [
            {"token": own, "timestamp": times[t], "scene_token": token(name)} | _neighbours(samples, t)
            for t, own in enumerate(samples)
        ],
        "sample_data": [
            {"token": own, "sample_token": samples[t], "ego_pose_token": poses[t], "timestamp": times[t]}
            | {"calibrated_sensor_token": token(name, "calibrated_sensor"), "fileformat": "jpg", "is_key_frame": True}
            | {"width": width, "height": height, "filename": image_name(name, times[t])}
            | _neighbours(images, t)
            for t, own in enumerate(images)
        ],
        "ego_pose": [
            {"token": own, "timestamp": times[t], "rotation": _quaternion(recording.ego_pose[t, 2])}
            | {"translation": [*_rounded(recording.ego_pose[t, :2], 4), 0.0]}
            for t, own in enumerate(poses)
        ],
        "calibrated_sensor": [
            {"token": token(name, "calibrated_sensor"), "sensor_token": token("sensor", CHANNEL)}
            | {
                "translation": _rounded(recording.camera_translation_m, 6),
                "rotation": _rounded(recording.camera_rotation, 9),
            }
            | {"camera_intrinsic": _rounded(recording.intrinsics, 6)}
        ],
        "instance": instances,
        "sample_annotation": annotations,
    }


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
        for i, t in enumerate(frames):
            lidar, radar = _returns(agent, t, recording.ego_pose[t])
            annotations.append(
                {"token": chain[i], "sample_token": samples[t], "instance_token": instance}
                | {"visibility_token": str(int(agent.visibility[t]))}
                | {"attribute_tokens": [token("attribute", agent.attribute[t])] if agent.attribute[t] else []}
                | {"translation": _rounded((*agent.pose[t, :2], agent.z_m[t]), 3), "size": _rounded(agent.size_m, 3)}
                | {"rotation": _quaternion(agent.pose[t, 2]), "num_lidar_pts": lidar, "num_radar_pts": radar}
                | _neighbours(chain, i)
            )
    return instances, annotations


def _returns(agent: AgentTrack, t: int, ego: np.ndarray) -> tuple[int, int]:
    """Lidar and radar points that a box of this size, distance and visibility would get: a 32-beam lidar of 1.33 x 0.33 degrees."""
    distance_m = max(1.0, float(np.hypot(*(agent.pose[t, :2] - ego[:2]))))
    low, high = VISIBILITY[str(int(agent.visibility[t]))][1]
    solid_angle = max(agent.size_m[:2]) * agent.size_m[2] / distance_m**2
    lidar = max(1, int(solid_angle / (np.radians(1.33) * np.radians(0.33)) * (low + high) / 200))
    return lidar, min(8, int(80 / distance_m)) if agent.category.startswith("vehicle") else 0


def static_tables() -> dict[str, list[Row]]:
    return {
        "attribute": [{"token": token("attribute", n), "name": n, "description": ""} for n in ATTRIBUTES],
        "category": [{"token": token("category", n), "name": n, "description": ""} for n in CATEGORIES],
        "sensor": [{"token": token("sensor", CHANNEL), "channel": CHANNEL, "modality": "camera"}],
        "visibility": [
            {"token": key, "level": level, "description": f"visibility of whole object is between {low} and {high}%"}
            for key, (level, (low, high)) in VISIBILITY.items()
        ],
    }


def _neighbours(tokens: Sequence[str], i: int) -> dict[str, str]:
    return {"prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < len(tokens) else ""}


def _quaternion(yaw_rad: float) -> list[float]:
    return _rounded((np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)), 8)


def _rounded(values: Any, decimals: int) -> list:
    return (np.round(np.asarray(values, np.float64), decimals) + 0.0).tolist()
