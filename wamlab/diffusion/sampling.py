"""From noise, or from a first guess, to data: the one entry to the samplers, which models call; and classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from wamlab.diffusion.ddim import ddim
from wamlab.diffusion.multistep import dpm_solver
from wamlab.diffusion.objectives import q_sample
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName

#: (x_t (B, ...), t (B,) int64) -> x0 (B, ...).
Denoiser: TypeAlias = Callable[[Tensor, Tensor], Tensor]

#: By name: DDIM, and the deterministic multistep solvers of second and third order.
SAMPLERS: Mapping[str, Callable[..., Tensor]] = {
    "ddim": ddim,
    "dpmpp-2m": partial(dpm_solver, order=2),
    "dpmpp-3m": partial(dpm_solver, order=3),
}


def sample(
    predict_x0: Denoiser,
    noise: Tensor,
    alphas_cumprod: Tensor,
    steps: int,
    *,
    sampler: str = "ddim",
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    start: Tensor | None = None,
    strength: float = 1.0,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw data from noise; or, warm, from `start` noised to `strength` of the way (SDEdit, Meng et al. 2022, algorithm 1).

    Args:
        predict_x0: the denoiser; `x0_from` turns a prediction of eps or v into it.
        noise: (B, ...), standard normal.
        alphas_cumprod: (T,), the schedule that the model was trained with.
        steps: evaluations of `predict_x0` from pure noise. A warm start runs the last `strength` of them.
        sampler: a name in `SAMPLERS`.
        eta: of DDIM: 0 is deterministic, 1 has the variance of ancestral sampling.
        generator: draws the noise that is added between steps; only read when eta > 0.
        start: (B, ...) or (1, ...), a first guess in the model's (standardised) data space.
        strength: in [0, 1]. At 0 `start` comes back as it is; at 1 it is forgotten, and the sample is that from `noise`.
        callback: called with (steps done, steps to do) after each step.

    Raises `UnknownName`, `InvalidParameter` and `InvalidShape`.
    """
    if sampler not in SAMPLERS:
        raise UnknownName("sampler", sampler, SAMPLERS)
    if eta and sampler != "ddim":
        raise InvalidParameter(f"sampler {sampler} is deterministic, so eta must be 0, not {eta}; ddim takes any")
    if eta and generator is None:
        raise InvalidParameter(f"eta = {eta} adds noise between steps, so it needs a generator; give one, or eta = 0")
    if start is None and strength != 1:
        raise InvalidParameter(
            f"strength = {strength} noises a start that far, so it needs one; give a start, or strength = 1"
        )
    timesteps, x = trailing_timesteps(len(alphas_cumprod), steps), noise
    if start is not None:
        if start.shape[1:] != noise.shape[1:] or len(start) not in (1, len(noise)):
            raise InvalidShape(
                f"start has shape {tuple(start.shape)}; it must be that of the noise, {tuple(noise.shape)}"
            )
        timesteps = timesteps[steps - warm_steps(steps, strength) :]
        if not timesteps:
            return start.expand_as(noise).clone()
        if len(timesteps) < steps:
            x = q_sample(start.to(noise), noise, alphas_cumprod[timesteps[0]])
    options = {"eta": eta, "generator": generator} if sampler == "ddim" else {}
    return SAMPLERS[sampler](predict_x0, x, alphas_cumprod, timesteps, callback=callback, **options)


def trailing_timesteps(num_train_steps: int, steps: int) -> list[int]:
    """`steps` training steps from T - 1 downwards, evenly spaced ("trailing": Lin et al. 2024, table 2). Raises `InvalidParameter`."""
    if not 1 <= steps <= num_train_steps:
        raise InvalidParameter(
            f"sampler steps must be between 1 and {num_train_steps} (those of training), not {steps}"
        )
    stride = num_train_steps / steps
    return [round(num_train_steps - i * stride) - 1 for i in range(steps)]


def warm_steps(steps: int, strength: float) -> int:
    """How many of `steps` a warm start runs: the nearest to `strength` of them, at least one unless it is 0. Raises `InvalidParameter`."""
    if not 0 <= strength <= 1:
        raise InvalidParameter(f"strength must be between 0 (keep the start) and 1 (forget it), not {strength}")
    return max(round(steps * strength), int(strength > 0))


def guided(conditional: Denoiser, unconditional: Denoiser, weight: float) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022, equation 6): unconditional + weight (conditional - unconditional).

    Their w is weight - 1; eps and v, affine in x0, are guided alike. At 1 this is the conditional denoiser itself, at the cost of one pass and not two; at 0 the unconditional one.
    """
    if weight == 1:
        return conditional
    if weight == 0:
        return unconditional
    return lambda x, t: torch.lerp(unconditional(x, t), conditional(x, t), weight)
