"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["check_place", "write_atomically"]


def check_place(path: str | os.PathLike[str], task: str) -> Path:
    """The path of a file to write; refused before the work where no file can be."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file to {task} to.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name!r} to; make it first.")
    return path


def write_atomically(path: Path, content: bytes) -> Path:
    """Another name in the same folder, then a rename: the old file or the new one, never a part of one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
