"""reports/index.html: every page with its question, answer and picture, and every run with its Findings, to be filtered."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from wamlab import runs
from wamlab.files import write_file
from wamlab.notebooks import offline
from wamlab.notebooks.export import Page, environment
from wamlab.notebooks.show import Findings
from wamlab.types import Finding

#: What runs and pages are filtered by.
FILTERS = ("notebook", "dataset", "preset", "verdict")


@dataclass(frozen=True)
class Entry:
    """A run as the index lists it: what was asked, how it ended, what it found; `page` is '' where it has none."""

    notebook: str
    question: str
    parameters: Mapping[str, Any]
    status: Mapping[str, Any]
    findings: Findings
    page: str

    @property
    def verdicts(self) -> dict[str, int]:
        return dict(sorted(Counter(f.verdict for f in self.findings).items()))

    @property
    def facets(self) -> dict[str, list[str]]:
        """What the filters look at: name -> values."""
        of_data = {name: [str(self.parameters[name])] for name in ("dataset", "preset") if self.parameters.get(name)}
        return {"notebook": [self.notebook], **of_data, "verdict": list(self.verdicts)}

    @property
    def table(self) -> Markup:
        return Markup(self.findings._repr_mimebundle_()["text/html"])


def entry(run: runs.RunFolder, page: str = "") -> Entry:
    config = run.read("config")
    return Entry(
        Path(config.get("notebook", run.path.parent.name)).stem,
        config.get("question", ""),
        config.get("parameters", {}),
        run.about,
        read_findings(run),
        page,
    )


def read_findings(run: runs.RunFolder) -> Findings:
    """The findings of a run; none where they are missing or damaged."""
    try:
        return Findings(
            Finding(**{**f, "interval": f["interval"] and tuple(f["interval"])}) for f in run.read("findings") or []
        )
    except (TypeError, KeyError):
        return Findings([])


def write_index(pages: Sequence[Page], target: Path, history: Iterable[runs.RunFolder] = ()) -> Path:
    """Write the index of `pages`, which lie in the same folder, and of the runs in `history`; return its path."""
    own = {page.run.path: page.path.name for page in pages if page.run}
    entries = [entry(run, own.get(run.path) or _page_of(run, target)) for run in history]
    cards = [(page, entry(page.run) if page.run else None) for page in pages]
    listed = [*entries, *(e for _, e in cards if e)]
    text = (
        environment()
        .get_template("index.html.j2")
        .render(
            cards=cards,
            entries=entries,
            filters={name: sorted({v for e in listed for v in e.facets.get(name, ())}) for name in FILTERS},
            failed=sum(p.status.get("status") != runs.COMPLETED for p in pages),
            written=runs.now(),
            docs="docs/index.html" if (target.parent / "docs" / "index.html").is_file() else "",
        )
    )
    offline.require_offline(text, target.name)
    return write_file(target, text)


def _page_of(run: runs.RunFolder, target: Path) -> str:
    page = run.path / "page.html"
    return Path(os.path.relpath(page, target.parent)).as_posix() if page.is_file() else ""
