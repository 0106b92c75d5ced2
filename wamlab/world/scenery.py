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


def _clear(road_map: RoadMap, pose: np.ndarray, length: float, depth: float, gap: float) -> bool:
    """Is the rectangle around a pose at least `gap` metres from every kerb?"""
    u, v = np.meshgrid(np.linspace(-length / 2, length / 2, max(2, int(length / 5) + 2)), (-depth / 2, 0.0, depth / 2))
    c, s = np.cos(pose[2]), np.sin(pose[2])
    xy = np.stack([pose[0] + c * u - s * v, pose[1] + s * u + c * v], -1)
    return bool(np.all(road_map.distance_to_kerb(xy) > gap))


def _buildings(rows: list[tuple], road_map: RoadMap, i: int, side: int, edge: float, rng: np.random.Generator) -> None:
    road, place = road_map.roads[i], road_map.place
    s = rng.uniform(0, 10)
    while s < road.length_m:
        if place == "urban":
            length, depth, back, gap = (
                rng.uniform(12, 28),
                rng.uniform(10, 16),
                rng.uniform(0.3, 1.5),
                rng.choice([0.2, 0.2, 6.0]),
            )
            height = rng.choice([3, 4, 5, 6, 8, 11], p=[0.15, 0.2, 0.25, 0.2, 0.12, 0.08]) * 3.2
        elif place == "suburban":
            length, depth, back, gap = rng.uniform(9, 16), rng.uniform(8, 11), rng.uniform(5, 10), rng.uniform(6, 18)
            height = rng.choice([1, 2, 2]) * 3.0
        else:
            length, depth, back, gap = (
                rng.uniform(10, 24),
                rng.uniform(8, 13),
                rng.uniform(14, 45),
                rng.uniform(40, 140),
            )
            height = rng.uniform(3.5, 7)
        pose = road.at(s + length / 2, side * (edge + back + depth / 2))
        if _clear(road_map, pose, length + 1, depth, max(road.pavement_m, 1.0)):
            wall = np.array(_WALLS[place][rng.integers(len(_WALLS[place]))]) * rng.uniform(0.8, 1.15)
            param = (float(rng.integers(1, 1000)), float(rng.choice([2.4, 3.0, 3.6])))
            rows.append(
                shape(
                    (*pose[:2], height / 2),
                    (length / 2, depth / 2, height / 2),
                    tuple(wall),
                    yaw=pose[2],
                    material=Material.FACADE,
                    param=param,
                )
            )
            if place != "urban":
                roof = tuple(np.array(_ROOFS[rng.integers(len(_ROOFS))]) * rng.uniform(0.8, 1.2))
                rise = depth * rng.uniform(0.25, 0.4)
                rows.append(
                    shape(
                        (*pose[:2], height + rise / 2),
                        (length / 2 + 0.3, depth / 2 + 0.4, rise / 2),
                        roof,
                        yaw=pose[2],
                        taper=(0.0, 0.0, 1.0),
                    )
                )
            elif rng.random() < 0.5:
                rows.append(
                    shape((*pose[:2], height + 1.2), (length / 5, depth / 5, 1.2), tuple(wall * 0.8), yaw=pose[2])
                )
        s += length + gap


def _trees(rows: list[tuple], road_map: RoadMap, i: int, side: int, edge: float, rng: np.random.Generator) -> None:
    road = road_map.roads[i]
    spacing, offset = {
        "urban": ((14, 40), (-0.9, -0.7)),
        "suburban": ((10, 26), (1.5, 3.5)),
        "rural": ((8, 34), (3, 22)),
    }[road_map.place]
    s = rng.uniform(0, 20)
    while s < road.length_m:
        x, y, _ = road.at(s, side * (edge + rng.uniform(*offset)))
        if road_map.distance_to_kerb(np.array([x, y])) > 1.2:
            rows.extend(tree(rng, float(x), float(y)))
        s += rng.uniform(*spacing)


def _lamps(rows: list[tuple], lamps: list, road_map: RoadMap, i: int, side: int, rng: np.random.Generator) -> None:
    road = road_map.roads[i]
    for s in np.arange(6.0 + (15.0 if side > 0 else 0.0) + rng.uniform(0, 4), road.length_m, 30.0):
        d = side * (road.half_width_m + 0.5)
        x, y, yaw = road.at(s, d)
        if road_map.distance_to_kerb(np.array([x, y])) < 0.3:
            continue
        rows.append(shape((x, y, 3.6), (0.07, 0.07, 3.6), (0.16, 0.17, 0.17), semantic=Semantic.POLE))
        ax, ay, _ = road.at(s, d - side * 0.9)
        rows.append(shape((ax, ay, 7.15), (0.06, 0.95, 0.05), (0.16, 0.17, 0.17), yaw=yaw, semantic=Semantic.POLE))
        hx, hy, _ = road.at(s, d - side * 1.8)
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
    c, s = np.cos(shapes.yaw), np.sin(shapes.yaw)
    for k in range(len(shapes)):
        half = shapes.half[k]
        shrink = 0.75 if shapes.ellipsoid[k] else 1.0
        local = corner * half[:2] * shrink
        base = shapes.centre[k, :2] + local @ np.array([[c[k], s[k]], [-s[k], c[k]]])
        low, high = shapes.centre[k, 2] - half[2] * shrink, shapes.centre[k, 2] + half[2] * shrink
        reach = min(1.0, 60.0 / (np.hypot(*sun_xy) * high + 1e-6))
        outline = np.concatenate([base + sun_xy * max(low, 0.0) * reach, base + sun_xy * high * reach])
        hull = cv2.convexHull((outline / LIGHTMAP_M * 16).astype(np.int32))
        cv2.fillConvexPoly(shadow, hull, 255, cv2.LINE_AA, 4)
    sun = 1 - cv2.GaussianBlur(shadow, (0, 0), 0.7).astype(np.float32) / 255
    lamp = np.zeros((rows, columns), np.float32)
    if look.lights and lamps:
        for x, y in lamps:
            i, j = int(y / LIGHTMAP_M), int(x / LIGHTMAP_M)
            if 0 <= i < rows and 0 <= j < columns:
                lamp[i, j] = 1.0
        lamp = cv2.GaussianBlur(lamp, (0, 0), 4.5 / LIGHTMAP_M) * 2 * np.pi * (4.5 / LIGHTMAP_M) ** 2
    return np.stack([sun, lamp])
