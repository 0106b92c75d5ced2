"""Notebooks on a Ray cluster, one a task: the points of a sweep, where the machine has more than one GPU or there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wamlab.errors import ExtraMissing
from wamlab.notebooks.execute import Outcome, Progress, execute
from wamlab.notebooks.job import Job, Settings


def run_on_ray(
    jobs: Sequence[Job],
    settings: Settings,
    workers: int = 1,
    progress: Progress | None = None,
    ended: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """As `run_jobs`, with one Ray task a job: on the cluster that RAY_ADDRESS or `ray start` tells of, else on this machine.

    A task takes one GPU where the cluster has any, else its share (1 / `workers`) of one machine's cores. Run folders must lie on a
    file system that all machines share. `progress` is not called. Raises `ExtraMissing` where Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ExtraMissing("--engine ray needs Ray; install it with: pip install 'wamlab[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": _environment()})
    resources = ray.cluster_resources()
    needs = {"num_gpus": 1} if resources.get("GPU") else {"num_cpus": max(1, int(resources["CPU"] // workers))}
    task = ray.remote(**needs)(_execute)
    tasks = [task.remote(job, settings) for job in jobs]
    waiting = tasks
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            for outcome in ray.get(done):
                if ended:
                    ended(outcome)
        return ray.get(tasks)
    except BaseException:
        for left in waiting:
            ray.cancel(left, force=True)
        raise


def _execute(job: Job, settings: Settings) -> Outcome:
    return execute(job, settings)


def _environment() -> dict[str, str]:
    """Where wamlab writes, for tasks that start in another folder."""
    from wamlab.config import data_dir, reports_dir, runs_dir

    folders = {"WAMLAB_DATA": data_dir(), "WAMLAB_RUNS": runs_dir(), "WAMLAB_REPORTS": reports_dir()}
    return {name: str(folder.resolve()) for name, folder in folders.items()}
