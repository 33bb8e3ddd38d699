"""Columns of arrays, lists, pictures and other objects."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import tag_format
from ensemblefuse.column_kinds._cells import SEEN_OF, cell_kind, is_blank, is_empty_list
from ensemblefuse.column_kinds._kind import CONSTANT_CELLS, ColumnKind, constant_kind, kind_of_form
from ensemblefuse.exceptions import counted, short_repr
from ensemblefuse.table import is_missing

__all__ = ["of_objects"]

_EMBEDDING_NAME = re.compile(r"(?:^|[^a-z])emb(?:ed(?:ding)?)?s?(?:$|[^a-z])", re.IGNORECASE)
_LEAST_UNIT = 16  # with this many numbers in each cell, a norm of 1 in all cells is not a coincidence


_ADVICE = {
    "dict": "make a column of each key: pandas.json_normalize",
    "bytes": "decode them, if they are texts",
    "Period": "give them as dates: .dt.to_timestamp()",
    "time": "give them as texts, such as '14:30'",
    "Timedelta": "give them as numbers: .dt.total_seconds()",
    "complex": "give the real and the imaginary part as columns",
}


def of_objects(column: pd.Series, cells: list[Any], name: str) -> ColumnKind:
    filled = [cell for cell in cells if not is_empty_list(cell)]
    if not filled:
        return ColumnKind("empty", f"{counted(len(cells), 'cell', 'hold')} empty lists, and the others nothing")
    kinds = Counter(cell_kind(cell) for cell in filled)
    if kinds.keys() <= {"tags", "text"}:  # a cell without tags is an empty list
        if _are_equal(column, cells):
            return constant_kind(cells[0], len(cells))
        found = tag_format(cells)
        if found is None and len(kinds) > 1 and tag_format(cells, declared=True) is None:
            return _mixed(column, kinds)  # texts that are no lists
        if found is None:
            return ColumnKind("other", "lists of texts that hardly ever repeat")
        return kind_of_form("tags", found, len(cells))
    if kinds.keys() == {"other"}:
        return ColumnKind("other", _untaken(filled[0]))
    if "tags" in kinds:
        return _mixed(column, kinds)
    kinds = Counter(cell_kind(cell) for cell in cells)
    if len(kinds) > 1:
        return _mixed(column, kinds)
    kind = next(iter(kinds))
    if kind == "series" and _are_equal(column, cells):
        return constant_kind(cells[0], len(cells))
    if kind == "series" and (reason := _embedding_reason(name, cells)):
        return ColumnKind("embedding", reason)
    return ColumnKind(kind, SEEN_OF[kind])


def _are_equal(column: pd.Series, cells: list[Any]) -> bool:
    """Return whether all cells of a column without gaps are lists of the same parts."""
    if len(cells) < len(column) or len(cells) < CONSTANT_CELLS:
        return False
    return all(type(cell) is type(cells[0]) and np.array_equal(cell, cells[0]) for cell in cells)


def _untaken(cell: Any) -> str:
    what = type(cell).__name__
    advice = _ADVICE.get(what.removesuffix("128"))
    return f"cells of type {what}, which no default encoder takes" + (f"; {advice}" if advice else "")


def _mixed(column: pd.Series, kinds: Counter[str]) -> ColumnKind:
    """Return that no reading takes all cells, with the row of the first one of a rarer kind."""
    most, n = next(pair for pair in kinds.most_common() if pair[0] != "other")
    others = sum(kinds.values())
    for label, cell in zip(column.index, column.tolist(), strict=True):
        is_empty = most == "tags" and is_empty_list(cell)
        if not (is_missing(cell) or is_blank(cell) or is_empty) and cell_kind(cell) != most:
            facts = f"{n} of {others} cells are of the kind {most!r}, but {short_repr(cell)} in row {label!r} is not"
            return ColumnKind("other", f"{facts}; correct such cells, or make them missing", f"could also be: {most}")
    raise AssertionError("one kind")  # pragma: no cover


def _embedding_reason(name: str, cells: list[Any]) -> str | None:
    """Return why arrays of one dimension are embeddings and not series of equal length; None without such evidence."""
    n_dims = len(cells[0])
    if any(len(cell) != n_dims or np.asarray(cell).dtype.kind not in "iuf" for cell in cells):
        return None
    if _EMBEDDING_NAME.search(name):
        return f"arrays of {n_dims} numbers, and the column's name says embedding"
    if n_dims >= _LEAST_UNIT and all(abs(np.linalg.norm(cell) - 1) < 1e-3 for cell in cells):
        return f"arrays of {n_dims} numbers, each of norm 1"
    return None
