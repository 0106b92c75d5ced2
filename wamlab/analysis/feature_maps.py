"""Dense features made visible: their main components as colours, and which patches an output hangs on. Functions of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wamlab.errors import InvalidParameter, InvalidShape


@dataclass(frozen=True)
class ColourBasis:
    """Features -> colours: mean (d,), three orthonormal components (3, d), and the range (3,), (3,) that fills the scale."""

    mean: Tensor
    components: Tensor
    low: Tensor
    high: Tensor


def colour_basis(features: Tensor, margin: float = 0.01) -> ColourBasis:
    """The three main components of all patches of features (N, h, w, d) together, so that a colour means the same in every frame.

    The range leaves out the share `margin` of the patches at either end. The sign of a component is free: here its largest entry is
    positive, so that the same features give the same colours.

    Raises `InvalidShape` for other shapes, fewer than three dimensions or values that are not finite.
    """
    if features.ndim != 4 or features.shape[-1] < 3 or not features.isfinite().all():
        raise InvalidShape(f"features must be finite and (N, h, w, d) with d ≥ 3, not {tuple(features.shape)}")
    if not 0 <= margin < 0.5:
        raise InvalidParameter(f"margin must be in [0, 0.5), not {margin}")
    patches = features.flatten(0, 2).double()
    centred = patches - patches.mean(0)
    components = torch.linalg.eigh(centred.T @ centred).eigenvectors.T.flip(0)[:3]  # the largest first
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    components = components * largest.sign()
    along = (centred @ components.T).sort(0).values  # quantiles by hand: torch.quantile takes no more than 2^24 values
    ends = [along[round(share * (len(along) - 1))] for share in (margin, 1 - margin)]
    return ColourBasis(patches.mean(0), components, *ends)


def colours(features: Tensor, basis: ColourBasis | None = None) -> Tensor:
    """Features (N, h, w, d) -> (N, 3, h, w) float32 in [-1, 1], for `wamlab.render.to_uint8`; by default in a basis of their own.

    Raises `InvalidShape` for features of another width than the basis, and as `colour_basis`.
    """
    basis = colour_basis(features) if basis is None else basis
    if features.ndim != 4 or features.shape[-1] != len(basis.mean):
        raise InvalidShape(f"features must be (N, h, w, {len(basis.mean)}), not {tuple(features.shape)}")
    along = (features.double() - basis.mean) @ basis.components.T
    scaled = (along - basis.low) / (basis.high - basis.low).clamp_min(1e-12)
    return (2 * scaled - 1).clamp(-1, 1).permute(0, 3, 1, 2).float()


def gradient_times_activation(activations: Tensor, gradients: Tensor) -> Tensor:
    """(N, h, w, d) activations and the gradients of one output with respect to them -> (N, h, w): each patch's share in that output.

    The sum over d of gradient × activation: to first order, by how much the output would fall were the patch's activation zero; where
    the output is linear in the activations the patches sum to it. Signed.

    Raises `InvalidShape` for shapes that differ.
    """
    if activations.shape != gradients.shape or activations.ndim != 4:
        raise InvalidShape(
            f"activations and gradients must be of one shape (N, h, w, d), not {tuple(activations.shape)} and {tuple(gradients.shape)}"
        )
    return (activations.float() * gradients.float()).sum(-1)


def heat(attribution: Tensor) -> Tensor:
    """Signed (N, h, w) attribution -> (N, h, w) in [0, 1]: its size over the largest of the same frame; zero where all are."""
    size = attribution.abs()
    return size / size.amax((1, 2), keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
