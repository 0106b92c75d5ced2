"""The moving anchor: what it does where the answer is known."""

import math

import torch
from helpers import MeanCodec
from test_anchored_dit import count, generator, make_batch, make_model

from wamlab.models.blocks import Standardize
from wamlab.models.ego_motion import FAST, EgoMotion

SPEED, STEERING = 2, 0


def smooth_latents(count=48, size=8, seed=0):
    """(N, 1, 3, h, w), varied but smooth: shifts by parts of a latent are predictable."""
    coarse = torch.randn(count, 3, 4, 4, generator=generator(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)[:, None]


def drive(speed_mps, steering_rad=0.0, batch=2, frames=3):
    actions = torch.zeros(batch, frames, 3)
    actions[..., SPEED], actions[..., STEERING] = speed_mps, steering_rad
    return actions


def moving(relief=0.1, turning=0.1):
    """Everything at the same depth of 1 / relief frames · m/s."""
    motion = EgoMotion(3, 8)
    motion.log_relief.data[:] = math.log(relief) / FAST
    motion.turning.data += turning
    return motion


def test_standing_still_and_before_it_is_fitted_the_present_stays():
    z = smooth_latents(2)
    torch.testing.assert_close(moving()(z, drive(0.0, 1.0)), z.expand(-1, 3, -1, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(EgoMotion(3, 8)(z, drive(9.0, 1.0)), z.expand(-1, 3, -1, -1, -1), atol=1e-5, rtol=0)


def test_driving_on_magnifies_and_a_left_turn_moves_the_picture_to_the_right():
    x = torch.linspace(-1, 1, 8).expand(1, 1, 3, 8, 8)  # the latents are where they are: their value is x
    ahead = moving()(x, drive(5.0, batch=1))[0, :, 0, -1]  # the lowest row, where things are near: (F, w)
    slope = ahead[:, -1] - ahead[:, 0]
    assert (slope.diff() < 0).all() and slope[0] < 2  # ever less of the present fills the picture
    left = moving()(x, drive(2.0, 0.5, batch=1))[0, :, 0, 4]
    assert (left[-1, 2:6] < x[0, 0, 0, 4, 2:6]).all() and (left[1:, 4] < left[:-1, 4]).all()


def test_a_jump_of_two_frames_is_every_second_frame():
    z, actions = smooth_latents(2), torch.rand(2, 4, 3, generator=generator(1)) * 5
    torch.testing.assert_close(moving()(z, actions, jump=2), moving()(z, actions)[:, 1::2])


def test_fit_finds_a_motion_that_explains_futures_it_has_not_seen(monkeypatch):
    """The truth is a pan of one latent for each frame in which 2 m/s · rad are steered."""

    def windows(seed):
        wide = smooth_latents(48, 16, seed)[:, 0, :, :8]  # (N, 3, 8, 16)
        steering = torch.randint(0, 3, (48, 1), generator=generator(seed)).float().expand(-1, 2)
        actions = torch.stack([steering, 0 * steering, 0 * steering + 2], dim=-1)
        crops = [
            torch.stack([w[:, :, 6 - int(a[0]) * k : 14 - int(a[0]) * k] for w, a in zip(wide, steering, strict=True)])
            for k in range(3)
        ]
        z = torch.stack(crops, dim=1)
        return z[:, :1], z[:, 1:], actions

    monkeypatch.setattr("wamlab.models.ego_motion.WARP_STEPS", 100)
    motion, (context, future, actions) = EgoMotion(3, 8), windows(1)
    motion.fit(*windows(0), MeanCodec(), Standardize(3, axis=-3))
    error = (motion(context, actions) - future).square().mean()
    assert error < 0.5 * (context - future).square().mean()
    assert not any(p.requires_grad for p in motion.parameters())


def test_the_untrained_model_returns_its_anchor_and_sees_it():
    b = make_batch()
    for objective in ("direct", "diffusion"):
        model = make_model(objective=objective, ego_motion=True)
        model.ego_motion.log_relief.data[:] = -2 / FAST
        rollout = model.rollout(b.context, b.actions, generator(), steps=2)
        anchor = model.latents.inverse(model.ego_motion(model.latents(b.context), b.actions))
        torch.testing.assert_close(rollout.latents, anchor, atol=1e-3, rtol=1e-3)
        assert not torch.equal(rollout.latents, b.context.expand_as(b.future))
    assert count(make_model()) < count(make_model(ego_motion=True))


def test_training_leaves_the_motion_as_it_was_fitted(monkeypatch):
    for steps in ("MOTION_STEPS", "WARP_STEPS"):
        monkeypatch.setattr(f"wamlab.models.ego_motion.{steps}", 3)
    codec = MeanCodec()
    codec.decode = lambda z: MeanCodec.decode(codec, z[:, :3])
    codec.encode = lambda x: torch.cat([MeanCodec.encode(codec, x)] * 2, dim=1)[:, :4]
    model, b = make_model(ego_motion=True), make_batch(batch=16)
    before = model.ego_motion.log_relief.clone()
    model.fit_anchor([b], codec)
    assert not torch.equal(model.ego_motion.log_relief, before)
    assert not any(p.requires_grad for p in model.ego_motion.parameters())
    model.loss(b, generator())[0].backward()
    assert all(p.grad is None for p in model.ego_motion.parameters())
    assert model.embed_anchor.weight.grad is not None


def test_an_anchor_that_stands_still_needs_no_fit():
    model = make_model()
    model.fit_anchor([make_batch()], codec=None)
    assert model.ego_motion is None
