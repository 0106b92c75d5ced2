"""The MLP baseline against the paper's formula and size, and the width that makes a comparison fair."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from test_anchored_dit import SdVae, generator, make_batch
from torch import nn

from wamlab.errors import InvalidParameter, InvalidShape, UnknownName
from wamlab.models import MlpConfig, PatchMlp, count_parameters, match_parameters, model_config
from wamlab.models.blocks import patchify
from wamlab.presets import PRESETS

TINY = MlpConfig(size=8, hidden=24, action_dim=16, num_frequencies=8)


def make(**changes):
    torch.manual_seed(0)
    model = PatchMlp(dataclasses.replace(TINY, **changes)).eval()
    model.fit_normalization([make_batch(context=model.config.num_context)])
    nn.init.normal_(model.layers[-1].weight, std=0.2)
    return model


def test_parameters_at_the_papers_size():
    config = model_config("mlp", PRESETS["paper"], SdVae())
    assert count_parameters(PatchMlp(dataclasses.replace(config, frequencies="octaves"))) == 1_641_024
    assert count_parameters(PatchMlp(config)) == 1_641_024 + 2 * 64  # learned frequencies
    assert PatchMlp(config).layers[0].in_features == 384


def test_without_the_sequence_only_the_first_action_counts():
    b, later = make_batch(), make_batch().actions.clone()
    later[:, 1:] += 1
    for sequence in (True, False):
        model = make(action_sequence=sequence, steps=True)
        futures = [model.rollout(b.context, actions, generator()).latents for actions in (b.actions, later)]
        assert torch.equal(*futures) != sequence
        assert not torch.equal(futures[0][:, 0], futures[0][:, 1]), "it still knows which step it predicts"


def test_is_the_papers_formula():
    """z_patch + MLP([z_patch, z_pool, a_h]), patch by patch and step by step."""
    model, b = make(), make_batch()
    z = patchify(model.latents(b.context), 4)[:, 0]  # (B, P, width)
    change = torch.empty(3, 4, 4, 64)
    for h in range(4):
        a = model.embed_action(model.actions(b.actions))[:, h]
        for p in range(4):
            x = torch.cat([z[:, p], z.mean(dim=1), a], dim=-1)
            first, second, last = model.layers
            change[:, h, p] = last(F.gelu(second(F.gelu(first(x)))))
    rolled = model.latents(model.rollout(b.context, b.actions, generator()).latents)
    torch.testing.assert_close(patchify(rolled, 4), z[:, None] + change, atol=1e-4, rtol=1e-4)


def test_steps_with_equal_actions_differ_only_if_it_is_told_the_step():
    b = make_batch()
    held = b.actions[:, :1].expand_as(b.actions)
    for steps in (False, True):
        latents = make(steps=steps).rollout(b.context, held, generator()).latents
        assert torch.allclose(latents[:, 0], latents[:, 1], atol=1e-5) != steps


def test_dropout_keeps_the_mean_and_is_only_in_training():
    model, b = make(dropout=0.5), make_batch()
    context = model.latents(b.context)
    assert torch.equal(model(context, b.actions), model(context, b.actions))
    first = F.gelu(model.layers[0](torch.randn(1, model.layers[0].in_features)))
    draws = torch.stack([(torch.rand(first.shape, generator=generator(i)) >= 0.5) * first / 0.5 for i in range(2000)])
    torch.testing.assert_close(draws.mean(dim=0), first, atol=0.15, rtol=0)
    assert model.loss(b, generator(0))[0] == model.loss(b, generator(1))[0]
    model.train()
    assert model.loss(b, generator(0))[0] != model.loss(b, generator(1))[0]


@pytest.mark.parametrize("target", [5_000, 53_168, 5_396_288])
def test_matched_width_is_the_nearest(target):
    def of(hidden):
        return abs(count_parameters(PatchMlp(dataclasses.replace(TINY, hidden=hidden))) - target)

    hidden = match_parameters(TINY, target).hidden
    assert of(hidden) <= min(of(hidden - 1), of(hidden + 1))


def test_bad_settings_are_named():
    with pytest.raises(InvalidParameter, match="no width gives an MLP of 10 parameters"):
        match_parameters(TINY, 10)
    for changes, error, says in (
        ({"hidden": 0}, InvalidParameter, "hidden must be at least 1"),
        ({"dropout": 1.0}, InvalidParameter, "dropout"),
        ({"patch": 3}, InvalidParameter, "patch must divide"),
        ({"actions": ("steer",)}, UnknownName, "steering_rad"),
        ({"frequencies": "fixed"}, UnknownName, "learned, octaves"),
    ):
        with pytest.raises(error, match=says):
            dataclasses.replace(TINY, **changes)
    with pytest.raises(InvalidShape, match="C=2"):
        make(num_context=2).rollout(make_batch().context, make_batch().actions, generator())
