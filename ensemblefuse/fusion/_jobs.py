"""Parallel jobs that start workers only if this saves more time than it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs

__all__ = ["run_jobs"]

# Workers take about a second to start. This is only worth it for at least this number of seconds of work.
_WORTH_WORKERS = 2.0


def run_jobs(function: Callable, jobs: Sequence[tuple], n_jobs: int | None) -> list[Any]:
    """Return the results of ``function(*job)`` in order.

    The first jobs run in this process, until the remaining work is clearly large enough for workers.
    """
    results: list[Any] = []
    start = perf_counter()
    while len(results) < len(jobs):
        results.append(function(*jobs[len(results)]))
        left = (perf_counter() - start) / len(results) * (len(jobs) - len(results))
        if left > _WORTH_WORKERS and len(jobs) - len(results) > 1 and effective_n_jobs(n_jobs) > 1:
            break
    if len(results) < len(jobs):
        results += Parallel(n_jobs=n_jobs)(delayed(function)(*job) for job in jobs[len(results) :])
    return results
