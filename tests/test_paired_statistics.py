"""Paired tests, corrections, BCa and rankings: against scipy, by hand, and against the table the DiT-WAM authors published."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import null_space

from wamlab import statistics
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName

ENCODERS = ("clip", "dinov2", "vit", "vjepa2-rep1", "vjepa2-rep64", "vq")
#: Mean steering RMSE over the 150 test scenes, in units of 6 rad, and of each pair of encoders t and Cohen's d: published beside the
#: paper's code (outputs/analysis of dlcv-team/latent-world-models-av).
MEANS = (0.11746298606341625, 0.10419111783666286, 0.1206800409387993)
MEANS += (0.0974282536505648, 0.05792361575188643, 0.12602716667516653)
PUBLISHED = {
    (0, 1): (3.9937455041776855, 0.00010183433819861725, 0.3260879549256558),
    (0, 2): (-1.2863235031808133, 0.20032534235279617, -0.10502787423141091),
    (0, 3): (5.447506791699218, 2.0634952144699567e-07, 0.4447870670002978),
    (0, 4): (10.046304569780384, 1.8728657687673908e-18, 0.8202773332184272),
    (0, 5): (-1.7836939832592198, 0.07650889369959755, -0.14563800387525097),
    (1, 2): (-6.129138218149248, 7.536742364250034e-09, -0.5004420399152317),
    (1, 3): (2.708545379164574, 0.0075490991472709785, 0.2211518041375466),
    (1, 4): (11.108831326013632, 2.8964820920606128e-21, 0.907032279579295),
    (1, 5): (-4.6455366499971, 7.397543188340959e-06, -0.37930647912970744),
    (2, 3): (7.558731324103302, 3.838864801511262e-12, 0.617167828228165),
    (2, 4): (11.948061648299566, 1.679812825111507e-23, 0.9755551484550286),
    (2, 5): (-1.247328431263425, 0.21423405092394346, -0.10184393994205306),
    (3, 4): (8.342187347623623, 4.5374328857880255e-14, 0.6811367446793224),
    (3, 5): (-6.575489723164528, 7.68620553611168e-10, -0.5368864876889238),
    (4, 5): (-11.04197990252783, 4.3614497843092274e-21, -0.9015738837086639),
}


def long(errors: np.ndarray, names=ENCODERS, seeds: int = 1) -> pd.DataFrame:
    """A table with a row for each scene and encoder of (N, E) errors; the seeds' errors scatter around them with mean zero."""
    offsets = np.linspace(-0.01, 0.01, seeds) if seeds > 1 else [0.0]
    rows = [
        (f"scene-{i:04d}", name, seed, errors[i, e] + offset)
        for e, name in enumerate(names)
        for seed, offset in enumerate(offsets)
        for i in range(len(errors))
    ]
    return pd.DataFrame(rows, columns=["scene", "encoder", "seed", "rmse"])


def errors_like_published(n: int = 150) -> np.ndarray:
    """(150, 6) errors with the published means whose pairwise differences have the published spreads (classical scaling)."""
    squared = np.zeros((6, 6))
    for (a, b), (_, _, d) in PUBLISHED.items():
        squared[a, b] = squared[b, a] = ((MEANS[a] - MEANS[b]) / d) ** 2 * (n - 1)
    centring = np.eye(6) - 1 / 6
    power, vectors = np.linalg.eigh(-centring @ squared @ centring / 2)
    assert power[1:].min() > 0 and abs(power[0]) < 1e-9  # six points in five dimensions: the spreads are possible
    points = vectors[:, 1:] * np.sqrt(power[1:])  # (6, 5), at the published distances
    directions = null_space(np.ones((1, n)))[:, :5]  # orthonormal, each with mean zero
    return np.array(MEANS) + directions @ points.T


@pytest.fixture(scope="module")
def simulated() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.gamma(2, 0.05, (60, 1)) + rng.normal(np.linspace(0, 0.02, 4), 0.02, (60, 4))


def test_published_errors_give_the_published_table():
    found = statistics.compare_pairs(long(errors_like_published(), seeds=3), "rmse", "encoder")
    assert len(found) == 15
    for row, ((a, b), (t, p, d)) in zip(found.itertuples(), PUBLISHED.items(), strict=True):
        assert (row.a, row.b, row.n) == (ENCODERS[a], ENCODERS[b], 150)
        assert (row.difference, row.t, row.d) == pytest.approx((MEANS[a] - MEANS[b], t, d), rel=1e-7)
        assert (row.p, row.p_bonferroni) == pytest.approx((p, min(1.0, 15 * p)), rel=1e-5)
    ranked = statistics.ranking(long(errors_like_published()), "rmse", "encoder", np.random.default_rng(0))
    assert list(ranked.encoder) == ["vjepa2-rep64", "vjepa2-rep1", "dinov2", "clip", "vit", "vq"]
    assert list(ranked["mean"].round(3)) == [0.058, 0.097, 0.104, 0.117, 0.121, 0.126]


def test_pairs_agree_with_scipy(simulated):
    names = ("a", "b", "c", "d")
    found = statistics.compare_pairs(long(simulated, names, seeds=3), "rmse", "encoder").set_index(["a", "b"])
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        theirs = stats.ttest_rel(simulated[:, i], simulated[:, j])
        differences = simulated[:, i] - simulated[:, j]
        row = found.loc[(a, b)]
        assert (row.t, row.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
        assert row.d == pytest.approx(differences.mean() / np.std(differences, ddof=1))
        assert row.p_bonferroni == pytest.approx(min(1, 6 * theirs.pvalue))


@pytest.mark.parametrize("skewed", [False, True])
def test_bca_agrees_with_scipy(skewed):
    rng = np.random.default_rng(1)
    values = rng.gamma(0.5, size=40) if skewed else rng.normal(size=40)
    ours = statistics.bootstrap_mean(values, np.random.default_rng(2), 20_000, method="bca")
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", random_state=3).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015 * values.std())
    plain = statistics.bootstrap_mean(values, np.random.default_rng(2), 20_000)
    assert (ours.high - plain.high > 0.03 * values.std()) == skewed


def test_bca_takes_columns_and_constants():
    values = np.random.default_rng(0).gamma(1.0, size=(30, 2, 3))
    together = statistics.bootstrap_mean(values, np.random.default_rng(1), method="bca")
    alone = statistics.bootstrap_mean(values[:, 1, 2], np.random.default_rng(1), method="bca")
    assert (together.low[1, 2], together.high[1, 2]) == pytest.approx((alone.low, alone.high))
    constant = statistics.bootstrap_mean(np.full(7, 0.3), np.random.default_rng(1), method="bca")
    assert (constant.low, constant.high) == pytest.approx((0.3, 0.3))


def test_cohens_d_by_hand():
    assert statistics.cohens_d(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert statistics.cohens_d(np.array([-1.0, -2.0, -3.0])) == pytest.approx(-2.0)


def test_equal_differences_leave_nothing_to_test():
    a = np.array([0.1, 0.2, 0.4])
    same, apart = statistics.paired_test(a, a), statistics.paired_test(a + 0.1, a)
    assert (same.t, same.p, same.d) == (0, 1, 0)
    assert (apart.t, apart.p, apart.d) == (np.inf, 0, np.inf)


def test_corrections_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert statistics.bonferroni(p) == pytest.approx([0.04, 0.16, 0.12, 0.02])
    assert statistics.holm(p) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # 4 × .005, 3 × .01, 2 × .03, max(.06, 1 × .04)
    assert statistics.holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng, alpha = np.random.default_rng(0), 0.05
    for p in rng.uniform(size=(200, 6)) ** 4:
        ordered = np.sort(p)
        stop = next((i for i, x in enumerate(ordered) if x > alpha / (6 - i)), 6)
        assert np.array_equal(statistics.holm(p) <= alpha, np.isin(p, ordered[:stop]))
        assert np.all(statistics.holm(p) <= statistics.bonferroni(p))


def test_ranking_says_how_sure_the_first_place_is():
    rng = np.random.default_rng(0)
    hard = rng.gamma(2, 1, (80, 1))  # scenes differ far more than encoders do
    clear = hard + np.array([0.10, 0.0, 0.12]) + rng.normal(0, 0.01, (80, 3))
    found = statistics.ranking(long(clear, ("a", "b", "c")), "rmse", "encoder", np.random.default_rng(1))
    assert list(found.encoder) == ["b", "a", "c"]
    assert list(found["rank"]) == [1, 2, 3]
    assert found.high[0] > found["mean"][1], "the intervals overlap"
    assert found["first"][0] == 1, "and yet b is first on every draw of the scenes"
    tied = hard + rng.normal(0, 0.5, (80, 2))
    assert 0.01 < statistics.ranking(long(tied, ("a", "b")), "rmse", "encoder", rng)["first"].min() < 0.5


def test_what_cannot_be_compared_is_refused():
    table = long(np.random.default_rng(0).normal(size=(5, 2)), ("a", "b"))
    with pytest.raises(InvalidShape, match=r"N ≥ 2 of the same scenes, not \(3,\) and \(4,\)"):
        statistics.paired_test(np.ones(3), np.ones(4))
    with pytest.raises(InvalidShape, match="two scenes"):
        statistics.cohens_d(np.ones(1))
    with pytest.raises(InvalidShape, match="1 of 5 values"):
        statistics.compare_pairs(table.iloc[1:], "rmse", "encoder")
    with pytest.raises(InvalidParameter, match="1 level"):
        statistics.compare_pairs(table[table.encoder == "a"], "rmse", "encoder")
    with pytest.raises(UnknownName, match="unknown bootstrap method 'basic'; known: bca, percentile"):
        statistics.bootstrap_mean(np.ones(3), np.random.default_rng(0), method="basic")
