"""What every world model keeps to: shapes, seeds, batches, horizons, learning and refusals."""

import dataclasses

import pytest
import torch
from test_anchored_dit import generator, make_batch
from torch import nn

from wamlab.errors import HorizonTooLong, InvalidAction, InvalidShape
from wamlab.models import BASELINES, MODELS, build_model
from wamlab.presets import SMOKE
from wamlab.weights import load_weights, save_tensors

PRESET = dataclasses.replace(SMOKE, resolution=64)
TRAINED = [name for name in MODELS if name not in BASELINES]


class Shapes:
    channels, downsample = 4, 8


def make(name, moved=False):
    """A tiny model that knows its data; `moved` stands for a trained one: what starts at zero has left it."""
    torch.manual_seed(0)
    model = build_model(name, PRESET, Shapes()).eval()
    if name in TRAINED:
        model.fit_normalization([make_batch()])
    if moved:
        for p in model.parameters():
            nn.init.normal_(p, std=0.2) if p.abs().sum() == 0 else None
    return model


@pytest.mark.parametrize("name", TRAINED)
def test_untrained_it_returns_the_present(name):
    b = make_batch()
    latents = make(name).rollout(b.context, b.actions, generator(), steps=2).latents
    torch.testing.assert_close(latents, b.context[:, -1:].expand_as(b.future), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_rollout_has_its_shape_and_says_what_made_it(name):
    model, b, seen = make(name, moved=True), make_batch(), []
    rollout = model.rollout(b.context, b.actions, generator(3), steps=2, callback=lambda *a: seen.append(a))
    assert rollout.latents.shape == b.future.shape and rollout.latents.isfinite().all()
    assert rollout.model == name and rollout.seed == 3 and torch.equal(rollout.actions, b.actions)
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_does_not_depend_on_the_others_of_its_batch(name):
    model, b = make(name, moved=True), make_batch()
    noise = torch.randn(b.future.shape, generator=generator(5))
    together = model.rollout(b.context, b.actions, generator(), steps=2, noise=noise).latents
    alone = model.rollout(b.context[1:2], b.actions[1:2], generator(), steps=2, noise=noise[1:2]).latents
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_shorter_horizon_is_fine(name):
    model, b = make(name, moved=True), make_batch()
    short = model.rollout(b.context, b.actions[:, :2], generator(), steps=2).latents
    assert short.shape == (3, 2, 4, 8, 8)
    if (
        not isinstance(model, MODELS["direct"]) and name != "pooled-dit"
    ):  # where steps do not see each other, nothing changes
        torch.testing.assert_close(short, model.rollout(b.context, b.actions, generator()).latents[:, :2])


@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_by_what_its_generator_draws_alone(name):
    model, b = make(name).train(), make_batch()
    assert model.loss(b, generator())[1]["vs_copy"] == pytest.approx(1.0, abs=1e-3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(40):
        loss, logs = model.loss(b, generator(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logs["vs_copy"] < 0.9
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)
    torch.manual_seed(1)
    once = model.loss(b, generator(9))[0]
    torch.manual_seed(2)
    assert model.loss(b, generator(9))[0] == once


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_it_predicts_the_same(name, tmp_path):
    model, b = make(name, moved=True), make_batch()
    save_tensors(tmp_path / "model.safetensors", model.state_dict())
    other = build_model(name, PRESET, Shapes()).eval()
    load_weights(tmp_path / "model.safetensors", other)
    rollouts = [m.rollout(b.context, b.actions, generator(), steps=2).latents for m in (model, other)]
    assert torch.equal(*rollouts)


@pytest.mark.parametrize("name", MODELS)
def test_bad_input_is_named(name):
    model, b = make(name), make_batch()
    for value in (float("nan"), float("inf")):
        actions = b.actions.clone()
        actions[1, 2, 0] = value
        with pytest.raises(InvalidAction, match=f"sample 1, horizon step 2, column 0 is {value}"):
            model.rollout(b.context, actions, generator())
        with pytest.raises(InvalidAction):
            model.loss(dataclasses.replace(b, actions=actions), generator())
    with pytest.raises(InvalidShape, match="A=3"):
        model.rollout(b.context, b.actions[..., :2], generator())
    with pytest.raises(InvalidShape, match="B=3"):
        model.rollout(b.context, b.actions[:2], generator())
    with pytest.raises(InvalidShape, match="context has shape"):
        model.rollout(b.context[:, 0], b.actions, generator())
    with pytest.raises(InvalidShape, match="future"):
        model.loss(dataclasses.replace(b, future=b.future[:, :2]), generator())
    if name in TRAINED:
        with pytest.raises(InvalidShape, match="c=4, h=8, w=8"):
            model.rollout(b.context[..., :4], b.actions, generator())
    if name in TRAINED and not name.startswith("jump"):
        with pytest.raises(HorizonTooLong, match="5 actions given.*1 to 4"):
            model.rollout(b.context, torch.zeros(3, 5, 3), generator())
