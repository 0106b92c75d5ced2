"""The MLP probe and the behaviour-cloning baseline: all seeds side by side, in one closed training loop.

Not `wamlab.training.fit`: a probe trains in seconds, from arrays in memory, dozens of times in one notebook, and is never resumed. Here
all its seeds train in one pass, as batched matrices, each with its own initialisation, order of the frames and dropout; a run of the
project's loop is one model with one order, and comes with a folder, checkpoints, a moving average and clipping that the paper's probe
does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.probing.data import TARGETS, Labelled, Scaling

#: Range of the steering wheel, rad, and of the acceleration, m/s², that the paper's code divides by: its errors are in these units.
PUBLISHED_UNITS = (6.0, 10.0)


@dataclass(frozen=True)
class MlpConfig:
    """D → hidden → 2 with GELU and dropout, Adam on the mean squared error; the paper's numbers.

    Attributes:
        patience: None trains all the epochs and keeps the last. A number of epochs stops a seed when the error on the validation
            scenes has not improved for so long, and keeps its best.
        inputs: `standardised` by the training scenes, so that one learning rate suits every encoder, or `raw` as in the paper's code.
        targets: `zscore` by the training scenes (the paper's text) or `ranges`: divided by `PUBLISHED_UNITS`, cut to ±1 (its code).
    """

    hidden: int = 256
    dropout: float = 0.1
    learning_rate: float = 1e-3
    batch_size: int = 256
    epochs: int = 50
    patience: int | None = None
    inputs: str = "standardised"
    targets: str = "zscore"

    def __post_init__(self) -> None:
        for field, known in (("inputs", ("standardised", "raw")), ("targets", ("zscore", "ranges"))):
            if getattr(self, field) not in known:
                raise UnknownName(field, getattr(self, field), known)
        for field in ("hidden", "batch_size", "epochs"):
            if getattr(self, field) < 1:
                raise InvalidParameter(f"{field} must be at least 1, not {getattr(self, field)}")
        if not 0 <= self.dropout < 1 or (self.patience is not None and self.patience < 1):
            raise InvalidParameter(
                f"dropout must be in [0, 1) and patience at least 1 or None, not {self.dropout} and {self.patience}"
            )


#: The paper's behaviour-cloning baseline, which its text only names. In its code it is the same head, stopped early on validation scenes.
BEHAVIOUR_CLONING = MlpConfig(patience=10)


@dataclass(frozen=True)
class MlpProbe:
    """S fitted probes: weights (S, D, hidden), (S, 1, hidden), (S, hidden, 2), (S, 1, 2); `epochs` each of them was trained for."""

    seeds: tuple[int, ...]
    weights: tuple[Tensor, ...]
    inputs: Scaling
    targets: Scaling
    epochs: tuple[int, ...]

    def predict(self, data: Labelled) -> Tensor:
        """(S, N, 2) in SI units."""
        return self(data.embeddings)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) -> (S, N, 2) in SI units, differentiable."""
        x = self.inputs.apply(embeddings).expand(len(self.seeds), -1, -1)
        return self.targets.undo(_forward(self.weights, x))


def fit_mlp(
    train: Labelled,
    validation: Labelled | None = None,
    config: MlpConfig = MlpConfig(),
    seeds: Sequence[int] = (0, 1, 2),
) -> MlpProbe:
    """Fit one probe a seed. A seed gives the same probe, up to rounding, whichever other seeds stand beside it.

    Raises `InvalidParameter` without seeds, and for a config with `patience` but no validation scenes.
    """
    if not seeds or (config.patience and validation is None):
        raise InvalidParameter("no seeds" if not seeds else "early stopping (patience) needs validation scenes")
    device, width = train.embeddings.device, train.embeddings.shape[1]
    inputs = Scaling.fit(train.embeddings)
    if config.inputs == "raw":
        inputs = Scaling(torch.zeros(width, device=device), torch.ones(width, device=device))
    targets = Scaling.fit(train.actions)
    if config.targets == "ranges":
        targets = Scaling(torch.zeros(len(TARGETS), device=device), torch.tensor(PUBLISHED_UNITS, device=device))
    x, y = inputs.apply(train.embeddings), _scaled(train, targets, config)
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    weights = tuple(w.requires_grad_() for w in _initial(width, config.hidden, generators))
    optimizer = torch.optim.Adam(weights, lr=config.learning_rate, fused=True)
    best = _Best(weights, config.patience)
    for _ in range(config.epochs):
        for batch in _batches(len(train), config.batch_size, generators):  # (S, B)
            optimizer.zero_grad(set_to_none=True)
            frames, truth = (table.index_select(0, batch.flatten()).view(*batch.shape, -1) for table in (x, y))
            out = _forward(weights, frames, config.dropout, generators)
            F.mse_loss(out, truth, reduction="none").mean((1, 2)).sum().backward()  # each seed its own mean
            optimizer.step()
        errors = None
        if config.patience:
            with torch.no_grad():
                out = _forward(weights, inputs.apply(validation.embeddings).expand(len(seeds), -1, -1))
                errors = (out - _scaled(validation, targets, config)).square().mean((1, 2))
        best.update(errors)
        if best.stopped.all():
            break
    return MlpProbe(tuple(seeds), best.weights, inputs, targets, tuple(best.epochs.tolist()))


def _scaled(data: Labelled, targets: Scaling, config: MlpConfig) -> Tensor:
    scaled = targets.apply(data.actions)
    return scaled.clamp(-1, 1) if config.targets == "ranges" else scaled


def _initial(width: int, hidden: int, generators: list[torch.Generator]) -> list[Tensor]:
    """As `nn.Linear` starts: uniform within ±1 / sqrt(number of inputs), weights and biases."""
    shapes = (
        ((width, hidden), width),
        ((1, hidden), width),
        ((hidden, len(TARGETS)), hidden),
        ((1, len(TARGETS)), hidden),
    )
    return [
        torch.stack([torch.empty(s, device=g.device).uniform_(-(n**-0.5), n**-0.5, generator=g) for g in generators])
        for s, n in shapes
    ]


def _batches(n: int, size: int, generators: list[torch.Generator]) -> Iterator[Tensor]:
    """One pass over n frames, in another order for each seed: (S, B) indices, the last batch shorter."""
    orders = torch.stack([torch.randperm(n, generator=g, device=g.device) for g in generators])
    return iter(orders.split(size, dim=1))


def _forward(
    weights: Sequence[Tensor], x: Tensor, dropout: float = 0.0, generators: Sequence[torch.Generator] = ()
) -> Tensor:
    """(S, B, D) -> (S, B, 2); with dropout of the hidden units when it is given."""
    w1, b1, w2, b2 = weights
    hidden = F.gelu(torch.baddbmm(b1, x, w1))
    if dropout:
        kept = torch.empty_like(hidden)
        for part, generator in zip(kept, generators, strict=True):
            part.uniform_(generator=generator)
        hidden = hidden * kept.ge_(dropout)
    return torch.baddbmm(b2, hidden, w2, alpha=1 / (1 - dropout))


class _Best:
    """The weights to keep, seed by seed: the last ones, or with `patience` the best on the validation scenes until that seed stops."""

    def __init__(self, weights: tuple[Tensor, ...], patience: int | None) -> None:
        self.current, self.patience = weights, patience
        self.weights = tuple(w.detach().clone() for w in weights)
        seeds, device = len(weights[0]), weights[0].device
        self.error = torch.full((seeds,), torch.inf, device=device)
        self.epochs = torch.zeros(seeds, dtype=torch.long, device=device)
        self.seen, self.stopped = 0, torch.zeros(seeds, dtype=torch.bool, device=device)

    @torch.no_grad()
    def update(self, errors: Tensor | None) -> None:
        """After an epoch, with the errors (S,) on the validation scenes if there are any."""
        self.seen += 1
        better = ~self.stopped if errors is None else (errors < self.error) & ~self.stopped
        for kept, new in zip(self.weights, self.current, strict=True):
            kept[better] = new[better]
        self.epochs[better] = self.seen
        if errors is not None:
            self.error[better] = errors[better]
            self.stopped |= self.seen - self.epochs >= self.patience
