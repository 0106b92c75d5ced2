"""Between one pass and a chain of draws: a sampler that starts from a guess with some noise on it, from hardly any to noise alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wamlab.analysis.predicting import Candidate, predict
from wamlab.analysis.rollout_measures import Measures, level, measure
from wamlab.analysis.rollouts import Rollouts
from wamlab.analysis.windows import Windows
from wamlab.statistics import Interval
from wamlab.types import Codec

#: How much of the way from the guess to noise is gone; at 0 the guess is kept as it is, at 1 it is forgotten.
STRENGTHS = (0.0, 0.2, 0.4, 0.7, 1.0)
#: Name -> the model that samples, and the one whose prediction it starts from ('' for its own anchor).
ROUTES = {
    "diffusion": ("diffusion", ""),
    "diffusion from direct": ("diffusion", "direct"),
    "jump-diffusion": ("jump-diffusion", ""),
}
METRICS = ("cosine", "sharpness", "low", "high")


def warm_starts(
    models: Mapping[int, Mapping[str, Any]],
    given: Windows,
    codec: Codec,
    sampling: Mapping[str, Any],
    strengths: Sequence[float] = STRENGTHS,
    routes: Mapping[str, tuple[str, str]] = ROUTES,
) -> Measures:
    """Windows of one reach, predicted at each strength on each of the routes whose models are there; models: seed -> name -> model.

    The measures' models are called `route@strength`.
    """
    rolled = {seed: _predicted(named, given, sampling, strengths, routes, seed) for seed, named in models.items()}
    return measure(rolled, codec, metrics=("sharpness",))


def _predicted(
    models: Mapping[str, Any],
    given: Windows,
    sampling: Mapping[str, Any],
    strengths: Sequence[float],
    routes: Mapping[str, tuple[str, str]],
    seed: int,
) -> Rollouts:
    predicted, asked = {}, (given.context, given.actions, seed)
    for route, (name, guess) in routes.items():
        if not {name, guess or name} <= set(models):
            continue
        start = predict(Candidate(models[guess], sampling), *asked) if guess else None
        for strength in strengths:
            candidate = Candidate(models[name], {**sampling, "strength": strength})
            predicted[f"{route}@{strength:g}"] = predict(candidate, *asked, start=start)
    return Rollouts.of(given, predicted)


def dial(found: Measures, rng: np.random.Generator, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """route, strength, metric, mean, low, high, n: over the whole windows; without the rows that are undefined."""
    rows = []
    for name in found.models:
        route, strength = name.split("@")
        for metric in metrics:
            value = level(found, name, metric, rng)
            if isinstance(value, Interval):
                rows.append({"route": route, "strength": float(strength), "metric": metric, **vars(value)})
    return pd.DataFrame(rows, columns=["route", "strength", "metric", "mean", "low", "high", "n"])
