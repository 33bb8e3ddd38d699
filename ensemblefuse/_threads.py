"""A context manager that limits BLAS to one thread during a fit."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager:
    """Return a context manager within which the BLAS libraries of this process use one thread.

    Examples
    --------
    >>> from ensemblefuse._threads import one_blas_thread
    >>> with one_blas_thread():
    ...     pass
    """
    return _controller(len(sys.modules)).limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """Find the BLAS libraries, again only if the number of modules has changed.

    The search takes longer than a small fit, and a new library can only come with a new module.
    """
    return ThreadpoolController()
