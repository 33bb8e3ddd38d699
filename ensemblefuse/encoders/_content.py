"""Digests: of a cell's content, of a file, of functions and classes. What a cache key is made of. Floor 2."""

from __future__ import annotations

import dis
import functools
import hashlib
import os
import re
import sys
import threading
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_DIGEST_SIZE = 16
# A file whose status changed within this time may change again under the same time stamp.
_CLOCK_GRAIN_NS = 2_000_000_000

_file_digests: dict[tuple, str] = {}
_lock = threading.Lock()


def _renew_lock() -> None:
    """In the child of a fork: a lock that another thread of the parent held would never be released."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


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


def callable_token(func: Any, seen: dict[int, int] | None = None) -> str | None:
    """Digest of all that a callable does as far as Python can tell, or None if it cannot.

    That is a function's code, its default and enclosed values, and the global values, classes and functions of its
    module that it uses, followed through calls. The code of imported modules is not part of it.

    Parameters
    ----------
    func : callable
    seen : dict
        Functions and classes that are being followed, by `id`; for recursion.
    """
    seen = {} if seen is None else seen
    if isinstance(func, functools.partial):
        bound = [value_token(value, func, seen) for value in (func.args, func.keywords)]
        return _joined([callable_token(func.func, seen), *bound])
    if isinstance(func, (types.BuiltinFunctionType, np.ufunc)):
        owner = getattr(func, "__self__", None)  # len's is its module; that of "abc".count is the str
        return callable_name(func) if owner is None or isinstance(owner, types.ModuleType) else None
    if isinstance(func, types.MethodType) and isinstance(func.__self__, type):
        return _joined([callable_token(func.__func__, seen), value_token(func.__self__, func.__func__, seen)])
    if isinstance(func, functools._lru_cache_wrapper):
        return callable_token(func.__wrapped__, seen)
    if not isinstance(func, types.FunctionType):
        return None  # a bound method or an object: what it holds is unknown
    if id(func) in seen:
        return f"seen {seen[id(func)]}"
    seen[id(func)] = len(seen)
    hasher = hashlib.sha256()
    _feed_code(hasher, func.__code__)
    tokens: list[str | None] = [hasher.hexdigest()]
    tokens += [value_token(value, func, seen) for value in (func.__defaults__, func.__kwdefaults__)]
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        if name == "__class__":
            continue  # super()'s: the class that the function stands in
        try:
            tokens += [name, value_token(cell.cell_contents, func, seen)]
        except ValueError:  # not bound yet
            tokens.append(None)
    for name in sorted(set(_global_names(func.__code__)) & func.__globals__.keys()):
        tokens += [name, value_token(func.__globals__[name], func, seen)]
    return _joined(tokens)


def value_token(value: Any, user: Any = None, seen: dict[int, int] | None = None) -> str | None:
    """Token of a value that a function or class uses, or None if nothing tells it from another value.

    Parameters
    ----------
    value : object
    user : function, class or None
        Who uses the value: functions and classes of the same module are followed. With None, all are that no installed
        package holds.
    seen : dict
        As in `callable_token`.
    """
    seen = {} if seen is None else seen
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if callable(value):
        module = getattr(value, "__module__", None) or ""
        own = not _is_installed(module) if user is None else module in ("__main__", getattr(user, "__module__", None))
        if not own and _is_importable(value):
            return callable_name(value)  # imported: as its package has it
        if isinstance(value, type):
            return _joined([callable_name(value), class_digest(value, seen)])
        return callable_token(value, seen)
    if isinstance(value, os.PathLike):
        return repr(value)
    if isinstance(value, re.Pattern):
        return repr((value.pattern, value.flags))
    try:
        return cell_digest(value, strings_are_paths=False).hex()
    except (TypeError, RecursionError):
        return _container_token(value, user, seen)


def _container_token(value: Any, user: Any, seen: dict[int, int]) -> str | None:
    """Token of a container of values that are no cells, such as functions or sets."""
    if not isinstance(value, (list, tuple, dict, set, frozenset)):
        return None
    if id(value) in seen:
        return f"seen {seen[id(value)]}"
    seen[id(value)] = len(seen)
    if isinstance(value, (set, frozenset)):
        tokens = [value_token(item, user, seen) for item in sorted(value, key=repr)]
    elif isinstance(value, dict):
        tokens = [value_token(part, user, seen) for item in value.items() for part in item]
    else:
        tokens = [value_token(item, user, seen) for item in value]
    return _joined([type(value).__name__, str(len(value)), *tokens])


def class_digest(cls: type, seen: dict[int, int] | None = None) -> str | None:
    """Digest of what a class and its bases outside installed packages define, or None if that cannot be told.

    Every class attribute counts with its value, every method, property, class and static method as `callable_token`
    has it. What methods reach through ``self`` are members of the same classes; a metaclass is no part of it.
    """
    seen = {} if seen is None else seen
    if id(cls) in seen:
        return f"seen {seen[id(cls)]}"
    seen[id(cls)] = len(seen)
    package = cls.__module__.split(".")[0]
    tokens: list[str | None] = []
    for base in cls.__mro__:
        tokens.append(callable_name(base) if base is not cls else "")
        top = base.__module__.split(".")[0]
        if top == "ensemblefuse" or (_is_installed(base.__module__) and top != package):
            continue
        for name, member in sorted(vars(base).items()):
            functions = _functions_of(member)
            if functions is not None and name not in _MADE_BY_PYTHON:
                tokens += [name, *(callable_token(function, seen) for function in functions)]
            elif functions is None and not _is_made_by_others(name, member):
                tokens += [name, value_token(member, base, seen)]
    return _joined(tokens)


# Functions that the compiler puts into a class for its annotations.
_MADE_BY_PYTHON = frozenset({"__annotate__", "__annotate_func__"})


def _functions_of(member: Any) -> list[Any] | None:
    """The functions that a member of a class consists of, or None if it is a value."""
    if isinstance(member, property):
        return [function for function in (member.fget, member.fset, member.fdel) if function is not None]
    if isinstance(member, (classmethod, staticmethod)):
        return [member.__func__]
    if isinstance(member, functools.cached_property):
        return [member.func]
    return [member] if isinstance(member, types.FunctionType) else None


def _is_made_by_others(name: str, member: Any) -> bool:
    """Whether Python, `abc` or scikit-learn put the member into the class, not its author."""
    is_dunder = name.startswith("__") and name.endswith("__")
    is_slot = isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType))
    is_request = type(member).__module__.startswith("sklearn.") and type(member).__name__ == "RequestMethod"
    return is_dunder or is_slot or is_request or name == "_abc_impl" or name.startswith("_sklearn_")


def _is_installed(module: str) -> bool:
    """Whether a module belongs to Python or to an installed package: something that has releases."""
    top = module.split(".")[0]
    if top == "__main__":
        return False
    if top in sys.stdlib_module_names or top == "ensemblefuse":
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _is_importable(value: Any) -> bool:
    """Whether a callable is a class or function, or an object that its module holds under its name."""
    if isinstance(value, (type, types.FunctionType)):
        return True
    found = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in str(getattr(value, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found is value


def callable_name(func: Any) -> str:
    """Module and name of a callable."""
    if isinstance(func, functools.partial):
        return f"partial of {callable_name(func.func)}"
    named = func if hasattr(func, "__qualname__") else type(func)
    return f"{named.__module__}.{named.__qualname__}"


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Names that a function and those inside it read from their module."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _joined(tokens: Sequence[str | None]) -> str | None:
    """One digest of all tokens, None if one of them is."""
    hasher = hashlib.sha256()
    for token in tokens:
        if token is None:
            return None
        _token(hasher, "part", token.encode("utf-8", "surrogatepass"))
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
