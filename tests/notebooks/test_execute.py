import json

import nbformat
import pytest
from notebook_files import write

from wamlab.errors import InvalidParameter, UnknownName
from wamlab.notebooks.execute import execute, run_notebook
from wamlab.notebooks.job import Settings, find_notebook, prepare, title_of
from wamlab.notebooks.report import report_all, run_notebooks

GREETING = """from wamlab.notebooks.show import Answer, Findings, Metrics
from wamlab.types import Finding
display(Metrics({"n": 3.0}), Findings([Finding("a", "b", 1.0, (0.5, 1.5), "m", "reproduced", "here")]))
Answer(f"{name} {count}")"""


def test_a_run_leaves_its_folder(project):
    path = write(project / "notebooks" / "01_greet.ipynb", "md:# Who is there?", GREETING)
    seen = []
    outcome = execute(prepare(path, {"count": "5"}), Settings(), progress=lambda *call: seen.append(call))
    run = outcome.run
    assert outcome.ok
    assert run.status == "completed"
    assert run.read("config")["parameters"] == {"name": "road", "count": 5, "scale": 1.5, "loud": False}
    assert run.read("answer") == {"text": "road 5"}
    assert run.read("metrics") == {"n": 3.0}
    assert json.loads((run.path / "findings.json").read_text())[0]["verdict"] == "reproduced"
    assert {"git", "packages", "platform"} <= set(run.read("environment"))
    assert not list(run.path.glob("*.part"))
    assert seen[-1][0] == "01_greet"
    assert path.read_text() == write(project / "again.ipynb", "md:# Who is there?", GREETING).read_text()

    again = run_notebook(path, {"count": 5}, Settings(resume=True))
    assert again.reused
    assert again.run == run
    assert not run_notebook(path, {"count": 6}, Settings(resume=True)).reused


def test_nothing_runs_with_a_wrong_parameter(project):
    path = write(project / "notebooks" / "01_greet.ipynb", "open('ran', 'w')")
    with pytest.raises(InvalidParameter, match="known: name"):
        run_notebook(path, {"nome": "x"})
    assert not (project / "runs").exists()


def test_a_failing_cell_leaves_a_page_with_the_error_at_its_place(project, capsys):
    write(project / "notebooks" / "02_fails.ipynb", "md:# Does it fail?", "1 / 0", "print('never')")
    assert not report_all({"preset": "smoke"})
    assert "wamlab: 02_fails failed: ZeroDivisionError: division by zero" in capsys.readouterr().err
    page = (project / "reports" / "02_fails.html").read_text()
    assert 'id="failed"' in page
    assert "ZeroDivisionError" in page
    assert "This run failed." in page
    assert "<span>Not run</span>" in page
    assert "did not finish" in (project / "reports" / "index.html").read_text()


def test_a_timeout_is_recorded_as_one(project):
    path = write(project / "notebooks" / "03_slow.ipynb", "import time", "time.sleep(60)")
    outcome = run_notebook(path, {}, Settings(timeout_s=1.0))
    assert outcome.status == outcome.run.status == "timed out"
    assert "longer than 1 s" in outcome.message
    cells = nbformat.read(outcome.run.notebook, as_version=4).cells
    assert cells[2].outputs[-1].ename == "Timeout"


def test_all_parameters_are_checked_before_the_first_notebook_runs(project):
    write(project / "notebooks" / "01_a.ipynb", "1")
    write(project / "notebooks" / "02_b.ipynb", "1", parameters="other = 1  # another")
    with pytest.raises(InvalidParameter, match="02_b"):
        run_notebooks(["01", "02"], {"count": "1"})
    assert not (project / "runs").exists()


def test_notebooks_are_found_by_number_name_and_path(project):
    path = write(project / "notebooks" / "05_video.ipynb", "1")
    assert {find_notebook(n).name for n in ("05", "05_video", "05_video.ipynb", path)} == {"05_video.ipynb"}
    with pytest.raises(UnknownName, match="known: 05_video"):
        find_notebook("06")


def test_the_status_of_a_cell_is_its_leading_comment():
    assert title_of("\n# Draw the road\nx = 1") == "Draw the road"
    assert title_of("x = 1") == "x = 1"
