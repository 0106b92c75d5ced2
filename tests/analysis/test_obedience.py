"""Verdicts on models whose obedience is known: with and without a truth, with one drive, with several seeds, with nothing that moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import IdentityCodec
from steered import Shifts, Store, drives

from wamlab.analysis import obedience
from wamlab.analysis.obedience_scores import ratio
from wamlab.analysis.predicting import Candidate
from wamlab.analysis.steering import presents
from wamlab.errors import InvalidParameter
from wamlab.models import CopyPresent
from wamlab.notebooks.show import Strips
from wamlab.plots import obedience as draw
from wamlab.plots.style import row_styles
from wamlab.statistics import Interval, Undefined, bootstrap_ratio

HORIZON = 2
ANGLES = np.linspace(-0.6, 0.6, 5)
DIFFUSION = Shifts(12, objective="diffusion")


def measured(scenes, models, seeds=(0,)):
    """`measure` of models by name, the same for every seed."""
    candidates = {(name, s): Candidate(model, {}) for s in seeds for name, model in models.items()}
    asked = presents(scenes, HORIZON)
    return obedience.measure(candidates, IdentityCodec(), Store(), asked, ANGLES, 1, 0, (1.0, 2.0, 3.0), 1, HORIZON)


def verdicts(study):
    return {f.claim.split(" (")[0]: f.verdict for f in study.findings}


def without_nan(study):
    said = [study.table.to_string(), study.paper_table.to_string(), study.answer, str(study.findings)]
    numbers = [*study.metrics.values(), *study.levels[["mean", "low", "high"]].to_numpy().ravel()]
    return "nan" not in " ".join(said).lower() and np.isfinite(numbers).all()


@pytest.fixture(scope="module")
def scenes():
    return drives()


@pytest.fixture(scope="module")
def recorded(scenes):
    return [replace(scene, world=None) for scene in scenes]


@pytest.fixture(scope="module")
def as_published(scenes):
    """A diffusion model that obeys until it is guided, a direct one that goes against the wheel, a copy; and the truth."""
    return measured(scenes, {"copy": CopyPresent(), "direct": Shifts(-12), "diffusion": DIFFUSION})


@pytest.fixture(scope="module")
def study(as_published):
    return obedience.analyse(as_published[0], "made-up data, tiny preset")


def test_verdicts_are_those_of_the_models(study):
    found = verdicts(study)
    assert found["The diffusion model obeys the wheel, 0.5 s ahead"] == "reproduced"
    assert found["It does at the end of the horizon, 1 s ahead"] == "reproduced"
    assert found["The direct model does not obey, 1 s ahead"] == "reproduced"
    assert found["The diffusion model obeys better than the direct one, 1 s ahead"] == "reproduced"
    assert found["Guidance of weight 3 lowers the diffusion model's ρ, 1 s ahead"] == "reproduced"
    assert found["The steering can be read from the diffusion model's futures"] == "reproduced"
    assert found["It cannot be read from the direct model's"] == "not reproduced"  # it disobeys in perfect order
    assert found["Diffusion moves the picture farther with the wheel than its anchor alone"] == "reproduced"
    assert all(f.measured_on == "made-up data, tiny preset, 3 held-out drives, 1 seed" for f in study.findings)
    by_claim = {f.claim.split(" (")[0]: f.measured for f in study.findings}
    assert by_claim["Guidance of weight 3 lowers the diffusion model's ρ, 1 s ahead"] == pytest.approx(-2)


def test_the_answer_says_who_obeys(study):
    assert "The pictures of the diffusion model follow the wheel 0.5 s after" in study.answer
    assert "That of the direct model moves against the wheel" in study.answer
    assert "Where the true picture moves by 10 pixels" in study.answer
    assert "As in the paper, the direct model does not obey" in study.answer


def test_tables_have_the_truth_and_mark_what_is_still(study):
    assert list(study.table.index) == ["truth", "copy", "direct", "diffusion"]
    assert study.table.loc["copy", "valid drives"] == "0 of 3"
    assert study.table.loc["copy", "Spearman's ρ ↑"] == "not measured"
    assert study.table.loc["truth", "slope on the truth (truth = 1)"].startswith("1.00")
    assert study.paper_table.loc["direct", "ρ ↑, as the paper counts"] == "−1.00 [−1.00, −1.00]"
    assert study.metrics["diffusion/rho"] == pytest.approx(1) and "copy/rho" not in study.metrics
    assert without_nan(study)


def test_guidance_is_swept_where_there_is_any(study):
    swept = study.levels[study.levels.score == "rho"].groupby("candidate").guidance.unique()
    assert sorted(swept["diffusion"]) == [1, 3]  # at 2 nothing moves, and there is no ρ
    assert list(swept["direct"]) == [1]
    valid = study.levels[(study.levels.score == "valid") & (study.levels.guidance == 2)]
    assert valid["mean"].tolist() == [0, 0]  # at the first frame and the last


def test_pictures_are_of_the_wheel_left_middle_and_right(as_published):
    m, pictures = as_published
    shown = obedience.strips(pictures, IdentityCodec())
    left, middle, right = shown["diffusion"].astype(int)
    moved = round(12 * 0.6)
    np.testing.assert_array_equal(left, np.roll(middle, moved, 1))
    np.testing.assert_array_equal(right, np.roll(middle, -moved, 1))
    assert set(shown) == {"truth", "copy", "direct", "diffusion"}
    assert "0.60 rad left" in obedience.strips_note(m, "") and "0.60 rad right" in obedience.strips_note(m, "")
    bundle = Strips(shown, ["left", "middle", "right"], row_styles(shown), "<note>")._repr_mimebundle_()
    assert bundle["text/html"].count("<img") == 12 and "&lt;note&gt;" in bundle["text/html"]
    assert "image/jpeg" in bundle and "No pictures" in Strips({}, [], {})._repr_mimebundle_()["text/html"]


def test_figures_show_every_candidate(study):
    assert {t.name for t in draw.shift_over_angle(study.curves).data} == {
        "truth", "copy of the present", "direct", "diffusion"
    }  # fmt: skip
    horizon = draw.scores_over_time(study.levels, study.guidance)
    assert sorted(t.name for t in horizon.data if t.showlegend) == [
        "copy of the present", "diffusion", "direct", "truth"
    ]  # fmt: skip
    guided = draw.scores_over_guidance(study.levels)
    assert {t.name for t in guided.data} == {"diffusion"}
    dots = [t.name for t in draw.asked_and_read(study.recovered, study.relative).data if t.mode == "markers"]
    assert [name.split(":")[0] for name in dots] == ["direct", "diffusion"] and "not measured" not in str(dots)
    assert "3 held-out drives" in draw.action_dots(study.effect).layout.title.subtitle.text


def test_recorded_drives_have_all_but_the_truth(recorded):
    m, pictures = measured(recorded, {"copy": CopyPresent(), "direct": Shifts(12), "diffusion": DIFFUSION})
    study = obedience.analyse(m, "recorded data")
    assert "truth" not in study.table.index and not any("slope" in c for c in study.table.columns)
    assert "truth" not in pictures and "true picture" not in study.answer
    assert "Every trained model's picture follows the wheel" in study.answer and "Unlike in the paper" in study.answer
    assert not any("anchor" in f.claim for f in study.findings) and without_nan(study)
    assert len(draw.scores_over_time(study.levels, study.guidance).data) == 6  # one panel, two lines with bands


def test_with_one_drive_nothing_is_judged(recorded):
    m, _ = measured(recorded[:1], {"copy": CopyPresent(), "direct": Shifts(12), "diffusion": DIFFUSION})
    study = obedience.analyse(m, "one drive")
    assert {f.verdict for f in study.findings} == {"inconclusive"}
    assert all(f.measured is None and "not measured" in f.measured_on for f in study.findings)
    assert "cannot be told here" in study.answer and study.levels.empty and without_nan(study)
    assert study.table.loc["direct", "valid drives"] == "1 of 1"
    for figure in (
        draw.scores_over_time(study.levels, study.guidance),
        draw.scores_over_guidance(study.levels),
        draw.action_dots(study.effect),
    ):
        assert figure.layout.annotations[0].text == "nothing here to measure"


def test_where_no_picture_moves_that_is_the_answer(recorded):
    still = {"direct": Shifts(0), "diffusion": Shifts(0, 0.3, "diffusion")}
    study = obedience.analyse(measured(recorded, {"copy": CopyPresent()} | still)[0], "still data")
    assert "No trained model's picture moves with the wheel" in study.answer
    assert {f.measured for f in study.findings if "ρ" in f.claim} == {None} and without_nan(study)


def test_an_answer_needs_no_model_in_particular(recorded):
    m, _ = measured(recorded, {"copy": CopyPresent(), "direct": Shifts(-12), "jump": Shifts(-12)})
    study = obedience.analyse(m, "two rebels")
    assert "Those of the direct model and the jump chain move against the wheel" in study.answer
    assert "diffusion" not in study.answer and not any("iffusion" in f.claim for f in study.findings)
    m, _ = measured(recorded, {"copy": CopyPresent()})
    assert "No model that learns was asked" in obedience.analyse(m, "a copy").answer


def test_numbers_are_set_as_numbers():
    assert obedience.said(Interval(-0.001, -1.5, 0.5, 3)) == "0.00 [−1.50, 0.50]"
    assert obedience.said(Undefined("no drive")) == "not measured"


def test_seeds_are_a_factor_of_their_own(recorded):
    models = {"direct": Shifts(6, 0.2), "diffusion": Shifts(12, 0.2, "diffusion")}
    both = obedience.analyse(measured(recorded, models, seeds=(0, 1))[0], "two seeds")
    assert all("2 seeds" in f.measured_on for f in both.findings)
    assert both.table.loc["direct", "valid drives"] == "3 of 3" and without_nan(both)
    assert set(both.recovered.seed) == {0, 1}


def test_a_ratio_is_that_of_the_sums():
    rng = np.random.default_rng(0)
    top, below = rng.normal(2, 1, (9, 3)), rng.uniform(1, 2, (9, 3))
    found = ratio(top, below, np.random.default_rng(1))
    assert found.mean == pytest.approx(top.sum() / below.sum()) and found.low < found.mean < found.high
    one, plain = ratio(top[:, :1], below[:, :1], np.random.default_rng(1)), np.random.default_rng(1)
    assert one == bootstrap_ratio(top[:, 0], below[:, 0], plain)
    assert ratio(top, np.ones((9, 1)), rng).mean == pytest.approx(top.mean())
    below[2:] = 0
    assert isinstance(ratio(top, below, rng), Interval) and ratio(top, below, rng).n == 2
    below[1:] = 0
    assert isinstance(ratio(top, below, rng), Undefined) and "needs two" in ratio(top, below, rng).reason


def test_what_cannot_be_swept_is_refused_before_anything_is_loaded():
    for wrong in ({"num_angles": 2}, {"frame": 0}, {"frame": 5}):
        with pytest.raises(InvalidParameter, match="num_angles must be 3 or more and frame 1 to the horizon of 4"):
            obedience.study(dataset="nowhere", preset="smoke", **wrong)
    with pytest.raises(InvalidParameter, match="guidances must be weights such as '1, 3', not 'much'"):
        obedience.study(dataset="nowhere", preset="smoke", guidances="much")
