"""What cells are, and what is told of them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensemblefuse.table import is_missing

__all__ = [
    "LARGEST",
    "NUMBER",
    "TRUTH",
    "CellPolicy",
    "Fault",
    "Reading",
    "Schema",
    "Unreadable",
    "Unseen",
    "decoded",
    "is_number",
    "listed",
    "types_held",
]

Schema = Mapping[Any, Mapping[str, Any]]

LARGEST = float(np.finfo(np.float32).max)

TRUTH = {"true": True, "false": False}

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Fault(NamedTuple):
    """A cell that cannot be read as its column requires."""

    position: int
    """Number of the row, from 0."""
    column: Any
    value: Any
    reason: str
    """A sentence that begins with the cell."""


class Unseen(NamedTuple):
    """A category that fit never saw."""

    position: int
    """Number of the row, from 0."""
    column: Any
    key: str
    """The category as `category_key` writes it."""


class CellPolicy(NamedTuple):
    """What becomes of the cells of a column that cannot be read."""

    on_error: str
    """``"raise"`` or ``"missing"``."""
    parameter: str
    """The parameter of the `ModalityTransformer` that says so, such as ``"tabular__on_error"``."""


class Reading(NamedTuple):
    """A table as the transformers of the model take it."""

    table: pd.DataFrame
    """Cells that cannot be read are missing in it."""
    faults: list[Fault]
    unseen: list[Unseen]


class Unreadable(Exception):
    """Raised for one cell; the message is the reason."""


def is_number(dtype: Any) -> bool:
    """Return whether a dtype is one of real numbers; booleans are not."""
    return (
        pd.api.types.is_numeric_dtype(dtype)
        and not pd.api.types.is_bool_dtype(dtype)
        and not pd.api.types.is_complex_dtype(dtype)
    )


def types_held(cells: pd.Series) -> set[str]:
    """Return what the cells of a column are: the names of `_TYPES`, or "other"."""
    dtype = cells.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return types_held(pd.Series(dtype.categories))
    if pd.api.types.is_bool_dtype(dtype):
        return {"boolean"} if cells.notna().any() else set()
    if is_number(dtype):
        return {"number"} if cells.notna().any() else set()
    return {_kind_of_type(kind) for kind in {type(cell) for cell in cells.tolist() if not is_missing(cell)}}


def _kind_of_type(kind: type) -> str:
    for name, types in _TYPES.items():
        if issubclass(kind, types):
            return name
    return "other"


# The first that fits counts: bool is an int, and np.timedelta64 an np.integer.
_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool, np.bool_),
    "duration": (datetime.timedelta, np.timedelta64),
    "date": (datetime.date, np.datetime64),
    "number": (int, float, np.integer, np.floating, Decimal),
    "text": (str,),
    "bytes": (bytes, bytearray),
    "tuple": (tuple,),
}


def listed(cells: pd.Series) -> list[Any]:
    """Return the cells as a list; short floats stay short, because 0.1 in 32 bits is another number in 64."""
    if pd.api.types.is_float_dtype(cells.dtype) and getattr(cells.dtype, "itemsize", 8) < 8:
        return list(cells.to_numpy(np.float32, na_value=np.nan))
    return cells.tolist()


def decoded(cell: bytes | bytearray) -> str:
    try:
        return bytes(cell).decode()
    except UnicodeDecodeError:
        raise Unreadable(f"{len(cell)} bytes are not a text in UTF-8") from None
