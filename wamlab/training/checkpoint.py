"""Checkpoints: a folder for each, written aside and renamed, read without unpickling anything.

step-000500/config.json             what is trained: model, data, training settings
            model.safetensors       the weights as trained
            ema.safetensors         their moving average: the weights to use
            optimizer.safetensors   its moments
            state.json              format, step, best validation loss so far, how many since, seconds
last -> step-000500                 the newest
best -> step-000400                 the lowest validation loss
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wamlab.errors import CheckpointMismatch, WriteFailed
from wamlab.weights import load_weights, read_tensors, save_tensors

#: Of what a checkpoint holds; one without a number is of the first.
FORMAT = 1


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
    state: Mapping[str, Any],
) -> Path:
    """Write `step-…`, let `last` point to it, and `tidy`. Raises `WriteFailed`, after which everything is as it was before.

    state: has `step` and `best` (None or a mapping with its `step`), and whatever else `load_checkpoint` is to return.
    """
    target = folder / _name(state["step"])
    aside = folder / f".{target.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for name, tensors in (
            ("model", model.state_dict()),
            ("ema", ema.state_dict()),
            ("optimizer", _flatten(optimizer.state_dict()["state"])),
        ):
            save_tensors(aside / f"{name}.safetensors", tensors)
        (aside / "config.json").write_text(json.dumps(identity, indent=2))
        (aside / "state.json").write_text(json.dumps({"format": FORMAT, **state}, indent=2))
        for file in aside.iterdir():
            _flush(file)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        point(folder / "last", target)
        tidy(folder, state)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        last = latest(folder)
        kept = f"{last.name} is intact" if last else "there is no earlier one"
        raise WriteFailed(
            f"checkpoint {target} could not be written ({error}); {kept}. Make room and run the same again: it resumes there"
        ) from error
    return target


def load_checkpoint(
    checkpoint: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put everything back in place and return the state. Raises `CheckpointMismatch`."""
    state = _read_json(checkpoint / "state.json")
    found = state.pop("format", 1)
    if found != FORMAT:
        raise CheckpointMismatch(
            f"{checkpoint} is of format {found} and this version of wamlab reads format {FORMAT}: "
            "go on with the version that wrote it, or use another folder"
        )
    load_weights(checkpoint / "model.safetensors", model)
    load_weights(checkpoint / "ema.safetensors", ema)
    moments = _unflatten(read_tensors(checkpoint / "optimizer.safetensors"))
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def check_identity(checkpoint: Path, identity: Mapping[str, Any]) -> None:
    """Raise `CheckpointMismatch`, naming what differs, unless the checkpoint was made by the same model, data and settings."""
    have, want = _leaves(_read_json(checkpoint / "config.json")), _leaves(identity)
    differ = [key for key in sorted({*have, *want}) if have.get(key) != want.get(key)]
    if differ:
        shown = "; ".join(f"{key} is {have.get(key)!r} there and {want.get(key)!r} here" for key in differ[:4])
        raise CheckpointMismatch(
            f"{checkpoint} is of another run: {shown}. Use another folder, or the settings of that run"
        )


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a folder, if there is one."""
    pointer = folder / "last"
    if (pointer / "state.json").is_file():
        return pointer.resolve()
    complete = sorted(p for p in folder.glob("step-*") if (p / "state.json").is_file())
    return complete[-1] if complete else None


def tidy(folder: Path, state: Mapping[str, Any], keep: int = 2) -> None:
    """Point `best` to the best step and remove what a killed run left half written and all but the newest `keep` checkpoints.

    What `last` and `best` point to stays. Doing it again, or only after having been killed on the way, changes nothing.
    """
    best = folder / _name(state["best"]["step"]) if state["best"] else None
    if best is not None and best.is_dir():
        point(folder / "best", best)
    pointed = {(folder / name).resolve() for name in ("last", "best")}
    for old in sorted(folder.glob("step-*"))[:-keep]:
        if old.resolve() not in pointed:
            shutil.rmtree(old, ignore_errors=True)
    for partial in folder.glob(".step-*"):
        shutil.rmtree(partial, ignore_errors=True)


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to its sibling `target`, replacing what it was in one step."""
    aside = link.with_name(f".{link.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.name)
    aside.replace(link)


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointMismatch(
            f"{path} cannot be read ({error}); remove its folder to go on from an earlier one"
        ) from error


def _flatten(state: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items()}


def _unflatten(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        i, _, key = name.partition(".")
        state.setdefault(int(i), {})[key] = value
    return state


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as {"model.dim": 128}, in JSON types."""
    flat: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(tree, default=str)).items():
        flat |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _flush(file: Path) -> None:
    with file.open("rb") as f:
        os.fsync(f.fileno())
