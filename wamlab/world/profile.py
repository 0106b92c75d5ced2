"""What a road looks like across: colours, paint and materials as a function of the distance to its centreline, ready for averaging.

A table holds running sums over narrow strips, so the mean over any footprint, near or far, is the difference of two entries. All that a
road has from verge to verge costs a pixel the same two lookups, and every edge in it is antialiased.
"""

from __future__ import annotations

import numpy as np

from wamlab.world.road import Road

STRIP_M = 1 / 128
MARGIN_M = 12.0  # of verge on each side; no footprint may be larger, or it would take in the road from afar
CHANNELS = 7  # red, green, blue without paint; unbroken paint; broken paint; share of carriageway; share of pavement
YELLOW_WITHIN_M = 0.6  # of the centreline paint is yellow
_ASPHALT, _STONE, _KERB, _GUTTER = (
    (0.088, 0.088, 0.091),
    (0.29, 0.285, 0.272),
    (0.4, 0.395, 0.385),
    (0.125, 0.123, 0.118),
)
_LINE_M = 0.13


def profiles(roads: tuple[Road, ...], verge: np.ndarray, paved_verge: bool) -> np.ndarray:
    """(CHANNELS, R * N) running sums over N strips that are centred on the centreline, one road after the other.

    Args:
        verge: (3,) colour beyond the pavement. paved_verge: it is paved rather than soft.
    """
    reach = max(road.half_width_m + road.pavement_m for road in roads) + MARGIN_M
    n = 2 * int(np.ceil(reach / STRIP_M)) + 1
    d = (np.arange(n) - n // 2) * STRIP_M
    tables = [np.cumsum(_profile(road, d, verge, paved_verge), axis=1) for road in roads]
    return np.concatenate(tables, 1).astype(np.float32)


def _profile(road: Road, d: np.ndarray, verge: np.ndarray, paved_verge: bool) -> np.ndarray:
    """(CHANNELS, N) at distances d (N,) to the left of the centreline."""
    a, half, driven = np.abs(d), road.half_width_m, road.lanes * road.lane_m
    kerb = a - half
    inside, walked = kerb < 0, (kerb >= 0) & (kerb < road.pavement_m)

    tone = np.ones_like(a)
    lane = np.minimum(np.floor(a / road.lane_m), road.lanes - 1)
    place = np.abs(a - (lane + 0.5) * road.lane_m)  # from the middle of the lane
    tone += 0.10 * np.exp(-(((place - 0.24 * road.lane_m) / 0.3) ** 2))  # wheels polish
    tone -= 0.16 * np.exp(-((place / 0.35) ** 2))  # oil drips between them
    tone += 0.05 * np.where(d > 0, lane % 2, (lane + 1) % 2) - 0.025  # lanes were laid one by one
    tone -= 0.3 * (np.abs(a - np.round(a / road.lane_m) * road.lane_m - 0.2) < 0.02)  # with a joint between
    tone = np.where((a > driven) & (road.parking_m > 0), 0.86 + 0.02 * np.sin(a * 9), tone)
    colour = np.array(_ASPHALT)[:, None] * tone

    def lay(where: np.ndarray, what: tuple | np.ndarray) -> None:
        colour[:, where] = np.asarray(what)[:, None]

    lay(~inside, verge)
    if road.pavement_m > 0:
        joint = np.abs(kerb % 0.75 - 0.375) > 0.355
        lay(walked, _STONE)
        colour[:, walked & joint] *= 0.78
        lay(inside & (kerb > -0.32), _GUTTER)
        lay((kerb > -0.07) & (kerb < 0.0), (0.05, 0.05, 0.05))  # the kerb's face, in its own shade
        lay((kerb >= 0) & (kerb < 0.17), _KERB)
    else:
        lay((kerb >= 0) & (kerb < 0.8), (0.15, 0.138, 0.115))
    if paved_verge:
        lay(kerb >= road.pavement_m, verge)

    solid, broken = np.zeros((2, len(d)))
    for k in range(1, road.lanes):
        broken += np.abs(a - k * road.lane_m) < _LINE_M / 2
    if road.parking_m <= 0:
        solid += np.abs(a - driven) < _LINE_M / 2
    else:
        solid += np.abs(a - driven) < 0.05
    if road.centre == "double":
        solid += np.abs(a - 0.16) < 0.06
    elif road.centre == "solid":
        solid += a < 0.07
    else:
        broken += a < 0.07
    return np.concatenate([colour, [solid, broken, inside, walked]])
