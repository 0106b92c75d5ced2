"""What `wamlab run` and `wamlab report` do: run notebooks, export pages, say on the terminal how it went."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wamlab.config import project_root, reports_dir
from wamlab.errors import UnknownName
from wamlab.notebooks import parameters
from wamlab.notebooks.execute import SHARED, Outcome, execute, find_notebook, read_notebook


def run_notebooks(names: Iterable[str], given: Mapping[str, Any], timeout_s: float | None = None) -> bool:
    """Run each notebook into a run folder with its page; False if any of them failed. All parameters are checked before the first runs."""
    from wamlab.notebooks.export import export

    paths = [find_notebook(name) for name in names]
    for path in paths:
        parameters.check(read_notebook(path), path.name, given)
    good = True
    for path in paths:
        outcome = execute(path, given, timeout_s=timeout_s, progress=show_progress)
        page = outcome.run.path / "page.html"
        if outcome.run.notebook.is_file():
            export(outcome.run.notebook, page, outcome.run)
        _say(outcome, page)
        good &= outcome.ok
    return good


def report_all(shared: Mapping[str, Any], timeout_s: float | None = None) -> bool:
    """Run the notebooks that changed, export every page into reports/ and write its index; False if any notebook failed."""
    from wamlab.notebooks.export import export
    from wamlab.notebooks.index import write_index

    notebooks = sorted((project_root() / "notebooks").glob("*.ipynb"))
    if not notebooks:
        raise UnknownName("project folder", Path.cwd().name, ["a folder with pyproject.toml and notebooks/*.ipynb"])
    pages, good = [], True
    for path in notebooks:
        known = parameters.declared(read_notebook(path), path.name)
        given = {name: shared[name] for name in SHARED if name in shared and name in known}
        outcome = execute(path, given, timeout_s=timeout_s, reuse=True, progress=show_progress)
        target = reports_dir() / f"{path.stem}.html"
        if outcome.run.notebook.is_file():
            pages.append(export(outcome.run.notebook, target, outcome.run, index="index.html"))
        _say(outcome, target)
        good &= outcome.ok
    index = write_index(pages, reports_dir() / "index.html")
    print(f"{len(pages)} pages: {_short(index)}")
    return good


def show_progress(notebook: str, cell: int, cells: int, doing: str) -> None:
    """`05_video_rollouts  7/12  Roll out every model`: one line rewritten on a terminal, one line a cell elsewhere."""
    line = f"{notebook}  {cell}/{cells}  {doing}"
    if sys.stdout.isatty():
        width = os.get_terminal_size().columns if sys.stdout.isatty() else 80
        print(f"\r\x1b[2K{line[: width - 1]}", end="", flush=True)
    else:
        print(line, flush=True)


def _say(outcome: Outcome, page: Path) -> None:
    start = "\r\x1b[2K" if sys.stdout.isatty() else ""
    if outcome.reused:
        print(
            f"{start}{outcome.notebook.stem}  unchanged, reusing the run of {outcome.run.read('status').get('time', '?')}"
        )
    elif outcome.ok:
        print(f"{start}{outcome.notebook.stem}  done in {outcome.seconds:.0f} s  {_short(page)}")
    else:
        print(f"{start}wamlab: {outcome.notebook.stem} {outcome.status}: {outcome.message}", file=sys.stderr)
        print(f"{outcome.notebook.stem}  {outcome.status}  {_short(page)}")


def _short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
