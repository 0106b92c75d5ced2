"""DDIM against diffusers on the same noise, and against distributions whose denoiser is known in closed form."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from wamlab.diffusion.ddim import ddim_timesteps, sample_ddim
from wamlab.diffusion.schedules import make_schedule
from wamlab.errors import InvalidParameter

ALPHAS = make_schedule("cosine")


def gaussian(mean, std):
    """E[x0 | x_t] for x0 ~ N(mean, std²)."""

    def predict_x0(x, t):
        a = ALPHAS[t].reshape(-1, *[1] * (x.ndim - 1)).to(x)
        return mean + a.sqrt() * std**2 / (a * std**2 + 1 - a) * (x - a.sqrt() * mean)

    return predict_x0


def mixture(means, std, weights):
    """E[x0 | x_t] for x0 ~ sum_k w_k N(m_k, std²), in one dimension."""

    def predict_x0(x, t):
        a = ALPHAS[t].reshape(-1, 1).to(x)
        var = a * std**2 + 1 - a
        log_w = weights.log() - (x - a.sqrt() * means).square() / (2 * var)  # (B, K)
        each = means + a.sqrt() * std**2 / var * (x - a.sqrt() * means)
        return (log_w.softmax(-1) * each).sum(-1, keepdim=True)

    return predict_x0


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_equals_diffusers(steps, eta):
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == ddim_timesteps(1000, steps)
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    predict = gaussian(0.3, 0.5)
    theirs, g = noise, torch.Generator().manual_seed(7)
    for t in scheduler.timesteps:
        theirs = scheduler.step(predict(theirs, t.repeat(3)), t, theirs, eta=eta, generator=g).prev_sample
    ours = sample_ddim(predict, noise, ALPHAS, steps, eta, torch.Generator().manual_seed(7))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_converges_to_the_exact_flow_of_a_gaussian_at_first_order():
    mean, std = 0.3, 0.5
    noise = torch.randn(4096, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = ALPHAS[-1]
    exact = mean + std * (noise - a.sqrt() * mean) / (a * std**2 + 1 - a).sqrt()
    steps = [10, 20, 40, 80, 160]
    errors = [(sample_ddim(gaussian(mean, std), noise, ALPHAS, n) - exact).square().mean().sqrt().item() for n in steps]
    slope = (math.log(errors[-1]) - math.log(errors[0])) / (math.log(steps[-1]) - math.log(steps[0]))
    assert slope == pytest.approx(-1, abs=0.25)
    assert errors[-1] < 0.01


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_draws_a_gaussian_mixture(eta):
    means, weights = torch.tensor([-2.0, 1.0]), torch.tensor([0.3, 0.7])
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    x = sample_ddim(mixture(means, 0.2, weights), noise, ALPHAS, 100, eta, torch.Generator().manual_seed(1))
    right = x[x > -0.5]
    assert len(right) / len(x) == pytest.approx(0.7, abs=0.02)
    assert right.mean().item() == pytest.approx(1.0, abs=0.02)
    assert right.std().item() == pytest.approx(0.2, abs=0.03)


def test_progress_and_bad_settings():
    seen = []
    sample_ddim(gaussian(0.0, 1.0), torch.zeros(1, 1), ALPHAS, 3, callback=lambda i, n: seen.append((i, n)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InvalidParameter, match="between 1 and 1000"):
        sample_ddim(gaussian(0.0, 1.0), torch.zeros(1, 1), ALPHAS, 1001)
    with pytest.raises(InvalidParameter, match="needs a generator"):
        sample_ddim(gaussian(0.0, 1.0), torch.zeros(1, 1), ALPHAS, 3, eta=1.0)
