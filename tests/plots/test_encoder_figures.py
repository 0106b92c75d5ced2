"""Figures of encoders show what their tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from wamlab.analysis.encoder_views import Look
from wamlab.analysis.encoders import NO_ENCODER
from wamlab.analysis.readout import Readout
from wamlab.metrics.readout import IGNORE
from wamlab.plots import encoders as draw
from wamlab.plots.style import ENCODER_COLORS, encoder_style
from wamlab_widgets import RolloutPlayer

CLIP, TWIN = "vjepa2-rep64/embedded", "vjepa2-rep64/random"


@pytest.fixture(scope="module")
def probes() -> pd.DataFrame:
    rows = [
        (CLIP, "mlp", 0.1),
        (TWIN, "mlp", 0.2),
        (CLIP, "knn", 0.15),
        (NO_ENCODER, "mean action", 0.3),
        (NO_ENCODER, "last action", 0.05),
        (NO_ENCODER, "image shift", 0.25),
    ]
    table = pd.DataFrame(rows, columns=["encoder", "probe", "mean"])
    both = [table.assign(target="steering_rad"), table.assign(target="accel_mps2", mean=2 * table["mean"])]
    return pd.concat(both).assign(low=lambda t: t["mean"] - 0.01, high=lambda t: t["mean"] + 0.02, n=24)


def test_the_ranking_has_the_best_on_top(probes):
    figure = draw.ranking_dots(probes)
    left = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [trace.y[0] for trace in left] == [
        *draw.BASELINES.values(),
        "V-JEPA 2, 16 frames, untrained",
        "V-JEPA 2, 16 frames",
    ]
    assert [trace.x[0] for trace in left] == [0.3, 0.05, 0.25, 0.2, 0.1]
    for trace in left:
        assert trace.error_x.array[0] == pytest.approx(0.02) and trace.error_x.arrayminus[0] == pytest.approx(0.01)
    assert left[3].marker.color == "rgba(0,0,0,0)" and left[4].marker.color == ENCODER_COLORS["vjepa2-rep64"]
    assert left[3].marker.line.color == left[4].marker.line.color
    assert {line.x0 for line in figure.layout.shapes} == {0.3, 0.05, 0.25, 0.6, 0.1, 0.5}
    assert "24 held-out drives" in figure.layout.title.subtitle.text


def test_cells_of_the_heat_map():
    buckets = pd.DataFrame({
        "target": "steering_rad", "encoder": ["a", "a", "b", "b"], "bucket": ["night", "day-clear"] * 2,
        "mean": [0.4, 0.2, 0.3, 0.1], "n": [3, 9, 3, 9],
    })  # fmt: skip
    changes = pd.DataFrame({
        "target": "steering_rad", "encoder": ["a", "b", "b"], "perturbation": ["dark", "dark", "frame order"],
        "mean": [0.1, -0.05, 0.2], "low": [0.05, -0.1, -0.1], "high": [0.2, 0.01, 0.3],
    })  # fmt: skip
    left, right = draw.heat_map(buckets, changes).data
    assert left.y == ("a", "b"), "from the bottom up, so that the best is on top"
    assert left.z.tolist() == [[0.4, 0.2], [0.3, 0.1]] and left.x == ("night<br>n = 3", "day-clear<br>n = 9")
    assert right.text.tolist() == [["<b>+0.100</b>", ""], ["−0.050", "+0.200"]]


def test_tables_for_readers(probes):
    errors = draw.error_table(probes)
    assert errors.loc["V-JEPA 2, 16 frames", "knn"] == "0.150 [0.140, 0.170]"
    assert list(errors.columns) == ["mlp", "knn"]
    cost = pd.DataFrame([{"encoder": CLIP, "frames_per_s": 24.04, "ms": 41.6, "memory_mib": 40.0, "parameters_m": 1.1}])
    assert draw.cost_table(cost).loc["V-JEPA 2, 16 frames", "frames/s ↑"] == 24.0


def test_shares_of_the_past():
    table = pd.DataFrame({"age_s": [1.0, 0.0], "mean": [0.25, 0.75], "low": [0.2, 0.7], "high": [0.3, 0.8], "n": 5})
    (bars,) = draw.age_of_attention(table).data
    assert list(bars.x) == [-1, 0] and list(bars.y) == [25, 75]


@pytest.fixture(scope="module")
def look() -> Look:
    rng = np.random.default_rng(0)
    camera = rng.integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    heat = np.zeros((3, 4, 4), np.float32)
    heat[:, 1, 2] = 1
    colours = rng.integers(0, 255, (3, 4, 4, 3)).astype(np.uint8)
    times = np.arange(3) / 2
    by_encoder = ({CLIP: part} for part in (camera[:, 4:28, 4:28], heat, colours, times))
    return Look("scene-0001", "day", times, np.zeros((3, 3)), camera, *by_encoder)


def test_what_counts_glows(look):
    frames = np.full((1, 32, 32, 3), 100, np.uint8)
    lit = draw.lit(frames, look.heat[CLIP][:1])[0].astype(int)
    redness = lit[..., 0] - lit[..., 2]
    assert np.unravel_index(redness.argmax(), redness.shape)[0] // 8 == 1
    assert redness[8:16, 16:24].mean() > 50 and redness[24:, :8].max() == 0


def test_the_player_takes_the_looks(look):
    scenes, styles = draw.attribution_scenes([look]), draw.player_styles([look])
    player = RolloutPlayer(scenes, styles=styles, metric="rad ↓")
    assert list(scenes[0]["rows"]) == ["camera", CLIP] == list(styles)
    assert scenes[0]["rows"][CLIP].shape == look.camera.shape
    assert styles[CLIP]["label"] == encoder_style(CLIP).label
    assert player.static_state()["_catalog"][0]["errors"][CLIP] == [0, 0.5, 1]


def test_sheets_have_a_row_for_each(look):
    sheet = draw.component_sheet([look], columns=2)
    assert sheet.shape == (2 * 32 + 3, 2 * 32 + 3, 3)
    truth = torch.tensor([[[0, 1], [9, IGNORE]]], dtype=torch.uint8).repeat_interleave(16, 1).repeat_interleave(16, 2)
    readout = Readout(
        pd.DataFrame(),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        truth,
        {NO_ENCODER: truth, CLIP: truth, TWIN: truth},
    )
    assert draw.readout_sheet(readout).shape == (4 * 32 + 9, 32, 3), "camera, truth, commonest class, the trained one"
    assert draw.class_colours(truth)[0, 31, 31].tolist() == [0, 0, 0]
    assert len(np.unique(draw.class_colours(truth).reshape(-1, 3), axis=0)) == 4


def test_styles_of_encoders():
    assert encoder_style(TWIN).color == encoder_style(CLIP).color == encoder_style("vjepa2-rep64").color
    assert encoder_style(TWIN).dash == "dot" and encoder_style(CLIP).dash == "solid"
    assert encoder_style("some/folder").label == "some/folder"


def test_what_is_explained_has_its_reference_at_zero(probes):
    figure = draw.explained_dots(probes)
    left = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [trace.x[0] for trace in left] == [0.05, 0.25, 0.1, 0.2], "the mean action is the reference; the most on top"
    assert {line.x0 for line in figure.layout.shapes} == {0}
    assert [axis.title.text for axis in (figure.layout.xaxis, figure.layout.xaxis2)] == list(
        draw.EXPLAINED_AXES.values()
    )


def test_a_line_for_each_encoder_over_the_drives():
    table = pd.DataFrame({
        "target": ["steering_rad"] * 4 + ["accel_mps2"], "encoder": [CLIP, TWIN] * 2 + [CLIP], "drives": [14, 14, 112, 112, 14],
        "mean": [0.1, 0.0, 0.3, 0.1, 9.0], "low": [0.0, -0.1, 0.2, 0.0, 9.0], "high": [0.2, 0.1, 0.4, 0.2, 9.0], "n": 32,
    })  # fmt: skip
    figure = draw.learning_lines(table)
    assert [list(trace.x) for trace in figure.data] == [[14, 112]] * 2
    assert [list(trace.y) for trace in figure.data] == [[0.1, 0.3], [0.0, 0.1]]
    assert "32 held-out drives" in figure.layout.title.subtitle.text
