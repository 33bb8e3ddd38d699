"""Digests: of a cell's content, of a file, of a function's code. What a cache key is made of. Floor 2."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

_DIGEST_SIZE = 16
# A file whose status changed within this time may change again under the same time stamp.
_CLOCK_GRAIN_NS = 2_000_000_000

_file_digests: dict[tuple, str] = {}
_lock = threading.Lock()


def file_digest(path: str | os.PathLike) -> str:
    """sha256 of a file, in hex. Remembered by path, size, times and inode, unless the file is seconds old.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        As `open` does.
    """
    status = os.stat(path)
    key = (os.fspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    with _lock:
        known = _file_digests.get(key)
    if known is not None:
        return known
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - status.st_ctime_ns > _CLOCK_GRAIN_NS:
        with _lock:
            _file_digests[key] = digest
    return digest


def cell_digest(cell: Any, *, strings_are_paths: bool) -> bytes:
    """16 bytes that stand for the content of a cell: equal content, equal digest, whatever the path.

    Parameters
    ----------
    cell : str, path, bytes, PIL image, array, number, bool, None, or list, tuple or dict of these
    strings_are_paths : bool
        Whether a str names a file (its content counts) or is the content.

    Raises
    ------
    TypeError
        If the cell is of another type.
    OSError
        If a file cannot be read.
    """
    hasher = hashlib.sha256()
    _feed(hasher, cell, strings_are_paths)
    return hasher.digest()[:_DIGEST_SIZE]


def _feed(hasher: Any, cell: Any, paths: bool) -> None:
    if isinstance(cell, os.PathLike) or (paths and isinstance(cell, str)):
        _token(hasher, "file", file_digest(Path(cell)).encode())
    elif isinstance(cell, (bytes, bytearray, memoryview)):
        content = hashlib.sha256(cell).hexdigest().encode()
        _token(hasher, "file" if paths else "bytes", content)
    elif isinstance(cell, str):
        _token(hasher, "text", cell.encode("utf-8", "surrogatepass"))
    elif isinstance(cell, (np.ndarray, np.generic)):
        _feed_array(hasher, np.asarray(cell), paths)
    elif isinstance(cell, (bool, int, float, complex, type(None))):
        _token(hasher, type(cell).__name__, repr(cell).encode())
    elif isinstance(cell, (list, tuple)):
        _token(hasher, "list", str(len(cell)).encode())
        for item in cell:
            _feed(hasher, item, paths)
    elif isinstance(cell, dict):
        _token(hasher, "dict", str(len(cell)).encode())
        for key in sorted(cell, key=repr):
            _feed(hasher, key, False)
            _feed(hasher, cell[key], paths)
    elif type(cell).__module__.startswith("PIL."):
        _feed_image(hasher, cell)
    else:
        raise TypeError(f"a cell of type {type(cell).__name__} cannot be encoded")


def _feed_array(hasher: Any, array: np.ndarray, paths: bool) -> None:
    if array.dtype.hasobject:
        _token(hasher, "objects", str(array.shape).encode())
        for item in array.ravel():
            _feed(hasher, item, paths)
        return
    _token(hasher, "array", f"{array.dtype.str} {array.shape}".encode())
    hasher.update(np.ascontiguousarray(array).data)


def _feed_image(hasher: Any, image: Any) -> None:
    """Pixels, and what changes how they are read: mode, palette, transparency, orientation."""
    image.load()  # a lazily opened file has no palette yet
    palette = (image.palette.mode, image.palette.tobytes()) if image.palette is not None else None
    orientation = image.getexif().get(0x0112, 1)
    facts = (image.mode, image.size, palette, image.info.get("transparency"), orientation)
    _token(hasher, "image", repr(facts).encode())
    hasher.update(image.tobytes())


def _token(hasher: Any, kind: str, content: bytes) -> None:
    hasher.update(f"{kind}:{len(content)}:".encode())
    hasher.update(content)


def code_digest(function: Any) -> str | None:
    """Digest of a Python function's own code, defaults and enclosed values, or None if these cannot be read.

    What the function calls is not part of it: a change there needs a new `version`.
    """
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type):
        return None  # a bound method: what its object holds is unknown
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return None
    hasher = hashlib.sha256()
    _feed_code(hasher, function.__code__)
    try:
        enclosed = [cell.cell_contents for cell in function.__closure__ or ()]
        values = [v for v in enclosed if not isinstance(v, type)]  # the class cell that super() makes
        _feed(hasher, [values, function.__defaults__ or (), function.__kwdefaults__ or {}], False)
    except (TypeError, ValueError):
        return None
    return hasher.hexdigest()


def class_digest(cls: type) -> str:
    """Digest of the functions that a class defines itself, for classes that have no release number of ours."""
    hasher = hashlib.sha256()
    for base in cls.__mro__:
        if base.__module__.split(".")[0] in ("ensemblefuse", "sklearn", "builtins"):
            continue
        for name, member in sorted(vars(base).items()):
            member = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(member, types.FunctionType):
                _token(hasher, name, (code_digest(member) or member.__qualname__).encode())
            elif isinstance(member, (bool, int, float, str, tuple)) and not name.startswith("__"):
                _token(hasher, name, repr(member).encode())
    return hasher.hexdigest()


def _feed_code(hasher: Any, code: types.CodeType) -> None:
    _token(hasher, "code", code.co_code)
    _token(hasher, "names", repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _feed_code(hasher, constant)
        else:
            value = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            _token(hasher, "constant", repr(value).encode())
