"""Distances between sets of features against torchmetrics, scipy and scikit-learn, in any batches, with intervals that cover."""

import pickle
import sys
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchmetrics.image.fid
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from wamlab.encoders import load_encoder
from wamlab.errors import ExtraMissing, InvalidParameter, InvalidShape, TooFewSamples, WeightsMissing
from wamlab.metrics.distribution import frechet_distance, kernel_by_scene, kernel_distance
from wamlab.metrics.features import Extractor, FeatureStream, encoder_features, inception_features

D = 12


def as_they_are(frames):
    return frames


EXTRACTOR = Extractor("toy", "0123456789abcdef", "none", as_they_are)


class Given(torch.nn.Module):
    """For torchmetrics: the features are given."""

    num_features = D

    def forward(self, x):
        return x


def draw(n: int, seed: int, shift: float = 0.0, d: int = D) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d))
    return torch.as_tensor(rng.normal(size=(n, d)) @ mixing + shift + 0.5 * seed)


def samples(n: int, per_scene: int = 5) -> list[tuple[str, int]]:
    return [(f"scene-{i // per_scene:04d}", i % per_scene) for i in range(n)]


def stream(features: torch.Tensor, capacity: int = 2048, per_scene: int = 5) -> FeatureStream:
    return FeatureStream(EXTRACTOR, capacity).add(features, samples(len(features), per_scene))


def test_frechet_agrees_with_torchmetrics_and_scipy():
    x, y = draw(300, 0), draw(200, 1, 0.3)
    theirs = FrechetInceptionDistance(Given()).set_dtype(torch.float64)
    for part in x.split(64):
        theirs.update(part, real=False)
    theirs.update(y, real=True)
    a, b = np.cov(x.T), np.cov(y.T)
    scipy = np.square(x.numpy().mean(0) - y.numpy().mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    for capacity in (2048, 50):  # from the frames themselves, and from their moments
        ours = frechet_distance(stream(x, capacity), stream(y, capacity)).value
        assert ours == pytest.approx(float(theirs.compute()), rel=1e-6)
        assert ours == pytest.approx(scipy, rel=1e-6)


@pytest.mark.parametrize("capacity", [2048, 3])
def test_frechet_of_fewer_frames_than_features(capacity):
    """With y = c x + s the covariances differ by the factor c²: the distance is |μ₁ - μ₂|² + (1 - c)² tr Σ₁."""
    x = draw(20, 0, d=40)
    y = 1.7 * x + 0.1
    expected = (x.mean(0) - y.mean(0)).square().sum() + 0.7**2 * torch.cov(x.T).trace()
    found = frechet_distance(stream(x, capacity), stream(y, capacity)).value
    assert found == pytest.approx(float(expected), rel=1e-6)


def test_kernel_agrees_with_torchmetrics_and_scikit_learn():
    x, y = draw(90, 0), draw(90, 1)
    theirs = KernelInceptionDistance(Given(), subsets=1, subset_size=90)
    theirs.update(x, real=False)
    theirs.update(y, real=True)
    ours = kernel_distance(stream(x), stream(y), subset_size=90, num_subsets=1)
    assert ours.value == pytest.approx(float(theirs.compute()[0]), rel=1e-6)
    off = ~np.eye(90, dtype=bool)
    xx, yy, xy = (polynomial_kernel(a, b, degree=2, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    expected = xx[off].mean() + yy[off].mean() - 2 * xy.mean()
    assert kernel_distance(stream(x), stream(y), 90, 1, degree=2).value == pytest.approx(expected, rel=1e-6)


def test_kernel_subsets_are_those_of_torchmetrics_on_average():
    x, y = draw(60, 0), draw(70, 1)
    theirs = KernelInceptionDistance(Given(), subsets=2000, subset_size=20)
    theirs.update(x, real=False)
    theirs.update(y, real=True)
    torch.manual_seed(0)
    mean, std = map(float, theirs.compute())
    ours = kernel_distance(stream(x), stream(y), subset_size=20, num_subsets=2000)
    assert ours.value == pytest.approx(mean, abs=5 * std / 2000**0.5)
    assert ours.settings["std"] == pytest.approx(std, rel=0.1)


def both(x: FeatureStream, y: FeatureStream) -> list[float]:
    return [
        v for d in (frechet_distance(x, y), kernel_distance(x, y)) for v in (d.value, d.interval.low, d.interval.high)
    ]


@pytest.mark.parametrize("capacity", [2048, 60])
def test_batches_and_their_order_do_not_matter(capacity):
    x, y = draw(200, 0), draw(200, 1)
    listed, order = samples(200), np.random.default_rng(0).permutation(200)
    parts = FeatureStream(EXTRACTOR, capacity)
    for part in np.array_split(order, 23):
        parts.add(x[part], [listed[i] for i in part])
    whole, target = stream(x, capacity), stream(y, capacity)
    assert both(parts, target) == pytest.approx(both(whole, target), rel=1e-9)
    assert parts.samples == whole.samples


def test_memory_is_flat_in_the_number_of_frames():
    def size(repeats: int) -> int:
        s = FeatureStream(EXTRACTOR, 100)
        for k in range(repeats):
            s.add(draw(200, k), [(f"scene-{i % 40:04d}", 1000 * k + i) for i in range(200)])
        return len(pickle.dumps(s))

    assert size(50) == pytest.approx(size(2), abs=600)


def test_a_set_is_at_no_distance_from_itself():
    x = stream(draw(100, 0))
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-9)
    far, farther = (kernel_distance(stream(draw(100, 0, s)), stream(draw(100, 2))).value for s in (2.0, 4.0))
    assert kernel_distance(x, x).value < far < farther


def test_intervals_cover_what_other_scenes_would_give():
    """Scenes of 3 frames that resemble each other: intervals that took frames for independent would be too short."""
    found = {3: [], 1: []}  # frames that count as of one scene -> (200, 2) intervals
    for seed in range(200):
        rng = np.random.default_rng(seed)
        drives = rng.normal(size=(2, 20, 1, 3)) * 0.8 + np.array([0, 0.6]).reshape(2, 1, 1, 1)
        x, y = torch.as_tensor(drives + 0.4 * rng.normal(size=(2, 20, 3, 3))).flatten(1, 2)
        for per_scene, intervals in found.items():
            sets = stream(x, per_scene=per_scene), stream(y, per_scene=per_scene)
            intervals.append([d.interval for d in (frechet_distance(*sets), kernel_distance(*sets, 60, 1))])

    def coverage(intervals) -> float:
        expected = np.mean([i.mean for i in intervals])
        return np.mean([i.low <= expected <= i.high for i in intervals])

    for by_scene, by_frame in zip(*(zip(*each, strict=True) for each in found.values()), strict=True):
        assert 0.88 < coverage(by_scene) < 0.99
        assert coverage(by_frame) < 0.85


def test_all_that_decides_the_number_is_printed_beside_it():
    found = kernel_distance(stream(draw(100, 0)), stream(draw(80, 1)), subset_size=30, num_subsets=7, seed=4)
    text = str(found)
    for part in (
        "KD[toy] ↓", f"{found.value:.4g} [", "preds 100 frames of 20 scenes", "target 80 frames of 16 scenes", "0123456789ab",
        found.preds.digest, "subset_size 30", "num_subsets 7", "degree 3", "seed 4", "std",
    ):  # fmt: skip
        assert part in text
    assert "constant" not in text
    assert found.interval.n == 20
    assert found.preds.digest != found.target.digest


def test_a_constant_feature_is_marked():
    x, y = draw(60, 0), draw(60, 1)
    x[:, 3] = x[:, 7] = 0.25
    for distance in (frechet_distance, kernel_distance):
        found = distance(stream(x), stream(y))
        assert found.constant == (2, 0)
        assert "constant features: 2 in preds, 0 in target" in str(found)
        assert np.isfinite([found.value, found.interval.low, found.interval.high]).all()
    same = stream(torch.ones(60, D))
    assert frechet_distance(same, same).value == 0
    assert frechet_distance(same, same).constant == (D, D)


def test_what_is_too_few_is_refused_by_name():
    x, y = draw(60, 0), draw(60, 1)
    with pytest.raises(TooFewSamples, match="preds keep 40 frames .* fewer than the 50 .* smaller subset_size"):
        kernel_distance(stream(x[:40]), stream(y))
    with pytest.raises(TooFewSamples, match="target keep 30 frames .of 60, capacity 30"):
        kernel_distance(stream(x), stream(y, capacity=30))
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(TooFewSamples, match="target are frames of one scene only .scene-0000"):
            distance(stream(x), stream(y, per_scene=60))
        with pytest.raises(TooFewSamples, match="preds keep 0 frames"):
            distance(FeatureStream(EXTRACTOR), stream(y))
    with pytest.raises(TooFewSamples, match="two frames has no interval"):
        frechet_distance(stream(x[:2], per_scene=1), stream(y[:2], per_scene=1))


def test_what_does_not_fit_is_refused():
    x = draw(60, 0)
    with pytest.raises(InvalidShape, match="2 of 60 features are NaN"):
        stream(torch.cat([x[:58], x[58:] * torch.nan]))
    with pytest.raises(InvalidShape, match=r"\(N, d\) with a sample for each, not \(60, 12\) for 2"):
        FeatureStream(EXTRACTOR).add(x, samples(2))
    with pytest.raises(InvalidShape, match=r"\(N, 12\)"):
        stream(x).add(x[:, :5], samples(60))
    other = FeatureStream(Extractor("other", "f" * 16, "none", as_they_are)).add(x, samples(60))
    with pytest.raises(InvalidShape, match="toy 0123456789ab and other ffffffffffff"):
        frechet_distance(stream(x), other)
    with pytest.raises(InvalidParameter, match="subset_size must be at least 2"):
        kernel_distance(stream(x), stream(x), subset_size=1)
    with pytest.raises(InvalidParameter, match="capacity"):
        FeatureStream(EXTRACTOR, capacity=1)


def test_only_inception_makes_a_fid():
    inception = Extractor("inception-v3", "1" * 16, "none", as_they_are, inception=True)
    x, y = (FeatureStream(inception).add(draw(60, s), samples(60)) for s in (0, 1))
    assert frechet_distance(x, y).name == "FID" and kernel_distance(x, y).name == "KID"
    assert frechet_distance(stream(draw(60, 0)), stream(draw(60, 1))).name == "FD[toy]"


def test_inception_without_its_extra_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'wamlab\[fid\]'.*FD\[dinov2-s14/embedded\] needs neither"):
        inception_features()


def test_inception_is_asked_for_its_pooled_layer_and_missing_weights_have_a_name(monkeypatch):
    class Pooled(torch.nn.Linear):
        def __init__(self, name: str, features: list[str]) -> None:
            super().__init__(3, 5)
            assert (name, features) == ("inception-v3-compat", ["2048"])

        def forward(self, x):
            return super().forward(x.float().mean((2, 3)))

    def unreachable(*_: object) -> None:
        raise URLError("no network")

    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setattr(torchmetrics.image.fid, "NoTrainInceptionV3", Pooled)
    extractor = inception_features()
    frames = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert extractor(frames).shape == (2, 5) and extractor.label("F") == "FID" and len(extractor.digest) == 64
    monkeypatch.setattr(torchmetrics.image.fid, "NoTrainInceptionV3", unreachable)
    with pytest.raises(WeightsMissing, match="Inception-v3 are not in .*no network.*copy that folder"):
        inception_features()


def test_frames_through_an_encoder():
    encoder = load_encoder("vit-s16/random")
    extractor = encoder_features(encoder)
    frames = torch.randint(0, 256, (2, 3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features = extractor(frames)
    assert features.shape == (2, 3, 384)
    torch.testing.assert_close(features[1], encoder.encode(frames[1]), rtol=1e-4, atol=1e-5)
    taken = FeatureStream(extractor).update(frames.flatten(0, 1), samples(6, 3))
    other = FeatureStream(extractor).update(255 - frames.flatten(0, 1), samples(6, 3))
    found = frechet_distance(taken, other)
    assert found.name == "FD[vit-s16/random]" and found.value > 0 and encoder.digest[:12] in str(found)
    with pytest.raises(InvalidShape, match="uint8"):
        extractor(frames.float())
    with pytest.raises(InvalidShape, match="reads clips of"):
        encoder_features("vjepa2-rep64/random")


def test_values_of_scenes_are_what_leaving_each_out_gives():
    x, y = draw(24, 0), draw(24, 1, 0.3)

    whole = kernel_distance(stream(x, per_scene=4), stream(y, per_scene=4), 24, 1).value
    values = kernel_by_scene(stream(x, per_scene=4), stream(y, per_scene=4))
    assert list(values) == [f"scene-{i:04d}" for i in range(6)]
    for i, value in enumerate(values.values()):
        keep = torch.arange(24) // 4 != i
        left = FeatureStream(EXTRACTOR).add(x[keep], [s for s, k in zip(samples(24, 4), keep, strict=True) if k])
        true = FeatureStream(EXTRACTOR).add(y[keep], [s for s, k in zip(samples(24, 4), keep, strict=True) if k])
        without = kernel_distance(left, true, 20, 1).value
        assert value == pytest.approx(6 * whole - 5 * without, rel=1e-9)
    with pytest.raises(TooFewSamples, match="three scenes"):
        kernel_by_scene(stream(x[:2], per_scene=1), stream(y[:2], per_scene=1))
