"""Run folders: what ran, with which settings, on which code and machine, and how it ended.

runs/<name>/<time>-<digest>/
    config.json        what was asked for, and the digest that decides whether it must run again
    environment.json   git commit, versions, weights, dataset, machine
    status.json        running | completed | failed | timed out | interrupted
    log.txt            what the cells printed, as it came
    executed.ipynb, page.html, answer.json, findings.json, metrics.json, tables/*.csv (and .parquet), figures/*
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wamlab.config import runs_dir
from wamlab.errors import WriteFailed
from wamlab.files import write_file
from wamlab.provenance import environment

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
TIMED_OUT, INTERRUPTED = "timed out", "interrupted"
#: The first status is written with this many bytes, so that the last one can take its place on a full disk.
_ROOM = 4096


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; every file is written aside and renamed, so a reader never sees half of one."""

    path: Path

    def read(self, name: str) -> Any:
        """`<name>.json`, or {} where it is missing or damaged."""
        try:
            return json.loads((self.path / f"{name}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def write(self, name: str, content: Any) -> None:
        """Write `<name>.json`. Raises `WriteFailed`."""
        write_file(self.path / f"{name}.json", json.dumps(content, indent=2, default=str) + "\n")

    def set_status(self, status: str, **details: Any) -> None:
        """Write the status; on a full disk over the one that is there, which has room for it."""
        content = {"status": status, "time": now(), **details}
        try:
            self.write("status", content)
        except WriteFailed:
            with (self.path / "status.json").open("r+b") as file:
                file.write(json.dumps(content, default=str).encode()[:_ROOM].ljust(_ROOM))

    @property
    def about(self) -> dict[str, Any]:
        """How it stands or ended: status, time, message, …; a run that nobody works on any more was interrupted."""
        found = self.read("status") or {"status": "unknown"}
        if found["status"] == RUNNING and not self._busy():
            found |= {"status": INTERRUPTED, "message": "it was killed, or the machine stopped"}
        return found

    @property
    def status(self) -> str:
        return self.about["status"]

    @property
    def notebook(self) -> Path:
        return self.path / "executed.ipynb"

    def lock(self) -> FileLock:
        """Held by the process that works on this run; it goes with that process."""
        return FileLock(self.path / ".lock")

    def _busy(self) -> bool:
        lock = self.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # a folder that is only for reading
            return False
        lock.release()
        return False


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def start(name: str, config: Mapping[str, Any], digest: str) -> RunFolder:
    """A fresh folder for a run of `name`, holding its config. Raises `WriteFailed`."""
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    base = runs_dir() / name / f"{stamp}-{digest[:8]}"
    path = base
    for attempt in range(2, 1000):
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            path = base.with_name(f"{base.name}-{attempt}")
        except OSError as error:
            raise WriteFailed(f"no run folder can be made in {runs_dir()} ({error.strerror})") from error
    run = RunFolder(path)
    run.write("config", {**config, "digest": digest})
    return run


def begin(run: RunFolder, attempt: int = 1, about: Mapping[str, Any] | None = None) -> None:
    """Say where work on a run begins (with what to know `about` it), and that it does, in a status with room for any later one."""
    run.write("environment", environment() | dict(about or {}))
    text = json.dumps({"status": RUNNING, "time": now(), "attempt": attempt})
    write_file(run.path / "status.json", text.ljust(_ROOM))


def every(name: str = "*") -> Iterator[RunFolder]:
    """The runs of a notebook, or of all, newest first; other folders (trained models) are passed over."""
    folders = sorted(runs_dir().glob(f"{name}/*/config.json"), key=lambda p: p.parent.name, reverse=True)
    return (run for run in map(RunFolder, (f.parent for f in folders)) if "notebook" in run.read("config"))


def find_latest(name: str, digest: str) -> RunFolder | None:
    """The run of `name` with this digest that got farthest: the newest completed one, else the newest that nobody works on any more."""
    same = [run for run in every(name) if digest[:8] in run.path.name and run.read("config").get("digest") == digest]
    done = [run for run in same if run.status == COMPLETED and run.notebook.is_file()]
    left = [run for run in same if run.status not in (RUNNING, COMPLETED)]
    return next(iter(done + left), None)
