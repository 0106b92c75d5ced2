"""PatchMlp: the baseline without attention. Each patch is predicted from itself, the mean patch and the action, by one residual MLP."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.models.blocks import (
    FourierEmbedding,
    Normalized,
    check_horizon,
    check_inputs,
    check_shape,
    patchify,
    unpatchify,
)
from wamlab.types import ACTIONS, Batch, Rollout


@dataclass(frozen=True)
class MlpConfig:
    """Attributes:
    actions: the columns of `wamlab.types.ACTIONS` that the model sees.
    channels, size: of the latents, c and h = w; horizon: the most future frames; num_context: context frames of the patch seen.
    patch: side of a patch in latent pixels.
    hidden: width of the two hidden layers; action_dim: of the action's embedding.
    steps: also embed which horizon step is predicted. The paper's MLP is not told: it knows a step by its action alone.
    num_frequencies, fourier_scale, frequencies: of the action's embedding, as in `AnchoredDiTConfig`.
    """

    actions: tuple[str, ...] = ACTIONS
    channels: int = 4
    size: int = 16
    horizon: int = 4
    num_context: int = 1
    patch: int = 4
    hidden: int = 512
    action_dim: int = 128
    steps: bool = False
    num_frequencies: int = 64
    fourier_scale: float = 0.25
    frequencies: str = "learned"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in self.actions:
            if name not in ACTIONS:
                raise UnknownName("action", name, ACTIONS)
        if self.frequencies not in ("learned", "octaves"):
            raise UnknownName("frequencies", self.frequencies, ("learned", "octaves"))
        if self.size % self.patch:
            raise InvalidParameter(f"patch must divide the latents' size {self.size}, and {self.patch} does not")
        if self.hidden < 1:
            raise InvalidParameter(f"hidden must be at least 1, not {self.hidden}")
        if not 0 <= self.dropout < 1:
            raise InvalidParameter(f"dropout must be in [0, 1), not {self.dropout}")


class PatchMlp(Normalized):
    """[z_patch, z_pool, a_h] -> hidden -> hidden -> z_patch's change at step h ("DiT-WAM", section 4.2; sizes from its code).

    z_pool is the mean patch, left out where there is only one. The last layer starts at zero: untrained, it returns the present.
    """

    def __init__(self, config: MlpConfig, name: str = "mlp") -> None:
        super().__init__(config.channels)
        self.config, self.name = config, name
        c = config
        width = c.channels * c.patch**2
        self.action_columns = [ACTIONS.index(column) for column in c.actions]
        self.embed_action = FourierEmbedding(
            len(c.actions), c.action_dim, c.num_frequencies, c.fourier_scale, c.frequencies
        )
        self.embed_step = nn.Parameter(torch.randn(c.horizon, c.action_dim) * 0.02) if c.steps else None
        pooled = 0 if c.size == c.patch else width
        self.layers = nn.ModuleList(
            [
                nn.Linear(width * c.num_context + pooled + c.action_dim, c.hidden),
                nn.Linear(c.hidden, c.hidden),
                nn.Linear(c.hidden, width),
            ]
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, context: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The change from the present, standardised. context: (B, C, c, h, w) standardised; actions: (B, F, A) -> (B, F, c, h, w).

        generator: draws the dropout, which there is none of without it.
        """
        c = self.config
        patches = patchify(context[:, -c.num_context :], c.patch)  # (B, C, P, width)
        batch, _, count, _ = patches.shape
        action = self.embed_action(self.actions(actions)[..., self.action_columns])  # (B, F, D)
        if self.embed_step is not None:
            action = action + self.embed_step[: actions.shape[1]]
        seen = patches.transpose(1, 2).flatten(2)  # (B, P, C * width)
        if count > 1:
            pool = patches[:, -1].mean(dim=1, keepdim=True)  # (B, 1, width)
            seen = torch.cat([seen, pool.expand(-1, count, -1)], dim=-1)
        frames = (batch, actions.shape[1], count, -1)
        x = torch.cat([seen[:, None].expand(frames), action[:, :, None].expand(frames)], dim=-1)  # (B, F, P, ...)
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))
            if generator is not None and c.dropout:
                kept = torch.rand(x.shape, generator=generator, device=generator.device) >= c.dropout
                x = x * kept.to(x) / (1 - c.dropout)
        return unpatchify(self.layers[-1](x), c.patch, context.shape[-2:])

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """MSE in standardised latents; `vs_copy`: as a fraction of that of copying the present."""
        self._check(batch.context, batch.actions)
        check_shape("future", batch.future, "B F c h w", (len(batch), batch.actions.shape[1], *batch.context.shape[2:]))
        context, future = self.latents(batch.context), self.latents(batch.future)
        change = future - context[:, -1:]
        loss = F.mse_loss(self(context, batch.actions, generator if self.training else None).float(), change)
        return loss, {"vs_copy": float(loss.detach() / change.square().mean().clamp(min=1e-12))}

    @torch.no_grad()
    def rollout(
        self,
        context: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        *,
        callback: Callable[[int, int], None] | None = None,
        **ignored: object,
    ) -> Rollout:
        """context: (B, C, c, h, w) latents as the codec gives them, actions: (B, F, A), F up to the horizon.

        Settings of samplers are accepted and have no effect. Raises `InvalidShape`, `InvalidAction` and `HorizonTooLong`; warns
        `ActionOutOfRange`.
        """
        self._check(context, actions)
        self.actions.warn_outside(actions)
        device = self.layers[0].weight.device
        context, actions = context.to(device), actions.to(device)
        latents = context[:, -1:] + self.latents.scale(self(self.latents(context), actions))
        if callback is not None:
            callback(1, 1)
        return Rollout(latents, actions, self.name, generator.initial_seed())

    def _check(self, context: Tensor, actions: Tensor) -> None:
        c = self.config
        check_inputs(context, actions, c.channels, c.size, c.num_context)
        check_horizon(actions.shape[1], c.horizon)


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def match_parameters(config: MlpConfig, count: int) -> MlpConfig:
    """The same MLP with the hidden width that brings it nearest to `count` parameters: for comparisons at equal capacity.

    It has h² + b h + c of them for a width h, so h solves a quadratic. Raises `InvalidParameter` if its other layers alone have more.
    """

    def of(hidden: int) -> int:
        with torch.device("meta"):
            return count_parameters(PatchMlp(dataclasses.replace(config, hidden=hidden)))

    b = of(2) - of(1) - 3
    c = of(1) - 1 - b
    if count < of(1):
        raise InvalidParameter(f"no width gives an MLP of {count} parameters: with one hidden unit it has {of(1)}")
    below = math.floor((-b + math.sqrt(b**2 - 4 * (c - count))) / 2)
    hidden = min((below, below + 1), key=lambda h: abs(h**2 + b * h + c - count))
    return dataclasses.replace(config, hidden=hidden)
