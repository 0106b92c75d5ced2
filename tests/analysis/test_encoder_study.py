import numpy as np
import pandas as pd
import pytest
import torch

from wamlab.analysis import encoders
from wamlab.analysis.explained import explained, learning
from wamlab.errors import InvalidParameter
from wamlab.probing import TARGETS, Labelled, MlpConfig, collect, fit_linear, fit_mlp, scene_rmse
from wamlab.types import Scene

LOOKS = ({"time": "day", "weather": "clear"}, {"time": "night", "weather": "rain"})
#: How much noise hides the actions in each made-up encoder's embeddings.
NOISE = {
    "vjepa2-rep64/embedded": 0.1,
    "vjepa2-rep1/embedded": 0.6,
    "dinov2-s14/embedded": 1.0,
    "vit-s16/embedded": 1.5,
    "vq/embedded": 3.0,
    "vq/random": 9.0,
}


def scene(name: str, split: str, rng: np.random.Generator) -> Scene:
    actions = rng.normal(0, [1.5, 0.8, 3], (12, 3)).astype(np.float32)
    index = int(name[-4:])
    return Scene(name, split, np.arange(12) / 2, (), actions, np.zeros((12, 3)), attributes=LOOKS[index % 2])


@pytest.fixture(scope="module")
def splits() -> dict:
    rng = np.random.default_rng(0)
    counts = {"train": 20, "val": 4, "test": 12}
    names = iter(range(1, 100))
    return {split: [scene(f"scene-{next(names):04d}", split, rng) for _ in range(n)] for split, n in counts.items()}


@pytest.fixture(scope="module")
def study(splits) -> encoders.EncoderStudy:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(2, 16, generator=generator)
    embeddings = {
        encoder: {
            s.name: torch.from_numpy(s.actions[:, :2]) @ mixing + noise * torch.randn(12, 16, generator=generator)
            for part in splits.values()
            for s in part
        }
        for encoder, noise in NOISE.items()
    }
    quick = MlpConfig(hidden=32, batch_size=64, epochs=40, learning_rate=0.01)
    probes = {"mlp": lambda train, validation: fit_mlp(train, config=quick), "linear": fit_linear}
    errors = encoders.probe_encoders(embeddings, splits, probes)
    return encoders.analyse(errors, {s.name: s.attributes for s in splits["test"]}, "made-up data")


def test_errors_of_all_probes_and_baselines(study):
    assert list(study.errors.columns) == ["scene", "encoder", "probe", "seed", "target", "rmse"]
    assert len(study.errors) == 12 * 2 * (len(NOISE) * (3 + 1) + 2)
    baselines = study.errors[study.errors.encoder == encoders.NO_ENCODER]
    assert set(baselines.probe) == {"mean action", "last action"}


def test_encoders_are_ranked_by_what_they_hide(study):
    steering = study.ranking[study.ranking.target == "steering_rad"]
    assert list(steering.encoder) == list(NOISE)
    assert list(steering["rank"]) == [1, 2, 3, 4, 5, 6]
    assert list(steering.paper[:5]) == [0.058, 0.097, 0.104, 0.121, 0.126]
    assert np.isnan(steering.paper.iloc[5]), "the paper has no twin that was never trained"
    assert study.metrics["steering_rad/vq/embedded/linear"] > study.metrics["steering_rad/vjepa2-rep64/embedded/linear"]


def test_pairs_are_corrected_within_each_target(study):
    assert list(study.pairs.groupby("target").size()) == [10, 10], "five encoders; the untrained twin is none"
    assert np.allclose(study.pairs.p_bonferroni, np.minimum(1, 10 * study.pairs.p))


def test_conditions_have_their_rows(study):
    rows = study.buckets.groupby(["target", "encoder"]).bucket.agg(list)
    assert set(map(tuple, rows)) == {("night", "rain", "day-clear")}
    assert set(study.buckets.n) == {6}


def test_findings_say_what_was_measured(study):
    verdicts = {f.claim.split(" (")[0]: f for f in study.findings}
    assert len(verdicts) == 5
    clip = verdicts["A clip tells more of the steering than its last frame, to the same model"]
    assert clip.verdict == "reproduced"
    rmse = (
        study.errors[(study.errors.probe == "mlp") & (study.errors.target == "steering_rad")]
        .groupby("encoder")
        .rmse.mean()
    )
    assert clip.measured == pytest.approx(rmse["vjepa2-rep64/embedded"] - rmse["vjepa2-rep1/embedded"])
    assert clip.interval[0] < clip.measured < clip.interval[1] < 0
    assert clip.measured_on == "made-up data, 12 held-out scenes, 3 seeds"
    assert verdicts["Features made for reconstruction come last"].verdict == "reproduced", "its twin does not count"
    twin = verdicts["Pretraining tells more of the steering than the same network untrained"]
    assert twin.measured == pytest.approx(rmse["vq/embedded"] - rmse["vq/random"])
    assert study.answer.startswith(
        "V-JEPA 2, 16 frames tells the steering best: over 12 held-out drives the probe errs by 0."
    )
    assert "the mean action errs by 0.2" in study.answer


def test_what_was_not_probed_is_not_claimed(study):
    two = study.errors[study.errors.encoder.isin(["vq/embedded", "vq/random"])]
    attributes = {name: LOOKS[0] for name in two.scene}
    found = encoders.analyse(two, attributes, "made-up data")
    assert [f.claim.split(" tells")[0] for f in found.findings] == ["Pretraining"]
    assert "mean action" not in found.answer


def test_a_probe_that_is_fitted_already_is_not_fitted_again(splits):
    """It alone, and not another family's of the same encoder."""
    of_scene = {s.name: torch.from_numpy(s.actions[:, :2]) for part in splits.values() for s in part}
    embeddings = {"vq/embedded": of_scene, "vq/random": of_scene}
    asked, fitted = [], fit_linear(collect(splits["train"], of_scene))

    def fit(family):
        return lambda train, validation: asked.append(family) or fit_linear(train)

    probes = {family: fit(family) for family in ("mlp", "linear")}
    found = encoders.probe_encoders(embeddings, splits, probes, fitted={"vq/embedded": fitted})
    assert sorted(asked) == ["linear", "linear", "mlp"]
    rows = found[found.probe.isin(probes)]
    assert (rows.groupby(["target", "scene"]).rmse.nunique() == 1).all(), "all four are of the same data"


def test_no_encoders_are_refused(splits):
    with pytest.raises(InvalidParameter, match="no embeddings"):
        encoders.probe_encoders({}, splits)


def test_the_share_explained_is_of_the_squared_error_of_the_mean(splits):
    """Against the coefficient of determination by scikit-learn, on scenes of one length; who says the mean explains nothing."""
    from sklearn.metrics import r2_score

    rng, test = np.random.default_rng(0), splits["test"]
    truth = np.concatenate([s.actions[:, :2] for s in test]).clip([-6, -10], [6, 10])
    names = tuple(s.name for s in test for _ in range(len(s)))
    data = Labelled(torch.zeros(len(truth), 1), torch.from_numpy(truth), names)
    centre = torch.from_numpy(truth.mean(0)).expand(1, len(truth), 2)
    told = {
        (encoders.NO_ENCODER, "mean action"): centre,
        ("good", "mlp"): torch.from_numpy(truth + rng.normal(0, 0.3, truth.shape).astype(np.float32))[None],
        ("blind", "mlp"): centre.repeat(3, 1, 1),
    }
    errors = pd.concat(
        scene_rmse(said, data, range(len(said)), "published", encoder=encoder, probe=probe)
        for (encoder, probe), said in told.items()
    )
    table = explained(errors, rng).set_index(["target", "encoder"])
    for i, target in enumerate(TARGETS):
        want = r2_score(truth[:, i], told["good", "mlp"][0, :, i])
        assert table.loc[(target, "good"), "mean"] == pytest.approx(want, rel=1e-4)
        assert table.loc[(target, "good"), "low"] < want < table.loc[(target, "good"), "high"] <= 1
        assert table.loc[(target, "blind"), ["mean", "low", "high"]].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_more_drives_explain_more(splits):
    """Embeddings that hold the actions under noise: a linear law in 64 dimensions is not learned from two drives as from 20."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(2, 64, generator=generator)
    embeddings = {
        "a": {
            s.name: torch.from_numpy(s.actions[:, :2]) @ mixing + 8 * torch.randn(12, 64, generator=generator)
            for part in splits.values()
            for s in part
        }
    }
    errors = encoders.probe_encoders(embeddings, splits, {"mlp": fit_mlp})
    whole = explained(errors, np.random.default_rng(0))
    found = learning(embeddings, splits, whole, np.random.default_rng(0), shares=(0.125,))
    steering = found[found.target == "steering_rad"]
    assert steering.drives.tolist() == [2, 20] and set(found.encoder) == {"a"} and set(found.n) == {12}
    assert steering["mean"].iloc[1] > steering["mean"].iloc[0] + 0.05
    assert steering["mean"].iloc[1] == whole[(whole.encoder == "a") & (whole.target == "steering_rad")]["mean"].item()
    same = learning(embeddings, splits, whole, np.random.default_rng(0), shares=(1.0,))
    assert same["mean"].to_numpy()[:2] == pytest.approx(same["mean"].to_numpy()[2:], rel=1e-3), (
        "of all drives, the same"
    )


def test_the_answer_says_when_nothing_is_told(study, splits):
    """Of encoders that know nothing, the sentence does not call one the best."""
    errors = study.errors[study.errors.encoder.isin(["vq/random", encoders.NO_ENCODER])].copy()
    other = errors[errors.encoder == "vq/random"].assign(encoder="vq/embedded", rmse=lambda t: t.rmse + 1)
    blind = pd.concat([errors.assign(rmse=errors.rmse + (errors.encoder == "vq/random")), other], ignore_index=True)
    answer = encoders.analyse(blind, {s.name: s.attributes for s in splits["test"]}, "made-up data").answer
    assert answer.startswith(
        "No encoder tells the steering here, and VQ tokenizer, untrained misleads the probe least: over 12"
    )
    assert answer.endswith("no probe beats either.")
