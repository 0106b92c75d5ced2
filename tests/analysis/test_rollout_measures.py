"""Rollouts with known answers: what stands still, what is blurred, what moves twice as far, and what cannot be measured."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import IdentityCodec

from wamlab import statistics
from wamlab.analysis import rollout_measures as measures
from wamlab.analysis import rollout_study
from wamlab.analysis.rollouts import Rollouts
from wamlab.metrics.features import Extractor
from wamlab.metrics.motion import motion_scores
from wamlab.plots.rollouts import error_over_horizon
from wamlab.plots.style import MODEL_STYLE
from wamlab.render import to_uint8
from wamlab.statistics import Interval, Undefined

SIDE, FRAMES, SCENES = 64, 5, 6


def video(seed: int, px_a_step: int) -> torch.Tensor:
    """(1 + FRAMES, 3, SIDE, SIDE) in [-1, 1]: a texture of blocks that moves to the right."""
    generator = torch.Generator().manual_seed(seed)
    texture = torch.rand(1, 1, 16, 32, generator=generator) * 1.6 - 0.8
    wide = torch.nn.functional.interpolate(texture, scale_factor=4)[0].expand(3, -1, -1)
    return torch.stack([wide[:, :, 48 - px_a_step * t : 48 - px_a_step * t + SIDE] for t in range(FRAMES + 1)])


def rollouts(predicted: dict[str, torch.Tensor], truth: torch.Tensor) -> Rollouts:
    return Rollouts(
        tuple(f"scene-{i:04d}" for i in range(len(truth))), ("day",) * len(truth), truth[:, 0], truth[:, 1:],
        {name: z[:, 1:] for name, z in predicted.items()}, torch.zeros(len(truth), FRAMES, 3), np.arange(1, FRAMES + 1) * 0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def films():
    one, two = (torch.stack([video(i, px) for i in range(SCENES)]) for px in (2, 4))
    return {
        "truth": one,
        "copy": one[:, :1].expand_as(one),
        "direct": torch.nn.functional.avg_pool2d(one.flatten(0, 1), 5, 1, 2).view_as(one),
        "jump": two,
    }


@pytest.fixture(scope="module")
def found(films):
    rolled = rollouts({k: v for k, v in films.items() if k != "truth"}, films["truth"])
    return measures.measure({0: rolled}, IdentityCodec(), chunk=4)


def said(found, model, metric):
    return measures.level(found, model, metric, np.random.default_rng(0))


def test_known_answers(found):
    assert said(found, "copy", "low").mean == said(found, "copy", "high").mean == 0
    assert said(found, "copy", "slope").mean == pytest.approx(0, abs=1e-9)
    assert said(found, "jump", "slope").mean == pytest.approx(2, abs=0.1)
    assert said(found, "jump", "magnitude").mean == pytest.approx(2, abs=0.1)
    assert said(found, "jump", "direction").mean == pytest.approx(1, abs=0.02)
    assert said(found, "direct", "slope").mean == pytest.approx(1, abs=0.1)
    assert said(found, "direct", "sharpness").mean < 0.7 < said(found, "copy", "sharpness").mean
    assert said(found, "direct", "high").mean < said(found, "direct", "low").mean


def test_motion_is_that_of_the_metric(films, found):
    truth, made = (to_uint8(films[name]) for name in ("truth", "direct"))
    made[:, 0] = truth[:, 0]
    scores = motion_scores(made, truth, np.random.default_rng(0), robust=True)
    for name in ("low", "high", "magnitude", "direction", "slope"):
        assert said(found, "direct", name).mean == pytest.approx(getattr(scores, name).mean, rel=1e-6)
    paper = motion_scores(made, truth, np.random.default_rng(0))
    assert said(found, "direct", "paper_direction").mean == pytest.approx(paper.direction.mean, rel=1e-6)


def test_what_never_moves_has_no_direction_and_says_so(found):
    assert isinstance(value := said(found, "copy", "direction"), Undefined)
    assert f"no step of {SCENES * FRAMES}" in str(value)
    rng = np.random.default_rng(0)
    assert isinstance(measures.difference(found, "copy", "jump", "direction", rng), Undefined)
    assert isinstance(measures.difference(found, "warp", "jump", "cosine", rng), Undefined)


def test_differences_are_taken_frame_by_frame(found):
    rng = np.random.default_rng(0)
    for metric in ("cosine", "sharpness", "low", "slope"):
        value = measures.difference(found, "jump", "direct", metric, rng)
        apart = said(found, "jump", metric).mean - said(found, "direct", metric).mean
        assert value.mean == pytest.approx(apart, rel=1e-9)
        same = measures.difference(found, "jump", "jump", metric, rng)
        assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_directions_are_compared_where_both_move():
    rows = [
        ("a", "jump", 0.5, 1.0, 1),
        ("a", "direct", 0.5, 0.5, 1),
        ("a", "jump", 1.0, -1.0, 1),
        ("a", "direct", 1.0, 0.0, 0),
    ]
    rows += [("b", *row[1:]) for row in rows]
    steps = pd.DataFrame(rows, columns=["scene", "model", "time_s", "top", "below"]).assign(seed=0, metric="direction")
    frames = steps[["scene", "model", "time_s", "seed"]].assign(cosine=1.0)
    value = measures.difference(
        measures.Measures(frames, steps), "jump", "direct", "direction", np.random.default_rng(0)
    )
    assert value.mean == 0.5, "the second step counts for one of them only"


def test_one_drive_has_no_interval(films):
    rolled = rollouts({"jump": films["jump"][:1]}, films["truth"][:1])
    one = measures.measure({0: rolled}, IdentityCodec())
    for metric in one.metrics:
        assert isinstance(said(one, "jump", metric), Undefined)
    assert measures.curves(one, np.random.default_rng(0)).empty


def test_seeds_widen_the_interval(films):
    generator = torch.Generator().manual_seed(0)
    truth = films["truth"]
    noise = [truth + s * torch.randn(truth.shape, generator=generator) for s in (0.1, 0.3, 0.6)]
    rolled = {
        s: rollouts({"diffusion": z} | ({"copy": films["copy"]} if s == 0 else {}), truth) for s, z in enumerate(noise)
    }
    several = measures.measure(rolled, IdentityCodec(), metrics=("sharpness",))
    for metric in ("cosine", "high"):
        rng = np.random.default_rng(0)
        each = [
            said(measures.measure({s: r}, IdentityCodec(), metrics=()), "diffusion", metric) for s, r in rolled.items()
        ]
        crossed = measures.level(several, "diffusion", metric, rng)
        assert crossed.mean == pytest.approx(np.mean([i.mean for i in each]), rel=1e-6)
        assert crossed.high - crossed.low > 2 * max(i.high - i.low for i in each)
    value = measures.difference(several, "copy", "diffusion", "cosine", np.random.default_rng(0))
    apart = said(several, "copy", "cosine").mean - said(several, "diffusion", "cosine").mean
    assert value.mean == pytest.approx(apart, rel=1e-9), "what has one seed is compared with each of the other's"


def test_distances_are_there_for_three_scenes_or_more(films):
    extractor = Extractor("pixels", "0", "none", lambda frames: frames.float().mean((-2, -1)) / 255)
    predicted = {"jump": films["truth"], "direct": films["truth"] + 0.5}
    rolled = rollouts(predicted, films["truth"])
    found = measures.measure({0: rolled}, IdentityCodec(), extractor, metrics=(), chunk=2)
    assert "kd" in found.metrics
    assert said(found, "jump", "kd").mean < 1e-6 < said(found, "direct", "kd").mean
    curve = measures.curves(found, np.random.default_rng(0), ["kd"])
    assert len(curve) == 2 * FRAMES and (curve.n == SCENES).all()
    two = rollouts({k: v[:2] for k, v in predicted.items()}, films["truth"][:2])
    found = measures.measure({0: two}, IdentityCodec(), extractor, metrics=())
    assert "kd" not in found.metrics
    assert "three drives" in str(measures.difference(found, "jump", "direct", "kd", np.random.default_rng(0)))


def test_the_study_judges_by_what_was_measured(films):
    rolled = rollouts({k: v for k, v in films.items() if k != "truth"}, films["truth"])
    study = rollout_study.analyse({0: rolled}, IdentityCodec(), "made-up data", num_shown=2, reach=2)
    assert (study.reach_s, study.whole_s, study.fps) == (1.0, 2.5, 2.0)
    by_claim = {f.claim: f for f in study.findings}
    assert len(by_claim) == len(rollout_study.CLAIMS)
    for claim in rollout_study.CLAIMS:
        finding = by_claim[claim.claim]
        assert ("2.5 s ahead" if claim.whole else "1 s ahead") in finding.measured_on
        if "diffusion" in (claim.a, claim.b):
            assert finding.verdict == statistics.INCONCLUSIVE and "diffusion did not run" in finding.measured_on
        elif claim.metric == "low":
            assert finding.verdict == statistics.REPRODUCED
    assert list(study.summary.index) == ["copy", "direct", "jump"]
    assert "6 held-out drives" in study.answer and "the direct model" in study.answer
    assert all(np.isfinite(v).all() for v in study.metrics.values())
    assert len(study.shown) == 2


def test_how_long_a_model_leads(films):
    truth, copy = films["truth"], films["copy"]
    fades = truth.clone()
    fades[:, 3:] = torch.randn(truth[:, 3:].shape, generator=torch.Generator().manual_seed(0))
    found = measures.measure(
        {0: rollouts({"copy": copy, "direct": fades, "jump": truth}, truth)}, IdentityCodec(), metrics=()
    )
    rng = np.random.default_rng(0)
    assert rollout_study.lead_s(found, "direct", rng) == 1.0
    assert rollout_study.lead_s(found, "jump", rng) == 2.5
    assert rollout_study.lead_s(found, "copy", rng) == 0


def test_the_figure_keeps_each_models_colour_and_says_n_and_reach(found):
    curves = measures.curves(found, np.random.default_rng(0))
    figure = error_over_horizon(curves, ("cosine", "rmse", "low", "direction"), "t", reach_s=1.0)
    lines = {t.name: t.line.color for t in figure.data if t.line.width}
    assert lines == {MODEL_STYLE[m].label: MODEL_STYLE[m].color for m in found.models}
    assert f"{SCENES} held-out scenes" in figure.layout.title.subtitle.text
    assert "at 1 s" in figure.layout.title.subtitle.text
    assert figure.layout.xaxis.title.text == "time ahead, s"
    assert "↑" in figure.layout.yaxis.title.text and "↓" in figure.layout.yaxis2.title.text
    assert "copy" not in set(curves[curves.metric == "direction"].model)
    assert "dashed" not in error_over_horizon(curves, title="t", reach_s=9.0).layout.title.subtitle.text
    empty = pd.DataFrame(columns=["model", "metric", "time_s", "mean", "low", "high", "n"])
    assert len(error_over_horizon(empty).data) == 0


def test_intervals_hold_their_means(found):
    for metric in found.metrics:
        for model in found.models:
            value = said(found, model, metric)
            if isinstance(value, Interval):
                assert value.low <= value.mean + 1e-12 and value.mean <= value.high + 1e-12
