"""`wamlab sweep --engine ray`: the same points, table and page as without, on a cluster of one machine."""

import sys
import time

import pandas as pd
import psutil
import pytest
from notebook_files import write

from wamlab import runs
from wamlab.errors import ClusterUnreachable, ExtraMissing, InvalidParameter, UnknownName
from wamlab.notebooks import cluster
from wamlab.notebooks.sweep import sweep

pytestmark = pytest.mark.xdist_group("ray")
GRID = """from wamlab.notebooks.show import Metrics
import os, pathlib
assert count != 13, "unlucky"
with open("ran.txt", "a") as file:
    file.write(f"{count} {scale}\\n")
Metrics({"product": count * scale, "threads": float(os.environ["OMP_NUM_THREADS"])})"""
OVER = {"count": ["1", "2", "3"], "scale": ["0.5", "2"]}


@pytest.fixture(scope="module")
def ray():
    """A cluster for all tests here: 2 cores and 1 GPU, as far as it knows."""
    ray = pytest.importorskip("ray", reason="the `ray` extra is not installed")
    cluster._connect(ray, address="local", num_cpus=2, num_gpus=1)
    yield ray
    ray.shutdown()


def table(project):
    (path,) = (project / "reports").glob("*.csv")
    return pd.read_csv(path)


def test_six_points_are_the_table_and_page_of_a_local_sweep(project, ray, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    write(project / "notebooks" / "01_a.ipynb", "md:# What is the product?", GRID)
    assert sweep("01", OVER, {"name": "x"}, workers=2, engine="ray")
    on_ray, ran = table(project), (project / "ran.txt").read_text().splitlines()
    assert sorted(ran) == ["1 0.5", "1 2.0", "2 0.5", "2 2.0", "3 0.5", "3 2.0"]
    assert on_ray[on_ray.metric == "product"].value.tolist() == [0.5, 2.0, 1.0, 4.0, 1.5, 6.0]
    (page,) = (project / "reports").glob("*.html")
    text = page.read_text()

    assert sweep("01", OVER, {"name": "x"}, workers=2, engine="ray")
    assert (project / "ran.txt").read_text().splitlines() == ran, "points that completed are not run again"

    monkeypatch.setenv("WAMLAB_RUNS", str(project / "local"))
    assert sweep("01", OVER, {"name": "x"}, workers=2)
    pd.testing.assert_frame_equal(table(project).drop(columns="run"), on_ray.drop(columns="run"))
    assert page.read_text() == text


def test_what_failed_or_was_cut_short_goes_on(project, ray):
    """A failing point is a row; a worker that dies is a failed run that says so; the next sweep runs these two alone."""
    die = """import os, time
if count == 2 and not os.path.exists("died"):
    open("died", "w").close()
    os.kill(os.getppid(), 9)
    time.sleep(60)
"""
    write(project / "notebooks" / "01_a.ipynb", die + GRID, parameters="count = 1  # c\nscale = 1.0  # s")
    over = {"count": ["1", "2", "13"]}
    assert not sweep("01", over, {}, engine="ray", gpus=0.5)
    status = table(project).groupby("count").status.first()
    assert status.to_dict() == {1: "completed", 2: "failed", 13: "failed"}
    (lost,) = [run for run in runs.every() if run.read("config")["parameters"]["count"] == 2]
    assert "its Ray worker was lost" in lost.about["message"]
    assert not sweep("01", over, {}, engine="ray")
    assert table(project).groupby("count").status.first().to_dict() == {1: "completed", 2: "completed", 13: "failed"}
    assert (project / "ran.txt").read_text().splitlines() == ["1 1.0", "2 1.0"]


def test_an_interrupt_ends_the_kernels(project, ray, monkeypatch):
    """While one point has ended and the other one runs: its run was interrupted, and the next sweep goes on with it."""
    sleep = """import os, time
if count == 2 and not os.path.exists("pid"):
    open("pid", "w").write(str(os.getpid()))
    time.sleep(600)
"""
    write(project / "notebooks" / "01_a.ipynb", sleep + GRID)

    def interrupt(*_):
        while not (project / "pid").exists() or not (project / "pid").read_text():
            time.sleep(0.05)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wamlab.notebooks.sweep.Console.ended", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep("01", {"count": ["1", "2"]}, {}, workers=2, engine="ray", gpus=0)
    _, alive = psutil.wait_procs(kernel(int((project / "pid").read_text())), timeout=60)
    assert alive == []
    assert sorted(run.status for run in runs.every()) == ["completed", "interrupted"]
    assert sweep("01", {"count": ["1", "2"]}, {}, workers=2, engine="ray", gpus=0)
    assert len(list(runs.every())) == 2


def kernel(pid):
    return [psutil.Process(pid)] if psutil.pid_exists(pid) else []


def test_gpus_are_shared_out(project, ray):
    cell = "from wamlab.notebooks.show import Metrics\nimport os\nMetrics({'gpu': float(os.environ['CUDA_VISIBLE_DEVICES'])})"
    write(project / "notebooks" / "01_a.ipynb", cell)
    assert sweep("01", {"count": ["1"]}, {}, engine="ray"), "one GPU each where there are some"
    assert table(project).value.tolist() == [0.0]
    with pytest.raises(InvalidParameter, match="no machine of the Ray cluster has 2 GPUs; the most that one has is 1"):
        sweep("01", {"count": ["1", "2"]}, {}, engine="ray", gpus=2)


def test_a_machine_that_does_not_share_the_folder_is_named(project, ray, monkeypatch):
    write(project / "notebooks" / "01_a.ipynb", "1", parameters="count = 1  # c")
    monkeypatch.setattr(cluster.Path, "cwd", lambda: project / "elsewhere")
    with pytest.raises(ClusterUnreachable, match="elsewhere; put the project, its data and its runs"):
        sweep("01", {"count": ["1"]}, {}, engine="ray")


def test_tasks_take_their_part_of_the_largest_machine():
    nodes = [{"Alive": True, "Resources": {"CPU": 16.0, "GPU": 2.0}}, {"Alive": True, "Resources": {"CPU": 4.0}}]
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    assert cluster._share([*nodes, dead], 4, None) == {"num_cpus": 4, "num_gpus": 1}
    assert cluster._share(nodes[1:], 8, None) == {"num_cpus": 1, "num_gpus": 0}


@pytest.mark.parametrize(("engine", "gpus", "error", "says"), [
    ("dask", None, UnknownName, "unknown engine 'dask'; known: local, ray"),
    ("local", 1.0, InvalidParameter, "add: --engine ray"),
])  # fmt: skip
def test_a_wrong_engine_is_refused(project, engine, gpus, error, says):
    write(project / "notebooks" / "01_a.ipynb", "1")
    with pytest.raises(error, match=says):
        sweep("01", {"count": ["1"]}, {}, engine=engine, gpus=gpus)


def test_without_ray_the_extra_is_named(project, monkeypatch):
    write(project / "notebooks" / "01_a.ipynb", "1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'wamlab\[ray\]'"):
        sweep("01", {"count": ["1"]}, {}, engine="ray")
    assert list(runs.every()) == []


def test_a_cluster_that_does_not_answer_is_named(project, monkeypatch):
    pytest.importorskip("ray", reason="the `ray` extra is not installed")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    write(project / "notebooks" / "01_a.ipynb", "1")
    with pytest.raises(ClusterUnreachable, match="at RAY_ADDRESS=127.0.0.1:9 .*refused.*ray start --head"):
        sweep("01", {"count": ["1"]}, {}, engine="ray")
    assert not (project / "reports").exists()
