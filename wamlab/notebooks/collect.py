"""From an executed notebook into files of its run folder: answer, findings, metrics, figures, tables as CSV (and Parquet, with pyarrow)."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from wamlab import runs
from wamlab.files import write_file
from wamlab.notebooks.job import title_of
from wamlab.notebooks.show import ANSWER_MIME, FINDINGS_MIME, METRICS_MIME, TABLE_MIME

PLOTLY_MIME = "application/vnd.plotly.v1+json"
#: Image type -> file ending, in the order of preference.
IMAGES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
#: A film comes as all of these.
FILMS = {"video/mp4": "mp4", "image/gif": "gif"}


def collect(run: runs.RunFolder) -> None:
    """Write what the notebook displayed; what an earlier attempt left is removed. Raises `WriteFailed`."""
    if not run.notebook.is_file():
        return
    import nbformat

    for folder in ("tables", "figures"):
        shutil.rmtree(run.path / folder, ignore_errors=True)
    for name in ("findings", "metrics", "answer"):
        (run.path / f"{name}.json").unlink(missing_ok=True)
    found: dict[str, Any] = {"findings": [], "metrics": {}, "answer": {}}
    files: dict[str, int] = {"tables": 0, "figures": 0}
    for title, data in displayed(nbformat.read(run.notebook, as_version=4)):
        found["findings"] += data.get(FINDINGS_MIME, [])
        found["metrics"] |= data.get(METRICS_MIME, {})
        found["answer"] |= data.get(ANSWER_MIME, {})
        folder, contents = _files(data)
        files[folder] += bool(contents)
        for ending, content in contents.items():
            write_file(run.path / folder / f"{files[folder]:02d}-{_slug(title)}.{ending}", content)
    for name, content in found.items():
        if content:
            run.write(name, content)


def displayed(nb: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All that an executed notebook displays: (what the cell says it does, the MIME bundle)."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield title_of(cell.source), output["data"]


def _files(data: Mapping[str, Any]) -> tuple[str, dict[str, str | bytes]]:
    """The folder that a table, figure or film belongs into, and its files: ending -> content; none of what is none of them."""
    if table := data.get(TABLE_MIME):
        packed = {"parquet": base64.b64decode(table["parquet"])} if "parquet" in table else {}
        return "tables", {"csv": table["csv"], **packed}
    if PLOTLY_MIME in data:
        return "figures", {"json": json.dumps(data[PLOTLY_MIME], sort_keys=True)}
    if "video/mp4" in data:
        return "figures", {ending: base64.b64decode(data[kind]) for kind, ending in FILMS.items() if kind in data}
    image = next((kind for kind in IMAGES if kind in data), "")
    if not image:
        return "figures", {}
    return "figures", {IMAGES[image]: data[image] if image == "image/svg+xml" else base64.b64decode(data[image])}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "untitled"
