"""Every notebook of the project, executed as a user would on the smallest preset, exported, and opened in a browser without a network."""

import json
from pathlib import Path

import pytest
from notebook_files import without_times

from wamlab.notebooks.execute import run_notebook
from wamlab.notebooks.export import export

#: A page goes by mail.
MAX_PAGE_BYTES = 5_000_000
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
    result, page = outcome
    assert result.run.status == "completed"
    assert page.stat().st_size < MAX_PAGE_BYTES
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


@pytest.mark.parametrize(
    "outcome", [p for p in NOTEBOOKS if p.stem.startswith("05")], ids=lambda p: p.stem, indirect=True
)
def test_a_run_repeated_gives_the_same_bytes(outcome, small_world, tmp_path, monkeypatch):
    """With nothing of the first run at hand: trained, rolled out and measured anew. The page but for its times.

    And but for the bytes of MP4, which H.264's encoder does not repeat; the GIF beside it has the same frames.
    """
    first, page = outcome
    for name in ("DATA", "RUNS", "REPORTS"):
        monkeypatch.setenv(f"WAMLAB_{name}", str(tmp_path / name.lower()))
    second = run_notebook(first.job.path, {"dataset": str(small_world), "preset": "smoke"})
    assert second.ok and second.run.path != first.run.path
    kept = [sorted(p.relative_to(o.run.path) for p in o.run.path.rglob("*") if p.is_file()) for o in (first, second)]
    assert kept[0] == kept[1]
    own = {"config.json", "environment.json", "status.json", "log.txt", "executed.ipynb", ".lock"}
    results = [path for path in kept[0] if path.name not in own and path.suffix != ".mp4"]
    assert {"metrics.json", "findings.json", "answer.json", "tables", "figures"} <= {path.parts[0] for path in results}
    for path in results:
        assert (first.run.path / path).read_bytes() == (second.run.path / path).read_bytes(), path
    pages = [
        export(o.run.notebook, tmp_path / f"{i}.html", o.run).path.read_text() for i, o in enumerate((first, second))
    ]
    assert pages[0] == page.read_text(), "exported a second time"
    assert without_times(pages[0]) == without_times(pages[1])


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
