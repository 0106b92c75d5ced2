"""Predicting once: the same question is answered from disk, any other is asked of the model, and a damaged answer is not believed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from wamlab.analysis import predicting
from wamlab.analysis.predicting import Candidate, predict
from wamlab.errors import InvalidShape
from wamlab.models.anchored_dit import AnchoredDiT, AnchoredDiTConfig

CONFIG = AnchoredDiTConfig(size=8, horizon=2, dim=16, depth=1, heads=2, num_frequencies=4, gates="random")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Three windows and a model that counts how often it is run; the cache is in a folder of its own."""
    monkeypatch.setenv("WAMLAB_DATA", str(tmp_path))
    torch.manual_seed(0)
    model = AnchoredDiT(CONFIG).eval()
    calls, run = [], model.rollout
    monkeypatch.setattr(model, "rollout", lambda *a, **k: calls.append(1) or run(*a, **k))
    return Candidate(model, {"steps": 2}), torch.randn(3, 1, 4, 8, 8), torch.zeros(3, 2, 3), calls


def test_the_same_question_is_answered_from_disk(asked):
    candidate, context, actions, calls = asked
    first = predict(candidate, context, actions, batch=2)
    assert len(calls) == 2 and first.shape == (3, 2, 4, 8, 8)
    assert torch.equal(predict(candidate, context.clone(), actions.clone(), batch=2), first)
    assert len(calls) == 2


def test_another_question_is_not(asked):
    candidate, context, actions, calls = asked
    first = predict(candidate, context, actions)
    sampled, started = (
        dataclasses.replace(candidate, settings=s) for s in ({"steps": 1}, {"steps": 2, "strength": 0.5})
    )
    predict(sampled, context, actions)
    predict(candidate, context + 1e-6, actions)
    predict(candidate, context, actions + 1e-6)
    predict(candidate, context, actions, seed=1)
    predict(started, context, actions, start=first)
    predict(started, context, actions, start=first + 1e-6)
    assert len(calls) == 7
    with torch.no_grad():
        candidate.model.head.bias.add_(0.5)
    assert not torch.equal(predict(candidate, context, actions), first)


def test_a_damaged_answer_is_asked_for_again(asked, tmp_path):
    candidate, context, actions, calls = asked
    first = predict(candidate, context, actions)
    (kept,) = (tmp_path / "rollouts").glob("*.safetensors")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert torch.equal(predict(candidate, context, actions), first) and len(calls) == 2
    kept.write_bytes(content[:100])
    assert torch.equal(predict(candidate, context, actions), first) and len(calls) == 3


def test_a_model_of_other_code_runs_each_time(asked, tmp_path):
    candidate, context, actions, calls = asked

    class Mine(AnchoredDiT):
        """Its code may change from one call to the next."""

    mine = Mine(CONFIG).eval()
    predict(Candidate(mine, {"steps": 1}), context, actions)
    assert not (tmp_path / "rollouts").exists()


def test_changed_code_asks_again(asked, monkeypatch):
    candidate, context, actions, calls = asked
    predict(candidate, context, actions)
    monkeypatch.setattr(predicting, "_code", lambda: "other")
    predict(candidate, context, actions)
    assert len(calls) == 2


def test_windows_must_be_the_same(asked):
    candidate, context, actions, _ = asked
    with pytest.raises(InvalidShape, match="same windows"):
        predict(candidate, context, actions[:2])
    with pytest.raises(InvalidShape, match="same windows"):
        predict(candidate, context[:0], actions[:0])
