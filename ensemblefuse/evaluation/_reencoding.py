"""Rows encoded once, of which one modality's block can be encoded anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse._config import config_context
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.evaluation._corruptions import Corruption, corrupt, kind_of_encoder
from ensemblefuse.exceptions import BadRow, EncodingError, format_bad_rows, reason_of, short_repr
from ensemblefuse.features import PresentRows
from ensemblefuse.features.present_rows import missing_rows
from ensemblefuse.fitted.model import ModelParts
from ensemblefuse.table import is_missing, plain_missing

__all__ = ["EncodedRows"]

# Decoded pictures and sounds are large: as many are held as go through the network at once.
_LARGE = ("image", "sound")


class EncodedRows:
    """Raw rows and their blocks.

    Parameters
    ----------
    parts : ModelParts
        Of a pipeline whose first step holds the encoders.
    X : DataFrame of shape (n_samples, n_columns)

    Attributes
    ----------
    names : list of str
        Modalities that can be encoded anew.
    encoders : dict of str to encoder or other fitted transformer
    present : dict of str to ndarray of shape (n_samples,), dtype bool
        Rows whose cell was encoded.
    blocks : DataFrame of shape (n_samples, n_features)
        What the first step makes of the rows.

    Raises
    ------
    TypeError
        If the model takes blocks, not raw rows.
    """

    def __init__(self, parts: ModelParts, X: pd.DataFrame):
        first = parts.model[0] if isinstance(parts.model, Pipeline) else None
        if not isinstance(first, ColumnTransformer):
            raise TypeError(
                "model must be a pipeline that begins with its encoders, as make_fusion_pipeline makes: raw cells are "
                f"corrupted, and {type(parts.model).__name__} is given blocks of numbers."
            )
        self.X = X
        self.blocks = pd.DataFrame(first.transform(X))
        self._later = parts.model[1:-1] if len(parts.model) > 2 else None
        self._fitted = {name: (fitted, columns) for name, fitted, columns in first.transformers_}
        self._places = first.output_indices_
        self._columns = parts.columns
        self.names = list(parts.columns)
        own = getattr(parts.core, "encoders_", {})  # of a fusion that encodes for itself, as a cascade does
        self.encoders = {name: _innermost(own.get(name, self._fitted[name][0])) for name in self.names}
        self.present = {name: ~_missing(self.blocks.iloc[:, self._places[name]]) for name in self.names}

    def finish(self, blocks: pd.DataFrame) -> Any:
        """What the fusion sees of blocks: other steps may stand between."""
        return blocks if self._later is None else self._later.transform(blocks)

    def notes(self, names: list[str]) -> list[str]:
        """In how many rows these modalities are missing, and so were not corrupted."""
        lost = {name: int((~self.present[name]).sum()) for name in names}
        facts = ", ".join(f"{name} in {n} of {len(self.X)} rows" for name, n in lost.items() if n)
        return [f"Missing, and left so: {facts}."] if facts else []

    def holds_texts(self, name: str) -> bool:
        """Whether a modality is one column of texts, by its encoder or by its cells."""
        encoder, columns = self.encoders[name], self._columns[name]
        if len(columns) > 1 or columns[0] not in self.X or getattr(encoder, "strings_are_paths", False):
            return False
        cells = self.X[columns[0]]
        if isinstance(encoder, BaseEncoder):
            known = [cell for cell in cells.tolist() if not is_missing(cell)]
            return bool(known) and all(isinstance(cell, str) for cell in known)
        return column_kind(cells)[0] == "text"

    def corrupted(self, name: str, corruption: Corruption, severity: int, random_state: int) -> pd.DataFrame:
        """Blocks in which one modality's is that of its corrupted cells.

        Raises
        ------
        ValueError
            If a cell cannot be corrupted, or not be encoded any more; the message names corruption, row and column.
        """
        place, encoder = self._places[name], self.encoders[name]
        n = len(self.X)
        large = kind_of_encoder(encoder) in _LARGE
        size = encoder._batch_size() if large else max(n, 1)
        with config_context(progress=False):  # one bar for the whole, not one a chunk
            parts = [
                self._chunk(name, corruption, severity, random_state, np.arange(start, min(start + size, n)))
                for start in range(0, n, size)
            ]
        block = pd.concat(parts)
        block.columns = self.blocks.columns[place]
        block.index = self.blocks.index
        sides = [self.blocks.iloc[:, : place.start], block, self.blocks.iloc[:, place.stop :]]
        return pd.concat(sides, axis=1)

    def _chunk(self, name: str, corruption: Corruption, severity: int, seed: int, rows: np.ndarray) -> pd.DataFrame:
        """Block of some rows with corrupted cells."""
        fitted, columns = self._fitted[name]
        encoder, present = self.encoders[name], self.present[name][rows]
        label, column = self.X.index[rows], ", ".join(self._columns[name])
        part = self.X.iloc[rows][self._columns[name]]
        is_group = _is_group(part)
        cells = _cells(part)
        new: list[Any] = [None] * len(rows)
        bad = []
        for i in np.flatnonzero(present):
            try:
                new[i] = corrupt(cells[i], corruption, severity, encoder=encoder, random_state=seed)
                if is_group and new[i] is not None and len(new[i]) != len(self._columns[name]):
                    raise ValueError(f"the corruption returned {len(new[i])} values of {len(self._columns[name])}")
            except (ImportError, MemoryError):
                raise
            except Exception as error:
                bad.append(BadRow(label[i], column, short_repr(cells[i]), reason_of(error)))
        self._refuse(bad, name, corruption, severity, "could not be corrupted")
        try:
            made = fitted.transform(plain_missing(_frame(new, part))[columns])
        except EncodingError as error:
            self._refuse(error.rows, name, corruption, severity, "could not be encoded after it")
        made = made.toarray() if sparse.issparse(made) else made
        made = made if isinstance(made, pd.DataFrame) else pd.DataFrame(np.asarray(made))
        lost = np.flatnonzero(_missing(made) & np.array([not _is_lost(cell) for cell in new], dtype=bool))
        unread = [BadRow(label[i], column, short_repr(new[i]), "the encoder takes it as missing") for i in lost]
        self._refuse(unread, name, corruption, severity, "could not be encoded after it")
        return made

    def _refuse(self, bad: list[BadRow], name: str, corruption: Corruption, severity: int, what: str) -> None:
        if bad:
            raise ValueError(
                f"corruption {corruption.name!r} of modality {name!r} at severity {severity}: {len(bad)} cells {what}:"
                f"\n{format_bad_rows(bad)}"
            )


def _cells(part: pd.DataFrame) -> list[Any]:
    """Cells of one column; of several, or of numbers, an array a row."""
    if _is_numeric(part):
        return list(part.to_numpy(dtype=np.float64, na_value=np.nan))
    return list(part.to_numpy(dtype=object)) if _is_group(part) else part.iloc[:, 0].tolist()


def _frame(cells: list[Any], part: pd.DataFrame) -> pd.DataFrame:
    """The columns of a modality with these cells, None for those that are missing."""
    if not _is_group(part):
        column = np.empty(len(cells), dtype=object)
        for i, cell in enumerate(cells):  # one by one: numpy would spread arrays
            column[i] = cell
        return pd.DataFrame({part.columns[0]: pd.Series(column, index=part.index, dtype=object)})
    lost = [np.nan if _is_numeric(part) else None] * part.shape[1]
    rows = pd.DataFrame([lost if cell is None else list(cell) for cell in cells], columns=part.columns)
    return rows.set_index(part.index).astype(float if _is_numeric(part) else object)


def _is_group(part: pd.DataFrame) -> bool:
    """Whether a row of these columns is one cell."""
    return part.shape[1] > 1 or _is_numeric(part)


def _innermost(fitted: Any) -> Any:
    """The encoder in a pipeline, or the transformer itself."""
    while True:
        if isinstance(fitted, PresentRows):
            fitted = fitted.transformer_
        elif isinstance(fitted, Pipeline):
            fitted = fitted[0]
        else:
            return fitted


def _is_numeric(part: pd.DataFrame) -> bool:
    return all(pd.api.types.is_numeric_dtype(dtype) for dtype in part.dtypes)


def _is_lost(cell: Any) -> bool:
    return is_missing(cell) or (isinstance(cell, np.ndarray) and cell.dtype.kind == "f" and bool(np.isnan(cell).all()))


def _missing(block: pd.DataFrame) -> np.ndarray:
    """Rows of a block that hold nothing; an embedding by numpy, since cell by cell it takes long."""
    if all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in block.dtypes):
        return np.isnan(block.to_numpy(dtype=float)).all(axis=1)
    return missing_rows(block)
