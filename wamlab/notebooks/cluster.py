"""The points of a sweep as tasks of a Ray cluster: each takes its share of one machine's cores and GPUs (the `ray` extra)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from wamlab import runs
from wamlab.errors import ClusterUnreachable, ExtraMissing, InvalidParameter, WamlabError
from wamlab.notebooks.execute import Outcome
from wamlab.notebooks.job import Job, Settings
from wamlab.notebooks.pool import run_jobs

#: What a task takes along of the environment of who asked for it.
_CARRIED = ("WAMLAB_", "OMP_", "PYTHONPATH", "HF_", "JUPYTER_")


def run_on_ray(
    jobs: Sequence[Job],
    settings: Settings,
    workers: int = 1,
    gpus: float | None = None,
    ended: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """As `run_jobs`, with `workers` at a time on *each* machine of the running cluster, or of this machine where there is none.

    The cluster is that of `$RAY_ADDRESS`, else one that runs on this machine. wamlab must be installed on all its machines, and the
    working directory, the data and the runs lie at the same place of a file system that all of them see.

    Args:
        gpus: of each job, a share such as 0.5, too; None: 1 where a machine has GPUs, else 0.

    Raises `ExtraMissing`, `ClusterUnreachable`, and `InvalidParameter` for more GPUs than any machine has, before anything runs.
    """
    try:
        import ray
    except ImportError:
        raise ExtraMissing("the engine ray needs Ray; run: pip install 'wamlab[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        _connect(ray)
    try:
        share = _share(ray.nodes(), workers, gpus)
        print(f"Ray: {_said(ray.nodes())}; each point takes {share['num_cpus']:g} cores, {share['num_gpus']:g} GPUs")
        task = ray.remote(**share, max_retries=0)(_point)
        environment = {key: value for key, value in os.environ.items() if key.startswith(_CARRIED)}
        refs = {task.remote(job, settings, workers, str(Path.cwd()), environment): job for job in jobs}
        return _gather(ray, refs, ended)
    finally:
        if ours:
            ray.shutdown()


def _point(job: Job, settings: Settings, workers: int, folder: str, environment: Mapping[str, str]) -> Outcome:
    """What a worker of Ray does: `run_jobs`, with as many threads as without Ray."""
    for key in [key for key in os.environ if key.startswith("WAMLAB_") or key == "OMP_NUM_THREADS"]:
        del os.environ[key]  # those of the shell that the cluster was started from, and Ray's own
    os.environ.update(environment)
    try:
        os.chdir(folder)
    except OSError:
        raise ClusterUnreachable(_unshared(folder)) from None
    return run_jobs([job], settings, workers)[0]


def _connect(ray: Any, tries: int = 3, **how: Any) -> None:
    """`ray.init`, or `ClusterUnreachable`. A busy machine may need more than one try: Ray gives itself 30 s to start."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do, and warns about
    address = os.environ.get("RAY_ADDRESS", "")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    advice = "start one with: ray start --head, and name its HOST:PORT in RAY_ADDRESS, or unset that"
    try:
        if colon:  # Ray itself tries for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False, **how)
    except Exception as error:  # Ray raises plain ones
        if tries > 1 and "timed out during startup" in str(error):
            ray.shutdown()
            return _connect(ray, tries - 1, **how)
        where = f"at RAY_ADDRESS={address}" if address else "here"
        raise ClusterUnreachable(f"no Ray cluster can be used {where} ({_line(error)}); {advice}") from None


def _share(nodes: Sequence[Mapping[str, Any]], workers: int, gpus: float | None) -> dict[str, float]:
    """What each task asks of the machine it runs on: its part of the cores of the largest one, and its GPUs."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    most = {kind: max((found.get(kind, 0) for found in resources), default=0) for kind in ("CPU", "GPU")}
    gpus = min(1, most["GPU"]) if gpus is None else gpus
    if gpus > most["GPU"]:
        raise InvalidParameter(
            f"no machine of the Ray cluster has {gpus:g} GPUs; the most that one has is {most['GPU']:g}"
        )
    return {"num_cpus": max(1, most["CPU"] // workers), "num_gpus": gpus}


def _said(nodes: Sequence[Mapping[str, Any]]) -> str:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cores, gpus = (sum(found.get(kind, 0) for found in alive) for kind in ("CPU", "GPU"))
    return f"{len(alive)} machine{'s' * (len(alive) > 1)}, {cores:g} cores, {gpus:g} GPUs"


def _gather(ray: Any, refs: Mapping[Any, Job], ended: Callable[[Outcome], None] | None) -> list[Outcome]:
    """The outcomes in the order of the jobs; an interrupt ends all tasks."""
    outcomes, left = {}, list(refs)
    try:
        while left:
            (ref,), left = ray.wait(left)
            outcomes[ref] = _outcome(ray, ref, refs[ref])
            if ended:
                ended(outcomes[ref])
        return [outcomes[ref] for ref in refs]
    except BaseException:
        for ref in left:  # its worker ends, and the kernel with it; the run is then one that was killed
            with suppress(Exception):
                ray.cancel(ref, force=True)
        raise


def _outcome(ray: Any, ref: Any, job: Job) -> Outcome:
    """That of a task; one whose worker died is a failed run, like a kernel that died."""
    try:
        outcome = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, WamlabError) else error from None
    except ray.exceptions.RayError as error:
        run = runs.find_latest(job.path.stem, job.digest) or runs.start(job.path.stem, job.config, job.digest)
        message = f"its Ray worker was lost: {_line(error)}"
        run.set_status(runs.FAILED, message=message)
        return Outcome(job, run, runs.FAILED, message)
    if not outcome.run.path.is_dir():
        raise ClusterUnreachable(_unshared(str(outcome.run.path)))
    return outcome


def _unshared(folder: str) -> str:
    return (
        f"the machines of the Ray cluster do not share {folder}; put the project, its data and its runs (WAMLAB_DATA, WAMLAB_RUNS) "
        "on a file system that all of them see at the same place"
    )


def _line(error: Exception, limit: int = 200) -> str:
    return " ".join(str(error).split())[:limit]
