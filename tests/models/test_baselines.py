"""The copy baseline."""

import pytest
import torch

from wamlab.errors import InvalidAction
from wamlab.models.baselines import CopyPresent


def test_copies_the_last_context_frame():
    context, actions = torch.randn(2, 3, 4, 8, 8), torch.zeros(2, 5, 3)
    seen = []
    rollout = CopyPresent().rollout(
        context, actions, torch.Generator().manual_seed(3), callback=lambda *a: seen.append(a)
    )
    assert rollout.model == "copy" and rollout.seed == 3 and seen == [(1, 1)]
    assert torch.equal(rollout.latents, context[:, 2:].expand(2, 5, 4, 8, 8))


def test_refuses_nan_actions():
    with pytest.raises(InvalidAction):
        CopyPresent().rollout(torch.zeros(1, 1, 4, 8, 8), torch.full((1, 2, 3), torch.nan), torch.Generator())
