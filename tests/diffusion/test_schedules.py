"""Schedules and objectives against diffusers' own, and against their definitions."""

import pytest
import torch
from diffusers import DDPMScheduler

from wamlab.diffusion import objectives as o
from wamlab.diffusion.schedules import make_schedule
from wamlab.errors import InvalidParameter, UnknownName

DIFFUSERS = {"cosine": "squaredcos_cap_v2", "linear": "linear"}


@pytest.mark.parametrize("name", DIFFUSERS)
def test_schedule_equals_diffusers(name):
    theirs = DDPMScheduler(beta_schedule=DIFFUSERS[name], beta_start=1e-4, beta_end=0.02).alphas_cumprod
    ours = make_schedule(name, 1000)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours.float(), theirs, atol=1e-5, rtol=0)
    assert (ours.diff() < 0).all() and 0 < ours[-1] < ours[0] < 1


@pytest.mark.parametrize("name", DIFFUSERS)
def test_q_sample_and_v_equal_diffusers(name):
    scheduler = DDPMScheduler(beta_schedule=DIFFUSERS[name])
    g = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 6, 4, 8, 8, generator=g)
    t = torch.tensor([0, 10, 300, 700, 990, 999])
    alpha_bar = make_schedule(name)[t]
    x_t = o.q_sample(x0, eps, alpha_bar)
    torch.testing.assert_close(x_t, scheduler.add_noise(x0, eps, t), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        o.v_from_x0(x_t, x0, alpha_bar), scheduler.get_velocity(x0, eps, t), atol=1e-2, rtol=1e-3
    )


def test_predictions_convert_into_each_other():
    g = torch.Generator().manual_seed(1)
    x0, eps = torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    alpha_bar = make_schedule("cosine")[torch.tensor([1, 100, 500, 900, 998])]
    x_t = o.q_sample(x0, eps, alpha_bar)
    v = o.v_from_x0(x_t, x0, alpha_bar)
    for got, want in [
        (o.x0_from_eps(x_t, eps, alpha_bar), x0),
        (o.eps_from_x0(x_t, x0, alpha_bar), eps),
        (o.x0_from_v(x_t, v, alpha_bar), x0),
        (o.eps_from_v(x_t, v, alpha_bar), eps),
    ]:
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", DIFFUSERS)
def test_targets_equal_diffusers(name):
    scheduler = DDPMScheduler(beta_schedule=DIFFUSERS[name])
    g = torch.Generator().manual_seed(2)
    x0, eps = torch.randn(2, 6, 4, 8, 8, generator=g)
    t = torch.tensor([0, 10, 300, 700, 990, 999])
    alpha_bar = make_schedule(name)[t]
    assert o.target("x0", x0, eps, alpha_bar) is x0 and o.target("eps", x0, eps, alpha_bar) is eps
    v = o.target("v", x0, eps, alpha_bar)
    torch.testing.assert_close(v, scheduler.get_velocity(x0, eps, t), atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", o.OBJECTIVES)
def test_a_right_prediction_of_any_objective_gives_the_data(objective):
    x0, eps = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha_bar = make_schedule("cosine")[torch.tensor([1, 100, 500, 900, 998])]
    x_t, right = o.q_sample(x0, eps, alpha_bar), o.target(objective, x0, eps, alpha_bar)
    torch.testing.assert_close(o.x0_from(objective, x_t, right, alpha_bar), x0)


@pytest.mark.parametrize("objective", o.OBJECTIVES)
def test_min_snr_weighs_every_objective_as_the_same_error_of_x0(objective):
    x0, eps, error = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha_bar = make_schedule("cosine")[torch.tensor([1, 100, 500, 900, 998])]
    x_t, right = o.q_sample(x0, eps, alpha_bar), o.target(objective, x0, eps, alpha_bar)
    of_x0 = (o.x0_from(objective, x_t, right + error, alpha_bar) - x0).square().sum(-1)
    weighted = o.min_snr_weight(objective, alpha_bar) * error.square().sum(-1)
    torch.testing.assert_close(weighted, (alpha_bar / (1 - alpha_bar)).clamp(max=5) * of_x0)


def test_an_unknown_objective_is_refused():
    x = torch.zeros(1, 1)
    for call in (
        lambda: o.target("x", x, x, x[0]),
        lambda: o.x0_from("x", x, x, x[0]),
        lambda: o.min_snr_weight("x", x[0]),
    ):
        with pytest.raises(UnknownName, match="objective 'x'; known: eps, v, x0"):
            call()


def test_an_unknown_or_empty_schedule_is_refused():
    with pytest.raises(UnknownName, match="cosine, linear"):
        make_schedule("cosin")
    with pytest.raises(InvalidParameter, match="not 0"):
        make_schedule("cosine", 0)
