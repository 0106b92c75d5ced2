"""What is about to run: a notebook with checked parameters and the fingerprint that says whether it ran before. Nothing starts here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wamlab.config import digest, project_root
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.notebooks import gateway, parameters
from wamlab.provenance import source_digest, versions


@dataclass(frozen=True)
class Settings:
    """How notebooks are run, whatever is in them.

    Attributes:
        timeout_s: the longest one cell may take.
        kernel: the name of an installed kernel; None: the one that the notebook names.
        gateway: address of a Jupyter kernel gateway that runs the kernels; '' for this machine.
        resume: take a completed run of the same fingerprint as it is, and go on in the folder of one that did not complete.
    """

    timeout_s: float | None = None
    kernel: str | None = None
    gateway: str = ""
    resume: bool = False


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters it runs with; `label` tells it from others of the same notebook."""

    path: Path
    nb: Any
    given: Mapping[str, Any]
    values: Mapping[str, Any]
    help: Mapping[str, str]
    kernel: str
    dataset: Mapping[str, str] | None
    digest: str
    label: str

    @property
    def config(self) -> dict[str, Any]:
        """What a run folder keeps of it."""
        return {
            "notebook": self.path.name,
            "notebook_sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "question": question(self.nb),
            "parameters": dict(self.values),
            "help": dict(self.help),
            "kernel": self.kernel,
        }


def prepare(path: Path, given: Mapping[str, Any], settings: Settings | None = None, label: str = "") -> Job:
    """Check everything that can be checked before a notebook runs.

    Raises `InvalidParameter` and `UnknownName` for what is given, `UnknownName` for the kernel, and what is wrong with the dataset.
    """
    settings = settings or Settings()
    nb = read_notebook(path)
    checked = parameters.check(nb, path.name, given)
    declared = parameters.declared(nb, path.name)
    values = {name: p.default for name, p in declared.items()} | checked
    kernel = settings.kernel or nb.metadata.get("kernelspec", {}).get("name", "python3")
    known = gateway.kernels(settings.gateway)
    if kernel not in known:
        raise UnknownName(f"kernel of {path.name}", kernel, known)
    dataset = _dataset(values.get("dataset"))
    cells = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in nb.cells]
    data = dataset and dataset["fingerprint"]
    key = digest(cells, values, source_digest(), data, versions(), kernel, settings.gateway, length=32)
    helps = {name: p.help for name, p in declared.items()}
    return Job(path, nb, checked, values, helps, kernel, dataset, key, label or path.stem)


def find_notebook(name: str | Path) -> Path:
    """A path as given, or a notebook of the project by its file name, its stem or its number (`05`)."""
    path = Path(name)
    if path.is_file():
        return path
    folder = project_root() / "notebooks"
    every = sorted(folder.glob("*.ipynb"))
    for match in every:
        if str(name) in (match.name, match.stem, match.stem.split("_")[0]):
            return match
    raise UnknownName("notebook", name, [p.stem for p in every])


def read_notebook(path: Path) -> Any:
    import nbformat

    try:
        nb = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a file that is no notebook
        raise InvalidParameter(f"{path} is not a notebook ({type(error).__name__})") from None
    nbformat.validator.normalize(nb)
    return nb


def question(nb: Any) -> str:
    """The first heading of a notebook, as plain words; '' where it has none."""
    return next((found[0] for c in nb.cells if c.cell_type == "markdown" and (found := headline(c.source))), "")


def headline(source: str) -> tuple[str, str] | None:
    """A Markdown cell that opens with a heading: the heading as plain words, and what follows it."""
    match = re.match(r"\s*#\s+(.+)", source)
    return (re.sub(r"[*_`]", "", match[1]).strip(), source[match.end() :]) if match else None


def title_of(source: str) -> str:
    """What a code cell says it does: its leading comment, else its first line."""
    first = next((line for line in source.splitlines() if line.strip()), "").strip()
    return first.lstrip("# ").strip() if first.startswith("#") else first


def _dataset(name: Any) -> dict[str, str] | None:
    """Name and fingerprint of a dataset, None where the notebook takes none. Raises what is wrong with the dataset."""
    if not name:
        return None
    from wamlab.data import open_dataset

    return {"name": str(name), "fingerprint": open_dataset(name).fingerprint}
