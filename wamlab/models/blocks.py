"""Pieces shared by the transformers: embeddings of time and action, the adaLN-Zero block, patches, and normalisation buffers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.errors import ActionOutOfRange, HorizonTooLong, InvalidAction, InvalidShape
from wamlab.types import ACTIONS, Batch


class TimestepEmbedding(nn.Module):
    """Sinusoidal features of the diffusion step (Ho et al. 2020), then an MLP. (B,) -> (B, dim)."""

    def __init__(self, dim: int, max_period: float = 10_000.0) -> None:
        super().__init__()
        half = dim // 2
        frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float64) / half)
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * half, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        phase = t[:, None].float() * self.frequencies  # (B, dim / 2)
        return self.mlp(torch.cat([phase.cos(), phase.sin()], dim=-1))


class FourierEmbedding(nn.Module):
    """Fourier features of each action column, then an MLP (Tancik et al. 2020). (..., A) -> (..., dim).

    The features are cos and sin of 2π f a, with `num_frequencies` f for each column. `learned`: drawn from N(0, scale²), so the embedding
    first distinguishes actions about 1 / (2π scale) apart; with z-scored actions a scale of 0.25 starts smooth (0.64 standard
    deviations). `octaves`: the authors' code, f = 2^k / 2 for k < 64, fixed, which float32 cannot resolve beyond k of about 21.
    """

    def __init__(
        self, num_inputs: int, dim: int, num_frequencies: int = 64, scale: float = 0.25, frequencies: str = "learned"
    ) -> None:
        super().__init__()
        if frequencies == "octaves":
            octaves = 2.0 ** (torch.arange(num_frequencies) - 1)
            self.register_buffer("frequencies", octaves.repeat(num_inputs, 1), persistent=False)
        else:
            self.frequencies = nn.Parameter(torch.randn(num_inputs, num_frequencies) * scale)
        self.mlp = nn.Sequential(nn.Linear(2 * num_inputs * num_frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, a: Tensor) -> Tensor:
        phase = (2 * math.pi * a[..., None] * self.frequencies).flatten(-2)  # (..., A * num_frequencies)
        return self.mlp(torch.cat([phase.cos(), phase.sin()], dim=-1))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters, then scale and shift. x: (B, F, P, D); shift, scale: (B, F, 1, D)."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)


class Block(nn.Module):
    """adaLN-Zero transformer block (Peebles and Xie 2023) over a clip of tokens, with joint attention over frames and patches.

    The condition is one vector for each (sample, horizon step), so the modulation is computed there and broadcast over the patches.
    The modulation starts at zero: at initialisation the block is the identity. With `gates="random"`, the authors' code, it is not.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: int = 4, gates: str = "zero") -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))
        self.modulation = nn.Linear(dim, 6 * dim)
        if gates == "zero":
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def attention(self, x: Tensor) -> Tensor:
        batch, frames, patches, dim = x.shape
        qkv = self.qkv(x).view(batch, frames * patches, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, F * P, D / heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, frames, patches, dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (B, F, P, D); condition: (B, F, D), already through its non-linearity."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, :, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate1, self.attention(modulate(x, shift1, scale1)))
        return torch.addcmul(x, gate2, self.mlp(modulate(x, shift2, scale2)))


def patchify(z: Tensor, patch: int) -> Tensor:
    """(B, F, c, h, w) -> (B, F, P, c * patch²), patches in row-major order."""
    batch, frames, c, h, w = z.shape
    z = z.view(batch, frames, c, h // patch, patch, w // patch, patch)
    return z.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, frames, (h // patch) * (w // patch), c * patch * patch)


def unpatchify(tokens: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """(B, F, P, c * patch²) -> (B, F, c, h, w), the reverse of `patchify` for latents of `size` (h, w)."""
    batch, frames, _, width = tokens.shape
    h, w = size
    z = tokens.view(batch, frames, h // patch, w // patch, width // patch**2, patch, patch)
    return z.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, frames, width // patch**2, h, w)


class Standardize(nn.Module):
    """z-scores along one axis with buffers that an explicit `fit` sets; until then the identity."""

    def __init__(self, num_features: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set mean and standard deviation from x; a constant feature keeps a standard deviation of 1."""
        x = x.double().movedim(self.axis, 0).flatten(1)
        std = x.std(dim=1)
        self.mean.copy_(x.mean(dim=1))
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def _shaped(self, feature: Tensor, ndim: int) -> Tensor:
        return feature.view([-1 if i == self.axis % ndim else 1 for i in range(ndim)])

    def forward(self, x: Tensor) -> Tensor:
        return (x - self._shaped(self.mean, x.ndim)) / self._shaped(self.std, x.ndim)

    def scale(self, x: Tensor) -> Tensor:
        """A difference of standardised values, in the original unit."""
        return x * self._shaped(self.std, x.ndim)

    def inverse(self, x: Tensor) -> Tensor:
        return self.scale(x) + self._shaped(self.mean, x.ndim)


class ActionScale(Standardize):
    """z-scores actions (..., A), columns `ACTIONS`, and remembers the range that `fit` saw; until then there is none."""

    def __init__(self) -> None:
        super().__init__(len(ACTIONS), axis=-1)
        self.register_buffer("low", torch.full((len(ACTIONS),), -torch.inf))
        self.register_buffer("high", torch.full((len(ACTIONS),), torch.inf))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        super().fit(x)
        self.low.copy_(x.flatten(0, -2).amin(dim=0))
        self.high.copy_(x.flatten(0, -2).amax(dim=0))

    def warn_outside(self, actions: Tensor) -> None:
        """Warn `ActionOutOfRange` of the column that is farthest outside, if any is by more than half the width of its range."""
        width = (self.high - self.low).clamp(min=1e-6)
        actions = actions.to(width).flatten(0, -2)  # (N, A)
        beyond = torch.maximum(self.low - actions, actions - self.high).amax(dim=0) / width  # (A,), NaN without a range
        column = int(beyond.nan_to_num(-1).argmax())
        if beyond[column] > 0.5:
            values = actions[:, column]
            warnings.warn(
                f"{ACTIONS[column]} is between {values.min():.4g} and {values.max():.4g}, far outside the "
                f"{self.low[column]:.4g} to {self.high[column]:.4g} of the training data: the model extrapolates",
                ActionOutOfRange,
                stacklevel=3,
            )


class Normalized(nn.Module):
    """What every trained world model starts from: `latents` (..., c, h, w) z-scored per channel, and `actions`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.latents = Standardize(channels, axis=-3)
        self.actions = ActionScale()

    def fit_normalization(self, batches: Iterable[Batch]) -> None:
        """Set the statistics of latents and actions from (some of) the training batches; call once, before training."""
        batches = list(batches)
        self.latents.fit(torch.cat([torch.cat([b.context, b.future], dim=1).flatten(0, 1) for b in batches]))
        self.actions.fit(torch.cat([b.actions.flatten(0, 1) for b in batches]))


def check_shape(name: str, x: Tensor, axes: str, want: tuple[int | None, ...]) -> None:
    """Raise `InvalidShape` unless x has the shape `want`, where None allows any size. `axes` names them: "B F c h w"."""
    if x.ndim != len(want) or any(w is not None and w != n for n, w in zip(x.shape, want, strict=True)):
        allowed = ", ".join(
            axis if size is None else f"{axis}={size}" for axis, size in zip(axes.split(), want, strict=True)
        )
        raise InvalidShape(f"{name} has shape {tuple(x.shape)}; it must be ({allowed})")


def check_inputs(
    context: Tensor, actions: Tensor, channels: int | None = None, size: int | None = None, num_context: int = 1
) -> None:
    """Raise `InvalidShape` or `InvalidAction` unless context is (B, C, c, h, w) with C >= num_context, and actions (B, F, A) fit it."""
    frames = num_context if context.ndim == 5 and context.shape[1] < num_context else None
    check_shape("context", context, "B C c h w", (None, frames, channels, size, size))
    check_shape("actions", actions, "B F A", (len(context), None, len(ACTIONS)))
    check_finite_actions(actions)


def check_horizon(frames: int, horizon: int) -> None:
    """Raise `HorizonTooLong` unless a model trained for `horizon` frames can predict so many."""
    if not 1 <= frames <= horizon:
        raise HorizonTooLong(
            f"{frames} actions given, but this model predicts 1 to {horizon} frames; train one with a longer horizon"
        )


def check_finite_actions(actions: Tensor) -> None:
    """Raise `InvalidAction` at the first NaN or infinite value of actions (B, F, A)."""
    bad = ~torch.isfinite(actions)
    if bad.any():
        b, f, a = bad.nonzero()[0].tolist()
        raise InvalidAction(
            f"action of sample {b}, horizon step {f}, column {a} is {actions[b, f, a].item()}; actions must be finite: "
            "fill or drop the gap before the rollout"
        )
