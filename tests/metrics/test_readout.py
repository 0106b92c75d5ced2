import doctest

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix, jaccard_score
from sklearn.neighbors import NearestNeighbors

from wamlab.errors import InvalidParameter, InvalidShape
from wamlab.metrics import readout

CLASSES = 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(n: int, seed: int, cells: int = 4, patch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, h, w) class of each patch, and the label maps (N, h * patch, w * patch) where every pixel of a patch has it."""
    cell = torch.randint(CLASSES, (n, cells, cells), generator=generator(seed))
    return cell, cell.repeat_interleave(patch, 1).repeat_interleave(patch, 2).to(torch.uint8)


def features_of(cell: torch.Tensor, noise: float, seed: int, dim: int = 8) -> torch.Tensor:
    """(N, h, w, d): a direction for each class, of random length, with noise."""
    directions = F.normalize(torch.randn(CLASSES, dim, generator=generator(99)), dim=-1)
    lengths = 1 + 5 * torch.rand((*cell.shape, 1), generator=generator(seed))
    return lengths * (directions[cell] + noise * torch.randn((*cell.shape, dim), generator=generator(seed)))


def test_examples():
    assert doctest.testmod(readout).failed == 0


def test_where_features_tell_the_class_the_readout_is_exact():
    """Also when their lengths differ: only directions count."""
    (cell, labels), (other, truth) = maps(6, 0), maps(3, 1)
    memory = readout.build_memory(features_of(cell, 0.01, 0), labels, CLASSES, generator(), per_image=8)
    shares = readout.class_shares(memory, features_of(other, 0.01, 1), k=5)
    assert torch.equal(shares.argmax(-1), other)
    preds = readout.read_out(memory, features_of(other, 0.01, 1), (16, 16), k=5)
    inside = (
        slice(None),
        slice(1, None, 4),
        slice(1, None, 4),
    )  # beside the middle of a patch: nearest to its own class
    assert torch.equal(preds[inside].long(), other)
    assert readout.mean_iou(readout.confusion(preds, truth, CLASSES).sum(0)) > 0.6


def test_neighbours_agree_with_scikit_learn_in_any_block(monkeypatch):
    keys, queries = (readout.unit_length(torch.randn(n, 16, generator=generator(n))) for n in (300, 70))
    theirs = NearestNeighbors(n_neighbors=9, metric="cosine", algorithm="brute").fit(keys.numpy())
    distances, indices = theirs.kneighbors(queries.numpy())
    for block in (readout.BLOCK, 700):
        monkeypatch.setattr(readout, "BLOCK", block)
        products, found = readout.nearest(queries, keys, 9)
        assert np.array_equal(found.numpy(), indices)
        assert np.allclose(1 - products.numpy(), distances, atol=1e-5)


def test_labels_are_mixed_by_a_softmax_of_temperature_beta():
    keys = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    memory = readout.Memory(keys, torch.eye(3))
    found = readout.class_shares(memory, torch.tensor([[[[2.0, 0.0]]]]), k=2, beta=0.5)[0, 0, 0]
    first = 1 / (1 + np.exp((0.8 - 1.0) / 0.5))
    assert found.tolist() == pytest.approx([first, 1 - first, 0.0], abs=1e-6)


def test_blocks_do_not_change_the_answer(monkeypatch):
    (cell, labels), (other, _) = maps(5, 2), maps(4, 3)
    memory = readout.build_memory(features_of(cell, 0.5, 2), labels, CLASSES, generator(), None)
    whole = readout.read_out(memory, features_of(other, 0.5, 3), (20, 12))
    monkeypatch.setattr(readout, "BLOCK", 1000)
    assert torch.equal(readout.read_out(memory, features_of(other, 0.5, 3), (20, 12)), whole)


class TestPatches:
    def test_shares_by_hand(self):
        labels = torch.tensor([[[0, 1, 2, 2], [1, 1, 255, 255], [3, 3, 255, 255], [3, 0, 255, 255]]], dtype=torch.uint8)
        shares = readout.patch_labels(labels, (2, 2), CLASSES)[0]
        assert shares[0, 0].tolist() == [0.25, 0.75, 0, 0]
        assert shares[0, 1].tolist() == [0, 0, 1, 0], "unlabelled pixels are no class, not class 0"
        assert shares[1, 0].tolist() == [0.25, 0, 0, 0.75]
        assert shares[1, 1].tolist() == [0, 0, 0, 0]

    def test_a_grid_that_does_not_divide_the_image(self):
        labels = torch.zeros(1, 5, 7, dtype=torch.uint8)
        labels[0, :, 5:] = 1
        shares = readout.patch_labels(labels, (2, 3), 2)[0]  # columns 0-2, 3-4, 5-6
        assert shares[..., 1].tolist() == [[0, 0, 1], [0, 0, 1]]

    def test_unlabelled_patches_are_never_remembered(self):
        cell, labels = maps(4, 4)
        labels[:, :8] = 255
        labels[3] = 255
        features = features_of(cell, 0.0, 4)
        memory = readout.build_memory(features, labels, CLASSES, generator(), per_image=10)
        assert len(memory.keys) == 3 * 8, "half of three images' 16 patches"
        assert torch.equal(memory.labels.argmax(-1), cell[:3, 2:].flatten())
        assert torch.allclose(memory.keys.norm(dim=-1), torch.ones(24))

    def test_sampling_favours_rare_classes_and_the_generator_decides(self):
        cell = torch.zeros(200, 8, 8, dtype=torch.long)
        cell[:, 0, 0] = 1  # one patch of 64
        labels = cell.to(torch.uint8)
        features = torch.rand(200, 8, 8, 3, generator=generator()) + 0.1
        first, again, other = (readout.build_memory(features, labels, 2, generator(s), 6) for s in (0, 0, 1))
        assert len(first.keys) == 1200
        assert torch.equal(first.keys, again.keys) and not torch.equal(first.keys, other.keys)
        assert first.labels[:, 1].sum() > 190, "uniform sampling would take 19 of the 200"

    def test_each_image_gives_as_many(self):
        cell, labels = maps(5, 6)
        assert len(readout.build_memory(features_of(cell, 0.1, 0), labels, CLASSES, generator(), 10).keys) == 50
        assert len(readout.build_memory(features_of(cell, 0.1, 0), labels, CLASSES, generator(), None).keys) == 80


class TestIou:
    def test_agrees_with_scikit_learn(self):
        truth, preds = (torch.randint(3, (4, 9, 9), generator=generator(s), dtype=torch.uint8) for s in (0, 1))
        truth[:, :3] = 255
        counts = readout.confusion(preds, truth, CLASSES)
        known = truth != 255
        expected = confusion_matrix(truth[known], preds[known], labels=range(CLASSES))
        assert np.array_equal(counts.sum(0), expected)
        assert np.array_equal(
            counts[2], confusion_matrix(truth[2][known[2]], preds[2][known[2]], labels=range(CLASSES))
        )
        scores = jaccard_score(truth[known], preds[known], average=None, labels=range(3))
        found = readout.iou(counts.sum(0))
        assert found[:3].tolist() == pytest.approx(list(scores))
        assert found[3].isnan(), "a class that nobody saw or predicted is left out of the mean"
        assert float(readout.mean_iou(counts.sum(0))) == pytest.approx(scores.mean())

    def test_the_interval_is_over_scenes(self):
        truth = torch.randint(2, (30, 8, 8), generator=generator(0), dtype=torch.uint8)
        wrong = torch.rand(30, 8, 8, generator=generator(1)) < torch.linspace(0, 0.6, 30)[:, None, None]
        counts = readout.confusion(torch.where(wrong, 1 - truth, truth), truth, 2)
        rng = np.random.default_rng
        apart = readout.mean_iou_interval(counts, [f"scene-{i}" for i in range(30)], rng(0))
        together = readout.mean_iou_interval(counts, [f"scene-{i // 10}" for i in range(30)], rng(0))
        assert apart.mean == together.mean == pytest.approx(float(readout.mean_iou(counts.sum(0))))
        assert (apart.n, together.n) == (30, 3)
        assert apart.low < apart.mean < apart.high
        assert together.high - together.low > 1.3 * (apart.high - apart.low), (
            "thirty frames of three drives are three drives"
        )
        only = readout.mean_iou_interval(counts, ["scene-0"] * 30, rng(0))
        assert only.low == only.high == only.mean


def test_what_does_not_fit_is_refused():
    cell, labels = maps(2, 0)
    features = features_of(cell, 0.1, 0)
    with pytest.raises(InvalidShape, match="a label is 7; known: 0 to 3, and 255 for none"):
        readout.patch_labels(torch.full_like(labels, 7), (4, 4), CLASSES)
    with pytest.raises(InvalidShape, match=r"must be \(N, H, W\) integers"):
        readout.patch_labels(labels.float(), (4, 4), CLASSES)
    with pytest.raises(InvalidShape, match="cannot fill a grid of 32 × 4"):
        readout.patch_labels(labels, (32, 4), CLASSES)
    with pytest.raises(InvalidShape, match=r"must be \(N, h, w, d\)"):
        readout.build_memory(features[0], labels, CLASSES, generator())
    with pytest.raises(InvalidShape, match="no pixel of 2 label maps is labelled"):
        readout.build_memory(features, torch.full_like(labels, 255), CLASSES, generator())
    with pytest.raises(InvalidShape, match="16 of 32 features are zero"):
        readout.build_memory(
            features * torch.tensor([0.0, 1.0])[:, None, None, None], labels, CLASSES, generator(), None
        )
    with pytest.raises(InvalidParameter, match="k must be 1 to 20, the number of keys, not 30"):
        readout.class_shares(readout.build_memory(features, labels, CLASSES, generator()), features, k=30)
    with pytest.raises(InvalidShape, match="one shape"):
        readout.confusion(labels[:1], labels, CLASSES)
    with pytest.raises(InvalidShape, match="a predicted class is 3; known: 0 to 2"):
        readout.confusion(torch.full_like(labels, 3), torch.zeros_like(labels), 3)
    with pytest.raises(InvalidShape, match="2 images need as many names of scenes, at least one, not 1"):
        readout.mean_iou_interval(torch.zeros(2, 3, 3), ["a"], np.random.default_rng(0))
