"""Frames become what the published processors make of them; those, drawn with Pillow, are the reference."""

import numpy as np
import pytest
import torch
from encoder_folders import smooth_frames
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from wamlab.encoders import Preprocess
from wamlab.encoders.clip import Clip
from wamlab.encoders.dinov2 import Dinov2
from wamlab.encoders.preprocess import IMAGENET
from wamlab.encoders.vit import Vit
from wamlab.encoders.vjepa2 import VJepa2Clip
from wamlab.encoders.vq import Vq
from wamlab.errors import CheckpointMismatch

PUBLISHED = {
    "vit": (Vit.PREPROCESS, ViTImageProcessorPil()),
    "clip": (Clip.PREPROCESS, CLIPImageProcessorPil()),
    "dinov2": (
        Dinov2.PREPROCESS,
        BitImageProcessorPil(size={"shortest_edge": 256}, image_mean=IMAGENET[0], image_std=IMAGENET[1]),
    ),
}


def levels_off(family, size):
    """How far from Pillow, in levels of 255, for frames with large structures and hard edges."""
    preprocess, reference = PUBLISHED[family]
    frames = torch.nn.functional.interpolate(smooth_frames(2, 80).float(), size=size).to(torch.uint8)
    want = reference([frame.permute(1, 2, 0).numpy() for frame in frames], return_tensors="np")["pixel_values"]
    return np.abs(preprocess(frames).numpy() - want) * 255 * np.array(preprocess.std)[:, None, None]


@pytest.mark.parametrize("size", [(300, 300), (90, 160)], ids=str)
@pytest.mark.parametrize("family", PUBLISHED)
def test_as_the_published_processor(family, size):
    off = levels_off(family, size)
    assert off.max() < 1.01 and off.mean() < 1e-3


@pytest.mark.parametrize("size", [(128, 128), (900, 900)], ids=str)
@pytest.mark.parametrize("family", PUBLISHED)
def test_as_the_published_processor_but_for_halves(family, size):
    """These sizes make many values that are halves but for the last bit, twice; torch's own resizing of bytes differs as much."""
    off = levels_off(family, size)
    assert off.max() < 2.01 and off.mean() < 0.05


def test_nothing_but_the_scale_changes_at_the_own_size():
    frames = smooth_frames(2, 256)
    mean, std = (torch.tensor(v)[:, None, None] for v in (Vq.PREPROCESS.mean, Vq.PREPROCESS.std))
    torch.testing.assert_close(Vq.PREPROCESS(frames), (frames / 255 - mean) / std)
    torch.testing.assert_close(Vq.PREPROCESS(frames), frames / 127.5 - 1)
    clip = smooth_frames(6, 292).unflatten(0, (2, 3))
    assert VJepa2Clip.PREPROCESS(clip).shape == (2, 3, 3, 256, 256)


@pytest.mark.parametrize("preprocess", [Vit.PREPROCESS, Clip.PREPROCESS, Dinov2.PREPROCESS, VJepa2Clip.PREPROCESS])
def test_its_numbers_survive_the_file(preprocess):
    other = Preprocess(32, 16, "bilinear", (0.0,) * 3, (1.0,) * 3)
    assert Preprocess.from_json(preprocess.to_json(), other) == preprocess
    assert Preprocess.from_json({}, preprocess) == preprocess


def test_transformers_reads_the_file_too():
    numbers = Dinov2.PREPROCESS.to_json()
    frames = smooth_frames(1, 100)
    want = BitImageProcessorPil(**numbers)([frames[0].permute(1, 2, 0).numpy()], return_tensors="pt")["pixel_values"]
    assert (Dinov2.PREPROCESS(frames) - want).abs().max() < 1.01 / 255 / 0.224


@pytest.mark.parametrize(
    "numbers, complaint",
    [
        ({"resample": 0}, "resample must be one of .*bicubic.*, not 0"),
        ({"size": {"height": 224, "width": 112}}, "one number of pixels for both sides"),
        ({"size": "224"}, "one number of pixels"),
    ],
)
def test_numbers_that_cannot_be_followed_are_named(numbers, complaint):
    with pytest.raises(CheckpointMismatch, match=complaint):
        Preprocess.from_json(numbers, Clip.PREPROCESS)


def test_visible_is_the_part_that_is_seen():
    """A gradient along x, cut as the labels are, is the gradient that the backbone sees, at another size."""
    frames = torch.arange(128, dtype=torch.uint8).expand(1, 3, 128, 128)
    seen = Dinov2.PREPROCESS.visible(frames)
    assert seen.shape == (1, 3, 112, 112)
    mean, std = Dinov2.PREPROCESS.mean[0], Dinov2.PREPROCESS.std[0]
    pixels = (Dinov2.PREPROCESS(frames)[0, 0, 0] * std + mean) * 255
    assert abs(pixels[0].item() - seen[0, 0, 0, 0].item()) <= 1
    assert abs(pixels[-1].item() - seen[0, 0, 0, -1].item()) <= 1
    assert Vit.PREPROCESS.visible(frames).shape == frames.shape
    assert Clip.PREPROCESS.visible(torch.zeros(90, 160)).shape == (90, 90)
