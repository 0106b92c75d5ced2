"""Imports point one way, every module says what lives in it, and importing the package is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: From the ground up; a part may import what stands in its own layer or below.
LAYERS = (
    {"errors", "types", "config", "geometry"},
    {"render", "world", "data", "codecs", "encoders", "diffusion", "weights"},
    {"models"},
    {"training", "metrics", "statistics", "probing", "presets", "pretrained"},
    {"analysis"},
    {"plots"},
    {"runs", "notebooks", "cli"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted((ROOT / "wamlab").rglob("*.py"))
WIDGETS = sorted((ROOT / "widgets" / "wamlab_widgets").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """All modules that a file imports when it runs, wherever in it, as dotted names; imports for type checkers do not count."""
    names, tree = set(), ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "wamlab").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    part = part_of(path)
    if part == "__init__":
        return
    assert part in LEVEL, f"say in LAYERS where {part} belongs"
    for name in imported(path):
        assert not name.startswith("wamlab_widgets"), "wamlab imports no widget"
        pieces = name.split(".")
        if pieces[0] == "wamlab" and len(pieces) > 1 and pieces[1] in LEVEL:
            assert LEVEL[pieces[1]] <= LEVEL[part], f"{path.name} imports {name}, which stands above it"


@pytest.mark.parametrize("path", WIDGETS, ids=lambda p: p.name)
def test_widgets_lean_on_little(path):
    for name in imported(path):
        if name.split(".")[0] == "wamlab":
            assert name.split(".")[1] in ("types", "render", "errors"), name


@pytest.mark.parametrize("path", MODULES + WIDGETS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_lives_in_it(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "a module opens with a sentence about itself"
    assert len(path.read_text().splitlines()) <= 450, "a file that grew is a design question"


def test_import_is_free_of_torch():
    code = (
        "import sys, wamlab, wamlab.data, wamlab.cli; print(sorted({'torch', 'nuscenes', 'plotly'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )
