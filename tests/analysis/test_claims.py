"""Measures and judgements of the diagnosis, on tables and pictures with known answers."""

import numpy as np
import pandas as pd
import pytest
import torch

from wamlab import statistics
from wamlab.analysis.claims import CLAIMS, FIRST, HYPOTHESES, INGREDIENTS, LAST, Claim, evaluate
from wamlab.analysis.controlled import cells, kernel_cells, motion_cells
from wamlab.analysis.diagnosis import TITLES, VARIANTS, answer, claim_table, gap_curves, level_table
from wamlab.analysis.rollouts import Rollouts
from wamlab.metrics.distribution import kernel_distance
from wamlab.metrics.features import Extractor, FeatureStream
from wamlab.plots import diagnosis as draw
from wamlab.statistics import Undefined

SCENES, SEEDS = 12, 3
BY_KEY = {claim.key: claim for claim in CLAIMS}


def table(levels: dict, metric: str = "cosine", slope: float = 0.0, noise: float = 0.01) -> pd.DataFrame:
    """variant, seed, scene, time_s and the metric: a level for each variant, harder and easier scenes, a little noise."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.2, SCENES)
    rows = [
        (name, seed, f"scene-{i:04d}", t, level + hard[i] + slope * t * (name == "pooled x0") + rng.normal(0, noise))
        for name, level in levels.items()
        for seed in range(SEEDS)
        for i in range(SCENES)
        for t in (0.5, 1.0, 1.5)
    ]
    return pd.DataFrame(rows, columns=["variant", "seed", "scene", "time_s", metric])


def judged(key: str, tables) -> tuple:
    claim = BY_KEY[key]
    found = evaluate(claim, tables, np.random.default_rng(0))
    return found, statistics.verdict(found, claim.claimed, claim.threshold)


@pytest.mark.parametrize(
    ("x0", "noise", "verdict"),
    [(0.55, 0.03, "reproduced"), (0.35, 0.03, "not reproduced"), (0.47, 0.15, "inconclusive")],
)
def test_the_share_of_a_gap(x0, noise, verdict):
    levels = {"pooled mlp": 0.7, "pooled eps": 0.2, "pooled x0": x0}
    found, said = judged("H2", [table(levels, noise=noise)])
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx((x0 - 0.2) / 0.5, abs=noise)
    assert said == verdict


def test_a_share_of_nothing_is_undefined():
    found, said = judged("H2", [table({"pooled mlp": 0.5, "pooled eps": 0.5, "pooled x0": 0.6})])
    assert isinstance(found, Undefined) and "no gap" in found.reason
    assert said == "inconclusive"


@pytest.mark.parametrize(
    ("direct", "verdict"), [(0.6, "reproduced"), (0.62, "reproduced"), (0.5, "not reproduced")], ids=str
)
def test_alike_is_within_a_margin(direct, verdict):
    assert judged("H1", [table({"pooled mlp": 0.6, "pooled direct": direct}, noise=0.003)])[1] == verdict


@pytest.mark.parametrize(("slope", "verdict"), [(0.1, "not reproduced"), (0.0, "reproduced"), (-0.1, "reproduced")])
def test_the_trend_over_the_horizon(slope, verdict):
    found, said = judged("H3, trend", [table({"pooled mlp": 0.6, "pooled x0": 0.4}, slope=slope, noise=0.002)])
    assert found.mean == pytest.approx(slope, abs=0.01), "over one second"
    assert said == verdict


def test_an_interaction_is_a_difference_of_differences():
    levels = {
        "pooled direct": 0.7,
        "pooled direct, first action": 0.6,
        "pooled mlp": 0.65,
        "pooled mlp, first action": 0.62,
    }
    found, said = judged("H4", [table(levels)])
    assert found.mean == pytest.approx(0.1 - 0.03, abs=0.01)
    assert said == "reproduced"
    swapped = {
        name.replace("direct", "_").replace("mlp", "direct").replace("_", "mlp"): v for name, v in levels.items()
    }
    assert judged("H4", [table(swapped)])[1] == "not reproduced"


def test_pairing_by_scene_makes_small_differences_sure():
    """Scenes differ by 0.2, the variants by 0.02: only the paired interval tells."""
    found, said = judged("distortion", [table({"direct": 0.52, "diffusion": 0.5})])
    assert said == "reproduced"
    assert found.high - found.low < 0.02


def test_what_was_not_measured_is_undefined():
    frames = table({"direct": 0.5})
    assert "diffusion was not measured" in judged("distortion", [frames])[0].reason
    assert "nothing of kd" in judged("realism", [frames])[0].reason
    one = frames[frames.scene == "scene-0000"]
    both = pd.concat([one, one.assign(variant="diffusion")])
    assert "1 drives" in judged("distortion", [both])[0].reason


def test_a_single_seed_has_an_interval_over_scenes():
    both = table({"direct": 0.6, "diffusion": 0.5})
    found, said = judged("distortion", [both[both.seed == 0]])
    assert (found.n, said) == (SCENES, "reproduced")


def test_claims_are_about_variants_that_are_trained():
    for claim in CLAIMS:
        for name in (*claim.of, *(claim.per or ())):
            assert (name if isinstance(name, str) else name[0]) in VARIANTS
            assert isinstance(name, str) or name[1] in (FIRST, LAST)
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    assert {f"without {name}" for name in INGREDIENTS} <= {claim.key for claim in CLAIMS}
    assert set(VARIANTS) == set(TITLES)
    assert all(isinstance(claim, Claim) for claim in HYPOTHESES)


def test_the_answer_follows_from_the_intervals():
    rng = np.random.default_rng(0)
    levels = {name: 0.5 for name in VARIANTS} | {"pooled eps": 0.1, "pooled x0": 0.45, "diffusion": 0.55, "eps": 0.2}
    levels |= {"one token": 0.55, "unanchored": 0.55}
    frames, drives = table(levels, noise=0.02), table({"direct": 0.9, "diffusion": 0.1, "one step": 0.6}, "kd", noise=0)
    drives["kd"] = drives.kd.groupby(drives.variant).transform("mean")
    found = {claim.key: evaluate(claim, (frames, drives), rng) for claim in CLAIMS}
    means = pd.Series({("cosine", name): level for name, level in levels.items()})
    said = answer(found, means)
    assert "88%" in said, "0.35 of 0.4"
    assert "it needs the x0 objective and sampling" in said
    assert "does better without" not in said
    assert "0.50, diffusion's 0.55" in said
    assert "12% [" in said, "0.1 of 0.9, and what is hard about the scenes"
    levels["one token"] = 0.7
    found["without spatial tokens"] = evaluate(BY_KEY["without spatial tokens"], (table(levels, noise=0.02),), rng)
    assert "does better without spatial tokens" in answer(found, means)
    nothing = answer({claim.key: Undefined("made up") for claim in CLAIMS}, means)
    assert "none of the four ingredients" in nothing and "no gap to recover" in nothing


def test_gaps_are_taken_drive_by_drive():
    curves = gap_curves(table({"pooled mlp": 0.6, "pooled x0": 0.4}, slope=0.1, noise=0.001), np.random.default_rng(0))
    assert list(curves.variant.unique()) == ["pooled x0"]
    assert curves["mean"].tolist() == pytest.approx([-0.15, -0.1, -0.05], abs=0.005)
    assert (curves.high - curves.low < 0.02).all()


def made_up(horizon: int = 3) -> Rollouts:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(6, horizon, 4, 5, 5, generator=generator)
    scenes = tuple(f"scene-{i:04d}" for i in range(6))
    return Rollouts(
        scenes, ("",) * 6, truth[:, 0], truth, {}, torch.zeros(6, horizon, 3), np.arange(1, horizon + 1) / 2
    )


def test_error_is_that_of_the_mean_and_the_spread():
    rolled, generator = made_up(), torch.Generator().manual_seed(1)
    drawn = rolled.truth + 0.5 + 0.3 * torch.randn(40, *rolled.truth.shape, generator=generator)
    found = cells(rolled, drawn, variant="x", seed=0)
    assert found.spread.mean() == pytest.approx(0.3**2, rel=0.02)
    assert (found.error - found.spread).mean() == pytest.approx(0.5**2, rel=0.02)
    sure = cells(rolled, rolled.truth[None], variant="x", seed=0)
    assert (sure.error == 0).all() and (sure.spread == 0).all()
    assert sure.cosine.to_numpy() == pytest.approx(1)
    assert sure[["scene", "time_s"]].iloc[:4].to_numpy().tolist() == [
        ["scene-0000", 0.5], ["scene-0000", 1.0], ["scene-0000", 1.5], ["scene-0001", 0.5],
    ]  # fmt: skip


EXTRACTOR = Extractor("made-up", "0", "none", lambda frames: frames)


def test_jackknife_values_have_the_distance_as_their_mean():
    generator, scenes = torch.Generator().manual_seed(0), [f"scene-{i:04d}" for i in range(15)]
    truth = torch.randn(15, 2, 8, generator=generator)
    other = truth[torch.randperm(15, generator=generator)] + 0.8
    far = kernel_cells(other, truth, scenes, EXTRACTOR, variant="x", seed=0)
    samples = [(scene, t) for scene in scenes for t in range(2)]
    streams = [FeatureStream(EXTRACTOR).add(x.flatten(0, 1), samples) for x in (other, truth)]
    whole = kernel_distance(*streams, subset_size=30, num_subsets=1).value
    assert far.kd.mean() == pytest.approx(whole, rel=0.1)
    near = kernel_cells(torch.randn(15, 2, 8, generator=generator), truth, scenes, EXTRACTOR, variant="x", seed=0)
    assert near.kd.mean() < whole / 5
    assert list(far) == ["variant", "seed", "scene", "kd"]


def test_displacement_against_the_truth():
    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(3, 3, 64, 64, generator=generator) * 255).to(torch.uint8)
    first = torch.nn.functional.avg_pool2d(first.float(), 5, 1, 2).to(torch.uint8)

    def film(shift: int) -> torch.Tensor:
        return torch.stack([first.roll((k * shift, k * shift), (-1, -2)) for k in range(4)], dim=1)

    names = ["a", "b", "c"]
    same = motion_cells(film(2), film(2), names, variant="x", seed=0)
    assert same.direction.to_numpy() == pytest.approx(1, abs=0.02)
    assert same.magnitude.to_numpy() == pytest.approx(1, abs=0.05)
    assert (same.valid == 3).all()
    assert motion_cells(film(-2), film(2), names, variant="x", seed=0).direction.to_numpy() == pytest.approx(
        -1, abs=0.02
    )
    assert motion_cells(film(4), film(2), names, variant="x", seed=0).magnitude.to_numpy() == pytest.approx(2, abs=0.2)
    still = motion_cells(film(0), film(2), names, variant="x", seed=0)
    assert still.direction.to_numpy() == pytest.approx(0, abs=0.01)
    nothing = motion_cells(film(2), film(0), names, variant="x", seed=0)
    assert nothing.direction.isna().all() and (nothing.valid == 0).all()


def test_figures_do_without_what_was_not_measured():
    """Two drives have no kernel distance, and none may move."""
    rng = np.random.default_rng(0)
    frames = table({name: 0.5 for name in VARIANTS}).assign(error=1.0, spread=0.1)
    drives = table({"direct": 0.4, "diffusion": 0.2}, "direction").assign(magnitude=1.0)
    levels = level_table(frames, drives, rng)
    assert "kd" not in set(levels.metric)
    claims = claim_table(
        {c.key: Undefined("no") for c in CLAIMS}, [statistics.finding("", "", Undefined("no"), "")] * len(CLAIMS)
    )
    for figure in (
        draw.ingredient_dots(levels),
        draw.frontier(levels),
        draw.motion_dots(levels),
        draw.error_bars(levels),
    ):
        assert figure.layout.title.subtitle.text
    assert set(draw.hypothesis_table(claims).measured) == {"not measured"}
    assert len(draw.level_text(levels)) == len(VARIANTS)
    nothing = draw.pooled_dots(levels[:0], gap_curves(frames[:0], rng))
    assert "0 held-out drives" in nothing.layout.title.subtitle.text
