"""Settings of the process: the folder of the embedding cache, and whether progress is shown."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["config_context", "get_config", "set_config"]

_UNSET: Any = object()
_CACHE_VARIABLE = "ENSEMBLEFUSE_CACHE"
_PROGRESS_VARIABLE = "ENSEMBLEFUSE_PROGRESS"
_OFF = ("", "off", "none", "0")


def get_config() -> dict[str, Any]:
    """Return the settings in force.

    Returns
    -------
    dict
        ``cache``: folder of the embedding cache (`pathlib.Path`), or None when it is off.
        ``progress``: True, False, or ``"auto"`` (bars where standard error is a terminal, and in notebooks).

    Examples
    --------
    >>> import ensemblefuse
    >>> sorted(ensemblefuse.get_config())
    ['cache', 'progress']
    """
    folder = os.environ.get(_CACHE_VARIABLE)
    if folder is None:
        import platformdirs

        cache: Path | None = platformdirs.user_cache_path("ensemblefuse") / "embeddings"
    else:
        cache = None if folder.lower() in _OFF else Path(folder).expanduser()
    progress = os.environ.get(_PROGRESS_VARIABLE, "auto").lower()
    return {"cache": cache, "progress": progress if progress == "auto" else progress not in _OFF}


def set_config(*, cache: str | os.PathLike | None = _UNSET, progress: bool | str = _UNSET) -> None:
    """Change settings for this process and for the processes that it starts from now on.

    The settings are stored in the environment variables ``ENSEMBLEFUSE_CACHE`` and ``ENSEMBLEFUSE_PROGRESS``, so that
    workers started later (joblib's, for example) have the same settings as their parent. Workers that are already
    running keep their old settings. joblib keeps its workers alive between calls, so change settings before the first
    parallel call.

    Parameters
    ----------
    cache : path or None
        Folder of the embedding cache; None turns it off.
    progress : bool or "auto"
        Whether long work shows a progress bar on standard error.

    Raises
    ------
    ValueError
        If `progress` is neither a bool nor ``"auto"``.
    """
    if cache is not _UNSET:
        os.environ[_CACHE_VARIABLE] = "off" if cache is None else str(Path(cache).expanduser().absolute())
    if progress is not _UNSET:
        if progress not in (True, False, "auto"):
            raise ValueError(f'progress must be True, False or "auto"; got {progress!r}.')
        os.environ[_PROGRESS_VARIABLE] = progress if isinstance(progress, str) else "on" if progress else "off"


@contextlib.contextmanager
def config_context(**settings: Any):
    """Change settings as `set_config` does, and restore the old ones at the end of the ``with`` block.

    Examples
    --------
    >>> import ensemblefuse
    >>> with ensemblefuse.config_context(cache=None):
    ...     print(ensemblefuse.get_config()["cache"])
    None
    """
    before = {name: os.environ.get(name) for name in (_CACHE_VARIABLE, _PROGRESS_VARIABLE)}
    try:
        set_config(**settings)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def show_progress() -> bool:
    """Return whether to show a progress bar. In a worker process, ``"auto"`` means no."""
    progress = get_config()["progress"]
    if progress == "auto" and multiprocessing.parent_process() is not None:
        return False  # workers share the terminal, and their bars would overwrite each other
    return sys.stderr.isatty() or _in_notebook() if progress == "auto" else progress


def _in_notebook() -> bool:
    """Return whether a kernel of Jupyter runs this process; other packages may import ipykernel without one."""
    ipython = sys.modules.get("IPython")
    return "ipykernel" in sys.modules and ipython is not None and ipython.get_ipython() is not None
