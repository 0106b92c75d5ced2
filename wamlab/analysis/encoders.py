"""Which representation carries the actions: probe the embeddings of several encoders, rank them, compare with the paper. No encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from torch import Tensor

from wamlab import statistics
from wamlab.analysis.side_by_side import side_by_side
from wamlab.errors import InvalidParameter
from wamlab.probing import BASELINES, PROBES, TARGETS, Probe, bucket_table, collect, scene_rmse
from wamlab.types import Finding, Scene

#: In the column `encoder` of what does not look at the frame.
NO_ENCODER = "no encoder"
#: In the column `probe` of the one that is given how far the frames of a clip are shifted (`wamlab.analysis.image_shift`).
SHIFT = "image shift"
#: The paper's Table 1: steering and acceleration RMSE over 150 scenes, in units of 6 rad and 10 m/s².
PAPER = {
    "vjepa2-rep64": (0.058, 0.055),
    "vjepa2-rep1": (0.097, 0.059),
    "dinov2-s14": (0.104, 0.072),
    "clip-b32": (0.117, 0.067),
    "vit-s16": (0.121, 0.071),
    "vq": (0.126, 0.063),
}
#: What a reader calls the encoders.
TITLES = {
    "vit-s16": "ViT",
    "dinov2-s14": "DINOv2",
    "clip-b32": "CLIP",
    "vjepa2-rep1": "V-JEPA 2, one frame",
    "vjepa2-rep64": "V-JEPA 2, 16 frames",
    "vq": "VQ tokenizer",
}
PAPER_PROBE = "mlp"
UNIT = "of 6 rad"


@dataclass(frozen=True)
class EncoderStudy:
    """What notebook 01 shows of the probes.

    Attributes:
        errors: scene, encoder, probe, seed, target, rmse, as `probe_encoders` gives them.
        ranking: target, rank, encoder, mean, low, high, n, first, and the paper's value: of the paper's probe.
        pairs: target, a, b, n, difference, t, p, p_bonferroni, p_holm, d: of the paper's probe, corrected within each target. Twins of
            random weights are not in it (unless there is little else), so that six encoders make the paper's 15 pairs.
        probes: target, encoder, probe, mean, low, high, n: every probe and baseline.
        buckets: target, encoder, bucket, mean, low, high, n, ratio, ratio_low, ratio_high: of the paper's probe.
        answer: one sentence, from the measurements.
        metrics: named numbers for the run folder.
    """

    errors: pd.DataFrame
    ranking: pd.DataFrame
    pairs: pd.DataFrame
    probes: pd.DataFrame
    buckets: pd.DataFrame
    findings: tuple[Finding, ...]
    answer: str
    metrics: dict[str, float]


def probe_encoders(
    embeddings: Mapping[str, Mapping[str, Tensor]],
    splits: Mapping[str, Sequence[Scene]],
    probes: Mapping[str, Callable[..., Probe]] = PROBES,
    every: int = 1,
    run: int = 1,
    fitted: Mapping[str, Probe] = MappingProxyType({}),
) -> pd.DataFrame:
    """Errors of every probe on every encoder, and of the baselines: scene, encoder, probe, seed, target, rmse on the test scenes.

    They are in the paper's units (of 6 rad, of 10 m/s²); `scene_rmse` gives SI units too.

    Args:
        embeddings: encoder -> scene name -> (T, D), one a frame, of the scenes of all splits.
        splits: `train`, `val` and `test` scenes.
        every, run: the embeddings are of the frames of `every_nth` alone.
        fitted: encoder -> the paper's probe, where it has been fitted to the training scenes already.

    Raises what `collect` and the probes raise, and `InvalidParameter` without encoders.
    """
    if not embeddings:
        raise InvalidParameter("no embeddings of any encoder")
    first = next(iter(embeddings))

    def of_one(encoder: str) -> pd.DataFrame:
        of_scene, tables = embeddings[encoder], []
        train, validation, test = (collect(splits[split], of_scene, every, run) for split in ("train", "val", "test"))
        for label, family in ((NO_ENCODER, BASELINES if encoder == first else {}), (encoder, probes)):
            for name, fit in family.items():
                known = fitted.get(label) if name == PAPER_PROBE else None
                probe = known or fit(train, validation)
                found = scene_rmse(probe.predict(test), test, probe.seeds, "published", encoder=label, probe=name)
                tables.append(found)
        return pd.concat(tables, ignore_index=True)

    return pd.concat(side_by_side(of_one, embeddings), ignore_index=True)


def analyse(
    errors: pd.DataFrame, attributes: Mapping[str, Mapping[str, str]], measured_on: str, seed: int = 0
) -> EncoderStudy:
    """Tables, findings and the answer from `probe_encoders`' errors (of at least two encoders) and the scenes' attributes.

    `measured_on`: dataset and preset, and what else the findings should say; scenes and seeds are added.
    """
    rng = np.random.default_rng(seed)
    chosen = errors[(errors.probe == PAPER_PROBE) & (errors.encoder != NO_ENCODER)]
    ranking, pairs, probes, buckets = [], [], [], []
    for i, target in enumerate(TARGETS):
        here, all_here = (table[table.target == target] for table in (chosen, errors))
        ranked = statistics.ranking(here, "rmse", "encoder", rng)
        published = [np.nan if untrained(name) else PAPER.get(base(name), (np.nan,) * 2)[i] for name in ranked.encoder]
        ranking.append(ranked.assign(target=target, paper=published))
        trained = here[~here.encoder.map(untrained)]
        trained = trained if trained.encoder.nunique() > 1 else here
        pairs.append(statistics.compare_pairs(trained, "rmse", "encoder").assign(target=target))
        probes.append(statistics.interval_table(all_here, "rmse", ["encoder", "probe"], rng).assign(target=target))
        buckets.append(bucket_table(here, attributes, ["encoder"], rng).assign(target=target))
    found = [_target_first(pd.concat(tables, ignore_index=True)) for tables in (ranking, pairs, probes, buckets)]
    n, seeds = chosen.scene.nunique(), chosen.seed.nunique()
    metrics = {
        f"{t}/{e}/{p}": m for t, e, p, m in found[2][["target", "encoder", "probe", "mean"]].itertuples(index=False)
    }
    findings = _findings(errors, rng, f"{measured_on}, {n} held-out scenes, {seeds} seeds")
    return EncoderStudy(errors, *found, findings, _answer(found[0], errors, n), metrics)


def _findings(errors: pd.DataFrame, rng: np.random.Generator, measured_on: str) -> tuple[Finding, ...]:
    """Differences in steering error, paired by scene; a claim whose encoders were not probed is left out."""
    steering = errors[errors.target == TARGETS[0]]
    wide = statistics.by_scene(steering, "rmse", ["encoder", "probe"])
    probed = wide.xs(PAPER_PROBE, axis=1, level="probe")
    last, shift = (wide.get((NO_ENCODER, blind)) for blind in ("last action", SHIFT))
    means = probed.mean()

    def compare(claim: str, paper: str, a: pd.Series, b: pd.Series, sign: float) -> Finding:
        found = statistics.bootstrap_mean((a - b).to_numpy(), rng)
        return statistics.finding(claim, paper, found, measured_on, sign, unit=UNIT)

    made = []
    named = {base(name): name for name in reversed(means.index) if not untrained(name)}
    twins = [
        (name, twin) for name in named.values() for twin in means.index if untrained(twin) and base(twin) == base(name)
    ]
    if {"vjepa2-rep64", "vjepa2-rep1"} <= set(named):
        made.append(compare(
            "A clip tells more of the steering than its last frame, to the same model (difference in error)",
            ".058 against .097: 40 % less, t = 8.3, d = 0.68", probed[named["vjepa2-rep64"]], probed[named["vjepa2-rep1"]], -1,
        ))  # fmt: skip
    if {"dinov2-s14", "vit-s16"} <= set(named):
        made.append(compare(
            "Self-distilled features tell more of the steering than supervised ones (difference in error)",
            ".104 against .121, t = 6.1, d = 0.50", probed[named["dinov2-s14"]], probed[named["vit-s16"]], -1,
        ))  # fmt: skip
    if "vq" in named and len(named) > 1:
        next_worst = means[[name for base, name in named.items() if base != "vq"]].idxmax()
        made.append(compare(
            f"Features made for reconstruction come last (difference in error to {title(next_worst)})",
            ".126 against .121, though p = .21", probed[named["vq"]], probed[next_worst], 1,
        ))  # fmt: skip
    if twins:
        learned, born = (probed[[pair[i] for pair in twins]].mean(axis=1) for i in (0, 1))
        made.append(compare(
            f"Pretraining tells more of the steering than the same network untrained (difference in error, mean of {len(twins)})",
            "not compared", learned, born, -1,
        ))  # fmt: skip
    if last is not None:
        made.append(compare(
            f"The best probe, on {title(means.idxmin())}, tells the steering better than the action one frame before (difference in error)",
            "not compared", probed[means.idxmin()], last, -1,
        ))  # fmt: skip
    if shift is not None:
        made.append(compare(
            f"The best probe, on {title(means.idxmin())}, tells the steering better than the shift of the picture (difference in error)",
            "not compared", probed[means.idxmin()], shift, -1,
        ))  # fmt: skip
    return tuple(made)


def _answer(ranking: pd.DataFrame, errors: pd.DataFrame, n: int) -> str:
    first, second = ranking[ranking.target == TARGETS[0]].iloc[:2].itertuples()
    steering = errors[(errors.target == TARGETS[0]) & (errors.encoder == NO_ENCODER)]
    baselines = statistics.by_scene(steering, "rmse", ["probe"]).mean() if len(steering) else pd.Series()
    shift = baselines.pop(SHIFT) if SHIFT in baselines else None
    told = not len(baselines) or first.mean < baselines["mean action"]
    best = (
        "{} tells the steering best" if told else "No encoder tells the steering here, and {} misleads the probe least"
    )
    said = (
        f"{best.format(title(first.encoder))}: over {n} held-out drives the probe errs by {first.mean:.3f} "
        f"[{first.low:.3f}, {first.high:.3f}] of 6 rad, against {second.mean:.3f} with {title(second.encoder)}, and in {first.first:.0%} "
        "of the resamples it is first."
    )
    if len(baselines):
        beaten = int((baselines > first.mean).sum())
        verdict = ("no probe beats either", "the best probe beats one of the two", "the best probe beats both")[beaten]
        said += (
            f" Without looking, the mean action errs by {baselines['mean action']:.3f} and the action one frame before by "
            f"{baselines['last action']:.3f}: {verdict}."
        )
    if shift is not None:
        said += f" A probe that is given nothing but the shift of the picture from frame to frame errs by {shift:.3f}."
    return said


def title(encoder: str) -> str:
    """`DINOv2` of `dinov2-s14/embedded`, `DINOv2, untrained` of `dinov2-s14/random`; what is not in `TITLES` keeps its name."""
    return TITLES.get(base(encoder), encoder) + (", untrained" if untrained(encoder) else "")


def base(name: str) -> str:
    """`dinov2-s14/embedded`, `dinov2-s14/random` and `dinov2-s14=folder` are all of `dinov2-s14`."""
    return name.partition("=")[0].partition("/")[0]


def untrained(name: str) -> bool:
    """A twin of random weights, which stands for no encoder of the paper."""
    return "=" not in name and name.partition("/")[2].startswith("random")


def _target_first(table: pd.DataFrame) -> pd.DataFrame:
    return table[["target", *table.columns.drop("target")]]
