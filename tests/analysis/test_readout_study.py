"""The readout on label maps that are known, with encoders whose patches are the labels, or nothing of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_dataset
from PIL import Image

from wamlab.analysis.encoders import NO_ENCODER
from wamlab.analysis.readout import NUM_CLASSES, dense_readout
from wamlab.data import open_dataset
from wamlab.errors import LabelsMissing
from wamlab.metrics.readout import IGNORE

SIDE = 32


class FakeStore:
    """A store and its encoder in one: patches of 4 × 4 pixels, the middle `cut` of the frame."""

    def __init__(self, know: bool, cut: int = SIDE) -> None:
        self.codec, self.know, self.cut, self.generator = self, know, cut, torch.Generator().manual_seed(0)

    def inputs(self, scene, indices):
        image = scene.image_paths[indices[0]]
        path = image.parents[2] / "labels" / "semantic" / image.parent.name / f"{image.stem}.png"
        return torch.from_numpy(np.asarray(Image.open(path)).copy())[None]

    def features(self, maps):
        grid = self.visible(maps)[:, 2::4, 2::4].long()
        if self.know:
            return torch.nn.functional.one_hot(grid, NUM_CLASSES).float()
        return torch.randn(*grid.shape, NUM_CLASSES, generator=self.generator)

    def visible(self, maps):
        low = (SIDE - self.cut) // 2
        return maps[..., low : low + self.cut, low : low + self.cut]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = make_dataset(
        tmp_path_factory.mktemp("labelled"),
        {f"scene-{i:04d}": "train" if i < 9 else "test" for i in range(1, 13)},
        frames=2,
    )
    rng, data = np.random.default_rng(0), open_dataset(root)
    for scene in data.scenes():
        for image in scene.image_paths:
            classes = rng.integers(0, 4, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
            path = root / "labels" / "semantic" / "CAM_FRONT" / f"{image.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(classes).save(path)
    return data.scenes("train"), data.scenes("test")


def test_who_knows_the_labels_reads_them_out(scenes):
    stores = {"knows": FakeStore(True), "guesses": FakeStore(False)}
    found = dense_readout(stores, *scenes, resolution=SIDE, num_kept=3)
    table = found.table.set_index("encoder")
    assert list(table.index) == [NO_ENCODER, "knows", "guesses"]
    assert table.loc["knows", "mean"] > 0.75, "blocks of 4 pixels, blurred by the upsampling at their edges"
    assert table.loc["guesses", "mean"] < 0.3
    assert set(table.n) == {4}
    assert found.truth.shape == (3, SIDE, SIDE) and found.frames.shape == (3, 3, SIDE, SIDE)
    assert (found.predicted["knows"] == found.truth).float().mean() > 0.85


def test_what_is_cut_off_is_not_asked(scenes):
    found = dense_readout({"cut": FakeStore(True, cut=16)}, *scenes, resolution=SIDE, num_kept=1)
    predicted = found.predicted["cut"][0]
    assert (predicted[8:24, 8:24] != IGNORE).all()
    predicted[8:24, 8:24] = IGNORE
    assert (predicted == IGNORE).all()
    assert found.table["mean"].iloc[1] > 0.7


def test_recorded_drives_have_no_labels(dataset):
    with pytest.raises(LabelsMissing):
        dense_readout({}, dataset.scenes("train"), dataset.scenes("test"))
