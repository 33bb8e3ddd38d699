"""Context managers that limit a fit to one thread: BLAS, and torch."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

from ensemblefuse._torch import settle_after_fork

__all__ = ["one_blas_thread", "one_torch_thread"]

_lock = threading.Lock()


def _start_anew() -> None:
    """Unlock in the child of a fork: the thread of the parent that held the lock does not go on there."""
    global _lock
    _lock = threading.Lock()


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
    each calling thread, and one for the process, which a thread takes over at its first call. Only the number of the
    calling thread is lowered.

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
    import torch

    settle_after_fork()
    # In the lock: another fit may just be changing the number of the process, which a first call takes over.
    with _lock:
        before = torch.get_num_threads()
    _set_torch_threads(1)
    try:
        yield
    finally:
        _set_torch_threads(before)


def _set_torch_threads(number: int) -> None:
    """Set torch's number of threads in the calling thread, and leave that of the process as it is.

    Torch sets both at once. A new thread has the number of the process, and can set it back.
    """
    import torch

    with _lock:
        of_process = _in_new_thread(torch.get_num_threads)
        try:
            torch.set_num_threads(number)
        finally:
            _in_new_thread(torch.set_num_threads, of_process)


def _in_new_thread(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns in a thread of its own."""
    answer = []
    thread = threading.Thread(target=lambda: answer.append(call(*args)))
    thread.start()
    thread.join()
    return answer[0]


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """Find the BLAS libraries, again only if the number of modules has changed.

    The search takes longer than a small fit, and a new library can only come with a new module.
    """
    return ThreadpoolController()
