import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from wamlab.analysis import feature_maps as maps
from wamlab.errors import InvalidParameter, InvalidShape


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([5.0, 3, 2] + [0.3] * 9)
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    return (torch.randn(6, 8, 10, 12, generator=generator) * scale) @ mixing + 4


def test_components_agree_with_scikit_learn(features):
    basis = maps.colour_basis(features)
    theirs = PCA(3).fit(features.flatten(0, 2).double().numpy())
    for ours, other in zip(basis.components.numpy(), theirs.components_, strict=True):
        assert abs(ours @ other) == pytest.approx(1, abs=1e-8)
        assert ours[np.abs(ours).argmax()] > 0
    assert np.allclose(basis.mean, theirs.mean_)


def test_a_colour_means_the_same_in_every_frame(features):
    basis = maps.colour_basis(features)
    together = maps.colours(features, basis)
    assert together.shape == (6, 3, 8, 10)
    assert torch.equal(maps.colours(features[2:3], basis)[0], together[2])
    assert not torch.allclose(maps.colours(features[2:3])[0], together[2], atol=0.01)


def test_the_same_features_give_the_same_colours_in_any_order(features):
    shuffled = maps.colours(features.flip(0)).flip(0)
    assert torch.allclose(shuffled, maps.colours(features), atol=1e-5)


def test_the_scale_is_filled(features):
    found = maps.colours(features, maps.colour_basis(features, margin=0.02))
    for channel in found.transpose(0, 1).flatten(1):
        assert (channel == -1).float().mean() == pytest.approx(0.02, abs=0.005)
        assert (channel == 1).float().mean() == pytest.approx(0.02, abs=0.005)
    flat = maps.colours(torch.ones(1, 2, 2, 4))
    assert flat.isfinite().all()


def test_patches_sum_to_a_linear_output():
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(3, 4, 5, 7, generator=generator, requires_grad=True)
    head = torch.randn(7, generator=generator)
    output = activations.mean((1, 2)) @ head  # pooled, then linear: as an encoder's embedding under a linear probe
    (gradients,) = torch.autograd.grad(output.sum(), activations)
    found = maps.gradient_times_activation(activations.detach(), gradients)
    assert torch.allclose(found.sum((1, 2)), output, atol=1e-5)
    assert torch.allclose(found, (activations @ head).detach() / 20, atol=1e-6)


def test_heat_shows_what_matters_either_way():
    attribution = torch.tensor([[[0.0, 1.0], [-2.0, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
    assert maps.heat(attribution).tolist() == [[[0, 0.5], [1, 0.25]], [[0, 0], [0, 0]]]


def test_what_does_not_fit_is_refused(features):
    with pytest.raises(InvalidShape, match="d ≥ 3"):
        maps.colour_basis(features[..., :2])
    with pytest.raises(InvalidShape, match="finite"):
        maps.colour_basis(features * torch.nan)
    with pytest.raises(InvalidParameter, match="margin"):
        maps.colour_basis(features, margin=0.5)
    with pytest.raises(InvalidShape, match=r"\(N, h, w, 12\), not \(6, 8, 10, 4\)"):
        maps.colours(features[..., :4], maps.colour_basis(features))
    with pytest.raises(InvalidShape, match="one shape"):
        maps.gradient_times_activation(features, features[:1])
