"""How a dataset is driven: actions, speeds, curvatures, and whether the car's signals agree with its path. Any dataset; no models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from wamlab.errors import InvalidParameter
from wamlab.geometry import steering_to_curvature, wrap_angle
from wamlab.types import Scene

#: Column of `driving` -> what it is, with its unit.
QUANTITIES = {
    "steering_rad": "steering wheel, rad (left positive)",
    "accel_mps2": "acceleration, m/s²",
    "speed_mps": "speed, m/s",
    "curvature_per_m": "curvature of the path, 1/m (left positive)",
}
RECORDED, NEAT, EXPLORING = "recorded", "neat driver", "exploring driver"
#: Slower than this, the path of two frames says nothing about curvature or turning.
_MOVING_MPS = 1.0


def driving(scenes: Sequence[Scene]) -> pd.DataFrame:
    """A row for each frame but the last of each scene.

    Columns: scene, driver (of a synthetic scene: `NEAT` or `EXPLORING`, else `RECORDED`), the columns of `QUANTITIES`, and yaw_rate_radps
    (from this frame's pose to the next) beside signal_radps (what steering and speed, averaged over both frames, say of it through the
    kinematic bicycle). Curvature, yaw rate and signal are NaN while the car hardly moves. Frames with an unknown action are left out.

    Raises `InvalidParameter` for no scenes.
    """
    if not scenes:
        raise InvalidParameter("no scenes to describe: choose a split that has some")
    parts = []
    for scene in scenes:
        steering, accel, speed = scene.actions.astype(float).T
        step_s = np.diff(scene.timestamps_s)
        move = np.diff(scene.ego_pose, axis=0)
        turn, way = wrap_angle(move[:, 2]), np.hypot(move[:, 0], move[:, 1])
        bicycle = speed * steering_to_curvature(steering)
        moves = way / step_s > _MOVING_MPS
        made = scene.world
        parts.append(
            pd.DataFrame(
                {
                    "scene": scene.name,
                    "driver": RECORDED if made is None else EXPLORING if made.get("explore") else NEAT,
                    "steering_rad": steering[:-1],
                    "accel_mps2": accel[:-1],
                    "speed_mps": speed[:-1],
                    "curvature_per_m": np.where(moves, turn / np.maximum(way, 1e-9), np.nan),
                    "yaw_rate_radps": np.where(moves, turn / step_s, np.nan),
                    "signal_radps": np.where(moves, (bicycle[1:] + bicycle[:-1]) / 2, np.nan),
                }
            )
        )
    return pd.concat(parts, ignore_index=True).dropna(subset=["steering_rad", "accel_mps2", "speed_mps"])


def quantiles(table: pd.DataFrame, levels: Sequence[float] = (0.01, 0.05, 0.5, 0.95, 0.99)) -> pd.DataFrame:
    """A row for each driver and quantity, a column for each level, and last the number of scenes."""
    rows = []
    for driver, part in table.groupby("driver", sort=False):
        for column, title in QUANTITIES.items():
            row = {"driver": driver, "quantity": title}
            row |= {f"p{100 * q:g}": part[column].quantile(q) for q in levels}
            rows.append(row | {"scenes": part.scene.nunique()})
    return pd.DataFrame(rows).set_index(["driver", "quantity"])


def agreement(table: pd.DataFrame) -> pd.Series:
    """For each scene the correlation of steering x speed with the yaw rate of its path.

    Scenes that hardly turn (a deviation of the yaw rate under 0.01 rad/s) or have fewer than five moving frames are left out: there is
    nothing to correlate.
    """
    moving = table.dropna(subset=["yaw_rate_radps", "signal_radps"])
    found = {
        name: float(np.corrcoef(part.yaw_rate_radps, part.signal_radps)[0, 1])
        for name, part in moving.groupby("scene")
        if len(part) >= 5 and part.yaw_rate_radps.std() > 0.01 and part.signal_radps.std() > 0
    }
    return pd.Series(found, name="correlation", dtype=float)
