"""nuScenes' fixed vocabulary, as its `category`, `attribute` and `visibility` tables have it."""

from __future__ import annotations

CATEGORIES = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
#: Token -> (level, share of the object that is seen, in per cent).
VISIBILITY = {
    "1": ("v0-40", (0, 40)),
    "2": ("v40-60", (40, 60)),
    "3": ("v60-80", (60, 80)),
    "4": ("v80-100", (80, 100)),
}

#: Scene numbers without CAN bus, with a route off the drive, or without vehicle_monitor: the devkit refuses or warns for them by number.
BLACKLIST = frozenset(
    [*range(161, 169), *range(170, 177), *range(309, 315), 419]
    + [
        71,
        73,
        74,
        75,
        76,
        85,
        100,
        101,
        *range(106, 111),
        *range(112, 120),
        *range(261, 265),
        276,
        *range(302, 307),
        334,
    ]
    + [388, 389, 390, 436, *range(499, 503), *range(504, 516), 517, 518, *range(547, 552), *range(556, 566), 730, 731]
    + [*range(733, 739), 778, *range(780, 785), 904, 905, 1073, 1074]
)


def scene_names(count: int) -> list[str]:
    """The first `count` names that the devkit opens without complaint: `scene-0001`, `scene-0002`, …"""
    usable = (number for number in range(1, 10000) if number not in BLACKLIST)
    return [f"scene-{number:04d}" for number, _ in zip(usable, range(count), strict=False)]
