"""Distributions whose denoiser and probability flow are known in closed form, in one dimension."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Mixture:
    """x0 ~ sum_k w_k N(m_k, std²). Axes: (B, 1); diffusion steps as `alphas_cumprod` has them."""

    def __init__(self, alphas_cumprod: Tensor, means=(-1.0, 1.5), std: float = 0.5, weights=(0.3, 0.7)) -> None:
        self.alphas_cumprod, self.std = alphas_cumprod, std
        self.means, self.weights = torch.tensor(means).double(), torch.tensor(weights).double()

    def expect(self, x: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """E[x0 | x] and E[eps | x] for x = signal x0 + noise eps; signal and noise (B,) or scalars."""
        signal, noise = (level.reshape(-1, 1).to(x) for level in (signal, noise))
        means, variance = self.means.to(x), signal**2 * self.std**2 + noise**2
        residual = (x - signal * means) / variance  # (B, K)
        which = (self.weights.to(x).log() - residual.square() * variance / 2).softmax(-1)
        x0 = (which * (means + signal * self.std**2 * residual)).sum(-1, keepdim=True)
        return x0, (which * noise * residual).sum(-1, keepdim=True)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x0 | x_t] at a step of the schedule."""
        a = self.alphas_cumprod[t]
        return self.expect(x, a.sqrt(), (1 - a).sqrt())[0]

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x0 - eps | x] on the straight path from noise (t = 0) to data (t = 1)."""
        x0, eps = self.expect(x, t, 1 - t)
        return x0 - eps

    def cdf(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """P(signal x0 + noise eps < x)."""
        z = (x - signal * self.means) / (signal**2 * self.std**2 + noise**2).sqrt()
        return (self.weights * 0.5 * torch.special.erfc(-z / math.sqrt(2))).sum(-1, keepdim=True)

    def flow(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """Where the probability flow takes x_t: being monotone, to the same quantile of the data. Found by bisection."""
        u = self.cdf(x, signal, noise)
        low, high = torch.full_like(u, -20), torch.full_like(u, 20)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.cdf(middle, torch.ones_like(signal), torch.zeros_like(noise)) < u
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low


def slope(steps: list[int], errors: list[float]) -> float:
    """Of log error on log step size, by least squares: the observed order."""
    x = -torch.tensor(steps).double().log()
    y = torch.tensor(errors).double().log()
    return ((x - x.mean()) * (y - y.mean())).sum().div((x - x.mean()).square().sum()).item()
