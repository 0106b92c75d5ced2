"""Every code block of README and docs/ is tried as a reader would.

Python: the blocks of a text run in their order, in one namespace, in the folder of a project with the notebooks. One thing is
other than for the reader: the dataset `synthetic` has ten small drives (of nine seconds, 128 x 72 pixels) instead of 160 of twenty.

Shell: a block runs line by line, by the command line itself. Below `<!-- checked, not run: why -->` it is only checked: the real
command line parses each line, finds the notebooks, models and presets, and checks every parameter by name and type, up to where the
work would start; datasets that are not here, gateways and the names of runs are taken for granted. What is neither fails.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from wamlab import cli
from wamlab.data import DATASETS, open_dataset
from wamlab.models import MODELS
from wamlab.notebooks.docs import PAGES
from wamlab.notebooks.job import question, read_notebook
from wamlab.plots.style import MODEL_STYLE

ROOT = Path(__file__).parents[1]
TEXTS = [text for _, text in PAGES.values() if text]
MARK = re.compile(r"<!-- checked, not run: (.+?) -->\n\Z")
#: As long as the code of a how-to may be: lines that are neither empty nor comments nor docstrings, in a block.
LONGEST = 30
pytestmark = pytest.mark.xdist_group("docs")


@dataclass(frozen=True)
class Block:
    """A fenced block; `why` it is only checked, '' where it runs."""

    text: str
    line: int
    language: str
    code: str
    why: str

    def __str__(self) -> str:
        return f"{self.text}:{self.line}" + f" checked, {self.why}" * bool(self.why)


def blocks(text: str) -> list[Block]:
    source = (ROOT / text).read_text("utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", source, re.M | re.S)
    marks = {m.start(): MARK.search(source[: m.start()]) for m in re.finditer(r"^```\w+$", source, re.M)}
    return [
        Block(text, source[: m.start()].count("\n") + 2, m[1], m[2], mark[1] if (mark := marks.get(m.start())) else "")
        for m in found
    ]


EVERY = [block for text in TEXTS for block in blocks(text)]
SHELL = [block for block in EVERY if block.language == "bash"]


class WouldStart(Exception):
    """Everything was checked, and the work would begin."""


def would_start(*_, **__):
    raise WouldStart


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """A data folder with `synthetic` in it, small."""
    from wamlab.world import synthesize
    from wamlab.world.camera import Camera
    from wamlab.world.filming import Sensors

    folder = tmp_path_factory.mktemp("data")
    sensors = Sensors((Camera(width=128, height=72, focal_px=80.0),), clips=None)
    synthesize(folder / "synthetic", 10, workers=1, duration_s=9.0, progress=False, sensors=sensors)
    return folder


@pytest.fixture
def here(project, small_data, monkeypatch):
    """The working directory: a project with the notebooks, README and docs; the small dataset; folders of its own for runs and pages."""
    shutil.copytree(ROOT / "notebooks", project / "notebooks", dirs_exist_ok=True)
    shutil.copytree(ROOT / "docs", project / "docs")
    for text in TEXTS:
        (project / text).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / text, project / text)
    monkeypatch.setenv("WAMLAB_DATA", str(small_data))
    return project


@pytest.mark.parametrize("text", [t for t in TEXTS if any(b.language == "python" for b in blocks(t))])
def test_python_runs(here, text):
    import matplotlib.pyplot as plt

    names = {"__name__": "documented"}
    with mock.patch.dict(MODELS), mock.patch.dict(DATASETS), mock.patch.dict(MODEL_STYLE):
        for block in blocks(text):
            if block.language == "python":
                # errors then point to the line of the text
                exec(compile("\n" * (block.line - 1) + block.code, ROOT / text, "exec", dont_inherit=True), names)
    plt.close("all")


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_runs_or_is_checked(here, monkeypatch, block):
    lines = [words for line in block.code.splitlines() if (words := shlex.split(line, comments=True))]
    assert lines
    for words in lines:
        if block.why:
            check(words, monkeypatch)
        else:
            assert words[0] == ".venv/bin/wamlab", f"say above the block why {words[0]} is not run"
            assert wamlab(words[1:], monkeypatch) == 0


def wamlab(arguments, monkeypatch):
    """The status with which the command ends."""
    monkeypatch.setattr(sys, "argv", ["wamlab", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def check(words, monkeypatch):
    program, *rest = words
    match program.removeprefix(".venv/bin/"), rest:
        case "wamlab", _:
            check_wamlab(rest, monkeypatch)
        case "accelerate", ["launch", *launched]:
            from accelerate.commands.launch import launch_command_parser

            given = launch_command_parser().parse_args(launched)
            assert (given.module, given.training_script) == (True, "wamlab.cli")
            check_wamlab(given.training_script_args, monkeypatch)
        case "make", _:
            done = subprocess.run(["make", "-n", *rest], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        case "jupyter", ["kernelgateway", *options]:
            gateway = pytest.importorskip("kernel_gateway.gatewayapp").KernelGatewayApp
            for option in options:
                assert gateway.class_traits()[re.fullmatch(r"--KernelGatewayApp\.(\w+)=.+", option)[1]]
        case "export", [setting]:
            from jupyter_server.gateway.gateway_client import GatewayClient

            gateway = pytest.importorskip("kernel_gateway.gatewayapp").KernelGatewayApp
            known = {"WAMLAB_DATA", gateway.auth_token_env, GatewayClient.auth_token_env}
            assert setting.partition("=")[0] in known
        case "ssh", _:
            pass  # not ours
        case _:
            pytest.fail(f"nobody checks {program}")


def check_wamlab(arguments, monkeypatch):
    """Parse, look everything up, and stop where the work would start."""
    small = open_dataset("synthetic")
    with monkeypatch.context() as patch:
        for start in (
            "wamlab.notebooks.report.run_jobs",
            "wamlab.notebooks.sweep.run_jobs",
            "wamlab.notebooks.sweep.run_on_ray",
            "wamlab.notebooks.compare.compare",
            "wamlab.training.command.fit_or_load",
            "wamlab.world.synthesize",
        ):
            patch.setattr(start, would_start)
        patch.setattr("wamlab.notebooks.job._dataset", lambda name: None)
        patch.setattr("wamlab.data.open_dataset", lambda name: small)
        patch.setattr("wamlab.notebooks.gateway.kernels", lambda url="": ["python3"])
        if arguments[0] == "lab":
            patch.setattr(subprocess, "run", would_start)
            patch.setattr(socket.socket, "bind", lambda *_: None)
        with pytest.raises(WouldStart):
            wamlab(arguments, patch)


def test_nothing_is_left_out():
    """Every fence is Python that runs, or shell; every mark has a reason and stands right above a shell block."""
    for text in TEXTS:
        source = (ROOT / text).read_text("utf-8")
        found = blocks(text)
        assert {b.language for b in found} <= {"python", "bash", ""}, text
        assert source.count("```") == 2 * len(found), "a fence that is indented or not closed"
        assert source.count("<!--") == sum(bool(b.why) for b in found), "a comment that marks no block"
        assert all(b.language == "bash" for b in found if b.why), "Python always runs"
    assert any(not b.why for b in SHELL), "some shell runs"


@pytest.mark.parametrize(
    "line", ["wamlab run 99", "wamlab run 05 -p nome=1", "wamlab train nothing", "wamlab nonsense"]
)
def test_a_mistake_in_a_checked_line_is_found(here, monkeypatch, line):
    with pytest.raises(pytest.fail.Exception):
        check(line.split(), monkeypatch)


@pytest.mark.parametrize("block", [b for b in EVERY if "own_" in b.text and b.language == "python"], ids=str)
def test_a_how_to_is_short(block):
    lines = [line for line in block.code.splitlines() if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(lines) <= LONGEST


@pytest.mark.parametrize("text", TEXTS)
def test_named_modules_exist(text):
    import importlib

    for name in re.findall(r"`(wamlab(?:_widgets)?(?:\.\w+)+)`", (ROOT / text).read_text("utf-8")):
        parts, thing = name.split("."), None
        for end in range(len(parts), 0, -1):
            try:
                thing = importlib.import_module(".".join(parts[:end]))
                break
            except ModuleNotFoundError:
                continue
        for part in parts[end:]:
            thing = getattr(thing, part)


def test_readme_lists_the_notebooks_with_their_questions():
    rows = re.findall(r"^\| `(\d\d_\w+)` \| (.+?) \|$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert dict(rows) == {p.stem: question(read_notebook(p)) for p in sorted((ROOT / "notebooks").glob("*.ipynb"))}
