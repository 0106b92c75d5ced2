"""Several computations at a time in threads: what one of them leaves idle, another uses. No processes, no models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

A, B = TypeVar("A"), TypeVar("B")
#: So many at most, however many cores there are: each holds what it computes with.
AT_ONCE = 4


def side_by_side(f: Callable[[A], B], items: Iterable[A], at_once: int = AT_ONCE) -> Iterator[B]:
    """f of each item, in their order: as many at a time as torch has threads here, each computing with one of its own.

    Operations on small matrices gain little by a second thread, whole computations twice the speed; and with one thread each, sums do
    not depend on the number of cores. With `at_once` = 1, for what a GPU does, torch keeps its threads. The first error ends it.
    """
    if at_once == 1:
        yield from map(f, items)
        return
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(threads, at_once), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(f, items)
    finally:
        torch.set_num_threads(threads)  # a worker's call decides what threads that are born later begin with, too
