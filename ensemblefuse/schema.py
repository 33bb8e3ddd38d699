"""The schema of a raw table: what each column holds. It is learned in fit, and every later table is read by it.

A schema is a dict from column to a dict of plain values, so that every model file can hold it. ``kind`` says how the
cells are read:

- ``"number"``: numbers, numbers written as text, true and false as 1 and 0. For a column of an encoder, ``whole`` says
  whether the cells of fit were integers: an encoder may see a difference between 3 and 3.0.
- ``"category"``: what a cell says, whatever its type: 3, 3.0 and "3" are one category. ``known`` holds the categories
  of fit, in the form of `category_key`; ``values`` says what the cells of fit were ("text", "number", "date",
  "duration", "tuple", "other", "mixed").
- ``"boolean"``: true or false, also as 1 and 0 or as text. ``texts`` are those of false and true, if fit had texts.
- ``"date"``, ``"duration"``: dates and lengths of time, also as text in ISO 8601; ``dtype`` is their type in fit.
- ``"text"``: texts. A number among them becomes its text.
- ``"object"``: anything else, such as pictures or arrays. These cells pass as they are.
"""

from __future__ import annotations

import datetime
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from ensemblefuse.column_kinds import column_kind
from ensemblefuse.exceptions import BadRow, ColumnError, UnseenCategoryWarning, short_repr
from ensemblefuse.table import is_missing, plain_missing

__all__ = [
    "Fault",
    "Reading",
    "Schema",
    "Unseen",
    "category_key",
    "counted",
    "learn_schema",
    "read_by_schema",
    "read_or_raise",
    "schema_of",
    "unseen_text",
]

Schema = Mapping[Any, Mapping[str, Any]]

_LARGEST = float(np.finfo(np.float32).max)

_SHOWN = 5
_OF_CATEGORIES = {"category", "ordinal", "listed"}
_TRUTH = {"true": True, "false": False}
_WHOLE = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


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


class Reading(NamedTuple):
    """A table as the transformers of the model take it."""

    table: pd.DataFrame
    """Cells that cannot be read are missing in it."""
    faults: list[Fault]
    unseen: list[Unseen]


class _Unreadable(Exception):
    """Raised for one cell; the message is the reason."""


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


def _reader(schema: Schema, column: Any) -> _Reader:
    known = schema[column]
    if known["kind"] != "category":
        return _READERS[known["kind"]](known)
    categories = schema.categories.get(column) if isinstance(schema, _Kept) else None
    if categories is None:
        categories = _Categories(known["known"])
        if isinstance(schema, _Kept):
            schema.categories[column] = categories
    return _CategoryReader(known, categories)


def read_or_raise(X: pd.DataFrame, schema: Schema, *, fitting: bool = False) -> pd.DataFrame:
    """Return the table of `read_by_schema`, with one warning of all categories that fit never saw.

    Raises
    ------
    ColumnError
        If a cell cannot be read; it lists all such cells.
    """
    table, faults, unseen = read_by_schema(X, schema, fitting=fitting)
    if faults:
        raise ColumnError([BadRow(X.index[i], c, short_repr(value), why) for i, c, value, why in faults], len(X))
    if unseen:
        warnings.warn(unseen_text(counted(unseen), schema, len(X)), UnseenCategoryWarning, stacklevel=3)
    return table


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
        self.categories: dict[Any, _Categories] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class _Categories:
    """Look-ups of the categories that fit saw in one column."""

    def __init__(self, known: Iterable[str]):
        self.keys = dict.fromkeys(known)

    @cached_property
    def by_value(self) -> dict[Decimal, list[str]]:
        """The categories that say a number, by this number; only needed if a cell is none of them as it is."""
        found: dict[Decimal, list[str]] = {}
        for key in self.keys:
            value = _decimal(key)
            if value is not None:
                found.setdefault(value, []).append(key)
        return found

    @cached_property
    def by_truth(self) -> dict[str, list[str]]:
        """The categories that say true or false, by the text in small letters."""
        found: dict[str, list[str]] = {}
        for key in self.keys:
            if key.lower() in _TRUTH:
                found.setdefault(key.lower(), []).append(key)
        return found


# Look-ups of fitted transformers, with the schema that they belong to. A cache, not state.
_kept: WeakKeyDictionary[Any, tuple[Schema, _Kept]] = WeakKeyDictionary()
_lock = threading.Lock()


def counted(unseen: Iterable[Unseen]) -> dict[Any, Counter]:
    """Return for each column how many cells hold each category that fit never saw."""
    counts: dict[Any, Counter] = {}
    for _, column, key in unseen:
        counts.setdefault(column, Counter())[key] += 1
    return counts


def unseen_text(unseen: Mapping[Any, Counter], schema: Schema, n_rows: int) -> str:
    """Return one sentence for each column about its categories that fit never saw."""
    facts: list[str] = []
    for column, counts in unseen.items():
        known = {_loose(key): key for key in schema[column]["known"]}
        shown = [
            f"{short_repr(key)} in {n}" + (f" (did you mean {known[_loose(key)]!r}?)" if _loose(key) in known else "")
            for key, n in counts.most_common(_SHOWN)
        ]
        more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
        facts.append(
            f"Column {column!r} holds categories that fit never saw in {counts.total()} of {n_rows} rows: "
            f"{', '.join(shown)}{more}."
        )
    return " ".join([*facts, "The model knows nothing of them."]) if facts else ""


def _loose(text: str) -> str:
    """Return a category without case and repeated blanks; hyphens count, unlike in names: -1 is not 1."""
    return " ".join(text.split()).casefold()


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
    large = np.abs(X[columns].to_numpy()) > np.float64(_LARGEST)
    if not large.any():
        return {}, []
    faults = []
    for i, j in np.argwhere(large).tolist():
        value = X[columns[j]].iloc[i].item()
        faults.append(Fault(i, columns[j], value, _not_a_number(value, value)))
    return {columns[j]: X[columns[j]].mask(large[:, j]) for j in np.flatnonzero(large.any(axis=0)).tolist()}, faults


# ---------------------------------------------------------------------- what a column holds


def learn_schema(X: pd.DataFrame, roles: Mapping[Any, set[str]]) -> dict[Any, dict[str, Any]]:
    """Return what each column holds.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        The rows of fit.
    roles : dict of column to set of str
        How each column is read: by an ``"encoder"`` or an ``"encoder of a group"`` of columns, by a transformer of
        ``"category"``, ``"number"`` or ``"text"``, or ``"other"``. An ``"ordinal"`` transformer is one of categories
        whose order counts, a ``"listed"`` one has its own list of categories. Only these columns get an entry.

    Returns
    -------
    dict of column to dict

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.schema import learn_schema
    >>> X = pd.DataFrame({"paid": [True, None], "size": [20, 31]}, dtype=object)
    >>> learn_schema(X, {"paid": {"category"}, "size": {"other"}})
    {'paid': {'kind': 'boolean', 'as': 'category'}, 'size': {'kind': 'number'}}
    """
    return {column: _learn(X[column], how) for column, how in roles.items() if column in X.columns}


def _learn(cells: pd.Series, roles: set[str]) -> dict[str, Any]:
    dtype = cells.dtype
    if roles <= {"encoder", "encoder of a group"}:
        if roles == {"encoder"} and cells.isna().all():
            return {"kind": "object", "encoded": True}  # nobody knows what it will hold
        return {**_learn_encoded(cells), "encoded": True}
    held = _held(cells)
    is_category = roles <= _OF_CATEGORIES
    if is_category and ("listed" in roles or ("ordinal" in roles and held == {"other"})):
        return _learn_listed(cells, held)
    if is_category or "number" in roles:
        held = _with_texts(held)
    if held == {"boolean"}:
        return {"kind": "boolean", "as": "category" if is_category else "number"}
    if is_category and held == {"text"} and _says_truth(cells):
        return {"kind": "boolean", "as": "category", "texts": _texts_of_truth(cells)}
    if isinstance(dtype, pd.CategoricalDtype) and not roles & {"number", "text"} and not _are_names(cells, is_category):
        if held & {"other", "tuple"} and not is_category:
            return {"kind": "object"}  # as texts, intervals would lose their order
        known = _learn_category(_listed(pd.Series(dtype.categories)), held)
        return known if is_category else {**known, "dtype": "category", "ordered": bool(dtype.ordered)}
    if is_category:
        return _learn_category(_listed(cells), held)
    numeric = _is_number(dtype) and not (roles == {"text"} and not held)
    if numeric or "number" in roles or (held and held <= {"number", "boolean"}):
        return {"kind": "number"}
    is_text = held == {"text"} and column_kind(cells.dropna().head(50))[0] not in ("image", "audio", "video")
    return _learn_dated(cells, held) or {"kind": "text" if is_text else "object"}


def _learn_listed(cells: pd.Series, held: set[str]) -> dict[str, Any]:
    """Return how a column is read if its categories must stay what they are, to be compared or ordered."""
    if held == {"boolean"}:
        return {"kind": "boolean", "as": "category"}
    if "other" in held:
        return {"kind": "object"}
    values = cells.dtype.categories if isinstance(cells.dtype, pd.CategoricalDtype) else cells
    return _learn_dated(cells, held) or _learn_category(_listed(pd.Series(values)), _with_texts(held))


def _with_texts(held: set[str]) -> set[str]:
    """Return what a column holds if its bytes are texts."""
    return held - {"bytes"} | {"text"} if "bytes" in held else held


def _are_names(cells: pd.Series, is_category: bool) -> bool:
    """Return whether most categories of a dtype occur once, as paths do: then they are no categories."""
    return not is_category and len(cells.dtype.categories) > 20 and cells.nunique() > cells.notna().sum() / 2


def _learn_encoded(cells: pd.Series) -> dict[str, Any]:
    """Return the kind of a column that only encoders read: by its dtype, unless all cells are texts."""
    if pd.api.types.is_bool_dtype(cells.dtype) and not isinstance(cells.dtype, pd.CategoricalDtype):
        return {"kind": "boolean", "as": "number"}
    if _is_number(cells.dtype):
        return {"kind": "number", "whole": pd.api.types.is_integer_dtype(cells.dtype)}
    dated = None if cells.dtype == object else _learn_dated(cells, set())
    if dated:
        return dated
    held = _held(cells)
    is_whole = {isinstance(cell, (int, np.integer)) for cell in cells.tolist() if not is_missing(cell)}
    if held == {"number"} and len(is_whole) == 1:
        return {"kind": "object", "whole": is_whole.pop()}
    return {"kind": "text" if held == {"text"} else "object"}


def _learn_category(cells: Iterable[Any], held: set[str]) -> dict[str, Any]:
    known: dict[str, None] = {}
    for cell in cells:
        try:
            key = category_key(cell)
        except _Unreadable:  # reading the table of fit says where
            continue
        if key is not None:
            known[key] = None
    values = next(iter(held)) if len(held) == 1 else "mixed" if held else "text"
    return {"kind": "category", "values": values, "known": list(known)}


def _learn_dated(cells: pd.Series, held: set[str]) -> dict[str, Any] | None:
    dtype = cells.dtype
    if isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, np.dtype) and dtype.kind == "M"):
        return {"kind": "date", "dtype": str(dtype)}
    if isinstance(dtype, np.dtype) and dtype.kind == "m":
        return {"kind": "duration", "dtype": str(dtype)}
    if held == {"duration"}:
        return {"kind": "duration", "dtype": "timedelta64[us]"}
    if held != {"date"}:
        return None
    zones = {getattr(cell, "tzinfo", None) for cell in cells.tolist() if not is_missing(cell)}
    if None in zones:
        return {"kind": "date", "dtype": "datetime64[us]"} if len(zones) == 1 else None
    zone = str(next(iter(zones))) if len(zones) == 1 else "UTC"
    return {"kind": "date", "dtype": f"datetime64[us, {zone}]"}


def _is_number(dtype: Any) -> bool:
    """Return whether a dtype is one of real numbers; booleans are not."""
    return (
        pd.api.types.is_numeric_dtype(dtype)
        and not pd.api.types.is_bool_dtype(dtype)
        and not pd.api.types.is_complex_dtype(dtype)
    )


def _held(cells: pd.Series) -> set[str]:
    """Return what the cells of a column are: the names of `_TYPES`, or "other"."""
    dtype = cells.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _held(pd.Series(dtype.categories))
    if pd.api.types.is_bool_dtype(dtype):
        return {"boolean"} if cells.notna().any() else set()
    if _is_number(dtype):
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


def _listed(cells: pd.Series) -> list[Any]:
    """Return the cells as a list; short floats stay short, because 0.1 in 32 bits is another number in 64."""
    if pd.api.types.is_float_dtype(cells.dtype) and getattr(cells.dtype, "itemsize", 8) < 8:
        return list(cells.to_numpy(np.float32, na_value=np.nan))
    return cells.tolist()


def _says_truth(cells: pd.Series) -> bool:
    texts = {cell.strip().lower() for cell in cells.tolist() if isinstance(cell, str)}
    return (
        bool(texts - {""}) and texts - {""} <= _TRUTH.keys() and all(not isinstance(c, bytes) for c in cells.tolist())
    )


def _texts_of_truth(cells: pd.Series) -> list[str]:
    """Return the texts of false and true, as fit wrote them first."""
    written = {cell.strip().lower(): cell for cell in reversed(cells.tolist()) if isinstance(cell, str)}
    return [written.get(text, text) for text in ("false", "true")]


# ---------------------------------------------------------------------- the one form of a category


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
        cell = _decoded(cell)
    if isinstance(cell, str):
        return str(cell) if cell.strip() else None
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, np.timedelta64):
        return str(int(cell))
    if isinstance(cell, (float, np.floating, Decimal)):
        return _number_key(cell)
    if isinstance(cell, (datetime.date, np.datetime64)):
        return _date_key(pd.Timestamp(cell))
    if isinstance(cell, (datetime.timedelta, np.timedelta64)):
        return str(pd.Timedelta(cell))
    if _has_own_text(cell):
        return str(cell)
    raise _Unreadable(f"{short_repr(cell)} is not a category; a category is a text, a number, a date, true or false")


def _has_own_text(cell: Any) -> bool:
    """Return whether a value says what it is: it can be compared, and its text does not hold its place in memory."""
    kind = type(cell)
    says = kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__
    try:
        hash(cell)
    except TypeError:
        return False
    return says and not callable(cell) and not isinstance(cell, (complex, np.complexfloating))


def _number_key(cell: Any) -> str:
    if not abs(cell) <= _LARGEST:
        raise _Unreadable(f"{short_repr(_item(cell))} is not a category: it is not a finite number below 3.4e+38")
    if cell == int(cell):
        return str(int(cell))
    return format(cell.normalize(), "f") if isinstance(cell, Decimal) else str(cell)


def _date_key(stamp: pd.Timestamp) -> str:
    return stamp.isoformat() if stamp.tzinfo or stamp != stamp.normalize() else stamp.date().isoformat()


def _decoded(cell: bytes | bytearray) -> str:
    try:
        return bytes(cell).decode()
    except UnicodeDecodeError:
        raise _Unreadable(f"{len(cell)} bytes are not a text in UTF-8") from None


def _item(cell: Any) -> Any:
    return cell.item() if isinstance(cell, np.generic) else cell


# ---------------------------------------------------------------------- readers of the kinds


class _Reader:
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
        for i, cell in enumerate(_listed(cells)):
            if is_missing(cell):
                out.append(None)
                continue
            try:
                key = (type(cell), cell)
                if key not in seen:
                    seen[key] = self._attempt(cell, read)
                value, reason = seen[key]
            except TypeError:  # a cell without a hash, such as a list
                value, reason = self._attempt(cell, read)
            if reason is not None:
                self.faults.append((i, _item(cell), reason))
            out.append(value)
        return out

    @staticmethod
    def _attempt(cell: Any, read: Callable[[Any], Any]) -> tuple[Any, str | None]:
        try:
            return read(cell), None
        except _Unreadable as error:
            return None, str(error)


def _objects(values: list[Any], index: pd.Index) -> pd.Series:
    """Return values as a column of objects, with NaN for None: scikit-learn takes no other missing cell."""
    column = np.empty(len(values), dtype=object)
    column[:] = [np.nan if value is None else value for value in values]
    return pd.Series(column, index=index, dtype=object)


def _as_in_fit(cells: list[Any], index: pd.Index, is_whole: bool) -> pd.Series:
    """Return numbers, or texts of them, as the integers or floats that they were in fit; others stay as they are."""
    values = [None if is_missing(cell) else _one_number(cell, is_whole) for cell in cells]
    kinds = {type(value) for value in values}
    if kinds <= {float, type(None)}:
        return pd.Series([np.nan if value is None else value for value in values], index, dtype=np.float64)
    if kinds <= {int, type(None)} and all(value is None or abs(value) < 2**63 for value in values):
        return pd.Series(values, index, dtype="Int64" if type(None) in kinds else np.int64)
    return _objects(values, index)


def _one_number(cell: Any, is_whole: bool) -> Any:
    if isinstance(cell, str):
        cell = int(cell) if _WHOLE.fullmatch(cell) else float(cell)
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, (bool, np.timedelta64)):
        return int(cell) if is_whole or abs(int(cell)) > _LARGEST else float(cell)
    if isinstance(cell, (float, np.floating)):
        return int(cell) if is_whole and float(cell).is_integer() else float(cell)
    return cell


class _NumberReader(_Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        is_whole = self.known.get("whole")
        if _is_number(cells.dtype) and self.known.get("encoded"):
            as_in_fit = is_whole in (None, pd.api.types.is_integer_dtype(cells.dtype))
            return None if as_in_fit else _as_in_fit(cells.tolist(), cells.index, bool(is_whole))
        if _is_number(cells.dtype) or (
            pd.api.types.is_bool_dtype(cells.dtype) and not isinstance(cells.dtype, pd.CategoricalDtype)
        ):
            whole = pd.api.types.is_signed_integer_dtype(cells.dtype) and not cells.isna().any()
            numbers = pd.Series(cells.to_numpy(np.int64 if whole else np.float64, na_value=np.nan), cells.index)
            said = numbers.tolist()
        else:
            said = [_number_or_text(cell) for cell in cells.tolist()]
            numbers = pd.to_numeric(pd.Series(said, cells.index, dtype=object), errors="coerce")
            numbers = numbers.astype(float) if numbers.dtype.kind not in "iuf" else numbers
        lost = numbers.isna().to_numpy() & np.array([not is_missing(cell) for cell in said], dtype=bool)
        large = (numbers.abs() > _LARGEST).to_numpy() & (not self.known.get("encoded"))
        for i in np.flatnonzero(lost | large).tolist():
            cell = _item(cells.iloc[i])
            self.faults.append((i, cell, _not_a_number(cell, numbers.iloc[i])))
        if is_whole is not None:
            exact = [None if gap else cell for gap, cell in zip(numbers.isna(), said, strict=True)]
            return _as_in_fit(exact, cells.index, is_whole)
        return numbers.mask(large) if large.any() else numbers


def _number_or_text(cell: Any) -> Any:
    """Return a cell as `pandas.to_numeric` takes it; a text that is no number for a cell that cannot be one."""
    if is_missing(cell):
        return None
    if isinstance(cell, (bytes, bytearray)):
        cell = bytes(cell).decode(errors="replace")
    if isinstance(cell, str):
        text = cell.strip()
        truth = _TRUTH.get(text.lower()) if len(text) < 6 else None
        return (text or None) if truth is None else float(truth)
    if isinstance(cell, (bool, np.bool_, float, np.floating, Decimal)):
        return float(cell)
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, np.timedelta64):
        whole = int(cell)
        return whole if abs(whole) < 2**63 else float(whole) if abs(whole) < _LARGEST else "?"
    return "?"


def _not_a_number(cell: Any, number: float) -> str:
    shown = short_repr(cell)
    if np.isinf(number):
        return f"{shown} is not a finite number"
    if number == number:
        return f"{shown} is too large for float32, so it must be below 3.4e+38"
    return f"{shown} is not a number"


class _BooleanReader(_Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        values = self.each(cells, _truth)
        if texts := self.known.get("texts"):
            values = [None if value is None else texts[value] for value in values]
        if self.known["as"] == "category":
            return _objects(values, cells.index)
        if None in values:
            return pd.Series([np.nan if v is None else float(v) for v in values], cells.index, dtype=np.float64)
        return pd.Series(values, cells.index, dtype=bool)


def _truth(cell: Any) -> bool | None:
    given = _number_or_text(cell)
    if given is None:
        return None
    number = float(given) if not isinstance(given, str) or _NUMBER.fullmatch(given) else -1.0
    if number not in (0.0, 1.0):
        raise _Unreadable(f"{short_repr(_item(cell))} is neither true nor false")
    return number == 1.0


class _TextReader(_Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        if isinstance(cells.dtype, pd.StringDtype):
            return None
        held, other = cells.tolist(), (*_NOT_TEXT, np.str_, *(() if self.known.get("encoded") else _BYTES))
        if not any(isinstance(cell, other) and not is_missing(cell) for cell in held):
            return (
                _objects([None if is_missing(cell) else cell for cell in held], cells.index)
                if (isinstance(cells.dtype, (pd.CategoricalDtype, pd.ArrowDtype)))
                else None
            )
        return _objects(self.each(cells, self._as_text), cells.index)

    def _as_text(self, cell: Any) -> Any:
        if isinstance(cell, _NOT_TEXT):
            return category_key(cell)
        if isinstance(cell, _BYTES) and not self.known.get("encoded"):  # to an encoder they are the content of a file
            return _decoded(cell)
        return str(cell) if isinstance(cell, str) else cell


_BYTES = (bytes, bytearray)
_NOT_TEXT = (bool, np.bool_, int, float, np.number, Decimal, datetime.date, np.datetime64)


class _DateReader(_Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        dtype = pd.api.types.pandas_dtype(self.known["dtype"])
        if cells.dtype == dtype:
            return None
        zone = getattr(dtype, "tz", None)
        unit = np.datetime_data(dtype)[0] if isinstance(dtype, np.dtype) else dtype.unit
        stamps = self.each(cells, lambda cell: _stamp(cell, zone, unit))
        return pd.Series([pd.NaT if stamp is None else stamp for stamp in stamps], cells.index, dtype=dtype)


def _stamp(cell: Any, zone: Any, unit: str) -> pd.Timestamp | None:
    shown = short_repr(_item(cell))
    stamp = _parsed_date(cell)
    if stamp is None:
        return None
    if (stamp.tzinfo is None) != (zone is None):
        has = "no time zone, and the column had one in fit" if zone else "a time zone, and the column had none in fit"
        raise _Unreadable(f"{shown} has {has}")
    try:
        return (stamp if zone is None else stamp.tz_convert(zone)).as_unit(unit)
    except ValueError:
        raise _Unreadable(f"{shown} is outside the range of dates in units of {unit!r}") from None


def _parsed_date(cell: Any) -> pd.Timestamp | None:
    if isinstance(cell, (bytes, bytearray)):
        cell = _decoded(cell)
    if isinstance(cell, str):
        text = cell.strip()
        if not text:
            return None
        try:
            datetime.datetime.fromisoformat(text)
            return pd.Timestamp(text)
        except ValueError:
            raise _Unreadable(f"{short_repr(cell)} is not a date in ISO 8601, such as 2026-01-31") from None
    if isinstance(cell, (datetime.date, np.datetime64)):
        return pd.Timestamp(cell)
    raise _Unreadable(f"{short_repr(_item(cell))} is not a date")


class _DurationReader(_Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        if str(cells.dtype) == self.known["dtype"]:
            return None
        spans = self.each(cells, _span)
        return pd.Series([pd.NaT if span is None else span for span in spans], cells.index, dtype=self.known["dtype"])


def _span(cell: Any) -> pd.Timedelta | None:
    if isinstance(cell, str) and not cell.strip():
        return None
    if isinstance(cell, (str, datetime.timedelta, np.timedelta64)) and not _is_plain_number(cell):
        try:
            return pd.Timedelta(cell)
        except ValueError:
            pass
    raise _Unreadable(f"{short_repr(_item(cell))} is not a length of time, such as '2 days 06:30:00'")


def _is_plain_number(cell: Any) -> bool:
    return isinstance(cell, str) and _NUMBER.fullmatch(cell.strip()) is not None


class _CategoryReader(_Reader):
    """Reader of categories: first by their key, then by their value."""

    def __init__(self, known: Mapping[str, Any], categories: _Categories):
        super().__init__(known)
        self.values, self.keys, self.categories = known["values"], categories.keys, categories

    def read(self, cells: pd.Series) -> pd.Series | None:
        keys = self.each(cells, self._key)
        self.unseen = [(i, key) for i, key in enumerate(keys) if key is not None and key not in self.keys]
        values = [None if key is None else self._value(key) for key in keys]
        if self.known.get("dtype") != "category":
            return _objects(values, cells.index)
        new = dict.fromkeys(key for _, key in self.unseen)
        categories = [self._value(key) for key in (*self.keys, *new)]
        held = pd.Categorical(values, categories=categories, ordered=self.known["ordered"])
        return pd.Series(held, index=cells.index)

    def _key(self, cell: Any) -> str | None:
        key = category_key(cell)
        if key is None:
            return None
        is_text = isinstance(cell, (str, bytes, bytearray))
        is_number = not is_text and isinstance(cell, (int, float, np.number, Decimal)) and not isinstance(cell, bool)
        is_known = key in self.keys
        if is_known and not (is_number and self.values == "text"):
            return key
        near = self._of_equal_value(key, is_text)
        if is_known and len(near) < 2:
            return key
        if len(near) > 1:
            shown = " or ".join(map(repr, near[:3]))
            raise _Unreadable(f"{short_repr(_item(cell))} may be {shown}, categories of fit; give it as text")
        return near[0] if near else key

    def _of_equal_value(self, key: str, is_text: bool) -> list[str]:
        """Return the categories of fit that have the value of a cell."""
        text = key.strip().lower()
        if text in _TRUTH:
            same, by_value = self.categories.by_truth.get(text, []), self.categories.by_value
            only_truth = not same and len(self.keys) <= 2 and set(by_value) <= {0, 1}
            return same or (by_value.get(Decimal(int(_TRUTH[text])), []) if only_truth else [])
        if self.values == "date":
            try:
                stamp = _parsed_date(key)
            except _Unreadable:
                return []
            return [] if stamp is None else [_date_key(stamp)] if _date_key(stamp) in self.keys else []
        value = _decimal(key)
        near = [] if value is None else self.categories.by_value.get(value, [])
        if is_text and self.values != "number":
            near = [other for other in near if _trimmed(other) == _trimmed(key)]
        return near

    def _value(self, key: str) -> Any:
        """Return a category as the transformers take it."""
        if self.values != "number" or not _NUMBER.fullmatch(key):
            return key
        return int(key) if re.fullmatch(r"-?\d+", key) else float(key)


def _decimal(text: str) -> Decimal | None:
    """Return the number that a text says; None if it says none, or one of absurd length."""
    text = text.strip()
    if len(text) > 60 or not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _trimmed(text: str) -> str:
    """Return a number without zeros at the end of its fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text


class _AnyReader(_Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        is_whole = self.known.get("whole")
        if is_whole is None:
            return None
        held = cells.tolist()
        other = (float, np.floating) if is_whole else (int, np.integer)
        if not any(isinstance(cell, other) and not is_missing(cell) for cell in held):
            return None
        return _objects(
            [cell if isinstance(cell, str) or is_missing(cell) else _one_number(cell, is_whole) for cell in held],
            cells.index,
        )


_READERS: dict[str, Callable[[Mapping[str, Any]], _Reader]] = {
    "number": _NumberReader,
    "boolean": _BooleanReader,
    "text": _TextReader,
    "date": _DateReader,
    "duration": _DurationReader,
    "object": _AnyReader,
}
