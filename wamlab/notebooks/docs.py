"""The documentation as pages of the same kind as the reports: README and `docs/` as they are, the commands, and the reference."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from wamlab.config import project_root, reports_dir
from wamlab.errors import UnknownName
from wamlab.notebooks.export import write_page
from wamlab.notebooks.reference import modules, reference_html

#: Page -> (what links call it, the Markdown that it is made of, in the project's folder); two are made of the code.
PAGES = {
    "index": ("Overview", "README.md"),
    "tutorial": ("Tutorial", "docs/tutorial.md"),
    "own_dataset": ("Your data", "docs/own_dataset.md"),
    "own_model": ("Your model", "docs/own_model.md"),
    "own_metric": ("Your metric", "docs/own_metric.md"),
    "remote_kernel": ("Kernels", "docs/remote_kernel.md"),
    "datasets": ("Datasets", "data/README.md"),
    "commands": ("Commands", ""),
    "reference": ("Reference", ""),
}
_PACKAGES = ("wamlab", "wamlab_widgets")
_LINK = re.compile(r"\]\(([^)\s#:]+\.md)\)")


def has_docs(root: Path) -> bool:
    """Whether a folder has all the texts: it is that of wamlab's source."""
    return all((root / text).is_file() for _, text in PAGES.values() if text)


def write_docs(target: Path | None = None, index: str | None = None) -> Path:
    """Write every page to a folder, by default `docs/` in the reports, and return that of the overview.

    `index`: address of the reports' index, linked at the top; by default the one beside the folder, if it is there.

    Raises `UnknownName` where the working directory is not in the project, or where a text links to a file that has no page.
    """
    root, target = project_root(), target or reports_dir() / "docs"
    if not has_docs(root):
        raise UnknownName("project folder", Path.cwd().name, ["that of wamlab's source, with README.md and docs/"])
    if index is None:
        index = "../index.html" if (target.parent / "index.html").is_file() else ""
    for name, (label, source) in PAGES.items():
        nb = new_notebook(cells=list(_markdown(root, source)) if source else _GENERATED[name]())
        links = [(text, f"{page}.html", page == name) for page, (text, _) in PAGES.items()]
        folder = str((root / source).parent) if source else ""
        kicker = "Documentation" if name != "index" else ""
        write_page(nb, target / f"{name}.html", label, None, index, folder, kicker, links)
    return target / "index.html"


def _markdown(root: Path, source: str) -> Iterator[Any]:
    """A text as cells: the title with the first paragraph, which is the lead, and then a cell a section."""
    pages = {(root / text).resolve(): f"{page}.html" for page, (_, text) in PAGES.items() if text}

    def linked(match: re.Match[str]) -> str:
        path = ((root / source).parent / match[1]).resolve()
        if path not in pages:
            raise UnknownName(f"page that {source} links to", match[1], [text for _, text in PAGES.values() if text])
        return f"]({pages[path]})"

    text = _LINK.sub(linked, (root / source).read_text("utf-8"))
    title, lead, rest = text.split("\n\n", 2)
    for section in (f"{title}\n\n{lead}", *re.split(r"^(?=## )", rest, flags=re.M)):
        if section.strip():
            yield new_markdown_cell(section)


def _commands() -> list[Any]:
    """Every command with its arguments and options, from the command line itself."""
    import typer

    from wamlab.cli import app

    top = typer.main.get_command(app)
    return [
        new_markdown_cell(f"# Commands\n\n{top.help} `make` installs `wamlab` into `.venv/bin`."),
        new_code_cell("", outputs=[_html(f'<div class="reference">{"".join(_command("wamlab", top))}</div>')]),
    ]


def _command(path: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    for name, sub in inner.items():
        yield from _command(f"{path} {name}", sub)
    if inner:
        return
    context = command.make_context(path, [], resilient_parsing=True)
    records = filter(None, (p.get_help_record(context) for p in command.get_params(context) if p.name != "help"))
    rows = "".join(
        f"<div><dt><code>{html.escape(n)}</code></dt><dd>{html.escape(said)}</dd></div>" for n, said in records
    )
    usage = html.escape(" ".join([path, *command.collect_usage_pieces(context)]))
    yield (
        f'<section class="module" id="{path.replace(" ", "-")}"><h2>{path}</h2><p>{html.escape(command.help or "")}</p>'
        f'<code class="signature">{usage}</code><dl>{rows}</dl></section>'
    )


def _reference() -> list[Any]:
    places = [
        place for name in _PACKAGES if (spec := find_spec(name)) for place in spec.submodule_search_locations or ()
    ]
    found = [module for place in places for module in modules(Path(place))]
    lead = "Every public name, with what its docstring says of shapes, units and errors."
    return [
        new_markdown_cell(f"# Reference\n\n{lead}"),
        new_code_cell("", outputs=[_html(reference_html(found))]),
    ]


_GENERATED = {"commands": _commands, "reference": _reference}


def _html(fragment: str) -> Any:
    return new_output("display_data", {"text/html": fragment})
