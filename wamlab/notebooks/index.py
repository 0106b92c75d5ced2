"""reports/index.html: every page with its question, answer, picture, status and settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wamlab import runs
from wamlab.notebooks import offline
from wamlab.notebooks.export import Page, environment


def write_index(pages: Sequence[Page], target: Path) -> Path:
    """Write the index of `pages`, which lie in the same folder, and return its path."""
    failed = sum(p.status != runs.COMPLETED for p in pages)
    text = environment().get_template("index.html.j2").render(pages=pages, failed=failed, written=runs.now())
    offline.require_offline(text, target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".part")
    aside.write_text(text, "utf-8")
    return aside.replace(target)
