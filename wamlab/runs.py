"""Run folders: what ran, with which settings, on which code and machine, and how it ended.

runs/<name>/<time>-<digest>/
    config.json        what was asked for, and the digest that decides whether it must run again
    environment.json   git commit, versions, machine
    status.json        running | completed | failed | timed out | interrupted
    …                  executed.ipynb, page.html, findings.json, metrics.json
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import wamlab
from wamlab.config import runs_dir

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
TIMED_OUT, INTERRUPTED = "timed out", "interrupted"
#: The packages whose versions change results.
PACKAGES = (
    "wamlab",
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "scikit-learn",
    "scipy",
    "pandas",
    "plotly",
    "papermill",
    "nbconvert",
)
#: Modules that shape pages or the terminal, never a notebook's numbers.
_NOT_RESULTS = (
    "cli.py",
    "runs.py",
    "notebooks/execute.py",
    "notebooks/export.py",
    "notebooks/index.py",
    "notebooks/offline.py",
    "notebooks/report.py",
)


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; every file is written aside and renamed, so a reader never sees half of one."""

    path: Path

    def read(self, name: str) -> dict[str, Any]:
        """`<name>.json`, or {} where it is missing or damaged."""
        try:
            return json.loads((self.path / f"{name}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def write(self, name: str, content: Any) -> None:
        target = self.path / f"{name}.json"
        aside = target.with_suffix(f".{os.getpid()}.part")
        aside.write_text(json.dumps(content, indent=2, default=str) + "\n", "utf-8")
        aside.replace(target)

    def set_status(self, status: str, **details: Any) -> None:
        self.write("status", {"status": status, "time": now(), **details})

    @property
    def status(self) -> str:
        return self.read("status").get("status", "unknown")

    @property
    def notebook(self) -> Path:
        return self.path / "executed.ipynb"


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def start(name: str, config: Mapping[str, Any], digest: str) -> RunFolder:
    """A fresh folder for a run of `name`, holding its config and environment, with the status `running`."""
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    base = runs_dir() / name / f"{stamp}-{digest[:8]}"
    path = base
    for attempt in range(2, 1000):
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            path = base.with_name(f"{base.name}-{attempt}")
    run = RunFolder(path)
    run.write("config", {**config, "digest": digest})
    run.write("environment", environment())
    run.set_status(RUNNING, pid=os.getpid())
    return run


def find_completed(name: str, digest: str) -> RunFolder | None:
    """The newest completed run of `name` with this digest whose executed notebook is still there."""
    for path in sorted((runs_dir() / name).glob(f"*-{digest[:8]}*"), reverse=True):
        run = RunFolder(path)
        if run.status == COMPLETED and run.read("config").get("digest") == digest and run.notebook.is_file():
            return run
    return None


def environment() -> dict[str, Any]:
    """Git commit and whether it was changed, versions, and the machine: everything needed to run the same again."""
    return {
        "git": git_state(),
        "python": platform.python_version(),
        "packages": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "gpu": _gpus(),
        "time": now(),
    }


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = wamlab.__version__ if package == "wamlab" else "not installed"
    return found


def git_state() -> dict[str, Any]:
    """{"commit": …, "dirty": …} of the code that ran, or nulls outside a git checkout."""
    where = Path(wamlab.__file__).parent
    commit = _output("git", "-C", str(where), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(where), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or None, "dirty": bool(changes) if commit else None}


def source_digest() -> str:
    """A digest of the code that can change a notebook's results: both packages, less what only shapes pages and the terminal."""
    package = Path(wamlab.__file__).parent
    folders = [package]
    try:
        import importlib.util

        spec = importlib.util.find_spec("wamlab_widgets")
        if spec and spec.submodule_search_locations:
            folders.append(Path(next(iter(spec.submodule_search_locations))))
    except ImportError:
        pass
    total = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            relative = file.relative_to(folder).as_posix()
            if (
                file.suffix not in (".py", ".js", ".css")
                or relative in _NOT_RESULTS
                or relative.startswith("notebooks/static")
            ):
                continue
            total.update(relative.encode())
            total.update(file.read_bytes())
    return total.hexdigest()


def _gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    return [line for line in _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines() if line]


def _output(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        print(f"wamlab: {command[0]} did not answer; its part of the provenance is empty", file=sys.stderr)
        return ""
