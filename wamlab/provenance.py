"""What a result depends on besides its settings: code, versions, weights, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import wamlab

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
#: Modules that shape pages, run folders or the terminal, never a notebook's numbers; of `notebooks/` only `show.py` is none of them.
_NOT_RESULTS = ("cli.py", "doctor.py", "files.py", "provenance.py", "runs.py")
PACKAGE = Path(wamlab.__file__).parent


def environment() -> dict[str, Any]:
    """Git commit and whether it was changed, versions, weights, and the machine: everything needed to run the same again."""
    return {
        "git": git_state(),
        "python": platform.python_version(),
        "packages": versions(),
        "weights": weights(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "memory_gib": memory_gib(),
        "gpu": gpus(),
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
    commit = _output("git", "-C", str(PACKAGE), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(PACKAGE), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or None, "dirty": bool(changes) if commit else None}


@cache
def weights() -> dict[str, str]:
    """The weights that come with the package: path in it -> sha256 (16 digits)."""
    files = sorted(p for p in PACKAGE.rglob("*.safetensors") if "weights" in p.parts)
    return {p.relative_to(PACKAGE).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in files}


@cache
def source_digest() -> str:
    """A digest of the code and weights that can change a notebook's results, less what only shapes pages and the terminal."""
    folders = [PACKAGE]
    if (spec := find_spec("wamlab_widgets")) and spec.submodule_search_locations:
        folders.append(Path(next(iter(spec.submodule_search_locations))))
    total = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            relative = file.relative_to(folder).as_posix()
            pages = relative.startswith("notebooks/") and relative != "notebooks/show.py"
            if file.suffix in (".py", ".js", ".css", ".json") and relative not in _NOT_RESULTS and not pages:
                total.update(relative.encode())
                total.update(file.read_bytes())
    total.update(repr(weights()).encode())
    return total.hexdigest()


def memory_gib() -> float | None:
    """Of the machine, None where it does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def gpus() -> list[str]:
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
