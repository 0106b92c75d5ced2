"""What any model must beat: a future that looks like the present."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.models.blocks import check_finite_actions, check_shape
from wamlab.types import ACTIONS, Batch, Rollout


class CopyPresent(nn.Module):
    """Every future frame is the present. It has nothing to train; `loss` reports its error in raw latents."""

    name = "copy"

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return F.mse_loss(batch.context[:, -1:].expand_as(batch.future), batch.future), {"vs_copy": 1.0}

    def rollout(
        self,
        context: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        *,
        callback: Callable[[int, int], None] | None = None,
        **ignored: object,
    ) -> Rollout:
        """context: (B, C, c, h, w), actions: (B, F, A) -> the present, F times. Settings of samplers are accepted and have no effect."""
        check_shape("context", context, "B C c h w", (None,) * 5)
        check_shape("actions", actions, "B F A", (len(context), None, len(ACTIONS)))
        check_finite_actions(actions)
        frames = actions.shape[1]
        if callback is not None:
            callback(1, 1)
        latents = context[:, -1:].expand(-1, frames, -1, -1, -1).clone()
        return Rollout(latents, actions, self.name, generator.initial_seed())
