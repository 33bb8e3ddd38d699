"""Files of vectors that were computed elsewhere: a matrix in .npy, or a table in Parquet. Never reads a pickle."""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from ensemblefuse.table import list_columns

__all__ = ["VectorFile", "open_vectors", "usual_length"]

_NPY = b"\x93NUMPY"
_PARQUET = b"PAR1"
_LARGEST_HEADER = 10_000


class VectorFile:
    """Vectors by row number or by key.

    Attributes
    ----------
    n_dims : int
        Length of a vector.
    """

    def __init__(self, name: str, matrix: np.ndarray, keys: pd.Index | None = None, lengths: np.ndarray | None = None):
        self._name = name
        self._matrix = matrix  # one row for each key with a vector of the usual length
        self._keys = keys
        self._lengths = lengths  # lengths of the vectors of all keys; -1 for a key without one
        self.n_dims = int(matrix.shape[1])
        self._place = None if lengths is None else np.cumsum(lengths == self.n_dims) - 1

    def first_key(self) -> Any:
        """Return the first key that has a vector of finite numbers; None if there is none."""
        row = next((row for row, vector in enumerate(self._matrix) if np.isfinite(vector).all()), None)
        if row is None or self._keys is None:
            return row
        return self._keys[row if self._place is None else int(self._place.searchsorted(row))]

    def vector(self, cell: Any) -> np.ndarray:
        """Return the vector of a row number or key, of shape (n_dims,).

        Raises
        ------
        TypeError, ValueError
            If the cell is not a key, or the file has no vector of the usual length for it.
        """
        if self._keys is None:
            row = _whole_number(cell)
            if not 0 <= row < len(self._matrix):
                raise ValueError(f"{self._name} holds rows 0 to {len(self._matrix) - 1}, not row {row}")
            return self._matrix[row]
        row = self._row_of(cell, self._keys)
        if self._lengths is None or self._place is None:
            return self._matrix[row]
        if self._lengths[row] != self.n_dims:
            found = "no embedding" if self._lengths[row] < 0 else f"{self._lengths[row]} numbers"
            raise ValueError(f"{self._name} holds {found} for this key; the others have {self.n_dims} numbers")
        return self._matrix[self._place[row]]

    def _row_of(self, cell: Any, keys: pd.Index) -> int:
        key = cell if isinstance(cell, str) else _whole_number(cell)
        if isinstance(key, str) == pd.api.types.is_integer_dtype(keys.dtype):
            kind = "text" if isinstance(key, str) else "whole numbers"
            raise TypeError(f"the keys of {self._name} are of type {keys.dtype}, not {kind}")
        try:
            return int(keys.get_loc(key))
        except KeyError:
            raise ValueError(f"{self._name} holds no such key") from None


def open_vectors(source: Any, key: str | None, columns: Any, *, needed_by: str) -> VectorFile:
    """Open a file. A process opens it again only if the file has changed.

    Parameters
    ----------
    source : str or path
        A matrix of shape (n_rows, n_dims) in .npy, which is mapped into memory; or a table in Parquet, from which the
        key and the vectors are read as float32.
    key : str or None
        Column of the keys in Parquet.
    columns : str, sequence of str or None
        A column of lists, or numeric columns, in Parquet.
    needed_by : str
        The class that the user called, for the messages.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If the file does not exist, or has other content.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"{needed_by}: source must be the path of an .npy or Parquet file; got {type(source).__name__}. Save a "
            "matrix with numpy.save, so that it stays out of saved models."
        )
    path = os.fspath(source)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{needed_by}: there is no file {path!r}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{needed_by}: {path!r} is not a regular file.")
    wanted = columns if columns is None or isinstance(columns, str) else tuple(columns)
    facts = (status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)
    return _open(path, facts, key, wanted, needed_by)


@functools.lru_cache(maxsize=8)
def _open(path: str, facts: tuple, key: str | None, columns: Any, needed_by: str) -> VectorFile:
    with open(path, "rb") as file:
        start = file.read(len(_NPY))
    where = f"{needed_by}: {Path(path).name}"
    if start == _NPY:
        if key is not None or columns is not None:
            raise ValueError(f"{where} is a matrix, whose keys are row numbers; key and columns are for Parquet.")
        return VectorFile(Path(path).name, _mapped(path, where))
    if start[:4] == _PARQUET:
        return _ParquetTable(path, where).read(key, columns)
    raise ValueError(f"{where} is neither an .npy file nor a Parquet file.")


def _mapped(path: str, where: str) -> np.ndarray:
    try:
        matrix = np.lib.format.open_memmap(path, mode="r", max_header_size=_LARGEST_HEADER)
    except (ValueError, EOFError, OSError, OverflowError, SyntaxError, TypeError) as error:
        raise ValueError(f"{where} is damaged, cut short, or holds objects: {str(error).splitlines()[0]}.") from error
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "fiu":
        raise ValueError(
            f"{where} must hold a matrix of numbers of shape (n_rows, n_dims); it holds {matrix.dtype} of shape "
            f"{matrix.shape}."
        )
    return np.asarray(matrix)


class _ParquetTable:
    def __init__(self, path: str, where: str):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa: Any = pa
        self._where = where
        self._name = Path(path).name
        try:
            self._file = pq.ParquetFile(path)
            self._schema = self._file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            self._damaged(error)

    def read(self, key: str | None, columns: Any) -> VectorFile:
        if key is None:
            self._refuse(f"is a table; name the column of its keys by key=, one of: {self._schema.names}")
        names = self._chosen(key, columns)
        try:
            table = self._file.read(columns=[key, *names])
        except (self._pa.ArrowException, OSError) as error:
            self._damaged(error)
        keys = self._keys(table, key)
        if not _is_list(self._pa, self._schema.field(names[0]).type):
            numbers = [table[name].cast(self._pa.float32(), safe=False).to_numpy() for name in names]
            return VectorFile(self._name, np.column_stack(numbers), keys)
        matrix, lengths = self._lists(table[names[0]].combine_chunks(), names[0])
        return VectorFile(self._name, matrix, keys, lengths)

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"{self._where} {what}.")

    def _damaged(self, error: Exception) -> NoReturn:
        raise ValueError(f"{self._where} cannot be read: {str(error).splitlines()[0]}.") from error

    def _chosen(self, key: str, columns: Any) -> list[str]:
        """Return the names of the columns that hold the vectors: one of lists, or several of numbers."""
        wanted = None if columns is None else list_columns(columns)
        absent = [name for name in [key, *(wanted or [])] if name not in self._schema.names]
        if absent:
            self._refuse(f"lacks the columns {absent}; it has {self._schema.names}")
        kinds = {name: self._kind(name) for name in self._schema.names if name != key}
        lists = [name for name, kind in kinds.items() if kind == "list"]
        numbers = [name for name, kind in kinds.items() if kind == "number"]
        if wanted is None:
            if len(lists) > 1 or not (lists or numbers):
                self._refuse(f"has {len(lists)} columns of lists of numbers {lists}; name one by columns=")
            return lists or numbers
        found = {kinds.get(name) for name in wanted}
        if not wanted or not (found == {"number"} or (found == {"list"} and len(wanted) == 1)):
            self._refuse(f"columns= must name one column of lists of numbers, or columns of numbers; got {columns!r}")
        return wanted

    def _kind(self, name: str) -> str:
        pa = self._pa
        kind = self._schema.field(name).type
        is_list = _is_list(pa, kind)
        value = kind.value_type if is_list else kind
        is_number = pa.types.is_integer(value) or pa.types.is_floating(value)
        return ("list" if is_list else "number") if is_number else "other"

    def _keys(self, table: Any, key: str) -> pd.Index:
        pa = self._pa
        column = table[key]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if not is_text and not pa.types.is_integer(column.type):
            self._refuse(f"has keys of type {column.type} in {key!r}; they must be whole numbers or text")
        if column.null_count or not len(column):
            self._refuse(f"has {column.null_count} empty keys of {len(column)} in {key!r}")
        keys = pd.Index(column.to_numpy() if not is_text else np.asarray(column.to_pylist(), dtype=object))
        if not keys.is_unique:  # this also builds the index before several threads use it
            self._refuse(f"has repeated keys in {key!r}: {keys[keys.duplicated()].unique()[:5].tolist()}")
        return keys

    def _lists(self, column: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of the usual length, and the length of every row; -1 for null."""
        import pyarrow.compute as pc

        compute: Any = pc
        lengths = compute.fill_null(compute.list_value_length(column).cast("int64"), -1).to_numpy(zero_copy_only=False)
        n_dims = usual_length(lengths[lengths > 0].tolist())
        if n_dims is None:
            self._refuse(f"holds no embedding in {name!r}")
        kept = column.filter(self._pa.array(lengths == n_dims))
        values = kept.flatten().cast(self._pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        return values.reshape(-1, n_dims), lengths


def usual_length(lengths: list[int]) -> int | None:
    """Return the most frequent length, of several the first; None if the list is empty."""
    return Counter(lengths).most_common(1)[0][0] if lengths else None


def _is_list(pa: Any, kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _whole_number(cell: Any) -> int:
    """Return a key as an int. Whole floats are accepted: a column of ints with a missing cell has floats."""
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, bool):
        return int(cell)
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return int(cell)
    raise TypeError(f"expected a row number or key, got {type(cell).__name__}")
