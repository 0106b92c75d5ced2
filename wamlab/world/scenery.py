"""What stands beside the road and does not move: buildings, trees, lamps; and the shadow and lamplight they cast on the ground."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from wamlab.world.primitives import Material, Primitives, Semantic, build, shape, tree
from wamlab.world.road import RoadMap
from wamlab.world.weather import Look

LIGHTMAP_M = 0.5  # metres a texel

_WALLS = {
    "urban": [
        (0.36, 0.2, 0.15),
        (0.42, 0.38, 0.32),
        (0.3, 0.31, 0.33),
        (0.48, 0.43, 0.35),
        (0.25, 0.17, 0.13),
        (0.22, 0.27, 0.33),
    ],
    "suburban": [(0.55, 0.5, 0.42), (0.5, 0.47, 0.44), (0.42, 0.25, 0.18), (0.45, 0.5, 0.5), (0.58, 0.54, 0.36)],
    "rural": [(0.4, 0.12, 0.09), (0.5, 0.47, 0.42), (0.32, 0.3, 0.28)],
}
_ROOFS = [(0.2, 0.1, 0.08), (0.12, 0.12, 0.13), (0.26, 0.14, 0.09)]


@dataclass(frozen=True)
class Scenery:
    """Static shapes, and the ground's light map: (2, rows, columns) in 0..1: sunlight that reaches it, lamplight."""

    shapes: Primitives
    light: np.ndarray


def make_scenery(road_map: RoadMap, look: Look, rng: np.random.Generator) -> Scenery:
    rows: list[tuple] = []
    lamps: list[tuple[float, float]] = []
    for i, road in enumerate(road_map.roads):
        for side in (-1, 1):
            edge = road.half_width_m + road.pavement_m
            _buildings(rows, road_map, i, side, edge, rng)
            _trees(rows, road_map, i, side, edge, rng)
            if road_map.place != "rural":
                _lamps(rows, lamps, road_map, i, side, rng)
    shapes = build(rows)
    return Scenery(shapes, _light_map(road_map, shapes, lamps, look))


def _clear(road_map: RoadMap, pose: np.ndarray, length: np.ndarray, depth: np.ndarray, gap: float) -> np.ndarray:
    """Are the rectangles (n,) around poses (n, 3) at least `gap` metres from every kerb?"""
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 7), (-0.5, 0.5))
    u, v = u.ravel() * length[:, None], v.ravel() * depth[:, None]
    c, s = np.cos(pose[:, 2:]), np.sin(pose[:, 2:])
    xy = np.stack([pose[:, :1] + c * u - s * v, pose[:, 1:2] + s * u + c * v], -1)
    return (road_map.distance_to_kerb(xy) > gap).all(1)


def _buildings(rows: list[tuple], road_map: RoadMap, i: int, side: int, edge: float, rng: np.random.Generator) -> None:
    road, place = road_map.roads[i], road_map.place
    n = int(road.length_m / {"urban": 12.0, "suburban": 15.0, "rural": 50.0}[place]) + 1
    if place == "urban":
        length, depth, back = rng.uniform(12, 28, n), rng.uniform(10, 16, n), rng.uniform(0.3, 1.5, n)
        gap = rng.choice([0.2, 0.2, 6.0], n)
        height = rng.choice([3, 4, 5, 6, 8, 11], n, p=[0.15, 0.2, 0.25, 0.2, 0.12, 0.08]) * 3.2
    elif place == "suburban":
        length, depth, back = rng.uniform(9, 16, n), rng.uniform(8, 11, n), rng.uniform(5, 10, n)
        gap, height = rng.uniform(6, 18, n), rng.choice([1, 2, 2], n) * 3.0
    else:
        length, depth, back = rng.uniform(10, 24, n), rng.uniform(8, 13, n), rng.uniform(14, 45, n)
        gap, height = rng.uniform(40, 140, n), rng.uniform(3.5, 7, n)
    s = rng.uniform(0, 10) + np.cumsum(length + gap) - gap - length / 2
    poses = road.at(s, side * (edge + back + depth / 2))
    keep = (s - length / 2 < road.length_m) & _clear(road_map, poses, length + 1, depth, max(road.pavement_m, 1.0))
    for k in np.flatnonzero(keep):
        pose, long, deep, high = poses[k], length[k], depth[k], height[k]
        wall = np.array(_WALLS[place][rng.integers(len(_WALLS[place]))]) * rng.uniform(0.8, 1.15)
        param = (float(rng.integers(1, 1000)), float(rng.choice([2.4, 3.0, 3.6])))
        rows.append(
            shape(
                (*pose[:2], high / 2),
                (long / 2, deep / 2, high / 2),
                tuple(wall),
                yaw=pose[2],
                material=Material.FACADE,
                param=param,
            )
        )
        if place != "urban":
            roof = tuple(np.array(_ROOFS[rng.integers(len(_ROOFS))]) * rng.uniform(0.8, 1.2))
            rise = deep * rng.uniform(0.25, 0.4)
            rows.append(
                shape(
                    (*pose[:2], high + rise / 2),
                    (long / 2 + 0.3, deep / 2 + 0.4, rise / 2),
                    roof,
                    yaw=pose[2],
                    taper=(0.0, 0.0, 1.0),
                    material=Material.ROOF,
                )
            )
        elif rng.random() < 0.5:
            rows.append(shape((*pose[:2], high + 1.2), (long / 5, deep / 5, 1.2), tuple(wall * 0.8), yaw=pose[2]))


def _trees(rows: list[tuple], road_map: RoadMap, i: int, side: int, edge: float, rng: np.random.Generator) -> None:
    road = road_map.roads[i]
    belts = {  # metres between trees, and from the road's edge
        "urban": [((14, 40), (-0.9, -0.7))],
        "suburban": [((10, 26), (1.5, 3.5)), ((14, 45), (24, 45))],
        "rural": [((8, 34), (3, 22)), ((8, 30), (30, 110))],
    }[road_map.place]
    for spacing, offset in belts:
        n = int(road.length_m / spacing[0]) + 1
        s = rng.uniform(0, 20) + np.cumsum(rng.uniform(*spacing, n)) - spacing[0]
        xy = road.at(s, side * (edge + rng.uniform(*offset, n)))[:, :2]
        for x, y in xy[(s < road.length_m) & (road_map.distance_to_kerb(xy) > 1.2)]:
            rows.extend(tree(rng, float(x), float(y)))


def _lamps(rows: list[tuple], lamps: list, road_map: RoadMap, i: int, side: int, rng: np.random.Generator) -> None:
    road = road_map.roads[i]
    d = side * (road.half_width_m + 0.5)
    s = np.arange(6.0 + (15.0 if side > 0 else 0.0) + rng.uniform(0, 4), road.length_m, 30.0)
    foot, arm, head = (road.at(s, d - side * reach) for reach in (0.0, 0.9, 1.8))
    keep = road_map.distance_to_kerb(foot[:, :2]) > 0.3
    for (x, y, yaw), (ax, ay, _), (hx, hy, _) in zip(foot[keep], arm[keep], head[keep], strict=True):
        rows.append(shape((x, y, 3.6), (0.07, 0.07, 3.6), (0.16, 0.17, 0.17), semantic=Semantic.POLE))
        rows.append(shape((ax, ay, 7.15), (0.06, 0.95, 0.05), (0.16, 0.17, 0.17), yaw=yaw, semantic=Semantic.POLE))
        rows.append(
            shape(
                (hx, hy, 7.1),
                (0.18, 0.3, 0.09),
                (0.5, 0.5, 0.45),
                yaw=yaw,
                ellipsoid=True,
                material=Material.LAMP,
                semantic=Semantic.POLE,
            )
        )
        lamps.append((float(hx), float(hy)))


def _light_map(road_map: RoadMap, shapes: Primitives, lamps: list[tuple[float, float]], look: Look) -> np.ndarray:
    columns, rows = (int(v / LIGHTMAP_M) + 1 for v in road_map.size_m)
    shadow = np.zeros((rows, columns), np.uint8)
    sun_xy = -look.sun[:2] / max(look.sun[2], 0.05)
    corner = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1.0]])
    c, s = np.cos(shapes.yaw)[:, None], np.sin(shapes.yaw)[:, None]
    half = shapes.half * np.where(shapes.ellipsoid, 0.75, 1.0)[:, None]
    u, v = half[:, :1] * corner[:, 0], half[:, 1:2] * corner[:, 1]
    base = shapes.centre[:, None, :2] + np.stack([c * u - s * v, s * u + c * v], -1)  # (N, 4, 2)
    low, high = np.maximum(shapes.centre[:, 2] - half[:, 2], 0), shapes.centre[:, 2] + half[:, 2]
    cast = np.minimum(1.0, 60.0 / (np.hypot(*sun_xy) * high + 1e-6))[:, None] * sun_xy
    outline = np.concatenate([base + (cast * low[:, None])[:, None], base + (cast * high[:, None])[:, None]], 1)
    for points in (outline / LIGHTMAP_M * 16).astype(np.int32):
        cv2.fillConvexPoly(shadow, cv2.convexHull(points), 255, cv2.LINE_AA, 4)
    sun = cv2.GaussianBlur(shadow, (0, 0), 0.7).astype(np.float32)
    light = np.zeros((2, rows, columns), np.float32)
    np.multiply(sun, -1 / 255, out=light[0])
    light[0] += 1
    if look.lights and lamps:
        spread = 4.5 / LIGHTMAP_M
        reach = int(4 * spread)
        bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2).astype(np.float32)
        padded = np.zeros((rows + 2 * reach, columns + 2 * reach), np.float32)
        for j, i in (np.array(lamps) / LIGHTMAP_M).astype(int):
            if 0 <= i < rows and 0 <= j < columns:
                padded[i : i + 2 * reach + 1, j : j + 2 * reach + 1] += bell[:, None] * bell
        light[1] = padded[reach:-reach, reach:-reach]
    return light
