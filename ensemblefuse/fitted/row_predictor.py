"""A fitted pipeline asked for rows of which some hold bad cells: these are set apart, the others answered."""

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

# A column of booleans counts as one of numbers in fit; a CSV file holds their names.
_BOOLEANS = {"True": 1, "False": 0, "true": 1, "false": 0, "TRUE": 1, "FALSE": 0}


class Predicted(NamedTuple):
    """What a model says of the rows of one table."""

    reasons: list[list[tuple[str, str]]]
    """Of each row the fields that hold a bad cell, and what is wrong with it."""
    answered: np.ndarray
    """Which rows have a prediction: shape (n_samples,), dtype bool."""
    Z: Any
    """The answered rows as the fusion takes them; None if there are none."""
    prediction: Any
    """Of the answered rows; None if there are none."""
    proba: Any
    """Of the answered rows, shape (n_answered, n_classes); None if there are none, or the model gives none."""
    regions: Any
    """Of a conformal fusion the sets or intervals of the answered rows, as it gives them; None as `proba`."""
    calibrated: Any
    """Whether a row of fit held the same modalities: shape (n_answered,), dtype bool; None as `regions`."""


class RowPredictor:
    """Predictions for the rows of one table after the other, of which some may hold bad cells.

    Parameters
    ----------
    opened : FittedModel
        A pipeline with encoders. They are set to ``on_error="raise"``, so that every bad cell is reported, whatever is
        done about it then.
    on_error : {"keep", "missing", "raise"} or None
        What to do with a row that has a bad cell: give it no prediction, take the cell as missing, or leave it to
        `note` to raise. None takes as missing what the encoder took as missing in fit, and keeps the others.
    note : callable, optional
        Called with position, field and reason of each bad cell as soon as it is found.

    Attributes
    ----------
    wanted : list of str
        Columns that the modalities name.
    numbers : list of str
        Columns that the model wants as numbers.
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
            except EncodingError as error:  # of the step that encodes, or of a fusion that encodes for itself
                X, usable = self._meet(error, X, usable, reasons)
        return Predicted(reasons, usable, None, None, None, None, None)

    def _predict(self, X: pd.DataFrame) -> tuple[Any, Any, Any, Any, Any]:
        """Encoded rows, predictions, probabilities, regions, and whether these are calibrated."""
        fusion, Z = self.opened.fusion, self.opened.encode(X)
        prediction = fusion.predict(Z)
        proba = fusion.predict_proba(Z) if hasattr(fusion, "predict_proba") else None
        return Z, prediction, proba, *self._regions(Z)

    @property
    def regions_of(self) -> Callable[[Any], Any] | None:
        """What gives the sets or the intervals of encoded rows; None if the fusion is not a conformal one."""
        fusion = self.opened.fusion
        return getattr(fusion, "predict_set", None) or getattr(fusion, "predict_interval", None)

    def _regions(self, Z: Any) -> tuple[Any, Any]:
        ask = self.regions_of
        if ask is None:
            return None, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)  # `calibrated` says it, row by row
            return ask(Z), self.opened.fusion.is_calibrated(Z)

    def _read_numbers(self, X: pd.DataFrame, reasons: list) -> tuple[pd.DataFrame, np.ndarray]:
        """Columns of numbers as numbers; rows in which a cell is none, or infinite, are set apart."""
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
                self._tell(reasons, i, column, f"{cell!r} is no {'finite ' if infinite[i] else ''}number")
                usable[i] &= self.on_error == "missing"
        return X.assign(**new), usable

    def _meet(self, error: EncodingError, X: pd.DataFrame, usable: np.ndarray, reasons: list):
        """Write down what is wrong, and make the cell missing or set the row apart."""
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
