"""Input of all sections: the opened model, the rows, and one set of predictions for them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.evaluation import ModelEvaluation, evaluate_model
from ensemblefuse.fitted.gains import Gains, gains_of, subsets_of_gains
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import SubsetPredictions, predict_subsets
from ensemblefuse.report._page import Unavailable
from ensemblefuse.scoring.bootstrap import Resampling
from ensemblefuse.scoring.inputs import read_groups, read_y
from ensemblefuse.scoring.metrics import default_metric
from ensemblefuse.table import to_frame

__all__ = ["Evidence"]


MOST_MODALITIES = 8  # up to which all subsets are evaluated


class Evidence:
    """The model and the rows of a report.

    Attributes
    ----------
    parts : FittedModel
    names : list of str
        Modalities.
    X : DataFrame of n_samples rows
        Raw rows for a pipeline, encoded rows for a fusion estimator alone.
    y, codes : ndarray of shape (n_samples,)
        Labels or numbers; positions of the labels among the classes, or the numbers.
    groups : ndarray of shape (n_samples,), or None
    trained_on : bool
        Whether these are the rows of fit.
    random_state : int
    """

    def __init__(self, model: Any, X: Any, y: Any, *, trained_on: bool, groups: Any, random_state: int):
        self.model = model
        self.parts = FittedModel(model)
        self.names = self.parts.names
        self.X = pd.DataFrame(X) if isinstance(X, np.ndarray) else to_frame(X)
        self.given = X if isinstance(X, np.ndarray) else self.X
        self.parts.read(self.X)  # bad cells and unknown categories are told here, once
        self.y = _read_labels(y, len(self.X), self.parts)
        self.codes = self.parts.encode_labels(self.y)
        self.groups = read_groups(groups, len(self.X), "rows of X")
        self.trained_on = trained_on
        self.random_state = random_state
        if trained_on and self.parts.has_ledger:
            _check_rows_of_fit(self.codes, self.parts)

    @property
    def classify(self) -> bool:
        return self.parts.classify

    @property
    def class_names(self) -> list[str]:
        return [] if self.parts.classes is None else [str(label) for label in self.parts.classes.tolist()]

    @cached_property
    def Z(self) -> Any:
        """The encoded rows; encoded once for all sections."""
        return self.parts.encode(self.given)

    @cached_property
    def present(self) -> np.ndarray:
        """Which modalities each row holds: shape (n_modalities, n_samples), dtype bool."""
        if self.trained_on and self.parts.has_ledger:
            return np.asarray(self.parts.core._oof["present"], dtype=bool)
        return self.parts.present(self.Z)

    @cached_property
    def said(self) -> SubsetPredictions:
        """Predictions with all modalities, and with none.

        Raises
        ------
        Unavailable
            If the model has no predictions for these rows that are fit for a score.
        """
        subsets = [tuple(self.names), ()]
        if self.trained_on:
            if not self.parts.has_ledger:
                raise Unavailable(
                    f"{type(self.parts.core).__name__} keeps no out-of-fold predictions of its modalities, and its "
                    "predictions for rows of fit do not measure it. Make the report with rows that are new to it."
                )
            return predict_subsets(self.model, subsets, method="ledger", as_deployed=True)
        if self.classify and not hasattr(self.parts.fusion, "predict_proba"):
            raise Unavailable(f"{type(self.parts.fusion).__name__} with this estimator has no probabilities.")
        return predict_subsets(self.parts.fusion, subsets, self.Z, self.y, method="predict", as_deployed=True)

    @cached_property
    def predictions(self) -> np.ndarray:
        """Predictions for ``said.rows`` with all their modalities: probabilities, or numbers."""
        return self.said.of(self.names)

    @property
    def source(self) -> str:
        """The source of the predictions, for the text of a section."""
        n = len(self.said.rows)
        if self.trained_on:
            return f"out-of-fold predictions of {n:,} rows of fit"
        return f"{n:,} rows given as new to the model"

    @property
    def metric(self) -> str:
        return default_metric(self.classify)

    def arguments(self) -> dict[str, Any]:
        """Model and rows for the functions that make results: the ledger if the rows are those of fit."""
        if self.trained_on:
            return {"model": self.model}
        return {"model": self.parts.fusion, "X": self.Z, "y": self.y}  # encoded once

    @cached_property
    def evaluation(self) -> ModelEvaluation:
        """All scores, with intervals."""
        return evaluate_model(**self.arguments(), groups=self.groups, random_state=self.random_state)

    @cached_property
    def subsets(self) -> SubsetPredictions:
        """Predictions without any modality, with each alone, with all but one, and with all."""
        _ = self.said  # raises with the reason if these rows have no scores
        chosen, settings = subsets_of_gains(self.names), Resampling(seed=self.random_state)
        return predict_subsets(**self.arguments(), subsets=chosen, groups=self.groups, resampling=settings)

    @cached_property
    def gains(self) -> Gains:
        """Gains of the modalities: the checks compute the same from the same rows and resamples."""
        units = None if self.groups is None else self.groups[self.subsets.rows]
        weight = self.subsets.sample_weight
        return gains_of(self.subsets, Resampling(seed=self.random_state, groups=units, sample_weight=weight))


def _read_labels(y: Any, n_rows: int, parts: FittedModel) -> np.ndarray:
    if parts.classify and len(np.unique(np.asarray(y, dtype=object).astype(str))) < 2:
        # A few new rows may be of one class; the report does not need two.
        y = np.asarray(y)
        if y.ndim != 1 or len(y) != n_rows:
            raise ValueError(f"y has shape {y.shape} for the {n_rows} rows of X.")
        return y
    return read_y(y, n_rows, classify=parts.classify)


def _check_rows_of_fit(codes: np.ndarray, parts: FittedModel) -> None:
    fitted = parts.core._oof["y"]
    if len(codes) != len(fitted):
        raise ValueError(
            f"X has {len(codes)} rows and the model was fitted on {len(fitted)}; with trained_on=True (--trained-on), "
            "X and y must be the rows of fit, all of them and in the same order. For new rows pass trained_on=False."
        )
    differ = np.flatnonzero(~np.isclose(codes.astype(float), np.asarray(fitted, dtype=float), rtol=1e-6))
    if len(differ):
        raise ValueError(
            f"y differs from the labels of fit in {len(differ)} of {len(codes)} rows, the first at position "
            f"{differ[0]}; with trained_on=True (--trained-on), X and y must be the rows of fit in the same order."
        )


def looks_trained_on(evidence: Evidence) -> bool:
    """Return whether rows that were given as new have the labels of the rows of fit, in the same order."""
    if evidence.trained_on or not evidence.parts.has_ledger:
        return False
    fitted = np.asarray(evidence.parts.core._oof["y"], dtype=float)
    codes = evidence.codes.astype(float)
    sorted_rows = bool((np.diff(codes) >= 0).all())  # if so, another table may easily have the same labels
    return len(codes) == len(fitted) and not sorted_rows and bool(np.allclose(codes, fitted))
