"""Near to the truth, or like a real picture? Every model and dial on the perception-distortion plane, and what the paper says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import render, statistics
from wamlab.analysis import capacity as capacity_probe
from wamlab.analysis.claims import Claim, contrast, crossed, evaluate
from wamlab.analysis.dials import NO_RESULT, TRAINED, Setting
from wamlab.analysis.frontier import (
    CEILING,
    METRICS,
    WHOLE,
    cells,
    efficient,
    level_table,
    said,
    see,
    streams,
)
from wamlab.analysis.frontier_claims import CLAIMS, answer, trade_off
from wamlab.analysis.plane import APART, OFF, Measured, extractor_of, hardest_to_easiest, measure, training_features
from wamlab.analysis.rollouts import TRUTH, decode
from wamlab.analysis.windows import Windows, take_windows
from wamlab.config import override
from wamlab.data.latents import LatentStore
from wamlab.errors import InvalidParameter, TooFewSamples
from wamlab.metrics.distribution import Distance, frechet_distance, kernel_distance
from wamlab.metrics.features import Extractor
from wamlab.models import BASELINES
from wamlab.presets import get_preset
from wamlab.pretrained import obtain
from wamlab.statistics import Undefined
from wamlab.types import Finding

#: The paper takes subsets of at most so many frames for its KID.
SUBSET = 50
#: Rows of the player and of the sheet, by style.
SHOWN = ("direct", "direct-calibrated", "interpolation", "diffusion", "calibrated", "jump-diffusion")


@dataclass(frozen=True)
class PerceptionDistortion:
    """What notebook 03 shows.

    Attributes:
        settings: of the points, in their order.
        levels: variant, step, metric, mean, low, high, n: `METRICS` by step (`WHOLE`: all), sigma and sigma_1 .. at the last.
        curves: model, metric, time_s, mean, low, high, n.
        summary: a row a point, of the last step; and of the whole horizon.
        draws: how far diffusion's draws are apart, and from the truth.
        memory: a row a point that is seen at every step: nearness to the training set.
        points, truth, labels: for the `FrontierExplorer`, at the last step, `time_s` ahead.
        sheet: model -> (P, H, W, 3) at that step, the truth first.
        shown: scenes for the `RolloutPlayer`.
        kind: what the kernel distance is called. distances: diffusion's with all that decides them.
        capacity: of the probe, a row a size.
        answer: from the measurements.
        metrics: named numbers with their intervals, for the run folder.
    """

    settings: tuple[Setting, ...]
    levels: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame
    draws: pd.DataFrame
    memory: pd.DataFrame
    points: list[dict[str, Any]]
    truth: np.ndarray
    labels: list[str]
    time_s: float
    sheet: dict[str, np.ndarray]
    shown: list[dict[str, Any]]
    findings: tuple[Finding, ...]
    kind: str
    distances: pd.DataFrame
    capacity: pd.DataFrame
    weights: str
    answer: str
    metrics: dict[str, tuple[float, float, float]]

    @property
    def at_last(self) -> pd.DataFrame:
        """The levels of the last step."""
        return self.levels[self.levels.step == self.levels.step.max()]


def study(
    dataset: str = "synthetic",
    preset: str = "quick",
    num_scenes: int = 0,
    num_shown: int = 5,
    steps: int = 0,
    features: str = "",
    calibration_windows: int = 48,
    training_frames: int = 384,
    capacity: int = 0,
    seed: int = 0,
    weights: str = "shipped",
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> PerceptionDistortion:
    """Load or train the models with every seed of the preset, roll each point out on held-out windows, and measure it.

    Args:
        num_scenes: held-out scenes; 0: the preset's `eval_scenes`. steps: of the sampler; 0: the preset's.
        features: what the distances compare, as `extractor_of` takes it.
        calibration_windows: from training scenes. training_frames: among which near copies are looked for; 0: all.
        capacity: training steps of each model of the capacity probe; 0: no probe.
        seed: added to the seeds of the training runs; decides the noise and the resampling.

    Raises `InvalidParameter` for fewer than two scenes or negative counts, and as `open_dataset`, `load_codec`, `obtain`, `extractor_of`.
    """
    from wamlab.codecs import load_codec
    from wamlab.data import open_dataset

    settings = override(get_preset(preset), overrides or {})
    num_scenes, steps = num_scenes or settings.eval_scenes, steps or settings.sampler_steps
    if num_scenes < 2 or min(num_shown, steps, calibration_windows) < 1 or min(training_frames, capacity) < 0:
        raise InvalidParameter(
            "num_scenes must be at least 2, num_shown, steps and calibration_windows at least 1, training_frames and capacity at least 0, "
            f"not {num_scenes}, {num_shown}, {steps}, {calibration_windows}, {training_frames} and {capacity}"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data, codec = open_dataset(dataset), load_codec(settings.codec, device)
    extractor = extractor_of(features, settings, device)
    store = LatentStore(data, codec, settings.resolution)
    get = partial(obtain, preset=settings, dataset=data, codec=codec, store=store, progress=progress, weights=weights)
    trained, origins = {}, {}
    for s in [seed + s for s in settings.seeds]:
        ready = {name: get(name, seed=s) for name in TRAINED}
        trained[s] = {name: model for name, (model, _) in ready.items()}
        origins |= {(name, s): origin for name, (_, origin) in ready.items()}
        if all(origin.startswith("shipped") for _, origin in ready.values()):
            break  # shipped weights are of one training, whatever the seed
    models = {s: found | {name: get(name, seed=s)[0] for name in BASELINES} for s, found in trained.items()}

    scenes, shape = data.scenes("test")[:num_scenes], (settings.num_context, settings.horizon)
    windows = take_windows(scenes, store, *shape, settings.windows_per_scene, camera=True)
    picked = hardest_to_easiest(windows, num_shown)
    real = torch.cat([extractor(part) for part in windows.real.split(8)])
    memories = training_features(data.scenes("train"), store, codec, extractor, training_frames)
    how = {"steps": steps, "guidance": settings.guidance}
    train = data.scenes("train")
    measured = measure(
        models, windows, store, train, codec, extractor, real, memories, picked, how, settings.strength, calibration_windows,
        "; ".join(dict.fromkeys(f"{name}: {origin}" for (name, _), origin in origins.items())),
    )  # fmt: skip
    probed, rng = pd.DataFrame(), np.random.default_rng(seed)
    if capacity:

        def look(name: str, latents: Tensor) -> pd.DataFrame:
            seen = see(latents, windows, codec, extractor, [windows.horizon])
            return cells(seen, real, windows, extractor, variant=name, seed=seed)

        asked = (settings, data, codec, store, windows, look, capacity, steps, calibration_windows, seed, progress)
        probed = capacity_probe.probe(*asked)
    sizes = capacity_probe.summary(probed, settings, codec, capacity, rng)
    claim = capacity_probe.claim(settings, codec, capacity)
    context = decode(codec, windows.context[picked, -1])
    measured_on = f"{dataset} data, {preset} preset"
    return analyse(measured, windows, real, extractor, context, picked, measured_on, rng, probed, claim, sizes)


def analyse(
    measured: Measured,
    windows: Windows,
    real: Tensor,
    extractor: Extractor,
    present: Tensor,
    picked: Sequence[int],
    measured_on: str,
    rng: np.random.Generator,
    probed: pd.DataFrame,
    capacity_claim: Claim,
    capacity: pd.DataFrame,
) -> PerceptionDistortion:
    """Judge and lay out: everything after the models have run.

    Args:
        real: (N, F, d) features of the camera's frames. present: (P, 3, R, R) uint8 of the windows that are shown.
        measured_on: dataset and preset; scenes and seeds are added. probed: cells of the capacity probe, empty where it was not asked for.
    """
    last, kind, settings = windows.horizon, extractor.label("K"), measured.settings
    table, sigmas = measured.cells, [c for c in measured.sigma if c.startswith("sigma")]
    levels = pd.concat([level_table(table, METRICS, rng), level_table(measured.sigma, sigmas, rng)], ignore_index=True)
    at_last = levels[levels.step == last]
    rivals = [name for name, s in settings.items() if s.whole and name not in (CEILING, *BASELINES)]
    claim = trade_off(at_last, rivals)
    tables = [table[table.step == last], measured.sigma, measured.memory, measured.draws]
    claims = (*CLAIMS[:3], *([claim] if claim else []), *CLAIMS[3:])
    found = {c.key: evaluate(c, tables, rng) for c in claims}
    found["capacity"] = (
        evaluate(capacity_claim, [probed], rng)
        if len(probed)
        else Undefined("the larger and the smaller model are not trained unless asked for")
    )
    n, seeds = len(set(windows.scenes)), measured.cells.seed.nunique()
    measured_on = f"{measured_on}, {n} held-out scenes, {seeds} seed{'s' * (seeds > 1)}"
    findings = tuple(
        statistics.finding(c.claim, c.paper, found[c.key], measured_on, c.claimed, c.threshold, c.unit)
        for c in (*claims, capacity_claim)
    )
    frechet = {name: distance(measured, name, real, windows, extractor) for name in settings}
    memory, truth = memory_table(measured, rng), render.to_hwc(windows.real[list(picked), -1])
    names, sheet = {name: spoken(settings[name]) for name in rivals}, {"ceiling": CEILING} | whole_rows(settings)
    times = np.round(windows.times_s, 3)
    curves = levels[(levels.step != WHOLE) & levels.metric.isin(METRICS)]
    curves = curves[[settings[name].whole and name != CEILING for name in curves.variant]]
    curves = curves.assign(
        model=[settings[name].model for name in curves.variant], time_s=[times[step - 1] for step in curves.step]
    )
    return PerceptionDistortion(
        settings=tuple(settings.values()),
        levels=levels,
        curves=curves.drop(columns=["variant", "step"]),
        summary=summary(levels, frechet, last, kind),
        draws=draw_table(measured.draws, rng),
        memory=memory,
        points=points(measured, at_last, frechet, kind),
        truth=truth,
        labels=[windows.notes[i] or windows.scenes[i] for i in picked],
        time_s=float(times[-1]),
        sheet={TRUTH: truth} | {model: render.to_hwc(measured.seen[v].frames[:, -1]) for model, v in sheet.items()},
        shown=shown(measured, windows, present, picked),
        findings=findings,
        kind=kind,
        distances=distance_table(measured, real, windows, extractor),
        capacity=capacity,
        weights=measured.weights,
        answer=answer(at_last, rivals, names, claim, found.get("trade-off"), float(times[-1])),
        metrics={
            f"{row.metric}/{row.variant}{' (whole horizon)' * (row.step == WHOLE)}": (row.mean, row.low, row.high)
            for row in levels[levels.step.isin([last, WHOLE])].itertuples()
        },
    )


def spoken(setting: Setting) -> str:
    """What a sentence calls it."""
    names = {
        "direct": "the direct model",
        "direct-calibrated": "the calibrated direct model",
        "diffusion": "diffusion from noise",
        "calibrated": "calibrated diffusion",
        "interpolation": "the mixture of direct and diffusion",
        "warm": "diffusion from the direct model's future",
        "jump": "the jump chain",
        "jump-diffusion": "the diffusion jump chain",
    }
    return names.get(setting.model, setting.name)


def distance(
    measured: Measured, name: str, real: Tensor, windows: Windows, extractor: Extractor
) -> Distance | Undefined:
    """The Fréchet distance at the last step, of the first training seed."""
    try:
        return frechet_distance(*streams(measured.seen[name], [-1], real, windows, extractor))
    except TooFewSamples as error:
        return Undefined(str(error))


def distance_table(measured: Measured, real: Tensor, windows: Windows, extractor: Extractor) -> pd.DataFrame:
    """Diffusion's distances at the last step, first training seed, plain, as the paper takes them, and what decides them."""
    pair = streams(measured.seen["diffusion"], [-1], real, windows, extractor)
    try:
        found = frechet_distance(*pair), kernel_distance(*pair, subset_size=min(SUBSET, len(windows.scenes)))
    except TooFewSamples as error:
        return pd.DataFrame({"not measured": [str(error)]})
    pixels, _, scaled = extractor.normalisation.partition(", mean ")
    rows = {
        d.name: {
            "diffusion ↓": said(d.interval),
            "features": f"{extractor.name} {extractor.digest[:12]}",
            "pixels": pixels,
            "mean and deviation": scaled or "–",
            "frames of either set": str(d.preds),
            "subsets": "{num_subsets} of {subset_size}, degree {degree}".format(**d.settings) if d.settings else "–",
        }
        for d in found
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def summary(levels: pd.DataFrame, frechet: Mapping[str, Distance | Undefined], last: int, kind: str) -> pd.DataFrame:
    """A row a point: cosine, RMSE, kernel and Fréchet distance at the last step, and cosine and kernel distance over the whole horizon."""
    text = {(row.variant, row.step, row.metric): said(row) for row in levels.itertuples()}
    columns = {
        "cosine similarity ↑": (last, "cosine"),
        "pixel RMSE, levels ↓": (last, "rmse"),
        f"{kind} ↓": (last, "kd"),
        "whole horizon: cosine ↑": (WHOLE, "cosine"),
        f"whole horizon: {kind} ↓": (WHOLE, "kd"),
    }
    rows = {
        name: {title: text.get((name, *where), "–") for title, where in columns.items()}
        | {f"F{kind[1:]} ↓": f"{d.value:.3g}" if isinstance(d, Distance) else "–"}
        for name, d in frechet.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def memory_table(measured: Measured, rng: np.random.Generator) -> pd.DataFrame:
    """A row a point: the distance to the nearest training frame over that of held-out frames, and the share that repeats one."""
    rows = {}
    for name in dict.fromkeys(measured.memory.variant):
        claim = Claim("memory", "", "", "nearest", {name: 1}, {CEILING: 1})
        ratio = evaluate(claim, [measured.memory], rng)
        rows[name] = {
            "distance to training frames, held-out = 1": said(ratio)
            if not isinstance(ratio, Undefined)
            else str(ratio),
            "share nearer than 99 % of held-out": f"{measured.repeated[name]:.0%}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def draw_table(draws: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """RMS distance of diffusion's latents between two draws and from a draw to the truth, and their ratio."""
    values = {name: contrast(draws, "apart", {name: 1}).to_numpy() for name in (APART, OFF)}
    ratio = evaluate(Claim("draws", "", "", "apart", {APART: 1}, {OFF: 1}), [draws], rng)
    row = {name: said(crossed(v, rng)) for name, v in values.items()}
    row["ratio, 1 = honest"] = said(ratio) if not isinstance(ratio, Undefined) else str(ratio)
    return pd.DataFrame.from_dict({"diffusion": row}, orient="index")


def points(
    measured: Measured, levels: pd.DataFrame, frechet: Mapping[str, Distance | Undefined], kind: str
) -> list[dict[str, Any]]:
    """For the `FrontierExplorer`: every prediction that has a kernel distance, with its samples at the last step."""
    rows = {
        key: row for key, row in zip(zip(levels.variant, levels.metric, strict=True), levels.itertuples(), strict=True)
    }
    best = set(efficient(levels, NO_RESULT))
    titles = {"rmse": "pixel RMSE, levels ↓", "sigma": "spread of latents, truth = 1"}
    channels = [c for c in dict.fromkeys(levels.metric) if c.startswith("sigma_")]
    made = []
    for name, setting in measured.settings.items():
        if (name, "kd") not in rows or name == CEILING:
            continue
        x, y = ((row.mean, row.low, row.high) for row in (rows[name, "cosine"], rows[name, "kd"]))
        card = {title: said(rows[name, metric]) for metric, title in titles.items() if (name, metric) in rows}
        if isinstance(frechet[name], Distance):
            card[f"F{kind[1:]} ↓"] = f"{frechet[name].value:.3g}"
        ratios = [rows[name, c].mean if (name, c) in rows and rows[name, c].mean > 0 else np.nan for c in channels]
        made.append(
            {
                "model": setting.model,
                "setting": setting.value,
                "x": x,
                "y": y,
                "samples": render.to_hwc(measured.seen[name].frames[:, -1]),
                "card": card,
                "calibration": {"labels": [f"channel {c[6:]}" for c in channels], "values": ratios},
                "note": setting.note,
                "on_frontier": name in best,
            }
        )
    return made


def shown(
    measured: Measured, windows: Windows, present: Tensor, picked: Sequence[int], most: int = 3
) -> list[dict[str, Any]]:
    """Scenes for the `RolloutPlayer`: the first `most` that are picked, truth as the camera saw it."""
    variants, made = whole_rows(measured.settings), []
    for k, i in enumerate(picked[:most]):
        rows = {TRUTH: windows.real[i]} | {model: measured.seen[name].frames[k] for model, name in variants.items()}
        errors = {model: measured.seen[name].rmse[i].numpy() for model, name in variants.items()} | {
            TRUTH: np.zeros(windows.horizon)
        }
        made.append(
            {
                "name": windows.scenes[i],
                "note": windows.notes[i],
                "rows": {name: render.to_hwc(torch.cat([present[k : k + 1], frames])) for name, frames in rows.items()},
                "errors": {name: np.concatenate([[0.0], values]) for name, values in errors.items()},
                "actions": windows.actions[i].numpy(),
                "times_s": np.concatenate([[0.0], windows.times_s]),
            }
        )
    return made


def whole_rows(settings: Mapping[str, Setting]) -> dict[str, str]:
    """Of the models in `SHOWN`, in that order, the variant that is seen over the whole horizon."""
    whole = {s.model: name for name, s in settings.items() if s.whole}
    return {model: whole[model] for model in SHOWN}
