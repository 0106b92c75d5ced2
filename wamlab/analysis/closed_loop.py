"""How safely somebody drives: crash tests in closed loop, their score with its interval, and pictures of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from wamlab.errors import InvalidParameter
from wamlab.render import to_hwc
from wamlab.statistics import bootstrap_mean
from wamlab.world.camera import Camera
from wamlab.world.episode import Controller, run
from wamlab.world.ncap import CrashTest, crash_test
from wamlab.world.scenarios import KINDS, sample
from wamlab.world.scripted import DRIVERS
from wamlab.world.simulation import World

#: Columns of the summary, with an arrow towards better.
NAMES = {
    "score": "NeuroNCAP score ↑",
    "collided": "collision rate ↓",
    "impact_mps": "impact speed where it collides, m/s ↓",
    "deviation_m": "mean deviation, m ↓",
    "progress": "progress ↑",
}


def crash_tests(
    seeds: Iterable[int],
    kinds: Sequence[str] = tuple(KINDS),
    drivers: Mapping[str, Callable[[World], Controller]] = DRIVERS,
    observe: bool = False,
) -> pd.DataFrame:
    """Every driver in every test: one row each.

    Columns: kind, driver, seed, score, collided (0 or 1), impact_mps and side of the first collision (NaN and "" if there is none),
    reference_mps, deviation_m, progress, off_road_s, ended. Raises `UnknownName` for another kind.
    """
    rows = []
    for kind in kinds:
        for seed in seeds:
            test = crash_test(sample(kind, seed))
            for name, driver in drivers.items():
                outcome = run(test.episode(observe=observe), driver(test.world))
                first = outcome.collisions[0] if outcome.collisions else None
                rows.append(
                    {
                        "kind": kind,
                        "driver": name,
                        "seed": seed,
                        "score": test.score(outcome),
                        "collided": float(first is not None),
                        "impact_mps": first.impact_mps if first else np.nan,
                        "side": first.side if first else "",
                        "reference_mps": test.reference_mps,
                        "deviation_m": outcome.deviation_m,
                        "progress": outcome.progress,
                        "off_road_s": outcome.off_road_s,
                        "ended": outcome.ended,
                    }
                )
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, rng: np.random.Generator, num_resamples: int = 1000) -> pd.DataFrame:
    """kind, driver, metric (the keys of `NAMES`), mean, low, high, n: 95 % percentile bootstrap over the tests.

    The impact speed is averaged over the tests that end in a collision; where there is none, it is NaN and n is 0.
    """
    rows = []
    for (kind, driver), group in table.groupby(["kind", "driver"], sort=False):
        for metric in NAMES:
            values = group[metric].dropna().to_numpy()
            row = {"kind": kind, "driver": driver, "metric": metric, "mean": np.nan, "low": np.nan, "high": np.nan}
            if len(values):
                found = bootstrap_mean(values, rng, num_resamples)
                row |= {"mean": found.mean, "low": found.low, "high": found.high}
            rows.append(row | {"n": len(values)})
    return pd.DataFrame(rows)


def film(
    test: CrashTest,
    driver: Callable[[World], Controller],
    times_s: Sequence[float],
    camera: Camera | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """(T, H, W, 3) uint8: what the camera sees at some times of a test; after the end of the drive, what it saw last.

    Raises `InvalidParameter` for no times.
    """
    from wamlab.world.render import Renderer

    if not len(times_s):
        raise InvalidParameter("a film needs at least one time")
    episode = test.episode(observe=False)
    run(episode, driver(test.world))
    states = [min(episode.log, key=lambda state, t=t: abs(state.time_s - t)) for t in times_s]
    return to_hwc(Renderer(test.world, camera, device)(states).rgb)
