"""Small notebooks for tests."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = 'name = "road"  # what to greet\ncount: int = 2  # how often\nscale = 1.5  # how large\nloud = False  # whether to shout'


def write(path: Path, *cells: str, parameters: str | None = PARAMETERS) -> Path:
    """A notebook of cells; text that starts with `#` and a space, or `md:`, is Markdown."""
    made = [new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters is not None else []
    for source in cells:
        made.append(new_markdown_cell(source[3:]) if source.startswith("md:") else new_code_cell(source))
    for i, cell in enumerate(made):
        cell["id"] = f"cell-{i}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
    return path


def executed(path: Path, *cells: tuple[str, list[dict]]) -> Path:
    """A notebook that already ran: (source, outputs) pairs; no kernel is needed."""
    made = []
    for source, outputs in cells:
        if source.startswith("md:"):
            made.append(new_markdown_cell(source[3:]))
        else:
            made.append(new_code_cell(source, outputs=[nbformat.from_dict(o) for o in outputs], execution_count=1))
    for i, cell in enumerate(made):
        cell["id"] = f"cell-{i}"
    nbformat.write(new_notebook(cells=made), path)
    return path


def without_times(page: str) -> str:
    """A page but for when and how long it ran, what was printed meanwhile, which tells speeds, and films (see `encode_film`)."""
    return re.sub(r"<time.*?</time>|<pre class=.log.>.*?</pre>|data:video/mp4;base64,[^\"]*", "", page, flags=re.S)


def display(**data: object) -> dict:
    """A display output; `text_html=…` stands for text/html."""
    named = {key.replace("_", "/", 1): value for key, value in data.items()}
    return {"output_type": "display_data", "data": named, "metadata": {}}


def mime(bundle: dict) -> dict:
    return {"output_type": "display_data", "data": bundle, "metadata": {}}
