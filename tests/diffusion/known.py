"""Distributions whose denoiser and probability flow are known in closed form, in one dimension."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Mixture:
    """x0 ~ sum_k w_k N(m_k, std²); x_t as `alphas_cumprod` says. Axes: (B, 1)."""

    def __init__(self, alphas_cumprod: Tensor, means=(-1.0, 1.5), std: float = 0.5, weights=(0.3, 0.7)) -> None:
        self.alphas_cumprod, self.std = alphas_cumprod, std
        self.means, self.weights = torch.tensor(means).double(), torch.tensor(weights).double()

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x0 | x_t]."""
        a = self.alphas_cumprod[t].reshape(-1, 1).to(x)
        means, weights, variance = self.means.to(x), self.weights.to(x), a * self.std**2 + 1 - a
        which = (weights.log() - (x - a.sqrt() * means).square() / (2 * variance)).softmax(-1)  # (B, K)
        each = means + a.sqrt() * self.std**2 / variance * (x - a.sqrt() * means)
        return (which * each).sum(-1, keepdim=True)

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
