"""Notebooks on drives that nobody can drive again: what needs the truth is left out, and all else stays."""

import json
from pathlib import Path

import nbformat
from helpers import make_dataset

from wamlab.notebooks.execute import run_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
DRIVES = {"scene-0001": "train", "scene-0002": "val", "scene-0003": "test", "scene-0004": "test"}


def test_steering_without_a_counterfactual(project):
    root = make_dataset(project / "drives", DRIVES)
    given = {"dataset": str(root), "preset": "smoke", "offline_kb": 60}
    result = run_notebook(NOTEBOOKS / "04_steering_controllability.ipynb", given)
    assert result.run.status == "completed"
    findings = json.loads((result.run.path / "findings.json").read_text())
    assert findings and not any("anchor" in f["claim"] for f in findings)
    metrics = json.loads((result.run.path / "metrics.json").read_text())
    assert metrics and not any("truth" in name or "slope" in name for name in metrics)
    told = [
        text
        for cell in nbformat.read(result.run.notebook, as_version=4).cells
        for output in cell.get("outputs", [])
        for text in output.get("data", {}).values()
        if isinstance(text, str)
    ]
    assert not any("nan" in text.lower().split() for text in told)
