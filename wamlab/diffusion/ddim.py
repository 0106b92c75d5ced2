"""The DDIM sampler (Song et al. 2021) as a pure function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wamlab.diffusion.objectives import coefficients, eps_from_x0
from wamlab.errors import InvalidParameter


def ddim_timesteps(num_train_steps: int, steps: int) -> list[int]:
    """`steps` training steps from T - 1 downwards, evenly spaced ("trailing": Lin et al. 2024, table 2). Raises `InvalidParameter`."""
    if not 1 <= steps <= num_train_steps:
        raise InvalidParameter(
            f"sampler steps must be between 1 and {num_train_steps} (those of training), not {steps}"
        )
    stride = num_train_steps / steps
    return [round(num_train_steps - i * stride) - 1 for i in range(steps)]


def sample_ddim(
    predict_x0: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    alphas_cumprod: Tensor,
    steps: int,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Integrate from noise to data: equation 12 of Song et al. 2021, written with x0 in place of the noise.

    Args:
        predict_x0: (x_t (B, ...), t (B,) int64) -> x0 (B, ...).
        noise: (B, ...), x at t = T - 1.
        alphas_cumprod: (T,), the schedule that the model was trained with.
        steps: evaluations of `predict_x0`.
        eta: 0 is deterministic, 1 has the variance of ancestral sampling.
        generator: draws the noise that is added between steps; only read when eta > 0.
        callback: called with (steps done, steps) after each step.
    """
    if eta > 0 and generator is None:
        raise InvalidParameter(f"eta = {eta} adds noise between steps, so it needs a generator; give one, or eta = 0")
    alphas_cumprod = alphas_cumprod.double().cpu()
    one = torch.ones((), dtype=torch.float64)
    timesteps = ddim_timesteps(len(alphas_cumprod), steps)
    x = noise
    for i, t in enumerate(timesteps):
        alpha_bar = alphas_cumprod[t]
        alpha_bar_next = alphas_cumprod[timesteps[i + 1]] if i + 1 < steps else one
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
            callback(i + 1, steps)
    return x
