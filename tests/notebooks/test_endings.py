"""However a run ends, its status says so, its page opens, and the next one goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from notebook_files import write

from wamlab import runs
from wamlab.config import runs_dir
from wamlab.errors import DatasetMissing, UnknownName, WriteFailed
from wamlab.files import write_file
from wamlab.notebooks.execute import execute, run_notebook
from wamlab.notebooks.job import Settings, prepare
from wamlab.notebooks.pool import run_jobs
from wamlab.notebooks.report import report_all, run_notebooks

NAMED = 'dataset = ""  # which drives\npreset = "quick"  # how much\nseed = 0  # of all'


def command(project: Path, *arguments: str, before: str = "pass") -> subprocess.Popen:
    """`wamlab …` in a process of its own, in a project; it hears an interrupt even where the tests run in the background."""
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"import sys; {hear}; from wamlab.cli import main; {before}; sys.argv[1:] = {list(arguments)!r}; main()"
    return subprocess.Popen([sys.executable, "-c", code], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"preset": "tiny"}, UnknownName, "unknown preset 'tiny'; known: paper, quick, smoke"),
        ({"dataset": "kitti"}, UnknownName, "unknown dataset 'kitti'; known: .*synthetic"),
        ({"dataset": "/no/where"}, DatasetMissing, "no such folder"),
    ],
)
def test_a_name_of_nothing_is_refused_before_anything_starts(project, given, error, says):
    write(project / "notebooks" / "01_a.ipynb", "1", parameters=NAMED)
    write(project / "notebooks" / "02_b.ipynb", "1", parameters=NAMED)
    with pytest.raises(error, match=says):
        run_notebooks(["01", "02"], given)
    with pytest.raises(UnknownName, match="unknown kernel of 01_a.ipynb 'julia'; known: .*python3"):
        run_notebooks(["01"], {}, Settings(kernel="julia"))
    assert not (project / "runs").exists()


def test_tables_and_figures_are_kept(project):
    path = write(
        project / "notebooks" / "01_a.ipynb",
        "# Tabulate it\nimport pandas as pd\ndisplay(pd.DataFrame({'x': [0.1 + 0.2, 1 / 3]}))\n"
        "pd.DataFrame({'rmse': [1.5]}, index=pd.Index(['direct'], name='model'))",
        "# Draw it\nimport plotly.graph_objects as go\ngo.Figure(go.Scatter(x=[0, 1], y=[2, 3]))",
        "# Say it\nprint('half way', flush=True)",
    )
    run = run_notebook(path, {}).run
    tables = sorted((run.path / "tables").glob("*.csv"))
    assert [t.name for t in tables] == ["01-tabulate-it.csv", "02-tabulate-it.csv"]
    assert tables[0].read_text() == f"x\n{0.1 + 0.2!r}\n{1 / 3!r}\n"
    assert tables[1].read_text() == "model,rmse\ndirect,1.5\n"
    (figure,) = (run.path / "figures").iterdir()
    assert figure.name == "01-draw-it.json"
    assert json.loads(figure.read_text())["data"][0]["y"] == [2, 3]
    assert "[4/4] Say it\nhalf way\n" in (run.path / "log.txt").read_text()
    assert set(run.read("environment")["weights"].values())


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_a_kernel_that_dies_is_named_at_its_cell(project, end, capsys):
    write(project / "notebooks" / "01_a.ipynb", "md:# Does it die?", f"import os\n{end}", "1")
    assert not report_all({})
    assert "01_a failed: the kernel died in cell 3 (out of memory is the usual cause)" in capsys.readouterr().err
    (run,) = runs.every("01_a")
    assert run.read("status")["cell"] == 2
    page = (project / "reports" / "01_a.html").read_text()
    assert page.index('id="failed"') < page.index("KernelDied")
    assert "Failed. the kernel died" in (project / "reports" / "index.html").read_text()


def test_a_notebook_without_a_parameters_cell_runs_as_it_is(project):
    path = write(project / "notebooks" / "01_a.ipynb", "1 + 1", parameters=None)
    assert run_notebook(path, {}).ok
    with pytest.raises(Exception, match="takes no parameters"):
        run_notebook(path, {"seed": "1"})


def test_what_was_killed_goes_on_in_its_folder(project):
    """The second attempt finds what the first left on disk, and a third finds nothing to do."""
    write(
        project / "notebooks" / "01_a.ipynb",
        "import pathlib, time\nseen = pathlib.Path('../trained') if pathlib.Path.cwd().name == 'notebooks' else "
        "pathlib.Path('trained')\nfirst = not seen.exists()\nseen.touch()\nif first:\n    time.sleep(60)",
        "from wamlab.notebooks.show import Metrics\nMetrics({'n': 1.0})",
    )
    process = command(project, "run", "01")
    wait_for(project / "trained", process)
    (run,) = runs.every("01_a")
    assert run.status == "running"
    process.kill()
    process.communicate()
    assert run.status == "interrupted"
    assert "was killed" in run.about["message"]
    assert run_notebooks(["01"], {}, Settings(resume=True))
    assert [r.path for r in runs.every("01_a")] == [run.path]
    assert run.read("status")["attempt"] == 2
    assert run.read("metrics") == {"n": 1.0}
    assert run_notebook(project / "notebooks" / "01_a.ipynb", {}, Settings(resume=True)).reused


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_all_kernels_and_says_so(project, sent, code):
    body = "import os, pathlib, time\npathlib.Path(f'{name}.pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    for name in ("01_a", "02_b"):
        write(project / "notebooks" / f"{name}.ipynb", body, parameters=f"name = {name!r}  # of the file")
    process = command(project, "run", "01", "02", "--jobs", "2")
    for name in ("01_a", "02_b"):
        wait_for(project / f"{name}.pid", process)
    time.sleep(0.2)
    kernels = [int((project / f"{name}.pid").read_text()) for name in ("01_a", "02_b")]
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert {run.read("status")["status"] for run in runs.every()} == {"interrupted"}
    for pid in kernels:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_full_disk_is_a_status_and_spoils_no_page(project, capsys):
    """A limit on the size of files stands for the full disk: the executed notebook does not fit."""
    write(project / "notebooks" / "01_a.ipynb", "print('x' * 300_000)", "1")
    (project / "reports").mkdir()
    (project / "reports" / "index.html").write_text("as it was")
    process = command(
        project, "report", before="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    (run,) = runs.every("01_a")
    assert run.status == "failed"
    assert "could not be written" in run.about["message"]
    assert b"Traceback" not in err
    assert b"no page of 01_a" in err
    assert "01_a" in (project / "reports" / "index.html").read_text()
    assert not list(project.rglob("*.part"))


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path):
    path = write_file(tmp_path / "a" / "x.txt", "old")
    code = (
        "import sys, resource, pathlib; from wamlab.files import write_file; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); write_file(pathlib.Path(sys.argv[1]), 'x' * 100)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "WriteFailed: x.txt could not be written (File too large); make room" in done.stderr
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def test_the_last_status_fits_on_a_full_disk(project, monkeypatch):
    run = runs.start("x", {"notebook": "x.ipynb"}, "d" * 32)
    runs.begin(run)

    def full(*_):
        raise WriteFailed("no room")

    monkeypatch.setattr(runs, "write_file", full)
    run.set_status(runs.FAILED, message="ü" * 300)
    assert run.about["status"] == "failed"
    assert run.about["message"] == "ü" * 300
    assert runs_dir() in run.path.parents


def test_two_at_a_time_end_in_any_order(project):
    """The first waits for the second, so they must run at the same time."""
    first = write(
        project / "a.ipynb",
        "import os, time\nwhile not os.path.exists('second'):\n    time.sleep(0.05)",
        parameters=None,
    )
    second = write(project / "b.ipynb", "open('second', 'w').close()", parameters=None)
    outcomes = run_jobs([prepare(first, {}), prepare(second, {})], Settings(timeout_s=60), workers=2)
    assert all(o.ok for o in outcomes)
    assert [o.job.label for o in outcomes] == ["a", "b"]


def test_a_bug_in_the_runner_is_no_interrupt(project, monkeypatch):
    job = prepare(write(project / "a.ipynb", "1", parameters=None), {})
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: {}["bug"])
    with pytest.raises(KeyError):
        execute(job, Settings())
    (run,) = runs.every()
    assert run.about["status"] == "failed"
    assert run.about["message"] == "KeyError: 'bug'"
