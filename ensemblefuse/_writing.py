"""Writing of whole files: after a failure the old file is still there, never a part of the new one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["check_place", "write_atomically"]


def check_place(path: str | os.PathLike[str], task: str) -> Path:
    """Return `path` as a `Path`. Raise an error before the work begins if no file can be written there."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file to {task} to.")
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
