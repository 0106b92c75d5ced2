"""The forward process and the three things a denoiser may predict: x0, eps (the noise) or v. Pure functions of tensors.

x_t = sqrt(alpha-bar_t) x0 + sqrt(1 - alpha-bar_t) eps (Ho et al. 2020, equation 4), and
v = sqrt(alpha-bar_t) eps - sqrt(1 - alpha-bar_t) x0 (Salimans and Ho 2022, appendix D).
`alpha_bar` is a scalar or (B,), one value for each sample, and is spread over the trailing axes of x.
"""

from __future__ import annotations

from torch import Tensor

from wamlab.errors import UnknownName

#: What a denoiser may predict, by the names that `target`, `x0_from` and `min_snr_weight` take.
OBJECTIVES = ("x0", "eps", "v")


def coefficients(alpha_bar: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha-bar) and sqrt(1 - alpha-bar), computed in alpha_bar's precision, shaped to multiply x and cast to its type."""
    alpha_bar = alpha_bar.reshape(alpha_bar.shape + (1,) * (x.ndim - alpha_bar.ndim))
    return alpha_bar.sqrt().to(x), (1 - alpha_bar).sqrt().to(x)


def q_sample(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t from x0 and the noise."""
    a, b = coefficients(alpha_bar, x0)
    return a * x0 + b * noise


def target(objective: str, x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What a denoiser with this objective learns to give for `q_sample(x0, noise, alpha_bar)`. Raises `UnknownName`."""
    check_objective(objective)
    if objective == "x0":
        return x0
    if objective == "eps":
        return noise
    a, b = coefficients(alpha_bar, x0)
    return a * noise - b * x0


def x0_from(objective: str, x_t: Tensor, prediction: Tensor, alpha_bar: Tensor) -> Tensor:
    """The data that a prediction of this objective implies. Raises `UnknownName`."""
    check_objective(objective)
    if objective == "x0":
        return prediction
    return (x0_from_eps if objective == "eps" else x0_from_v)(x_t, prediction, alpha_bar)


def min_snr_weight(objective: str, alpha_bar: Tensor, gamma: float = 5.0) -> Tensor:
    """The weight of a squared error of this objective that makes its error of x0 count min(SNR, gamma) (Hang et al. 2023, section 3.4).

    SNR = alpha-bar / (1 - alpha-bar). Shape of `alpha_bar`, float64 if that is. Raises `UnknownName`.
    """
    check_objective(objective)
    snr = alpha_bar / (1 - alpha_bar)
    # |x0 error|² = |eps error|² / SNR = |v error|² / (SNR + 1)
    return snr.clamp(max=gamma) / {"x0": 1, "eps": snr, "v": snr + 1}[objective]


def check_objective(objective: str) -> None:
    """Raise `UnknownName` unless it is in `OBJECTIVES`."""
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES)


def x0_from_eps(x_t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    a, b = coefficients(alpha_bar, x_t)
    return (x_t - b * eps) / a


def eps_from_x0(x_t: Tensor, x0: Tensor, alpha_bar: Tensor) -> Tensor:
    a, b = coefficients(alpha_bar, x_t)
    return (x_t - a * x0) / b


def v_from_x0(x_t: Tensor, x0: Tensor, alpha_bar: Tensor) -> Tensor:
    a, b = coefficients(alpha_bar, x_t)
    return (a * x_t - x0) / b


def x0_from_v(x_t: Tensor, v: Tensor, alpha_bar: Tensor) -> Tensor:
    a, b = coefficients(alpha_bar, x_t)
    return a * x_t - b * v


def eps_from_v(x_t: Tensor, v: Tensor, alpha_bar: Tensor) -> Tensor:
    a, b = coefficients(alpha_bar, x_t)
    return b * x_t + a * v
