"""What each column of the table of fit holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import is_mark
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.schema._category_key import category_key
from ensemblefuse.schema._cells import TRUTH, Unreadable, is_number, listed, types_held
from ensemblefuse.schema._written import given_form, written_dates, written_numbers, written_tags, written_tuples
from ensemblefuse.table import is_missing

__all__ = ["learn_schema"]

_OF_CATEGORIES = {"category", "ordinal", "listed"}


def learn_schema(
    X: pd.DataFrame, roles: Mapping[Any, set[str]], formats: Mapping[Any, Mapping[str, Any]] | None = None
) -> dict[Any, dict[str, Any]]:
    """Return what each column holds.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        The rows of fit.
    roles : dict of column to set of str
        How each column is read: by an ``"encoder"`` or an ``"encoder of a group"`` of columns, by a transformer of
        ``"category"``, ``"number"``, ``"date"``, ``"tags"``, ``"censored"`` (numbers at a limit), ``"numbers"``
        (several in a cell) or ``"text"``, or ``"other"``. An ``"ordinal"`` transformer is one of categories whose order
        counts, a ``"listed"`` one has its own list of categories, and a ``"closed"`` one stops at categories that fit
        never saw. Only these columns get an entry.
    formats : dict of column to dict, optional
        Written forms of columns that are known already, as `ensemblefuse.TableTransformer` holds them. The forms of
        other columns are found from their cells.

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
    formats = formats or {}
    learned = {
        column: _learn(X[column], how - {"closed"}, formats.get(column))
        for column, how in roles.items()
        if column in X.columns
    }
    for column, known in learned.items():
        if "closed" in roles[column] and known["kind"] == "category":
            known["closed"] = True
    return learned


def _learn(cells: pd.Series, roles: set[str], form: Mapping[str, Any] | None) -> dict[str, Any]:
    if form is not None and form.get("kind") == "category" and roles <= {"category", "ordinal"}:
        values = cells.dtype.categories if isinstance(cells.dtype, pd.CategoricalDtype) else cells
        return _learn_category(listed(pd.Series(values)), _with_texts(types_held(cells)))
    if form is not None and (given := given_form(cells, form, roles)) is not None:
        return given
    dtype = cells.dtype
    if roles <= {"encoder", "encoder of a group"}:
        if roles == {"encoder"} and cells.isna().all():
            return {"kind": "object", "encoded": True}  # nobody knows what it will hold
        return {**_learn_encoded(cells), "encoded": True}
    held = types_held(cells)
    if roles in ({"date"}, {"tags"}, {"censored"}, {"numbers"}):
        return _learn_for(roles, cells, held)
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
        known = _learn_category(listed(pd.Series(dtype.categories)), held)
        return known if is_category else {**known, "dtype": "category", "ordered": bool(dtype.ordered)}
    if is_category:
        return _learn_category(listed(cells), held)
    if "number" in roles and "text" in held and (written := written_numbers(cells)) is not None:
        return written
    numeric = is_number(dtype) and not (roles == {"text"} and not held)
    if numeric or "number" in roles or (held and held <= {"number", "boolean"}):
        return {"kind": "number"}
    if roles == {"other"} and held == {"number", "text"} and _are_marks(cells):
        return {"kind": "number"}
    is_text = held == {"text"} and column_kind(cells.dropna().head(50))[0] not in ("image", "audio", "video")
    return _learn_dated(cells, held) or {"kind": "text" if is_text else "object"}


def _are_marks(cells: pd.Series) -> bool:
    """Return whether all texts among the cells stand for missing cells."""
    return all(is_mark(cell) for cell in cells.tolist() if isinstance(cell, str))


def _learn_for(roles: set[str], cells: pd.Series, held: set[str]) -> dict[str, Any]:
    """Return how a column is read for a transformer of dates, tags or tuples; it refuses itself what is neither."""
    if roles == {"tags"}:
        return written_tags(cells) or {"kind": "object"}
    if roles != {"date"}:
        return written_tuples(cells, *roles) or {"kind": "object"}
    nothing = {"kind": "date", "dtype": "datetime64[us]"} if cells.isna().all() else {"kind": "object"}
    return _learn_dated(cells, held) or written_dates(cells) or nothing


def _learn_listed(cells: pd.Series, held: set[str]) -> dict[str, Any]:
    """Return how a column is read if its categories must stay what they are, to be compared or ordered."""
    if held == {"boolean"}:
        return {"kind": "boolean", "as": "category"}
    if "other" in held:
        return {"kind": "object"}
    values = cells.dtype.categories if isinstance(cells.dtype, pd.CategoricalDtype) else cells
    return _learn_dated(cells, held) or _learn_category(listed(pd.Series(values)), _with_texts(held), as_they_are=True)


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
    if is_number(cells.dtype):
        return {"kind": "number", "whole": pd.api.types.is_integer_dtype(cells.dtype)}
    dated = None if cells.dtype == object else _learn_dated(cells, set())
    if dated:
        return dated
    held = types_held(cells)
    is_whole = {isinstance(cell, (int, np.integer)) for cell in cells.tolist() if not is_missing(cell)}
    if held == {"number"} and len(is_whole) == 1:
        return {"kind": "object", "whole": is_whole.pop()}
    return {"kind": "text" if held == {"text"} else "object"}


def _learn_category(cells: Iterable[Any], held: set[str], *, as_they_are: bool = False) -> dict[str, Any]:
    """Return the categories of a column. Blanks around a text make no other category, unless they are compared."""
    known: dict[str, None] = {}
    for cell in cells:
        try:
            key = category_key(cell)
        except Unreadable:  # reading the table of fit says where
            continue
        if key is not None:
            known[key if as_they_are else key.strip()] = None
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


def _says_truth(cells: pd.Series) -> bool:
    texts = {cell.strip().lower() for cell in cells.tolist() if isinstance(cell, str)}
    return bool(texts - {""}) and texts - {""} <= TRUTH.keys() and all(not isinstance(c, bytes) for c in cells.tolist())


def _texts_of_truth(cells: pd.Series) -> list[str]:
    """Return the texts of false and true, as fit wrote them first."""
    written = {cell.strip().lower(): cell for cell in reversed(cells.tolist()) if isinstance(cell, str)}
    return [written.get(text, text) for text in ("false", "true")]
