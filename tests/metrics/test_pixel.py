import doctest
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import torchmetrics.functional.image.lpips as lpips_of_torchmetrics
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wamlab.errors import ExtraMissing, InvalidShape, UnknownName, WeightsMissing
from wamlab.metrics import pixel


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (2, 3, 3, 40, 48), generator=generator, dtype=torch.uint8)
    noise = torch.randint(0, 40, target.shape, generator=generator, dtype=torch.uint8)
    return (target // 2 + noise), target


def test_examples():
    assert doctest.testmod(pixel).failed == 0


def test_agrees_with_scikit_image(pair):
    preds, target = pair
    for at in ((0, 0), (1, 2)):
        a, b = (x[at].permute(1, 2, 0).numpy() for x in pair)
        assert float(pixel.psnr(preds, target)[at]) == pytest.approx(peak_signal_noise_ratio(b, a), rel=1e-5)
        theirs = structural_similarity(
            a, b, gaussian_weights=True, use_sample_covariance=False, channel_axis=2, data_range=255
        )
        assert float(pixel.ssim(preds, target)[at]) == pytest.approx(theirs, abs=1e-6)


def test_equal_frames(pair):
    frames = pair[0]
    assert torch.all(pixel.rmse(frames, frames) == 0)
    assert torch.all(pixel.psnr(frames, frames) == float("inf"))
    assert torch.allclose(pixel.ssim(frames, frames), torch.ones(2, 3))


def test_blur_lowers_sharpness(pair):
    frames = pair[1]
    blurred = torch.nn.functional.avg_pool2d(frames.flatten(0, 1).float(), 3, 1, 1).to(torch.uint8).view_as(frames)
    assert torch.all(pixel.sharpness(blurred) < 0.6 * pixel.sharpness(frames))


def test_cosine_against_numpy():
    a, b = (torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    x, y = a[1, 2].numpy().ravel(), b[1, 2].numpy().ravel()
    expected = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert float(pixel.cosine_similarity(a, b)[1, 2]) == pytest.approx(float(expected), rel=1e-4)


def test_shapes_and_types_are_named(pair):
    with pytest.raises(InvalidShape, match=r"one shape .* not \(2, 3, 3, 40, 48\) and \(3, 3, 40, 48\)"):
        pixel.rmse(pair[0], pair[1][0])
    with pytest.raises(InvalidShape, match="to_uint8"):
        pixel.psnr(pair[0].float(), pair[1].float())


def test_delta_cosine_against_numpy():
    a, b, present = (torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1, 2))
    present = present[:, :1]
    x, y = ((z - present)[1, 2].numpy().ravel() for z in (a, b))
    expected = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert float(pixel.delta_cosine(a, b, present)[1, 2]) == pytest.approx(float(expected), rel=1e-4)
    assert not pixel.delta_cosine(present.expand_as(b), b, present).any()


def test_lpips_without_its_extra_says_what_to_do(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    pixel._lpips.cache_clear()
    with pytest.raises(ExtraMissing, match=r"LPIPS needs torchvision.*pip install 'wamlab\[fid\]'.*SSIM, RMSE"):
        pixel.lpips(*pair)
    with pytest.raises(UnknownName, match="network of LPIPS 'resnet'; known: alex, squeeze, vgg"):
        pixel.lpips(*pair, network="resnet")


def test_lpips_of_a_network_is_that_of_torchmetrics_and_missing_weights_have_a_name(pair, monkeypatch):
    class Difference(torch.nn.Module):
        def __init__(self, net: str) -> None:
            super().__init__()
            if net != "vgg":
                raise OSError("no network")

        def forward(self, a, b, normalize):
            assert a.abs().max() <= 1 and not normalize
            return (a - b).abs().mean((1, 2, 3), keepdim=True)

    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setattr(lpips_of_torchmetrics, "_NoTrainLpips", Difference)
    pixel._lpips.cache_clear()
    with pytest.raises(WeightsMissing, match="weights of alex are not in .*no network"):
        pixel.lpips(*pair)
    expected = (pair[0].float() - pair[1].float()).abs().mean((-3, -2, -1)) / 127.5
    torch.testing.assert_close(pixel.lpips(*pair, network="vgg"), expected, rtol=1e-4, atol=1e-5)
    pixel._lpips.cache_clear()


def test_frames_too_small_for_the_window_are_refused(pair):
    with pytest.raises(InvalidShape, match="11 pixels or more"):
        pixel.ssim(pair[0][..., :10, :], pair[1][..., :10, :])
