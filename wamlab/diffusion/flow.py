"""Flow matching with one direction of time: t = 0 is noise, t = 1 is data (Lipman et al. 2023). Pure functions, and the borders.

The path is x_t = t x + (1 - (1 - sigma_min) t) eps and its velocity dx_t / dt = x - (1 - sigma_min) eps (their equations 22 and 23):
straight lines. VaVAM has sigma_min = 0.001. Where t = 1 is noise (DriveVLA-W0, diffusers), `reverse_time` is the border; for a
variance-preserving diffusion model, `velocity_from_denoiser`. t is a scalar or (B,), spread over the trailing axes of x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from wamlab.diffusion.objectives import eps_from_x0
from wamlab.errors import InvalidParameter, UnknownName

#: (x_t (B, ...), t (B,)) -> dx_t / dt (B, ...).
Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]

SOLVERS = ("euler", "heun")


def interpolate(x: Tensor, noise: Tensor, t: Tensor, sigma_min: float = 0.0) -> Tensor:
    """x_t on the straight path from the noise to the data x."""
    t = spread(t, x)
    return t * x + (1 - (1 - sigma_min) * t) * noise


def velocity_target(x: Tensor, noise: Tensor, sigma_min: float = 0.0) -> Tensor:
    """What a flow model learns to give anywhere on that path: its regression target."""
    return x - (1 - sigma_min) * noise


def data_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor, sigma_min: float = 0.0) -> Tensor:
    """The end of the path through x_t with this velocity."""
    return (1 - sigma_min) * x_t + (1 - (1 - sigma_min) * spread(t, x_t)) * velocity


def noise_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The beginning of the path through x_t with this velocity, whatever its sigma_min."""
    return x_t - spread(t, x_t) * velocity


def training_times(
    count: int, generator: torch.Generator, *, concentration: float = 1.0, latest: float = 1.0
) -> Tensor:
    """(count,) of latest · (1 - Beta(concentration, 1)): 1 is uniform, more prefers the noisy end (1.5 and .999 in VaVAM, as in pi-0)."""
    uniform = torch.rand(count, generator=generator, device=generator.device)
    return latest * (1 - uniform ** (1 / concentration))


def integrate(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    *,
    solver: str = "euler",
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Carry x from the first of `times` to the last: `torch.linspace(0, 1, steps + 1)` from noise to data.

    Args:
        velocity: the learned field.
        x: (B, ...) at times[0]: noise where that is 0, `interpolate(start, noise, times[0])` for a warm start.
        times: (steps + 1,), rising in [0, 1].
        solver: `euler`, or `heun` (second order, two evaluations a step).
        callback: called with (steps done, steps) after each step.

    Raises `UnknownName`, and `InvalidParameter` where the times do not rise.
    """
    if solver not in SOLVERS:
        raise UnknownName("flow solver", solver, SOLVERS)
    if times.ndim != 1 or len(times) < 2 or times[0] < 0 or times[-1] > 1 or (times.diff() <= 0).any():
        raise InvalidParameter(
            f"flow times must rise from noise (0) to data (1), at least two of them, not {times.tolist()}; "
            "where 1 is noise, convert by reverse_time"
        )
    pairs = list(zip(times[:-1], times[1:], strict=True))
    for i, (t, t_next) in enumerate(pairs):
        step = (t_next - t).to(x)
        v = velocity(x, t.to(x).expand(len(x)))
        if solver == "heun":
            ahead = velocity(x + step * v, t_next.to(x).expand(len(x)))
            v = (v + ahead) / 2
        x = x + step * v
        if callback is not None:
            callback(i + 1, len(pairs))
    return x


# -- borders ------------------------------------------------------------------------------------------------------------------


def reverse_time(velocity: Velocity) -> Velocity:
    """A field whose time runs from data (0) to noise (1), as ours; and ours as such a one: the same conversion both ways."""
    return lambda x, t: -velocity(x, 1 - t)


def time_of(alpha_bar: Tensor) -> Tensor:
    """The flow time with the signal-to-noise ratio of a diffusion step: t / (1 - t) = sqrt(alpha-bar / (1 - alpha-bar))."""
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return signal / (signal + noise)


def alpha_bar_of(t: Tensor) -> Tensor:
    """The inverse of `time_of`."""
    return t.square() / (t.square() + (1 - t).square())


def flow_from_diffusion(x: Tensor, alpha_bar: Tensor) -> Tensor:
    """A diffusion state x_t as the state of the path (sigma_min = 0) at `time_of(alpha_bar)`."""
    return x / spread(alpha_bar.sqrt() + (1 - alpha_bar).sqrt(), x)


def diffusion_from_flow(x: Tensor, t: Tensor) -> Tensor:
    """The inverse of `flow_from_diffusion`, at `alpha_bar_of(t)`."""
    return x / spread((t.square() + (1 - t).square()).sqrt(), x)


def velocity_from_denoiser(predict_x0: Callable[[Tensor, Tensor], Tensor], alphas_cumprod: Tensor) -> Velocity:
    """The flow of a diffusion model. Exact at `time_of(alphas_cumprod)`; between them the model is asked at the nearest step.

    With Euler's steps at those times it is DDIM. Nearer to the data than the schedule reaches, the last step's prediction holds.
    """
    times = time_of(alphas_cumprod.double())  # falling with the step

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        step = (times.to(t.device)[None] - t[:, None].double()).abs().argmin(dim=1)  # (B,)
        x = diffusion_from_flow(x, t)
        x0 = predict_x0(x, step)
        return x0 - eps_from_x0(x, x0, alpha_bar_of(t))

    return velocity


def spread(t: Tensor, x: Tensor) -> Tensor:
    """t, a scalar or (B,), shaped to multiply x and cast to its type."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)).to(x)
