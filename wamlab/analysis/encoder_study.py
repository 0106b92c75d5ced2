"""Which encoder carries the actions, and why: what notebook 01 runs, from a dataset's name to tables, pictures and findings."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from wamlab import statistics
from wamlab.analysis.encoder_views import Look, looks, moments
from wamlab.analysis.encoders import (
    NO_ENCODER,
    PAPER_PROBE,
    UNIT,
    EncoderStudy,
    analyse,
    base,
    probe_encoders,
    title,
    untrained,
)
from wamlab.analysis.explained import explained, learning
from wamlab.analysis.image_shift import ImageShift, shift_errors
from wamlab.analysis.readout import Readout, dense_readout
from wamlab.analysis.side_by_side import AT_ONCE, side_by_side
from wamlab.analysis.throughput import throughput
from wamlab.config import override
from wamlab.data.embeddings import EmbeddingStore
from wamlab.data.frames import remembering
from wamlab.data.perturb import LEAD_VEHICLE
from wamlab.encoders import FrozenEncoder, load_encoder
from wamlab.errors import LabelsMissing, WeightsMissing
from wamlab.presets import ProbingRecipe, get_preset
from wamlab.probing import TARGETS, change_table, collect, fit_mlp, scene_rmse
from wamlab.probing.mlp import MlpProbe
from wamlab.types import Finding, Scene

SHUFFLED = "frame order"
#: The rows of the temporal ablation.
FRAME, CLIP, CLIP_SHUFFLED = "the present frame alone", "a clip of 16 frames", "the same clip, its frames shuffled"


@dataclass(frozen=True)
class Study:
    """What notebook 01 shows.

    Attributes:
        probed: errors, ranking, pairs, probes, buckets.
        temporal: target, encoder, seen, mean, low, high, n: V-JEPA 2 on one frame and on clips. Empty where it was not probed.
        moments: age_s, mean, low, high, n: how old what its clips' steering hangs on is. None likewise.
        explained: target, encoder, probe, mean, low, high, n: the share of the mean action's squared error that is taken away.
        learning: target, encoder, drives, mean, low, high, n: the same by the number of drives that the paper's probe learns from.
        changes: target, encoder, perturbation, mean, low, high, n, p, p_holm, d: how much a perturbation of what the encoders see adds to
            the error of a probe that was fitted without.
        readout: None where the dataset has no semantic maps.
        cost: encoder, frames_per_s, ms, memory_mib, parameters_m.
        looks: drives to show.
        left_out: encoder of the preset -> why it could not be loaded.
        findings, answer, metrics: as in the other studies.
    """

    probed: EncoderStudy
    temporal: pd.DataFrame
    moments: pd.DataFrame | None
    explained: pd.DataFrame
    learning: pd.DataFrame
    changes: pd.DataFrame
    readout: Readout | None
    cost: pd.DataFrame
    looks: list[Look]
    left_out: Mapping[str, str]
    findings: tuple[Finding, ...]
    answer: str
    metrics: dict[str, float]


def study(
    dataset: str = "synthetic",
    preset: str = "quick",
    encoders: Iterable[str] = (),
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Study:
    """Embed, probe, perturb, read out and look.

    Args:
        encoders: as `load_encoder` takes them; by default the preset's, less those whose weights are not here (`left_out` says so).

    Raises `WeightsMissing` for weights that were asked for, or if those of fewer than two encoders are here; and as the parts do.
    """
    settings = override(get_preset(preset), overrides or {})
    recipe, rng = settings.probing, np.random.default_rng(seed)
    splits = scenes_of(dataset, recipe)
    loaded, left_out = load(tuple(encoders), recipe)
    load_frames, taken = remembering(), {"every": recipe.every, "run": recipe.run}
    stores = {name: _store(splits.dataset, encoder, recipe, load_frames) for name, encoder in loaded.items()}
    studied = [name for name in stores if not untrained(name)] or list(stores)
    spoilt = {name: _spoilt(stores[name], recipe, load_frames) for name in studied}
    motion = _store(splits.dataset, ImageShift(), recipe, load_frames)
    changed = [store for of_one in spoilt.values() for store in of_one.values()]
    _fill([*stores.values(), motion], changed, splits, progress)
    embeddings = {name: _read(store, splits.all) for name, store in stores.items()}
    fitted = side_by_side(lambda name: _fit(splits, embeddings[name], recipe), studied)
    probes = dict(zip(studied, fitted, strict=True))
    shifts = shift_errors(_read(motion, splits.all), splits.parts, **taken)
    errors = pd.concat([probe_encoders(embeddings, splits.parts, fitted=probes, **taken), shifts], ignore_index=True)
    on = f"{dataset} data, {preset} preset"
    attributes = {scene.name: scene.attributes for scene in splits.test}
    probed = analyse(errors, attributes, on, seed)

    perturbed = perturbed_errors(spoilt, probes, splits.test, recipe)
    temporal, order = temporal_ablation(perturbed, errors, rng)
    told = explained(errors, rng)
    clip = next((name for name in studied if stores[name].codec.num_frames > 1), None)
    readout = _readout(stores, splits, recipe, seed)
    cost = pd.DataFrame([{"encoder": name, **_cost(store, splits.test[0])} for name, store in stores.items()])
    n, seeds = len(splits.test), probed.errors[probed.errors.probe == PAPER_PROBE].seed.nunique()
    measured_on = f"{on}, {n} held-out scenes, {seeds} seeds"
    metrics = {f"readout/{row.encoder}": row.mean for row in readout.table.itertuples()} if readout else {}
    return Study(
        probed,
        temporal,
        moments(stores[clip], probes[clip], splits.test, rng) if clip else None,
        told,
        learning({name: embeddings[name] for name in studied}, splits.parts, told, rng, **taken),
        _changes(perturbed, rng),
        readout,
        cost,
        looks({name: stores[name] for name in studied}, probes, splits.test, recipe.num_shown, recipe.frames_shown),
        left_out,
        (*probed.findings, *(replace(finding, measured_on=measured_on) for finding in order)),
        probed.answer + _missed(left_out),
        probed.metrics | metrics,
    )


@dataclass(frozen=True)
class Splits:
    """The scenes that a study uses, and the dataset they are of."""

    dataset: Any
    parts: Mapping[str, Sequence[Scene]]

    @property
    def test(self) -> Sequence[Scene]:
        return self.parts["test"]

    @property
    def all(self) -> list[Scene]:
        return [scene for part in self.parts.values() for scene in part]


def scenes_of(dataset: str, recipe: ProbingRecipe) -> Splits:
    """At most as many scenes of each split as the recipe says, spread evenly."""
    from wamlab.data import open_dataset

    data = open_dataset(dataset)
    most = {"train": recipe.train_scenes, "val": 0, "test": recipe.test_scenes}
    return Splits(data, {split: spread(data.scenes(split), count) for split, count in most.items()})


def spread(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """`count` of the scenes, evenly spaced; all if there are no more, or `count` is 0."""
    if not 0 < count < len(scenes):
        return list(scenes)
    return [scenes[i] for i in np.linspace(0, len(scenes) - 1, count).round().astype(int)]


def load(names: Sequence[str], recipe: ProbingRecipe) -> tuple[dict[str, FrozenEncoder], dict[str, str]]:
    """The encoders by name, and why those of the recipe that are missing are: asked for by name, a missing one raises."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded, missing = {}, {}
    for name in names or recipe.encoders:
        try:
            loaded[name] = load_encoder(name, device)
        except WeightsMissing as error:
            if names:
                raise
            missing[name] = error
    if len(loaded) < 2 and missing:
        raise next(iter(missing.values()))
    return loaded, {name: str(error) for name, error in missing.items()}


def perturbed_errors(
    spoilt: Mapping[str, Mapping[str, EmbeddingStore]],
    probes: Mapping[str, MlpProbe],
    test: Sequence[Scene],
    recipe: ProbingRecipe,
) -> pd.DataFrame:
    """scene, encoder, perturbation, seed, target, rmse: of probes fitted to frames as they are, on perturbed ones.

    `spoilt`: encoder -> perturbation -> store. In the paper's units, as `probe_encoders`.
    """
    tables = []
    for name, stores in spoilt.items():
        for perturbation, store in stores.items():
            data = collect(test, _read(store, test), recipe.every, recipe.run)
            predictions, seeds = probes[name].predict(data), probes[name].seeds
            tables.append(scene_rmse(predictions, data, seeds, "published", encoder=name, perturbation=perturbation))
    return pd.concat(tables, ignore_index=True)


def temporal_ablation(
    perturbed: pd.DataFrame, errors: pd.DataFrame, rng: np.random.Generator
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """The rows of `Study.temporal` from `perturbed_errors` and `probe_encoders`, and the finding about the order of frames.

    Beside V-JEPA 2 stand the baselines that see nothing.
    """
    seen = {("vjepa2-rep1", "none"): FRAME, ("vjepa2-rep64", "none"): CLIP, ("vjepa2-rep64", SHUFFLED): CLIP_SHUFFLED}
    keys = [(base(e), p) for e, p in zip(perturbed.encoder, perturbed.perturbation, strict=True)]
    rows = perturbed.assign(seen=[seen.get(key) for key in keys]).dropna(subset="seen")
    if rows.empty:
        return pd.DataFrame(columns=["target", "encoder", "seen", "mean", "low", "high", "n"]), ()
    blind = errors[errors.encoder == NO_ENCODER].assign(seen=lambda table: table.probe)
    both = pd.concat([rows.sort_values("seen", key=lambda s: s.map(list(seen.values()).index), kind="stable"), blind])
    table = pd.concat(
        [
            statistics.interval_table(both[both.target == target], "rmse", ["encoder", "seen"], rng).assign(
                target=target
            )
            for target in TARGETS
        ],
        ignore_index=True,
    )
    wide = statistics.by_scene(rows[rows.target == TARGETS[0]], "rmse", ["seen"])
    if not {CLIP, CLIP_SHUFFLED} <= set(wide):
        return table, ()
    found = statistics.bootstrap_mean((wide[CLIP_SHUFFLED] - wide[CLIP]).to_numpy(), rng)
    finding = statistics.finding(
        "Shuffling the frames of a clip adds to the steering error: their order counts (difference in error)",
        "not measured; it gives motion between frames as the reason",
        found,
        "",
        unit=UNIT,
    )
    return table, (finding,)


def _missed(left_out: Iterable[str]) -> str:
    return f" Not measured, since their weights are not here: {'; '.join(map(title, left_out))}." if left_out else ""


def _store(
    data: Any,
    encoder: FrozenEncoder | ImageShift,
    recipe: ProbingRecipe,
    load: Callable[..., torch.Tensor],
    perturbation: str = "none",
) -> EmbeddingStore:
    taken = {"every": recipe.every, "run": recipe.run, "rate_hz": recipe.rate_hz}
    return EmbeddingStore(data, encoder, perturbation=perturbation, load=load, **taken)


def _spoilt(
    store: EmbeddingStore, recipe: ProbingRecipe, load: Callable[..., torch.Tensor]
) -> dict[str, EmbeddingStore]:
    """Perturbation -> store, of the same encoder; those of clips have their frames shuffled besides."""
    shuffled = (SHUFFLED,) if store.codec.num_frames > 1 else ()
    annotated = getattr(store.dataset, "nusc", None) is not None
    names = [name for name in (*recipe.perturbations, *shuffled) if annotated or name != LEAD_VEHICLE]
    changed = {name: _store(store.dataset, store.codec, recipe, load, name) for name in names}
    return {"none": store} | changed


def _fill(
    stores: Collection[EmbeddingStore], spoilt: Collection[EmbeddingStore], splits: Splits, progress: bool
) -> None:
    """Scene by scene, so that a frame is decoded once for all encoders of one resolution: `spoilt` of the test scenes."""
    test = {scene.name for scene in splits.test}

    def fill(scene: Scene) -> None:
        for store in sorted([*stores, *(spoilt if scene.name in test else ())], key=lambda store: store.resolution):
            store.fill([scene], progress=False)

    filled = side_by_side(fill, splits.all, 1 if torch.cuda.is_available() else AT_ONCE)
    deque(tqdm(filled, total=len(splits.all), desc="embeddings", unit="scene", disable=not progress), maxlen=0)


def _read(store: EmbeddingStore, scenes: Sequence[Scene]) -> dict[str, torch.Tensor]:
    return {scene.name: store.read(scene.name) for scene in scenes}


def _fit(splits: Splits, embeddings: Mapping[str, torch.Tensor], recipe: ProbingRecipe) -> MlpProbe:
    parts = (splits.parts[split] for split in ("train", "val"))
    train, validation = (collect(scenes, embeddings, recipe.every, recipe.run) for scenes in parts)
    return fit_mlp(train, validation)


def _changes(perturbed: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    tables = []
    for target in TARGETS:
        rows = perturbed[perturbed.target == target]
        tables.append(change_table(rows, "perturbation", "none", ["encoder"], rng).assign(target=target))
    return pd.concat(tables, ignore_index=True)


def _readout(stores: Mapping[str, EmbeddingStore], splits: Splits, recipe: ProbingRecipe, seed: int) -> Readout | None:
    def middle(scene: Scene) -> int:
        taken = next(iter(stores.values())).taken(scene)
        return taken[len(taken) // 2]

    try:
        shown = spread(splits.parts["train"], recipe.labelled_scenes), splits.test
        return dense_readout(stores, *shown, seed, frame=middle)
    except LabelsMissing:
        return None


def _cost(store: EmbeddingStore, scene: Scene, frames: int = 8) -> dict[str, float]:
    taken = [t % len(scene) for t in range(frames)]
    return throughput(store.codec, store.inputs(scene, taken).to(store.codec.projection.device))
