"""Collisions of the ego car: with whom, when, where and how hard. Geometry of boxes on the ground; nothing here moves anybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab.geometry import rotate, wrap_angle
from wamlab.world.driver import EGO_LENGTH_M, EGO_WIDTH_M, REAR_AXLE_TO_CENTRE_M
from wamlab.world.primitives import Material, Semantic
from wamlab.world.simulation import State, World

EGO_HALF_M = np.array([EGO_LENGTH_M, EGO_WIDTH_M]) / 2
_BUMPER_M = 1.0  # what begins higher above the ground than this, the car drives under
_BISECTIONS = 7  # of the step in which boxes come to overlap: 0.7 ms
_TOUCH_M = 0.05


@dataclass(frozen=True)
class Collision:
    """The ego car touches something for the first time.

    Attributes:
        time_s: when, to 1 ms: poses are interpolated between two steps. point_m: where, x and y on the map.
        agent: the other's index in `World.agents`, None for what is fixed. kind: its kind ("sedan", "pedestrian"), or "building",
            "pole" or "tree".
        side: of the ego car that is hit: "front", "rear", "left", "right". "rear": somebody drove into it.
        impact_mps: magnitude of the relative velocity. ego_mps: the ego car's own speed.
    """

    time_s: float
    point_m: tuple[float, float]
    agent: int | None
    kind: str
    side: str
    impact_mps: float
    ego_mps: float


def overlap(pose: np.ndarray, half_m: np.ndarray, poses: np.ndarray, halves_m: np.ndarray) -> np.ndarray:
    """Do two oriented boxes overlap? Separating axes: two boxes are apart if they are so along a side of either (Gottschalk et al. 1996).

    Args:
        pose, poses: (..., 3) x_m, y_m of the middles and yaw_rad. half_m, halves_m: (..., 2) half length and half width.
            They broadcast.

    Returns:
        (...,) bool; boxes that only touch do not overlap.
    """
    turn = poses[..., 2] - pose[..., 2]
    c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    offset = poses[..., :2] - pose[..., :2]
    apart = np.zeros(np.broadcast_shapes(pose.shape[:-1], poses.shape[:-1]), bool)
    for yaw, mine, other in ((pose[..., 2], half_m, halves_m), (poses[..., 2], halves_m, half_m)):
        reach = mine + np.stack([c * other[..., 0] + s * other[..., 1], s * other[..., 0] + c * other[..., 1]], -1)
        apart |= (np.abs(rotate(offset, -yaw)) >= reach).any(-1)
    return ~apart


def corners(pose: np.ndarray, half_m: np.ndarray) -> np.ndarray:
    """Boxes (..., 3), (..., 2) -> their corners (..., 4, 2), counter-clockwise from the front left."""
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1.0]])
    return rotate(signs * half_m[..., None, :], pose[..., None, 2]) + pose[..., None, :2]


def ego_box(ego_pose: np.ndarray) -> np.ndarray:
    """Poses (..., 3) of the ego car's rear axle -> of its middle, to go with `EGO_HALF_M`."""
    ego_pose = np.asarray(ego_pose, float)
    ahead = REAR_AXLE_TO_CENTRE_M * np.stack([np.cos(ego_pose[..., 2]), np.sin(ego_pose[..., 2])], -1)
    return np.concatenate([ego_pose[..., :2] + ahead, ego_pose[..., 2:]], -1)


class CollisionChecker:
    """Finds what the ego car newly touches in a step: agents of every kind, parked cars, buildings, poles, trunks of trees."""

    def __init__(self, world: World) -> None:
        self.world = world
        shapes = world.scenery.shapes
        solid = ~shapes.ellipsoid & (shapes.material != Material.FOLIAGE)
        solid &= shapes.centre[:, 2] - shapes.half[:, 2] < _BUMPER_M
        fixed = shapes[np.flatnonzero(solid)]
        names = {Semantic.POLE: "pole", Semantic.VEGETATION: "tree"}
        self.kinds = [*world.agents.kind, *(names.get(Semantic(k), "building") for k in fixed.semantic)]
        self.fixed_pose = np.column_stack([fixed.centre[:, :2], fixed.yaw])
        self.half_m = np.concatenate([world.agents.size_m[:, :2] / 2, fixed.half[:, :2]])
        self.reach_m = np.hypot(*self.half_m.T) + np.hypot(*EGO_HALF_M)

    def boxes(self, state: State) -> np.ndarray:
        """Poses (n, 3) of all agents, then of all that is fixed; with `self.half_m`."""
        return np.concatenate([self.world.agents.pose(state.agents), self.fixed_pose])

    def touching(self, state: State) -> np.ndarray:
        """Indices of what overlaps the ego car."""
        pose, ego = self.boxes(state), ego_box(state.ego.pose)
        near = np.flatnonzero((np.abs(pose[:, :2] - ego[:2]) < self.reach_m[:, None]).all(1))
        return near[overlap(ego, EGO_HALF_M, pose[near], self.half_m[near])]

    def __call__(self, before: State, after: State) -> list[Collision]:
        """What the ego car touches after a step but not before it. To ask about one state alone, give it twice."""
        now = self.touching(after)
        if before is after or not len(now):
            return [self._collision(before, after, i) for i in now]
        return [self._collision(before, after, i) for i in np.setdiff1d(now, self.touching(before))]

    def _collision(self, before: State, after: State, i: int) -> Collision:
        """Where and when in the step the ego car comes to touch box `i`."""
        ends = [(ego_box(s.ego.pose), self.boxes(s)[i]) for s in (before, after)]
        low, share = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + share) / 2
            ego, other = (_between(a, b, middle) for a, b in zip(*ends, strict=True))
            if overlap(ego, EGO_HALF_M, other, self.half_m[i]):
                share = middle
            else:
                low = middle
        ego, other = (_between(a, b, share) for a, b in zip(*ends, strict=True))
        point = _contact(ego, other, self.half_m[i])
        forward, left = rotate(point - ego[:2], -ego[2]) / EGO_HALF_M
        if abs(forward) > abs(left) - _TOUCH_M:
            side = "front" if forward > 0 else "rear"
        else:
            side = "left" if left > 0 else "right"
        agent = int(i) if i < len(self.world.agents) else None
        own = (1 - share) * before.ego.speed_mps + share * after.ego.speed_mps
        speed = 0.0
        if agent is not None:
            speed = (1 - share) * before.agents.speed_mps[i] + share * after.agents.speed_mps[i]
        return Collision(
            time_s=float((1 - share) * before.time_s + share * after.time_s),
            point_m=(float(point[0]), float(point[1])),
            agent=agent,
            kind=self.kinds[i],
            side=side,
            impact_mps=relative_speed_mps(ego, own, other, speed),
            ego_mps=float(own),
        )


def relative_speed_mps(pose: np.ndarray, speed_mps: float, other_pose: np.ndarray, other_speed_mps: float) -> float:
    """Magnitude of the relative velocity of two bodies with poses (3,) that move along their yaws."""
    return float(np.hypot(*(speed_mps * _heading(pose) - other_speed_mps * _heading(other_pose))))


def _heading(pose: np.ndarray) -> np.ndarray:
    return np.array([np.cos(pose[2]), np.sin(pose[2])])


def _between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return np.append(a[:2] + share * (b[:2] - a[:2]), a[2] + share * wrap_angle(b[2] - a[2]))


def _contact(ego: np.ndarray, other: np.ndarray, half_m: np.ndarray) -> np.ndarray:
    """Where two boxes touch (2,): the mean of the corners of either that lie in the other (at first contact there is one)."""
    inside = []
    for a, half_a, b, half_b in ((ego, EGO_HALF_M, other, half_m), (other, half_m, ego, EGO_HALF_M)):
        points = corners(a, half_a)
        inside.append(points[(np.abs(rotate(points - b[:2], -b[2])) < half_b + _TOUCH_M).all(1)])
    points = np.concatenate(inside)
    return points.mean(0) if len(points) else (ego[:2] + other[:2]) / 2
