"""Clips: which camera frames, keyframes and sweeps, show the moments before a frame of a scene, and how they are read. No encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wamlab.data import Dataset
from wamlab.data.frames import load_frames
from wamlab.errors import InvalidParameter
from wamlab.geometry import nearest
from wamlab.types import Scene

#: Of the cameras of nuScenes, sweeps included.
SWEEP_RATE_HZ = 12.0


@dataclass(frozen=True)
class Film:
    """All that the front camera took in a scene and that is on disk.

    Attributes:
        timestamps_s: (M,) float64, rising.
        image_paths: M files; empty where the frames are not images, which then are the scene's own.
        keyframes: (T,) where the scene's own frames are among them.
        tokens: M of nuScenes' `sample_data`; empty for other datasets.
    """

    timestamps_s: np.ndarray
    image_paths: tuple[Path, ...]
    keyframes: np.ndarray
    tokens: tuple[str, ...] = ()

    @property
    def rate_hz(self) -> float:
        """Frames a second where it is filmed fastest, since there may be sweeps in some places only; 12 for a single frame."""
        if len(self.timestamps_s) < 2:
            return SWEEP_RATE_HZ
        gaps_s = np.diff(self.timestamps_s)
        return float(1 / np.median(gaps_s[gaps_s < 2 * np.quantile(gaps_s, 0.1)]))

    def clip(self, t: int, num_frames: int, rate_hz: float | None = None) -> np.ndarray:
        """(num_frames,) int64, the frames that make the clip of the scene's frame t; the last one is frame t itself.

        The clip's moments are 1 / rate_hz apart (by default as the camera's frames are), and each shows the frame nearest to it that is
        not after t. So a clip has the same pace everywhere: where a sweep is missing its neighbour is shown twice, and before the scene's
        first frame that one is repeated. The paper took the 16 sweeps before t, whatever their times, and put a keyframe for each missing
        one, which breaks the pace.
        """
        rate_hz = self.rate_hz if rate_hz is None else rate_hz
        if not rate_hz > 0:
            raise InvalidParameter(f"rate_hz must be positive, not {rate_hz}")
        present = self.keyframes[t]
        moments_s = self.timestamps_s[present] - np.arange(num_frames - 1, -1, -1) / rate_hz
        return np.minimum(nearest(self.timestamps_s, moments_s), present)

    def is_whole(self, t: int, num_frames: int) -> bool:
        """Whether the clip of the scene's frame t, at the film's rate, shows no frame twice."""
        return len(np.unique(self.clip(t, num_frames))) == num_frames


def film_of(dataset: Dataset, scene: Scene) -> Film:
    """The film of a scene. Sweeps that are not on disk are left out; without any, it is the scene's own frames."""
    nusc = getattr(dataset, "nusc", None)
    own = Film(scene.timestamps_s, scene.image_paths, np.arange(len(scene)))
    if nusc is None:
        return own
    record = next(record for record in nusc.scene if record["name"] == scene.name)
    sample = nusc.get("sample", record["first_sample_token"])
    shots = [nusc.get("sample_data", token) for token in sample["data"].values()]
    shot = next(shot for shot in shots if dataset.dataroot / shot["filename"] == scene.image_paths[0])
    rows = {shot["timestamp"]: shot}
    for neighbour in ("prev", "next"):
        token = shot[neighbour]
        while token:
            other = nusc.get("sample_data", token)
            rows[other["timestamp"]] = other
            token = other[neighbour]
    paths = {time_us: dataset.dataroot / row["filename"] for time_us, row in rows.items()}
    kept = set(scene.image_paths)
    times_us = [time_us for time_us, path in sorted(paths.items()) if path in kept or path.is_file()]
    film_s = np.array(times_us, np.int64) / 1e6
    return Film(
        film_s,
        tuple(paths[time_us] for time_us in times_us),
        nearest(film_s, scene.timestamps_s),
        tuple(rows[time_us]["token"] for time_us in times_us),
    )


def load_clips(
    scene: Scene,
    film: Film,
    indices: Sequence[int],
    resolution: int,
    num_frames: int = 16,
    rate_hz: float | None = None,
    load: Callable[[Scene, Sequence[int], int], torch.Tensor] = load_frames,
) -> torch.Tensor:
    """(N, num_frames, 3, R, R) uint8: the clips of frames of a scene (`Film.clip`), as `load` reads them; raises as it does."""
    clips = np.stack([film.clip(t, num_frames, rate_hz) for t in indices])
    needed, places = np.unique(clips, return_inverse=True)
    return load(filmed(scene, film), needed.tolist(), resolution)[torch.from_numpy(places.reshape(clips.shape))]


def filmed(scene: Scene, film: Film) -> Scene:
    """The scene with the frames of its film for its own, as `load_frames` reads them; nothing else of it fits these frames."""
    if len(film.timestamps_s) == len(scene):
        return scene
    return dataclasses.replace(scene, timestamps_s=film.timestamps_s, image_paths=film.image_paths)
