"""Slices of rows by the values of columns, or by the modalities that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.table import is_missing

__all__ = ["name_patterns", "read_by", "read_column"]

_MOST_VALUES = 100  # of a column to slice by: a column with more values should be binned first


def read_by(by: Any, frame: pd.DataFrame | None, n: int) -> dict[str, pd.Categorical]:
    """Return, for each column in `by`, the slice of each row."""
    if by is None:
        return {}
    if isinstance(by, Mapping):
        given = {str(name): pd.Series(read_column(column, f"by[{name!r}]", n)) for name, column in by.items()}
    elif isinstance(by, str) or (isinstance(by, Sequence) and all(isinstance(name, str) for name in by)):
        names = [by] if isinstance(by, str) else list(by)
        if frame is None:
            raise ValueError(f"by={by!r} names columns of X, but X is not given; pass by={{{names[0]!r}: values}}.")
        absent = [name for name in names if name not in frame.columns]
        if absent:
            raise ValueError(f"by names columns that X lacks: {absent}; X has {list(frame.columns)}.")
        given = {name: frame[name] for name in names}
    else:
        raise TypeError(f"by must be a column name, a list of names, or a dict of values; got {type(by).__name__}.")
    taken = sorted({"all", "class", "modalities"} & set(given))
    if taken:
        raise ValueError(f"by names {taken}, which are slices already; pass a dict of values under other names.")
    return {name: _read_cells(name, column.tolist()) for name, column in given.items()}


def _read_cells(name: str, cells: list[Any]) -> pd.Categorical:
    values = ["missing" if is_missing(cell) else cell for cell in cells]
    try:
        order = sorted(set(values), key=lambda value: (value == "missing", str(type(value)), value))
    except TypeError:
        raise TypeError(f"by={name!r} holds {type(values[0]).__name__}; it must hold texts or numbers.") from None
    if len(order) > _MOST_VALUES:
        raise ValueError(
            f"by={name!r} holds {len(order)} values, more than {_MOST_VALUES}; put them into bins first, for example "
            "with pandas.cut."
        )
    return _cut(values, order)


def name_patterns(present: np.ndarray, names: list[str]) -> pd.Categorical:
    """Return the set of modalities of each row, named and ordered as in ``expected_scores_``."""
    patterns = sorted(set(map(tuple, present.T.tolist())), key=lambda p: (-sum(p), [not there for there in p]))
    nothing = "none" if "none" not in names else "no modality"
    held = {p: " + ".join(n for n, there in zip(names, p, strict=True) if there) or nothing for p in patterns}
    return _cut([held[tuple(p)] for p in present.T.tolist()], list(held.values()))


def _cut(values: list[Any], order: list[Any]) -> pd.Categorical:
    place = {value: i for i, value in enumerate(order)}
    return pd.Categorical.from_codes([place[value] for value in values], categories=pd.Index(order, dtype=object))


def read_column(column: Any, what: str, n: int) -> Any:
    if column is None:
        return None
    column = np.asarray(column)
    if column.shape != (n,):
        raise ValueError(f"{what} must hold one value per row, {n} of them; got shape {column.shape}.")
    return column
