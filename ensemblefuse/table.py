"""What X may be, and what its columns are. Floor 1.

`to_frame` is the one door through which tables come in; `infer_modalities` (in `ensemblefuse.compose`, because it names
encoders) reads the column kinds that `column_kind` finds here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["column_kind", "is_missing", "to_frame"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"}
)
_EMBEDDING_NAME = re.compile(r"(?:^|[^a-z])emb(?:ed(?:ding)?)?s?(?:$|[^a-z])", re.IGNORECASE)
_LEAST_UNIT = 16  # numbers in cells that are all of norm 1, for that to be no chance


def to_frame(X: Any) -> pd.DataFrame:
    """Turn any accepted table into a `pandas.DataFrame`, without copying one that is one already.

    Parameters
    ----------
    X : pandas or polars DataFrame or Series, or mapping of column name to sequence
        One row a sample.

    Returns
    -------
    DataFrame of shape (n_samples, n_columns)

    Raises
    ------
    TypeError
        If `X` is something else.
    ValueError
        If two columns have one name, or the columns of a mapping differ in length.

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
            "X must be a pandas or polars DataFrame, or a dict of columns, with one row a sample; got "
            f"{type(X).__name__}."
        )
    if not frame.columns.is_unique:
        repeated = frame.columns[frame.columns.duplicated()].unique().tolist()
        raise ValueError(f"X has several columns of one name: {repeated}. Rename or drop all but one of each.")
    return frame


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
        return pd.Series(column)
    cells = list(column)
    if cells and all(isinstance(cell, (bool, int, float, np.number)) or cell is None for cell in cells):
        return pd.Series(cells)
    values = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):  # cell by cell: numpy and pandas would spread arrays and images over columns
        values[i] = cell
    return pd.Series(values)


def _from_polars(X: Any) -> pd.DataFrame:
    if hasattr(X, "collect"):
        raise TypeError("X is a lazy polars frame; call .collect() first.")
    frame = X if hasattr(X, "columns") else X.to_frame()
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.is_decimal():
            columns[name] = pd.Series([None if v is None else float(v) for v in column.to_list()], dtype=float)
        elif column.dtype.is_numeric() or column.dtype.is_temporal():
            columns[name] = column.to_pandas()
        elif str(column.dtype) == "Boolean":
            columns[name] = pd.Series(column.to_list(), dtype="bool" if column.null_count() == 0 else "boolean")
        elif column.dtype.is_nested():
            columns[name] = _as_series([None if cell is None else np.asarray(cell) for cell in column.to_list()])
        else:
            columns[name] = pd.Series(column.to_list(), dtype=object)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NaT or `pandas.NA`. An empty text is not missing.

    Examples
    --------
    >>> from ensemblefuse.table import is_missing
    >>> [is_missing(cell) for cell in (None, float("nan"), "", 0.0)]
    [True, True, False, False]
    """
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    return isinstance(cell, (float, np.floating)) and bool(np.isnan(cell))


def column_kind(column: pd.Series) -> tuple[str, str]:
    """Decide what a column holds, and why.

    Parameters
    ----------
    column : Series

    Returns
    -------
    kind : {"image", "audio", "video", "text", "number", "category", "series", "embedding", "graph",
        "empty", "ambiguous"}
    reason : str
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        cells = [cell for cell in column.tolist() if not is_missing(cell)]
        kind, reason = _object_kind(cells) if cells else ("empty", "no cell holds a value")
        return (kind, reason) if kind in ("image", "audio", "video", "empty") else ("category", "dtype category")
    if pd.api.types.is_bool_dtype(column.dtype):
        return "category", f"dtype {column.dtype}"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number", f"dtype {column.dtype}"
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        return "ambiguous", f"dtype {column.dtype}: a date is no modality as it stands"
    cells = [cell for cell in column.tolist() if not is_missing(cell)]
    if not cells:
        return "empty", "no cell holds a value"
    kind, reason = _object_kind(cells)
    says_embedding = _embedding_reason(str(column.name), cells) if kind == "series" else None
    return ("embedding", says_embedding) if says_embedding else (kind, reason)


def _embedding_reason(name: str, cells: list[Any]) -> str | None:
    """Why arrays of one dimension are embeddings, not series of one length; None if nothing says so."""
    n_dims = len(cells[0])
    if any(len(cell) != n_dims or np.asarray(cell).dtype.kind not in "iuf" for cell in cells):
        return None
    if _EMBEDDING_NAME.search(name):
        return f"arrays of {n_dims} numbers, and the name says embedding"
    if n_dims >= _LEAST_UNIT and all(abs(np.linalg.norm(cell) - 1) < 1e-3 for cell in cells):
        return f"arrays of {n_dims} numbers, each of norm 1"
    return None


def _object_kind(cells: list[Any]) -> tuple[str, str]:
    kinds = {_cell_kind(cell) for cell in cells}
    if len(kinds) > 1:
        return "ambiguous", "the cells are of several kinds: " + ", ".join(sorted(kinds))
    kind = kinds.pop()
    if kind != "text":
        return kind, {
            "image": "image files, PIL images or arrays of 2 or 3 dimensions",
            "audio": "sound files",
            "video": "video files, or arrays of 4 dimensions",
            "series": "arrays of one dimension",
            "graph": "graphs: edges between nodes",
        }.get(kind, "cells of a type that no default encoder takes")
    return _text_kind(cells)


def _cell_kind(cell: Any) -> str:
    if isinstance(cell, np.ndarray):
        return {1: "series", 4: "video"}.get(cell.ndim, "image")
    if isinstance(cell, (list, tuple)):
        return "series" if all(isinstance(value, (int, float, np.number)) for value in cell) else "ambiguous"
    if isinstance(cell, dict):
        return "graph" if "edge_index" in cell else "ambiguous"
    if type(cell).__module__.startswith(("torch_geometric.data.", "networkx.classes.")):
        return "graph"
    if type(cell).__module__.startswith("PIL."):
        return "image"
    if isinstance(cell, (str, os.PathLike)):
        suffix = PurePath(cell).suffix.lower() if len(str(cell)) < 4096 else ""
        if suffix in IMAGE_SUFFIXES:
            return "image"
        if suffix in AUDIO_SUFFIXES:
            return "audio"
        if suffix in VIDEO_SUFFIXES:
            return "video"
        return "text" if isinstance(cell, str) else "ambiguous"
    return "ambiguous"


def _text_kind(cells: list[str]) -> tuple[str, str]:
    """Free text or a category: words and repetition decide, and what lies between is ambiguous."""
    n_distinct, n_cells = len(set(cells)), len(cells)
    words = float(np.median([len(cell.split()) for cell in cells]))
    facts = f"{n_distinct} distinct values in {n_cells} cells, {words:g} words in the median"
    if words >= 3:
        return "text", facts
    if n_distinct <= max(2, min(50, n_cells // 10)):
        return "category", facts
    if words >= 2:
        return "text", facts
    return "ambiguous", f"{facts}: single words may be text, a category or an identifier"
