"""Notebook 00: the models that come with the package on a few held-out drives: one Finding, and moments worth turning the wheel at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wamlab import statistics
from wamlab.analysis.hands_on import trained_range
from wamlab.analysis.rollout_measures import difference, measure
from wamlab.analysis.rollout_study import CALLED
from wamlab.analysis.rollouts import roll_out_windows, shown_scenes
from wamlab.analysis.windows import take_windows
from wamlab.data import Dataset
from wamlab.data.latents import LatentStore
from wamlab.data.windows import window_starts
from wamlab.errors import InvalidParameter
from wamlab.models import CopyPresent
from wamlab.presets import get_preset
from wamlab.pretrained import Pretrained
from wamlab.statistics import Undefined
from wamlab.types import ACTIONS, Finding, Scene

#: Learned models that are shown beside the truth and a copy of the present.
SHOWN = ("direct", "diffusion", "jump")
#: Of all windows, the share that turns less than the one whose wheel is put into the reader's hands.
TURN = 0.8
CLAIM = "A picture that never changes is closer to the true future than diffusion (difference in cosine similarity)"
PAPER = "it is at every step, .574 against .427 at the first"
_STEERING, _SPEED = ACTIONS.index("steering_rad"), ACTIONS.index("speed_mps")


@dataclass(frozen=True)
class FirstLook:
    """Attributes:
    shown: scenes for the `RolloutPlayer`.
    scene, t: a held-out drive in a turn, and the present there. trained: the usual actions, as `trained_range` gives them.
    finding: one claim of the paper.
    answer: from the measurements. metrics: for the run folder.
    """

    shown: list[dict[str, Any]]
    scene: Scene
    t: int
    trained: dict[str, tuple[float, float]]
    finding: Finding
    answer: str
    metrics: dict[str, tuple[float, float, float]]


def study(trained: Pretrained, data: Dataset, preset: str = "quick", num_shown: int = 3, seed: int = 0) -> FirstLook:
    """Roll the models out on one window of as many held-out drives as the preset says, and compare them with a copy of the present.

    Raises `InvalidParameter` where fewer than two drives are long enough.
    """
    asked, settings = trained.preset, get_preset(preset)
    scenes = data.scenes("test")[: settings.eval_scenes]
    store = LatentStore(data, trained.codec, asked.resolution)
    given = take_windows(scenes, store, asked.num_context, asked.horizon)
    sampling = {"steps": asked.sampler_steps, "guidance": asked.guidance, "strength": asked.strength}
    models = {"copy": CopyPresent()} | {name: trained[name] for name in SHOWN}
    rolled = roll_out_windows(models, given, sampling, seed)
    found, rng = measure({seed: rolled}, trained.codec, metrics=("rmse",)), np.random.default_rng(seed)
    measured_on = f"{data.name} data, {preset} preset, {len(given.scenes)} held-out scenes, 1 seed"
    finding = statistics.finding(CLAIM, PAPER, difference(found, "copy", "diffusion", "cosine", rng), measured_on)
    ahead = {name: difference(found, name, "copy", "cosine", rng) for name in SHOWN}
    usual = trained_range(data.scenes("train"))
    scene, t = turning(scenes, asked.num_context, asked.horizon, usual["steering_rad"])
    return FirstLook(
        [
            {k: v for k, v in s.items() if k != "motion"}
            for s in shown_scenes(rolled, trained.codec, found.frames, num_shown)
        ],
        scene,
        t,
        usual,
        finding,
        _answer(ahead, float(given.times_s[-1])),
        {
            f"{name} above copy/cosine": (i.mean, i.low, i.high)
            for name, i in ahead.items()
            if not isinstance(i, Undefined)
        },
    )


def turning(
    scenes: Sequence[Scene], num_context: int, horizon: int, usual_rad: tuple[float, float]
) -> tuple[Scene, int]:
    """The drive and the present whose window turns (speed times steering) farther than `TURN` of all, without unusual steering angles.

    So it is a turn, and none that hardly any drive has. Where all windows have unusual angles, all count.
    Raises `InvalidParameter` if no drive has a window.
    """
    found = []
    for scene in scenes:
        for t in window_starts(scene, num_context, horizon):
            steering, speed = (scene.actions[t : t + horizon, i] for i in (_STEERING, _SPEED))
            usual = bool(((steering >= usual_rad[0]) & (steering <= usual_rad[1])).all())
            found.append((usual, abs(float((steering * speed).sum())), scene, t))
    if not found:
        raise InvalidParameter(
            f"none of {len(scenes)} held-out drives has a window of {num_context} + {horizon} frames"
        )
    found = [f for f in found if f[0]] or found
    wanted = np.quantile([turned for _, turned, _, _ in found], TURN)
    _, _, scene, t = min(found, key=lambda f: abs(f[1] - wanted))
    return scene, t


def _answer(ahead: dict[str, Any], seconds: float) -> str:
    """How surely the models know more than a picture that stands still."""
    known = {name: i for name, i in ahead.items() if not isinstance(i, Undefined)}
    if not known:
        return "A world model draws what the camera will see if the driver does this or that. Too few drives are here to say how well."
    best = max(known, key=lambda name: known[name].mean)
    value = known[best]
    how = {
        statistics.REPRODUCED: "is nearer to what really happens than a picture that never changes",
        statistics.NOT_REPRODUCED: "is farther from what really happens than a picture that never changes",
        statistics.INCONCLUSIVE: "cannot be told from a picture that never changes",
    }[statistics.verdict(value)]
    return (
        f"A world model draws what the camera will see if the driver does this or that. Over the next {seconds:g} s, {CALLED[best]} "
        f"{how}: by {value.mean:.2f} [{value.low:.2f}, {value.high:.2f}] in cosine similarity, on {value.n} drives it has never seen."
    )


def profiles(num_steps: int, trained: dict[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """Drives to be recorded for a `DriveView`: (N, 2) actions each, straight on, and to either side by half the usual range."""
    right, left = (0.5 * bound for bound in trained["steering_rad"])
    return {
        name: np.tile(np.float32([steering, 0.0]), (num_steps, 1))
        for name, steering in (("straight on", 0.0), ("to the left", left), ("to the right", right))
    }
