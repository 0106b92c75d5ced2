"""Cameras: intrinsics, mounting on the car, and the rays of their pixels. No drawing."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, radians

import numpy as np
from numpy.typing import ArrayLike

from wamlab.errors import InvalidParameter


@dataclass(frozen=True)
class Camera:
    """A pinhole camera fixed to the car, in any pose.

    Attributes:
        width, height: pixels. focal_px: the same in both directions; the principal point is the middle of the image.
        position_m: in the ego frame. yaw_rad: 0 looks forward, positive to the left. pitch_rad: positive looks down.
        roll_rad: about the optical axis, positive: the camera's right side goes down (but reflections in the wet, and rain, stay upright).

    Raises `InvalidParameter` for a size, focal length, position or angle that no camera has.
    """

    name: str = "CAM_FRONT"
    width: int = 256
    height: int = 144
    focal_px: float = 160.0
    position_m: tuple[float, float, float] = (1.7, 0.0, 1.5)
    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    roll_rad: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or not 0 < self.focal_px < np.inf:
            raise InvalidParameter(
                f"{self.name} needs a positive size and focal length, not {self.width}x{self.height} px and {self.focal_px} px"
            )
        if len(self.position_m) != 3 or not np.isfinite(self.position_m).all() or self.position_m[2] <= 0:
            raise InvalidParameter(
                f"{self.name} needs a position_m (x, y, z) above the ground (z > 0), not {self.position_m}"
            )
        object.__setattr__(self, "position_m", tuple(float(v) for v in self.position_m))  # cameras are keys of caches
        angles = (self.yaw_rad, self.pitch_rad, self.roll_rad)
        if not np.isfinite(angles).all() or abs(self.pitch_rad) > pi / 2:
            raise InvalidParameter(
                f"{self.name} needs finite yaw_rad, pitch_rad and roll_rad, pitch_rad within +-pi/2, not {angles}"
            )

    @classmethod
    def from_intrinsics(
        cls,
        name: str,
        intrinsics: ArrayLike,
        size_px: tuple[int, int],
        position_m: ArrayLike,
        rotation: ArrayLike,
    ) -> Camera:
        """A camera as calibration files describe it.

        Args:
            intrinsics: (3, 3), pixels from metres in the camera frame.
            size_px: (width, height).
            position_m, rotation: of the camera in the ego frame; rotation is a matrix (3, 3: camera -> ego) or a quaternion (4,) w, x, y, z
                (nuScenes' `calibrated_sensor`).

        Raises `InvalidParameter` for what is no rotation, and for pixels that are not square or a principal point off the middle of the
        image: crop such images about it.
        """
        k, turn, (width, height) = np.asarray(intrinsics, float), np.asarray(rotation, float), size_px
        square = k.shape == (3, 3) and [[k[0, 0], 0, width / 2], [0, k[0, 0], height / 2], [0, 0, 1]]
        if not square or not np.allclose(k, square, rtol=1e-6, atol=1e-3):
            raise InvalidParameter(
                f"{name}: intrinsics must be [[f, 0, {width / 2}], [0, f, {height / 2}], [0, 0, 1]] "
                f"(square pixels, principal point in the middle), not {k.tolist()}"
            )
        if turn.shape == (4,) and np.linalg.norm(turn) > 0.5:
            from scipy.spatial.transform import Rotation

            turn = Rotation.from_quat(np.roll(turn, -1)).as_matrix()
        if turn.shape != (3, 3) or not np.allclose(turn.T @ turn, np.eye(3), atol=1e-6) or np.linalg.det(turn) < 0:
            raise InvalidParameter(
                f"{name}: rotation must be a rotation matrix (3, 3) or a quaternion (4,), not {turn.tolist()}"
            )
        right, _, forward = turn.T
        yaw, pitch = np.arctan2(forward[1], forward[0]), np.arcsin(np.clip(-forward[2], -1, 1))
        level = np.array([np.sin(yaw), -np.cos(yaw), 0])
        roll = np.arctan2(right @ np.cross(forward, level), right @ level)
        return cls(
            name, int(width), int(height), float(k[0, 0]), tuple(position_m), float(yaw), float(pitch), float(roll)
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
        down = np.cross(forward, right)
        if self.roll_rad:
            c, s = np.cos(self.roll_rad), np.sin(self.roll_rad)
            right, down = c * right + s * down, c * down - s * right
        return np.stack([right, down, forward], 1)

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


def _mounted(name: str, x_m: float, y_m: float, yaw_deg: float, focal_px: float = 160.0) -> Camera:
    return Camera(name, focal_px=focal_px, position_m=(x_m, y_m, 1.5), yaw_rad=radians(yaw_deg))


#: The six cameras of nuScenes' cars, front first, placed and turned as there; together they see all around, the rear one with a wider view.
NUSCENES_CAMERAS = (
    Camera(),
    _mounted("CAM_FRONT_LEFT", 1.5, 0.5, 55),
    _mounted("CAM_FRONT_RIGHT", 1.5, -0.5, -55),
    _mounted("CAM_BACK", 0.0, 0.0, 180, focal_px=110.0),
    _mounted("CAM_BACK_LEFT", 1.0, 0.5, 110),
    _mounted("CAM_BACK_RIGHT", 1.0, -0.5, -110),
)
