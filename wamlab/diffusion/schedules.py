"""Noise schedules: how much of the signal is left at each step, as `alphas_cumprod` (T,) float64, decreasing from about 1 to about 0.

Symbols of Ho et al. 2020: alpha_t = 1 - beta_t, and alpha-bar_t, here `alphas_cumprod[t]`, is their running product.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wamlab.errors import InvalidParameter, UnknownName

#: The largest beta of the cosine schedule (Nichol and Dhariwal 2021, section 3.2): keeps the last step from being singular.
MAX_BETA = 0.999


def cosine(num_steps: int = 1000, s: float = 0.008) -> Tensor:
    """alpha-bar of f(t) / f(0), f(t) = cos²((t / T + s) / (1 + s) · π / 2) (Nichol and Dhariwal 2021, equation 17)."""
    u = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    f = torch.cos((u + s) / (1 + s) * math.pi / 2).square()
    betas = (1 - f[1:] / f[:-1]).clamp(max=MAX_BETA)
    return torch.cumprod(1 - betas, dim=0)


def linear(num_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """alpha-bar of betas that rise linearly (Ho et al. 2020, section 4)."""
    betas = torch.linspace(beta_start, beta_end, num_steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0)


SCHEDULES = {"cosine": cosine, "linear": linear}


def make_schedule(name: str, num_steps: int = 1000) -> Tensor:
    """`alphas_cumprod` (T,) float64 of the schedule called `name`. Raises `UnknownName` and `InvalidParameter`."""
    if name not in SCHEDULES:
        raise UnknownName("noise schedule", name, SCHEDULES)
    if num_steps < 1:
        raise InvalidParameter(f"a noise schedule needs at least 1 step, not {num_steps}")
    return SCHEDULES[name](num_steps)
