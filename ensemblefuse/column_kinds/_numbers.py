"""Columns of numbers: quantities, or numbers that count or identify rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import date_format
from ensemblefuse.column_kinds._categories import are_categories
from ensemblefuse.column_kinds._identifiers import says_id, says_postcode
from ensemblefuse.column_kinds._kind import CONSTANT_CELLS, DISTINCT, EMPTY, LEAST_CELLS, ColumnKind
from ensemblefuse.column_kinds._names import (
    says_code,
    says_number_of_thing,
    says_quantity,
    says_rank,
    says_row,
    says_thing,
)
from ensemblefuse.exceptions import counted
from ensemblefuse.table import is_missing

__all__ = ["CODE_DIGITS", "as_float", "dated_kind", "number_kind"]

_COLLISIONS = 10.0  # repeated values to expect by chance in a column of whole numbers that has none
CODE_DIGITS = 8  # whole numbers of so many digits, all of one length, may be codes
_LEAST_POSTCODES = 3  # fewer values are no evidence
_SURE_DIGITS = 10  # of so many they are, if nothing says otherwise
_ROUNDED = 0.3  # share of numbers that end with 0, from which on they were rounded: a tenth of all codes do
_YEARS = (1500, 2100)
_OR_NUMBER, _OR_IDENTIFIER = "could also be: number", "could also be: identifier"
_OR_DATE = "could also be: date"
_EPOCHS = ((3e8, 2.6e9), (3e11, 2.6e12))  # seconds and milliseconds since 1970 are times


def number_kind(column: Any, seen: str, name: str, *, measured: bool = False) -> ColumnKind:
    """Return whether numbers are a feature, or count rows, or identify them; what is measured does not."""
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
        finite = present[np.isfinite(present)]
        return ColumnKind("number", _with_range(seen, finite) if len(finite) else seen, is_refused=True)
    if measured or (present % 1 != 0).any():
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
    n_cells, steps = len(present), np.diff(present)
    if n_distinct > 2 and _are_days(present):
        return ColumnKind("number", f"{seen}: days written as numbers", _OR_DATE)
    if n_cells > 2 and (steps == 1).all():
        return _stepwise_kind(present, f"{seen}; every value is the previous one plus 1", name)
    facts = f"{seen}; {counted(n_distinct, 'distinct value')} in {counted(n_cells, 'cell')}"
    if says_id(name):
        return _named_kind(present, n_distinct, facts, name)
    if n_distinct > 2 and says_thing(name) and present.min() > 0:  # counts begin with 0
        return _thing_kind(present, n_distinct, facts, name)
    if says_postcode(name) and _have_digits_of_postcodes(present):
        return _postcode_kind(present, facts)
    if n_distinct == n_cells >= LEAST_CELLS and len(set(steps.tolist())) > 1 and _are_dense(present):
        facts = f"{facts}: measured or counted values would repeat"
        if says_quantity(name) or says_rank(name) or _are_years(present):
            why = "they may be years" if _are_years(present) else "the name says a quantity, a time or a rank"
            return ColumnKind("number", f"{facts}, but {why}", _OR_IDENTIFIER)
        return ColumnKind("identifier", facts, _OR_NUMBER, alone=True)
    if n_cells >= LEAST_CELLS and n_distinct >= DISTINCT * n_cells and not says_quantity(name):
        return _long_kind(present, seen, facts, name)
    return ColumnKind("number", seen)


def _stepwise_kind(present: np.ndarray, facts: str, name: str) -> ColumnKind:
    """Return whether numbers in steps of 1 count rows: they begin with 0 or 1, or the name says so; years do not."""
    if says_row(name) or (present[0] in (0, 1) and not says_quantity(name)):
        return ColumnKind("identifier", f"{facts}: a row number", _OR_NUMBER)
    return ColumnKind("number", facts, _OR_IDENTIFIER)


def _named_kind(present: np.ndarray, n_distinct: int, facts: str, name: str) -> ColumnKind:
    """Return what numbers are whose name says identifier; ``yearID`` says a year as well."""
    n_cells = len(present)
    if says_quantity(name):
        return ColumnKind("number", f"{facts}; the name says time and identifier", _OR_IDENTIFIER)
    if n_distinct >= DISTINCT * n_cells and n_cells > 2:
        return ColumnKind("identifier", f"{facts}, and the name says identifier")
    facts = f"{facts}; the name says identifier"
    if are_categories(pd.Series(present).value_counts().tolist(), n_cells):
        return ColumnKind("category", facts, _OR_NUMBER)
    return ColumnKind("identifier", f"{facts} of something with several rows", _OR_NUMBER, of_groups=True)


def _thing_kind(present: np.ndarray, n_distinct: int, facts: str, name: str) -> ColumnKind:
    """Return what whole numbers are whose name says who or what a row is about, which has a number and is none."""
    n_cells, facts = len(present), f"{facts}; the name says who or what, not how much"
    if are_categories(pd.Series(present).value_counts().tolist(), n_cells):
        return ColumnKind("category", facts, _OR_NUMBER)
    if not says_number_of_thing(name) or n_cells < LEAST_CELLS:
        return ColumnKind("number", facts, _OR_IDENTIFIER)
    return ColumnKind("identifier", facts, _OR_NUMBER, of_groups=n_distinct < DISTINCT * n_cells)


def _are_dense(present: np.ndarray) -> bool:
    """Return whether distinct numbers fill so short a range that drawn ones would repeat; identifiers have no minus."""
    n_cells, low, high = len(present), present.min(), present.max()
    return bool(low >= 0 and n_cells * (n_cells - 1) / (2 * (high - low + 1)) >= _COLLISIONS)


def _are_years(present: np.ndarray) -> bool:
    return bool(present.min() >= _YEARS[0] and present.max() <= _YEARS[1])


def _long_kind(present: np.ndarray, seen: str, facts: str, name: str) -> ColumnKind:
    """Return whether long numbers of one length are codes: nobody rounds codes, and few sums have ten digits each."""
    low, high = present.min(), present.max()
    is_time = any(first <= low and high <= last for first, last in _EPOCHS)
    n_digits = len(f"{low:.0f}")
    if low <= 0 or n_digits < CODE_DIGITS or n_digits != len(f"{high:.0f}") or is_time:
        return ColumnKind("number", seen)
    facts = f"{facts}, all of {n_digits} digits"
    is_rounded = (present % 10 == 0).mean() > _ROUNDED
    if says_code(name) or (n_digits >= _SURE_DIGITS and not is_rounded):
        return ColumnKind("identifier", f"{facts}: a code", _OR_NUMBER)
    return ColumnKind("number", f"{facts}, many of them rounded" if is_rounded else facts, _OR_IDENTIFIER)


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
