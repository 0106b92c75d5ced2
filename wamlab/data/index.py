"""The index: all that is known of a dataset's scenes without opening an image, in one file that is read in an instant. No dataset format.

It holds what the tables and signals gave, so that they are read once. The file carries a stamp of what it was built from and a checksum:
one that is stale is rebuilt, one that is damaged is named and rebuilt. It is written aside and renamed, under a lock, so processes that
need the same index build it once. Each dataset folder has one file; a dataset that changed replaces it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wamlab.errors import CanBusMissing, DatasetIncomplete, WamlabError
from wamlab.types import Scene

#: Part of the stamp: raise it when the same files give another index.
FORMAT = 1
#: What can be wrong with a scene.
PROBLEMS = {problem.__name__: problem for problem in (CanBusMissing, DatasetIncomplete)}


@dataclass(frozen=True)
class Index:
    """The scenes of a dataset, those with something missing apart: a scene's name is in `scenes` or in `problems`.

    The `split` of a scene in here says nothing: `splits` does, since a scene may be in two.
    """

    splits: dict[str, tuple[str, ...]]
    scenes: dict[str, Scene]
    problems: dict[str, WamlabError]


def load_index(path: Path, dataroot: Path, stamp: str, build: Callable[[], Index]) -> Index:
    """The index at `path` if it has this stamp, else the one that `build` makes, kept at `path` for the next time.

    Where nothing can be written it is built each time, with a warning. Raises what `build` raises.
    """
    stamp = f"{FORMAT}-{stamp}"
    if (index := _read_sound(path, dataroot, stamp)) is not None:
        return index
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        except OSError as error:
            _warn_of_no_place(path, error)
            return build()
        with warnings.catch_warnings(action="ignore"):  # damage was named above
            index = _read_sound(path, dataroot, stamp)  # another process may have built it by now
        if index is None:
            index = build()
            try:
                _write(path, dataroot, stamp, index)
            except (SafetensorError, OSError) as error:
                _warn_of_no_place(path, error)
        return index


def _warn_of_no_place(path: Path, error: Exception) -> None:
    warnings.warn(f"cannot keep the index {path} ({error}): it will be built again each time", stacklevel=4)


def _read_sound(path: Path, dataroot: Path, stamp: str) -> Index | None:
    """The index, or None where there is none with this stamp to be trusted."""
    try:
        return _read(path, dataroot, stamp)
    except FileNotFoundError:
        return None
    except (SafetensorError, ValueError, LookupError, TypeError, OSError) as error:
        warnings.warn(f"damaged index {path} ({error}): building it again", stacklevel=4)
        return None


def _write(path: Path, dataroot: Path, stamp: str, index: Index) -> None:
    """Arrays as tensors named `scene/field`; the rest as JSON in the header. Aside first: the lock keeps processes apart."""
    tensors, rest = {}, {}
    for name, scene in index.scenes.items():
        fields = {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}
        arrays = {key: np.ascontiguousarray(value) for key, value in fields.items() if isinstance(value, np.ndarray)}
        tensors |= {f"{name}/{key}": array for key, array in arrays.items()}
        rest[name] = {key: value for key, value in fields.items() if key not in arrays} | {
            "image_paths": [image.relative_to(dataroot).as_posix() for image in scene.image_paths],
            "video_path": scene.video_path and scene.video_path.relative_to(dataroot).as_posix(),
        }
    problems = {name: [type(problem).__name__, str(problem)] for name, problem in index.problems.items()}
    content = json.dumps({"splits": index.splits, "scenes": rest, "problems": problems})
    aside = path.with_suffix(".part")
    save_file(tensors, aside, {"stamp": stamp, "content": content, "sha256": _checksum(content, tensors)})
    aside.replace(path)


def _read(path: Path, dataroot: Path, stamp: str) -> Index | None:
    """The index as it was written; None if its stamp is another one.

    Raises:
        FileNotFoundError: no such file.
        SafetensorError, ValueError, LookupError, TypeError, OSError: its content is not what was written.
    """
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    if metadata["sha256"] != _checksum(metadata["content"], tensors):
        raise ValueError("its content does not match its checksum")
    if metadata["stamp"] != stamp:
        return None
    content = json.loads(metadata["content"])
    arrays: dict[str, dict[str, np.ndarray]] = {name: {} for name in content["scenes"]}
    for key, tensor in tensors.items():
        name, _, field = key.rpartition("/")
        arrays[name][field] = tensor
    return Index(
        splits={split: tuple(names) for split, names in content["splits"].items()},
        scenes={name: _scene(rest, arrays[name], dataroot) for name, rest in content["scenes"].items()},
        problems={name: PROBLEMS[kind](message) for name, (kind, message) in content["problems"].items()},
    )


def _scene(rest: dict[str, Any], arrays: dict[str, np.ndarray], dataroot: Path) -> Scene:
    paths = {
        "image_paths": tuple(dataroot / image for image in rest["image_paths"]),
        "video_path": rest["video_path"] and dataroot / rest["video_path"],
        "image_size": rest["image_size"] and tuple(rest["image_size"]),
    }
    return Scene(**(rest | paths | arrays))


def _checksum(content: str, tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(content.encode())
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tensors[key].shape}".encode())
        digest.update(tensors[key].tobytes())
    return digest.hexdigest()
