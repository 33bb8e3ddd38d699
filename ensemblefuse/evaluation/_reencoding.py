"""Rows that were encoded once, with one modality encoded again after corruption."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse._config import config_context
from ensemblefuse.blocks import SEPARATOR, WORDS
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.evaluation._corruptions import Corruption, corrupt, kind_of_encoder
from ensemblefuse.exceptions import (
    BadRow,
    EncodingError,
    UnseenValueWarning,
    counted,
    format_bad_rows,
    reason_of,
    short_repr,
)
from ensemblefuse.features import PresentRows
from ensemblefuse.features.present_rows import missing_rows
from ensemblefuse.fitted.model import FittedModel, replace_columns
from ensemblefuse.modalities import row_texts
from ensemblefuse.table import is_missing, list_columns

__all__ = ["EncodedRows"]

# Decoded pictures and sounds are large: only as many are held as go through the network at once.
_LARGE = ("image", "sound")


class EncodedRows:
    """Raw rows and their encoded blocks.

    Parameters
    ----------
    parts : FittedModel
        Its model must be a pipeline with the encoders in the first step.
    X : DataFrame of shape (n_samples, n_columns)

    Attributes
    ----------
    names : list of str
        Modalities that can be encoded again.
    encoders : dict of str to encoder or other fitted transformer
    present : dict of str to ndarray of shape (n_samples,), dtype bool
        Rows with a cell of the modality that was encoded.
    blocks : DataFrame of shape (n_samples, n_features)
        Output of the first step.

    Raises
    ------
    TypeError
        If the model takes blocks instead of raw rows.
    """

    def __init__(self, parts: FittedModel, X: pd.DataFrame):
        first = parts.model[0] if isinstance(parts.model, Pipeline) else None
        if not isinstance(first, ColumnTransformer):
            raise TypeError(
                "model must be a pipeline that begins with its encoders, as from make_fusion_pipeline: raw cells are "
                f"corrupted, but {type(parts.model).__name__} takes blocks of numbers."
            )
        self.X = parts.read(X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnseenValueWarning)  # `read` has told it
            self.blocks = pd.DataFrame(first.transform(self.X))
        self._parts = parts
        self._later = parts.model[1:-1] if len(parts.model) > 2 else None
        self._fitted = {name: (fitted, columns) for name, fitted, columns in first.transformers_}
        self._places = first.output_indices_
        self._read_as_texts = {name: list_columns(held) for name, held in getattr(first, "word_columns_", {}).items()}
        places = {name: self.blocks.columns.get_loc(f"{name}{SEPARATOR}{WORDS}") for name in self._read_as_texts}
        self._words = places
        self._columns = parts.columns
        self.names = list(parts.columns)
        own = getattr(parts.core, "encoders_", {})  # a fusion that encodes by itself, such as a cascade
        self.encoders = {name: _innermost(own.get(name, self._fitted[name][0])) for name in self.names}
        self.present = {name: ~_missing(self.blocks.iloc[:, self._places[name]]) for name in self.names}

    def finish(self, blocks: pd.DataFrame) -> Any:
        """Return the fusion's input for these blocks: there may be other steps between."""
        return blocks if self._later is None else self._later.transform(blocks)

    def notes(self, names: list[str]) -> list[str]:
        """Return a note on the rows that lack these modalities, and so were not corrupted."""
        lost = {name: int((~self.present[name]).sum()) for name in names}
        facts = ", ".join(f"{name} in {n} of {len(self.X)} rows" for name, n in lost.items() if n)
        return [f"Missing, and so not corrupted: {facts}."] if facts else []

    def holds_texts(self, name: str) -> bool:
        """Return whether a modality is one column of texts, judged by its encoder and its cells."""
        encoder, columns = self.encoders[name], self._columns[name]
        if len(columns) > 1 or columns[0] not in self.X or getattr(encoder, "strings_are_paths", False):
            return False
        cells = self.X[columns[0]]
        if isinstance(encoder, BaseEncoder):
            known = [cell for cell in cells.tolist() if not is_missing(cell)]
            return bool(known) and all(isinstance(cell, str) for cell in known)
        return column_kind(cells)[0] in ("text", "string")

    def corrupted(self, name: str, corruption: Corruption, severity: int, random_state: int) -> pd.DataFrame:
        """Return the blocks, with the block of one modality encoded from its corrupted cells.

        Raises
        ------
        ValueError
            If a cell cannot be corrupted or cannot be encoded afterwards; the message names corruption, row and column.
        """
        place, encoder = self._places[name], self.encoders[name]
        n = len(self.X)
        large = kind_of_encoder(encoder) in _LARGE
        size = encoder._batch_size() if large else max(n, 1)
        with config_context(progress=False):  # the caller shows one progress bar; no bar per chunk
            parts = [
                self._chunk(name, corruption, severity, random_state, np.arange(start, min(start + size, n)))
                for start in range(0, n, size)
            ]
        positions = np.append(np.arange(place.start, place.stop), self._words.get(name, []))
        return replace_columns(self.blocks, positions.astype(int), pd.concat(parts))

    def _chunk(self, name: str, corruption: Corruption, severity: int, seed: int, rows: np.ndarray) -> pd.DataFrame:
        """Corrupt the cells of some rows, and return their block."""
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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnseenValueWarning)
                table = self._parts.read(_frame(new, part))
                made = fitted.transform(table[columns])
        except EncodingError as error:
            self._refuse(error.rows, name, corruption, severity, "could not be encoded afterwards")
        made = made.toarray() if sparse.issparse(made) else made
        made = made if isinstance(made, pd.DataFrame) else pd.DataFrame(np.asarray(made))
        lost = np.flatnonzero(_missing(made) & np.array([not _is_lost(cell) for cell in new], dtype=bool))
        unread = [BadRow(label[i], column, short_repr(new[i]), "the encoder treats it as missing") for i in lost]
        self._refuse(unread, name, corruption, severity, "could not be encoded afterwards")
        if name not in self._read_as_texts:
            return made
        return made.assign(**{WORDS: np.array(row_texts(table, self._read_as_texts[name]), dtype=object)})

    def _refuse(self, bad: list[BadRow], name: str, corruption: Corruption, severity: int, what: str) -> None:
        if bad:
            raise ValueError(
                f"corruption {corruption.name!r} of modality {name!r} at severity {severity}: "
                f"{counted(len(bad), 'cell')} {what}:\n{format_bad_rows(bad)}"
            )


def _cells(part: pd.DataFrame) -> list[Any]:
    """Return the cells of one column; for several columns, or one of numbers, an array per row."""
    if _is_numeric(part):
        return list(part.to_numpy(dtype=np.float64, na_value=np.nan))
    return list(part.to_numpy(dtype=object)) if _is_group(part) else part.iloc[:, 0].tolist()


def _frame(cells: list[Any], part: pd.DataFrame) -> pd.DataFrame:
    """Put cells back into the columns of a modality; None is a missing cell."""
    if not _is_group(part):
        column = np.empty(len(cells), dtype=object)
        for i, cell in enumerate(cells):  # one by one: numpy would unpack arrays
            column[i] = cell
        return pd.DataFrame({part.columns[0]: pd.Series(column, index=part.index, dtype=object)})
    lost = [np.nan if _is_numeric(part) else None] * part.shape[1]
    rows = pd.DataFrame([lost if cell is None else list(cell) for cell in cells], columns=part.columns)
    return rows.set_index(part.index).astype(float if _is_numeric(part) else object)


def _is_group(part: pd.DataFrame) -> bool:
    """Return whether all values of a row together are one cell."""
    return part.shape[1] > 1 or _is_numeric(part)


def _innermost(fitted: Any) -> Any:
    """Return the encoder inside a pipeline, or the transformer itself."""
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
    """Return which rows of a block are missing; numbers are checked by numpy, because cell by cell is slow."""
    if all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in block.dtypes):
        return np.isnan(block.to_numpy(dtype=float)).all(axis=1)
    return missing_rows(block)
