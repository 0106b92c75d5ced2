"""What every notebook of the project keeps to."""

import ast
from pathlib import Path

import nbformat
import pytest

from wamlab.notebooks import parameters

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_habits(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    first = nb.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.splitlines()[0].endswith("?"), "a notebook opens with its question"
    known = parameters.declared(nb, path.name)
    assert {"dataset", "preset", "seed"} <= set(known)
    assert all(p.help for p in known.values()), "each parameter has a comment that explains it"
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        assert cell.outputs == [], "no outputs in git"
        assert cell.execution_count is None
        nodes = list(ast.walk(ast.parse(cell.source)))
        assert not any(isinstance(n, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) for n in nodes), (
            "thin cells call wamlab"
        )
        if "parameters" not in cell.metadata.get("tags", []):
            assert cell.source.startswith("# "), "a code cell says what it does"
