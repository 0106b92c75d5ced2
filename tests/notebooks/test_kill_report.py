"""`wamlab report` killed (SIGKILL) at random moments of its work: the next one completes, and nothing it found is different."""

import os
import random
import signal
import time

import psutil
import pytest
from helpers import make_dataset
from notebook_files import write
from test_endings import command

from wamlab import runs
from wamlab.notebooks.report import report_all

KILLS = 2
#: Fills the latent store, trains with a checkpoint every few steps, rolls out and measures: what the project's notebooks do.
STUDY = """# Train and measure
from wamlab.analysis import rollout_study
from wamlab.notebooks.show import Answer, Findings, Metrics
sizes = {"resolution": 32, "stride": 1, "diffusion.train.steps": 12, "diffusion.train.checkpoint_every": 3}
study = rollout_study.study(dataset, preset, models=("copy", "diffusion"), weights="train", overrides=sizes, seed=seed, progress=False)
display(Answer(study.answer), Findings(study.findings), Metrics(study.metrics))
study.curves"""


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    splits = {"scene-0001": "train", "scene-0002": "val", "scene-0003": "test", "scene-0004": "test"}
    return make_dataset(tmp_path_factory.mktemp("synthetic"), splits)


def files(folder):
    """What there is of runs and data: it grows all along."""
    return {path for name in ("runs", "data") for path in (folder / name).rglob("*") if path.is_file()}


def found(project):
    """Name -> content of what the completed run of the notebook found."""
    (run,) = runs.every("01_a")
    assert run.status == "completed"
    names = ["metrics.json", "findings.json", "answer.json", "tables/01-train-and-measure.csv"]
    return {name: (run.path / name).read_bytes() for name in names}


def test_killed_at_random_moments_it_ends_the_same(project, drives, monkeypatch):
    parameters = f"dataset = {str(drives)!r}  # drives\npreset = 'smoke'  # sizes\nseed = 0  # of all"
    write(project / "notebooks" / "01_a.ipynb", "md:# What is measured?", STUDY, parameters=parameters)
    shared = {"dataset": str(drives), "preset": "smoke"}
    for name in ("DATA", "RUNS", "REPORTS"):
        monkeypatch.setenv(f"WAMLAB_{name}", str(project / "whole" / name.lower()))
    assert report_all(shared)
    whole = found(project)

    for name in ("DATA", "RUNS", "REPORTS"):
        monkeypatch.setenv(f"WAMLAB_{name}", str(project / name.lower()))
    most = len(files(project / "whole")) * 9 // 10  # the last ones come when all is over
    moments = sorted(random.Random(0).sample(range(1, most), KILLS))
    left = []
    for moment in moments:
        process = command(project, "report", *(f"--{name}={value}" for name, value in shared.items()))
        while len(files(project)) < moment:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        left += psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert report_all(shared)
    assert found(project) == whole
    _, alive = psutil.wait_procs(left, timeout=60)
    assert alive == [], "a kernel ends with the report that started it"
    assert (project / "reports" / "index.html").is_file()
