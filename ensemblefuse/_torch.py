"""Networks shared within a process (one for each key, never in a pickle), devices, threads and forks."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["is_forked", "n_threads", "resolve_device", "settle_after_fork", "shared_network"]

_networks: dict[tuple, Any] = {}
_lock = threading.RLock()
_is_forked = False


def _start_anew() -> None:
    """Make a new lock in the child of a fork: one held by another thread of the parent would never be released."""
    global _lock, _is_forked
    _lock, _is_forked = threading.RLock(), "torch" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def resolve_device(device: Any, *, needed_by: str) -> str:
    """Return the name of the torch device that `device` stands for on this machine.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU.
    needed_by : str
        The class that the user called, for the message.

    Raises
    ------
    ValueError
        If this machine has no such device.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f'{needed_by}: device {device!r} cannot be used here ({str(error).splitlines()[0]}). Pass "auto" or "cpu".'
        ) from error
    return str(device)


def is_forked() -> bool:
    """Return whether this process was forked from one that had imported torch. Thread pools do not survive a fork."""
    return _is_forked


def settle_after_fork() -> None:
    """Limit torch to one thread in the child of a fork. With more, OpenMP would wait forever for the parent's pool."""
    if _is_forked:
        sys.modules["torch"].set_num_threads(1)


def n_threads() -> int:
    """Return the number of threads to use: torch's setting, else OMP_NUM_THREADS, else the number of cores."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isdecimal() and int(setting):
        return int(setting)
    import joblib

    return int(joblib.cpu_count())


def shared_network(key: Hashable, build: Callable[[], Any]) -> Any:
    """Return this process's network for `key`. The first call builds it; other threads wait until it is built.

    Parameters
    ----------
    key : hashable
        Everything that `build` depends on: digest of the weights, device, head.
    build : callable
        Returns the network, in `eval()` mode and on its device.
    """
    full_key = (os.getpid(), key)
    with _lock:
        settle_after_fork()
        if full_key not in _networks:
            _networks[full_key] = build()
        return _networks[full_key]
