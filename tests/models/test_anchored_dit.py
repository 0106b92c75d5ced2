"""Properties of the anchored transformer, and its refusals."""

import dataclasses
import warnings

import pytest
import torch
from torch import nn

from wamlab.errors import ActionOutOfRange, HorizonTooLong, InvalidAction, InvalidParameter, InvalidShape, UnknownName
from wamlab.models import MODELS, model_config
from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig
from wamlab.models.blocks import Block, FourierEmbedding, patchify, unpatchify
from wamlab.presets import PRESETS
from wamlab.types import Batch

TINY = AnchoredDiTConfig(size=8, dim=32, depth=2, heads=2, num_frequencies=8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_batch(batch=3, frames=4, context=1, size=8, seed=0):
    g = generator(seed)
    return Batch(
        3 + 2 * torch.randn(batch, context, 4, size, size, generator=g),
        3 + 2 * torch.randn(batch, frames, 4, size, size, generator=g),
        torch.randn(batch, frames, 3, generator=g),
        ("scene-0001",) * batch,
        tuple(range(batch)),
    )


def make_model(trained=False, **changes):
    """A tiny model; `trained` stands for one whose zero-initialised layers have moved."""
    torch.manual_seed(0)
    model = AnchoredDiT(dataclasses.replace(TINY, **changes)).eval()
    model.fit_normalization([make_batch(context=model.config.num_context)])
    if trained:
        for p in model.parameters():
            nn.init.normal_(p, std=0.2) if p.abs().sum() == 0 else None
    return model


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_block_is_the_identity_at_initialisation():
    block, x = Block(32, 2), torch.randn(2, 4, 9, 32)
    assert torch.equal(block(x, torch.randn(2, 4, 32)), x)


def test_gates_of_the_code_do_not_start_at_the_identity():
    block, x = Block(32, 2, gates="random"), torch.randn(2, 4, 9, 32)
    assert not torch.allclose(block(x, torch.randn(2, 4, 32)), x)


def test_high_octaves_are_a_hash_in_float32():
    """What the docstring says of float32: an action and the next larger one have unrelated features from octave 2^21 or so on."""
    a = torch.full((1, 1), 0.7)
    features = []
    for value in (a, torch.nextafter(a, a + 1)):
        embedding = FourierEmbedding(1, 8, frequencies="octaves")
        embedding.mlp = nn.Identity()
        features.append(embedding(value)[0])
    differ = (features[0] - features[1]).abs().view(2, 64).amax(dim=0)
    assert differ[:16].max() < 0.02 and differ[22:].max() > 1


def test_block_modulates_as_if_each_token_had_its_own_condition():
    block = Block(32, 2)
    nn.init.normal_(block.modulation.weight)
    x, c = torch.randn(2, 3, 5, 32), torch.randn(2, 3, 32)
    per_token = block(x.reshape(2, 15, 1, 32), c.repeat_interleave(5, dim=1)).view_as(x)
    torch.testing.assert_close(block(x, c), per_token, atol=1e-4, rtol=1e-4)


def test_attention_equals_torchs_own_module():
    block, x = Block(32, 4), torch.randn(2, 3, 5, 32)
    reference = nn.MultiheadAttention(32, 4, batch_first=True)
    reference.in_proj_weight.data, reference.in_proj_bias.data = block.qkv.weight.data, block.qkv.bias.data
    reference.out_proj.weight.data, reference.out_proj.bias.data = block.proj.weight.data, block.proj.bias.data
    flat = x.view(2, 15, 32)
    want = reference(flat, flat, flat)[0].view_as(x)
    torch.testing.assert_close(block.attention(x), want, atol=1e-5, rtol=1e-5)


def test_patches_are_undone_exactly_and_stay_in_place():
    z = torch.randn(2, 3, 4, 8, 12)
    tokens = patchify(z, 4)
    assert torch.equal(unpatchify(tokens, 4, (8, 12)), z)
    assert torch.equal(tokens[:, :, 1], z[..., :4, 4:8].flatten(2))  # the second patch is to the right of the first


#: Every way to build the model; `gates`, `frequencies` and `stacked` as in the authors' code.
VARIANTS = [
    {},
    {"present": "pooled"},
    {"present": "pooled", "stacked": True},
    {"present": "pooled", "stacked": True, "gates": "random", "frequencies": "octaves"},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_untrained_model_returns_the_present(variant):
    b = make_batch()
    present_frames = b.context[:, -1:].expand_as(b.future)
    direct = make_model(objective="direct", **variant).rollout(b.context, b.actions, generator())
    assert torch.equal(direct.latents, present_frames)
    diffusion = make_model(objective="diffusion", **variant).rollout(b.context, b.actions, generator(), steps=3)
    torch.testing.assert_close(diffusion.latents, present_frames, atol=1e-4, rtol=0)


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
@pytest.mark.parametrize("anchored", [True, False])
def test_a_denoiser_that_knows_the_answer_has_no_loss_and_returns_it(prediction, anchored, monkeypatch):
    """What training asks of the network, given back to the sampler, is the true future: both sides mean the same by `prediction`."""
    model, b = make_model(prediction=prediction, anchored=anchored), make_batch()
    future, present = model.latents(b.future), model.latents(b.context)
    change = future - present if anchored else future

    def oracle(self, x, t, condition):
        a, s = (
            f(model.alphas_cumprod[t])[:, None, None, None, None].float()
            for f in (torch.sqrt, lambda v: (1 - v).sqrt())
        )
        noise = (x - a * future) / s
        return {"x0": change, "eps": noise, "v": a * noise - s * change}[prediction]

    monkeypatch.setattr(AnchoredDiT, "forward", oracle)
    loss, logs = model.loss(b, generator())
    assert loss < 1e-4 and logs["vs_copy"] < 1e-3
    rollout = model.rollout(b.context, b.actions, generator(), steps=5)
    torch.testing.assert_close(rollout.latents, b.future, atol=2e-2, rtol=0)


@pytest.mark.parametrize("objective", ["direct", "diffusion"])
def test_without_the_anchor_the_untrained_model_returns_the_mean(objective):
    model, b = make_model(objective=objective, anchored=False), make_batch()
    latents = model.rollout(b.context, b.actions, generator(), steps=2).latents
    mean = model.latents.mean.view(4, 1, 1).expand_as(latents)
    torch.testing.assert_close(latents, mean, atol=1e-4, rtol=0)


def test_without_the_sequence_only_the_first_action_counts():
    for action_sequence in (True, False):
        model, b = make_model(trained=True, objective="direct", action_sequence=action_sequence), make_batch()
        base = model.rollout(b.context, b.actions, generator()).latents
        later, first = b.actions.clone(), b.actions.clone()
        later[:, 1:] += 1
        first[:, :1] += 1
        assert torch.equal(model.rollout(b.context, later, generator()).latents, base) != action_sequence
        assert not torch.equal(model.rollout(b.context, first, generator()).latents, base)


class SdVae:
    channels, downsample = 4, 8


@pytest.mark.parametrize(
    ("name", "changes", "published"),
    [
        ("diffusion", {}, 5_396_288),
        ("direct", {}, 5_396_288),
        ("diffusion", {"depth": 2}, 3_029_312),
        ("jump", {}, 1_728_448),
        ("jump-diffusion", {}, 1_728_448),
    ],
)
def test_parameters_at_the_papers_size(name, changes, published):
    """With the fixed frequencies of the authors' code to the parameter; learned ones, the paper's and our default, add their own."""
    config = dataclasses.replace(model_config(name, PRESETS["paper"], SdVae()), **changes)
    assert config.frequencies == "learned" and config.gates == "zero"
    assert count(MODELS[name](dataclasses.replace(config, frequencies="octaves"))) == published
    assert count(MODELS[name](config)) == published + 2 * 64


@pytest.mark.parametrize("objective", ["direct", "diffusion"])
def test_rollout_is_decided_by_its_seed_and_independent_of_the_batch(objective):
    model, b = make_model(trained=True, objective=objective), make_batch()
    noise = torch.randn(b.future.shape, generator=generator(5))
    first = model.rollout(b.context, b.actions, generator(5), steps=3)
    again = model.rollout(b.context, b.actions, generator(5), steps=3)
    alone = model.rollout(b.context[1:2], b.actions[1:2], generator(5), steps=3, noise=noise[1:2])
    assert torch.equal(first.latents, again.latents) and first.seed == 5
    torch.testing.assert_close(first.latents[1:2], alone.latents, atol=1e-4, rtol=1e-4)
    differs = not torch.equal(first.latents, model.rollout(b.context, b.actions, generator(6), steps=3).latents)
    assert differs == (objective == "diffusion")


def test_actions_steer_the_prediction_and_unused_columns_do_not():
    model, b = make_model(trained=True, objective="direct", actions=("steering_rad",)), make_batch()
    base = model.rollout(b.context, b.actions, generator()).latents
    for column, moves in ((0, True), (1, False), (2, False)):
        actions = b.actions.clone()
        actions[..., column] += 1
        assert torch.equal(model.rollout(b.context, actions, generator()).latents, base) != moves


def test_guidance_of_one_is_the_conditional_model_and_zero_ignores_actions():
    model, b = make_model(trained=True), make_batch()
    options = {"steps": 2, "noise": torch.randn(b.future.shape)}
    other = b.actions + 1
    assert torch.equal(
        model.rollout(b.context, b.actions, generator(), guidance=1.0, **options).latents,
        model.rollout(b.context, b.actions, generator(), **options).latents,
    )
    torch.testing.assert_close(
        model.rollout(b.context, b.actions, generator(), guidance=0.0, **options).latents,
        model.rollout(b.context, other, generator(), guidance=0.0, **options).latents,
    )


def test_a_warm_start_goes_from_its_start_to_a_sample_from_noise():
    model, b = make_model(trained=True), make_batch()
    options = {"steps": 4, "noise": torch.randn(b.future.shape, generator=generator(3))}

    def roll(**more):
        return model.rollout(b.context, b.actions, generator(), **options, **more).latents

    torch.testing.assert_close(roll(strength=0.0), b.context.expand_as(b.future))  # the anchor
    torch.testing.assert_close(roll(strength=0.0, start=b.future), b.future)
    assert torch.equal(roll(strength=1.0, start=b.future), roll())
    near, far = ((roll(strength=s, start=b.future) - b.future).square().mean() for s in (0.25, 0.75))
    assert 0 < near < far
    assert not torch.equal(roll(sampler="dpmpp-2m"), roll())


def test_a_shorter_horizon_and_more_context_are_fine():
    model = make_model(trained=True, num_context=2)
    b = make_batch(frames=2, context=3)
    assert model.rollout(b.context, b.actions, generator(), steps=2).latents.shape == (3, 2, 4, 8, 8)
    assert model.loss(b, generator())[0].isfinite()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("objective", ["direct", "diffusion"])
def test_loss_learns_and_reaches_every_parameter(objective, variant):
    model, b = make_model(objective=objective, action_dropout=0.0, **variant).train(), make_batch()
    assert model.loss(b, generator())[1]["vs_copy"] == pytest.approx(1.0, abs=1e-4)  # it starts at copying
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        loss, logs = model.loss(b, generator(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logs["vs_copy"] < 0.7
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_action_dropout_acts_only_in_training():
    model, b = make_model(trained=True, objective="direct", action_dropout=1.0), make_batch()
    changed = dataclasses.replace(b, actions=b.actions + 1)
    model.train()
    assert model.loss(b, generator())[0] == model.loss(changed, generator())[0]
    model.eval()
    assert model.loss(b, generator())[0] != model.loss(changed, generator())[0]


def test_normalisation_follows_the_data():
    b = make_batch(batch=8)
    model = make_model()
    model.fit_normalization([b])
    z = model.latents(b.future)
    assert z.mean().abs() < 0.1 and abs(z.std().item() - 1) < 0.1
    torch.testing.assert_close(model.latents.inverse(z), b.future)
    constant = dataclasses.replace(b, actions=torch.zeros_like(b.actions))
    model.fit_normalization([constant])
    assert model.actions(constant.actions).isfinite().all()


def test_actions_far_outside_those_of_training_are_marked_but_allowed():
    model, b = make_model(), make_batch()
    low, high = b.actions.flatten(0, 1).amin(dim=0), b.actions.flatten(0, 1).amax(dim=0)
    assert torch.equal(model.actions.low, low) and torch.equal(model.actions.high, high)
    for value in (low, high, high + 0.49 * (high - low), low - 0.49 * (high - low)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.rollout(b.context, value.expand_as(b.actions), generator(), steps=1)
    actions = b.actions.clone()
    actions[0, 0, 2] = high[2] + 2 * (high[2] - low[2])
    with pytest.warns(ActionOutOfRange, match=f"speed_mps is between .* far outside the {low[2]:.4g} to {high[2]:.4g}"):
        model.rollout(b.context, actions, generator(), steps=1)
    unfitted = AnchoredDiT(TINY).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unfitted.rollout(b.context, actions, generator(), steps=1)


def test_bad_input_is_named():
    model, b = make_model(), make_batch()
    actions = b.actions.clone()
    actions[1, 2, 0] = float("nan")
    with pytest.raises(InvalidAction, match="sample 1, horizon step 2, column 0 is nan"):
        model.rollout(b.context, actions, generator())
    with pytest.raises(InvalidShape, match=r"context has shape .*c=4, h=8, w=8"):
        model.rollout(b.context[..., :4], b.actions, generator())
    with pytest.raises(InvalidShape, match="A=3"):
        model.rollout(b.context, b.actions[..., :2], generator())
    with pytest.raises(InvalidShape, match="future"):
        model.loss(dataclasses.replace(b, future=b.future[:, :2]), generator())
    with pytest.raises(HorizonTooLong, match="5 actions given.*1 to 4"):
        model.rollout(b.context, torch.zeros(3, 5, 3), generator())
    with pytest.raises(InvalidShape, match="C=2"):
        make_model(num_context=2).rollout(b.context, b.actions, generator())
    with pytest.raises(UnknownName, match="'jump'; known: diffusion, direct"):
        AnchoredDiTConfig(objective="jump")
    with pytest.raises(UnknownName, match="'x1'; known: eps, v, x0"):
        AnchoredDiTConfig(prediction="x1")
    with pytest.raises(UnknownName, match="steering_rad"):
        AnchoredDiTConfig(actions=("steer",))
    with pytest.raises(InvalidParameter, match="patch must divide"):
        AnchoredDiTConfig(size=10)
