"""Frames of the procedural world to be looked at on sheets: every look, every turn, every kind of crash. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wamlab.analysis.closed_loop import film
from wamlab.render import to_hwc
from wamlab.world.camera import Camera
from wamlab.world.ncap import crash_test
from wamlab.world.road import PLACES
from wamlab.world.scenarios import KINDS, sample
from wamlab.world.scripted import DRIVERS
from wamlab.world.simulation import SceneSpec, State, World, make_world
from wamlab.world.weather import TIMES, WEATHERS

TURNS = ("left", "straight", "right")


def everything(seed: int = 0, columns: int = 6) -> tuple[np.ndarray, list[str]]:
    """All of it for a sheet of `columns`: two rows of looks, three of turns, three of crash tests (half a row for each driver)."""
    parts = looks(seed), turns(seed, columns), crashes(seed, columns // 2)
    return np.concatenate([frames for frames, _ in parts]), [label for _, labels in parts for label in labels]


def looks(seed: int = 0, camera: Camera | None = None) -> tuple[np.ndarray, list[str]]:
    """One frame (N, H, W, 3) of each time of day in each weather, going through the places, and what each is."""
    frames, labels = [], []
    for i, time in enumerate(TIMES):
        for j, weather in enumerate(WEATHERS):
            place = PLACES[(i + j) % len(PLACES)]
            spec = SceneSpec(_seed(seed, i, j), place, time, weather, duration_s=8.0)
            world = make_world(spec)
            frames.append(_film(world, [world.simulate()[-1]], camera)[0])
            labels.append(f"{place}, {time}, {weather}")
    return np.stack(frames), labels


def turns(seed: int = 0, count: int = 4, camera: Camera | None = None) -> tuple[np.ndarray, list[str]]:
    """A row of `count` frames for each of `TURNS`: how a crossing is passed, from before it until after it."""
    frames, labels = [], []
    for k, turn in enumerate(TURNS):
        world, log = _first_through(seed, k, turn)
        at = _turning(log) if turn != "straight" else _crossing(world, log)
        picked = np.clip(np.round(np.linspace(at - 24, at + 24, count)), 0, len(log) - 1).astype(int)
        frames.append(_film(world, [log[p] for p in picked], camera))
        labels += [turn if n == 0 else f"{(p - picked[0]) / 12:+.1f} s" for n, p in enumerate(picked)]
    return np.concatenate(frames), labels


def _seed(*key: int) -> int:
    return int(np.random.default_rng(key).integers(2**31))


def _film(world: World, states: Sequence[State], camera: Camera | None) -> np.ndarray:
    from wamlab.world.render import Renderer

    return to_hwc(Renderer(world, camera)(list(states)).rgb)


def _first_through(seed: int, k: int, turn: str) -> tuple[World, list[State]]:
    """The first generated drive in which the car gets through a crossing with this turn."""
    for attempt in range(20):
        spec = SceneSpec(_seed(seed, 100 + k, attempt), ("urban", "suburban", "urban")[k], turn=turn, duration_s=20.0)
        world = make_world(spec)
        if not world.map.crossings:
            continue
        log = world.simulate()
        at = _turning(log) if turn != "straight" else _crossing(world, log)
        if 24 <= at < len(log) - 30 and (turn == "straight" or abs(log[-1].ego.yaw_rad - log[0].ego.yaw_rad) > 1.0):
            break
    return world, log


def _turning(log: Sequence[State]) -> int:
    """The step at which the car turns fastest."""
    return int(np.argmax([abs(state.ego.yaw_rate_radps) for state in log]))


def _crossing(world: World, log: Sequence[State]) -> int:
    """The step at which the car is nearest to the middle of a crossing."""
    middles = np.array([world.map.roads[a].at(s)[:2] for a, s, _, _ in world.map.crossings])
    places = np.array([state.ego.pose[:2] for state in log])
    return int(np.linalg.norm(places[:, None] - middles, axis=-1).min(1).argmin())


def crashes(seed: int = 0, count: int = 5, camera: Camera | None = None) -> tuple[np.ndarray, list[str]]:
    """Two rows of `count` frames for each kind of crash test, until just after the crash: at constant speed, and braking and swerving."""
    frames, labels = [], []
    for kind in KINDS:
        test = crash_test(sample(kind, seed, time="day", weather="clear"))
        times_s = np.linspace(0, test.scenario.ttc_s + 1.0, count)
        for name, driver in DRIVERS.items():
            frames.append(film(test, driver, times_s, camera))
            labels += [f"{kind}, {name}" if n == 0 else f"{t:.1f} s" for n, t in enumerate(times_s)]
    return np.concatenate(frames), labels
