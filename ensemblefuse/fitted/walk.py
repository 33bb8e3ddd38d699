"""Iteration over all objects that a model consists of."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

__all__ = ["parts_of"]


def parts_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield all objects that a model consists of, each with its path from the model; skip numbers and strings."""
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
    # Compiled objects and boosters hold no Python objects; their state is large and is built again at each call.
    if not hasattr(part, "__dict__") or type(part).__module__ == "xgboost.core":
        return []
    state = part.__getstate__()
    return [(f"{where}.{key}", value) for key, value in state.items()] if isinstance(state, dict) else []
