"""Places of files, and writing of whole files: after a failure the old file is there, never a part of the new one."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

__all__ = ["check_place", "special_kind", "write_atomically"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_kind(path: str | os.PathLike[str]) -> str:
    """Return what a path names, such as ``"a named pipe"``; an empty str for a regular file, or if nothing is there.

    To open a pipe waits for its writer, and a device may never end. So ask before a file is opened.

    Examples
    --------
    >>> from ensemblefuse._writing import special_kind
    >>> special_kind("."), special_kind("there is no such file")
    ('a folder', '')
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # absent, or not readable, which whoever opens it says better
        return ""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "")


def check_place(path: str | os.PathLike[str], task: str) -> Path:
    """Return `path` as a `Path`. Raise an error before the work begins if no file can be written there."""
    path = Path(path)
    kind = special_kind(path)
    if kind == "a folder":
        raise IsADirectoryError(f"{path} is a folder; give the name of a file to {task} to.")
    if kind:
        raise OSError(f"{path} is {kind}, not a file, and would be replaced; give the name of a file to {task} to.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name!r} to; make it first.")
    return path


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file under a temporary name in the same folder, then rename it to `path`. Return `path`."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
