"""From predictions to tables: errors by scene, by weather and light, and under perturbations. No fitting and no plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wamlab import statistics
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName
from wamlab.probing.data import TARGETS, Labelled
from wamlab.probing.mlp import PUBLISHED_UNITS

UNITS = ("si", "published")
DAY_CLEAR = "day-clear"
#: Bucket -> whether a scene with these attributes is in it. They may overlap (a rainy night); the last is what is in none of the others,
#: as in the paper, so dusk and overcast days are in it.
BUCKETS: Mapping[str, Callable[[Mapping[str, str]], bool]] = {
    "night": lambda a: a.get("time") == "night",
    "rain": lambda a: a.get("weather") == "rain",
    "fog": lambda a: a.get("weather") == "fog",
    DAY_CLEAR: lambda a: a.get("time") != "night" and a.get("weather") not in ("rain", "fog"),
}


def scene_rmse(
    predictions: Tensor, data: Labelled, seeds: Sequence[int], units: str = "si", **labels: object
) -> pd.DataFrame:
    """A row for each scene, seed and target: scene, `labels`, seed, target, rmse, of predictions (S, N, 2) in SI units.

    `units` of `si` are rad and m/s². `published` are those of the paper's table: steering over 6 rad, acceleration over 10 m/s², the
    true actions cut to ±1. (The paper's text says that actions are z-scored; the errors published beside its code are in these.)

    Raises `InvalidShape` for predictions that do not fit or are not finite, `UnknownName` for other units.
    """
    if units not in UNITS:
        raise UnknownName("units", units, UNITS)
    if predictions.shape != (len(seeds), *data.actions.shape) or not predictions.isfinite().all():
        raise InvalidShape(
            f"predictions must be finite and ({len(seeds)}, {len(data)}, {len(TARGETS)}), not {tuple(predictions.shape)}"
        )
    scale = torch.tensor(PUBLISHED_UNITS if units == "published" else (1.0, 1.0), device=data.actions.device)
    truth = data.actions / scale
    errors = predictions / scale - (truth.clamp(-1, 1) if units == "published" else truth)
    number = {scene: i for i, scene in enumerate(dict.fromkeys(data.scenes))}
    index = torch.tensor([number[scene] for scene in data.scenes], device=errors.device)
    squares = errors.double().square().transpose(0, 1)  # (N, S, 2)
    total = squares.new_zeros((len(number), *squares.shape[1:])).index_add_(0, index, squares)
    rmse = (total / torch.bincount(index)[:, None, None]).sqrt().cpu().numpy()  # (scenes, S, 2)
    grid = pd.MultiIndex.from_product([number, seeds, TARGETS], names=["scene", "seed", "target"])
    table = pd.DataFrame({"rmse": rmse.ravel()}, index=grid).reset_index()
    return table.assign(**labels)[["scene", *labels, "seed", "target", "rmse"]]


def bucket_table(
    table: pd.DataFrame,
    attributes: Mapping[str, Mapping[str, str]],
    keys: Sequence[str],
    rng: np.random.Generator,
    value: str = "rmse",
    num_resamples: int = 1000,
) -> pd.DataFrame:
    """`keys`, bucket, mean, low, high, n, ratio, ratio_low, ratio_high: `value` in each bucket of scenes, and over that in `DAY_CLEAR`.

    `attributes`: scene name -> e.g. {"time": "night", "weather": "rain"}. The ratio's interval resamples the two sets of scenes apart.
    Buckets without scenes are left out, and so are the ratios where there is no `DAY_CLEAR` scene.

    Raises `InvalidParameter` for a scene without attributes.
    """
    wide = statistics.by_scene(table, value, keys)
    missing = [scene for scene in wide.index if scene not in attributes]
    if missing:
        raise InvalidParameter(f"no attributes of {missing[0]}: time and weather decide its bucket")
    order = table[list(keys)].drop_duplicates().reset_index(drop=True)
    columns = [tuple(row) if len(keys) > 1 else row[0] for row in order.itertuples(index=False)]
    parts, draws = [], {}
    for bucket in (DAY_CLEAR, *(b for b in BUCKETS if b != DAY_CLEAR)):
        inside = wide[[BUCKETS[bucket](attributes[scene]) for scene in wide.index]][columns].to_numpy()
        if not len(inside):
            continue
        found = statistics.bootstrap_mean(inside, rng, num_resamples)
        part = order.assign(bucket=bucket, mean=found.mean, low=found.low, high=found.high, n=found.n)
        draws[bucket] = statistics.resample_weights(len(inside), rng, num_resamples) @ inside  # (R, columns)
        if bucket != DAY_CLEAR and DAY_CLEAR in draws:
            low, high = np.quantile(draws[bucket] / draws[DAY_CLEAR], [0.025, 0.975], axis=0)
            part = part.assign(ratio=found.mean / parts[0]["mean"].to_numpy(), ratio_low=low, ratio_high=high)
        parts.append(part)
    listed = pd.concat(parts, ignore_index=True)
    rank = {bucket: i for i, bucket in enumerate(BUCKETS)}
    return listed.sort_values("bucket", key=lambda b: b.map(rank), kind="stable", ignore_index=True)


def change_table(
    table: pd.DataFrame,
    key: str,
    baseline: object,
    keys: Sequence[str],
    rng: np.random.Generator,
    value: str = "rmse",
    num_resamples: int = 1000,
) -> pd.DataFrame:
    """`keys`, `key`, mean, low, high, n, p, p_holm, d: how much `value` changes from `baseline` to each other level of `key`.

    Paired by scene: the mean over scenes of the difference, with a percentile interval and a paired t-test, Holm's correction being
    over the rows of the table. So a positive mean of `rmse` is the harm that a perturbation does.

    Raises `UnknownName` if no row is the baseline.
    """
    levels = list(table[key].drop_duplicates()) if key in table else []
    if baseline not in levels:
        raise UnknownName(f"level of {key}", baseline, levels)
    wide = statistics.by_scene(table, value, [*keys, key])
    rows = []
    for names, part in table.groupby(list(keys), sort=False) if keys else [((), table)]:
        for level in part[key].drop_duplicates():
            if level == baseline:
                continue
            after, before = (wide[(*names, which) if names else which].to_numpy() for which in (level, baseline))
            found = statistics.bootstrap_mean(after - before, rng, num_resamples)
            test = statistics.paired_test(after, before)
            labels = {**dict(zip(keys, names, strict=True)), key: level}
            rows.append({**labels, **vars(found), "p": test.p, "d": test.d})
    found = pd.DataFrame(rows)
    found.insert(found.columns.get_loc("p") + 1, "p_holm", statistics.holm(found.p))
    return found
