"""What the procedural world is good for: how it is driven, what it answers when asked what would have happened, whom it lets crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from wamlab import statistics
from wamlab.analysis import closed_loop, steering
from wamlab.analysis.driving import QUANTITIES, agreement, driving, quantiles
from wamlab.config import override
from wamlab.data.frames import squared
from wamlab.errors import InvalidParameter
from wamlab.render import to_hwc
from wamlab.types import ACTIONS, Finding, Scene
from wamlab.world.counterfactual import logged_actions, replay
from wamlab.world.description import describe
from wamlab.world.simulation import KEYFRAME_STEPS, make_world
from wamlab.world.synthetic import dataset_specs

#: What is done from the present on: this much is added to the steering wheel (rad, left positive), and the acceleration (m/s²) is this.
WHAT_IF = {"truth": (0.0, None), "left": (0.8, None), "right": (-0.8, None), "brake": (0.0, -5.0)}
STYLES = {
    "truth": {"label": "as it was driven", "color": "#8a8a8a"},
    "left": {"label": "wheel to the left", "color": "#2a86d1"},
    "right": {"label": "wheel to the right", "color": "#d9541e"},
    "brake": {"label": "brake", "color": "#c2639b"},
}
_PAPER = {
    "signals": "a real car's correlate with 0.88 over a second (one minute of comma2k19)",
    "sweep": "no recorded drive can tell",
    "brackets": "NeuroNCAP: 5 is no crash, 0 is a crash at full speed",
}
_REAL_CAR = 0.88
_MIN_SPEED_MPS = 4.0


@dataclass(frozen=True)
class WorldStudy:
    """What notebook 06 shows.

    Attributes:
        driving: a row a frame, as `wamlab.analysis.driving.driving`; quantiles: of it.
        sweep: the true answer to steering.
        what_if: scenes for the `RolloutPlayer`: the same present, other actions, all of them true.
        crashes: a row a crash test and driver; summary: with intervals.
        findings, answer, metrics: as in the other studies.
    """

    driving: pd.DataFrame
    quantiles: pd.DataFrame
    sweep: steering.SteeringSweep
    what_if: list[dict[str, Any]]
    crashes: pd.DataFrame
    summary: pd.DataFrame
    findings: tuple[Finding, ...]
    answer: str
    metrics: dict[str, float]


def study(
    dataset: str = "synthetic",
    preset: str = "quick",
    num_presents: int = 0,
    num_tests: int = 0,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> WorldStudy:
    """Describe the drives, sweep the wheel, ask what if, and run the crash tests.

    A recorded drive cannot be asked what would have happened: for such a dataset generated drives are asked, and described beside it.

    Args:
        num_presents: held-out drives in which the wheel is swept; num_tests: seeds of each kind of crash test; 0: half of the preset's
            `eval_scenes`.
    """
    from wamlab.data import open_dataset
    from wamlab.presets import get_preset

    settings = override(get_preset(preset), overrides or {})
    num_presents, num_tests = (n or max(3, settings.eval_scenes // 2) for n in (num_presents, num_tests))
    data = open_dataset(dataset)
    scenes, held_out = data.scenes(), data.scenes("test")
    if not data.synthetic:
        held_out = generated(2 * num_presents, seed)
        scenes = scenes + held_out
    rng = np.random.default_rng(seed)
    driven = driving(scenes)
    usual = driven.steering_rad[driven.speed_mps >= steering.MIN_SPEED_MPS].quantile([0.05, 0.95])
    sweep = steering.true_steering_sweep(held_out[:num_presents], angles_rad=np.linspace(*usual, 7))
    crashes = closed_loop.crash_tests(range(seed, seed + num_tests))
    summary = closed_loop.summary(crashes, rng)
    on = f"{dataset} data, {preset} preset"
    findings = _findings(driven, sweep, crashes, rng, on)
    return WorldStudy(
        driven,
        quantiles(driven),
        sweep,
        what_if(held_out, min(4, num_presents), settings.horizon, settings.resolution),
        crashes,
        summary,
        findings,
        _answer(findings, num_presents, num_tests),
        {
            "signals/correlation": findings[0].measured,
            "sweep/spearman": findings[1].measured,
            **{f"{r.kind}/{r.driver}/{r.metric}": r.mean for r in summary.itertuples() if np.isfinite(r.mean)},
        },
    )


def generated(count: int, seed: int = 0) -> list[Scene]:
    """Drives of the procedural world that are in no dataset: simulated, without images."""
    scenes = []
    for name, spec in dataset_specs(count, seed).items():
        made = make_world(spec)
        log = made.simulate()[:-1]
        keyframes = log[::KEYFRAME_STEPS]
        ego = [s.ego for s in keyframes]
        actions = np.array([(e.steering_rad, e.accel_mps2, e.speed_mps) for e in ego], np.float32)
        pose, times_s = np.array([e.pose for e in ego]), np.array([s.time_s for s in keyframes])
        scenes.append(Scene(name, "test", times_s, (), actions, pose, describe(made, log, []), world=asdict(spec)))
    return scenes


def what_if(scenes: Sequence[Scene], count: int, horizon: int, resolution: int) -> list[dict[str, Any]]:
    """Scenes for the player: from the middle of `count` drives, what would have happened under each of `WHAT_IF`.

    The present is the middle one of a scene's keyframes of at least 4 m/s that are followed by `horizon` more. Frames are cropped to the
    middle square and resized to `resolution` pixels. Raises `InvalidParameter` if no scene has such a keyframe.
    """
    shown, speed = [], ACTIONS.index("speed_mps")
    for scene in scenes:
        fast = np.flatnonzero(scene.actions[: len(scene) - horizon, speed] >= _MIN_SPEED_MPS)
        if len(fast) and len(shown) < count:
            t = int(fast[len(fast) // 2])
            shown.append(_asked(scene, t, horizon, resolution))
    if not shown:
        raise InvalidParameter(
            f"none of {len(scenes)} scenes drives at {_MIN_SPEED_MPS} m/s, {horizon} frames before its end"
        )
    return shown


def _asked(scene: Scene, t: int, horizon: int, resolution: int) -> dict[str, Any]:
    driven = logged_actions(scene, t, horizon)
    answers = {}
    for name, (turned_rad, accel_mps2) in WHAT_IF.items():
        actions = driven + np.array([turned_rad, 0.0])
        if accel_mps2 is not None:
            actions[:, 1] = accel_mps2
        answers[name] = replay(scene, t, actions, every_step=True)
    first = answers["truth"]
    present = first.renderer([first.present]).rgb  # the same for all
    rows = {
        name: np.stack([squared(Image.fromarray(f), resolution) for f in to_hwc(torch.cat([present, answer.frames]))])
        for name, answer in answers.items()
    }
    at = np.arange(horizon + 1) * KEYFRAME_STEPS
    speed = scene.actions[t : t + horizon + 1, ACTIONS.index("speed_mps")]
    actions = np.column_stack([np.vstack([driven, driven[-1]])[at], speed])
    return {
        "name": scene.name,
        "note": scene.description,
        "rows": rows,
        "actions": actions,
        "times_s": scene.timestamps_s[t : t + horizon + 1] - scene.timestamps_s[t],
    }


def _findings(
    driven: pd.DataFrame, sweep: steering.SteeringSweep, crashes: pd.DataFrame, rng: np.random.Generator, on: str
) -> tuple[Finding, ...]:
    signals = statistics.bootstrap_mean(agreement(driven).to_numpy(), rng)
    rho = statistics.bootstrap_mean(sweep.rho.shift_px.to_numpy(), rng)
    score = crashes.pivot(index=["kind", "seed"], columns="driver", values="score")
    better = statistics.bootstrap_mean((score["brake and swerve"] - score["constant speed"]).to_numpy(), rng)

    def found(claim: str, paper: str, interval: statistics.Interval, threshold: float, where: str) -> Finding:
        return statistics.finding(claim, paper, interval, f"{on}, {where}", threshold=threshold)

    return (
        found(
            "Steering and speed tell the yaw rate at least as well as in a real car (correlation in a drive)",
            _PAPER["signals"], signals, _REAL_CAR, f"{signals.n} drives that turn",
        ),
        found(
            "Half a second after the wheel is turned, the true picture has moved in the order of the angles (Spearman's ρ above 0.99)",
            _PAPER["sweep"], rho, 0.99, f"{rho.n} held-out drives",
        ),
        found(
            "The crash tests tell a driver who reacts from one who does not (difference in score)",
            _PAPER["brackets"], better, 0.0, f"{better.n} crash tests of {crashes.kind.nunique()} kinds",
        ),
    )  # fmt: skip


def _answer(findings: Sequence[Finding], num_presents: int, num_tests: int) -> str:
    signals, rho, better = findings
    return (
        f"Yes, and it can be asked what would have happened. In {num_presents} held-out drives the true picture follows the steering wheel "
        f"(Spearman's ρ {rho.measured:.3f} [{rho.interval[0]:.3f}, {rho.interval[1]:.3f}] after half a second), and in crash tests "
        f"a driver who reacts scores {better.measured:.1f} [{better.interval[0]:.1f}, {better.interval[1]:.1f}] points of 5 more than one "
        f"who does not ({num_tests} of each kind)."
    )


__all__ = ["QUANTITIES", "STYLES", "WHAT_IF", "WorldStudy", "study", "what_if"]
