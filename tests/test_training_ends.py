"""How a run ends: early, at NaN, on a full disk, or by a checkpoint of another version; and what is left then."""

import dataclasses
import json
import math
import resource
from contextlib import contextmanager

import pytest
import torch
from test_training import CONFIG, Regression, rows, run, weights

from wamlab.errors import CheckpointMismatch, TrainingDiverged, WriteFailed
from wamlab.training import checkpoint as ckpt
from wamlab.training import read_log
from wamlab.training.log import Log
from wamlab.weights import load_weights

PATIENT = dataclasses.replace(CONFIG, steps=400, checkpoint_every=2, patience=3, val_batches=2)


class Overfits(Regression):
    """Its validation loss is the distance of a counted step to step 9: the best validation is the one after 8 or 10 steps."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def loss(self, batch, generator):
        if self.training:
            self.count += 1
            return super().loss(batch, generator)
        return (self.count - 8).abs().mean() + 0.5, {}


def test_stops_early_and_returns_the_best(tmp_path):
    model = run(tmp_path, PATIENT, model=Overfits())
    validated = [(r["step"], r["val_loss"]) for r in rows(tmp_path) if "val_loss" in r]
    assert validated[-1][0] == 14, "the best at 8, then three without a better one"
    assert min(validated, key=lambda v: v[1])[0] == 8
    assert model.count == 8 and (tmp_path / "best").resolve().name == "step-000008"
    assert (tmp_path / "last").resolve().name == "step-000014"
    best = Overfits()
    load_weights(tmp_path / "best" / "ema.safetensors", best)
    assert all(torch.equal(a, b) for a, b in zip(weights(best).values(), weights(model).values(), strict=True))
    again = run(tmp_path, PATIENT, model=Overfits())  # finished: loaded, not trained
    assert again.count == 8 and len(rows(tmp_path)) == len(read_log(tmp_path))


def test_the_count_towards_the_stop_survives_a_resume(tmp_path):
    class Interrupted(Overfits):
        def loss(self, batch, generator):
            if self.training and self.count == 12:
                raise KeyboardInterrupt
            return super().loss(batch, generator)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, PATIENT, model=Interrupted())
    assert json.loads((tmp_path / "last" / "state.json").read_text())["stale"] == 2
    model = run(tmp_path, PATIENT, model=Overfits())
    assert model.count == 8 and (tmp_path / "last").resolve().name == "step-000014"


def test_without_patience_the_last_step_counts_and_validation_decides_nothing(tmp_path):
    model = run(tmp_path, dataclasses.replace(PATIENT, steps=20, patience=0), model=Overfits())
    assert model.count == 20 and (tmp_path / "best").resolve().name == "step-000008"
    plain, patient = dataclasses.replace(PATIENT, patience=0), PATIENT
    often = dataclasses.replace(plain, checkpoint_every=5)
    assert plain.identity() == often.identity()
    assert patient.identity() != dataclasses.replace(patient, checkpoint_every=5).identity() != plain.identity()


class Breaks(Regression):
    """From the given training step on, its loss is not a number, or only the gradient is."""

    def __init__(self, step, how):
        super().__init__()
        self.left, self.how = step, how

    def loss(self, batch, generator):
        loss, logs = super().loss(batch, generator)
        self.left -= self.training
        if self.left > 0 or not self.training:
            return loss, logs
        return (
            loss * math.nan if self.how == "loss" else loss + torch.sqrt((self.net[0].weight * 0).abs()).sum()
        ), logs


@pytest.mark.parametrize(("how", "says"), [("loss", "the loss is nan"), ("gradient", "the gradient's norm is nan")])
def test_nan_stops_at_its_step_and_the_last_good_checkpoint_stays(tmp_path, how, says):
    with pytest.raises(TrainingDiverged, match=f"{says} at step 7 of 12 .*step-000004 in .* intact"):
        run(tmp_path, model=Breaks(7, how))
    assert (tmp_path / "last").resolve().name == "step-000004"
    kept = Regression()
    load_weights(tmp_path / "last" / "model.safetensors", kept)
    assert all(v.isfinite().all() for v in weights(kept).values())
    whole = run(tmp_path / "whole")
    resumed = run(tmp_path)  # as if the data had been mended
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed).values(), weights(whole).values(), strict=True))


def test_fp16_skips_what_overflows_and_resumes_to_the_same_weights(tmp_path):
    config = dataclasses.replace(CONFIG, precision="fp16", steps=20)
    whole = run(tmp_path / "whole", config)
    scales = json.loads((tmp_path / "whole" / "last" / "state.json").read_text())["scaler"]
    assert 0 < scales["scale"] < 2**16, "the first scale overflows here"
    assert all(v.isfinite().all() for v in weights(whole).values())
    with pytest.raises(KeyboardInterrupt):

        class Interrupted(Regression):
            calls = 0

            def loss(self, batch, generator):
                self.calls += self.training
                if self.calls == 10:
                    raise KeyboardInterrupt
                return super().loss(batch, generator)

        run(tmp_path / "parts", config, model=Interrupted())
    resumed = run(tmp_path / "parts", config)
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed).values(), weights(whole).values(), strict=True))


@contextmanager
def files_of_at_most(size):
    """The kernel itself refuses to write beyond, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("size", "fails"), [(300_000, "model"), (600_000, "optimizer")])
def test_what_the_system_cannot_write_is_named_and_the_last_good_checkpoint_stays(tmp_path, size, fails):
    class Wide(Regression):
        """Weights of 400 kB, moments of 800 kB."""

        left = -1

        def __init__(self):
            super().__init__(hidden=20_000)

        def loss(self, batch, generator):
            self.left -= self.training
            if self.left == 0:
                raise KeyboardInterrupt
            return super().loss(batch, generator)

    whole, cut = run(tmp_path / "whole", model=Wide()), tmp_path / "cut"
    sizes = {p.stem: p.stat().st_size for p in (tmp_path / "whole" / "last").glob("*.safetensors")}
    assert sizes[fails] > size and (fails == "model" or sizes["model"] < size)
    interrupted = Wide()
    interrupted.left = 6
    with pytest.raises(KeyboardInterrupt):
        run(cut, model=interrupted)
    kept = {p.name: p.read_bytes() for p in (cut / "last").iterdir()}
    with (
        files_of_at_most(size),
        pytest.raises(WriteFailed, match="step-000008 .*File too large.*step-000004 is intact"),
    ):
        run(cut, model=Wide())
    assert {p.name: p.read_bytes() for p in (cut / "last").iterdir()} == kept
    assert [p.name for p in cut.glob("*step*")] == ["step-000004"]
    resumed = run(cut, model=Wide())
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed).values(), weights(whole).values(), strict=True))


def test_metrics_that_cannot_be_written_are_named(tmp_path):
    log = Log(tmp_path, 0)
    log.write(1, 0.1, {"loss": 1.0})
    with (
        files_of_at_most((tmp_path / "metrics.jsonl").stat().st_size + 10),
        pytest.raises(WriteFailed, match="metrics"),
    ):
        log.write(2, 0.2, {"loss": 0.5})
    log.close()
    assert read_log(tmp_path).step.tolist() == [1], "half a line is no line"
    again = Log(tmp_path, 1)
    again.write(2, 0.2, {"val_loss": 0.5})
    again.close()
    table = read_log(tmp_path)
    assert table.step.tolist() == [1, 2] and table.val_loss[1] == 0.5 and math.isnan(table.loss[1])
    assert {"lr", "seconds"} <= set(table.columns) and read_log(tmp_path / "nothing").empty


def test_a_checkpoint_of_another_version_is_named(tmp_path):
    run(tmp_path)
    path = tmp_path / "last" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointMismatch, match=f"step-000012 is of format 99 .* reads format {ckpt.FORMAT}"):
        run(tmp_path)


def test_best_is_pointed_to_again_after_a_death_between_the_two_links(tmp_path):
    run(tmp_path)
    best = (tmp_path / "best").resolve()
    ckpt.point(tmp_path / "best", tmp_path / "step-000001")
    run(tmp_path)
    assert (tmp_path / "best").resolve() == best
