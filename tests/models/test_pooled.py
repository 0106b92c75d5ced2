"""Pooled models: what they predict is the mean patch, and all else of the frame stays as it is in the present."""

import dataclasses

import pytest
import torch
from test_anchored_dit import generator, make_batch
from test_zoo import PRESET, make

from wamlab.models.blocks import patchify
from wamlab.models.pooled import PooledDiT, mean_patch

NAMES = ("pooled-dit", "pooled-mlp")


def test_mean_patch_is_the_mean_over_patches():
    z = torch.randn(2, 3, 4, 8, 12)
    torch.testing.assert_close(mean_patch(z, 4).flatten(2), patchify(z, 4).mean(dim=2))


@pytest.mark.parametrize("name", NAMES)
def test_a_rollout_has_the_predicted_mean_and_the_rest_of_the_present(name):
    model, b = make(name, moved=True), make_batch()
    rolled = model.rollout(b.context, b.actions, generator()).latents
    inner = model.inner.rollout(mean_patch(b.context, 4), b.actions, generator()).latents
    torch.testing.assert_close(mean_patch(rolled, 4), inner, atol=1e-4, rtol=1e-4)
    change = patchify(rolled - b.context[:, -1:], 4)  # (B, F, P, width)
    torch.testing.assert_close(change, change[:, :, :1].expand_as(change), atol=1e-4, rtol=1e-4)
    assert change.abs().max() > 0.01


def test_a_warm_start_of_no_strength_keeps_the_mean_of_its_start():
    b = make_batch()
    torch.manual_seed(0)
    config = dataclasses.replace(PRESET.pooled_dit.model, objective="diffusion", size=8)
    model = PooledDiT(config, "pooled-dit").eval()
    start = b.future + 1
    kept = model.rollout(b.context, b.actions, generator(), start=start, strength=0.0).latents
    torch.testing.assert_close(mean_patch(kept, 4), mean_patch(start, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_where_things_are_does_not_matter(name):
    model, b = make(name, moved=True), make_batch()
    moved = dataclasses.replace(b, context=b.context.roll(4, dims=-1), future=b.future.roll(4, dims=-2))
    torch.testing.assert_close(model.loss(b, generator())[0], model.loss(moved, generator())[0])


def test_whole_frame_noise_becomes_unit_noise_of_the_mean_patch():
    model, b = make("pooled-dit", moved=True), make_batch(batch=64)
    seen = []
    model.inner.rollout = lambda *a, noise, **k: seen.append(noise) or type(model.inner).rollout(model.inner, *a, **k)
    still = torch.zeros_like(b.actions)
    model.rollout(b.context, still, generator(), noise=torch.randn(64, 4, 4, 8, 8, generator=generator(1)))
    assert seen[0].shape == (64, 4, 4, 4, 4)
    assert seen[0].std().item() == pytest.approx(1, abs=0.03) and abs(seen[0].mean().item()) < 0.03
