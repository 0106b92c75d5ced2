import numpy as np
import pandas as pd
import pytest
import torch

from wamlab import render
from wamlab.analysis import rollouts
from wamlab.plots.rollouts import error_over_horizon
from wamlab.plots.style import LABELS, MODEL_STYLE, row_styles
from wamlab_widgets import RolloutPlayer


class PixelCodec:
    """Latents that are pixels."""

    name, digest, channels, downsample = "pixels", "0", 3, 1

    def encode(self, frames):
        return frames

    def decode(self, latents):
        return latents.clamp(-1, 1)


@pytest.fixture(scope="module")
def study():
    """Truth moves; direct predicts it blurred; diffusion is sharp but farther off."""
    generator = torch.Generator().manual_seed(0)
    n, horizon, side = 8, 4, 24
    truth = torch.rand(n, horizon, 3, side, side, generator=generator) * 1.6 - 0.8
    blurred = torch.nn.functional.avg_pool2d(truth.flatten(0, 1), 3, 1, 1).view_as(truth)
    noisy = truth + 0.8 * torch.randn(truth.shape, generator=generator)
    present = torch.rand(n, 3, side, side, generator=generator) * 1.6 - 0.8
    rolled = rollouts.Rollouts(
        scenes=tuple(f"scene-{i:04d}" for i in range(n)),
        notes=("day",) * n,
        present=present,
        truth=truth,
        predicted={"copy": present[:, None].expand_as(truth), "direct": blurred, "diffusion": noisy},
        actions=torch.randn(n, horizon, 3, generator=generator),
        times_s=np.arange(1, horizon + 1) * 0.5,
    )
    return rollouts.analyse(rolled, PixelCodec(), "made-up data", seed=0, num_shown=3)


def test_tables(study):
    assert len(study.per_frame) == 8 * 4 * 3
    assert set(study.curves.metric) == set(rollouts.METRICS)
    assert (study.curves.n == 8).all()
    assert (study.curves.low <= study.curves["mean"]).all()
    assert list(study.summary.index) == ["copy", "direct", "diffusion"]
    sharp = study.per_frame.groupby("model").sharpness.mean()
    assert sharp["direct"] < 0.6
    assert sharp["copy"] == pytest.approx(1, abs=0.1)


def test_findings_follow_from_the_measurements(study):
    closer, blurrier, copy = study.findings
    assert blurrier.verdict == "reproduced"
    assert blurrier.measured < 0
    assert copy.verdict == "not reproduced"
    assert closer.measured_on == "made-up data"
    assert closer.interval[0] <= closer.measured <= closer.interval[1]
    assert "8 held-out drives" in study.answer


def test_the_player_takes_what_the_study_gives(study):
    player = RolloutPlayer(study.shown, styles=row_styles(["truth", *rollouts.MODELS]))
    first = player._catalog[0]
    assert first["rows"] == ["truth", *study.summary.index]
    assert first["times_s"] == [0.0, 0.5, 1.0, 1.5, 2.0]
    present = [rows[0] for rows in study.shown[0]["rows"].values()]
    assert all(np.array_equal(present[0], p) for p in present)


def test_the_figure_keeps_each_models_colour_and_says_n(study):
    figure = error_over_horizon(study.curves, title="t")
    lines = {t.name: t.line.color for t in figure.data if t.line.width}
    assert lines == {MODEL_STYLE[m].label: MODEL_STYLE[m].color for m in study.summary.index}
    assert "8 held-out scenes" in figure.layout.title.subtitle.text
    assert figure.layout.xaxis.title.text == "time ahead, s"
    assert "↑" in figure.layout.yaxis.title.text


def test_an_empty_table_still_draws():
    empty = pd.DataFrame(columns=["model", "metric", "time_s", "mean", "low", "high", "n"])
    assert len(error_over_horizon(empty).data) == 0


def test_decoding_in_parts_changes_nothing():
    latents = torch.rand(3, 5, 3, 8, 8) * 2 - 1
    assert torch.equal(rollouts.decode(PixelCodec(), latents, chunk=4), render.to_uint8(latents))


def test_every_model_of_the_study_has_a_style():
    assert {"truth", *rollouts.MODELS} <= set(MODEL_STYLE) == set(LABELS)
