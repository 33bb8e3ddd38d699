"""Reader of a table in chunks, with cells unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ensemblefuse.cli._messages import CommandError
from ensemblefuse.cli._tables import PLAIN, TextForm, check_one_level, check_table_suffix, unreadable
from ensemblefuse.table import from_arrow

# Texts that pandas takes as missing cells in a CSV file; `read_table` uses the same ones for the tables of `fit`.
MISSING = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
_AT_ONCE = 50_000  # rows
_BAD_FILE = (ValueError, OSError, ImportError, pd.errors.ParserError)


class TableStream:
    """Chunks of a CSV, TSV or Parquet file.

    Parameters
    ----------
    path : Path
    chunk_rows : int
    form : TextForm

    Attributes
    ----------
    columns : list of str
    """

    def __init__(self, path: Path, chunk_rows: int, form: TextForm = PLAIN):
        self.path, self.chunk_rows, self.form = path, chunk_rows, form
        self.kind = check_table_suffix(path)
        with self._told():
            self.columns = self._columns()
        for column in {c for c in self.columns if self.columns.count(c) > 1}:
            raise CommandError(f"{path} has several columns with the name {column!r}.")

    def _columns(self) -> list[str]:
        if self.kind != "Parquet":
            return [str(c) for c in pd.read_csv(self.path, **self._options(header=None, nrows=1)).iloc[0]]
        from pyarrow import parquet

        table = parquet.read_schema(self.path).empty_table().to_pandas()
        check_one_level(table, self.path)
        return [str(c) for c in table.columns]

    def _options(self, **change: Any) -> dict[str, Any]:
        return {**self.form.options(self.kind), "dtype": str, "keep_default_na": False, "na_filter": False, **change}

    def chunks(self, skip: int = 0, *, typed: bool = False) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """Yield each chunk twice: as it will be written, and for the model, with None for missing cells.

        Parameters
        ----------
        skip : int
            Rows to leave out at the start.
        typed : bool
            Whether CSV columns that hold only numbers become numbers in the first table; that takes a pass over the
            whole file.
        """
        found = False
        numeric = self._numeric_columns() if typed and self.kind != "Parquet" else {}
        with self._told():
            for table in self._batches(skip) if self.kind == "Parquet" else self._lines(skip):
                found = True
                model_table = _with_none(table) if self.kind == "Parquet" else table.apply(_cells)
                for column, dtype in numeric.items():
                    table[column] = pd.to_numeric(_cells(table[column])).astype(dtype)
                yield table, model_table
        if not found and not skip:
            raise CommandError(f"{self.path} holds no rows.")

    def _lines(self, skip: int = 0) -> Iterator[pd.DataFrame]:
        position = 0
        with pd.read_csv(self.path, chunksize=self.chunk_rows, **self._options()) as tables:
            for table in tables:
                position += len(table)
                if position > skip:
                    yield table.iloc[max(0, len(table) - (position - skip)) :].copy()

    def _batches(self, skip: int = 0) -> Iterator[pd.DataFrame]:
        from pyarrow import parquet

        position = 0
        with parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=self.chunk_rows):
                table = from_arrow(batch)
                if isinstance(table.index, pd.RangeIndex):  # otherwise each batch would begin at 0
                    table.index = pd.RangeIndex(position, position + len(table))
                table.columns = [str(column) for column in table.columns]
                position += len(table)
                if position > skip:
                    yield table.iloc[max(0, len(table) - (position - skip)) :]

    def _numeric_columns(self) -> dict[str, str]:
        """Return the columns of a CSV file that hold only numbers, and their types."""
        types = {column: "int64" for column in self.columns}
        with self._told():
            for table in self._lines():
                for column in list(types):
                    cells = _cells(table[column])
                    numbers = pd.to_numeric(cells, errors="coerce")
                    if (numbers.isna() & cells.notna()).any():
                        del types[column]
                    elif numbers.dtype.kind != "i":
                        types[column] = "float64"
        return types

    def _told(self) -> Any:
        return _Told(self.path, self.kind, self.form)


def read_cells(path: Path, form: TextForm) -> pd.DataFrame:
    """Read a whole table as `TableStream` does: the cells of a CSV file are texts, which a model's schema reads."""
    return pd.concat([table for _, table in TableStream(path, _AT_ONCE, form).chunks()])


class _Told:
    """Context manager that turns errors of readers into one sentence."""

    def __init__(self, path: Path, kind: str, form: TextForm):
        self.path, self.kind, self.form = path, kind, form

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, _BAD_FILE):
            raise unreadable(self.path, self.kind, error, self.form) from error


def _cells(texts: pd.Series) -> pd.Series:
    """Return the texts with None for those that mean a missing cell."""
    return pd.Series([None if text in MISSING else text for text in texts.tolist()], texts.index, dtype=object)


def _with_none(table: pd.DataFrame) -> pd.DataFrame:
    """Return texts as `object` cells, with None for empty cells, as `read_table` does."""
    new = {}
    for column in table.columns:
        if pd.api.types.is_string_dtype(table[column].dtype) or table[column].dtype == object:
            cells = table[column].astype(object)
            new[column] = cells.where(cells.notna(), None)
    return table.assign(**new)
