"""Action profiles: what is asked of a model over its horizon. Presets, the speed that follows, and grids to be computed beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wamlab.errors import InvalidAction, InvalidParameter

#: What a profile has, one column each, and how far its chart reaches where no trained range is known.
CHANNELS = ("steering_rad", "accel_mps2")
REACH = {"steering_rad": 1.5, "accel_mps2": 4.0}
#: How much farther than the trained range a chart reaches: it may be left, and is marked then.
BEYOND = 1.5
#: Shapes of the grid of held actions, steering angles × accelerations, from coarse to fine. Odd, so that zero is among them.
GRIDS = ((3, 1), (5, 1), (5, 3), (7, 3), (9, 3), (9, 5), (11, 5), (13, 7), (17, 7), (21, 9))


def checked(actions: Any, horizon: int | None = None, what: str = "actions") -> np.ndarray:
    """(F, 2 or 3) finite floats, F = `horizon` if given. Raises `InvalidAction`."""
    try:
        array = np.asarray(actions, float)
    except (TypeError, ValueError):
        raise InvalidAction(f"{what} must be numbers, (F, 2): {', '.join(CHANNELS)}; not {actions!r:.80}") from None
    if array.ndim != 2 or array.shape[1] not in (2, 3) or not len(array) or (horizon and len(array) != horizon):
        raise InvalidAction(f"{what} must be ({horizon or 'F'}, 2 or 3): {', '.join(CHANNELS)}; not {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidAction(f"{what} must be finite; row {int(np.argmin(np.isfinite(array).all(1)))} is not")
    return array


def ranges(trained: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    """The trained range (low, high) of each channel that has one. Raises `InvalidParameter` for another name, or low >= high."""
    known = {}
    for name, bounds in (trained or {}).items():
        low, high = (float(v) for v in bounds)
        if name not in CHANNELS or not low < high:
            raise InvalidParameter(
                f"trained must be {{name: (low, high)}} for {', '.join(CHANNELS)}, not {name}: {bounds}"
            )
        known[name] = (low, high)
    return known


def limits(trained: Mapping[str, tuple[float, float]], logged: np.ndarray | None = None) -> dict[str, float]:
    """How far each channel's chart reaches, either way."""
    reach = {n: BEYOND * max(map(abs, trained[n])) if n in trained else REACH[n] for n in CHANNELS}
    if logged is not None:
        reach = {n: max(r, 1.1 * float(np.abs(logged[:, i]).max())) for i, (n, r) in enumerate(reach.items())}
    return {n: float(f"{r:.2g}") for n, r in reach.items()}


def bounds(trained: Mapping[str, tuple[float, float]], reach: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """What presets and grids span: the trained range, or two thirds of the chart where it is unknown."""
    return {n: trained.get(n, (-reach[n] / BEYOND, reach[n] / BEYOND)) for n in CHANNELS}


def held(horizon: int, steering_rad: float = 0.0, accel_mps2: float = 0.0) -> np.ndarray:
    """(F, 2): the same action all the time."""
    return np.tile([float(steering_rad), float(accel_mps2)], (horizon, 1))


def presets(horizon: int, span: Mapping[str, tuple[float, float]], logged: np.ndarray | None) -> dict[str, np.ndarray]:
    """(F, 2) each: the logged one if known, straight on, as far left and right as trained for, and as hard on the brake."""
    right, left = span["steering_rad"]
    known = {} if logged is None else {"logged": logged[:, :2]}
    return known | {
        "straight": held(horizon),
        "left": held(horizon, max(left, 0.0)),
        "right": held(horizon, min(right, 0.0)),
        "brake": held(horizon, 0.0, min(span["accel_mps2"][0], 0.0)),
    }


def grid(horizon: int, span: Mapping[str, tuple[float, float]], shape: tuple[int, int]) -> list[np.ndarray]:
    """(F, 2) held actions: `shape` steering angles × accelerations across the span, symmetric, so that 0 is among them."""

    def spread(name: str, count: int) -> np.ndarray:
        far = max(map(abs, span[name]))
        return np.linspace(-far, far, count) if count > 1 else np.zeros(1)

    angles, accels = (spread(name, count) for name, count in zip(CHANNELS, shape, strict=True))
    return [held(horizon, s, a) for a in accels for s in angles]


def grid_shape(affordable: int) -> tuple[int, int] | None:
    """The finest of `GRIDS` with at most so many points; None if there is none."""
    return next((shape for shape in reversed(GRIDS) if shape[0] * shape[1] <= affordable), None)


def with_speed(actions: np.ndarray, speed_mps: float, step_s: float, logged: np.ndarray | None = None) -> np.ndarray:
    """(F, 2) -> (F, 3) float32, columns `wamlab.types.ACTIONS`: with the speed that the acceleration leads to, never below zero.

    Between two steps the acceleration is interpolated, as `World.replay` does. The logged actions keep the speeds that they came with.
    """
    if logged is not None and logged.shape[1] == 3 and np.allclose(actions, logged[:, :2], atol=1e-6):
        return logged.astype(np.float32)
    speeds = [float(speed_mps)]
    for before, after in zip(actions[:-1, 1], actions[1:, 1], strict=True):
        speeds.append(max(0.0, speeds[-1] + step_s * (before + after) / 2))
    return np.column_stack([actions, speeds]).astype(np.float32)
