"""Parallel jobs that start workers only if this saves more time than it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs

__all__ = ["run_jobs"]

# Workers take about a second to start. This is only worth it for at least this number of seconds of work.
_WORTH_WORKERS = 2.0


def run_jobs(function: Callable, jobs: Sequence[tuple], n_jobs: int | None) -> Iterator[Any]:
    """Yield the results of ``function(*job)`` in order.

    The first jobs run in this process, until the remaining work is clearly large enough for workers.
    """
    start, todo = perf_counter(), list(jobs)
    while todo:
        yield function(*todo.pop(0))
        left = (perf_counter() - start) / (len(jobs) - len(todo)) * len(todo)
        if len(todo) > 1 and left > _WORTH_WORKERS and effective_n_jobs(n_jobs) > 1:
            break
    if todo:
        yield from Parallel(n_jobs=n_jobs)(delayed(function)(*job) for job in todo)
