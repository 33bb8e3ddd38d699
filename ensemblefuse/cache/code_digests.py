"""Digests of functions and classes for recipes; cells and files have their own modules."""

from __future__ import annotations

import dis
import functools
import hashlib
import os
import re
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._public_names import public_path
from ensemblefuse.cache.cell_digests import cell_digest, feed_token
from ensemblefuse.cache.file_digests import file_digest

__all__ = ["callable_name", "callable_token", "cell_digest", "class_digest", "file_digest", "value_token"]


def callable_token(func: Any, seen: dict[int, int] | None = None) -> str | None:
    """Return a digest of all that determines what a callable does; None if a part cannot be hashed.

    It covers a function's code, its default and enclosed values, and the global values, classes and functions of its
    module that it uses, followed through calls. It does not cover the code of imported modules.

    Parameters
    ----------
    func : callable
    seen : dict
        Functions and classes that have been entered already, by `id`; for recursion.
    """
    seen = {} if seen is None else seen
    if isinstance(func, functools.partial):
        bound = [value_token(value, func, seen) for value in (func.args, func.keywords)]
        return _joined([callable_token(func.func, seen), *bound])
    if isinstance(func, (types.BuiltinFunctionType, np.ufunc)):
        owner = getattr(func, "__self__", None)  # for `len` it is a module, for "abc".count the str
        return callable_name(func) if owner is None or isinstance(owner, types.ModuleType) else None
    if isinstance(func, types.MethodType) and isinstance(func.__self__, type):
        return _joined([callable_token(func.__func__, seen), value_token(func.__self__, func.__func__, seen)])
    if isinstance(func, functools._lru_cache_wrapper):
        return callable_token(func.__wrapped__, seen)
    if not isinstance(func, types.FunctionType):
        return None  # a bound method or an object: its state is unknown
    if id(func) in seen:
        return f"seen {seen[id(func)]}"
    seen[id(func)] = len(seen)
    hasher = hashlib.sha256()
    _feed_code(hasher, func.__code__)
    tokens: list[str | None] = [hasher.hexdigest()]
    tokens += [value_token(value, func, seen) for value in (func.__defaults__, func.__kwdefaults__)]
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        if name == "__class__":
            continue  # used by super(): the class that contains the function
        try:
            tokens += [name, value_token(cell.cell_contents, func, seen)]
        except ValueError:  # not assigned yet
            tokens.append(None)
    for name in sorted(set(_global_names(func.__code__)) & func.__globals__.keys()):
        tokens += [name, value_token(func.__globals__[name], func, seen)]
    return _joined(tokens)


def value_token(value: Any, user: Any = None, seen: dict[int, int] | None = None) -> str | None:
    """Return a token of a value that a function or class uses; None if the value cannot be hashed.

    Parameters
    ----------
    value : object
    user : function, class or None
        The user of the value: functions and classes of the same module are followed. With None, all functions and
        classes outside installed packages are followed.
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
            return callable_name(value)  # imported: identified by its name
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
    """Return a token of a container whose values are not cells, such as functions or sets."""
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
    """Return a digest of all that a class and its bases outside installed packages define; None if not hashable.

    Class attributes enter by their values. Methods, properties, class methods and static methods enter by
    `callable_token`. Methods that are called through ``self`` are members of the same classes, and so included. A
    metaclass is not included.
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


# Functions that the compiler adds to a class for its annotations.
_MADE_BY_PYTHON = frozenset({"__annotate__", "__annotate_func__"})


def _functions_of(member: Any) -> list[Any] | None:
    """Return the functions of which a member of a class consists; None if it is a value."""
    if isinstance(member, property):
        return [function for function in (member.fget, member.fset, member.fdel) if function is not None]
    if isinstance(member, (classmethod, staticmethod)):
        return [member.__func__]
    if isinstance(member, functools.cached_property):
        return [member.func]
    return [member] if isinstance(member, types.FunctionType) else None


def _is_made_by_others(name: str, member: Any) -> bool:
    """Return whether Python, `abc` or scikit-learn added the member to the class, not its author."""
    is_dunder = name.startswith("__") and name.endswith("__")
    is_slot = isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType))
    is_request = type(member).__module__.startswith("sklearn.") and type(member).__name__ == "RequestMethod"
    return is_dunder or is_slot or is_request or name == "_abc_impl" or name.startswith("_sklearn_")


def _is_installed(module: str) -> bool:
    """Return whether a module belongs to Python or to an installed package, which have releases."""
    top = module.split(".")[0]
    if top == "__main__":
        return False
    if top in sys.stdlib_module_names or top == "ensemblefuse":
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _is_importable(value: Any) -> bool:
    """Return whether a callable is a class or function, or an object that its module has under its name."""
    if isinstance(value, (type, types.FunctionType)):
        return True
    found = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in str(getattr(value, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found is value


def callable_name(func: Any) -> str:
    """Return the public path of a callable, or its module and name."""
    if isinstance(func, functools.partial):
        return f"partial of {callable_name(func.func)}"
    named = func if hasattr(func, "__qualname__") else type(func)
    return public_path(named)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that a function and its inner functions read."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _joined(tokens: Sequence[str | None]) -> str | None:
    """Return one digest of all tokens; None if one of them is None."""
    hasher = hashlib.sha256()
    for token in tokens:
        if token is None:
            return None
        feed_token(hasher, "part", token.encode("utf-8", "surrogatepass"))
    return hasher.hexdigest()


def _feed_code(hasher: Any, code: types.CodeType) -> None:
    feed_token(hasher, "code", code.co_code)
    feed_token(hasher, "names", repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _feed_code(hasher, constant)
        else:
            value = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            feed_token(hasher, "constant", repr(value).encode())
