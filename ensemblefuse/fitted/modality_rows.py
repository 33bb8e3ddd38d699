"""The rows of a table as a fitted model sees them, one modality at a time: embeddings, cells, digests of cells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.exceptions import UnseenValueWarning
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.table import is_missing, to_frame

__all__ = ["ModalityRows", "row_position"]


class ModalityRows:
    """A table and its rows as a fitted model encodes them.

    Parameters
    ----------
    parts : FittedModel
    X : DataFrame, dict of columns, or ndarray of n_samples rows

    Attributes
    ----------
    labels : list
        Index labels of the rows; positions for an array.
    present : dict of str to ndarray of shape (n_samples,), dtype bool
    """

    def __init__(self, parts: FittedModel, X: Any):
        self.parts = parts
        self.raw = X if isinstance(X, np.ndarray) else parts.read(to_frame(X))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnseenValueWarning)  # `read` has told it
            self.encoded = parts.encode(self.raw)
        self.present = dict(zip(parts.names, parts.present(self.encoded), strict=True))
        self.labels = self.raw.index.tolist() if isinstance(self.raw, pd.DataFrame) else list(range(len(X)))

    def __len__(self) -> int:
        return len(self.labels)

    def block(self, name: str) -> np.ndarray | None:
        """Return the encoded block of shape (n_samples, n_columns), dtype float; None if it holds raw cells."""
        if name in self.parts.core.raw_blocks_:
            return None
        return np.asarray(self._part(self.encoded, name), dtype=float)

    def cells(self, name: str) -> pd.DataFrame:
        """Return the modality's columns of the raw table; without encoders, those of the encoded table."""
        columns = self.parts.columns.get(name)
        if columns is None or not isinstance(self.raw, pd.DataFrame):
            return pd.DataFrame(self._part(self.encoded, name))
        # If the table lacks a column, its cells are missing.
        return self.raw.reindex(columns=columns)

    def _part(self, table: Any, name: str) -> Any:
        positions = self.parts.core.blocks_[name]
        return table.iloc[:, positions] if isinstance(table, pd.DataFrame) else table[:, positions]

    def digests(self, name: str) -> list[bytes | None]:
        """Return a digest of the content of each row's cells, including files; None if the row lacks the modality."""
        block, there = self.block(name), self.present[name]
        if block is not None and name not in self.parts.columns:
            return [row.tobytes() if held else None for row, held in zip(block, there, strict=True)]
        cells, paths = self.cells(name), self.parts.reads_files(name)
        columns = [_plain(cells.iloc[:, i]) for i in range(cells.shape[1])]
        found: list[bytes | None] = []
        for i, held in enumerate(there):
            try:
                row = [column[i] for column in columns]
                found.append(cell_digest(row, strings_are_paths=paths) if held else None)
            except TypeError:  # an object that has no digest, such as a graph: its embedding is used instead
                found.append(None if block is None else block[i].tobytes())
        return found

    def may_repeat(self, name: str) -> bool:
        """Return whether rows may be equal by chance: the modality holds only numbers, categories or counts."""
        if name in self.parts.columns:
            cells = self.cells(name)
            kinds = {_kind(cells.iloc[:, i]) for i in range(cells.shape[1])}
            return kinds <= {"number", "date", "duration", "boolean", "category", "constant", "empty", "censored"}
        block = self.block(name)
        return block is not None and bool((np.nan_to_num(block) % 1 == 0).all())


def _kind(column: pd.Series) -> str:
    """Return the kind of a column; texts that are all equal are texts, which chance makes no more than once."""
    kind = column_kind(column)[0]
    return "text" if kind == "constant" and isinstance(column.dropna().iloc[0], str) else kind


def _plain(column: pd.Series) -> list[Any]:
    """Return cells that are equal if their contents are: numbers as float, and one kind of missing cell."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=float, na_value=np.nan).tolist()
    return [None if is_missing(cell) else cell for cell in column.tolist()]


def row_position(index: pd.Index, i: Any) -> int:
    """Return the position of the one row that has this index label.

    Raises
    ------
    ValueError
        If no row has the label, or several have it.
    """
    try:
        found = np.atleast_1d(np.arange(len(index))[index.get_loc(i)])
    except (KeyError, TypeError, pd.errors.InvalidIndexError):
        found = np.empty(0, dtype=int)
    if len(found) != 1:
        shown = ", ".join(map(repr, index[:3].tolist()))
        how_many = "no row has" if not len(found) else f"{len(found)} rows have"
        raise ValueError(
            f"{how_many} the index label {i!r}; the labels of X are {shown}{', ...' if len(index) > 3 else ''}. To "
            "use positions instead, pass X.reset_index(drop=True)."
        )
    return int(found[0])
