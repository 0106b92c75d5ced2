"""Helpers for the frozen-dataclass configs that stand beside what they configure, and the folders wamlab writes to.

No config lives here: a module declares its own. What lives here turns one into a dict, a digest, or a changed copy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wamlab.errors import InvalidParameter

C = TypeVar("C")


def project_root() -> Path:
    """The nearest folder at or above the working directory with a `pyproject.toml` and `notebooks/`, else the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def data_dir() -> Path:
    """Where datasets and latents live: `$WAMLAB_DATA`, else `data/` of the project."""
    return Path(os.environ.get("WAMLAB_DATA") or project_root() / "data")


def runs_dir() -> Path:
    """Where run folders and trained models live: `$WAMLAB_RUNS`, else `runs/` of the project."""
    return Path(os.environ.get("WAMLAB_RUNS") or project_root() / "runs")


def reports_dir() -> Path:
    """Where pages are exported to: `$WAMLAB_REPORTS`, else `reports/` of the project."""
    return Path(os.environ.get("WAMLAB_REPORTS") or project_root() / "reports")


def to_dict(config: Any) -> dict[str, Any]:
    """A (nested) dataclass as plain JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def digest(*parts: Any, length: int = 16) -> str:
    """A hex digest of dataclasses, mappings, sequences, strings and numbers; equal content gives equal digests."""

    def plain(part: Any) -> Any:
        return to_dict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else part

    text = json.dumps([plain(p) for p in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with fields replaced; string values are parsed by the field's type.

    A key may be dotted (`{"train.steps": 3}`) or its value nested (`{"train": {"steps": 3}}`); a tuple is given as `1,2` and no value
    as `none`.

    Raises `InvalidParameter` for an unknown field (listing the known ones) and for a value of the wrong type.
    """
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        if not dataclasses.is_dataclass(config):
            raise InvalidParameter(f"{key!r} is asked of {config!r}, which has no fields; end the name before it")
        hints = typing.get_type_hints(type(config))
        if head not in hints:
            raise InvalidParameter(f"{type(config).__name__} has no field {head!r}; known: {', '.join(sorted(hints))}")
        if rest:
            new = override(getattr(config, head), {rest: value})
        elif isinstance(value, Mapping):
            new = override(getattr(config, head), value)
        else:
            new = _parse(value, hints[head], f"{type(config).__name__}.{head}")
        config = dataclasses.replace(config, **{head: new})
    return config


def _parse(value: Any, hint: Any, name: str) -> Any:
    """Fit `value` to a type hint: scalars, `X | None` and `tuple[X, ...]`; anything else must already fit."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            return None
        return _parse(value, next(a for a in args if a is not type(None)), name)
    if origin is tuple:
        if not isinstance(value, str | Sequence):
            raise InvalidParameter(f"{name} must be one or several {args[0].__name__}, not {value!r}")
        items = [v.strip() for v in value.split(",") if v.strip()] if isinstance(value, str) else value
        return tuple(_parse(v, args[0], name) for v in items)
    try:
        if hint is bool and isinstance(value, str):
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        if hint is int and isinstance(value, str):
            return int(value)
        if hint is float and isinstance(value, str | int) and not isinstance(value, bool):
            return float(value)
    except (KeyError, ValueError):
        raise InvalidParameter(f"{name} must be {hint.__name__}, not {value!r}") from None
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is not bool and isinstance(value, bool))):
        raise InvalidParameter(f"{name} must be {hint.__name__}, not {value!r}")
    return value
