"""The jump model: what a chain is, what it is trained on, and its refusals."""

import dataclasses

import pytest
import torch
from test_anchored_dit import TINY, generator, make_batch
from torch import nn

from wamlab.errors import HorizonTooLong, InvalidAction, InvalidShape
from wamlab.models import AnchoredDiT, AnchoredDiTConfig, Jump
from wamlab.models.jump import transitions


def make_jump(trained=True, **changes):
    torch.manual_seed(0)
    model = Jump(dataclasses.replace(TINY, **{"horizon": 1, "objective": "direct"} | changes)).eval()
    model.fit_normalization([make_batch()])
    if trained:
        for p in model.parameters():
            nn.init.normal_(p, std=0.2) if p.abs().sum() == 0 else None
    return model


@pytest.mark.parametrize("jump", [1, 2])
@pytest.mark.parametrize("objective", ["direct", "diffusion"])
def test_the_chain_is_one_jump_called_again_on_its_own_output(jump, objective):
    model, b = make_jump(jump=jump, objective=objective), make_batch()
    noise = torch.randn(3, 4 // jump, 4, 8, 8)
    chain = model.rollout(b.context, b.actions, generator(), steps=2, noise=noise)
    anchor = b.context
    for i in range(4 // jump):
        part = b.actions[:, i * jump : (i + 1) * jump]
        anchor = AnchoredDiT.rollout(model, anchor, part, generator(), steps=2, noise=noise[:, i : i + 1]).latents
        torch.testing.assert_close(chain.latents[:, (i + 1) * jump - 1], anchor[:, 0], atol=1e-5, rtol=1e-5)


def test_a_chain_goes_on_beyond_the_windows_it_was_trained_on():
    model, b = make_jump(), make_batch(frames=11)
    long = model.rollout(b.context, b.actions, generator()).latents
    short = model.rollout(b.context, b.actions[:, :4], generator()).latents
    assert long.shape == (3, 11, 4, 8, 8)
    torch.testing.assert_close(long[:, :4], short)


@pytest.mark.parametrize("objective", ["direct", "diffusion"])
def test_the_untrained_chain_returns_the_present(objective):
    model, b = make_jump(trained=False, objective=objective, jump=2), make_batch()
    latents = model.rollout(b.context, b.actions, generator(), steps=2).latents
    torch.testing.assert_close(latents, b.context.expand_as(b.future), atol=1e-4, rtol=0)


def test_a_jump_sees_the_mean_of_its_actions_embeddings():
    model, b = make_jump(jump=2), make_batch(frames=2)
    seen = model.condition(model.latents(b.context), b.actions).vector[:, 0]
    torch.testing.assert_close(seen, model.embed_action(model.actions(b.actions)).mean(dim=1))
    swapped = model.rollout(b.context, b.actions.flip(1), generator()).latents
    torch.testing.assert_close(swapped, model.rollout(b.context, b.actions, generator()).latents)


def test_frames_within_a_jump_lie_on_the_line_to_its_end():
    model, b = make_jump(jump=2), make_batch()
    z = torch.cat([b.context, model.rollout(b.context, b.actions, generator()).latents], dim=1)
    torch.testing.assert_close(z[:, 1], (z[:, 0] + z[:, 2]) / 2)
    torch.testing.assert_close(z[:, 3], (z[:, 2] + z[:, 4]) / 2)


@pytest.mark.parametrize("jump", [1, 2, 3])
def test_every_transition_of_a_window_starts_from_the_true_frame_before_it(jump):
    b = make_batch(frames=6, context=2)
    t, z = transitions(b, jump), torch.cat([b.context[:, -1:], b.future], dim=1)
    assert len(t) == len(t.scenes) == len(t.starts) == 3 * (6 // jump)
    for i in range(6 // jump):
        torch.testing.assert_close(t.context[i :: 6 // jump][:3, 0][0], z[0, i * jump])
        torch.testing.assert_close(t.future[i, 0], z[0, (i + 1) * jump])
        torch.testing.assert_close(t.actions[i], b.actions[0, i * jump : (i + 1) * jump])
    assert t.starts[-1] == b.starts[-1] + jump * (6 // jump - 1)


@pytest.mark.parametrize("objective", ["direct", "diffusion"])
def test_loss_learns(objective):
    model, b = make_jump(trained=False, objective=objective, jump=2, action_dropout=0.0).train(), make_batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = model.loss(b, generator())[1]["vs_copy"]
    for step in range(40):
        loss, logs = model.loss(b, generator(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first == pytest.approx(1.0, abs=1e-4) and logs["vs_copy"] < 0.8


def test_progress_is_of_all_jumps_together():
    seen = []
    b = make_batch(frames=3)
    make_jump(objective="diffusion").rollout(
        b.context, b.actions, generator(), steps=2, callback=lambda *a: seen.append(a)
    )
    assert seen == [(i + 1, 6) for i in range(6)]


def test_bad_input_is_named():
    model, b = make_jump(jump=3), make_batch()
    with pytest.raises(HorizonTooLong, match="4 actions given.*jumps 3 frames"):
        model.rollout(b.context, b.actions, generator())
    with pytest.raises(HorizonTooLong, match="2 frames are shorter than a jump of 3"):
        model.loss(make_batch(frames=2), generator())
    actions = b.actions[:, :3].clone()
    actions[2, 1, 1] = float("inf")
    with pytest.raises(InvalidAction, match="sample 2, horizon step 1, column 1 is inf"):
        model.rollout(b.context, actions, generator())
    with pytest.raises(InvalidShape, match="noise"):
        model.rollout(b.context, b.actions[:, :3], generator(), noise=torch.zeros(3, 3, 4, 8, 8))


def test_blocks_at_the_papers_size():
    """Two blocks of width 192 are what the paper's two 5.4 M variants say a block costs, at that width."""
    paper = AnchoredDiTConfig(
        size=32, horizon=1, jump=4, dim=192, depth=2, present="pooled", actions=("steering_rad", "accel_mps2")
    )
    blocks = sum(p.numel() for p in Jump(paper).blocks.parameters())
    assert blocks == 2 * (18 * 192**2 + 15 * 192)
