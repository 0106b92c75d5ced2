import socket
import subprocess
import sys

import pytest
from notebook_files import write

from wamlab import cli
from wamlab.errors import WamlabError


def wamlab(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["wamlab", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["run"], "Missing argument"),
        (["run", "99"], "unknown notebook '99'; known: 01_a"),
        (["run", "01", "-p", "name"], "has no value"),
        (["run", "01", "-p", "nome", "x"], "no parameter 'nome'; known: name='road'"),
        (["run", "01", "-p", "count=abc"], "must be int"),
        (["run", "01", "--preset", "smoke"], "no parameter 'preset'"),
        (["train", "direct", "--set", "steps"], "expected NAME=VALUE"),
        (["run", "01", "--timeout", "-1"], "timeout"),
        (["run", "01", "--kernel", "julia"], "unknown kernel of 01_a.ipynb 'julia'"),
        (["run", "01", "--gateway", "http://127.0.0.1:9"], "no kernel gateway answers at http://127.0.0.1:9"),
        (["sweep", "01", "--over", "count"], "expected NAME=VALUE"),
        (["compare", "01", "01"], "unknown run '01'; known: (none)"),
        (["data", "synth", "--cameras", "rear"], "unknown set of cameras 'rear'; known: all, front"),
        (["data", "synth", "--scenes", "5"], "must be 10..9000"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(project, monkeypatch, capsys, arguments, says):
    write(project / "notebooks" / "01_a.ipynb", "1")
    assert wamlab(monkeypatch, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("wamlab: ")
    assert err.count("\n") == 1
    assert says in err


def test_help_and_nothing(monkeypatch, capsys):
    assert wamlab(monkeypatch, "--help") == 0
    assert "report" in capsys.readouterr().out
    assert wamlab(monkeypatch) == 2
    assert "Usage" in capsys.readouterr().err


def test_interrupt_is_quiet(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("wamlab.notebooks.report.report_all", interrupted)
    assert wamlab(monkeypatch, "report") == 130
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback(monkeypatch):
    def bug(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("wamlab.notebooks.report.report_all", bug)
    monkeypatch.setattr(sys, "argv", ["wamlab", "report"])
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_errors_of_several_lines_become_one(monkeypatch, capsys):
    def wrong(*_, **__):
        raise WamlabError("first\n  second")

    monkeypatch.setattr("wamlab.notebooks.report.report_all", wrong)
    assert wamlab(monkeypatch, "report") == 2
    assert capsys.readouterr().err == "wamlab: first second\n"


def test_sensors_are_handed_to_the_world(monkeypatch, tmp_path):
    from wamlab.world import camera
    from wamlab.world.filming import CLIPS

    asked = []
    monkeypatch.setattr("wamlab.world.synthesize", lambda out, **options: asked.append(options["sensors"]))
    both = (camera.Camera(), camera.Camera("CAM_BACK"))
    monkeypatch.setattr(camera, "NUSCENES_CAMERAS", both, raising=False)
    assert not wamlab(monkeypatch, "data", "synth", "--out", str(tmp_path))
    assert not wamlab(
        monkeypatch, "data", "synth", "--out", str(tmp_path), "--sweeps", "--lidar", "--depth", "--cameras", "all"
    )
    assert not wamlab(monkeypatch, "data", "synth", "--out", str(tmp_path), "--no-clips")
    fields = [(s.cameras, s.sweeps, s.lidar, s.depth, s.clips) for s in asked]
    front = (both[:1], False, False, False)
    assert fields == [(*front, CLIPS), (both, True, True, True, CLIPS), (*front, None)]


def test_both_ways_to_give_a_parameter():
    assert cli._join_pairs(["run", "x", "-p", "a", "1", "--parameter", "b=2", "-p", "c", "-3"]) == [
        *["run", "x", "-p", "a=1", "--parameter", "b=2", "-p", "c=-3"]
    ]


def test_a_taken_port_is_named(monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert wamlab(monkeypatch, "lab", "--port", str(port)) == 2
    assert f"port {port} is taken" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["wamlab", "wamlab.cli", "wamlab.runs", "wamlab.notebooks.show", "wamlab.types"])
def test_imports_stay_free_of_torch(module):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules or 'papermill' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_train_passes_everything_on_and_says_where_the_run_is(tmp_path, monkeypatch, capsys):
    given = []
    monkeypatch.setattr("wamlab.training.train", lambda *a, **k: given.append((a, k)) or tmp_path / "direct-1")
    options = ["--dataset", "nuscenes", "--preset", "paper", "--set", "train.steps=3", "--set", "seeds=1,2"]
    assert wamlab(monkeypatch, "train", "direct", *options, "--resume", "--seed", "4", "--on-damage", "skip") == 0
    changes = {"train.steps": "3", "seeds": "1,2"}
    assert given == [(("direct", "nuscenes", "paper", changes, True), {"seed": 4, "on_damage": "skip"})]
    assert capsys.readouterr().out == f"{tmp_path / 'direct-1'}\n"
