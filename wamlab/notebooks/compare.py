"""`wamlab compare`: one page with what differs between runs, and their metrics, findings and frames side by side."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from wamlab import runs
from wamlab.config import digest, reports_dir, runs_dir
from wamlab.errors import InvalidParameter, UnknownName
from wamlab.notebooks.collect import IMAGES, displayed
from wamlab.notebooks.export import Page, is_widget, write_page
from wamlab.notebooks.index import read_findings
from wamlab.notebooks.job import find_notebook, read_notebook
from wamlab.notebooks.show import measured, number

NOTHING = "–"


def find_run(name: str) -> runs.RunFolder:
    """A run by its folder, by `<notebook>/<start of its name>`, or the newest of a notebook (`05`). Raises `UnknownName`."""
    if (Path(name) / "config.json").is_file():
        return runs.RunFolder(Path(name))
    notebook, _, start = name.partition("/")
    stem = notebook if (runs_dir() / notebook).is_dir() else find_notebook(notebook).stem
    found = next((r for r in runs.every(stem) if r.path.name.startswith(start)), None)
    if found is None:
        raise UnknownName("run", name, [f"{r.path.parent.name}/{r.path.name}" for r in runs.every()][:12])
    return found


def compare(names: Sequence[str], target: Path | None = None) -> Page:
    """Write the page that compares runs, by default into reports/. Raises `UnknownName`, and `InvalidParameter` for fewer than two."""
    found = [find_run(name) for name in names]
    if not 2 <= len(found) <= len(ascii_uppercase):
        raise InvalidParameter(f"compare takes 2..{len(ascii_uppercase)} runs, not {len(found)}")
    stems = list(dict.fromkeys(run.path.parent.name for run in found))
    key = digest(*(run.path.name for run in found), length=8)
    target = target or reports_dir() / f"compare-{'-'.join(stems)[:60]}-{key}.html"
    cells = [
        new_markdown_cell("# What differs between these runs?"),
        *_section("", _parameters(found)),
        *_section("Metrics", _metrics(found)),
        *_section("Findings", _findings(found)),
        *_frames(found),
    ]
    return write_page(new_notebook(cells=cells), target, target.stem)


def _section(title: str, *fragments: str) -> list[Any]:
    """A heading, and HTML below it."""
    heading = [new_markdown_cell(f"## {title}")] if title else []
    return [*heading, new_code_cell("", outputs=[_html(f) for f in fragments])]


def _html(fragment: str) -> Any:
    return new_output("display_data", {"text/html": fragment})


def _parameters(found: Sequence[runs.RunFolder]) -> str:
    """What the runs are, and the parameters that are not the same in all."""
    configs = [run.read("config") for run in found]
    environments = [run.read("environment") for run in found]
    rows: list[tuple[str, list[Any]]] = [
        ("notebook", [Path(c.get("notebook", "?")).stem for c in configs]),
        ("finished", [run.about.get("time", "").replace("T", " ")[:16] for run in found]),
        ("status", [run.status for run in found]),
        ("commit", [_commit(e.get("git") or {}) for e in environments]),
        ("dataset fingerprint", [((e.get("dataset") or {}).get("fingerprint") or NOTHING)[:12] for e in environments]),
    ]
    weights = [e.get("weights") or {} for e in environments]
    rows += [
        (f, [w.get(f, NOTHING) for w in weights])
        for f in dict.fromkeys(f for w in weights for f in w)
        if len({w.get(f) for w in weights}) > 1
    ]
    names = dict.fromkeys(name for c in configs for name in c.get("parameters", {}))
    given = [(name, [c.get("parameters", {}).get(name, NOTHING) for c in configs]) for name in names]
    differ = [row for row in given if len({repr(value) for value in row[1]}) > 1]
    same = ", ".join(f"{name} {values[0]}" for name, values in given if (name, values) not in differ)
    note = f"<p class='note'>The same in all: {html.escape(same)}.</p>" if same else ""
    return _table("", [*rows, *differ], len(found)) + note


def _commit(git: dict[str, Any]) -> str:
    return (git.get("commit") or NOTHING)[:12] + " and changes" * bool(git.get("dirty"))


def _metrics(found: Sequence[runs.RunFolder]) -> str:
    metrics = [run.read("metrics") for run in found]
    names = dict.fromkeys(name for values in metrics for name in values)
    if not names:
        return '<p class="empty">None of these runs left metrics.</p>'
    rows = [(name, [number(m[name]) if name in m else NOTHING for m in metrics]) for name in names]
    return _table("Metric", rows, len(found))


def _findings(found: Sequence[runs.RunFolder]) -> str:
    """One row a claim: what was measured, with its interval, and the verdict."""
    by_claim = [{f.claim: f for f in read_findings(run)} for run in found]
    claims = dict.fromkeys(claim for findings in by_claim for claim in findings)
    if not claims:
        return '<p class="empty">None of these runs left findings.</p>'

    def cell(f: Any) -> str:
        if f is None:
            return NOTHING
        verdict = html.escape(f.verdict)
        return f'{html.escape(measured(f))}<br><span class="verdict {verdict.replace(" ", "-")}">{verdict}</span>'

    rows = [(claim, [findings.get(claim) for findings in by_claim]) for claim in claims]
    return _table("Claim", rows, len(found), cell)


def _frames(found: Sequence[runs.RunFolder]) -> list[Any]:
    """Players and pictures: the first of each run beside each other, then the second, …"""
    shown = [list(_pictures(run)) for run in found]
    blocks = []
    for place in range(max(map(len, shown))):
        parts = [
            f"<figure><figcaption><b>{letter}</b> {html.escape(items[place][0])}</figcaption>{items[place][1]}</figure>"
            for letter, items in zip(ascii_uppercase, shown, strict=False)
            if place < len(items)
        ]
        blocks.append(f'<div class="beside">{"".join(parts)}</div>')
    return _section("Frames", *blocks) if blocks else []


def _pictures(run: runs.RunFolder) -> Iterable[tuple[str, str]]:
    """(title, HTML) of every widget and picture that a run shows."""
    try:
        nb = read_notebook(run.notebook)
    except InvalidParameter:  # it was killed before it had one, or while it wrote it
        return
    for title, data in displayed(nb):
        image = next((kind for kind in IMAGES if kind in data and kind != "image/svg+xml"), "")
        if is_widget(data):
            yield title, data["text/html"]
        elif image:
            alt = html.escape(data.get("text/plain", ""), quote=True)
            yield title, f'<img alt="{alt}" src="data:{image};base64,{html.escape(data[image].strip(), quote=True)}">'


def _table(
    head: str, rows: Iterable[tuple[str, Sequence[Any]]], columns: int, cell: Callable[..., str] | None = None
) -> str:
    """Rows of (name, value of each run); the columns are called A, B, …"""
    cell = cell or (lambda value: html.escape(str(value)))
    letters = "".join(f"<th>{letter}</th>" for letter in ascii_uppercase[:columns])
    body = "".join(
        f'<tr><th scope="row">{html.escape(str(name))}</th>{"".join(f"<td>{cell(v)}</td>" for v in values)}</tr>'
        for name, values in rows
    )
    return f'<table class="compared"><thead><tr><th>{html.escape(head)}</th>{letters}</tr></thead><tbody>{body}</tbody></table>'
