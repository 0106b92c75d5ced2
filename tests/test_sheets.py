"""Contact sheets show every frame, in order, and labels only where they belong."""

import numpy as np
import pytest

from wamlab.errors import InvalidShape
from wamlab.notebooks.show import Picture
from wamlab.plots.sheets import GAP_PX, contact_sheet

FRAMES = np.broadcast_to(np.arange(10, 60, 10, dtype=np.uint8)[:, None, None, None], (5, 40, 60, 3)).copy()


def test_every_frame_in_its_place():
    sheet = contact_sheet(FRAMES, columns=3)
    assert sheet.shape == (2 * 40 + GAP_PX, 3 * 60 + 2 * GAP_PX, 3)
    for k, frame in enumerate(FRAMES):
        y, x = k // 3 * (40 + GAP_PX), k % 3 * (60 + GAP_PX)
        assert (sheet[y : y + 40, x : x + 60] == frame).all()
    assert (sheet[40 : 40 + GAP_PX, :180] == 255).all()


def test_a_label_changes_its_own_frame_only():
    plain, labelled = contact_sheet(FRAMES, columns=5), contact_sheet(FRAMES, ["", "dusk", "", "", ""], columns=5)
    changed = np.flatnonzero((plain != labelled).any((0, 2)))
    assert changed.min() >= 60 + GAP_PX and changed.max() < 2 * (60 + GAP_PX)


@pytest.mark.parametrize("frames", [FRAMES[0], FRAMES.astype(float), FRAMES[:0]])
def test_other_shapes_are_refused(frames):
    with pytest.raises(InvalidShape, match="frames must be"):
        contact_sheet(frames)


def test_labels_must_fit():
    with pytest.raises(InvalidShape, match="2 labels for 5 frames"):
        contact_sheet(FRAMES, ["a", "b"])


def test_a_picture_is_a_jpeg_with_words():
    bundle = Picture(FRAMES[0], "a grey square")._repr_mimebundle_()
    assert bundle["text/plain"] == "a grey square"
    assert bundle["image/jpeg"].startswith("/9j/")
