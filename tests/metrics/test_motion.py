"""Displacements against known shifts of a picture, against numpy's correlation, and against what the paper's measure gets wrong."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wamlab.data.frames import squared
from wamlab.errors import InvalidShape
from wamlab.metrics.motion import band_motion, displacement_px, flow_agreement, motion_scores, squared_flow
from wamlab.statistics import Undefined
from wamlab.world.counterfactual import logged_actions, replay
from wamlab.world.flow import Flow
from wamlab.world.simulation import SceneSpec

FINE = 8  # the picture is drawn this many times finer, so that shifts of an eighth of a pixel are exact
HEIGHT, WIDTH, ROOM = 48, 96, 24


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A texture of patches, with room around the view for what comes into it."""
    rng = np.random.default_rng(3)
    size = ((HEIGHT + 2 * ROOM) * FINE, (WIDTH + 2 * ROOM) * FINE)
    image = np.full(size, 120, np.float32)
    for _ in range(400):
        corner, extent = rng.integers((0, 0), size), rng.integers(3, 16, 2) * FINE
        cv2.rectangle(image, corner[::-1].tolist(), (corner + extent)[::-1].tolist(), int(rng.integers(20, 235)), -1)
    return image


def view(picture: np.ndarray, right: float, down: float) -> torch.Tensor:
    """(3, H, W) uint8 of the picture moved to the right and down."""
    x, y = (round((ROOM - shift) * FINE) for shift in (right, down))
    crop = picture[y : y + HEIGHT * FINE, x : x + WIDTH * FINE]
    small = crop.reshape(HEIGHT, FINE, WIDTH, FINE).mean((1, 3))
    return torch.as_tensor(small.round().astype(np.uint8)).expand(3, -1, -1)


def drifting(picture: np.ndarray, *px_a_step: float, frames: int = 4) -> torch.Tensor:
    """(N, T, 3, H, W): videos whose picture moves to the right, some pixels a step."""
    return torch.stack([torch.stack([view(picture, s * i, 0) for i in range(frames)]) for s in px_a_step])


EIGHTHS = st.integers(-11 * FINE, 11 * FINE).map(lambda k: k / FINE)


@given(EIGHTHS, EIGHTHS)
def test_robust_displacement_is_the_shift(picture, right, down):
    got = displacement_px(view(picture, 0, 0), view(picture, right, down), robust=True)
    np.testing.assert_allclose(got, [right, down], atol=0.3)


def test_sub_pixel_shifts_are_told_apart(picture):
    shifts = np.arange(-3, 3, 1 / FINE)
    views = torch.stack([view(picture, s, 0) for s in shifts])
    for robust in (False, True):
        got = displacement_px(view(picture, 0, 0).expand_as(views), views, robust)[:, 0].numpy()
        assert (np.diff(got) > 0).all() and np.abs(got - shifts).max() < (0.15 if robust else 0.3)


@given(st.integers(0, 2**32 - 1), st.integers(6, 40), st.integers(6, 40))
def test_whole_pixels_are_those_of_the_full_correlation(seed, height, width):
    a, b = np.random.default_rng(seed).integers(0, 256, (2, 3, height, width), np.uint8)
    got = displacement_px(torch.as_tensor(a), torch.as_tensor(b)).numpy()
    for k, axis in enumerate((1, 2)):
        p, q = (x.mean(0).mean(axis - 1) for x in (a, b))
        c = np.correlate(q - q.mean(), p - p.mean(), "full")
        whole = c.argmax() - (len(p) - 1)
        assert abs(got[k] - whole) <= 0.5 + 1e-4 or np.sort(c)[-1] - np.sort(c)[-2] < 1e-6 * abs(c).max()


def test_there_and_back_and_in_any_batch(picture):
    a, b = view(picture, 0, 0), view(picture, 4.5, -2.25)
    pairs = torch.stack([torch.stack([a, b]), torch.stack([b, a])])  # (2, 2, 3, H, W)
    for robust in (False, True):
        got = displacement_px(pairs[0], pairs[1], robust)
        assert got.shape == (2, 2) and torch.allclose(got[0], -got[1], atol=1e-4)
        assert torch.equal(got[0], displacement_px(a, b, robust))


def test_a_beam_that_moves_with_the_camera_deceives_the_paper_s_measure_only(picture):
    beam = np.exp(-(((np.arange(WIDTH) - WIDTH / 2) / 25) ** 2))
    lit = [torch.as_tensor((view(picture, s, 0).numpy() * 0.6 * beam).astype(np.uint8)) for s in (0, 10)]
    assert abs(displacement_px(*lit)[0]) < 1
    assert displacement_px(*lit, robust=True)[0] == pytest.approx(10, abs=1.5)


def test_what_has_no_contrast_has_no_displacement(picture):
    grey = torch.full((3, HEIGHT, WIDTH), 90, dtype=torch.uint8)
    for robust in (False, True):
        assert displacement_px(grey, grey, robust).isnan().all()
        assert displacement_px(grey, view(picture, 0, 0), robust).isnan().all()


def test_shapes_that_differ_are_refused():
    with pytest.raises(InvalidShape, match=r"\(3, 8, 8\) and \(3, 8, 9\)"):
        displacement_px(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))


@pytest.mark.parametrize(
    ("robust", "axis", "within"), [(True, 0, 0.1), (True, 1, 0.1), (False, 0, 0.1), (False, 1, 0.2)]
)
def test_a_shift_along_an_axis_is_recovered_to_a_tenth_of_a_pixel(picture, robust, axis, within):
    """But for the paper's measure along 48 pixels only, whose favour for small shifts shows where little overlaps."""
    reach = (WIDTH, HEIGHT)[axis] // 8
    shifts = np.arange(-reach, reach + 0.01, 1 / FINE)
    views = torch.stack([view(picture, *np.roll([s, 0], axis)) for s in shifts])
    got = displacement_px(view(picture, 0, 0).expand_as(views), views, robust).numpy()
    assert np.abs(got[:, axis] - shifts).max() < within
    assert np.polyfit(shifts, got[:, axis], 1)[0] == pytest.approx(1, abs=0.02)


def test_bands_are_opencv_s(picture):
    video = drifting(picture, 2.5)[0].numpy().astype(np.float32)
    coarse = [cv2.GaussianBlur(f.transpose(1, 2, 0), (31, 31), 8).transpose(2, 0, 1) for f in video]
    expected = [
        np.mean([np.sqrt(np.mean((b - a) ** 2)) for a, b in zip(x, x[1:], strict=False)])
        for x in (coarse, [f - g for f, g in zip(video, coarse, strict=True)])
    ]
    got = band_motion(torch.as_tensor(video.astype(np.uint8))[None])
    assert [float(g[0]) for g in got] == pytest.approx(expected, rel=1e-4)


def test_what_is_coarse_and_what_is_fine(picture):
    still = view(picture, 0, 0).expand(3, 5, -1, -1, -1)  # (3, T, 3, H, W)
    light = torch.arange(5).view(1, 5, 1, 1, 1) * 6
    noise = torch.randint(0, 20, still.shape, generator=torch.Generator().manual_seed(0))
    brighter, flicker = (still.int() // 2 + x for x in (light, noise))
    for video, coarse in ((brighter, True), (flicker, False)):
        low, high = band_motion(video.to(torch.uint8))
        assert low.shape == (3,) and ((low > 5 * high) if coarse else (high > 5 * low)).all()
    assert all(float(b.abs().max()) == 0 for b in band_motion(still))


def test_scores_of_videos_whose_motion_is_known(picture):
    speeds = np.array([-3.0, -2.0, 2.0, 3.0, 4.0])
    truth, rng = drifting(picture, *speeds), np.random.default_rng(0)
    itself = motion_scores(truth, truth, rng)
    for found in (itself.low, itself.high, itself.magnitude, itself.direction, itself.slope):
        assert (found.mean, found.low, found.high) == pytest.approx((1, 1, 1)) and found.n == 5
    assert (itself.steps, itself.num_steps) == (15, 15)

    half, back = (motion_scores(drifting(picture, *(speeds * k)), truth, rng) for k in (0.5, -1))
    assert (half.magnitude.mean, half.direction.mean, half.slope.mean) == pytest.approx((0.5, 1, 0.5), abs=0.05)
    assert (back.magnitude.mean, back.direction.mean, back.slope.mean) == pytest.approx((1, -1, -1), abs=0.05)
    assert half.low.mean < 0.9 and back.low.mean == pytest.approx(1, abs=0.2)


def test_a_copy_of_the_present_has_no_direction_and_says_so(picture):
    truth, rng = drifting(picture, -3.0, 2.0), np.random.default_rng(0)
    copy = motion_scores(truth[:, :1].expand_as(truth), truth, rng)
    assert copy.low.mean == copy.high.mean == copy.magnitude.mean == copy.slope.mean == 0
    assert isinstance(copy.direction, Undefined) and "no step of 6 is displaced by 0.5 px" in str(copy.direction)
    assert (copy.steps, copy.num_steps) == (0, 6)
    still = motion_scores(truth, truth[:, :1].expand_as(truth), rng)
    assert all(isinstance(s, Undefined) for s in (still.low, still.high, still.magnitude, still.direction, still.slope))


def test_windows_of_a_scene_are_one(picture):
    truth, preds = drifting(picture, -3, 2, 3, 1), drifting(picture, -1.5, 2, 1, 1)
    alone, together = (
        motion_scores(preds, truth, np.random.default_rng(0), scenes).slope for scenes in (None, ["a", "a", "b", "b"])
    )
    assert alone.mean == pytest.approx(together.mean) and (alone.n, together.n) == (4, 2)


@pytest.fixture(scope="module")
def drive() -> tuple[torch.Tensor, Flow]:
    """Five true frames of 72 pixels, and the flow between them."""
    spec = SceneSpec(11, "urban", turn="left", duration_s=6.0)
    answer = replay(spec, 3, logged_actions(spec, 3, 4), every_step=True)
    shown = torch.cat([answer.renderer([answer.present]).rgb, answer.frames])
    small = np.stack([squared(Image.fromarray(f.permute(1, 2, 0).numpy()), 72) for f in shown])
    return torch.as_tensor(small).permute(0, 3, 1, 2), squared_flow(answer.flow, 72)


def test_flow_tells_true_motion_from_none_and_from_backward(drive):
    frames, flow = drive
    rng = np.random.default_rng(0)
    videos = {"truth": frames, "copy": frames[:1].expand_as(frames), "backward": frames.flip(0)}
    found = {name: flow_agreement(video[None], [flow], rng).mean for name, video in videos.items()}
    assert found["truth"] > 0.3 and found["copy"] == -1 and found["backward"] < found["truth"] - 0.3
    black = torch.zeros_like(frames)[None]
    assert isinstance(flow_agreement(black, [flow], rng), Undefined)
    with pytest.raises(InvalidShape, match=r"need 1 flows of \(3, 72, 72\)"):
        flow_agreement(frames[None, 1:], [flow], rng)


def test_a_picture_that_shifts_by_its_flow_agrees_with_it(picture):
    video = drifting(picture, 2.0)
    flow = Flow(torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(3, 2, HEIGHT, WIDTH), torch.ones(3, HEIGHT, WIDTH) > 0)
    flow.visible[..., -2:] = False
    assert flow_agreement(video, [flow], np.random.default_rng(0)).mean == pytest.approx(1, abs=1e-3)


def test_squared_flow_leads_where_the_larger_one_does():
    column = torch.arange(32.0).expand(1, 16, 32)
    flow = Flow(torch.stack([column / 4, -column / 8], 1), torch.ones(1, 16, 32, dtype=torch.bool))
    small = squared_flow(flow, 8)
    at = torch.arange(8) * 2 + 9.0  # the pixels of the larger one whose flow these have, after the crop of 8 columns
    torch.testing.assert_close(small.displacement_px[0, 0, 0], at / 8)
    torch.testing.assert_close(small.displacement_px[0, 1, 3], -at / 16)
    inside = ((torch.arange(8) + 0.5 + at / 8 < 8) & (0.5 - at / 16 >= 0)).tolist()
    assert small.visible[0, 0].tolist() == inside


def test_videos_that_do_not_fit_are_refused():
    with pytest.raises(InvalidShape, match="2 frames or more, of over 15 pixels"):
        band_motion(torch.zeros(1, 2, 3, 15, 40, dtype=torch.uint8))
    with pytest.raises(InvalidShape, match="one shape"):
        motion_scores(torch.zeros(1, 2, 3, 16, 16), torch.zeros(1, 3, 3, 16, 16), np.random.default_rng(0))
