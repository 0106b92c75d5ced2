"""Probes without training (linear, nearest neighbours) and baselines that do not look at the frame (mean, last action)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wamlab.errors import InvalidParameter
from wamlab.metrics.readout import nearest, unit_length
from wamlab.probing.data import Labelled, Scaling

#: Ridge penalties that are tried on the validation scenes.
ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0, 1_000_000.0)


@dataclass(frozen=True)
class LinearProbe:
    """actions = scaled embedding @ weights (D, 2) + bias (2,); `alpha` is the penalty that was chosen."""

    inputs: Scaling
    weights: Tensor
    bias: Tensor
    alpha: float
    seeds: tuple[int, ...] = (0,)

    def predict(self, data: Labelled) -> Tensor:
        """(1, N, 2) in SI units."""
        return (self.inputs.apply(data.embeddings) @ self.weights + self.bias)[None]


def fit_linear(train: Labelled, validation: Labelled | None = None, alphas: Sequence[float] = ALPHAS) -> LinearProbe:
    """Ridge regression in closed form on standardised embeddings: the squared error summed over frames plus alpha |weights|².

    The alpha with the least error on the validation scenes (in standardised actions) is taken; without validation scenes the middle one.

    Raises `InvalidParameter` for a penalty that is not positive.
    """
    if not alphas or min(alphas) <= 0:
        raise InvalidParameter(f"the penalties must be positive, not {tuple(alphas)}")
    inputs, targets = Scaling.fit(train.embeddings), Scaling.fit(train.actions)
    x, y = inputs.apply(train.embeddings).double(), train.actions.double()
    bias = y.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x)
    along = vectors.T @ (x.T @ (y - bias))  # (D, 2): in the eigenbasis a penalty is a division

    def at(alpha: float) -> LinearProbe:
        weights = vectors @ (along / (values.clamp_min(0) + alpha)[:, None])
        return LinearProbe(inputs, weights.float(), bias.float(), alpha)

    if validation is None:
        return at(sorted(alphas)[len(alphas) // 2])
    probes = [at(alpha) for alpha in sorted(alphas)]
    return min(
        probes, key=lambda p: float(((p.predict(validation)[0] - validation.actions) / targets.scale).square().mean())
    )


@dataclass(frozen=True)
class KnnProbe:
    """The mean action of the k training frames with the most similar embeddings: cosine, after standardising."""

    inputs: Scaling
    keys: Tensor
    actions: Tensor
    k: int
    seeds: tuple[int, ...] = (0,)

    def predict(self, data: Labelled) -> Tensor:
        """(1, N, 2) in SI units."""
        _, indices = nearest(unit_length(self.inputs.apply(data.embeddings)), self.keys, self.k)
        return self.actions[indices].mean(1)[None]


def fit_knn(train: Labelled, validation: Labelled | None = None, k: int = 20) -> KnnProbe:
    """Remember the training frames. `validation` is not used; a k beyond the number of training frames raises `InvalidParameter`."""
    if not 1 <= k <= len(train):
        raise InvalidParameter(f"k must be 1 to {len(train)}, the number of training frames, not {k}")
    inputs = Scaling.fit(train.embeddings)
    return KnnProbe(inputs, unit_length(inputs.apply(train.embeddings)), train.actions, k)


@dataclass(frozen=True)
class MeanAction:
    """The mean action (2,) of the training frames, whatever is seen: what a representation without any information would give."""

    action: Tensor
    seeds: tuple[int, ...] = (0,)

    def predict(self, data: Labelled) -> Tensor:
        """(1, N, 2) in SI units."""
        return self.action.expand(1, len(data), -1)


def fit_mean(train: Labelled, validation: Labelled | None = None) -> MeanAction:
    """The mean of the training actions; `validation` is not used."""
    return MeanAction(train.actions.mean(0))


@dataclass(frozen=True)
class LastAction:
    """The true action of the frame before in the same scene (0.5 s at 2 Hz), and `first` (2,) at a scene's first frame.

    Not a probe: it is told what the car just did, which a frame does not show. Where it wins, errors of probes say little about driving.
    """

    first: Tensor
    seeds: tuple[int, ...] = (0,)

    def predict(self, data: Labelled) -> Tensor:
        """(1, N, 2) in SI units."""
        known = data.before.isfinite().all(1, keepdim=True)
        return torch.where(known, data.before, self.first)[None]


def fit_last(train: Labelled, validation: Labelled | None = None) -> LastAction:
    """Copy the last action, and at a scene's first frame the mean of the training actions; `validation` is not used."""
    return LastAction(train.actions.mean(0))
