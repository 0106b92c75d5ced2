"""How a dataset is driven: a car on a known circle has known curvature, yaw rate and agreement of its signals."""

import numpy as np
import pytest

from wamlab.analysis import driving
from wamlab.errors import InvalidParameter
from wamlab.geometry import curvature_to_steering
from wamlab.plots.driving import distributions, signals_and_path
from wamlab.types import Scene


def circle(name: str, curvature: float, speed_mps: float = 8.0, world: dict | None = None, sign: float = 1.0) -> Scene:
    """20 s on a slalom of circles: the curvature's sign changes every 5 s."""
    t = np.arange(0, 20, 0.01)
    bend = curvature * np.where((t // 5) % 2 == 0, 1.0, -1.0)
    yaw = np.concatenate([[0], np.cumsum(speed_mps * bend * 0.01)[:-1]])
    x, y = (np.concatenate([[0], np.cumsum(speed_mps * f(yaw) * 0.01)[:-1]]) for f in (np.cos, np.sin))
    actions = np.stack([sign * curvature_to_steering(bend), 0 * t, speed_mps + 0 * t], 1)
    return Scene(
        name, "train", t[::50], (), actions[::50].astype(np.float32), np.stack([x, y, yaw], 1)[::50], world=world
    )


def test_a_circle_has_its_curvature_and_its_yaw_rate():
    table = driving.driving([circle("scene-0001", 0.02)])
    inside = table[table.index % 10 != 9]  # not where the wheel is turned over
    assert np.allclose(inside.curvature_per_m.abs(), 0.02, rtol=0.01)
    assert np.allclose(inside.yaw_rate_radps, inside.signal_radps, atol=2e-3)
    assert driving.agreement(table)["scene-0001"] > 0.9


def test_signals_with_the_wrong_sign_disagree():
    assert driving.agreement(driving.driving([circle("scene-0001", 0.02, sign=-1.0)]))["scene-0001"] < -0.9


def test_who_drives_is_told_apart():
    scenes = [
        circle("a", 0.02),
        circle("b", 0.02, world={"explore": True}),
        circle("c", 0.02, world={"explore": False}),
    ]
    table = driving.driving(scenes)
    assert dict(table.groupby("scene").driver.first()) == {"a": "recorded", "b": driving.EXPLORING, "c": driving.NEAT}
    found = driving.quantiles(table)
    assert found.loc[("recorded", driving.QUANTITIES["speed_mps"]), "p50"] == pytest.approx(8.0)
    assert (found.scenes == 1).all()


def test_a_standing_car_has_no_curvature_and_unknown_actions_are_left_out():
    standing = circle("a", 0.02, speed_mps=0.0)
    standing.actions[3] = np.nan
    table = driving.driving([standing])
    assert len(table) == len(standing) - 2
    assert table.curvature_per_m.isna().all()
    assert driving.agreement(table).empty


def test_no_scenes_is_refused():
    with pytest.raises(InvalidParameter, match="no scenes"):
        driving.driving([])


def test_figures_draw_what_the_table_says():
    table = driving.driving([circle("a", 0.02), circle("b", 0.01, world={"explore": True})])
    figure = distributions(table, driving.QUANTITIES)
    assert len(figure.data) == 8
    for trace in figure.data:
        assert 97 < sum(trace.y) <= 100.001  # one of 39 frames may lie in the half per cent that is cut off at the ends
    points = signals_and_path(table).data[1:]
    assert sum(len(trace.x) for trace in points) == table.yaw_rate_radps.notna().sum()
