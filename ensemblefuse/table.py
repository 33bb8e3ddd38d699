"""Tables that X may be: every input table is converted by `to_frame`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "EXACT",
    "SEPARATORS",
    "cell_frame",
    "check_flat",
    "from_arrow",
    "is_missing",
    "item",
    "list_columns",
    "lists_again",
    "loose_name",
    "loose_text",
    "plain_missing",
    "separator_in",
    "similar_names",
    "to_frame",
]

EXACT = 2**53  # beyond it, neighbouring whole numbers are the same float
SEPARATORS = (";", "\t", "|", ",")  # of columns in a file
_RARE_IN_NAMES = SEPARATORS[:3]  # a comma stands in many names, such as "weight, kg"


def to_frame(X: Any) -> pd.DataFrame:
    """Convert any accepted table to a `pandas.DataFrame`. A `DataFrame` is returned without a copy.

    Parameters
    ----------
    X : pandas or polars DataFrame or Series, or mapping of column name to sequence
        One row per sample.

    Returns
    -------
    DataFrame of shape (n_samples, n_columns)

    Raises
    ------
    TypeError
        If `X` is of another type.
    ValueError
        If two columns have the same name, if names have several levels, or if columns of a mapping differ in length.

    Examples
    --------
    >>> from ensemblefuse.table import to_frame
    >>> to_frame({"title": ["a red circle", None], "price": [1.5, 2.0]}).shape
    (2, 2)
    """
    if isinstance(X, pd.DataFrame):
        frame = X
    elif isinstance(X, pd.Series):
        frame = X.to_frame()
    elif isinstance(X, Mapping):
        frame = _from_mapping(X)
    elif type(X).__module__.split(".")[0] == "polars":
        frame = _from_polars(X)
    else:
        raise TypeError(
            "X must be a pandas or polars DataFrame, or a dict of columns, with one row per sample; got "
            f"{type(X).__name__}."
        )
    check_flat(frame)
    if not frame.columns.is_unique:
        repeated = frame.columns[frame.columns.duplicated()].unique().tolist()
        raise ValueError(f"X has several columns of the same name: {repeated}. Rename or drop all but one of each.")
    return frame


def cell_frame(X: Any) -> pd.DataFrame:
    """Convert a table, or the cells of one column as a list or an array, to a `pandas.DataFrame`.

    Examples
    --------
    >>> from ensemblefuse.table import cell_frame
    >>> cell_frame(["a red circle", None]).shape
    (2, 1)
    """
    if isinstance(X, np.ndarray) and X.ndim == 2:
        return to_frame(dict(enumerate(X.T))) if X.dtype.kind in "OU" else pd.DataFrame(X)
    if isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.ndim == 1):
        return to_frame({0: X})
    return to_frame(X)


def check_flat(X: Any) -> None:
    """Raise `ValueError` if the columns of a pandas table have names of several levels, which is no one's own name."""
    if isinstance(getattr(X, "columns", None), pd.MultiIndex):
        shown = X.columns[0] if len(X.columns) else ()
        raise ValueError(
            f"X has columns of {X.columns.nlevels} levels (a MultiIndex), such as {shown!r}; a column has one name "
            "here. Join the levels: X.columns = ['__'.join(map(str, levels)) for levels in X.columns]."
        )


def _from_mapping(X: Mapping) -> pd.DataFrame:
    for name, column in X.items():
        if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
            raise TypeError(
                f"Column {name!r} of X must be a sequence of cells; got {type(column).__name__}. A table of one row is "
                f"written {{{name!r}: [...]}}."
            )
    lengths = {name: len(column) for name, column in X.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The columns of X differ in length: {lengths}.")
    return pd.DataFrame({name: _as_series(column) for name, column in X.items()})


def _as_series(column: Any) -> pd.Series:
    if isinstance(column, pd.Series):
        return column.reset_index(drop=True)
    if isinstance(column, np.ndarray) and column.ndim == 1:
        return _series(column)
    cells = list(column)
    if cells and all(isinstance(cell, (bool, int, float, np.number)) or cell is None for cell in cells):
        column = pd.Series(cells)
        exact = column.dtype.kind != "f" or not any(isinstance(cell, int) and abs(cell) > EXACT for cell in cells)
        return column if exact else pd.Series(cells, dtype=object)
    values = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):  # cell by cell: numpy and pandas would split arrays and images into columns
        values[i] = cell
    return _series(values)


def _series(values: np.ndarray) -> pd.Series:
    try:
        return pd.Series(values)
    except UnicodeEncodeError:  # a lone surrogate, as in file names that are not UTF-8: pandas' text is UTF-8
        return pd.Series(values.astype(object), dtype=object)


def _from_polars(X: Any) -> pd.DataFrame:
    if hasattr(X, "collect"):
        raise TypeError("X is a lazy polars frame; call .collect() first.")
    frame = X if hasattr(X, "columns") else X.to_frame()
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.is_decimal() and (column.abs().max() or 0) < EXACT:
            columns[name] = pd.Series([None if v is None else float(v) for v in column.to_list()], dtype=float)
        elif column.dtype.is_integer() and column.null_count() and column.cast(float).abs().max() >= EXACT:
            columns[name] = pd.Series(column.to_list(), dtype=object)
        elif column.dtype.is_numeric() or (column.dtype.is_temporal() and str(column.dtype) != "Time"):
            columns[name] = column.to_pandas()
        elif str(column.dtype) == "Boolean":
            columns[name] = pd.Series(column.to_list(), dtype="bool" if column.null_count() == 0 else "boolean")
        elif column.dtype.is_nested():
            columns[name] = _as_series([_nested(cell) for cell in column.to_list()])
        else:
            columns[name] = pd.Series(column.to_list(), dtype=object)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))


def _nested(cell: Any) -> Any:
    """Return an array for a list. A struct stays a dict, and what makes no array stays a list."""
    if not isinstance(cell, list) or any(isinstance(part, dict) for part in cell):
        return cell
    try:
        return np.asarray(cell)
    except ValueError:  # lists of several lengths
        return cell


def from_arrow(table: Any) -> pd.DataFrame:
    """Return a pyarrow table, or a batch of one, as a frame whose large whole numbers are exact beside gaps, too."""
    import pyarrow as pa
    from pyarrow import compute

    def is_large(column: Any) -> bool:
        if not (pa.types.is_integer(column.type) and column.null_count):
            return False
        ends = compute.min_max(column).as_py()
        return ends["max"] is not None and max(-ends["min"], ends["max"]) >= EXACT

    return table.to_pandas(integer_object_nulls=any(is_large(column) for column in table.columns))


def is_missing(cell: Any) -> bool:
    """Return whether a cell is missing: None, NaN of any type, NaT or `pandas.NA`. An empty text is not missing.

    Examples
    --------
    >>> from ensemblefuse.table import is_missing
    >>> [is_missing(cell) for cell in (None, float("nan"), "", 0.0)]
    [True, True, False, False]
    """
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    if isinstance(cell, (float, np.floating)):
        return bool(np.isnan(cell))
    if isinstance(cell, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(cell))
    return isinstance(cell, Decimal) and cell.is_nan()


def item(cell: Any) -> Any:
    """Return a cell as an object of Python, if it is a number, a text or a date of NumPy; else as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.table import item
    >>> item(np.int64(3)), item("3")
    (3, '3')
    """
    return cell.item() if isinstance(cell, np.generic) else cell


def lists_again(cells: list[Any]) -> list[Any]:
    """Return cells with lists for the object arrays that polars and Parquet make of lists of paths or pictures."""
    return [
        cell.tolist() if isinstance(cell, np.ndarray) and cell.ndim == 1 and cell.dtype.kind in "OUT" else cell
        for cell in cells
    ]


def list_columns(columns: Any) -> list[Any]:
    """Return column names as a list. A single name becomes a list of one.

    Examples
    --------
    >>> from ensemblefuse.table import list_columns
    >>> list_columns("title"), list_columns(["price", "weight"])
    (['title'], ['price', 'weight'])
    """
    return [columns] if isinstance(columns, str) or not isinstance(columns, Iterable) else list(columns)


def similar_names(absent: Iterable[Any], present: Iterable[Any]) -> dict[Any, Any]:
    """Return for each absent name the present one that it may stand for: most often they differ by case or blanks.

    Examples
    --------
    >>> from ensemblefuse.table import similar_names
    >>> similar_names(["title", "price", "size"], ["Title", "price ", "colour"])
    {'title': 'Title', 'price': 'price '}
    """
    loose = {loose_name(name): name for name in present}
    near = {name: difflib.get_close_matches(loose_name(name), loose, n=1) for name in absent}
    return {name: loose[found[0]] for name, found in near.items() if found}


def loose_name(name: Any) -> str:
    """Return a name without what spellings of one name differ by: case, blanks, hyphens and underscores.

    Examples
    --------
    >>> from ensemblefuse.table import loose_name
    >>> loose_name(" Unit_price") == loose_name("unit price")
    True
    """
    return re.sub(r"[\s_-]+", "", str(name)).casefold()


def loose_text(text: str) -> str:
    """Return a cell without case and repeated blanks; hyphens count, unlike in names: -1 is not 1.

    Examples
    --------
    >>> from ensemblefuse.table import loose_text
    >>> loose_text(" New  York ") == loose_text("new york")
    True
    """
    return " ".join(text.split()).casefold()


def separator_in(columns: Iterable[Any], signs: Iterable[str] = _RARE_IN_NAMES) -> str | None:
    """Return the sign that seems to separate the columns of a table that was read with another one; None if no sign.

    Such a table has one column, and its name holds the sign. Where it is known that the table was not read with commas,
    `signs` may be all of `SEPARATORS`.

    Examples
    --------
    >>> from ensemblefuse.table import separator_in
    >>> separator_in(["title;price"]), separator_in(["title", "price"]), separator_in(["weight, kg"])
    (';', None, None)
    """
    names = list(columns)
    return next((sign for sign in signs if len(names) == 1 and sign in str(names[0])), None)


def plain_missing(X: pd.DataFrame) -> pd.DataFrame:
    """Return X with NaN in the missing cells of all columns that are not numeric. NaN can be sorted, NA cannot."""
    new = {}
    for column in X.columns:
        cells = X[column]
        if isinstance(cells.dtype, pd.CategoricalDtype):
            if _has_na(cells.cat.categories.dtype) and cells.hasnans:
                new[column] = cells.cat.rename_categories(cells.cat.categories.astype(object))
        elif cells.dtype == object or (_has_na(cells.dtype) and not _is_number(cells.dtype)):
            lost = cells.isna()
            if lost.any():
                new[column] = cells.astype(object).mask(lost, np.nan)
    return X.assign(**new) if new else X


def _has_na(dtype: Any) -> bool:
    return getattr(dtype, "na_value", None) is pd.NA


def _is_number(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
