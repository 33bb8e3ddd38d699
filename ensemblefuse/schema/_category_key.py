"""The one form of a category."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import short_repr
from ensemblefuse.schema._cells import LARGEST, Unreadable, decoded
from ensemblefuse.table import is_missing, item

__all__ = ["category_key", "date_key"]


def category_key(cell: Any) -> str | None:
    """Return the text that a category is known by; None for a missing cell or a text of blanks.

    A whole number is written without a fraction, whatever its type; another number with the fewest digits that give it
    back. A date without a time is written as ``2026-01-31``. Another value with a hash and a text of its own, such as
    an interval or a tuple, is written as this text.

    Raises
    ------
    Exception
        If the cell is no category, such as a list or an infinite number.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.schema import category_key
    >>> [category_key(cell) for cell in (3, 3.0, "3", np.float32(0.1), True, "red", " ", None)]
    ['3', '3', '3', '0.1', 'True', 'red', None, None]
    """
    if is_missing(cell):
        return None
    if isinstance(cell, (bytes, bytearray)):
        cell = decoded(cell)
    if isinstance(cell, str):
        return str(cell) if cell.strip() else None
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, np.timedelta64):
        return _whole_key(int(cell))
    if isinstance(cell, (float, np.floating, Decimal)):
        return _number_key(cell)
    if isinstance(cell, (datetime.date, np.datetime64)):
        return date_key(pd.Timestamp(cell))
    if isinstance(cell, (datetime.timedelta, np.timedelta64)):
        return str(pd.Timedelta(cell))
    if _has_own_text(cell):
        return str(cell)
    raise Unreadable(f"{short_repr(cell)} is not a category; a category is a text, a number, a date, true or false")


def _has_own_text(cell: Any) -> bool:
    """Return whether a value says what it is: it can be compared, and its text does not hold its place in memory."""
    kind = type(cell)
    says = kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__
    try:
        hash(cell)
    except TypeError:
        return False
    return says and not callable(cell) and not isinstance(cell, (complex, np.complexfloating))


def _whole_key(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        raise Unreadable(f"{short_repr(number)} is not a category") from None


def _number_key(cell: Any) -> str:
    if not abs(cell) <= LARGEST:
        raise Unreadable(f"{short_repr(item(cell))} is not a category: it is not a finite number below 3.4e+38")
    if cell == int(cell):
        return str(int(cell))
    return format(cell.normalize(), "f") if isinstance(cell, Decimal) else str(cell)


def date_key(stamp: pd.Timestamp) -> str:
    return stamp.isoformat() if stamp.tzinfo or stamp != stamp.normalize() else stamp.date().isoformat()
