"""Check for objects that skops would store wrongly."""

from __future__ import annotations

import importlib
import types
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ensemblefuse.exceptions import PersistenceError, short_repr
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.persistence.known_types import type_name


def check_storable(model: Any) -> None:
    """Raise if skops would store a part of the model wrongly, or could not read it back; the message says where."""
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
            f"The model holds {sorted(local)}, defined in the running program (__main__). It can be loaded only where "
            "these exist under the same name; define them in a module of their own.",
            UserWarning,
            stacklevel=3,
        )


def _unstorable(part: Any) -> str | None:
    if isinstance(part, (types.FunctionType, types.BuiltinFunctionType, type)):
        if _importable(part):
            return None
        return (
            f"is {part.__qualname__!r} of module {part.__module__!r}, which cannot be found under that name, so the "
            "file could not name it. Write a class or a def at the top level of a module, best an encoder class (see "
            "BaseEncoder). joblib.dump has the same limit."
        )
    module = type(part).__module__.split(".")[0]
    if module in ("pandas", "torch", "polars"):
        return (
            f"is a {module} object ({short_repr(part)}), which cannot be stored exactly. Keep numbers, strings, numpy "
            "arrays, lists or dicts of them instead, or use joblib.dump and load such files only from people you trust."
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
        "name. Define it at the top level of a module."
    )


_KEYS = (str, int, float, np.integer, np.floating)


def _importable(value: Any) -> bool:
    """Return whether skops finds this very object by its module and name."""
    try:
        return getattr(importlib.import_module(value.__module__), value.__name__) is value
    except (AttributeError, ImportError, TypeError, ValueError):
        # Builtins and compiled types may name a module that does not export them; skops has its own list of these.
        return isinstance(value, type) and value.__module__.split(".")[0] in ("builtins", "numpy", "scipy", "sklearn")
