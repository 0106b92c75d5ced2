"""Points of a frontier made of known distortions: noise costs both, a mean costs realism, the truth is the ceiling."""

import numpy as np
import pytest
import torch
from helpers import IdentityCodec

from wamlab.analysis import frontier as study
from wamlab.errors import InvalidShape, TooFewSamples
from wamlab.metrics.features import Extractor
from wamlab.render import to_uint8

N, F = 24, 2
SCENES, STARTS = [f"scene-{i // 2}" for i in range(N)], [3 + 5 * (i % 2) for i in range(N)]
POOLED = Extractor("pooled", "2" * 16, "none", lambda x: torch.nn.functional.avg_pool2d(x.float() / 50, 4).flatten(1))


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    coarse = torch.randn(N, F, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.3
    return coarse.repeat_interleave(4, -1).repeat_interleave(4, -2)


@pytest.fixture(scope="module")
def points(truth) -> dict[str, study.Point]:
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    predicted = {
        ("mean", ""): truth * 0.3,
        ("sample", ""): truth.roll(2, 0),  # other true frames
        ("sample", "noisy"): truth.roll(2, 0) + 0.5 * noise,
    }
    found = study.frontier(predicted, truth, to_uint8(truth), SCENES, STARTS, IdentityCodec(), POOLED, subset_size=20)
    return {f"{p.model} {p.setting}".strip(): p for p in found}


def test_distortion_and_realism_trade(points):
    assert list(points) == [study.CEILING, "mean", "sample", "sample noisy"]
    ceiling, mean, sample, noisy = points.values()
    assert ceiling.cosine.mean == pytest.approx(1) and ceiling.frechet.value == pytest.approx(0, abs=1e-6)
    assert mean.cosine.mean > sample.cosine.mean and sample.frechet.value < mean.frechet.value
    assert sample.kernel.value < mean.kernel.value and noisy.frechet.value > sample.frechet.value
    assert mean.cosine.n == 12 and mean.frechet.name == "FD[pooled]"
    assert mean.frechet.preds == mean.frechet.target and len(mean.frechet.preds) == N * F


def test_the_efficient_points_and_their_table(points):
    kept = [p.model + p.setting for p in study.efficient(list(points.values()))]
    assert kept == ["mean", "sample"]
    table = study.table(list(points.values()))
    assert len(table) == 4 and np.isfinite(table.drop(columns=["model", "setting"]).to_numpy(float)).all()
    assert (table.cosine_low <= table.cosine).all() and (table.frechet <= table.frechet_high).all()


def test_a_step_of_the_horizon_alone(truth):
    arguments = (to_uint8(truth), SCENES, STARTS, IdentityCodec(), POOLED)
    last = study.frontier({("mean", ""): truth * 0.3}, truth, *arguments, steps=[F], subset_size=20)[1]
    assert len(last.frechet.preds) == N
    with pytest.raises(TooFewSamples, match="fewer than the 50"):
        study.frontier({}, truth, *arguments, steps=[F])
    with pytest.raises(InvalidShape, match=r"24 windows of 2 frames.*\('mean', 'half'\)"):
        study.frontier({("mean", "half"): truth[:, :1]}, truth, *arguments)
