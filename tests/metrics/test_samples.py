"""Diversity against the sum over pairs, and copies of training frames found."""

import itertools

import numpy as np
import pytest
import torch

from wamlab.errors import InvalidShape, TooFewSamples
from wamlab.metrics.samples import diversity, memorization
from wamlab.statistics import Undefined


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_diversity_is_that_of_all_pairs():
    samples = normal(2, 5, 4, 8, 8)
    pairs = [float((samples[1, i] - samples[1, j]).square().mean()) for i, j in itertools.combinations(range(5), 2)]
    assert float(diversity(samples)[1]) == pytest.approx(np.sqrt(np.mean(pairs)), rel=1e-5)
    assert not diversity(samples[:, :1].expand_as(samples)).any()
    with pytest.raises(TooFewSamples, match="not 1"):
        diversity(samples[:, :1])
    with pytest.raises(InvalidShape, match="K, c, h, w"):
        diversity(samples[0, 0])


def test_copies_of_training_frames_are_found():
    train, held_out, fresh = normal(300, 16), normal(40, 16, seed=1), normal(40, 16, seed=2)
    scenes, rng = [f"scene-{i // 2}" for i in range(40)], np.random.default_rng(0)
    honest = memorization(fresh, held_out, train, rng, scenes)
    copied = memorization(train[7:47] + 0.02 * fresh, held_out, train, rng, scenes)
    assert honest.ratio.low < 1 < honest.ratio.high and honest.ratio.n == 20 and honest.repeated < 0.2
    assert copied.ratio.high < 0.1 and copied.repeated == 1
    assert copied.nearest.tolist() == list(range(7, 47))
    cosine = torch.nn.functional.cosine_similarity(fresh[:, None], train[None], dim=-1)
    assert honest.generated == pytest.approx((1 - cosine.max(1).values).numpy(), abs=1e-5)


def test_what_does_not_fit_is_refused_or_marked():
    x, rng = normal(4, 3), np.random.default_rng(0)
    axes = torch.eye(3)
    assert isinstance(memorization(x[:3], axes, axes, rng).ratio, Undefined)
    with pytest.raises(InvalidShape, match=r"not \(4, 3\), \(3, 3\) and \(4, 3\)"):
        memorization(x, x[:3], x, rng)
    with pytest.raises(InvalidShape, match="point nowhere"):
        memorization(0 * x, x, x, rng)
