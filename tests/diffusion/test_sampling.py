"""The samplers against diffusers on the same noise, and against distributions whose denoiser and flow are known in closed form."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from known import Mixture, slope

from wamlab.diffusion.ddim import ddim
from wamlab.diffusion.objectives import q_sample
from wamlab.diffusion.sampling import SAMPLERS, guided, sample, trailing_timesteps, warm_steps
from wamlab.diffusion.schedules import make_schedule
from wamlab.errors import InvalidParameter, InvalidShape, UnknownName

ALPHAS = make_schedule("cosine")
SETTINGS = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}
MIXTURE = Mixture(ALPHAS)
ORDERS = {"dpmpp-2m": 2, "dpmpp-3m": 3}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(x, t, mean=0.3, std=0.5):
    """E[x0 | x_t] for x0 ~ N(mean, std²)."""
    a = ALPHAS[t].reshape(-1, *[1] * (x.ndim - 1)).to(x)
    return mean + a.sqrt() * std**2 / (a * std**2 + 1 - a) * (x - a.sqrt() * mean)


def theirs(scheduler, x, **options):
    for t in scheduler.timesteps:
        x = scheduler.step(gaussian(x, t.repeat(len(x))), t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim_equals_diffusers(steps, eta):
    scheduler = DDIMScheduler(**SETTINGS, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == trailing_timesteps(1000, steps)
    noise = torch.randn(3, 4, 8, 8, generator=generator())
    want = theirs(scheduler, noise, eta=eta, generator=generator(7))
    ours = sample(gaussian, noise, ALPHAS, steps, eta=eta, generator=generator(7))
    torch.testing.assert_close(ours, want, atol=1e-5, rtol=0)


def test_ddim_equals_diffusers_on_other_timesteps():
    """On evenly spaced ones from 0 ("leading"), and as the first-order case of DPM-Solver++, whose grid need not be even."""
    noise = torch.randn(3, 4, 8, 8, generator=generator())
    for scheduler in (
        DDIMScheduler(**SETTINGS, clip_sample=False, timestep_spacing="leading"),
        DPMSolverMultistepScheduler(**SETTINGS, solver_order=1, timestep_spacing="linspace"),
    ):
        scheduler.set_timesteps(7)
        ours = ddim(gaussian, noise, ALPHAS, scheduler.timesteps.tolist())
        torch.testing.assert_close(ours, theirs(scheduler, noise), atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 3, 10, 50])
@pytest.mark.parametrize("name", ORDERS)
def test_multistep_equals_diffusers(name, steps):
    scheduler = DPMSolverMultistepScheduler(**SETTINGS, solver_order=ORDERS[name], timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    noise = torch.randn(3, 4, 8, 8, generator=generator())
    ours = sample(gaussian, noise, ALPHAS, steps, sampler=name)
    torch.testing.assert_close(ours, theirs(scheduler, noise), atol=1e-5, rtol=0)


def test_errors_fall_with_the_order_of_the_solver():
    noise = torch.randn(1000, 1, generator=generator(), dtype=torch.float64)
    a = ALPHAS[-1]
    exact, steps = MIXTURE.flow(noise, a.sqrt(), (1 - a).sqrt()), [10, 20, 40, 80]
    order = {}
    for name, given in (("ddim", noise), ("dpmpp-2m", noise.float())):
        errors = [(sample(MIXTURE.denoise, given, ALPHAS, n, sampler=name) - exact).abs().mean().item() for n in steps]
        order[name] = slope(steps, errors)
    assert order["ddim"] == pytest.approx(1, abs=0.1)
    assert order["dpmpp-2m"] == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpmpp-2m", 0.0), ("dpmpp-3m", 0.0)])
def test_draws_a_gaussian_mixture(sampler, eta):
    mixture = Mixture(ALPHAS, means=(-2.0, 1.0), std=0.2)
    noise = torch.randn(20_000, 1, generator=generator())
    x = sample(mixture.denoise, noise, ALPHAS, 100, sampler=sampler, eta=eta, generator=generator(1))
    right = x[x > -0.5]
    assert len(right) / len(x) == pytest.approx(0.7, abs=0.02)
    assert right.mean().item() == pytest.approx(1.0, abs=0.02)
    assert right.std().item() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_warm_start_goes_from_the_start_to_a_fresh_sample(name):
    noise, start = torch.randn(500, 1, generator=generator()), torch.full((1, 1), 3.0)
    settings = {"alphas_cumprod": ALPHAS, "steps": 100, "sampler": name}
    kept = sample(gaussian, noise, **settings, start=start, strength=0.0)
    assert torch.equal(kept, start.expand_as(noise))
    fresh = sample(gaussian, noise, **settings, start=start, strength=1.0)
    assert torch.equal(fresh, sample(gaussian, noise, **settings))
    for strength in (0.1, 0.5, 0.9):
        a = ALPHAS[round(1000 * strength) - 1]
        x = a.sqrt() * (start - 0.3) + (1 - a).sqrt() * noise
        exact = 0.3 + 0.5 * x / (a * 0.5**2 + 1 - a).sqrt()  # the flow of a Gaussian
        got = sample(gaussian, noise, **settings, start=start, strength=strength)
        assert (got - exact).abs().mean() < 0.03


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_warm_start_has_the_level_and_the_steps_it_says(name):
    seen, noise, start = [], torch.randn(2, 3, generator=generator()), torch.randn(2, 3, generator=generator(1))

    def record(x, t):
        seen.append((x, t[0].item()))
        return gaussian(x, t)

    sample(record, noise, ALPHAS, 10, sampler=name, start=start, strength=0.3)
    assert [t for _, t in seen] == trailing_timesteps(1000, 10)[-3:]
    scheduler = DDPMScheduler(**SETTINGS)
    torch.testing.assert_close(seen[0][0], scheduler.add_noise(start, noise, torch.tensor(299)), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0][0], q_sample(start, noise, ALPHAS[299]))


def test_a_warm_start_keeps_the_distribution_it_starts_from():
    start = 0.3 + 0.5 * torch.randn(20_000, 1, generator=generator())
    noise = torch.randn(20_000, 1, generator=generator(1))
    x = sample(gaussian, noise, ALPHAS, 100, start=start, strength=0.5)
    assert x.mean().item() == pytest.approx(0.3, abs=0.02) and x.std().item() == pytest.approx(0.5, abs=0.02)


def test_strength_is_rounded_to_whole_steps():
    assert [warm_steps(10, s) for s in (0, 0.01, 0.14, 0.16, 0.7, 1)] == [0, 1, 1, 2, 7, 10]


def test_guidance_of_one_is_the_conditional_model_in_one_pass():
    passes = []

    def shifted(by):
        def predict(x, t):
            passes.append(by)
            return gaussian(x, t, mean=by)

        return predict

    noise = torch.randn(4, 2, generator=generator())
    draw = {w: sample(guided(shifted(1.0), shifted(-1.0), w), noise, ALPHAS, 4) for w in (0, 1)}
    assert passes == [-1.0] * 4 + [1.0] * 4
    assert torch.equal(draw[1], sample(shifted(1.0), noise, ALPHAS, 4))
    assert torch.equal(draw[0], sample(shifted(-1.0), noise, ALPHAS, 4))
    x, t = noise, torch.full((4,), 500)
    u, c = shifted(-1.0)(x, t), shifted(1.0)(x, t)
    for w in (0.5, 3.0):
        torch.testing.assert_close(guided(shifted(1.0), shifted(-1.0), w)(x, t), u + w * (c - u))


def test_progress_counts_the_steps_that_run():
    for name in SAMPLERS:
        seen = []
        sample(gaussian, torch.zeros(1, 1), ALPHAS, 3, sampler=name, callback=lambda *a, s=seen: s.append(a))
        assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"steps": 1001}, InvalidParameter, "between 1 and 1000"),
        ({"steps": 0}, InvalidParameter, "not 0"),
        ({"eta": 1.0}, InvalidParameter, "needs a generator"),
        ({"eta": 1.0, "sampler": "dpmpp-2m"}, InvalidParameter, "is deterministic, so eta must be 0, not 1.0"),
        ({"sampler": "euler"}, UnknownName, "'euler'; known: ddim, dpmpp-2m, dpmpp-3m"),
        ({"start": torch.zeros(2, 1)}, InvalidShape, r"\(2, 1\); it must be that of the noise, \(1, 1\)"),
        ({"strength": 0.5}, InvalidParameter, "strength = 0.5 .* needs one"),
        ({"start": torch.zeros(1, 1), "strength": 1.5}, InvalidParameter, "between 0 .* and 1 .* not 1.5"),
    ],
)
def test_bad_settings_are_named(settings, error, says):
    with pytest.raises(error, match=says):
        sample(gaussian, torch.zeros(1, 1), ALPHAS, **({"steps": 3} | settings))
