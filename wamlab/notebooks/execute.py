"""Run a notebook headless: check its parameters, execute it into a run folder, leave a page whatever happens."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wamlab import runs
from wamlab.config import digest, project_root
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.notebooks import parameters
from wamlab.notebooks.show import ANSWER_MIME, FINDINGS_MIME, METRICS_MIME

Progress = Callable[[str, int, int, str], None]
#: Parameters that most notebooks share; `wamlab report` passes them to those that declare them.
SHARED = ("preset", "dataset")


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended. `page` is the exported file; `reused` says that nothing had changed since an earlier run."""

    notebook: Path
    run: runs.RunFolder
    status: str
    message: str = ""
    reused: bool = False
    seconds: float = 0.0
    page: Path | None = None

    @property
    def ok(self) -> bool:
        return self.status == runs.COMPLETED


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


def fingerprint(path: Path, nb: Any, given: Mapping[str, Any]) -> str:
    """What decides whether a notebook must run again: its code and text, the parameters, our code, the dataset, the versions."""
    cells = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in nb.cells]
    declared = parameters.declared(nb, path.name)
    values = {name: p.default for name, p in declared.items()} | dict(given)
    return digest(
        cells, values, runs.source_digest(), _dataset_fingerprint(values.get("dataset")), runs.versions(), length=32
    )


def execute(
    path: Path,
    given: Mapping[str, Any],
    *,
    timeout_s: float | None = None,
    reuse: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Run one notebook with these parameters into a fresh run folder, or return the run that already has the same fingerprint.

    Args:
        timeout_s: the longest one cell may take.
        reuse: return a completed run whose fingerprint is the same instead of running again.
        progress: called as `(notebook, cell, cells, what the cell does)` before each cell.

    Raises `InvalidParameter`, or what is wrong with the dataset, before anything runs; what fails while running is in the outcome's
    status and message.
    """
    nb = read_notebook(path)
    values = parameters.check(nb, path.name, given)
    key = fingerprint(path, nb, values)
    if reuse and (found := runs.find_completed(path.stem, key)):
        return Outcome(path, found, runs.COMPLETED, reused=True)
    declared = parameters.declared(nb, path.name)
    config = {
        "notebook": path.name,
        "notebook_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": {name: p.default for name, p in declared.items()} | values,
        "help": {name: p.help for name, p in declared.items()},
        "timeout_s": timeout_s,
    }
    run = runs.start(path.stem, config, key)
    began = time.monotonic()
    status, details = runs.INTERRUPTED, {"message": "stopped by the user"}
    try:
        status, details = _run(nb, path, run, values, timeout_s, progress)
    finally:
        seconds = round(time.monotonic() - began, 1)
        _collect(run)
        run.set_status(status, seconds=seconds, **details)
    return Outcome(path, run, status, details.get("message", ""), seconds=seconds)


def _run(
    nb: Any,
    path: Path,
    run: runs.RunFolder,
    values: Mapping[str, Any],
    timeout_s: float | None,
    progress: Progress | None,
) -> tuple[str, dict[str, Any]]:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.engines import NBClientEngine, papermill_engines

    at = {"cell": -1}

    class Engine(NBClientEngine):
        """papermill's own engine, telling which cell it is at."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            start = nb_man.cell_start

            def cell_start(cell: Any, cell_index: int = -1, **kw: Any) -> None:
                at["cell"] = cell_index
                if progress and cell.cell_type == "code":
                    progress(path.stem, cell_index + 1, len(nb_man.nb.cells), _doing(cell))
                start(cell, cell_index, **kw)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("wamlab", Engine)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    try:
        papermill.execute_notebook(
            nb,
            str(run.notebook),
            parameters=dict(values),
            engine_name="wamlab",
            kernel_name=nb.metadata.get("kernelspec", {}).get("name", "python3"),
            language="python",
            progress_bar=False,
            execution_timeout=timeout_s,
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except papermill.PapermillExecutionError as error:
        return runs.FAILED, {"message": _one_line(f"{error.ename}: {error.evalue}"), "cell": error.cell_index}
    except CellTimeoutError:
        message = f"cell {at['cell'] + 1} took longer than {timeout_s:g} s"
        _mark(run, at["cell"], "Timeout", message)
        return runs.TIMED_OUT, {"message": message, "cell": at["cell"]}
    except DeadKernelError:
        message = f"the kernel died in cell {at['cell'] + 1} (out of memory is the usual cause)"
        _mark(run, at["cell"], "KernelDied", message)
        return runs.FAILED, {"message": message, "cell": at["cell"]}
    return runs.COMPLETED, {}


def title_of(source: str) -> str:
    """What a code cell says it does: its leading comment, else its first line."""
    first = next((line for line in source.splitlines() if line.strip()), "").strip()
    return first.lstrip("# ").strip() if first.startswith("#") else first


def _doing(cell: Any) -> str:
    if "injected-parameters" in cell.metadata.get("tags", []):
        return "Parameters as given"
    return "Parameters" if "parameters" in " ".join(cell.metadata.get("tags", [])) else title_of(cell.source)


def _mark(run: runs.RunFolder, index: int, name: str, message: str) -> None:
    """Write an error into the cell at which execution stopped, so that every reader of the notebook finds it there."""
    import nbformat

    nb = nbformat.read(run.notebook, as_version=4)
    error = nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])
    if 0 <= index < len(nb.cells) and nb.cells[index].cell_type == "code":
        nb.cells[index].outputs.append(error)
        nbformat.write(nb, run.notebook)


def _collect(run: runs.RunFolder) -> None:
    """Copy what the notebook displayed as findings, metrics and answer into files of the run folder."""
    if not run.notebook.is_file():
        return
    import nbformat

    found: dict[str, Any] = {}
    for cell in nbformat.read(run.notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            found.setdefault("findings", []).extend(data.get(FINDINGS_MIME, []))
            found.setdefault("metrics", {}).update(data.get(METRICS_MIME, {}))
            found.setdefault("answer", {}).update(data.get(ANSWER_MIME, {}))
    for name, content in found.items():
        if content:
            run.write(name, content)


def _dataset_fingerprint(name: Any) -> str | None:
    """The fingerprint of a dataset by name, None where the notebook takes no dataset. Raises what is wrong with the dataset."""
    if not name:
        return None
    from wamlab.data import open_dataset

    return open_dataset(name).fingerprint


def _one_line(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
