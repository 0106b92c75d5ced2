"""A second view of the probes' errors, ours: which share of the mean action's squared error they explain, and how it grows with data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from torch import Tensor

from wamlab import statistics
from wamlab.analysis.encoders import NO_ENCODER, PAPER_PROBE
from wamlab.analysis.side_by_side import side_by_side
from wamlab.probing import BASELINES, TARGETS, collect, fit_mlp, scene_rmse
from wamlab.types import Scene

MEAN = "mean action"
#: Of the training drives, for `learning`, besides all of them.
SHARES = (0.125, 0.25, 0.5)


def explained(errors: pd.DataFrame, rng: np.random.Generator, num_resamples: int = 1000) -> pd.DataFrame:
    """target, encoder, probe, mean, low, high, n: the share of the mean action's squared error that a probe takes away.

    1 - (squared error) / (squared error of always saying the mean action), each averaged over seeds and scenes before dividing, the
    interval over scenes. 0 is as good as not looking, 1 perfect. The paper's mean over scenes of the root rewards probes that say nothing:
    most drives are straight, and the few turns, where there is something to tell, are one scene each like all the others.

    `errors` as `probe_encoders` gives them, the baseline of the mean action among them.
    """
    squares = errors.assign(square=errors.rmse**2)
    parts = []
    for target in TARGETS:
        wide = statistics.by_scene(squares[squares.target == target], "square", ["encoder", "probe"])
        own, reference = wide.to_numpy(), wide[NO_ENCODER, MEAN].to_numpy()[:, None]
        weights = statistics.resample_weights(len(wide), rng, num_resamples)
        low, high = np.quantile(1 - (weights @ own) / (weights @ reference), [0.025, 0.975], axis=0)
        table = wide.columns.to_frame(index=False).assign(target=target, mean=1 - own.mean(0) / reference.mean())
        parts.append(table.assign(low=low, high=high, n=len(wide)))
    found = pd.concat(parts, ignore_index=True)
    return found[["target", "encoder", "probe", "mean", "low", "high", "n"]]


def learning(
    embeddings: Mapping[str, Mapping[str, Tensor]],
    splits: Mapping[str, Sequence[Scene]],
    whole: pd.DataFrame,
    rng: np.random.Generator,
    every: int = 1,
    run: int = 1,
    shares: Sequence[float] = SHARES,
) -> pd.DataFrame:
    """target, encoder, drives, mean, low, high, n: `explained` by the paper's probe when it learns from some of the training drives only.

    Those drives are evenly spaced. The reference is the mean action of all of them, whatever the share. Were the curves flat, more drives
    would not help; where they still rise, the errors say as much of the number of drives as of the encoder. `whole`: the table of
    `explained` for all drives, of which the rows of these encoders are added.
    """
    train, test = splits["train"], splits["test"]
    counts = [max(1, round(share * len(train))) for share in shares]

    def errors(asked: tuple[int, str]) -> pd.DataFrame:
        """Of the paper's probe that learned from so many drives, and of the mean action of all."""
        count, name = asked
        some = [train[i] for i in np.linspace(0, len(train) - 1, count).round().astype(int)]
        part, every_drive, data = (collect(scenes, embeddings[name], every, run) for scenes in (some, train, test))
        return pd.concat(
            scene_rmse(fitted.predict(data), data, fitted.seeds, "published", encoder=encoder, probe=label)
            for encoder, label, fitted in (
                (name, PAPER_PROBE, fit_mlp(part)),
                (NO_ENCODER, MEAN, BASELINES[MEAN](every_drive)),
            )
        )

    found = list(side_by_side(errors, product(counts, embeddings)))
    tables = []
    for i, count in enumerate(counts):
        told = explained(pd.concat(found[i * len(embeddings) : (i + 1) * len(embeddings)], ignore_index=True), rng)
        tables.append(told[told.encoder != NO_ENCODER].assign(drives=count))
    last = whole[whole.encoder.isin(list(embeddings)) & (whole.probe == PAPER_PROBE)].assign(drives=len(train))
    return pd.concat([*tables, last], ignore_index=True)[["target", "encoder", "drives", "mean", "low", "high", "n"]]
