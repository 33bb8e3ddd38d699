"""Reading of a table by the schema of a model."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import (
    BadRow,
    ColumnError,
    FarNumberWarning,
    MissingModalityWarning,
    UnseenCategoryWarning,
    counted,
    format_unread_cells,
    short_repr,
)
from ensemblefuse.schema._categories import Categories, CategoryReader
from ensemblefuse.schema._cells import LARGEST, CellPolicy, Fault, Reading, Schema, Unseen
from ensemblefuse.schema._far_numbers import far_numbers, far_text
from ensemblefuse.schema._reader import Reader, not_a_number
from ensemblefuse.schema._readers import READERS
from ensemblefuse.table import loose_text, plain_missing

__all__ = [
    "UnseenCounts",
    "read_by_schema",
    "read_or_raise",
    "schema_of",
    "unseen_counts",
    "unseen_text",
    "unseen_told_once",
    "warn_of_far_numbers",
]

_SHOWN = 5


def read_by_schema(X: pd.DataFrame, schema: Schema, *, fitting: bool = False) -> Reading:
    """Return a table with the cells of all columns in the one form that belongs to their kind.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        Columns that the schema lacks are left as they are; columns that X lacks are left out.
    schema : dict
        From `learn_schema`.
    fitting : bool
        Whether X is the table that the schema was learned from. Columns that only encoders read then stay as they are.

    Returns
    -------
    Reading

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.schema import learn_schema, read_by_schema
    >>> rooms = pd.DataFrame({"floor": [3, 7], "size": [20.5, 31.0]})
    >>> schema = learn_schema(rooms, {"floor": {"category"}, "size": {"number"}})
    >>> later = pd.DataFrame({"floor": ["3", "7.0", "8"], "size": ["25", None, "big"]})
    >>> reading = read_by_schema(later, schema)
    >>> reading.table["floor"].tolist(), reading.table["size"].tolist()
    ([3, 7, 8], [25.0, nan, nan])
    >>> reading.unseen, reading.faults[0].reason
    ([Unseen(position=2, column='floor', key='8')], "'big' is not a number")
    """
    plain = _plain_numbers(X, schema)
    new, faults = _without_large(X, [c for c in plain if not schema[c].get("encoded")])
    unseen: list[Unseen] = []
    for column, known in schema.items():
        if column in plain or column not in X.columns or (fitting and known.get("encoded")):
            continue
        reader = _reader(schema, column)
        cells = reader.read(X[column])
        if cells is not None:
            new[column] = cells
        faults += [Fault(i, column, value, reason) for i, value, reason in reader.faults]
        unseen += [Unseen(i, column, key) for i, key in reader.unseen]
    table = plain_missing(X)
    if new:
        table = table.copy(deep=False)
        for column, cells in new.items():
            table[column] = cells
    return Reading(table, sorted(faults, key=lambda fault: fault.position), unseen)


def _reader(schema: Schema, column: Any) -> Reader:
    known = schema[column]
    if known["kind"] != "category":
        return READERS[known["kind"]](known)
    categories = schema.categories.get(column) if isinstance(schema, _Kept) else None
    if categories is None:
        categories = Categories(known["known"])
        if isinstance(schema, _Kept):
            schema.categories[column] = categories
    return CategoryReader(known, categories)


def read_or_raise(
    X: pd.DataFrame,
    schema: Schema,
    *,
    fitting: bool = False,
    policies: Callable[[], Mapping[Any, CellPolicy]] | None = None,
) -> pd.DataFrame:
    """Return the table of `read_by_schema`, with one warning of all categories that fit never saw.

    Parameters
    ----------
    X, schema, fitting
        As in `read_by_schema`.
    policies : callable, optional
        Returns what becomes of unreadable cells, by column; called if there are any. Cells that count as missing then
        cause one warning. In columns without a policy they are an error.

    Raises
    ------
    ColumnError
        If a cell cannot be read; it lists all such cells.
    """
    table, faults, unseen = read_by_schema(X, schema, fitting=fitting)
    if faults:
        _raise_or_warn(X, faults, {} if policies is None else policies())
    told = _told.get()
    new = unseen_counts(category for category in unseen if told is None or category.column not in told)
    if new:
        text = unseen_text(new, schema, len(X))
        if told is not None:
            told.update(new)
            text += " Other parts of the table are not told of."
        warnings.warn(text, UnseenCategoryWarning, stacklevel=3)
    return table


# Columns of which this thread's current call of a function has told.
_told: ContextVar[set[Any] | None] = ContextVar("told", default=None)


@contextmanager
def unseen_told_once() -> Iterator[None]:
    """Warn of a column with new categories once, however many parts of the table are read inside, as in folds."""
    token = _told.set(set())
    try:
        yield
    finally:
        _told.reset(token)


def _raise_or_warn(X: pd.DataFrame, faults: list[Fault], policies: Mapping[Any, CellPolicy]) -> None:
    """Raise an error for cells that cannot be read, or warn of them where they count as missing."""
    kept = [fault for fault in faults if fault.column in policies and policies[fault.column].on_error == "missing"]
    bad = [fault for fault in faults if fault not in kept] or kept
    rows = [BadRow(X.index[i], column, short_repr(value), reason) for i, column, value, reason in bad]
    if bad is not kept:
        parameters = [policies[fault.column].parameter for fault in bad if fault.column in policies]
        raise ColumnError(rows, len(X), parameters[0] if parameters else None)
    text = format_unread_cells(rows, len(X), "all are in the attribute rows of this warning", missing=True)
    warnings.warn(MissingModalityWarning(text, rows=rows), stacklevel=4)


def schema_of(column_transformer: Any) -> Schema:
    """Return the schema of a fitted `ModalityTransformer`; empty for another object.

    Model files of old versions only know which columns are numbers. The schema is the same object at each call.
    """
    schema = getattr(column_transformer, "schema_", None)
    if not schema:
        return {column: {"kind": "number"} for column in getattr(column_transformer, "numeric_columns_", ())}
    with _lock:
        learned, kept = _kept.get(column_transformer, (None, None))
        if kept is None or learned is not schema:
            kept = _Kept(schema)
            _kept[column_transformer] = schema, kept
        return kept


class _Kept(dict):
    """A schema with the look-ups of its categories, which are made once for a model and not at each call."""

    def __init__(self, schema: Schema):
        super().__init__(schema)
        self.categories: dict[Any, Categories] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


# Look-ups of fitted transformers, with the schema that they belong to. A cache, not state.
_kept: WeakKeyDictionary[Any, tuple[Schema, _Kept]] = WeakKeyDictionary()

_lock = threading.Lock()


class UnseenCounts:
    """How often values that fit never saw stand in a column.

    Attributes
    ----------
    keys : Counter
        How many rows hold each category or tag.
    n_rows : int
        How many rows hold one of them or more.
    """

    def __init__(self, keys: Iterable[str] = (), n_rows: int = 0):
        self.keys, self.n_rows = Counter(keys), n_rows

    def add(self, other: UnseenCounts) -> None:
        """Count the rows of another part of the table, too."""
        self.keys.update(other.keys)
        self.n_rows += other.n_rows


def unseen_counts(unseen: Iterable[Unseen]) -> dict[Any, UnseenCounts]:
    """Return for each column how many rows hold each category that fit never saw."""
    rows: dict[Any, dict[int, dict[str, None]]] = {}
    for position, column, key in unseen:
        rows.setdefault(column, {}).setdefault(position, {})[key] = None
    return {c: UnseenCounts((key for keys in held.values() for key in keys), len(held)) for c, held in rows.items()}


def unseen_text(unseen: Mapping[Any, UnseenCounts], schema: Schema, n_rows: int) -> str:
    """Return one sentence for each column about its categories or tags that fit never saw."""
    facts: list[str] = []
    for column, counts in unseen.items():
        known = {loose_text(key): repr(key) for key in schema[column]["known"]}
        near = {key: known.get(loose_text(key)) for key in counts.keys}
        shown = [
            f"{short_repr(key)} in {n}" + (f" (did you mean {near[key]}?)" if near[key] else "")
            for key, n in counts.keys.most_common(_SHOWN)
        ]
        more = f" and {len(counts.keys) - _SHOWN} more" if len(counts.keys) > _SHOWN else ""
        what = "tags" if schema[column]["kind"] == "tags" else "categories"
        facts.append(
            f"Column {column!r} holds {what} that fit never saw in {counts.n_rows} of {counted(n_rows, 'row')}: "
            f"{', '.join(shown)}{more}."
        )
    return " ".join([*facts, "The model knows nothing of them."]) if facts else ""


def warn_of_far_numbers(
    X: pd.DataFrame, limits: Mapping[Any, Sequence[float]], ranges: Mapping[Any, Sequence[float]]
) -> None:
    """Give one warning of all numbers of a table that are far outside the range of fit, if there are any.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        As `read_or_raise` returns it.
    limits, ranges : dict of column to list
        From `limits_of`; and the smallest number of fit and the largest, first and last.
    """
    told = _told.get()
    far = {c: numbers for c, numbers in far_numbers(X, limits).items() if told is None or ("far", c) not in told}
    if far:
        warnings.warn(far_text(far, ranges, len(X)), FarNumberWarning, stacklevel=4)
        if told is not None:
            told.update(("far", column) for column in far)


def _plain_numbers(X: pd.DataFrame, schema: Schema) -> dict[Any, np.dtype]:
    """Return the columns of numbers that are arrays of numbers in their form already, with their dtypes."""
    return {
        column: dtype
        for column, dtype in zip(X.columns, X.dtypes, strict=True)
        if isinstance(dtype, np.dtype)
        and dtype.kind in "iuf"
        and (known := schema.get(column, {})).get("kind") == "number"
        and known.get("whole") in (None, dtype.kind in "iu")
    }


def _without_large(X: pd.DataFrame, columns: list[Any]) -> tuple[dict[Any, pd.Series], list[Fault]]:
    """Return columns without their numbers that are too large, all looked at in one go, and the faults."""
    if not columns:
        return {}, []
    # A limit of 64 bits: numpy would cast a Python float to the type of the column, and 16 bits do not hold it.
    large = np.abs(X[columns].to_numpy()) > np.float64(LARGEST)
    if not large.any():
        return {}, []
    faults = []
    for i, j in np.argwhere(large).tolist():
        value = X[columns[j]].iloc[i].item()
        faults.append(Fault(i, columns[j], value, not_a_number(value, value)))
    return {columns[j]: X[columns[j]].mask(large[:, j]) for j in np.flatnonzero(large.any(axis=0)).tolist()}, faults
