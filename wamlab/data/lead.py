"""The vehicle ahead in the frames of a film, from a dataset's annotations: what is hidden to see whether it is what an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wamlab.data import Dataset
from wamlab.data.clips import Film
from wamlab.data.perturb import lead_vehicle_box
from wamlab.errors import LabelsMissing
from wamlab.geometry import steering_to_curvature
from wamlab.types import ACTIONS, Scene

#: Prefix of nuScenes' categories.
VEHICLE = "vehicle."


def lead_boxes(dataset: Dataset, scene: Scene, film: Film, indices: Sequence[int], resolution: int) -> np.ndarray:
    """(N, 4) left, top, right, bottom in pixels of the vehicle ahead in frames of a film as `load_frames` gives them; NaN for none.

    Sweeps have the boxes that the devkit interpolates between keyframes. Raises `LabelsMissing` for a dataset without annotations.
    """
    if not film.tokens:
        raise LabelsMissing(
            f"{scene.name} of {dataset.name} has no annotated vehicles: take `lead vehicle` out of the perturbations"
        )
    steering = np.nan_to_num(scene.actions[:, ACTIONS.index("steering_rad")])
    boxes = []
    for i in indices:
        row = dataset.nusc.get("sample_data", film.tokens[i])
        _, found, intrinsics = dataset.nusc.get_sample_data(film.tokens[i])
        corners_m = [box.corners().T for box in found if box.name.startswith(VEHICLE)]
        curvature = float(steering_to_curvature(np.interp(film.timestamps_s[i], scene.timestamps_s, steering)))
        size = (row["width"], row["height"])
        boxes.append(lead_vehicle_box(np.reshape(corners_m, (-1, 8, 3)), intrinsics, size, resolution, curvature))
    return np.array(boxes).reshape(-1, 4)
