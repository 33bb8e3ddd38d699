"""What skops would store wrongly, found before it does. Floor 4."""

from __future__ import annotations

import importlib
import types
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ensemblefuse.exceptions import PersistenceError, short_repr
from ensemblefuse.persistence._types import type_name


def check_storable(model: Any) -> None:
    """Refuse what skops would store wrongly, or could not give back; say where it stands."""
    local = {}
    for where, part in parts_of(model):
        reason = _unstorable(part)
        if reason:
            raise PersistenceError(f"{where} {reason}")
        for value in (part, type(part)):
            if getattr(value, "__module__", None) == "__main__" and hasattr(value, "__name__"):
                local[type_name(value)] = where
    if local:
        warnings.warn(
            f"The model holds {sorted(local)}, defined in the program that runs. It can be loaded only where these "
            "exist under the same name; define them in a module of their own.",
            UserWarning,
            stacklevel=3,
        )


def _unstorable(part: Any) -> str | None:
    if isinstance(part, (types.FunctionType, types.BuiltinFunctionType, type)):
        if _importable(part):
            return None
        return (
            f"is {part.__qualname__!r} of module {part.__module__!r}, which cannot be found under that name, so the "
            "file could not name it. Write a class or a def at the top of a module, best an encoder class (see "
            "BaseEncoder). joblib.dump has the same limit."
        )
    module = type(part).__module__.split(".")[0]
    if module in ("pandas", "torch", "polars"):
        return (
            f"is a {module} object ({short_repr(part)}), which cannot be stored exactly. Keep numbers, strings, numpy "
            "arrays, lists or dicts of them instead, or use joblib.dump and load it only from people you trust."
        )
    if isinstance(part, Mapping):
        odd = [key for key in part if isinstance(key, (bool, np.bool_)) or not isinstance(key, _KEYS)]
        if odd or len({str(key) for key in part}) < len(part):
            return (
                f"is a dict with keys that cannot be stored exactly: {(odd or list(part))[:5]}. Keys must be str, or "
                "numbers that differ; LogPool's class_prior may be an array in the order of the sorted classes."
            )
    if isinstance(part, np.ndarray) and part.dtype == object and part.ndim != 1:
        nested = part.ndim == 0 or not part.size or any(np.ndim(item) for item in part.ravel())
        return f"is an array of objects of shape {part.shape}, which cannot be stored exactly." if nested else None
    if _importable(type(part)):
        return None
    return (
        f"is a {type(part).__qualname__} of module {type(part).__module__!r}, a class that cannot be found under that "
        "name. Define it at the top of a module."
    )


_KEYS = (str, int, float, np.integer, np.floating)


def _importable(value: Any) -> bool:
    """Whether module and name lead to this very object, as skops looks it up."""
    try:
        return getattr(importlib.import_module(value.__module__), value.__name__) is value
    except (AttributeError, ImportError, TypeError, ValueError):
        # Builtins and compiled types may name a module that does not show them; skops knows its own.
        return isinstance(value, type) and value.__module__.split(".")[0] in ("builtins", "numpy", "scipy", "sklearn")


def parts_of(model: Any) -> Iterator[tuple[str, Any]]:
    """All objects that a model consists of, with the way to each; numbers and strings left out."""
    stack: list[tuple[str, Any]] = [("model", model)]
    seen: dict[int, Any] = {}
    while stack:
        where, part = stack.pop()
        if part is None or isinstance(part, (bool, int, float, str, bytes, bytearray, np.generic)) or id(part) in seen:
            continue
        seen[id(part)] = part
        yield where, part
        stack.extend(_children(where, part))


def _children(where: str, part: Any) -> list[tuple[str, Any]]:
    if isinstance(part, (types.FunctionType, types.BuiltinFunctionType, type)):
        return []
    if isinstance(part, Mapping):
        return [(f"{where}[{key!r}]", value) for key, value in part.items()]
    if isinstance(part, (list, tuple, set, frozenset)):
        return [(f"{where}[{i}]", value) for i, value in enumerate(part)]
    if isinstance(part, np.ndarray):
        return [(f"{where}[{i}]", value) for i, value in enumerate(part.ravel())] if part.dtype == object else []
    if isinstance(part, partial):
        return [(f"{where}.func", part.func), (f"{where}.args", part.args), (f"{where}.keywords", part.keywords)]
    if isinstance(part, types.MethodType):
        return [(f"{where}.__self__", part.__self__)]
    # Compiled objects and boosters hold no Python objects; their state is large and made anew at each call.
    if not hasattr(part, "__dict__") or type(part).__module__ == "xgboost.core":
        return []
    state = part.__getstate__()
    return [(f"{where}.{key}", value) for key, value in state.items()] if isinstance(state, dict) else []
