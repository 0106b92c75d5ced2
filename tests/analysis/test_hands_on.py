import numpy as np
import pytest
import torch

from wamlab.analysis import hands_on
from wamlab.codecs import load_codec
from wamlab.data import open_dataset
from wamlab.data.frames import load_frames
from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig
from wamlab.models.baselines import CopyPresent
from wamlab.render import to_hwc
from wamlab_widgets import ActionScrubber, DriveView

pytestmark = pytest.mark.xdist_group("world")
TINY = {"dim": 32, "depth": 1, "heads": 2, "num_frequencies": 8, "size": 8, "horizon": 2}
RESOLUTION = 64


@pytest.fixture(scope="module")
def scene(small_world):
    return open_dataset(small_world).scenes()[0]


@pytest.fixture(scope="module")
def codec():
    return load_codec("small-vae")


def models():
    torch.manual_seed(0)
    return {"copy": CopyPresent(), "diffusion": AnchoredDiT(AnchoredDiTConfig(objective="diffusion", **TINY)).eval()}


def distance(a, b):
    return np.sqrt(np.square(a.astype(float) - b).mean())


def test_the_trained_range_is_what_lies_between_the_quantiles(scene):
    low, high = hands_on.trained_range([scene], (0.0, 1.0))["steering_rad"]
    assert (low, high) == (scene.actions[:, 0].min(), scene.actions[:, 0].max())


def test_the_truth_of_the_logged_actions_is_the_recording(scene, codec):
    asked = hands_on.scrubbing(models(), codec, scene, 1, 2, RESOLUTION)
    recorded = load_frames(scene, [1, 2, 3], RESOLUTION)
    through = to_hwc(hands_on.decode(codec, hands_on.encoded(codec, recorded)))
    np.testing.assert_array_equal(asked["present"], through[0])
    logged = asked["truth"](asked["logged"]).frames
    turned = asked["truth"](asked["logged"] + np.float32([2.0, 0.0, 0.0])).frames
    # not the same: the recording is a JPEG, and its driver moved the wheel between the keyframes, too
    assert distance(turned, through[1:]) > 3 * distance(logged, through[1:])


def test_models_are_asked_with_the_settings_they_have(scene, codec):
    widget = ActionScrubber(**hands_on.scrubbing(models(), codec, scene, 1, 2, RESOLUTION), offline_kb=0)
    assert widget._accepts == {"truth": (), "copy": (), "diffusion": ("seed", "steps", "guidance")}
    copied = widget.predict("copy", widget.actions).frames
    np.testing.assert_array_equal(copied[1:], np.stack([copied[0]] * 2))
    one, same, other = (widget.predict("diffusion", widget.actions, seed=s, steps=1 + s).frames for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == other.shape == copied.shape


def test_the_components_of_the_latents_mean_the_same_for_every_row(scene, codec):
    asked = hands_on.scrubbing(models(), codec, scene, 1, 2, RESOLUTION, styles={"copy": {"color": "#123456"}})
    true, copied = asked["truth"](asked["logged"]), asked["rollout"]["copy"](asked["logged"])
    size = RESOLUTION // 8
    assert true.components.shape == copied.components.shape == (3, size, size, 3)
    np.testing.assert_array_equal(true.components[0], copied.components[0])  # the present is the same
    np.testing.assert_array_equal(copied.components[1:], np.stack([copied.components[0]] * 2))
    assert np.abs(true.components).max() <= 1
    assert distance(true.components[2], copied.components[2]) > 0.01
    widget = ActionScrubber(**asked, offline_kb=0)
    assert widget.predict("copy", widget.actions).components.dtype == np.uint8
    assert widget.styles == {"copy": {"color": "#123456"}}


def test_a_drive_goes_on_from_what_the_model_saw(scene, codec):
    widget = DriveView(**hands_on.driving(models(), codec, scene, RESOLUTION, steps=1))
    for _ in range(3):
        widget.step([0.5, 1.0])
    rows = widget.driven.rows
    assert all(not row["failed"] and len(row["frames"]) == 4 for row in rows.values())
    np.testing.assert_array_equal(rows["copy"]["frames"][3], rows["copy"]["frames"][0])
    assert rows["copy"]["error"][0] == 0 < rows["copy"]["error"][3]
    np.testing.assert_allclose(
        rows["copy"]["pose"][3], rows["truth"]["pose"][3], atol=0.01
    )  # the world's car is the same bicycle
    again = widget.start().rows["diffusion"]["frames"][0]
    np.testing.assert_array_equal(again, rows["diffusion"]["frames"][0])


def test_a_recorded_drive_has_no_truth(dataset, codec):
    scene = dataset.scenes()[0]
    assert hands_on.scrubbing(models(), codec, scene, 1, 2, RESOLUTION)["truth"] is None
    widget = DriveView(**hands_on.driving(models(), codec, scene, RESOLUTION, steps=1, strength=0.5))
    widget.step([0.1, 0.0])
    rows = widget.driven.rows
    assert "truth" not in rows and not any(row["failed"] for row in rows.values())
    x, y, yaw = rows["copy"]["pose"][0]
    np.testing.assert_allclose((x, y, yaw), scene.ego_pose[0])
    moved = np.hypot(*(np.array(rows["copy"]["pose"][1][:2]) - (x, y)))
    assert moved == pytest.approx(scene.actions[0, 2] * (scene.timestamps_s[1] - scene.timestamps_s[0]), rel=0.05)
