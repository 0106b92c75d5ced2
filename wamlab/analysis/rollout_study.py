"""Notebook 05: what each model predicts for 8 s, how that moves, how fast it drifts, and what the paper's claims come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from wamlab import statistics
from wamlab.analysis.rollout_claims import CLAIMS, judge
from wamlab.analysis.rollout_measures import MOTION, PER_FRAME, Measures, curves, difference, level, measure
from wamlab.analysis.rollouts import Rollouts, longest, roll_out_windows, shown_scenes
from wamlab.analysis.warm_starts import STRENGTHS, dial, warm_starts
from wamlab.analysis.windows import take_windows
from wamlab.config import override
from wamlab.errors import InvalidParameter
from wamlab.metrics.features import Extractor, encoder_features
from wamlab.models import BASELINES
from wamlab.statistics import Interval, Undefined
from wamlab.types import Codec, Finding

MODELS = ("copy", "warp", "direct", "diffusion", "jump", "jump-diffusion")
#: What tells predicted pictures from true ones.
EXTRACTOR = "vit-s16/embedded"
#: Columns of the tables, with an arrow towards better.
NAMES = {
    "cosine": "cosine similarity ↑",
    "rmse": "pixel RMSE, levels ↓",
    "ssim": "SSIM ↑",
    "sharpness": "sharpness (truth = 1)",
    "kd": "kernel distance ↓",
    "low": "coarse motion (truth = 1)",
    "high": "fine motion (truth = 1)",
    "magnitude": "displacement (truth = 1)",
    "direction": "direction ↑",
    "slope": "slope on the truth (truth = 1)",
    "paper_direction": "direction, the paper's measure ↑",
}
#: What the table of the whole rollout has of them.
DRIFT = ("cosine", "sharpness", "kd", "low", "high", "direction")
CALLED = {
    "copy": "a copy of the present",
    "warp": "the warped present",
    "direct": "the direct model",
    "diffusion": "the diffusion model",
    "jump": "the jump chain",
    "jump-diffusion": "the diffusion jump chain",
}


@dataclass(frozen=True)
class RolloutStudy:
    """What notebook 05 shows.

    Attributes:
        measures: of every frame and step.
        curves: model, metric, time_s, mean, low, high, n.
        summary, motion: a row a model, a column a metric, as `mean [low, high]`, over one reach; drift: over the whole rollout.
        dial: route, strength, metric, mean, low, high, n; None where the models of no route are there.
        reach_s, whole_s: how far the models see in one go, and how far they were rolled out; fps: frames a second.
        shown: scenes for the `RolloutPlayer`.
        weights: where each model's weights are from, in words.
        answer: a sentence or two, from the measurements.
        metrics: named numbers with their intervals for the run folder.
    """

    measures: Measures
    curves: pd.DataFrame
    summary: pd.DataFrame
    motion: pd.DataFrame
    drift: pd.DataFrame
    reach_s: float
    whole_s: float
    fps: float
    shown: list[dict[str, Any]]
    findings: tuple[Finding, ...]
    answer: str
    metrics: dict[str, tuple[float, float, float]]
    weights: str = ""
    dial: pd.DataFrame | None = None


def study(
    dataset: str = "synthetic",
    preset: str = "quick",
    num_scenes: int = 0,
    num_shown: int = 4,
    seconds: float = 8.0,
    steps: int = 0,
    seed: int = 0,
    models: Sequence[str] = MODELS,
    weights: str = "shipped",
    strengths: Sequence[float] = STRENGTHS,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> RolloutStudy:
    """Load or train each model with each of the preset's seeds, roll it out on one window of each held-out scene, and measure it.

    Args:
        num_scenes, steps: 0 means the preset's `eval_scenes` and `sampler_steps`.
        seconds: how far to roll out, if the drives are long enough (see `longest`), and at least one reach of the models.
        seed: added to those of the training runs; decides noise and resampling.
        weights: one of `pretrained.CHOICES`.
        strengths: of warm starts.
    """
    from wamlab.codecs import load_codec
    from wamlab.data import open_dataset
    from wamlab.data.latents import LatentStore
    from wamlab.presets import get_preset
    from wamlab.pretrained import obtain

    settings = override(get_preset(preset), overrides or {})
    num_scenes, steps = num_scenes or settings.eval_scenes, steps or settings.sampler_steps
    if num_scenes < 2 or not seconds > 0:
        raise InvalidParameter(
            f"num_scenes must be at least 2 for an interval, and seconds above 0, not {num_scenes} and {seconds}"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data, codec = open_dataset(dataset), load_codec(settings.codec, device)
    store = LatentStore(data, codec, settings.resolution)
    ready = {
        seed + s: {name: obtain(name, settings, data, codec, store, seed + s, progress, weights) for name in models}
        for s in settings.seeds
    }
    scenes = data.scenes("test")[:num_scenes]
    jump = getattr(settings.jump.model, "jump", 1)
    asked = max(settings.horizon, round(seconds / float(np.median(np.diff(scenes[0].timestamps_s)))))
    given = take_windows(scenes, store, settings.num_context, longest(scenes, settings.num_context, asked, jump))
    sampling = {"steps": steps, "guidance": settings.guidance, "strength": settings.strength}
    named = {s: {name: model for name, (model, _) in found.items()} for s, found in ready.items()}
    later = {
        s: {n: m for n, m in found.items() if s == seed + settings.seeds[0] or n not in BASELINES}
        for s, found in named.items()
    }
    rolled = {s: roll_out_windows(found, given, sampling, s) for s, found in later.items()}
    measured_on = f"{dataset} data, {preset} preset, {len(given.scenes)} held-out scenes, {len(rolled)} seed{'s' * (len(rolled) > 1)}"
    extractor = encoder_features(EXTRACTOR, device)
    study = analyse(rolled, codec, measured_on, seed, num_shown, settings.horizon, extractor)
    found = warm_starts(named, given.first(settings.horizon), codec, sampling, strengths) if strengths else None
    origins = {name: origin for name, (_, origin) in next(iter(ready.values())).items() if name not in BASELINES}
    return dataclasses.replace(
        study,
        weights="; ".join(f"{name}: {origin}" for name, origin in origins.items()),
        dial=None if found is None else dial(found, np.random.default_rng(seed)),
    )


def analyse(
    rolled: Mapping[int, Rollouts],
    codec: Codec,
    measured_on: str,
    seed: int = 0,
    num_shown: int = 4,
    reach: int = 0,
    extractor: Extractor | None = None,
) -> RolloutStudy:
    """Decode, measure and judge: everything after the models have run.

    rolled: seed -> rollouts of the same windows. reach: frames that the models see in one go; 0, or more than there are: all.
    """
    rng = np.random.default_rng(seed)
    any_rolled = next(iter(rolled.values()))
    times_s = any_rolled.times_s.round(3)
    reach_s, whole_s = float(times_s[min(reach or len(times_s), len(times_s)) - 1]), float(times_s[-1])
    found = measure(rolled, codec, extractor)
    near = found.until(reach_s)
    levels = {
        span: {(model, m): level(part, model, m, rng) for m in found.metrics for model in found.models}
        for span, part in (("", near), ("/whole", found))
    }
    findings = tuple(judge(claim, near, found, reach_s, whole_s, measured_on, rng) for claim in CLAIMS)
    rows = found.frames[found.frames.seed == next(iter(rolled))]
    lasts = {model: lead_s(found, model, rng) for model in found.models if model != "copy"}
    per_frame = [m for m in PER_FRAME if m in found.metrics]
    drift = table(levels["/whole"], found.models, [m for m in DRIFT if m in found.metrics])
    if "copy" in found.models:
        drift["nearer than a copy for, s ↑"] = [f"{lasts[m]:g}" if m in lasts else "–" for m in found.models]
    return RolloutStudy(
        found,
        curves(found, rng),
        table(levels[""], found.models, per_frame),
        table(levels[""], found.models, MOTION),
        drift,
        reach_s,
        whole_s,
        len(times_s) / whole_s,
        shown_scenes(any_rolled, codec, rows, num_shown),
        findings,
        answer(levels[""], found.models, lasts, reach_s, whole_s),
        {
            f"{model}/{m}{span}": (value.mean, value.low, value.high)
            for span, values in levels.items()
            for (model, m), value in values.items()
            if isinstance(value, Interval)
        },
    )


def table(
    levels: Mapping[tuple[str, str], Interval | Undefined], models: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """A row a model, a column a metric: `mean [low, high]`, or that there is none."""
    return pd.DataFrame({NAMES[m]: [said(levels[model, m]) for model in models] for m in metrics}, index=list(models))


def said(value: Interval | Undefined) -> str:
    if isinstance(value, Undefined):
        return "not measured"
    middle, low, high = (f"{round(x, 6) + 0.0:.3g}" for x in (value.mean, value.low, value.high))
    return f"{middle} [{low}, {high}]"


def lead_s(found: Measures, model: str, rng: np.random.Generator) -> float:
    """Until when a model is surely nearer to the truth than a copy of the present: at all times up to this one the interval of the
    difference in cosine similarity is above 0."""
    lead = 0.0
    for time_s in sorted(found.frames.time_s.unique()):
        now = Measures(found.frames[found.frames.time_s == time_s], found.steps)
        if statistics.verdict(difference(now, model, "copy", "cosine", rng)) != statistics.REPRODUCED:
            break
        lead = float(time_s)
    return lead


def answer(
    levels: Mapping[tuple[str, str], Interval | Undefined],
    models: Sequence[str],
    lasts: Mapping[str, float],
    reach_s: float,
    whole_s: float,
) -> str:
    """Who is closest, who is crisp, and for how long that is worth more than a copy, from the intervals."""
    cosine = {m: levels[m, "cosine"] for m in models}
    closest = max(cosine, key=lambda m: cosine[m].mean)
    near = cosine[closest]
    text = (
        f"Over {reach_s:g} s, {CALLED.get(closest, closest)} stays closest to the true future (cosine similarity {near.mean:.2f} "
        f"[{near.low:.2f}, {near.high:.2f}] over {near.n} held-out drives)"
    )
    sharp = {m: levels[m, "sharpness"].mean for m in models if m not in BASELINES}
    if sharp:
        crispest, blurry = min(sharp, key=lambda m: abs(sharp[m] - 1)), min(sharp, key=sharp.__getitem__)
        if blurry != crispest:
            text += (
                f", but of those that learn, {CALLED.get(blurry, blurry)} keeps {sharp[blurry]:.0%} of the true sharpness "
                f"and {CALLED.get(crispest, crispest)} {sharp[crispest]:.0%}"
            )
    learned = {m: s for m, s in lasts.items() if m not in BASELINES}
    if not learned or whole_s <= reach_s:
        return f"{text}."
    longest_lead = max(learned.values())
    who = " and ".join(CALLED.get(m, m) for m in learned if learned[m] == longest_lead)
    if longest_lead >= whole_s:
        stay = "stay" if " and " in who else "stays"
        return f"{text}. Rolled on from their own pictures, {who} {stay} nearer than a copy of the present all the {whole_s:g} s."
    if longest_lead == 0:
        return f"{text}. None of them is surely nearer than a copy of the present."
    return (
        f"{text}. Rolled on from their own pictures, they lose their lead over a copy of the present, "
        f"the last after {longest_lead:g} s ({who})."
    )
