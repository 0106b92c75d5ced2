"""The DDIM sampler (Song et al. 2021) as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wamlab.diffusion.objectives import coefficients, eps_from_x0


def ddim(
    predict_x0: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    alphas_cumprod: Tensor,
    timesteps: Sequence[int],
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """From x at the noise level of the first of `timesteps` to data: equation 12 of Song et al. 2021, with x0 in place of the noise.

    Arguments as in `wamlab.diffusion.sampling.sample`; `timesteps` fall, and after the last comes the data.
    """
    alphas_cumprod = alphas_cumprod.double().cpu()
    following = [*(alphas_cumprod[t] for t in timesteps[1:]), torch.ones((), dtype=torch.float64)]
    for i, (t, alpha_bar_next) in enumerate(zip(timesteps, following, strict=True)):
        alpha_bar = alphas_cumprod[t]
        x0 = predict_x0(x, torch.full((len(x),), t, dtype=torch.int64, device=x.device))
        eps = eps_from_x0(x, x0, alpha_bar)
        # sigma_t of equation 16
        sigma = eta * ((1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_next)).sqrt()
        signal, _ = coefficients(alpha_bar_next, x)
        x = signal * x0 + (1 - alpha_bar_next - sigma**2).clamp(min=0).sqrt().to(x) * eps
        if sigma > 0:
            fresh = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
            x = x + sigma.to(x) * fresh.to(x.device)
        if callback is not None:
            callback(i + 1, len(timesteps))
    return x
