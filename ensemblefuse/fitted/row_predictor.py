"""A fitted pipeline asked for rows of which some hold bad cells: these are set apart, the others answered."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.exceptions import EncodingError, MissingModalityWarning

__all__ = ["Predicted", "RowPredictor", "columns_of", "fitted_modalities", "set_on_error", "steps"]

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
    """Predictions for the rows of one table after the other.

    Parameters
    ----------
    model : fitted Pipeline with the step ``encode``
        Its encoders are set to ``on_error="raise"``: a bad cell must be told, whatever is done about it then.
    on_error : {"keep", "missing", "raise"} or None
        What to do about a row with a bad cell: give it no prediction, take the cell as missing, or leave it to `note`
        to raise. None takes as missing what the encoder did in fit, and keeps the others.
    note : callable, optional
        Called with position, field and reason of each bad cell as soon as it is found.

    Attributes
    ----------
    modalities : list of (name, fitted encoder, columns)
    wanted : list of str
        Columns that the modalities name.
    numbers : list of str
        Columns that the model wants as numbers.
    """

    def __init__(self, model: Any, *, on_error: str | None = None, note: Callable[[int, str, str], None] | None = None):
        self.model, self.on_error, self.note = model, on_error, note
        self.modalities = fitted_modalities(model)
        self.wanted = columns_of(self.modalities)
        self.numbers = list(getattr(model.named_steps["encode"], "numeric_columns_", []))
        self._as_fitted = {
            _column_of(columns): getattr(step, "on_error", "raise")
            for _, encoder, columns in self.modalities
            for step in steps(encoder)[:1]
            if isinstance(step, BaseEncoder)
        }
        set_on_error([m for m in self.modalities if not isinstance(m[1], str)], "raise")

    def __call__(self, X: pd.DataFrame) -> Predicted:
        """What the model says of a table, its rows numbered from 0."""
        reasons: list[list[tuple[str, str]]] = [[] for _ in range(len(X))]
        X, usable = self._read_numbers(X, reasons)
        Z = None
        while usable.any() and Z is None:
            try:
                Z = self.model[:-1].transform(X[usable])
            except EncodingError as error:
                X, usable = self._meet(error, X, usable, reasons)
        fusion = self.model[-1]
        said = None if Z is None else fusion.predict(Z)
        proba = fusion.predict_proba(Z) if Z is not None and hasattr(fusion, "predict_proba") else None
        return Predicted(reasons, usable, Z, said, proba, *self._regions(Z))

    @property
    def regions_of(self) -> Callable[[Any], Any] | None:
        """What gives the sets or the intervals of encoded rows; None if the fusion is not a conformal one."""
        fusion = self.model[-1]
        return getattr(fusion, "predict_set", None) or getattr(fusion, "predict_interval", None)

    def _regions(self, Z: Any) -> tuple[Any, Any]:
        ask = self.regions_of
        if Z is None or ask is None:
            return None, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)  # `calibrated` says it, row by row
            return ask(Z), self.model[-1].is_calibrated(Z)

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
            self._tell(reasons, row.label, row.column, row.reason)
            if (self.on_error or self._as_fitted.get(row.column, "raise")) == "missing":
                for column in self._columns_named(row.column):
                    X[column] = X[column].astype(object) if X[column].dtype.kind not in "fc" else X[column]
                    X.at[row.label, column] = None
            else:
                usable[row.label] = False
        return X, usable

    def _tell(self, reasons: list[list[tuple[str, str]]], i: int, field: str, reason: str) -> None:
        if self.note is not None:
            self.note(i, field, reason)
        reasons[i].append((field, reason))

    def _columns_named(self, name: str) -> list[str]:
        return next(
            [columns] if isinstance(columns, str) else list(columns)
            for _, _, columns in self.modalities
            if _column_of(columns) == name
        )


def fitted_modalities(model: Any) -> list[tuple[str, Any, Any]]:
    """The modalities of a fitted pipeline of `make_fusion_pipeline`, with fitted encoders."""
    encode = model.named_steps["encode"]
    dropped = {n for n, transformer, _ in encode.transformers if isinstance(transformer, str) and transformer == "drop"}
    given = {n: columns for n, _, columns in encode.transformers if n not in dropped}
    return [(n, transformer, given[n]) for n, transformer, _ in encode.transformers_ if n in given]


def columns_of(modalities: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """All columns that the modalities name."""
    return [column for _, _, columns in modalities for column in ([columns] if isinstance(columns, str) else columns)]


def steps(encoder: Any) -> list[Any]:
    """An encoder, or the encoders and transformers of a pipeline."""
    return [step for _, step in encoder.steps] if isinstance(encoder, Pipeline) else [encoder]


def set_on_error(modalities: Iterable[tuple[str, Any, Any]], on_error: str) -> None:
    """Set ``on_error`` of every encoder that has it."""
    for _, encoder, _ in modalities:
        for step in steps(encoder):
            if hasattr(step, "on_error"):
                step.set_params(on_error=on_error)


def _column_of(columns: Any) -> str:
    """How an `EncodingError` names the column, or the group of columns, of a modality."""
    columns = [columns] if isinstance(columns, str) else list(columns)
    return ", ".join(map(str, columns[:3])) + (", ..." if len(columns) > 3 else "")
