"""Context managers that limit a fit to one thread: BLAS, and torch."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

from ensemblefuse._torch import settle_after_fork

__all__ = ["one_blas_thread", "one_torch_thread"]

_lock = threading.Lock()
_within = 0
_before = 1


def _start_anew() -> None:
    """Count from 0 in the child of a fork: the fits that the parent's other threads were in do not go on there."""
    global _lock, _within
    _lock, _within = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def one_blas_thread() -> AbstractContextManager:
    """Return a context manager within which the BLAS libraries of this process use one thread.

    Examples
    --------
    >>> from ensemblefuse._threads import one_blas_thread
    >>> with one_blas_thread():
    ...     pass
    """
    return _controller(len(sys.modules)).limit(limits=1, user_api="blas")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Return a context manager within which torch uses one thread, so that its sums do not depend on the machine.

    `one_blas_thread` does not limit torch, so that a fit would depend on ``n_jobs``. Torch has a number of threads for
    each calling thread, and one for the process. The first fit to begin lowers that of the process, and the last one
    that ends sets it back.

    Examples
    --------
    >>> import torch
    >>> from ensemblefuse._threads import one_torch_thread
    >>> before = torch.get_num_threads()
    >>> with one_torch_thread():
    ...     inside = torch.get_num_threads()
    >>> inside, torch.get_num_threads() == before
    (1, True)
    """
    global _within, _before
    import torch

    settle_after_fork()
    # Asked first: a thread takes over the number of the process at its first call, and not later.
    own = torch.get_num_threads()
    # OpenMP counts for each thread. BLAS counts for the process: threads could not take its limit back in any order.
    limit = _controller(len(sys.modules)).limit(limits=1, user_api="openmp")
    with _lock:
        if not _within:
            _before = own
            torch.set_num_threads(1)
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within:
                torch.set_num_threads(_before)
        limit.restore_original_limits()


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """Find the BLAS libraries, again only if the number of modules has changed.

    The search takes longer than a small fit, and a new library can only come with a new module.
    """
    return ThreadpoolController()
