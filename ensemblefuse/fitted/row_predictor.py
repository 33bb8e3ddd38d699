"""Predictions of a fitted pipeline for tables with bad cells: such rows are set apart, the others are predicted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import EncodingError, MissingModalityWarning, UnseenValueWarning
from ensemblefuse.fitted.model import FittedPipeline
from ensemblefuse.modalities import columns_of
from ensemblefuse.schema import FarNumbers, Unseen, UnseenCounts, far_numbers, read_by_schema, unseen_counts
from ensemblefuse.table import list_columns

__all__ = ["Predicted", "RowPredictor", "join_targets", "prediction_columns"]


class Predicted(NamedTuple):
    """Predictions of a model for the rows of one table."""

    reasons: list[list[tuple[str, str]]]
    """For each row, the fields with a bad cell and the reasons."""
    answered: np.ndarray
    """Which rows have a prediction: shape (n_samples,), dtype bool."""
    Z: Any
    """The rows that have a prediction, as the fusion takes them; None if there are none."""
    prediction: Any
    """Predictions of the answered rows; None if there are none. Of several targets, a DataFrame."""
    proba: Any
    """Probabilities of the answered rows, shape (n_answered, n_classes); None without rows or without predict_proba.
    Of several targets, a dict of these."""
    regions: Any
    """Sets or intervals of the answered rows, as a conformal fusion returns them; None for other fusions or no rows."""
    calibrated: Any
    """Whether a row of fit held the same modalities: shape (n_answered,), dtype bool; None if `regions` is None."""
    unseen: list[Unseen]
    """Cells with a category that fit never saw."""

    def of(self, task: Any) -> tuple[Any, Any]:
        """Return predictions and probabilities of one target, as `targets_of` names it; None for what there is not."""
        if task is None or self.prediction is None:
            return self.prediction, self.proba
        return self.prediction[task].to_numpy(), (self.proba or {}).get(task)


def prediction_columns(task: Any, labels: Any, prediction: Any, proba: Any) -> dict[str, Any]:
    """Return what is said of one target as the columns of a table: ``prediction``, and ``proba_<class>``.

    Of several targets, the name stands in the middle: ``prediction_<target>``, ``proba_<target>_<class>``.
    """
    middle = "" if task is None else f"_{task}"
    columns = [] if proba is None else zip(labels, proba.T, strict=True)
    return {f"prediction{middle}": prediction, **{f"proba{middle}_{label}": column for label, column in columns}}


def join_targets(columns_of: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """Return the columns of all targets side by side.

    Raises
    ------
    ValueError
        If two targets have a column of one name, as ``a`` with the label ``b_c`` and ``a_b`` with the label ``c``.
    """
    joined: dict[str, Any] = {}
    for task, columns in columns_of.items():
        if twice := [name for name in columns if name in joined]:
            raise ValueError(
                f"the target {task!r} and one before it both have a column {twice[0]!r}; rename one of the targets "
                "and fit again."
            )
        joined |= columns
    return joined


class RowPredictor:
    """Callable that predicts one table after the other; rows may hold bad cells.

    Parameters
    ----------
    opened : FittedPipeline
        A pipeline with encoders. They are set to ``on_error="raise"``, so that every bad cell is reported, whichever
        `on_error` is given here.
    on_error : {"keep", "missing", "raise"} or None
        What to do with a row that has a bad cell: give it no prediction, take the cell as missing, or let `note`
        raise. None means "missing" where an encoder or a `TableTransformer` of the model has ``on_error="missing"``,
        and "keep" elsewhere.
    note : callable, optional
        Called with position, field and reason of each bad cell as soon as it is found.

    Attributes
    ----------
    wanted : list of str
        Columns that the modalities name.
    unseen : dict of str to UnseenCounts
        For each column with such cells, the categories that fit never saw in all tables so far, with their numbers.
    far : dict of str to FarNumbers
        For each column with such numbers, those of all tables so far that are far outside the range of fit.
    """

    def __init__(
        self,
        opened: FittedPipeline,
        *,
        on_error: str | None = None,
        note: Callable[[int, str, str], None] | None = None,
    ):
        self.opened, self.on_error, self.note = opened, on_error, note
        self.wanted = columns_of(opened.modalities)
        self.unseen: dict[Any, UnseenCounts] = {}
        self.far: dict[Any, FarNumbers] = {}
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
        X, usable, unseen = self._read(X, reasons)
        while usable.any():
            try:
                return Predicted(reasons, usable, *self._predict(X[usable]), unseen)
            except EncodingError as error:  # from the step that encodes, or from a fusion that encodes by itself
                X, usable = self._meet(error, X, usable, reasons)
        return Predicted(reasons, usable, None, None, None, None, None, unseen)

    def _predict(self, X: pd.DataFrame) -> tuple[Any, Any, Any, Any, Any]:
        """Return encoded rows, predictions, probabilities, regions, and whether these are calibrated."""
        fusion = self.opened.fusion
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnseenValueWarning)  # `unseen` counts them
            Z = self.opened.encode(X)
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

    def _read(self, X: pd.DataFrame, reasons: list) -> tuple[pd.DataFrame, np.ndarray, list[Unseen]]:
        """Return the table as the schema reads it, which rows are usable, and the categories that fit never saw."""
        X, faults, unseen = read_by_schema(X, self.opened.schema)
        usable = np.ones(len(X), dtype=bool)
        policies = self.opened.policies() if faults and self.on_error is None else {}
        for fault in faults:
            self._tell(reasons, fault.position, fault.column, fault.reason)
            asked = policies[fault.column].on_error if fault.column in policies else self.on_error
            usable[fault.position] &= asked == "missing"
        for column, counts in unseen_counts(unseen).items():
            self.unseen.setdefault(column, UnseenCounts()).add(counts)
        for column, numbers in far_numbers(X, self.opened.limits).items():
            self.far.setdefault(column, FarNumbers()).add(numbers)
        return X.copy(deep=False), usable, unseen

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
