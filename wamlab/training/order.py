"""The order of the data: which samples make the batch of which step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from wamlab.errors import InvalidParameter


class BatchOrder:
    """The indices of every batch from step `start` to `stop`: one shuffled pass over the data after the other, without a seam.

    A pass visits every sample once or, with weights, draws as many samples as there are: sample i floor(n p_i) or ceil(n p_i) times,
    n p_i in the mean (systematic resampling), p_i its share of all weights. The order is a function of (seed, pass) alone.

    Args:
        weights: (num_samples,), how much oftener one sample is drawn than another; None: all alike.
        rank, world: of the processes that share each batch.
        accumulate: consecutive parts in which each of them takes its share.

    Raises `InvalidParameter` for weights that are negative, not finite, all zero or of another number.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.steps, self.num_parts = range(start, stop), world * accumulate
        self.parts = range(rank, self.num_parts, world)
        self.limits = None if weights is None else _limits(np.asarray(weights, np.float64), num_samples)

    def __len__(self) -> int:
        return len(self.steps) * len(self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        passes: dict[int, np.ndarray] = {}
        for step in self.steps:
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, offset = divmod(position, self.num_samples)
                if epoch not in passes:
                    passes = {epoch: self._pass(epoch)}
                batch.append(int(passes[epoch][offset]))
            for part in self.parts:
                yield batch[part :: self.num_parts]

    def _pass(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        if self.limits is None:
            return rng.permutation(self.num_samples)
        points = (np.arange(self.num_samples) + rng.random()) / self.num_samples
        return rng.permutation(np.searchsorted(self.limits, points, side="right"))


def _limits(weights: np.ndarray, num_samples: int) -> np.ndarray:
    """(num_samples,) where the shares of the samples end in [0, 1]."""
    if weights.shape != (num_samples,):
        raise InvalidParameter(f"{num_samples} samples need as many weights, not an array of shape {weights.shape}")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise InvalidParameter(
            f"the weight of sample {wrong[0]} is {weights[wrong[0]]}; it must be finite and at least 0"
        )
    if not weights.any():
        raise InvalidParameter(f"all {num_samples} weights are 0; give at least one sample a positive weight")
    limits = np.cumsum(weights) / weights.sum()
    limits[np.flatnonzero(weights)[-1] :] = np.inf  # whatever rounding left belongs to the last
    return limits
