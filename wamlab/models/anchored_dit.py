"""AnchoredDiT: the diffusion transformer whose every prediction is the present plus a learned change.

One network, two objectives. `diffusion`: denoise all future frames together (x0-prediction by default), DDIM. `direct`: the same
network at t = 0 on the present, replicated: a regression. Following "DiT-WAM", with these stated differences:

- the block gates are zero-initialised, as adaLN-Zero has it and the authors' code does not;
- the present enters beside each noisy token by default (`present="concat"`: two input projections, summed, which equals projecting
  the concatenation); `present="pooled"` is the paper's conditioning on the mean-pooled present alone;
- `ego_motion` lets the anchor move, which the paper's does not;
- action frequencies are learned (see `FourierEmbedding`), and latents are z-scored per channel, not per token dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.diffusion.objectives import OBJECTIVES, coefficients, q_sample, target, x0_from
from wamlab.diffusion.sampling import guided, sample
from wamlab.diffusion.schedules import make_schedule
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.models.blocks import (
    Block,
    FourierEmbedding,
    Normalized,
    TimestepEmbedding,
    check_horizon,
    check_inputs,
    check_shape,
    modulate,
    patchify,
    unpatchify,
)
from wamlab.models.ego_motion import EgoMotion
from wamlab.types import ACTIONS, Batch, Codec, Rollout

#: Standard deviations of the latents beyond which an x0 that was computed from eps is cut off.
EPS_CLIP = 6.0


@dataclass(frozen=True)
class AnchoredDiTConfig:
    """Attributes:
    objective: `direct` or `diffusion`.
    prediction: what the denoiser predicts of the change from the present, and its loss compares: `x0`, `eps` (the noise) or `v`;
        `direct` always predicts the change itself.
    anchored: predict the change from the present; False: the future itself.
    ego_motion: the anchor is the present moved as the actions say (see `EgoMotion`), and is seen beside the present.
    present: `concat` or `pooled` (the paper's).
    action_sequence: each horizon step sees the action that leads to it; False: every step sees the first one only.
    actions: the columns of `wamlab.types.ACTIONS` that the model sees.
    channels, size: of the latents, c and h = w; horizon: the most future frames; num_context: context frames seen in `concat`.
    jump: frames between a prediction and what it is anchored on, whose actions' embeddings are averaged (only `Jump` has several).
    patch: side of a token in latent pixels.
    fourier_scale: standard deviation of the initial action frequencies, cycles per standard deviation of the action.
    frequencies, gates, stacked: what differs in the authors' code, by name: `learned` or `octaves` (see `FourierEmbedding`); `zero` or
        `random`, how the blocks' gates start; and a second linear layer after the first and before the last, with a gate on what
        goes into the last, which is where 3 (dim² + dim) of its 5,396,288 parameters are.
    action_dropout: how often in training the action embedding of a sample is zeroed, for guidance.
    schedule, diffusion_steps: of the forward process.
    """

    objective: str = "diffusion"
    prediction: str = "x0"
    anchored: bool = True
    ego_motion: bool = False
    present: str = "concat"
    action_sequence: bool = True
    actions: tuple[str, ...] = ACTIONS
    channels: int = 4
    size: int = 16
    horizon: int = 4
    num_context: int = 1
    jump: int = 1
    patch: int = 4
    dim: int = 128
    depth: int = 4
    heads: int = 4
    mlp_ratio: int = 4
    num_frequencies: int = 64
    fourier_scale: float = 0.25
    frequencies: str = "learned"
    gates: str = "zero"
    stacked: bool = False
    action_dropout: float = 0.1
    schedule: str = "cosine"
    diffusion_steps: int = 1000

    def __post_init__(self) -> None:
        choices = {
            "objective": ("direct", "diffusion"),
            "prediction": OBJECTIVES,
            "present": ("concat", "pooled"),
            "frequencies": ("learned", "octaves"),
            "gates": ("zero", "random"),
        }
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise UnknownName(field, getattr(self, field), known)
        for name in self.actions:
            if name not in ACTIONS:
                raise UnknownName("action", name, ACTIONS)
        if self.size % self.patch:
            raise InvalidParameter(f"patch must divide the latents' size {self.size}, and {self.patch} does not")
        if self.dim % (2 * self.heads):
            raise InvalidParameter(f"dim must be a multiple of 2 * heads = {2 * self.heads}, and {self.dim} is not")


class Condition(NamedTuple):
    """What stays the same over the sampler's steps: tokens (B, 1 or F, P, D) of the present, vector (B, F, D) of actions and present,
    and the anchor (B, 1 or F, c, h, w)."""

    tokens: Tensor
    vector: Tensor
    anchor: Tensor


class AnchoredDiT(Normalized):
    """See the module's docstring. Axes: B samples, F future frames, P patches, D = dim, c × h × w latents, A action columns."""

    def __init__(self, config: AnchoredDiTConfig, name: str | None = None) -> None:
        super().__init__(config.channels)
        self.config, self.name = config, name or config.objective
        c = config
        width, num_patches = c.channels * c.patch**2, (c.size // c.patch) ** 2
        self.action_columns = [ACTIONS.index(name) for name in c.actions]

        self.embed_x = nn.Linear(width, c.dim)
        self.embed_present = nn.Linear(width * (c.num_context if c.present == "concat" else 1), c.dim)
        self.ego_motion = EgoMotion(c.channels, c.size) if c.ego_motion else None
        self.embed_anchor = nn.Linear(width, c.dim) if c.ego_motion else None
        self.embed_time = TimestepEmbedding(c.dim)
        self.embed_action = FourierEmbedding(len(c.actions), c.dim, c.num_frequencies, c.fourier_scale, c.frequencies)
        self.spatial_position = nn.Parameter(torch.randn(1, 1, num_patches, c.dim) * 0.02)
        self.temporal_position = nn.Parameter(torch.randn(1, c.horizon, 1, c.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(c.dim, c.heads, c.mlp_ratio, c.gates) for _ in range(c.depth))
        self.stack_in, self.stack_out = (nn.Linear(c.dim, c.dim) if c.stacked else None for _ in range(2))
        self.final_modulation = nn.Linear(c.dim, (3 if c.stacked else 2) * c.dim)
        self.head = nn.Linear(c.dim, width)
        for layer in (self.final_modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if c.stacked:
            nn.init.ones_(self.final_modulation.bias[2 * c.dim :])  # the gate: at 0 no gradient would reach the head
        self.register_buffer("alphas_cumprod", make_schedule(c.schedule, c.diffusion_steps), persistent=False)

    def fit_anchor(self, batches: Iterable[Batch], codec: Codec) -> None:
        """Where the anchor moves, fit how, on some training batches; call once, after `fit_normalization`."""
        if self.ego_motion is not None:
            batches = list(batches)
            context, future, actions = (
                torch.cat([getattr(b, k) for b in batches]) for k in ("context", "future", "actions")
            )
            self.ego_motion.fit(context, future, actions, codec, self.latents)

    # -- the network: everything below is in standardised latents -------------------------------------------------------------

    def condition(self, context: Tensor, actions: Tensor, keep: Tensor | None = None) -> Condition:
        """context: (B, C, c, h, w); actions: (B, F · jump, A); keep: (B,) in {0, 1}, zeroes the action embedding where 0."""
        c = self.config
        patches = patchify(context[:, -c.num_context :], c.patch)  # (B, C, P, width)
        seen = actions if c.action_sequence else actions[:, :1].expand_as(actions)
        action = self.embed_action(self.actions(seen)[..., self.action_columns])  # (B, F · jump, D)
        action = action.unflatten(1, (-1, c.jump)).mean(dim=2)  # (B, F, D)
        if keep is not None:
            action = action * keep[:, None, None].to(action)
        tokens, anchor = self.spatial_position, context[:, -1:]
        if self.ego_motion is not None:
            anchor = self.ego_motion(anchor, seen, c.jump)  # (B, F, c, h, w)
            tokens = tokens + self.embed_anchor(patchify(anchor, c.patch))
        if c.present == "pooled":
            pooled = self.embed_present(patches[:, -1].mean(dim=1))  # (B, D)
            return Condition(tokens, action + pooled[:, None], anchor)
        present = self.embed_present(patches.transpose(1, 2).flatten(2))  # (B, P, D)
        return Condition(tokens + present[:, None], action, anchor)

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """`prediction` of the change. x: (B, F, c, h, w), or (B, 1, c, h, w) to be replicated; t: (B,) -> (B, F, c, h, w)."""
        frames = condition.vector.shape[1]
        tokens = self.embed_x(patchify(x, self.config.patch))  # (B, F or 1, P, D)
        if self.stack_in is not None:
            tokens = self.stack_in(tokens)
        tokens = tokens + condition.tokens
        tokens = tokens + self.temporal_position[:, :frames]  # (B, F, P, D)
        vector = F.silu(condition.vector + self.embed_time(t)[:, None])  # (B, F, D)
        for block in self.blocks:
            tokens = block(tokens, vector)
        modulation = self.final_modulation(vector)[:, :, None]  # (B, F, 1, 2 or 3 D)
        shift, scale, *gate = modulation.split(self.config.dim, dim=-1)
        tokens = modulate(tokens, shift, scale)
        if self.stack_out is not None:
            tokens = gate[0] * self.stack_out(tokens)
        return unpatchify(self.head(tokens), self.config.patch, x.shape[-2:])

    def denoised(self, x: Tensor, output: Tensor, origin: Tensor, alpha_bar: Tensor) -> Tensor:
        """The future that `forward`'s output means. x: (B, F, c, h, w) at noise level alpha_bar (B,); origin: (B, 1, c, h, w).

        The noised change is x - sqrt(alpha-bar) · origin: it has the noise of x. From eps the last steps divide by a signal near 0, so
        that estimate is held within `EPS_CLIP` standard deviations, as samplers of such models do.
        """
        a, _ = coefficients(alpha_bar, x)
        x0 = origin + x0_from(self.config.prediction, x - a * origin, output, alpha_bar)
        return x0.clamp(-EPS_CLIP, EPS_CLIP) if self.config.prediction == "eps" else x0

    def origin(self, condition: Condition) -> Tensor:
        """What the predicted change starts from: the anchor, or the mean latent if the model has none."""
        return condition.anchor if self.config.anchored else torch.zeros_like(condition.anchor)

    # -- training -------------------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """MSE of what is predicted, in standardised latents; `vs_copy`: the future's error as a fraction of that of copying the present."""
        self._check(batch.context, batch.actions)
        shape = (len(batch), batch.actions.shape[1] // self.config.jump, *batch.context.shape[2:])
        check_shape("future", batch.future, "B F c h w", shape)
        context, future = self.latents(batch.context), self.latents(batch.future)
        present, device = context[:, -1:], future.device
        keep = torch.rand(len(batch), generator=generator, device=generator.device) >= self.config.action_dropout
        condition = self.condition(context, batch.actions, keep.to(device) if self.training else None)
        origin = self.origin(condition)
        if self.config.objective == "direct":
            t = torch.zeros(len(batch), dtype=torch.int64, device=device)
            want = future - origin
            output = self(condition.anchor, t, condition).float()
            x0 = origin + output
        else:
            t = torch.randint(self.config.diffusion_steps, (len(batch),), generator=generator, device=generator.device)
            noise = torch.randn(future.shape, generator=generator, device=generator.device)
            t, noise = t.to(device), noise.to(device)
            alpha_bar = self.alphas_cumprod[t]
            x = q_sample(future, noise, alpha_bar)
            want = target(self.config.prediction, future - origin, noise, alpha_bar)
            output = self(x, t, condition).float()
            x0 = self.denoised(x, output.detach(), origin, alpha_bar)
        loss = F.mse_loss(output, want)
        error, change = (x0.detach() - future).square().mean(), (future - present).square().mean()
        return loss, {"vs_copy": float(error / change.clamp(min=1e-12))}

    # -- prediction -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rollout(
        self,
        context: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        *,
        steps: int = 10,
        eta: float = 0.0,
        guidance: float = 1.0,
        sampler: str = "ddim",
        strength: float = 1.0,
        start: Tensor | None = None,
        noise: Tensor | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Rollout:
        """Predict the frames that the actions lead to, in one pass over the horizon. Only `diffusion` reads what is said of samplers.

        Args:
            context: (B, C, c, h, w) latents as the codec gives them; the last is the present.
            actions: (B, F, A), columns `ACTIONS`, F up to the horizon.
            generator: draws the initial noise.
            steps, eta, sampler: as `wamlab.diffusion.sampling.sample` takes them.
            strength: how much of the way from the data to noise is gone before denoising: 1 starts from noise, less from `start`, noised.
            start: (B, F, c, h, w) latents, such as a direct prediction; by default the anchor.
            guidance: weight w of x0 = x0_without_action + w (x0_with - x0_without); 1 needs one pass a step, others two.
            noise: (B, F, c, h, w) or (1, F, c, h, w) in place of drawing it: one noise for several action sequences.
            callback: called with (steps done, steps).

        Raises `InvalidShape`, `InvalidAction` and `HorizonTooLong`; warns `ActionOutOfRange`.
        """
        self._check(context, actions)
        self.actions.warn_outside(actions)
        batch, frames = len(actions), actions.shape[1] // self.config.jump
        device = self.head.weight.device
        context, actions = context.to(device), actions.to(device)
        steps = 1 if self.config.objective == "direct" else steps
        standard = self.latents(context)
        condition = self.condition(standard, actions)
        blind = condition if guidance == 1 else self.condition(standard, actions, torch.zeros(batch, device=device))
        output = guided(lambda x, t: self(x, t, condition), lambda x, t: self(x, t, blind), guidance)
        origin = self.origin(condition)
        if self.config.objective == "direct":
            x0 = origin + output(condition.anchor, torch.zeros(batch, dtype=torch.int64, device=device))
            if callback is not None:
                callback(1, 1)
        else:
            shape = (batch, frames, *context.shape[2:])
            if noise is None:
                noise = torch.randn(shape, generator=generator, device=generator.device)
            check_shape("noise", noise, "B F c h w", (batch if len(noise) != 1 else 1, *shape[1:]))
            noise = noise.to(context).expand(shape)

            def predict_x0(x: Tensor, t: Tensor) -> Tensor:
                return self.denoised(x, output(x, t), origin, self.alphas_cumprod[t])

            guess = condition.anchor.expand(shape) if start is None else self.latents(start.to(context))
            x0 = sample(
                predict_x0,
                noise,
                self.alphas_cumprod,
                steps,
                sampler=sampler,
                eta=eta,
                generator=generator,
                start=None if strength == 1 else guess,
                strength=strength,
                callback=callback,
            )
        latents = context[:, -1:] + self.latents.scale(x0 - standard[:, -1:])  # where they agree, to the bit
        settings = {"steps": steps, "eta": eta, "guidance": guidance, "sampler": sampler, "strength": strength}
        return Rollout(latents, actions, self.name, generator.initial_seed(), settings)

    def _check(self, context: Tensor, actions: Tensor) -> None:
        c = self.config
        check_inputs(context, actions, c.channels, c.size, c.num_context if c.present == "concat" else 1)
        self._check_frames(actions.shape[1])

    def _check_frames(self, frames: int) -> None:
        check_horizon(frames, self.config.horizon)
