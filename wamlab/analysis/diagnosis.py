"""When does a transformer with diffusion help? DiT-WAM's four hypotheses and four ingredients, each a pair that differs in one thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import statistics
from wamlab.analysis import rollouts
from wamlab.analysis.claims import CLAIMS, INGREDIENTS, contrast, crossed, evaluate
from wamlab.analysis.controlled import (
    POOLED,
    SPATIAL,
    WHOLE_FRAME,
    Variant,
    cells,
    kernel_cells,
    motion_cells,
    open_space,
    roll_out_variant,
    trained,
)
from wamlab.config import override
from wamlab.errors import InvalidParameter
from wamlab.metrics import pixel
from wamlab.metrics.features import Extractor, encoder_features
from wamlab.models import BASELINES
from wamlab.presets import get_preset
from wamlab.statistics import Interval, Undefined
from wamlab.types import Finding

#: Everything that is trained or asked. Of the pairs that `CLAIMS` compares, the two differ in what their names say and in nothing else.
VARIANTS: Mapping[str, Variant] = {
    "pooled copy": Variant("copy", POOLED),
    "pooled mlp": Variant("mlp-matched", POOLED),
    "pooled direct": Variant("direct", POOLED),
    "pooled x0": Variant("diffusion", POOLED),
    "pooled eps": Variant("diffusion", POOLED, {"prediction": "eps"}),
    "pooled mlp, first action": Variant("mlp-matched", POOLED, {"action_sequence": False}),
    "pooled direct, first action": Variant("direct", POOLED, {"action_sequence": False}),
    "copy": Variant("copy", SPATIAL),
    "mlp": Variant("mlp-matched", SPATIAL),
    "direct": Variant("direct", SPATIAL),
    "diffusion": Variant("diffusion", SPATIAL),
    "one token": Variant("diffusion", SPATIAL, {"patch": WHOLE_FRAME}),
    "eps": Variant("diffusion", SPATIAL, {"prediction": "eps"}),
    "unanchored": Variant("diffusion", SPATIAL, {"anchored": False}),
    "one step": Variant("diffusion", SPATIAL, steps=1),
    "jump": Variant("jump", SPATIAL),
}
#: What a reader calls them.
TITLES = {
    "pooled copy": "copy of the present",
    "pooled mlp": "MLP",
    "pooled direct": "transformer, direct",
    "pooled x0": "diffusion, predicts x0",
    "pooled eps": "diffusion, predicts the noise",
    "pooled mlp, first action": "MLP, first action only",
    "pooled direct, first action": "transformer, first action only",
    "copy": "copy of the present",
    "mlp": "MLP",
    "direct": "direct",
    "diffusion": "diffusion, all four",
    "one token": "without spatial tokens",
    "eps": "without the x0 objective",
    "unanchored": "without anchoring",
    "one step": "without sampling",
    "jump": "jump chain",
}


@dataclass(frozen=True)
class Diagnosis:
    """What notebook 02 shows.

    Attributes:
        frames: variant, seed, scene, time_s, cosine, error, spread (see `cells`).
        drives: variant, seed, scene, direction, magnitude, valid and kd (see `motion_cells`, `kernel_cells`): of the spatial variants.
        levels: variant, metric, mean, low, high, n.
        gaps: variant, time_s, mean, low, high, n: cosine similarity above the MLP's, in the pooled space.
        claims: key, metric, mean, low, high, n, verdict: of `CLAIMS`, NaN where undefined.
        shown: scenes for the `RolloutPlayer`.
        answer: from the measurements.
        metrics: named numbers for the run folder.
    """

    frames: pd.DataFrame
    drives: pd.DataFrame
    levels: pd.DataFrame
    gaps: pd.DataFrame
    claims: pd.DataFrame
    shown: list[dict[str, Any]]
    findings: tuple[Finding, ...]
    answer: str
    metrics: dict[str, float]


def study(
    dataset: str = "synthetic",
    preset: str = "quick",
    num_scenes: int = 0,
    num_shown: int = 3,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    on_log: Callable[[Path, str], None] | None = None,
) -> Diagnosis:
    """Train or load every variant with every seed, predict one window of each held-out scene, and measure it.

    Args:
        num_scenes: held-out scenes; 0: the preset's `eval_scenes`.
        seed: added to those of the training runs; decides the noise and the resampling.
        on_log: called as by `trained` with the first seed's runs, e.g. a `LiveCurves`.

    Raises `InvalidParameter` for fewer than two scenes or no seed, and as `open_dataset`, `load_codec`, `load_encoder`, `fit_or_load`.
    """
    from wamlab.codecs import load_codec
    from wamlab.data import open_dataset

    settings = override(get_preset(preset), overrides or {})
    num_scenes = num_scenes or settings.eval_scenes
    seeds = [seed + s for s in settings.diagnosis.seeds]
    if num_scenes < 2 or not seeds:
        raise InvalidParameter(
            f"num_scenes must be at least 2 and diagnosis.seeds not empty for an interval, not {num_scenes} and {seeds}"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data, codec = open_dataset(dataset), load_codec(settings.codec, device)
    spaces = {name: open_space(name, settings, data, codec, device) for name in (POOLED, SPATIAL)}
    scenes = data.scenes("test")[:num_scenes]
    tables, kept = [], {}
    for name, variant in VARIANTS.items():
        space = spaces[variant.space]
        for s in seeds if variant.model not in BASELINES else seeds[:1]:
            told = on_log if s == seeds[0] and not variant.steps else None  # fewer steps of a sampler train nothing new
            model = trained(name, variant, space, s, progress, told)
            rolled, drawn = roll_out_variant(name, variant, model, space, scenes, settings.diagnosis.draws, s)
            tables.append(cells(rolled, drawn, variant=name, seed=s))
            if variant.space == SPATIAL:
                kept[name, s] = rolled
    extractor = encoder_features(settings.diagnosis.encoder, device)
    frames = pd.concat(tables, ignore_index=True)
    return analyse(frames, kept, codec, extractor, f"{dataset} data, {preset} preset", num_shown, seed)


def analyse(
    frames: pd.DataFrame,
    kept: Mapping[tuple[str, int], rollouts.Rollouts],
    codec: Any,
    extractor: Extractor,
    measured_on: str,
    num_shown: int = 3,
    seed: int = 0,
) -> Diagnosis:
    """Decode, measure and judge: everything after the models have run.

    Args:
        frames: `cells` of every variant and seed.
        kept: (spatial variant, seed) -> its rollouts, of which the first seed's are shown.
        measured_on: dataset and preset; scenes and seeds are added.
    """
    rng = np.random.default_rng(seed)
    any_rolled = next(iter(kept.values()))
    scenes, present, truth = any_rolled.scenes, *decoded(codec, any_rolled.present, any_rolled.truth)
    true_features, film = extractor(truth), torch.cat([present[:, None], truth], dim=1)
    drives, shown, errors = [], {}, []
    for (name, s), rolled in kept.items():
        (made,) = decoded(codec, rolled.predicted[name])
        labels = {"variant": name, "seed": s}
        parts = [motion_cells(torch.cat([present[:, None], made], dim=1), film, scenes, **labels)]
        if len(scenes) > 2:
            parts.append(kernel_cells(extractor(made), true_features, scenes, extractor, **labels))
        drives.append(pd.concat([part.set_index(["variant", "seed", "scene"]) for part in parts], axis=1).reset_index())
        if name not in shown:
            shown[name] = rolled.predicted[name]
            rmse = pixel.rmse(made, truth).flatten().numpy()
            errors.append(pd.DataFrame({"scene": np.repeat(scenes, truth.shape[1]), "model": name, "rmse": rmse}))
    drives = pd.concat(drives, ignore_index=True)
    measured_on = f"{measured_on}, {len(scenes)} held-out scenes, {frames.seed.nunique()} seeds"
    found = {claim.key: evaluate(claim, (frames, drives), rng) for claim in CLAIMS}
    findings = tuple(
        statistics.finding(c.claim, c.paper, found[c.key], measured_on, c.claimed, c.threshold, c.unit) for c in CLAIMS
    )
    levels = level_table(frames, drives, rng)
    means = levels.set_index(["metric", "variant"])["mean"]
    return Diagnosis(
        frames, drives, levels, gap_curves(frames, rng), claim_table(found, findings),
        rollouts.shown_scenes(replace(any_rolled, predicted=shown), codec, pd.concat(errors), num_shown),
        findings, answer(found, means),
        {f"{metric}/{variant}": float(value) for (metric, variant), value in means.items()},
    )  # fmt: skip


def decoded(codec: Any, *latents: Tensor) -> list[Tensor]:
    return [rollouts.decode(codec, z) for z in latents]


def level_table(frames: pd.DataFrame, drives: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """variant, metric, mean, low, high, n: every metric of every variant that has a value of it in two drives."""
    rows = []
    for table, metrics in ((frames, ("cosine", "error", "spread")), (drives, ("kd", "direction", "magnitude"))):
        for metric in metrics:
            for name in table.variant.unique() if metric in table else ():
                values = contrast(table, metric, {name: 1}).dropna().to_numpy()
                if len(values) > 1:
                    rows.append({"variant": name, "metric": metric, **vars(crossed(values, rng))})
    return pd.DataFrame(rows, columns=["variant", "metric", "mean", "low", "high", "n"])


def gap_curves(frames: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """variant, time_s, mean, low, high, n: how far the pooled variants' cosine similarity is above the MLP's, by the time ahead."""
    rows = []
    for name in ("pooled direct", "pooled x0", "pooled copy"):
        for time_s, part in frames[frames.variant.isin((name, "pooled mlp"))].groupby("time_s"):
            values = contrast(part, "cosine", {name: 1, "pooled mlp": -1}).dropna(axis=1).to_numpy()
            if values.size:
                rows.append({"variant": name, "time_s": time_s, **vars(crossed(values, rng))})
    return pd.DataFrame(rows, columns=["variant", "time_s", "mean", "low", "high", "n"])


def claim_table(found: Mapping[str, Interval | Undefined], findings: Sequence[Finding]) -> pd.DataFrame:
    """key, metric, mean, low, high, n, verdict; NaN where undefined."""
    return pd.DataFrame(
        {
            "key": claim.key,
            "metric": claim.metric,
            **{name: float(getattr(found[claim.key], name, np.nan)) for name in ("mean", "low", "high")},
            "n": found[claim.key].n,
            "verdict": finding.verdict,
        }
        for claim, finding in zip(CLAIMS, findings, strict=True)
    )


def answer(found: Mapping[str, Interval | Undefined], means: pd.Series) -> str:
    """Which hypothesis and which ingredients held, from the intervals."""
    holds = {claim.key: statistics.verdict(found[claim.key], claim.claimed, claim.threshold) for claim in CLAIMS}
    share = found["H2"]
    if isinstance(share, Undefined):
        said = "Whether the objective is what diffusion lacks cannot be said here: there is no gap to recover."
    else:
        said = (
            f"Of what diffusion lacks against an MLP when a frame is one vector, predicting the clean future instead of the noise gives "
            f"back {share.mean:.0%} [{share.low:.0%}, {share.high:.0%}]"
        )
        said += (
            ", and the network's capacity is not what is missing."
            if holds["H1"] == statistics.REPRODUCED
            else "; the network alone is behind the MLP, too."
            if holds["H1"] == statistics.NOT_REPRODUCED
            else "."
        )
    groups = {kind: [name for name in INGREDIENTS if holds[f"without {name}"] == kind] for kind in set(holds.values())}
    needed, worse, open_ = (
        _list(groups.get(kind, []))
        for kind in (statistics.REPRODUCED, statistics.NOT_REPRODUCED, statistics.INCONCLUSIVE)
    )
    said += f" With a grid of latents it needs {needed or 'none of the four ingredients for sure'}"
    said += f", does better without {worse}" if worse else ""
    said += f", and whether it needs {open_} stays open." if open_ else "."
    cosine = means["cosine"]
    said += f" Direct regression's cosine similarity to the true future is {cosine['direct']:.2f}, diffusion's {cosine['diffusion']:.2f}"
    share = found["realism"]
    if not isinstance(share, Undefined):
        said += f", while its kernel distance from real pictures is {share.mean:.0%} [{share.low:.0%}, {share.high:.0%}] of direct's"
    return f"{said}."


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
