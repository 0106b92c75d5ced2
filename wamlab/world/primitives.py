"""The shapes the world is made of: boxes whose sides may lean inwards, and ellipsoids; and how a car or a tree is built of them.

Arrays only: placing them is `scenery` and `traffic`, drawing them is `raster` and `shade`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cache

import numpy as np


class Semantic(IntEnum):
    """Classes of the semantic image."""

    SKY = 0
    ROAD = 1
    MARKING = 2
    PAVEMENT = 3
    TERRAIN = 4
    BUILDING = 5
    VEGETATION = 6
    POLE = 7
    SIGNAL = 8
    CAR = 9
    TRUCK = 10
    BUS = 11
    BICYCLE = 12
    PEDESTRIAN = 13


SEMANTIC_COLOURS = {  # for pictures of the semantic image
    Semantic.SKY: (135, 185, 235), Semantic.ROAD: (90, 84, 96), Semantic.MARKING: (245, 245, 245), Semantic.PAVEMENT: (205, 160, 190),
    Semantic.TERRAIN: (150, 205, 130), Semantic.BUILDING: (130, 125, 120), Semantic.VEGETATION: (70, 130, 60),
    Semantic.POLE: (190, 190, 120),
    Semantic.SIGNAL: (250, 170, 30), Semantic.CAR: (40, 80, 200), Semantic.TRUCK: (30, 40, 120), Semantic.BUS: (20, 110, 150),
    Semantic.BICYCLE: (170, 40, 60), Semantic.PEDESTRIAN: (225, 40, 70),
}  # fmt: skip


class Material(IntEnum):
    """How a primitive is shaded."""

    PLAIN = 0
    FACADE = 1
    PAINT = 2  # a vehicle's body, with lights; param: is it braking, is it a trailer (no headlights)
    CABIN = 3  # a vehicle's upper part: glass around, paint on top
    FOLIAGE = 4
    SIGNAL = 5  # a traffic light's head; param 0 is its phase: 0 red, 1 amber, 2 green
    LAMP = 6  # glows at night
    WHEEL = 7
    ROOF = 8  # tiled


@dataclass(frozen=True)
class Primitives:
    """N shapes, upright (they turn about z only).

    Attributes:
        centre: (N, 3) metres. half: (N, 3) half-extents along the shape's x, y, z. yaw: (N,).
        taper: (N, 3) how far the front, the back and both sides lean in from bottom to top, as a share of the half-extent.
        ellipsoid: (N,) bool. material, semantic, instance: (N,) int. colour: (N, 3) linear reflectance. param: (N, 2) for the material.
    """

    centre: np.ndarray
    half: np.ndarray
    yaw: np.ndarray
    taper: np.ndarray
    ellipsoid: np.ndarray
    material: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    colour: np.ndarray
    param: np.ndarray

    def __len__(self) -> int:
        return len(self.yaw)

    def __getitem__(self, index: np.ndarray) -> Primitives:
        return Primitives(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def concatenate(parts: list[Primitives]) -> Primitives:
        if not parts:
            return build([])
        return Primitives(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Primitives)))


def shape(
    centre: tuple[float, float, float],
    half: tuple[float, float, float],
    colour: tuple[float, float, float],
    *,
    yaw: float = 0.0,
    taper: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ellipsoid: bool = False,
    material: Material = Material.PLAIN,
    semantic: Semantic = Semantic.BUILDING,
    param: tuple[float, float] = (0.0, 0.0),
) -> tuple:
    """One row for `build`; `centre` is the middle of the shape."""
    return (centre, half, yaw, taper, ellipsoid, material, semantic, 0, colour, param)


def build(rows: list[tuple]) -> Primitives:
    """Rows of `shape` -> `Primitives`."""
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 10
    kinds = (float, float, float, float, bool, np.int64, np.int64, np.int64, float, float)
    widths = ((3,), (3,), (), (3,), (), (), (), (), (3,), (2,))
    return Primitives(*(np.array(c, k).reshape(len(rows), *w) for c, k, w in zip(columns, kinds, widths, strict=True)))


def place(
    template: Primitives, poses: np.ndarray, colours: np.ndarray | None = None, instances: np.ndarray | None = None
) -> Primitives:
    """Copies of a template (P shapes in its own frame) at poses (N, 3: x, y, yaw) -> N·P shapes.

    `colours` (N, 3) replaces the colour of the template's PAINT and CABIN shapes; `instances` (N,) numbers the copies.
    """
    n, p = len(poses), len(template)
    copies = template[np.tile(np.arange(p), n)]
    tile = {f.name: getattr(copies, f.name) for f in fields(copies)}
    if colours is not None:
        painted = np.isin(tile["material"], (Material.PAINT, Material.CABIN))
        tile["colour"] = np.where(painted[:, None], np.repeat(colours, p, 0), tile["colour"])
    if instances is not None:
        tile["instance"] = np.repeat(instances, p)
    return place_each(Primitives(**tile), np.repeat(poses, p, 0))


def place_each(shapes: Primitives, poses: np.ndarray) -> Primitives:
    """Move N shapes, each given in a frame of its own, by the poses (N, 3) of these frames."""
    c, s = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    x, y, z = shapes.centre.T
    centre = np.stack([poses[:, 0] + c * x - s * y, poses[:, 1] + s * x + c * y, z], -1)
    return replace(shapes, centre=centre, yaw=shapes.yaw + poses[:, 2])


_RUBBER, _TROUSERS, _SKIN = (0.02, 0.02, 0.022), (0.05, 0.06, 0.1), (0.45, 0.28, 0.2)


def _vehicle(
    size: tuple[float, float, float], body: list[tuple], wheels_x: tuple[float, ...], wheel_m: float, semantic: Semantic
) -> Primitives:
    """Body shapes given as (x0, x1, z0, z1, taper, material), with wheels; origin at the middle of the footprint on the ground."""
    length, width, _ = size
    rows = [
        shape(
            ((x0 + x1) / 2, 0, (z0 + z1) / 2),
            ((x1 - x0) / 2, width / 2, (z1 - z0) / 2),
            (0.5, 0.5, 0.5),
            taper=taper,
            material=m,
            semantic=semantic,
            param=(0.0, float(x1 < length / 2 - 0.1)),
        )
        for x0, x1, z0, z1, taper, m in body
    ]
    rows += [
        shape(
            (x, y, wheel_m),
            (wheel_m, 0.13, wheel_m),
            _RUBBER,
            ellipsoid=True,
            material=Material.WHEEL,
            semantic=semantic,
        )
        for x in wheels_x
        for y in (-width / 2 + 0.1, width / 2 - 0.1)
    ]
    return build(rows)


@cache
def vehicle_templates() -> dict[str, tuple[tuple[float, float, float], Primitives]]:
    """name -> ((length, width, height) in metres, shapes)."""
    paint, cabin = Material.PAINT, Material.CABIN
    return {
        "sedan": (
            (4.6, 1.82, 1.45),
            _vehicle(
                (4.6, 1.82, 1.45),
                [
                    (-2.3, 2.3, 0.28, 0.86, (0.04, 0.02, 0.06), paint),
                    (-1.75, 1.0, 0.86, 1.45, (0.55, 0.42, 0.2), cabin),
                ],
                (-1.4, 1.4),
                0.33,
                Semantic.CAR,
            ),
        ),
        "hatchback": (
            (4.0, 1.76, 1.52),
            _vehicle(
                (4.0, 1.76, 1.52),
                [(-2.0, 2.0, 0.28, 0.92, (0.05, 0.02, 0.06), paint), (-1.95, 1.0, 0.92, 1.52, (0.5, 0.2, 0.2), cabin)],
                (-1.25, 1.25),
                0.32,
                Semantic.CAR,
            ),
        ),
        "suv": (
            (4.7, 1.92, 1.75),
            _vehicle(
                (4.7, 1.92, 1.75),
                [
                    (-2.35, 2.35, 0.32, 1.08, (0.04, 0.02, 0.05), paint),
                    (-2.3, 0.95, 1.08, 1.75, (0.45, 0.16, 0.16), cabin),
                ],
                (-1.4, 1.45),
                0.38,
                Semantic.CAR,
            ),
        ),
        "van": (
            (5.4, 2.0, 2.4),
            _vehicle(
                (5.4, 2.0, 2.4),
                [(-2.7, 2.7, 0.35, 1.25, (0.06, 0.0, 0.0), paint), (-2.7, 2.5, 1.25, 2.4, (0.3, 0.02, 0.1), cabin)],
                (-1.7, 1.8),
                0.36,
                Semantic.CAR,
            ),
        ),
        "truck": (
            (8.4, 2.5, 3.4),
            _vehicle(
                (8.4, 2.5, 3.4),
                [
                    (2.1, 4.2, 0.5, 1.5, (0.03, 0, 0), paint),
                    (2.1, 4.15, 1.5, 2.7, (0.2, 0, 0.05), cabin),
                    (-4.2, 1.9, 0.7, 3.4, (0, 0, 0), paint),
                ],
                (-2.9, 3.1),
                0.5,
                Semantic.TRUCK,
            ),
        ),
        "bus": (
            (11.5, 2.55, 3.1),
            _vehicle(
                (11.5, 2.55, 3.1),
                [(-5.75, 5.75, 0.35, 1.3, (0.01, 0, 0), paint), (-5.75, 5.72, 1.3, 3.1, (0.03, 0.01, 0.04), cabin)],
                (-3.6, 3.4),
                0.5,
                Semantic.BUS,
            ),
        ),
        "cyclist": (
            (1.8, 0.6, 1.75),
            build(
                [
                    shape((-0.55, 0, 0.34), (0.34, 0.03, 0.34), _RUBBER, ellipsoid=True, semantic=Semantic.BICYCLE),
                    shape((0.55, 0, 0.34), (0.34, 0.03, 0.34), _RUBBER, ellipsoid=True, semantic=Semantic.BICYCLE),
                    shape((0, 0, 0.6), (0.5, 0.03, 0.06), (0.3, 0.05, 0.05), semantic=Semantic.BICYCLE),
                    shape((-0.1, 0, 0.75), (0.16, 0.14, 0.25), _TROUSERS, semantic=Semantic.BICYCLE),
                    shape(
                        (0.05, 0, 1.2),
                        (0.24, 0.21, 0.32),
                        (0.5, 0.5, 0.5),
                        ellipsoid=True,
                        material=Material.PAINT,
                        semantic=Semantic.BICYCLE,
                    ),
                    shape((0.2, 0, 1.6), (0.13, 0.11, 0.15), _SKIN, ellipsoid=True, semantic=Semantic.BICYCLE),
                ]
            ),
        ),
        "pedestrian": (
            (0.5, 0.55, 1.72),
            build(
                [
                    shape((0.1, 0.1, 0.42), (0.1, 0.09, 0.42), _TROUSERS, semantic=Semantic.PEDESTRIAN),
                    shape((-0.1, -0.1, 0.42), (0.1, 0.09, 0.42), _TROUSERS, semantic=Semantic.PEDESTRIAN),
                    shape(
                        (0, 0, 1.13),
                        (0.16, 0.25, 0.36),
                        (0.5, 0.5, 0.5),
                        ellipsoid=True,
                        material=Material.PAINT,
                        semantic=Semantic.PEDESTRIAN,
                    ),
                    shape((0.02, 0, 1.58), (0.11, 0.1, 0.15), _SKIN, ellipsoid=True, semantic=Semantic.PEDESTRIAN),
                ]
            ),
        ),
    }


def tree(rng: np.random.Generator, x: float, y: float) -> list[tuple]:
    """A broad-leaved or a coniferous tree."""
    height = rng.uniform(5, 10)
    green = np.array([0.11, 0.2, 0.055]) * rng.uniform(0.7, 1.25) * np.array([rng.uniform(0.75, 1.5), 1, 1])
    leaf = dict(material=Material.FOLIAGE, semantic=Semantic.VEGETATION)
    trunk = shape((x, y, height * 0.2), (0.14, 0.14, height * 0.2), (0.12, 0.08, 0.05), semantic=Semantic.VEGETATION)
    if rng.random() < 0.25:  # a conifer: tiers of branches
        r, tiers = height * rng.uniform(0.22, 0.3), np.linspace(0, 1, 5)
        return [trunk] + [
            shape(
                (x, y, height * (0.28 + 0.66 * t)),
                (w, w, height * 0.13),
                tuple(green * (0.5 + 0.25 * t)),
                ellipsoid=True,
                **leaf,
            )
            for t, w in zip(tiers, r * (1 - 0.85 * tiers), strict=True)
        ]
    r = height * rng.uniform(0.22, 0.32)
    crown = [shape((x, y, height * 0.66), (r, r, height * 0.34), tuple(green), ellipsoid=True, **leaf)]
    for angle in rng.uniform(0, 2 * np.pi) + np.array([0, 1.7, 3.1, 4.6]):
        centre = (x + 0.65 * r * np.cos(angle), y + 0.65 * r * np.sin(angle), height * rng.uniform(0.48, 0.78))
        q = r * rng.uniform(0.5, 0.8)
        crown.append(shape(centre, (q, q, q * 0.8), tuple(green * rng.uniform(0.8, 1.15)), ellipsoid=True, **leaf))
    return [trunk, *crown]
