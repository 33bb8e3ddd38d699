"""Predictions of a fitted pipeline for tables with bad cells: such rows are set apart, the others are predicted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import EncodingError, MissingModalityWarning
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.modalities import columns_of
from ensemblefuse.table import list_columns

__all__ = ["Predicted", "RowPredictor"]

# In fit, a column of booleans counts as numbers; a CSV file holds their names.
_BOOLEANS = {"True": 1, "False": 0, "true": 1, "false": 0, "TRUE": 1, "FALSE": 0}


class Predicted(NamedTuple):
    """Predictions of a model for the rows of one table."""

    reasons: list[list[tuple[str, str]]]
    """For each row, the fields with a bad cell and the reasons."""
    answered: np.ndarray
    """Which rows have a prediction: shape (n_samples,), dtype bool."""
    Z: Any
    """The rows that have a prediction, as the fusion takes them; None if there are none."""
    prediction: Any
    """Predictions of the answered rows; None if there are none."""
    proba: Any
    """Probabilities of the answered rows, shape (n_answered, n_classes); None without rows or without predict_proba."""
    regions: Any
    """Sets or intervals of the answered rows, as a conformal fusion returns them; None for other fusions or no rows."""
    calibrated: Any
    """Whether a row of fit held the same modalities: shape (n_answered,), dtype bool; None if `regions` is None."""


class RowPredictor:
    """Callable that predicts one table after the other; rows may hold bad cells.

    Parameters
    ----------
    opened : FittedModel
        A pipeline with encoders. They are set to ``on_error="raise"``, so that every bad cell is reported, whichever
        `on_error` is given here.
    on_error : {"keep", "missing", "raise"} or None
        What to do with a row that has a bad cell: give it no prediction, take the cell as missing, or let `note`
        raise. None means "missing" for encoders that were fitted with ``on_error="missing"``, and "keep" for others.
    note : callable, optional
        Called with position, field and reason of each bad cell as soon as it is found.

    Attributes
    ----------
    wanted : list of str
        Columns that the modalities name.
    numbers : list of str
        Columns that the model takes as numbers.
    """

    def __init__(
        self, opened: FittedModel, *, on_error: str | None = None, note: Callable[[int, str, str], None] | None = None
    ):
        self.opened, self.on_error, self.note = opened, on_error, note
        self.wanted, self.numbers = columns_of(opened.modalities), opened.number_columns
        self._as_fitted = {
            modality.column_name: getattr(encoder, "on_error", "raise")
            for modality in opened.modalities
            for encoder in modality.encoders[:1]
        }
        for encoder in opened.encoders:
            if hasattr(encoder, "on_error"):
                encoder.set_params(on_error="raise")

    def __call__(self, X: pd.DataFrame) -> Predicted:
        """Return the predictions of a table whose rows are numbered from 0."""
        reasons: list[list[tuple[str, str]]] = [[] for _ in range(len(X))]
        X, usable = self._read_numbers(X, reasons)
        while usable.any():
            try:
                return Predicted(reasons, usable, *self._predict(X[usable]))
            except EncodingError as error:  # from the step that encodes, or from a fusion that encodes by itself
                X, usable = self._meet(error, X, usable, reasons)
        return Predicted(reasons, usable, None, None, None, None, None)

    def _predict(self, X: pd.DataFrame) -> tuple[Any, Any, Any, Any, Any]:
        """Return encoded rows, predictions, probabilities, regions, and whether these are calibrated."""
        fusion, Z = self.opened.fusion, self.opened.encode(X)
        prediction = fusion.predict(Z)
        proba = fusion.predict_proba(Z) if hasattr(fusion, "predict_proba") else None
        return Z, prediction, proba, *self._regions(Z)

    @property
    def regions_of(self) -> Callable[[Any], Any] | None:
        """The method that returns sets or intervals for encoded rows; None if the fusion is not a conformal one."""
        fusion = self.opened.fusion
        return getattr(fusion, "predict_set", None) or getattr(fusion, "predict_interval", None)

    def _regions(self, Z: Any) -> tuple[Any, Any]:
        ask = self.regions_of
        if ask is None:
            return None, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)  # `calibrated` reports it row by row
            return ask(Z), self.opened.fusion.is_calibrated(Z)

    def _read_numbers(self, X: pd.DataFrame, reasons: list) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the table with numeric columns as numbers, and which rows are usable: others hold a bad number."""
        usable, new = np.ones(len(X), dtype=bool), {}
        for column in [column for column in self.numbers if column in X.columns]:
            cells = numbers = X[column]
            if not pd.api.types.is_numeric_dtype(cells.dtype):
                plain = pd.Series([_BOOLEANS.get(cell, cell) for cell in cells.tolist()], cells.index, dtype=object)
                new[column] = numbers = pd.to_numeric(plain, errors="coerce")
            infinite = np.isinf(numbers.to_numpy(dtype=float, na_value=np.nan))
            if infinite.any():
                new[column] = numbers = numbers.mask(infinite)
            for i in np.flatnonzero(numbers.isna() & cells.notna()).tolist():
                cell = cells.iloc[i].item() if isinstance(cells.iloc[i], np.generic) else cells.iloc[i]
                self._tell(reasons, i, column, f"{cell!r} is not a {'finite ' if infinite[i] else ''}number")
                usable[i] &= self.on_error == "missing"
        return X.assign(**new), usable

    def _meet(
        self, error: EncodingError, X: pd.DataFrame, usable: np.ndarray, reasons: list
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Record the reasons of an error, and make each bad cell missing or set its row apart."""
        usable = usable.copy()
        for row in error.rows:
            modality = self.opened.modality_of(row.column)
            field = row.column if modality is None else modality.column_name
            self._tell(reasons, row.label, field, row.reason)
            if modality is not None and (self.on_error or self._as_fitted.get(field, "raise")) == "missing":
                for column in list_columns(modality.columns):
                    X[column] = X[column].astype(object) if X[column].dtype.kind not in "fc" else X[column]
                    X.at[row.label, column] = None
            else:
                usable[row.label] = False
        return X, usable

    def _tell(self, reasons: list[list[tuple[str, str]]], i: int, field: str, reason: str) -> None:
        if self.note is not None:
            self.note(i, field, reason)
        reasons[i].append((field, reason))
