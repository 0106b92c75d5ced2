"""What the study of the world shows is what its parts measured: one present with several true futures, and sheets in order."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from wamlab import cli, render
from wamlab.analysis import closed_loop, showcase, world
from wamlab.errors import InvalidParameter
from wamlab.plots.world import crash_scores, steering_curves, steering_sheet


@pytest.fixture(scope="module")
def drives():
    return world.generated(2, seed=1)


def test_generated_drives_are_scenes_that_can_be_asked(drives):
    for scene in drives:
        assert scene.actions.shape == (len(scene), 3) and np.isfinite(scene.actions).all()
        assert len(scene) == 40 and scene.world["seed"] >= 0
    again = world.generated(2, seed=1)
    assert all(np.array_equal(a.ego_pose, b.ego_pose) for a, b in zip(drives, again, strict=True))


def test_all_futures_share_the_present_and_braking_stays_behind(drives):
    shown = world.what_if(drives, count=1, horizon=2, resolution=72)[0]
    assert list(shown["rows"]) == list(world.WHAT_IF) == list(world.STYLES)
    rows = {name: frames.astype(int) for name, frames in shown["rows"].items()}
    assert all(frames.shape == (3, 72, 72, 3) for frames in rows.values())
    for name, frames in rows.items():
        assert (frames[0] == rows["truth"][0]).all()
        assert name == "truth" or np.abs(frames[-1] - rows["truth"][-1]).mean() > 2
    # the more the car advances, the more the picture changes
    moved = {name: np.abs(rows[name][-1] - rows[name][0]).mean() for name in ("brake", "truth")}
    assert moved["brake"] < moved["truth"]


def test_a_standing_car_cannot_be_asked(drives):
    standing = [type(s)(s.name, s.split, s.timestamps_s, (), s.actions * 0, s.ego_pose, world=s.world) for s in drives]
    with pytest.raises(InvalidParameter, match="none of 2 scenes drives at"):
        world.what_if(standing, 1, 2, 64)


def test_figures_show_the_tables():
    rows = [("a", -0.2, -3.0), ("a", 0.0, 0.0), ("a", 0.2, 3.0), ("b", -0.2, -1.0), ("b", 0.0, 0.0), ("b", 0.2, 2.0)]
    shifts = pd.DataFrame(rows, columns=["scene", "angle_rad", "shift_px"]).assign(speed_mps=8.0)
    assert [list(t.y) for t in steering_curves(shifts).data] == [[-3, 0, 3], [-1, 0, 2]]
    crashes = pd.DataFrame(
        [
            ("side", d, s, v, float(v < 5), np.nan, 0.0, 1.0)
            for d, v in (("slow", 1.0), ("good", 5.0))
            for s in range(4)
        ],
        columns=["kind", "driver", "seed", "score", "collided", "impact_mps", "deviation_m", "progress"],
    )
    figure = crash_scores(closed_loop.summary(crashes, np.random.default_rng(0)), {"score": "score ↑"})
    assert {bar.name: list(bar.y) for bar in figure.data} == {"slow": [1.0], "good": [5.0]}


def test_a_sweep_is_drawn_from_left_to_right():
    import torch

    frames = torch.arange(6, dtype=torch.uint8).view(2, 3, 1, 1, 1).expand(2, 3, 3, 40, 60) * 20
    sheet = steering_sheet(frames, np.array([-0.2, 0.0, 0.2]))
    assert [sheet[2, x, 0] for x in (30, 93, 156)] == [40, 20, 0]  # the wheel to the left first
    assert [sheet[45, x, 0] for x in (30, 93, 156)] == [100, 80, 60]


def test_the_sheet_is_drawn_by_a_command(tmp_path, monkeypatch):
    shown = np.zeros((6, 20, 30, 3), np.uint8)
    monkeypatch.setattr(showcase, "everything", lambda seed: (shown, [""] * 6))
    assert CliRunner().invoke(cli.app, ["data", "sheet", str(tmp_path / "world.png")]).exit_code == 0
    assert (tmp_path / "world.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidParameter, match="no image format"):
        render.save_image(tmp_path / "world.gif", shown[0])
