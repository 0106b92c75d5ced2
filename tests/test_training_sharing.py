"""However a batch is shared out, over accumulated parts or over processes, a step is the same; and which samples make it."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import CONFIG, Regression, Rows, data, rows, run

from wamlab.errors import CheckpointMismatch, InvalidParameter
from wamlab.models import MODELS, build_model
from wamlab.presets import get_preset
from wamlab.training import BatchOrder, TrainConfig, generator_for
from wamlab.training.randomness import DrawsOfPart
from wamlab.types import ACTIONS, Batch


def losses(folder):
    return [r.get("loss", r.get("val_loss")) for r in rows(folder)]


class Shapes:
    channels, downsample = 4, 32


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_parts_give_the_step_of_the_whole_batch(tmp_path, accumulate):
    whole = run(tmp_path / "whole")
    parts = run(tmp_path / "parts", dataclasses.replace(CONFIG, accumulate=accumulate))
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=1e-5, atol=1e-6)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_parts_that_do_not_come_out_even_are_refused(tmp_path):
    with pytest.raises(InvalidParameter, match="batch_size 4 cannot be shared by 1 processes in 3 parts each"):
        run(tmp_path, dataclasses.replace(CONFIG, accumulate=3))


@pytest.mark.parametrize("name", [name for name in MODELS if hasattr(MODELS[name], "loss")])
def test_every_world_model_draws_the_same_for_a_sample_in_any_part(name):
    """The mean of the parts' losses is the loss of the whole, for every trained model: it draws with the samples on the first axis."""
    preset = dataclasses.replace(get_preset("smoke"), resolution=128)
    torch.manual_seed(0)
    model = build_model(name, preset, Shapes()).train()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    g = torch.Generator().manual_seed(1)
    context, future = (torch.randn(6, n, 4, 4, 4, generator=g) for n in (preset.num_context, preset.horizon))
    actions = torch.randn(6, preset.horizon, len(ACTIONS), generator=g)

    def loss(part, parts):
        cut = slice(part, None, parts)
        batch = Batch(context[cut], future[cut], actions[cut], ("s",) * 6, (0,) * 6)
        with DrawsOfPart(cut, 6):
            return model.loss(batch, generator_for(0, 0))[0].item()

    for parts in (2, 3):
        assert np.mean([loss(part, parts) for part in range(parts)]) == pytest.approx(loss(0, 1), rel=1e-5)


def test_rows_of_a_part_are_the_rows_of_the_whole():
    def draw(count):
        g = torch.Generator().manual_seed(0)
        return [
            torch.rand(count, generator=g),
            torch.randn((count, 3), generator=g),
            torch.randn(size=(count, 3), generator=g),
            torch.randint(9, (count,), generator=g),
            torch.randint(2, 9, (count, 2), generator=g),
        ]

    whole = draw(6)
    for part in range(3):
        with DrawsOfPart(slice(part, None, 3), 6):
            assert all(torch.equal(mine, all_[part::3]) for mine, all_ in zip(draw(2), whole, strict=True))
            g = torch.Generator().manual_seed(0)
            assert torch.equal(torch.rand(5, generator=g), torch.rand(5, generator=g.manual_seed(0)))
            assert torch.rand(2).shape == (2,)  # without a generator, of no concern


LAUNCHED = """
import sys
from pathlib import Path
from accelerate import Accelerator
from test_training_sharing import CONFIG, shared, run
assert Accelerator().num_processes == 2 and Accelerator().device.type == "cpu"
for accumulate in (1, 2):
    run(Path(sys.argv[1]) / str(accumulate), shared(accumulate))
"""


def shared(accumulate):
    return dataclasses.replace(CONFIG, steps=30, batch_size=8, accumulate=accumulate, patience=50)


def test_two_processes_give_the_loss_curve_of_one(tmp_path):
    """gloo on one machine, the same global batch; losses and weights to 1e-5, which is float32's rounding over 30 steps."""
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, script, tmp_path / "two"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    one = run(tmp_path / "one", shared(1))
    for accumulate in ("1", "2"):
        two = tmp_path / "two" / accumulate
        assert losses(two) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
        # one process goes on where two stopped: the run is finished, and its weights are loaded
        resumed = run(two, shared(1), model=Regression())
        torch.testing.assert_close(resumed.state_dict(), one.state_dict(), rtol=1e-5, atol=1e-6)


# -- weights of samples --------------------------------------------------------------------------------------------------------------


def test_samples_are_drawn_in_proportion_to_their_weights():
    weights = np.array([0.0, 1, 2, 3, 10, 0.5, 0])
    passes = 400
    order = list(BatchOrder(7, 7, seed=1, start=0, stop=passes, weights=weights))
    expected = 7 * weights / weights.sum()
    counts = np.array([np.bincount(batch, minlength=7) for batch in order])
    assert (counts >= np.floor(expected)).all() and (counts <= np.ceil(expected)).all()
    # a count is floor or ceil of its expectation: the mean over passes has at most the deviation of a coin
    assert np.abs(counts.mean(axis=0) - expected).max() < 4 * 0.5 / passes**0.5
    assert order[0] != order[1] and order[0] != sorted(order[0])


def test_weighted_order_is_reproducible_and_needs_no_history():
    weights = np.random.default_rng(0).random(10)
    full = list(BatchOrder(10, 4, 3, 0, 9, weights=weights))
    assert full == list(BatchOrder(10, 4, 3, 0, 9, weights=weights.tolist()))
    assert full[5:] == list(BatchOrder(10, 4, 3, 5, 9, weights=weights))
    assert full != list(BatchOrder(10, 4, 4, 0, 9, weights=weights))
    alike = [i for batch in BatchOrder(10, 5, 3, 0, 2, weights=np.full(10, 0.3)) for i in batch]
    assert sorted(alike) == list(range(10))
    shares = [list(BatchOrder(10, 4, 3, 0, 9, rank, 2, 2, weights)) for rank in (0, 1)]
    for step, batch in enumerate(full):
        parts = [shares[rank][2 * step + k] for k in (0, 1) for rank in (0, 1)]
        assert [i for together in zip(*parts, strict=True) for i in together] == batch


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0, 2], "3 samples need as many weights"),
        ([1.0, -1, 0], "weight of sample 1 is -1.0"),
        ([1.0, 0, float("nan")], "weight of sample 2 is nan"),
        ([0.0, 0, 0], "all 3 weights are 0"),
    ],
)
def test_bad_weights_are_named(weights, message):
    with pytest.raises(InvalidParameter, match=message):
        BatchOrder(3, 1, 0, 0, 1, weights=weights)


def test_weights_of_the_training_set_decide_the_run(tmp_path):
    weighted = data()
    weighted.weights = [1.0] + [0.0] * 9
    only = Rows(weighted.tensors[0][:1].repeat(10, 1))
    a = run(tmp_path / "a", train_set=weighted)
    torch.testing.assert_close(a.state_dict(), run(tmp_path / "b", train_set=only).state_dict(), rtol=0, atol=0)
    with pytest.raises(CheckpointMismatch, match="weights is"):
        run(tmp_path / "a")
    assert "weights" in json.loads((tmp_path / "a" / "last" / "config.json").read_text())
    assert "weights" not in TrainConfig().identity()
