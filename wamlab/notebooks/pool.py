"""Several notebooks at a time, each in a kernel process of its own with its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from wamlab.notebooks.execute import Outcome, Progress, Stop, execute
from wamlab.notebooks.job import Job, Settings
from wamlab.provenance import cores


def run_jobs(
    jobs: Sequence[Job],
    settings: Settings,
    workers: int = 1,
    progress: Progress | None = None,
    ended: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run all jobs, `workers` at a time; an interrupt stops them all.

    Kernels share the cores: unless OMP_NUM_THREADS is set, each of several has cores // workers threads. That depends on `workers`
    alone, not on how many jobs are left, since sums over another number of threads differ in their last bits.

    Args:
        ended: called with each outcome as it comes. The list is in the order of the jobs.
    """
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // workers)))
    stop = Stop()
    # in threads even where there is one worker: an interrupt reaches the main thread, never papermill in the middle of a file
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(execute, job, settings, progress, stop) for job in jobs]
        try:
            for future in as_completed(futures):
                if ended:
                    ended(future.result())
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            stop.stop()
            raise
