import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from wamlab.errors import InvalidParameter, InvalidShape, UnknownName
from wamlab.probing import BUCKETS, Labelled, bucket_table, change_table, scene_rmse

ATTRIBUTES = {
    "a": {"time": "night", "weather": "rain"},
    "b": {"time": "night", "weather": "clear"},
    "c": {"time": "day", "weather": "overcast"},
    "d": {"time": "dusk", "weather": "clear"},
    "e": {"time": "day", "weather": "rain"},
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def table(values: dict, seeds: int = 1) -> pd.DataFrame:
    """`values`: encoder -> one error a scene."""
    rows = [
        (scene, encoder, seed, error)
        for encoder, errors in values.items()
        for scene, error in zip(ATTRIBUTES, errors, strict=True)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["scene", "encoder", "seed", "rmse"])


class TestSceneRmse:
    data = Labelled(torch.zeros(3, 1), torch.tensor([[0.0, 0], [0, 1], [9, 2]]), ("a", "a", "b"))
    predictions = torch.tensor([[[3.0, 0], [-4, 1], [9, 2]], [[1.0, 0], [1, 1], [3, 7]]])

    def test_by_hand(self):
        found = scene_rmse(self.predictions, self.data, (0, 7), encoder="vit")
        assert list(found.columns) == ["scene", "encoder", "seed", "target", "rmse"]
        errors = found.set_index(["scene", "seed", "target"]).rmse
        assert errors["a", 0, "steering_rad"] == pytest.approx(np.sqrt(12.5))
        assert errors["a", 7, "steering_rad"] == pytest.approx(1)
        assert errors["a", 0, "accel_mps2"] == 0
        assert (errors["b", 7, "steering_rad"], errors["b", 7, "accel_mps2"]) == pytest.approx((6, 5))
        assert len(found) == 2 * 2 * 2

    def test_published_units_cut_the_truth(self):
        errors = (
            scene_rmse(self.predictions, self.data, (0, 7), "published").set_index(["scene", "seed", "target"]).rmse
        )
        assert errors["a", 7, "steering_rad"] == pytest.approx(1 / 6)
        assert errors["b", 7, "accel_mps2"] == pytest.approx(0.5)
        assert errors["b", 0, "steering_rad"] == pytest.approx(9 / 6 - 1)

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(InvalidShape, match=r"finite and \(1, 3, 2\), not \(2, 3, 2\)"):
            scene_rmse(self.predictions, self.data, (0,))
        with pytest.raises(InvalidShape, match="finite"):
            scene_rmse(self.predictions * torch.nan, self.data, (0, 7))
        with pytest.raises(UnknownName, match="unknown units 'degrees'; known: published, si"):
            scene_rmse(self.predictions, self.data, (0, 7), "degrees")


class TestBuckets:
    def test_who_is_where(self):
        found = {bucket: "".join(s for s, a in ATTRIBUTES.items() if inside(a)) for bucket, inside in BUCKETS.items()}
        assert found == {"night": "ab", "rain": "ae", "fog": "", "day-clear": "cd"}

    def test_means_and_ratios_by_hand(self, rng):
        found = bucket_table(
            table({"vit": [4, 2, 1, 1, 6], "clip": [1, 1, 1, 3, 1]}, seeds=2), ATTRIBUTES, ["encoder"], rng
        )
        assert list(found.bucket) == ["night", "night", "rain", "rain", "day-clear", "day-clear"]
        rows = found.set_index(["encoder", "bucket"])
        assert list(rows["mean"]["vit"]) == [3, 5, 1]
        assert list(rows.n["vit"]) == [2, 2, 2]
        assert list(rows.ratio["vit"])[:2] == [3, 5]
        assert list(rows.ratio["clip"])[:2] == [0.5, 0.5]
        assert np.isnan(rows.ratio["vit", "day-clear"])
        assert (rows.low["vit", "rain"], rows.high["vit", "rain"]) == (4, 6)
        assert (rows.ratio_low["clip", "night"], rows.ratio_high["clip", "night"]) == pytest.approx((1 / 3, 1))

    def test_without_clear_days_there_is_no_ratio(self, rng):
        nights = table({"vit": [4, 2, 1, 1, 6]}).query("scene in ['a', 'b']")
        found = bucket_table(nights, ATTRIBUTES, ["encoder"], rng)
        assert list(found.bucket) == ["night", "rain"]
        assert "ratio" not in found

    def test_a_scene_without_attributes_is_refused(self, rng):
        with pytest.raises(InvalidParameter, match="no attributes of e"):
            bucket_table(table({"vit": [1] * 5}), {k: ATTRIBUTES[k] for k in "abcd"}, ["encoder"], rng)


class TestChanges:
    def test_agrees_with_scipy_and_is_paired(self, rng):
        before, harm = rng.gamma(2, 1, 5), np.array([0.1, 0.2, 0.15, 0.1, 0.2])
        tables = [
            table({"vit": before, "clip": before + 1}).assign(perturbation="none"),
            table({"vit": before + harm, "clip": before + 1 - 2 * harm}).assign(perturbation="blur"),
            table({"vit": before - harm}).assign(perturbation="noise"),
        ]
        found = change_table(pd.concat(tables), "perturbation", "none", ["encoder"], rng)
        assert list(zip(found.encoder, found.perturbation, strict=True)) == [
            ("vit", "blur"),
            ("vit", "noise"),
            ("clip", "blur"),
        ]
        assert list(found["mean"]) == pytest.approx([0.15, -0.15, -0.3])
        assert found.low[0] > 0.09 and found.high[0] < 0.21, "the spread between scenes cancels"
        p = stats.ttest_rel(before + harm, before).pvalue
        assert list(found.p) == pytest.approx([p] * 3)
        assert list(found.p_holm) == pytest.approx([3 * p] * 3)

    def test_an_unknown_baseline_is_refused(self, rng):
        with pytest.raises(UnknownName, match="unknown level of encoder 'none'; known: vit"):
            change_table(table({"vit": [1] * 5}), "encoder", "none", [], rng)

    def test_over_all_of_the_table(self, rng):
        found = change_table(table({"vit": [1, 2, 3, 4, 5], "clip": [1, 2, 3, 4, 6]}), "encoder", "vit", [], rng)
        assert (found.encoder[0], found["mean"][0]) == ("clip", pytest.approx(0.2))
