"""Backbones from a folder or the hub through their own classes, with named refusals, and the writing of such folders. No architecture.

A hub name is looked for in the hub's cache first, and asked for over the network only if it is not there. Only safetensors and JSON are
read.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from wamlab.encoders.preprocess import Preprocess
from wamlab.errors import CheckpointMismatch, WeightsMissing

#: Files with a processor's numbers, the first one found counts.
PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
#: What the libraries raise for files that are damaged or do not fit.
FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


def load_backbone(
    model_class: type,
    source: str | Path,
    name: str,
    config_types: tuple[str, ...],
    default: Preprocess,
    subfolder: str = "",
    unused: tuple[str, ...] = (),
    **options: Any,
) -> tuple[nn.Module, Preprocess]:
    """A backbone in float32, and the numbers of its processor.

    Args:
        model_class: of transformers or diffusers.
        source: a folder in the library's layout, or a name on the hub.
        name: of the encoder, for messages.
        config_types: what a folder's `config.json` may say of the kind of model.
        default: the processor's published numbers, for what `source` does not say.
        subfolder: where the model is on the hub.
        unused: beginnings of the names of weights that may be missing, because nothing here uses them.
        options: for `model_class.from_pretrained`.

    Raises:
        WeightsMissing: no such weights here or within reach.
        CheckpointMismatch: they are damaged, or another model's.
    """
    if Path(source).is_dir():
        folder = Path(source, subfolder) if config_type(Path(source, subfolder)) else Path(source)
        _check_folder(folder, name, config_types)
        try:
            return _load(model_class, folder, default, unused, options)
        except FAILURES as error:
            raise CheckpointMismatch(f"{folder} is damaged, or does not fit {name} ({_first_line(error)})") from error
    for offline in (True, False):
        try:
            where = options | {"subfolder": subfolder, "local_files_only": offline}
            return _load(model_class, source, default, unused, where)
        except (OSError, ValueError) as error:
            problem = error
        except FAILURES as error:
            raise CheckpointMismatch(f"what the cache has of {source} is damaged ({_first_line(error)})") from error
    from huggingface_hub.constants import HF_HUB_CACHE

    raise WeightsMissing(
        f"the weights of {name} ({source}) are not in the cache {HF_HUB_CACHE} and could not be downloaded ({_first_line(problem)}). "
        f"Three ways out: where there is a network, run `{download_command(model_class, str(source), subfolder)}`, which writes a folder "
        f"`weights`; name a folder that has them, as in `{name}=path/to/weights`; or use `{name}/embedded`, which needs no download"
    ) from problem


def download_command(model_class: type, source: str, subfolder: str = "") -> str:
    """A shell command that writes a hub model to a folder `weights` as safetensors (CLIP's own repository has only pickled weights)."""
    where = f", subfolder='{subfolder}'" if subfolder else ""
    library, model = model_class.__module__.partition(".")[0], model_class.__name__
    return f"python -c \"from {library} import {model} as M; M.from_pretrained('{source}'{where}).save_pretrained('weights')\""


def save_backbone(backbone: nn.Module, preprocess: Preprocess, folder: Path) -> None:
    """Write a model of transformers or diffusers in the layout that `load_backbone` reads, its weights as float16.

    It is written aside and put in place file by file; other files of the folder, such as a card, stay.
    """
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    with _quiet():
        copy.deepcopy(backbone).half().save_pretrained(aside)
    (aside / PROCESSORS[-1]).write_text(json.dumps(preprocess.to_json(), indent=2) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    for file in aside.iterdir():
        file.replace(folder / file.name)
    aside.rmdir()


def config_type(folder: Path) -> str | None:
    """The kind of model that a folder's `config.json` names (`model_type` or `_class_name`), None where there is none."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return config.get("model_type") or config.get("_class_name")
    except (OSError, ValueError, AttributeError):
        return None


def _check_folder(folder: Path, name: str, config_types: tuple[str, ...]) -> None:
    if not (folder / "config.json").is_file():
        raise WeightsMissing(f"{folder} has no config.json: {name} needs a folder as `save_pretrained` writes it")
    if (found := config_type(folder)) not in config_types:
        raise CheckpointMismatch(f"{folder} has a model of type {found}, and {name} reads {' or '.join(config_types)}")
    if not any(folder.glob("*.safetensors")):
        pickles = ", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "no weights"
        raise WeightsMissing(
            f"{folder} has {pickles}, but no .safetensors, and nothing else is read: save it again with "
            "`save_pretrained`, which writes safetensors"
        )


def _load(
    model_class: type, source: str | Path, default: Preprocess, unused: tuple[str, ...], options: dict[str, Any]
) -> tuple[nn.Module, Preprocess]:
    with _quiet():
        model, report = model_class.from_pretrained(
            str(source), use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    missing = [key for key in sorted(report["missing_keys"]) if not key.startswith(unused)]
    if missing:
        raise CheckpointMismatch(f"{source} lacks {len(missing)} weights of {model_class.__name__}, e.g. {missing[0]}")
    if mismatched := sorted(report["mismatched_keys"], key=str):
        key, found, wanted = mismatched[0]
        raise CheckpointMismatch(f"{source} does not fit its config.json: {key} is {tuple(found)}, not {tuple(wanted)}")
    return model.float(), _read_processor(source, default, options)


def _read_processor(source: str | Path, default: Preprocess, options: dict[str, Any]) -> Preprocess:
    """The numbers of the first of `PROCESSORS` that is there."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in PROCESSORS:
        try:
            if Path(source).is_dir():
                path = Path(source, name)
            else:
                path = Path(hf_hub_download(str(source), name, local_files_only=options["local_files_only"]))
            return Preprocess.from_json(json.loads(path.read_text()), default)
        except (EntryNotFoundError, FileNotFoundError):
            continue
    return default


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' progress bars and reports: of what they report, missing weights matter, and those are refused."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    levels, bars = (diffusers.get_verbosity(), transformers.get_verbosity()), transformers.is_progress_bar_enabled()
    diffusers.set_verbosity_error()
    transformers.set_verbosity_error()
    transformers.disable_progress_bar()
    try:
        yield
    finally:
        diffusers.set_verbosity(levels[0])
        transformers.set_verbosity(levels[1])
        if bars:
            transformers.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
