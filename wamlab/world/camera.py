"""Cameras: intrinsics, mounting on the car, and the rays of their pixels. No drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab.errors import InvalidParameter


@dataclass(frozen=True)
class Camera:
    """A pinhole camera fixed to the car.

    Attributes:
        width, height: pixels. focal_px: the same in both directions; the principal point is the middle of the image.
        position_m: in the ego frame. yaw_rad: 0 looks forward, positive to the left. pitch_rad: positive looks down.
    """

    name: str = "CAM_FRONT"
    width: int = 256
    height: int = 144
    focal_px: float = 160.0
    position_m: tuple[float, float, float] = (1.7, 0.0, 1.5)
    yaw_rad: float = 0.0
    pitch_rad: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or not self.focal_px > 0:
            raise InvalidParameter(
                f"a camera needs a positive size and focal length, not {self.width}x{self.height} px and {self.focal_px} px"
            )

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3): pixels from metres in the camera frame (x right, y down, z forward)."""
        return np.array([[self.focal_px, 0, self.width / 2], [0, self.focal_px, self.height / 2], [0, 0, 1.0]])

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3): camera frame (x right, y down, z forward) -> ego frame."""
        cy, sy, cp, sp = np.cos(self.yaw_rad), np.sin(self.yaw_rad), np.cos(self.pitch_rad), np.sin(self.pitch_rad)
        forward = np.array([cy * cp, sy * cp, -sp])
        right = np.array([sy, -cy, 0.0])
        return np.stack([right, np.cross(forward, right), forward], 1)

    @property
    def quaternion(self) -> np.ndarray:
        """(4,) w, x, y, z of `rotation`, as nuScenes stores it."""
        from scipy.spatial.transform import Rotation

        return np.roll(Rotation.from_matrix(self.rotation).as_quat(), 1)

    def pose(self, ego_pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ego poses (T, 3: x, y, yaw) -> camera positions (T, 3) and rotations (T, 3, 3: camera -> world)."""
        ego_pose = np.atleast_2d(ego_pose)
        c, s, zero = np.cos(ego_pose[:, 2]), np.sin(ego_pose[:, 2]), np.zeros(len(ego_pose))
        turn = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)
        position = turn @ np.array(self.position_m) + np.pad(ego_pose[:, :2], ((0, 0), (0, 1)))
        return position, turn @ self.rotation

    def project(self, points: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) -> pixels (..., 2) and depths (...,) for one camera pose."""
        local = (points - position) @ rotation
        depth = local[..., 2]
        pixel = local @ self.intrinsics.T
        return pixel[..., :2] / np.where(np.abs(depth) < 1e-9, 1e-9, depth)[..., None], depth
