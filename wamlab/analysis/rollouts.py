"""What future each model sees: roll out on held-out windows, decode, compare with the truth frame by frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import render, statistics
from wamlab.analysis.predicting import Candidate, predict
from wamlab.config import override
from wamlab.errors import InvalidParameter
from wamlab.metrics import pixel
from wamlab.models import BASELINES
from wamlab.types import Codec, Finding, Scene

TRUTH = "truth"
MODELS = ("copy", "direct", "diffusion", "jump", "jump-diffusion")
METRICS = ("cosine", "rmse", "ssim", "sharpness")
#: Rows of the summary, with an arrow towards better.
NAMES = {
    "cosine": "cosine similarity ↑",
    "rmse": "pixel RMSE, levels ↓",
    "ssim": "SSIM ↑",
    "sharpness": "sharpness (truth = 1)",
}
PAPER = {
    "distortion": "CosSim .471 against .233 (nuScenes, 8 s)",
    "blur": "the regressor is a sharpness-collapsed blur",
    "copy": "copying wins at every step, .574 against .427 at the first",
}


@dataclass(frozen=True)
class Rollouts:
    """Latents of the same windows: truth and predictions (N, F, c, h, w), the present (N, c, h, w), actions (N, F, A), times_s (F,)."""

    scenes: tuple[str, ...]
    notes: tuple[str, ...]
    present: Tensor
    truth: Tensor
    predicted: Mapping[str, Tensor]
    actions: Tensor
    times_s: np.ndarray


@dataclass(frozen=True)
class RolloutStudy:
    """What notebook 05 shows.

    Attributes:
        per_frame: scene, model, time_s and one column a metric.
        curves: model, metric, time_s, mean, low, high, n.
        summary: a row a model, a column a metric, as `mean [low, high]` over the whole horizon.
        shown: scenes for the `RolloutPlayer`.
        weights: where each model's weights are from, in words.
        answer: one sentence, from the measurements.
        metrics: named numbers for the run folder.
    """

    per_frame: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame
    shown: list[dict[str, Any]]
    findings: tuple[Finding, ...]
    weights: str
    answer: str
    metrics: dict[str, float]


def study(
    dataset: str = "synthetic",
    preset: str = "quick",
    num_scenes: int = 0,
    num_shown: int = 4,
    steps: int = 0,
    seed: int = 0,
    models: Sequence[str] = MODELS,
    weights: str = "shipped",
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> RolloutStudy:
    """Load or train each model, roll it out on one window of each held-out scene, and measure it.

    `num_scenes` and `steps` of 0 mean the preset's `eval_scenes` and `sampler_steps`; `weights` is one of `pretrained.CHOICES`.
    """
    from wamlab.codecs import load_codec
    from wamlab.data import open_dataset
    from wamlab.data.latents import LatentStore
    from wamlab.presets import get_preset
    from wamlab.pretrained import obtain

    settings = override(get_preset(preset), overrides or {})
    num_scenes, steps = num_scenes or settings.eval_scenes, steps or settings.sampler_steps
    if num_scenes < 2:
        raise InvalidParameter(f"num_scenes must be at least 2 for an interval, not {num_scenes}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data, codec = open_dataset(dataset), load_codec(settings.codec, device)
    store = LatentStore(data, codec, settings.resolution)
    ready = {name: obtain(name, settings, data, codec, store, seed, progress, weights) for name in models}
    scenes = data.scenes("test")[:num_scenes]
    sampling = {"steps": steps, "guidance": settings.guidance, "strength": settings.strength}
    rolled = roll_out(
        {name: model for name, (model, _) in ready.items()},
        scenes,
        store,
        settings.num_context,
        settings.horizon,
        sampling,
        seed,
    )
    origins = {name: origin for name, (_, origin) in ready.items() if name not in BASELINES}
    measured_on = f"{dataset} data, {preset} preset, {len(rolled.scenes)} held-out scenes, 1 seed"
    study = analyse(rolled, codec, measured_on, seed, num_shown)
    return dataclasses.replace(study, weights="; ".join(f"{name}: {origin}" for name, origin in origins.items()))


def roll_out(
    models: Mapping[str, Any],
    scenes: Sequence[Scene],
    store: Any,
    num_context: int,
    horizon: int,
    sampling: Mapping[str, Any],
    seed: int,
    batch: int = 8,
) -> Rollouts:
    """The window in the middle of each scene that is long enough, predicted by every model from the same context and actions.

    `sampling`: settings of `rollout`, of which models without a sampler read none.
    """
    from wamlab.data.windows import window_actions, window_starts

    store.fill(scenes)
    names, notes, latents, actions, times = [], [], [], [], None
    for scene in scenes:
        starts = window_starts(scene, num_context, horizon)
        if not starts:
            continue
        t = starts[len(starts) // 2]
        names.append(scene.name)
        notes.append(", ".join(scene.attributes.values()))
        latents.append(store.read(scene.name)[t - num_context + 1 : t + horizon + 1].float())
        actions.append(torch.as_tensor(window_actions(scene, t, horizon, num_context)))
        times = scene.timestamps_s[t + 1 : t + horizon + 1] - scene.timestamps_s[t] if times is None else times
    if len(names) < 2:
        raise InvalidParameter(
            f"{len(names)} of {len(scenes)} held-out scenes have a window of {num_context} + {horizon} frames; 2 are needed"
        )
    z, a = torch.stack(latents), torch.stack(actions)
    context, truth = z[:, :num_context], z[:, num_context:]
    predicted = {name: predict(Candidate(model, sampling), context, a, seed, batch) for name, model in models.items()}
    return Rollouts(tuple(names), tuple(notes), context[:, -1], truth, predicted, a, np.asarray(times, float))


def analyse(rolled: Rollouts, codec: Codec, measured_on: str, seed: int = 0, num_shown: int = 4) -> RolloutStudy:
    """Decode and measure: everything after the models have run."""
    rng = np.random.default_rng(seed)
    truth = decode(codec, rolled.truth)
    tables, frames = [], {TRUTH: truth}
    for name, latents in rolled.predicted.items():
        frames[name] = decode(codec, latents)
        tables.append(_per_frame(rolled, name, latents, frames[name], truth))
    per_frame = pd.concat(tables, ignore_index=True)
    curves = [statistics.interval_table(per_frame, m, ["model", "time_s"], rng).assign(metric=m) for m in METRICS]
    totals = {m: statistics.interval_table(per_frame, m, ["model"], rng).set_index("model") for m in METRICS}
    summary = pd.DataFrame(
        {
            NAMES[m]: t.apply(lambda r: f"{r['mean']:.3g} [{r['low']:.3g}, {r['high']:.3g}]", axis=1)
            for m, t in totals.items()
        }
    )
    findings = _findings(per_frame, rng, measured_on)
    return RolloutStudy(
        per_frame,
        pd.concat(curves, ignore_index=True),
        summary.rename_axis(None),
        shown_scenes(rolled, codec, frames, per_frame, num_shown),
        findings,
        "",
        _answer(totals, len(rolled.scenes)),
        {f"{model}/{m}": float(t.loc[model, "mean"]) for m, t in totals.items() for model in t.index},
    )


@torch.no_grad()
def decode(
    codec: Codec, latents: Tensor, chunk: int = 32, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """(..., c, h, w) latents -> (..., 3, H, W) uint8 frames on the CPU, a few at a time."""
    flat = latents.flatten(0, -4)
    weights = next(iter(codec.parameters()), None) if isinstance(codec, torch.nn.Module) else None
    device = weights.device if weights is not None else latents.device
    parts = []
    for part in flat.split(chunk):
        parts.append(render.to_uint8(codec.decode(part.to(device))).cpu())
        if progress:
            progress(sum(map(len, parts)), len(flat))
    frames = torch.cat(parts)
    return frames.reshape(*latents.shape[:-3], *frames.shape[1:])


def _per_frame(rolled: Rollouts, name: str, latents: Tensor, frames: Tensor, truth: Tensor) -> pd.DataFrame:
    n, horizon = latents.shape[:2]
    return pd.DataFrame(
        {
            "scene": np.repeat(rolled.scenes, horizon),
            "model": name,
            "time_s": np.tile(rolled.times_s.round(3), n),
            "cosine": pixel.cosine_similarity(latents, rolled.truth).flatten().numpy(),
            "rmse": pixel.rmse(frames, truth).flatten().numpy(),
            "ssim": pixel.ssim(frames, truth).flatten().numpy(),
            "sharpness": (pixel.sharpness(frames) / pixel.sharpness(truth).clamp_min(1e-6)).flatten().numpy(),
        }
    )


def _findings(per_frame: pd.DataFrame, rng: np.random.Generator, measured_on: str) -> tuple[Finding, ...]:
    known = set(per_frame.model)

    def compare(claim: str, paper: str, metric: str, a: str, b: str, sign: float) -> Finding | None:
        """The mean over scenes of `metric` of `a` minus that of `b`, claimed to have `sign`."""
        if not {a, b} <= known:
            return None
        wide = statistics.by_scene(per_frame, metric, ["model"])
        found = statistics.bootstrap_mean((wide[a] - wide[b]).to_numpy(), rng)
        return statistics.finding(claim, paper, found, measured_on, sign)

    made = [
        compare(
            "Direct regression is closer to the truth than diffusion (difference in cosine similarity)",
            PAPER["distortion"], "cosine", "direct", "diffusion", 1,
        ),
        compare(
            "Direct regression is blurrier than diffusion (difference in sharpness, truth = 1)",
            PAPER["blur"], "sharpness", "direct", "diffusion", -1,
        ),
        compare(
            "A copy of the present is closer to the truth than diffusion (difference in cosine similarity)",
            PAPER["copy"], "cosine", "copy", "diffusion", 1,
        ),
    ]  # fmt: skip
    return tuple(f for f in made if f)


def _answer(totals: Mapping[str, pd.DataFrame], n: int) -> str:
    cosine, sharp = totals["cosine"]["mean"], totals["sharpness"]["mean"]
    names = {
        "copy": "a copy of the present",
        "direct": "the direct model",
        "diffusion": "the diffusion model",
        "jump": "the jump chain",
        "jump-diffusion": "the diffusion jump chain",
    }
    closest, crispest = cosine.idxmax(), (sharp.drop("copy", errors="ignore") - 1).abs().idxmin()
    low, high = totals["cosine"].loc[closest, ["low", "high"]]
    said = (
        f"{names.get(closest, closest).capitalize()} stays closest to the true future "
        f"(cosine similarity {cosine[closest]:.2f} [{low:.2f}, {high:.2f}] over {n} held-out drives)"
    )
    blurry = sharp.drop("copy", errors="ignore").idxmin()
    if blurry != crispest:
        said += (
            f", but of those that learn, {names.get(blurry, blurry)} keeps {sharp[blurry]:.0%} of the true sharpness "
            f"and {names.get(crispest, crispest)} {sharp[crispest]:.0%}"
        )
    return f"{said}."


def shown_scenes(
    rolled: Rollouts, codec: Codec, frames: Mapping[str, Tensor], per_frame: pd.DataFrame, count: int
) -> list[dict[str, Any]]:
    """Scenes for the player, spread over the range of how hard they are to predict; the present stands before t+1 .. t+F."""
    hard = per_frame.groupby("scene").rmse.mean().reindex(rolled.scenes).to_numpy().argsort()
    picked = sorted({int(hard[i]) for i in np.linspace(0, len(hard) - 1, min(count, len(hard))).round().astype(int)})
    present = decode(codec, rolled.present[picked])[:, None]
    rmse = {
        name: t.rmse.to_numpy().reshape(len(rolled.scenes), -1) for name, t in per_frame.groupby("model", sort=False)
    }
    return [
        {
            "name": rolled.scenes[i],
            "note": rolled.notes[i],
            "rows": {name: render.to_hwc(torch.cat([present[k], f[i]])) for name, f in frames.items()},
            "errors": {name: np.concatenate([[0.0], values[i]]) for name, values in rmse.items()},
            "actions": rolled.actions[i].numpy(),
            "times_s": np.concatenate([[0.0], rolled.times_s]),
        }
        for k, i in enumerate(picked)
    ]
