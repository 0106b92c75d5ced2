"""What `wamlab run` and `wamlab report` do: run notebooks, export pages, say on the terminal how it went."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wamlab import runs
from wamlab.config import project_root, reports_dir
from wamlab.errors import UnknownName, WamlabError
from wamlab.notebooks import parameters
from wamlab.notebooks.browser import print_pdf, require_browser
from wamlab.notebooks.console import Console, short
from wamlab.notebooks.docs import has_docs, write_docs
from wamlab.notebooks.execute import Outcome
from wamlab.notebooks.export import Page, export
from wamlab.notebooks.index import write_index
from wamlab.notebooks.job import Settings, find_notebook, prepare, read_notebook
from wamlab.notebooks.pool import run_jobs

#: Parameters that most notebooks share; `wamlab report` passes them to those that declare them.
SHARED = ("preset", "dataset")


def run_notebooks(
    names: Iterable[str], given: Mapping[str, Any], settings: Settings | None = None, workers: int = 1
) -> bool:
    """Run each notebook into a run folder with its page; False if any of them failed. All is checked before the first one runs."""
    settings = settings or Settings()
    jobs = [prepare(find_notebook(name), given, settings) for name in names]
    console, pages = Console(), {}

    def ended(outcome: Outcome) -> None:
        pages[outcome.job.path] = _page(outcome, console, outcome.run.path / "page.html")

    outcomes = run_jobs(jobs, settings, workers, console.progress, ended)
    return all(outcome.ok for outcome in outcomes) and all(pages.values())


def report_all(
    shared: Mapping[str, Any], settings: Settings | None = None, workers: int = 2, pdf: bool = False
) -> bool:
    """Run the notebooks that changed, export every page and the documentation into reports/, write its index; False if any notebook failed.

    Raises what `prepare` raises, and `BrowserMissing` where PDFs are wanted, before anything runs.
    """
    if pdf:
        require_browser()
    settings = dataclasses.replace(settings or Settings(), resume=True)
    notebooks = sorted((project_root() / "notebooks").glob("*.ipynb"))
    if not notebooks:
        raise UnknownName("project folder", Path.cwd().name, ["a folder with pyproject.toml and notebooks/*.ipynb"])
    jobs = []
    for path in notebooks:
        known = parameters.declared(read_notebook(path), path.name)
        jobs.append(prepare(path, {n: shared[n] for n in SHARED if n in shared and n in known}, settings))
    console, pages = Console(), {}

    def ended(outcome: Outcome) -> None:
        target = reports_dir() / f"{outcome.job.path.stem}.html"
        page = pages[outcome.job.path] = _page(outcome, console, target, index="index.html")
        if page and pdf:
            print_pdf(page.path)

    outcomes = run_jobs(jobs, settings, workers, console.progress, ended)
    if has_docs(project_root()):
        write_docs(index="../index.html")
    listed = [pages[path] for path in notebooks if pages[path]]
    index = write_index(listed, reports_dir() / "index.html", runs.every())
    print(f"{len(listed)} pages: {short(index)}")
    return all(outcome.ok for outcome in outcomes) and all(pages.values())


def _page(outcome: Outcome, console: Console, target: Path, index: str = "") -> Page | None:
    """Export the page of a run and say how it ended; None where there is no page, e.g. since the disk is full."""
    page = None
    try:
        if outcome.run.notebook.is_file():
            page = export(outcome.run.notebook, target, outcome.run, index)
    except WamlabError as error:
        console.complain(f"no page of {outcome.job.label}: {error}")
    console.ended(outcome, page and page.path)
    return page
