"""Every notebook of the project, executed as a user would on the smallest preset, exported, and opened in a browser without a network."""

import json
from pathlib import Path

import pytest

from wamlab.notebooks.execute import run_notebook
from wamlab.notebooks.export import export

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.xdist_group("world")


@pytest.fixture(scope="session")
def outcome(request, small_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "RUNS", "REPORTS"):
            patch.setenv(f"WAMLAB_{name}", str(folder / name.lower()))
        result = run_notebook(request.param, {"dataset": str(small_world), "preset": "smoke"})
        page = folder / f"{request.param.stem}.html"
        export(result.run.notebook, page, result.run)
        yield result, page


@pytest.mark.parametrize("outcome", NOTEBOOKS, ids=lambda p: p.stem, indirect=True)
def test_runs_and_leaves_findings(outcome):
    result, _ = outcome
    assert result.run.status == "completed"
    findings = json.loads((result.run.path / "findings.json").read_text())
    assert findings
    for finding in findings:
        if finding["measured"] is None:  # marked, with the reason
            assert finding["verdict"] == "inconclusive" and "not measured" in finding["measured_on"]
        else:
            low, high = finding["interval"]
            assert low <= finding["measured"] <= high
        assert finding["verdict"] in ("reproduced", "not reproduced", "inconclusive")
        assert "smoke" in finding["measured_on"]


@pytest.mark.browser
@pytest.mark.parametrize("outcome", NOTEBOOKS, ids=lambda p: p.stem, indirect=True)
def test_the_page_moves_offline(outcome, visit):
    _, page = outcome
    visited = visit(page)
    visited.page.wait_for_selector('.wrp[data-state="ready"]')
    present = visited.pixels(".wrp canvas")
    visited.page.locator(".wrp-time").first.focus()
    visited.page.keyboard.press("End")
    visited.page.wait_for_timeout(300)
    assert visited.pixels(".wrp canvas") != present
    assert visited.left_the_page == []
    assert visited.console == []
