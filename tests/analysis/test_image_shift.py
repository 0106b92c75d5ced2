"""The reader of shifts measures what moved, fits where an encoder does, and its probe tells a steering that shows as motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_dataset

from wamlab.analysis.encoders import NO_ENCODER
from wamlab.analysis.image_shift import SHIFT, ImageShift, shift_errors
from wamlab.data import open_dataset
from wamlab.data.embeddings import EmbeddingStore
from wamlab.types import Scene


def moving(right_px: int, down_px: int) -> torch.Tensor:
    """(1, 16, 3, 96, 96): a texture that moves so much from frame to frame."""
    texture = torch.randint(0, 255, (3, 400, 400), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    texture = torch.nn.functional.avg_pool2d(texture.float(), 5, 1).to(torch.uint8)
    corners = [(150 - t * down_px, 150 - t * right_px) for t in range(16)]
    return torch.stack([texture[:, top : top + 96, left : left + 96] for top, left in corners])[None]


@pytest.mark.parametrize(("right_px", "down_px"), [(0, 0), (3, 0), (-2, 1)])
def test_shifts_are_those_of_the_picture(right_px, down_px):
    found = ImageShift().encode(moving(right_px, down_px)).reshape(15, 2)
    torch.testing.assert_close(found, torch.tensor([right_px, down_px]).expand(15, 2).float(), atol=0.3, rtol=0)


def test_a_dark_clip_has_no_shift():
    assert not ImageShift().encode(torch.zeros(2, 16, 3, 96, 96, dtype=torch.uint8)).any()


def test_it_stands_where_an_encoder_stands(tmp_path):
    dataset = open_dataset(make_dataset(tmp_path, {"scene-0001": "train"}, frames=4))
    assert EmbeddingStore(dataset, ImageShift(), root=tmp_path).read("scene-0001").shape == (4, 30)


def test_its_probe_tells_a_steering_that_shows_as_motion():
    rng = np.random.default_rng(0)

    def drive(name: str, split: str) -> Scene:
        actions = rng.normal(0, [1.5, 0.8, 3], (12, 3)).astype(np.float32)
        return Scene(name, split, np.arange(12) / 2, (), actions, np.zeros((12, 3)))

    splits = {split: [drive(f"{split}-{i}", split) for i in range(n)] for split, n in (("train", 30), ("test", 6))}
    scenes = [scene for part in splits.values() for scene in part]
    shifts = {scene.name: torch.from_numpy(scene.actions[:, :1]).repeat(1, 30) for scene in scenes}
    errors = shift_errors(shifts, splits)
    assert set(errors.encoder) == {NO_ENCODER} and set(errors.probe) == {SHIFT} and errors.seed.nunique() == 3
    means = errors.groupby("target").rmse.mean()
    assert means["steering_rad"] < 0.1 * 1.5 / 6 * 2, "a tenth of what varies would be lost at most"
    assert means["accel_mps2"] > 0.7 * 0.8 / 10, "which does not show, and is not told"
