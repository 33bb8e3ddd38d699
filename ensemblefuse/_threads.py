"""One BLAS thread for the length of a fit."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager:
    """Context in which the BLAS libraries of this process compute on one thread.

    Examples
    --------
    >>> from ensemblefuse._threads import one_blas_thread
    >>> with one_blas_thread():
    ...     pass
    """
    return _controller(len(sys.modules)).limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """Looking for libraries takes longer than a small fit; another one can have come with another module only."""
    return ThreadpoolController()
