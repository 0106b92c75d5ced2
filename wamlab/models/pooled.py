"""Pooled world models: a frame is one token, its mean patch, and where things are is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig
from wamlab.models.blocks import check_inputs, check_shape
from wamlab.models.mlp import MlpConfig, PatchMlp
from wamlab.types import Batch, Rollout


class Pooled(nn.Module):
    """A world model of mean patches ("DiT-WAM", section 5.2), made of `network`, which then sees frames of a single patch.

    The paper pools an encoder's embedding to 384 dimensions and compares cosine similarities there; its pooled models have no decoder.
    Here a frame's mean patch (c, patch, patch) is predicted, and `rollout` adds its predicted change to every patch of the present: the
    frame nearest to the present that has the predicted mean. So it decodes and is measured like any other; nothing in it moves.
    """

    network: type[AnchoredDiT] | type[PatchMlp]

    def __init__(self, config: AnchoredDiTConfig | MlpConfig, name: str) -> None:
        super().__init__()
        self.config, self.name = config, name
        self.inner = self.network(dataclasses.replace(config, size=config.patch), name)

    def fit_normalization(self, batches: Iterable[Batch]) -> None:
        """As the network's, of mean patches."""
        self.inner.fit_normalization([self._pool_batch(b) for b in batches])

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """As the network's, of mean patches; `vs_copy` too is of them."""
        self._check(batch.context, batch.actions)
        return self.inner.loss(self._pool_batch(batch), generator)

    @torch.no_grad()
    def rollout(
        self,
        context: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        *,
        start: Tensor | None = None,
        noise: Tensor | None = None,
        callback: Callable[[int, int], None] | None = None,
        **settings: object,
    ) -> Rollout:
        """As the network's, lifted to whole frames.

        start: (B, F, c, h, w) latents, for warm starts; noise: (B or 1, F, c, h, w) in place of drawing it. The network gets their mean
            patches, those of the noise scaled to unit variance.
        """
        self._check(context, actions)
        size, patch = self.config.size, self.config.patch
        if noise is not None:
            check_shape("noise", noise, "B F c h w", (None, actions.shape[1], *context.shape[2:]))
            noise = mean_patch(noise, patch) * (size // patch)
        start = None if start is None else mean_patch(start, patch)
        pooled = mean_patch(context, patch)
        rolled = self.inner.rollout(pooled, actions, generator, start=start, noise=noise, callback=callback, **settings)
        change = rolled.latents - pooled[:, -1:].to(rolled.latents)  # (B, F, c, patch, patch)
        tiled = change.repeat(1, 1, 1, size // patch, size // patch)
        return dataclasses.replace(rolled, latents=context[:, -1:].to(tiled) + tiled)

    def _pool_batch(self, batch: Batch) -> Batch:
        patch = self.config.patch
        return dataclasses.replace(
            batch, context=mean_patch(batch.context, patch), future=mean_patch(batch.future, patch)
        )

    def _check(self, context: Tensor, actions: Tensor) -> None:
        check_inputs(context, actions, self.config.channels, self.config.size)


class PooledDiT(Pooled):
    """AnchoredDiT over one token a frame: direct or diffusion, with x0-, eps- or v-prediction, as its config says."""

    network = AnchoredDiT


class PooledMlp(Pooled):
    """The residual MLP [z, a_h] -> change of z."""

    network = PatchMlp


def mean_patch(z: Tensor, patch: int) -> Tensor:
    """(..., c, h, w) -> (..., c, patch, patch), the mean over all patches."""
    return z.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch)).mean(dim=(-4, -2))
