"""DPM-Solver++ (Lu et al. 2022), which reuses the predictions of earlier steps: diffusers' scheduler as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def dpm_solver(
    predict_x0: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    alphas_cumprod: Tensor,
    timesteps: Sequence[int],
    *,
    order: int,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """From x at the noise level of the first of `timesteps` to data, deterministically, by DPM-Solver++ of order 1, 2 or 3 ("2M", "3M").

    The timesteps are given to the scheduler, whose own "trailing" ones are sometimes one too many. It works in float32.
    Arguments as in `wamlab.diffusion.sampling.sample`.
    """
    from diffusers import DPMSolverMultistepScheduler  # takes seconds to import

    alphas_cumprod = alphas_cumprod.double().cpu()
    alphas = alphas_cumprod / torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=len(alphas),
        trained_betas=(1 - alphas).tolist(),
        prediction_type="sample",
        algorithm_type="dpmsolver++",
        solver_order=order,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(timesteps=list(timesteps))
    for i, t in enumerate(scheduler.timesteps):
        x0 = predict_x0(x, torch.full((len(x),), int(t), dtype=torch.int64, device=x.device))
        x = scheduler.step(x0, t, x).prev_sample
        if callback is not None:
            callback(i + 1, len(timesteps))
    return x
