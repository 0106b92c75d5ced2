"""Flow matching against a closed-form velocity, against diffusers (whose time runs the other way), and against DDIM."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from known import Mixture, slope

from wamlab.diffusion import flow
from wamlab.diffusion.objectives import q_sample
from wamlab.diffusion.sampling import sample, trailing_timesteps
from wamlab.diffusion.schedules import make_schedule
from wamlab.errors import InvalidParameter, UnknownName

ALPHAS = make_schedule("cosine")
MIXTURE = Mixture(ALPHAS)
ZERO, ONE = torch.zeros(()).double(), torch.ones(()).double()


def noise(count=1000, seed=0):
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid(steps):
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("sigma_min", [0.0, 0.001])
def test_paths_are_straight_from_noise_to_data(sigma_min):
    x, eps = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(flow.interpolate(x, eps, ZERO, sigma_min), eps)
    torch.testing.assert_close(flow.interpolate(x, eps, ONE, sigma_min), x + sigma_min * eps)
    t = torch.tensor([0.1, 0.4, 0.7, 0.99], dtype=torch.float64)
    v = flow.velocity_target(x, eps, sigma_min)
    slope_ = (flow.interpolate(x, eps, t + 1e-4, sigma_min) - flow.interpolate(x, eps, t, sigma_min)) / 1e-4
    torch.testing.assert_close(slope_, v)
    x_t = flow.interpolate(x, eps, t, sigma_min)
    torch.testing.assert_close(flow.data_from_velocity(x_t, v, t, sigma_min), x)
    torch.testing.assert_close(flow.noise_from_velocity(x_t, v, t), eps)


def test_has_the_formulas_of_vavam():
    """x_t = (1 - .999 t) eps + t x, target x - .999 eps (its paper's flow-matching section)."""
    x, eps = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    t = torch.rand(4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(flow.interpolate(x, eps, t, 0.001), (1 - 0.999 * t[:, None]) * eps + t[:, None] * x)
    torch.testing.assert_close(flow.velocity_target(x, eps, 0.001), x - 0.999 * eps)


def test_training_times_have_their_distribution():
    g = torch.Generator().manual_seed(0)
    uniform = flow.training_times(50_000, g)
    assert uniform.mean().item() == pytest.approx(1 / 2, abs=0.005)
    vavam = flow.training_times(50_000, g, concentration=1.5, latest=0.999)
    beta = torch.distributions.Beta(1.5, 1.0)
    want = 0.999 * (1 - beta.mean)
    assert vavam.mean().item() == pytest.approx(want.item(), abs=0.005)
    assert vavam.std().item() == pytest.approx(0.999 * beta.stddev.item(), abs=0.005)
    assert vavam.min() >= 0 and vavam.max() <= 0.999


@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_carries_noise_to_a_gaussian_mixture(solver):
    x = flow.integrate(MIXTURE.velocity, noise(20_000), grid(50), solver=solver)
    mean = (MIXTURE.weights * MIXTURE.means).sum()
    second = (MIXTURE.weights * (MIXTURE.means**2 + MIXTURE.std**2)).sum()
    assert x.mean().item() == pytest.approx(mean.item(), abs=0.03)
    assert x.square().mean().item() == pytest.approx(second.item(), abs=0.06)
    assert (x < 0).double().mean().item() == pytest.approx(MIXTURE.cdf(ZERO, ONE, ZERO).item(), abs=0.01)


def test_errors_fall_with_the_order_of_the_solver():
    x, steps = noise(), [10, 20, 40, 80]
    exact = MIXTURE.flow(x, ZERO, ONE)
    order = {
        s: slope(steps, [(flow.integrate(MIXTURE.velocity, x, grid(n), solver=s) - exact).abs().mean() for n in steps])
        for s in flow.SOLVERS
    }
    assert order["euler"] == pytest.approx(1, abs=0.1)
    assert order["heun"] == pytest.approx(2, abs=0.25)


def test_a_field_of_the_other_direction_is_wrong_until_converted():
    x = noise()
    exact = MIXTURE.flow(x, ZERO, ONE)

    def other(x, t):
        """As it is published where t = 0 is data: d x / d t' with t' = 1 - t."""
        return -MIXTURE.velocity(x, 1 - t)

    error = {
        name: (flow.integrate(field, x, grid(100)) - exact).abs().mean().item()
        for name, field in (
            ("converted", flow.reverse_time(other)),
            ("as it is", other),
            ("only its sign", lambda x, t: -other(x, t)),
            ("only its time", lambda x, t: other(x, 1 - t)),
        )
    }
    assert error.pop("converted") < 0.02
    assert min(error.values()) > 0.2, error
    twice = flow.reverse_time(flow.reverse_time(MIXTURE.velocity))
    t = torch.full((len(x),), 0.3, dtype=torch.float64)
    torch.testing.assert_close(twice(x, t), MIXTURE.velocity(x, t))


def test_equals_diffusers_whose_time_runs_the_other_way():
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(10)
    x = ours = noise().float()

    def theirs(x, sigma):
        return -MIXTURE.velocity(x, 1 - sigma)

    for t in scheduler.timesteps:
        x = scheduler.step(theirs(x, (t / 1000).repeat(len(x))), t, x).prev_sample
    ours = flow.integrate(flow.reverse_time(theirs), ours, 1 - scheduler.sigmas)
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=0)


def test_diffusion_and_flow_convert_into_each_other():
    x0, eps = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha_bar = ALPHAS[torch.tensor([0, 100, 500, 900, 999])]
    t, x_t = flow.time_of(alpha_bar), q_sample(x0, eps, alpha_bar)
    on_path = flow.flow_from_diffusion(x_t, alpha_bar)
    torch.testing.assert_close(on_path, flow.interpolate(x0, eps, t))
    torch.testing.assert_close(flow.diffusion_from_flow(on_path, t), x_t)
    torch.testing.assert_close(flow.alpha_bar_of(t), alpha_bar)


def test_euler_at_the_steps_of_a_diffusion_model_is_ddim():
    x, timesteps = noise(), trailing_timesteps(len(ALPHAS), 20)
    times = torch.cat([flow.time_of(ALPHAS[timesteps]), ONE[None]])
    velocity = flow.velocity_from_denoiser(MIXTURE.denoise, ALPHAS)
    ours = flow.integrate(velocity, flow.flow_from_diffusion(x, ALPHAS[timesteps[0]]), times)
    torch.testing.assert_close(ours, sample(MIXTURE.denoise, x, ALPHAS, 20))
    t = flow.time_of(ALPHAS[[300]]).expand(len(x))
    torch.testing.assert_close(velocity(x, t), MIXTURE.velocity(x, t))


def test_progress_and_bad_settings():
    seen = []
    flow.integrate(MIXTURE.velocity, noise(2), grid(3), callback=lambda *a: seen.append(a))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(UnknownName, match="'rk4'; known: euler, heun"):
        flow.integrate(MIXTURE.velocity, noise(2), grid(3), solver="rk4")
    for times in (grid(3).flip(0), grid(3)[:1], grid(3) * 2, grid(3) - 0.5):
        with pytest.raises(InvalidParameter, match="must rise from noise"):
            flow.integrate(MIXTURE.velocity, noise(2), times)
