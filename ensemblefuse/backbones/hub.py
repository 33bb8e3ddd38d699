"""Search for models by name: a folder, or a name in the local Hugging Face cache. The hub is never contacted."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ensemblefuse._optional import import_optional

__all__ = ["find_model_folder", "quiet_transformers"]


def find_model_folder(
    model: Any,
    *,
    needed_by: str,
    packaged: Sequence[str],
    marks: Sequence[str],
    organisation: str | None = None,
    also: Mapping[str, str] | None = None,
) -> Path:
    """Return the folder of a model that is not packaged.

    Parameters
    ----------
    model : str or path
        A folder, or a hub name such as ``"org/name"`` that is in the local cache.
    needed_by : str
        The class that the user called, for the messages.
    packaged : sequence of str
        Names of the packaged models of the class, for the messages.
    marks : sequence of str
        File names; a model's folder has at least one of them.
    organisation : str, optional
        Organisation under which a name without one is also looked up.
    also : dict of str to str, optional
        Other values that the user may have meant: their name, and how to pass them.

    Raises
    ------
    TypeError
        If `model` is neither a str nor a path.
    ValueError
        If the model is not found (the message gives similar names), or if its folder has none of `marks`.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"{needed_by}: model must be a name or a folder; got {model!r}.")
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in marks):
            raise ValueError(f"{needed_by}: the folder {str(model)!r} holds no {' and no '.join(marks)}.")
        return folder
    cached = _find_in_cache(model, needed_by, marks, organisation) if isinstance(model, str) else None
    if cached is not None:
        return cached
    cache, cached_names = _hub_cache(needed_by)
    raise ValueError(
        f"{needed_by}: unknown model {os.fspath(model)!r}.{_hint(model, [*packaged, *cached_names], also)} It is not a "
        f"packaged model ({', '.join(packaged)}), not a folder below {os.getcwd()}, and not in the Hugging Face cache "
        f"{cache} ({len(cached_names)} models). Nothing is downloaded: fetch it first, for instance with "
        "huggingface_hub.snapshot_download, or pass its folder."
    )


def _hint(model: Any, names: Sequence[str], also: Mapping[str, str] | None) -> str:
    shown = {name.split("/")[-1].lower(): repr(name) for name in names} | dict(also or {})
    close = difflib.get_close_matches(Path(model).name.lower(), shown, n=1)
    return f" Did you mean {shown[close[0]]}?" if close else ""


def _find_in_cache(name: str, needed_by: str, marks: Sequence[str], organisation: str | None) -> Path | None:
    hub = import_optional("huggingface_hub", package="huggingface-hub", needed_by=needed_by)
    candidates = [name] if "/" in name or organisation is None else [name, f"{organisation}/{name}"]
    for candidate in candidates:
        with contextlib.suppress(OSError, ValueError):  # not cached, or not a valid name
            cache_dir = _hub_cache(needed_by)[0]
            folder = Path(hub.snapshot_download(candidate, cache_dir=cache_dir, local_files_only=True))
            if any((folder / mark).is_file() for mark in marks):
                return folder
    return None


def _hub_cache(needed_by: str) -> tuple[Path, list[str]]:
    """Return the cache folder of huggingface_hub, and the names of the models in it."""
    constants = import_optional("huggingface_hub.constants", package="huggingface-hub", needed_by=needed_by)
    folder = Path(constants.HF_HUB_CACHE)
    names = [p.name.removeprefix("models--").replace("--", "/") for p in folder.glob("models--*")]
    return folder, sorted(names)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and messages of transformers; the user's settings are restored afterwards."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
