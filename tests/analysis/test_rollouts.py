"""Rolling out past a model's reach, window by window; what is decoded and picked for showing."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import IdentityCodec

from wamlab import render
from wamlab.analysis import rollouts
from wamlab.analysis.predicting import Candidate, predict, predict_chain, reach, window_seed
from wamlab.errors import InvalidParameter
from wamlab.models import AnchoredDiT, AnchoredDiTConfig, ConstantVelocityWarp, CopyPresent, Jump
from wamlab.types import Scene

TINY = {"size": 8, "dim": 16, "depth": 1, "heads": 2, "num_frequencies": 4, "gates": "random"}


def made(kind, **config):
    """A model whose last layer was moved from zero, so that it predicts something."""
    torch.manual_seed(0)
    model = kind(AnchoredDiTConfig(**TINY, **config)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)
    return model


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setenv("WAMLAB_DATA", str(tmp_path))
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 1, 4, 8, 8, generator=generator), torch.randn(3, 7, 3, generator=generator)


def test_how_far_models_reach():
    assert reach(made(AnchoredDiT, objective="direct", horizon=2)) == 2
    assert all(reach(model) is None for model in (made(Jump, objective="direct", horizon=1), CopyPresent()))


@pytest.mark.parametrize("objective", ["direct", "diffusion"])
def test_a_long_rollout_is_its_windows_chained_by_hand(asked, objective):
    context, actions = asked
    model = made(AnchoredDiT, objective=objective, horizon=3)
    long = predict_chain(Candidate(model, {"steps": 2}), context, actions, seed=5)
    seen, by_hand = context, []
    for k, (first, last) in enumerate(((0, 3), (3, 6), (6, 7))):  # 7 frames, 3 at a time
        generator = torch.Generator().manual_seed(window_seed(5, k))
        by_hand.append(model.rollout(seen, actions[:, first:last], generator, steps=2).latents)
        seen = by_hand[-1][:, -1:]
    assert torch.equal(long, torch.cat(by_hand, 1))
    first = predict(Candidate(model, {"steps": 2}), context, actions[:, :3], seed=5)
    assert torch.equal(long[:, :3], first)
    assert len({window_seed(s, k) for s in range(20) for k in range(20)}) == 400


def test_a_chain_of_jumps_is_its_jumps_by_hand(asked):
    context, actions = asked
    model = made(Jump, objective="direct", horizon=1)
    long = predict_chain(Candidate(model, {}), context, actions)
    seen = context
    for t in range(7):
        seen = model.rollout(seen, actions[:, t : t + 1], torch.Generator()).latents
        assert torch.equal(long[:, t], seen[:, 0])


def test_several_frames_of_context_slide(asked):
    _, actions = asked
    context = torch.randn(3, 2, 4, 8, 8)
    model = made(AnchoredDiT, objective="direct", horizon=1, num_context=2)
    long = predict_chain(Candidate(model, {}), context, actions[:, :3])
    seen = context
    for t in range(3):
        after = model.rollout(seen, actions[:, t : t + 1], torch.Generator()).latents
        assert torch.equal(long[:, t : t + 1], after)
        seen = torch.cat([seen, after], 1)[:, 1:]


def test_baselines_go_the_whole_way_at_once(asked):
    context, actions = asked
    warp = ConstantVelocityWarp()
    whole = warp.rollout(context, actions, torch.Generator()).latents
    assert torch.equal(predict_chain(Candidate(warp, {}), context, actions), whole)


def drive(name, frames, known=True):
    actions = np.zeros((frames, 3), np.float32) if known else np.full((frames, 3), np.nan, np.float32)
    return Scene(name, "test", np.arange(frames) / 2, (), actions, np.zeros((frames, 3)))


def test_drives_that_are_too_short_shorten_the_rollout():
    scenes = [drive("a", 40), drive("b", 9), drive("c", 9), drive("d", 5)]
    assert rollouts.longest(scenes, 1, 4) == 4
    assert rollouts.longest(scenes, 1, 16) == 8, "half of the drives, or more"
    assert rollouts.longest(scenes, 2, 16) == 7
    assert rollouts.longest(scenes, 1, 17, multiple=4) == 8
    assert rollouts.longest(scenes, 2, 17, multiple=4) == 4
    with pytest.raises(InvalidParameter, match=r"half of the 3 held-out scenes"):
        rollouts.longest([drive("a", 40), drive("b", 40, known=False), drive("c", 3, known=False)], 1, 4)


@pytest.fixture(scope="module")
def rolled():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(5, 3, 3, 16, 16, generator=generator) * 2 - 1
    return rollouts.Rollouts(
        scenes=tuple(f"scene-{i:04d}" for i in range(5)),
        notes=("day",) * 5,
        present=torch.rand(5, 3, 16, 16, generator=generator) * 2 - 1,
        truth=truth,
        predicted={"direct": truth.flip(0)},
        actions=torch.randn(5, 3, 3, generator=generator),
        times_s=np.arange(1, 4) * 0.5,
    )


def test_scenes_are_shown_from_the_easiest_to_the_hardest(rolled):
    table = pd.DataFrame(
        [(s, "direct", 10.0 * k + t) for k, s in enumerate(rolled.scenes[::-1]) for t in range(3)],
        columns=["scene", "model", "rmse"],
    )
    table = table.sort_values(["scene"], kind="stable")
    shown = rollouts.shown_scenes(rolled, IdentityCodec(), table, 3)
    assert [s["name"] for s in shown] == ["scene-0000", "scene-0002", "scene-0004"]
    assert shown[0]["rows"]["truth"].shape == (4, 16, 16, 3)
    assert shown[0]["errors"]["direct"].tolist() == [0, 40, 41, 42]
    assert shown[0]["times_s"].tolist() == [0, 0.5, 1.0, 1.5]
    present = render.to_hwc(render.to_uint8(rolled.present[:1]))[0]
    for rows in shown[0]["rows"].values():
        assert np.array_equal(rows[0], present)
    assert np.array_equal(shown[0]["rows"]["direct"][1:], render.to_hwc(render.to_uint8(rolled.truth[4])))
    assert len(rollouts.shown_scenes(rolled, IdentityCodec(), table, 99)) == 5


def test_decoding_in_parts_changes_nothing():
    latents = torch.rand(3, 5, 3, 8, 8) * 2 - 1
    calls = []
    parts = rollouts.decode(IdentityCodec(), latents, chunk=4, progress=lambda done, n: calls.append((done, n)))
    assert torch.equal(parts, render.to_uint8(latents))
    assert calls == list(zip(itertools.chain(range(4, 15, 4), [15]), itertools.repeat(15), strict=False))
