"""Columns of numbers: quantities, or numbers that count or identify rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import date_format
from ensemblefuse.column_kinds._categories import are_categories
from ensemblefuse.column_kinds._identifiers import says_id, says_postcode
from ensemblefuse.column_kinds._kind import CONSTANT_CELLS, DISTINCT, EMPTY, LEAST_CELLS, ColumnKind
from ensemblefuse.table import is_missing

__all__ = ["CODE_DIGITS", "as_float", "dated_kind", "number_kind"]

_COLLISIONS = 10.0  # repeated values to expect by chance in a column of whole numbers that has none
_LEAST_POSTCODES = 3  # fewer values are no evidence
CODE_DIGITS = 8  # whole numbers of so many digits, all of one length, are codes
_OR_DATE = "could also be: date"
_EPOCHS = ((3e8, 2.6e9), (3e11, 2.6e12))  # seconds and milliseconds since 1970 are times


def number_kind(column: Any, seen: str, name: str) -> ColumnKind:
    """Return whether numbers are a feature, or count rows, or identify them."""
    if isinstance(column, pd.Series) and column.dtype != object:
        values = column.to_numpy(dtype=float, na_value=np.nan)
    else:
        values = np.array([np.nan if is_missing(cell) else as_float(cell) for cell in column])
    present = values[~np.isnan(values)]
    n_distinct = len(np.unique(present))
    if not len(present):
        return EMPTY
    if n_distinct == 1 and len(present) == len(values) and len(present) >= CONSTANT_CELLS:
        return ColumnKind("constant", f"all {len(values)} cells are {present[0]:g}")
    if np.isinf(present).any():
        return _infinite(present, seen)
    if (present % 1 != 0).any():
        return ColumnKind("number", _with_range(seen, present))
    return _whole_kind(present, n_distinct, _with_range(seen, present), name)


def dated_kind(column: pd.Series, found: ColumnKind) -> ColumnKind:
    """Return that numbers such as 20240131 are dates if many different ones are days: others would not all be."""
    if found.choice != _OR_DATE or column.nunique() < LEAST_CELLS:
        return found
    form = date_format(column.tolist(), declared=True)
    if form is None or form.odd:
        return found
    return ColumnKind("date", f"{found.seen.partition(',')[0]}: {form.seen}", "could also be: number", form=form)


def _infinite(present: np.ndarray, seen: str) -> ColumnKind:
    finite = present[np.isfinite(present)]
    n = len(present) - len(finite)
    are, them = ("cell is", "it") if n == 1 else ("cells are", "them")
    choice = f"{n} {are} infinite, which fit refuses; make {them} missing"
    return ColumnKind("number", _with_range(seen, finite) if len(finite) else seen, choice)


def _with_range(seen: str, present: np.ndarray) -> str:
    low, high = f"{present.min():.6g}", f"{present.max():.6g}"
    what, sign, more = seen.partition("; ")
    return f"{what}, {low if low == high else f'{low} to {high}'}{sign}{more}"


def as_float(cell: Any) -> float:
    try:
        return float(cell)
    except OverflowError:  # a whole number of more than 308 digits
        return float("inf") if cell > 0 else float("-inf")


def _whole_kind(present: np.ndarray, n_distinct: int, seen: str, name: str) -> ColumnKind:
    n_cells, low, high = len(present), present.min(), present.max()
    steps = np.diff(present)
    if n_distinct > 2 and _are_days(present):
        return ColumnKind("number", f"{seen}: days written as numbers", _OR_DATE)
    if n_cells > 2 and (steps == 1).all():
        return _row_number(f"{seen}; every value is the previous one plus 1: a row number", "number")
    all_distinct = n_distinct == n_cells
    facts = f"{seen}; {n_distinct} distinct values in {n_cells} cells"
    if says_id(name):
        if n_distinct >= DISTINCT * n_cells and n_cells > 2:
            return ColumnKind("identifier", f"{facts}, and the name says identifier")
        repeated = f"{facts}; the name says identifier"
        counts = pd.Series(present).value_counts()
        if are_categories(counts.tolist(), n_cells):
            return ColumnKind("category", repeated, "could also be: number")
        return ColumnKind("identifier", f"{repeated} of something with several rows", "could also be: number")
    if says_postcode(name) and _have_digits_of_postcodes(present):
        return _postcode_kind(present, facts)
    if all_distinct and n_cells >= LEAST_CELLS and len(set(steps.tolist())) > 1:
        expected = n_cells * (n_cells - 1) / (2 * (high - low + 1))
        if expected >= _COLLISIONS:
            facts = f"{facts}: measured or counted values would repeat"
            return ColumnKind("identifier", facts, "could also be: number")
    is_time = any(first <= low and high <= last for first, last in _EPOCHS)
    n_digits = {len(f"{value:.0f}") for value in (abs(low), abs(high))}
    many = n_cells >= LEAST_CELLS and n_distinct >= DISTINCT * n_cells
    if many and len(n_digits) == 1 and min(n_digits) >= CODE_DIGITS and not is_time and low > 0:
        facts = f"{facts}, all of {n_digits.pop()} digits: a code"
        return ColumnKind("identifier", facts, "could also be: number")
    return ColumnKind("number", seen)


def _have_digits_of_postcodes(present: np.ndarray) -> bool:
    """Return whether nearly all numbers have 4 to 8 digits, all as many or, without a zero at the beginning, one less.

    A name alone is no evidence: ``cap`` may also be a limit.
    """
    if present.min() < 1 or present.max() >= 1e8 or len(np.unique(present)) < _LEAST_POSTCODES:
        return False
    n_digits = np.floor(np.log10(present)) + 1
    return bool(n_digits.max() >= 4 and (n_digits >= n_digits.max() - 1).mean() >= DISTINCT)


def _postcode_kind(present: np.ndarray, facts: str) -> ColumnKind:
    """Return that numbers name places: 10115 is not half of 20230."""
    facts = f"{facts}; the name says postal code, and zeros at the beginning may be lost"
    counts = pd.Series(present).value_counts().tolist()
    kind = "category" if are_categories(counts, len(present)) else "string"
    return ColumnKind(kind, facts, "could also be: number")


def _are_days(present: np.ndarray) -> bool:
    """Return whether all numbers say year, month and day, as 20240131 does."""
    years, months, days = present // 10_000, present // 100 % 100, present % 100
    return bool(((years >= 1900) & (years <= 2100) & (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all())


def _row_number(seen: str, other: str) -> ColumnKind:
    return ColumnKind("identifier", seen, f"could also be: {other}")
