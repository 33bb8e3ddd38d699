"""What a column holds, from its type and its cells."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_kinds._categories import are_categories_of_text
from ensemblefuse.column_kinds._cells import DATES, MEDIA, NUMBERS, SCALARS, cell_kind, is_blank
from ensemblefuse.column_kinds._kind import CONSTANT_CELLS, EMPTY, UNUSED, ColumnKind, constant_kind
from ensemblefuse.column_kinds._numbers import dated_kind, number_kind
from ensemblefuse.column_kinds._objects import of_objects
from ensemblefuse.column_kinds._texts import text_kind
from ensemblefuse.exceptions import counted, short_repr
from ensemblefuse.table import is_missing

__all__ = ["column_kind", "find_kind"]


def column_kind(column: pd.Series) -> tuple[str, str]:
    """Detect what a column holds, and give the reason.

    Parameters
    ----------
    column : Series

    Returns
    -------
    kind : {"image", "audio", "video", "text", "number", "date", "boolean", "category", "tags", "string", "series",
        "censored", "numbers", "embedding", "graph", "duration", "identifier", "address", "constant", "empty", "other"}
        ``"string"`` is a short text such as a name, ``"text"`` one of sentences.
    reason : str

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.column_kinds import column_kind
    >>> column_kind(pd.Series(["1,200.50 €", "80 €", None, "3,100 €"]))
    ('number', 'numbers in EUR, with commas between thousands, 80 to 3100; 1 of 4 cells missing')
    """
    return find_kind(column)[:2]


def find_kind(column: pd.Series) -> ColumnKind:
    """Detect what a column holds, with the facts and, where there was one, the choice between readings."""
    found = _kind_of(column)
    if found.kind in UNUSED:
        return found
    n_missing = int(column.isna().sum())
    if column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
        n_missing += sum(map(is_blank, column.tolist()))
    return found._replace(seen=f"{found.seen}; {n_missing} of {len(column)} cells missing") if n_missing else found


def _kind_of(column: pd.Series) -> ColumnKind:
    dtype, name = column.dtype, str(column.name)
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_categories(column)
    if pd.api.types.is_bool_dtype(dtype):
        return _unless_constant(column, ColumnKind("boolean", f"dtype {dtype}"))
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return dated_kind(column, number_kind(column, f"dtype {dtype}", name))
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return _unless_constant(column, ColumnKind("date", f"dtype {dtype}"))
    if pd.api.types.is_timedelta64_dtype(dtype):
        return _unless_constant(column, ColumnKind("duration", f"dtype {dtype}"))
    if isinstance(dtype, pd.IntervalDtype):
        return ColumnKind("category", f"dtype {dtype}")
    return _object_kind(column)


def _of_categories(column: pd.Series) -> ColumnKind:
    counts = column.value_counts()
    counts = counts[counts > 0]
    values = counts.index.tolist()
    are_texts = all(isinstance(value, str) for value in values)
    n_cells = Counter(dict(zip(values, counts.tolist(), strict=True)))
    if are_texts and len(values) > 20 and not are_categories_of_text(n_cells):
        return _object_kind(column.astype(object))  # texts that a file format made a dictionary of
    found = {cell_kind(value) for value in values}
    if len(found) == 1 and found <= set(MEDIA):
        return _object_kind(column.astype(object))
    n_values = len({value.strip() if isinstance(value, str) else value for value in values})
    return _unless_constant(column, ColumnKind("category", f"dtype category, {counted(n_values, 'value')}"))


def _unless_constant(column: pd.Series, kind: ColumnKind) -> ColumnKind:
    """Return a kind, or that the column is empty, or holds one value and no gap."""
    n_present, n_distinct = int(column.notna().sum()), column.nunique()
    if not n_present:
        return EMPTY
    if n_distinct == 1 and n_present == len(column) and n_present >= CONSTANT_CELLS:
        return constant_kind(column.dropna().iloc[0], n_present)
    return kind


def _object_kind(column: pd.Series) -> ColumnKind:
    cells = [cell for cell in column.tolist() if not is_missing(cell) and not is_blank(cell)]
    if not cells:
        n_blank = int(column.notna().sum())
        facts = f"{counted(n_blank, 'cell', 'hold')} only blanks, and the others nothing"
        return ColumnKind("empty", facts) if n_blank else EMPTY
    types, name, has_gaps = {type(cell) for cell in cells}, str(column.name), len(cells) < len(column)
    if all(issubclass(kind, (bool, np.bool_)) for kind in types):
        return _constant_or(cells, has_gaps, ColumnKind("boolean", "true or false"))
    if all(issubclass(kind, NUMBERS) for kind in types):
        return dated_kind(column, number_kind(column, "numbers in a column of objects", name))
    if all(issubclass(kind, DATES) for kind in types):
        return _constant_or(cells, has_gaps, ColumnKind("date", "dates in a column of objects"))
    if all(issubclass(kind, (datetime.timedelta, np.timedelta64)) for kind in types):
        return _constant_or(cells, has_gaps, ColumnKind("duration", "lengths of time in a column of objects"))
    if all(issubclass(kind, SCALARS) for kind in types):
        return _with_row(text_kind(cells, name, has_gaps), column)
    return of_objects(column, cells, name)


def _with_row(found: ColumnKind, column: pd.Series) -> ColumnKind:
    """Return a kind whose facts name the row of the text that cannot be read as the others."""
    if found.odd is None:
        return found
    cells = zip(column.index, column.tolist(), strict=True)
    odd = found.odd.strip()
    label = next(label for label, cell in cells if not is_missing(cell) and str(cell).strip() == odd)
    shown = short_repr(found.odd)
    return found._replace(seen=found.seen.replace(f"but {shown}", f"but {shown} in row {label!r}", 1))


def _constant_or(cells: list[Any], has_gaps: bool, kind: ColumnKind) -> ColumnKind:
    is_constant = not has_gaps and len(cells) >= CONSTANT_CELLS and all(cell == cells[0] for cell in cells)
    return constant_kind(cells[0], len(cells)) if is_constant else kind
