"""Where truth is asked, more steering to the left moves the picture farther to the right: without exception."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from wamlab.analysis.steering import SteeringSweep, true_steering_sweep
from wamlab.errors import CounterfactualUnknown, InvalidParameter
from wamlab.types import Scene
from wamlab.world.simulation import KEYFRAME_STEPS, SceneSpec, make_world
from wamlab.world.synthetic import dataset_specs


def drive(name: str, spec: SceneSpec) -> Scene:
    """A scene as a dataset has it, without its images."""
    log = make_world(spec).simulate()[:-1:KEYFRAME_STEPS]
    ego = [s.ego for s in log]
    actions = np.array([(e.steering_rad, e.accel_mps2, e.speed_mps) for e in ego], np.float32)
    pose = np.array([e.pose for e in ego])
    return Scene(name, "test", np.arange(len(log)) / 2, (), actions, pose, world=asdict(spec))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """The first ten drives of the dataset: day, dusk and night, clear, fog, rain, straight on and turning."""
    specs = [replace(spec, duration_s=6.0) for spec in dataset_specs(12, 0).values()]
    return [drive(f"scene-{k:04d}", spec) for k, spec in enumerate(specs)]


@pytest.fixture(scope="module")
def sweep(scenes) -> SteeringSweep:
    return true_steering_sweep(scenes)


def test_the_true_steering_sweep_is_monotone(sweep):
    assert len(sweep.rho) >= 8
    assert (sweep.shifts.speed_mps >= 3).all() and sweep.shifts.speed_mps.max() > 8
    assert sweep.rho.shift_px.min() > 0.99, sweep.rho
    assert sweep.frames.shape[:3] == (len(sweep.rho), 7, 3)
    assert sweep.angles_rad[0] < -0.05 < 0.05 < sweep.angles_rad[-1]
    ends = sweep.shifts.groupby("scene").shift_px.agg(["first", "last"])
    assert (ends["first"] < -1).all() and (ends["last"] > 1).all()


def test_shifts_grow_with_speed_and_angle(sweep):
    """In half a second the car turns by v / L tan(angle / 15) / 2, and the far part of the picture by f times that."""
    expected_px = 160 * sweep.shifts.speed_mps * 0.5 * np.tan(sweep.shifts.angle_rad / 15) / 2.588
    assert np.corrcoef(expected_px, sweep.shifts.shift_px)[0, 1] > 0.9
    assert (
        0.9 < np.polyfit(expected_px, sweep.shifts.shift_px, 1)[0] < 2.5
    )  # what is near moves farther than the horizon


def test_what_cannot_be_swept_has_a_name(scenes):
    for angles in ([0.1, 0.0, -0.1], [0.0, 0.1], [[0.0, 0.1, 0.2]]):
        with pytest.raises(InvalidParameter, match="3 or more rising angles"):
            true_steering_sweep(scenes[:1], angles_rad=angles)
    with pytest.raises(InvalidParameter, match="none of 1 scenes.*90"):
        true_steering_sweep(scenes[:1], min_speed_mps=90)
    with pytest.raises(CounterfactualUnknown, match="nobody knows"):
        true_steering_sweep([replace(scenes[2], world=None)], angles_rad=[-0.1, 0, 0.1])
