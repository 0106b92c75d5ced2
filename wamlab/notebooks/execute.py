"""Run a notebook headless with papermill into a run folder, whose status says how it ended, whatever happens."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.log import logger

from wamlab import runs
from wamlab.errors import WriteFailed
from wamlab.notebooks import gateway
from wamlab.notebooks.collect import collect
from wamlab.notebooks.job import Job, Settings, prepare, title_of

Progress = Callable[[str, int, int, str], None]
#: Run in the kernel before the first cell; a kernel without wamlab goes on without.
_LOAD = "try:\n    get_ipython().run_line_magic('load_ext', 'wamlab.notebooks.show')\nexcept ImportError:\n    pass"

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended. `reused` says that nothing had changed since an earlier run."""

    job: Job
    run: runs.RunFolder
    status: str
    message: str = ""
    reused: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == runs.COMPLETED


class Stop:
    """Ends running notebooks from another thread: `stop()` kills their kernels, and their runs end as interrupted."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._clients: set[_Client] = set()

    def watch(self, client: _Client) -> None:
        self._clients.add(client)
        if self.asked.is_set():
            client.kill()

    def forget(self, client: _Client) -> None:
        self._clients.discard(client)

    def stop(self) -> None:
        self.asked.set()
        for client in list(self._clients):
            client.kill()


def run_notebook(path: Path, given: Mapping[str, Any], settings: Settings | None = None) -> Outcome:
    """`prepare` and `execute` in one call."""
    settings = settings or Settings()
    return execute(prepare(path, given, settings), settings)


def execute(job: Job, settings: Settings, progress: Progress | None = None, stop: Stop | None = None) -> Outcome:
    """Run one notebook into a run folder, a fresh one unless `settings.resume` finds one.

    A notebook that did not complete starts again from its first cell: trained models, latents, embeddings and rollouts are found where they
    were left; decoding, measuring and drawing are repeated.

    Args:
        progress: called as `(label, cell, cells, what the cell does)` before each cell.

    Raises `WriteFailed` where not even a status can be written; every other end is in the outcome's status and message.
    """
    run = runs.find_latest(job.path.stem, job.digest) if settings.resume else None
    if run and run.status == runs.COMPLETED:
        return Outcome(job, run, runs.COMPLETED, reused=True)
    attempt = run.read("status").get("attempt", 1) + 1 if run else 1
    run = run or runs.start(job.path.stem, job.config, job.digest)
    with run.lock().acquire(timeout=10):
        runs.begin(run, attempt, {"dataset": job.dataset})
        began = time.monotonic()
        status, details = runs.INTERRUPTED, {"message": "stopped by the user"}
        try:
            status, details = _run(job, run, settings, progress, stop or Stop())
            collect(run)
        except OSError as error:
            what = "the run folder could not be written" if error.errno in _NO_ROOM else type(error).__name__
            status, details = runs.FAILED, {"message": _one_line(f"{what}: {error.strerror or error}")}
        except WriteFailed as error:
            status, details = runs.FAILED, {"message": str(error)}
        except Exception as error:
            status, details = runs.FAILED, {"message": _one_line(f"{type(error).__name__}: {error}")}
            raise
        finally:
            seconds = round(time.monotonic() - began, 1)
            run.set_status(status, seconds=seconds, attempt=attempt, **details)
    return Outcome(job, run, status, details.get("message", ""), seconds=seconds)


def _run(
    job: Job, run: runs.RunFolder, settings: Settings, progress: Progress | None, stop: Stop
) -> tuple[str, dict[str, Any]]:
    watch = _Watch(job.label, run.path / "log.txt", progress, stop)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    try:
        papermill.execute_notebook(
            job.nb,
            str(run.notebook),
            parameters=dict(job.given),
            engine_name="wamlab",
            kernel_name=job.kernel,
            language="python",
            progress_bar=False,
            watch=watch,
            timeout=settings.timeout_s,
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=50"],
            **gateway.manager(settings.gateway),
        )
    except papermill.PapermillExecutionError as error:
        return runs.FAILED, {"message": _one_line(f"{error.ename}: {error.evalue}"), "cell": error.cell_index}
    except CellTimeoutError:
        message = f"cell {watch.cell + 1} took longer than {settings.timeout_s:g} s"
        _mark(run, watch.cell, "Timeout", message)
        return runs.TIMED_OUT, {"message": message, "cell": watch.cell}
    except (DeadKernelError, RuntimeError) as error:
        if stop.asked.is_set():
            return runs.INTERRUPTED, {"message": "stopped by the user", "cell": watch.cell}
        if not isinstance(error, DeadKernelError) and "died" not in str(error).lower():
            raise
        message = f"the kernel died in cell {watch.cell + 1} (out of memory is the usual cause)"
        _mark(run, watch.cell, "KernelDied", message)
        return runs.FAILED, {"message": message, "cell": watch.cell}
    return runs.COMPLETED, {}


class _Watch:
    """Where a run is: the cell it is at, its live log, who wants to know."""

    def __init__(self, label: str, log: Path, progress: Progress | None, stop: Stop) -> None:
        self.label, self.log, self.progress, self.stop = label, log, progress, stop
        self.cell = -1
        log.unlink(missing_ok=True)

    def cell_starts(self, nb: Any, index: int) -> None:
        self.cell = index
        cell = nb.cells[index]
        if cell.cell_type == "code":
            self.write(f"[{index + 1}/{len(nb.cells)}] {_doing(cell)}\n")
            if self.progress:
                self.progress(self.label, index + 1, len(nb.cells), _doing(cell))

    def output(self, output: Any) -> None:
        if output.output_type == "stream":
            self.write(output.text)
        elif output.output_type == "error":
            self.write("\n".join(output.traceback) + "\n")

    def write(self, text: str) -> None:
        """The log is the first to give way on a full disk."""
        with suppress(OSError), self.log.open("a", encoding="utf-8") as file:
            file.write(text)


class _Client(PapermillNotebookClient):
    """papermill's client, telling what it is at, and with a way to end it."""

    watch: _Watch

    def start_new_kernel_client(self, **kwargs: Any) -> Any:
        client = super().start_new_kernel_client(**kwargs)
        self.watch.stop.watch(self)
        client.execute(_LOAD, silent=True, store_history=False)
        return client

    def execute_cell(self, cell: Any, cell_index: int, *args: Any, **kwargs: Any) -> Any:
        self.watch.cell_starts(self.nb, cell_index)
        return super().execute_cell(cell, cell_index, *args, **kwargs)

    def process_message(self, msg: Any, *args: Any, **kwargs: Any) -> Any:
        output = super().process_message(msg, *args, **kwargs)
        if output:
            self.watch.output(output)
        return output

    def kill(self) -> None:
        with suppress(RuntimeError, OSError):  # it may be gone
            if self.km.provisioner:
                run_sync(self.km.signal_kernel)(signal.SIGKILL)
            else:  # behind a gateway
                run_sync(self.km.shutdown_kernel)(now=True)


class _Engine(Engine):
    """papermill's engine with our client."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, watch: _Watch, start_timeout: float = 60, **options: Any
    ) -> Any:
        options = {name: value for name, value in options.items() if name not in ("log_output", "input_path")}
        client = _Client(nb_man, kernel_name=kernel_name, log=logger, startup_timeout=start_timeout, **options)
        client.watch = watch
        try:
            return client.execute()
        finally:
            watch.stop.forget(client)


papermill_engines.register("wamlab", _Engine)


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


def _one_line(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
