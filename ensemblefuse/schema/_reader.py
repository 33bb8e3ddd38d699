"""What all readers of columns share."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import DATE_WAY_OUT, UnreadableCell, is_mark, read_cell
from ensemblefuse.exceptions import short_repr
from ensemblefuse.schema._cells import LARGEST, TRUTH, Unreadable, decoded, listed
from ensemblefuse.table import is_missing, item

__all__ = ["Reader", "not_a_number", "number_or_text", "objects", "parsed_date"]

_NO_NUMBER = "no number"  # for cells that cannot be one; it is no number, and no mark of a missing cell


class Reader:
    """Reader of one column; each cell that it cannot read becomes a fault and a missing cell."""

    def __init__(self, known: Mapping[str, Any]):
        self.known = known
        self.faults: list[tuple[int, Any, str]] = []
        self.unseen: list[tuple[int, str]] = []

    def read(self, cells: pd.Series) -> pd.Series | None:
        """Return the column in its one form; None if it is in this form already."""
        raise NotImplementedError

    def each(self, cells: pd.Series, read: Callable[[Any], Any]) -> list[Any]:
        """Return what `read` says of each cell; None for missing cells and faults. Equal cells are read once."""
        seen: dict[Any, tuple[Any, str | None]] = {}
        out: list[Any] = []
        for i, cell in enumerate(listed(cells)):
            if is_missing(cell):
                out.append(None)
                continue
            key = (type(cell), cell)
            if not _has_hash(key):
                value, reason = self._attempt(cell, read)
            else:
                if key not in seen:
                    seen[key] = self._attempt(cell, read)
                value, reason = seen[key]
            if reason is not None:
                self.faults.append((i, item(cell), reason))
            out.append(value)
        return out

    def written(self, cells: pd.Series) -> list[Any]:
        """Return what the cells say in the written form of fit."""
        settings = self.known["format"]
        return self.each(cells, lambda cell: read_cell(cell, settings))

    @staticmethod
    def _attempt(cell: Any, read: Callable[[Any], Any]) -> tuple[Any, str | None]:
        try:
            return read(cell), None
        except (Unreadable, UnreadableCell) as error:
            return None, str(error)


def _has_hash(key: Any) -> bool:
    """Return whether a cell can be looked up; a list cannot."""
    try:
        hash(key)
    except TypeError:
        return False
    return True


def objects(values: list[Any], index: pd.Index) -> pd.Series:
    """Return values as a column of objects, with NaN for None: scikit-learn takes no other missing cell."""
    column = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # one by one: numpy would make a table of tuples of one length
        column[i] = np.nan if value is None else value
    return pd.Series(column, index=index, dtype=object)


def number_or_text(cell: Any) -> Any:
    """Return a cell as `pandas.to_numeric` takes it; a text that is no number for a cell that cannot be one."""
    if is_missing(cell):
        return None
    if isinstance(cell, (bytes, bytearray)):
        cell = bytes(cell).decode(errors="replace")
    if isinstance(cell, str):
        text = cell.strip()
        truth = TRUTH.get(text.lower()) if len(text) < 6 else None
        return (text or None) if truth is None else float(truth)
    if isinstance(cell, (bool, np.bool_, float, np.floating, Decimal)):
        return float(cell)
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, np.timedelta64):
        whole = int(cell)
        return whole if abs(whole) < 2**63 else float(whole) if abs(whole) <= LARGEST else _NO_NUMBER
    return _NO_NUMBER


def not_a_number(cell: Any, number: float) -> str:
    shown = short_repr(cell)
    if np.isinf(number):
        return f"{shown} is not a finite number"
    if number == number:
        return f"{shown} is too large for float32, so it must be below 3.4e+38"
    return f"{shown} is not a number"


def parsed_date(cell: Any) -> pd.Timestamp | None:
    if isinstance(cell, (bytes, bytearray)):
        cell = decoded(cell)
    if isinstance(cell, str):
        text = cell.strip()
        if is_mark(text):
            return None
        try:
            datetime.datetime.fromisoformat(text)
            return pd.Timestamp(text)
        except ValueError:
            raise Unreadable(f"{short_repr(cell)} is not a date in ISO 8601, such as 2026-01-31") from None
    if isinstance(cell, (datetime.date, np.datetime64)):
        return pd.Timestamp(cell)
    raise Unreadable(f"{short_repr(item(cell))} is not a date; {DATE_WAY_OUT}")
