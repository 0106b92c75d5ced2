"""The jump model: one transition of `jump` frames, chained, each anchored on what the one before predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from wamlab.errors import HorizonTooLong
from wamlab.models.anchored_dit import AnchoredDiT
from wamlab.models.blocks import check_shape
from wamlab.types import Batch, Rollout


class Jump(AnchoredDiT):
    """AnchoredDiT of horizon 1 whose only step is `config.jump` frames long ("DiT-WAM", section 4.4, equation 6).

    It is trained on every transition of a window, each from the true frame before it, and chained open-loop: there is no longest
    horizon. The paper draws training windows in proportion to √(latent motion); here each is as likely as any other. Of a jump of
    several frames only the last is predicted; those before it lie on the straight line in latent space that leads there.
    """

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """As AnchoredDiT's, the mean over the window's transitions; `vs_copy` is against copying the frame before each."""
        shape = (len(batch), batch.actions.shape[1], *batch.context.shape[2:])
        check_shape("future", batch.future, "B F c h w", shape)
        return super().loss(transitions(batch, self.config.jump), generator)

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
        """Chain as many jumps as there are actions for.

        Args:
            context: (B, C, c, h, w) latents as the codec gives them; the last is the present.
            actions: (B, F, A), columns `ACTIONS`, F any multiple of the jump.
            generator: draws the initial noise of one jump after the other (`diffusion` only).
            start: (B, F / jump, c, h, w) latents in place of the anchors, for warm starts (`strength` below 1).
            noise: (B or 1, F / jump, c, h, w) in place of drawing it, a frame for each jump.
            callback: called with (steps done, steps), of all jumps together.
            settings: as AnchoredDiT's, for each jump.

        Raises `InvalidShape`, `InvalidAction` and `HorizonTooLong` (where F is no multiple of the jump).
        """
        jump = self.config.jump
        self._check(context, actions)
        jumps = actions.shape[1] // jump
        if noise is not None:
            check_shape("noise", noise, "B F c h w", (None, jumps, *context.shape[2:]))
        anchor, frames = context[:, -1:].to(self.head.weight), []
        for i in range(jumps):
            made = super().rollout(
                anchor,
                actions[:, i * jump : (i + 1) * jump],
                generator,
                start=None if start is None else start[:, i : i + 1],
                noise=None if noise is None else noise[:, i : i + 1],
                callback=callback and (lambda done, steps, i=i: callback(i * steps + done, jumps * steps)),
                **settings,
            )
            parts = torch.linspace(1 / jump, 1, jump).view(1, jump, 1, 1, 1).to(anchor)
            frames.append(torch.lerp(anchor, made.latents, parts))
            anchor = made.latents
        return dataclasses.replace(made, latents=torch.cat(frames, dim=1), actions=actions.to(anchor))

    def _check_frames(self, frames: int) -> None:
        if frames < 1 or frames % self.config.jump:
            raise HorizonTooLong(
                f"{frames} actions given, but this model jumps {self.config.jump} frames at a time; give a multiple of that"
            )


def transitions(batch: Batch, jump: int) -> Batch:
    """Windows (B, F, …) as their transitions (B · (F // jump), 1, …), each with the true frame before it as its context."""
    jumps = batch.actions.shape[1] // jump
    if jumps < 1:
        raise HorizonTooLong(f"windows of {batch.actions.shape[1]} frames are shorter than a jump of {jump}")
    after = batch.future[:, jump - 1 : jumps * jump : jump]  # (B, J, c, h, w)
    before = torch.cat([batch.context[:, -1:], after[:, :-1]], dim=1)
    actions = batch.actions[:, : jumps * jump].unflatten(1, (jumps, jump))  # (B, J, jump, A)
    return Batch(
        before.flatten(0, 1)[:, None],
        after.flatten(0, 1)[:, None],
        actions.flatten(0, 1),
        tuple(scene for scene in batch.scenes for _ in range(jumps)),
        tuple(start + i * jump for start in batch.starts for i in range(jumps)),
    )
