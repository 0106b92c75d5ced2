"""Displacements against known shifts of a picture, against numpy's correlation, and against what the paper's measure gets wrong."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wamlab.errors import InvalidShape
from wamlab.metrics.motion import displacement_px

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
