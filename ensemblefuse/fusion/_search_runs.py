"""Candidates of a search: sharing of the ledger, out-of-fold predictions, and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import check_scoring

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.blocks import Blocks
from ensemblefuse.fusion._cross_fitted_pools import fill_with_prior
from ensemblefuse.fusion._decision import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion._feature import FeatureFusionClassifier, FeatureFusionRegressor
from ensemblefuse.fusion._kernel import KernelFusionClassifier, KernelFusionRegressor
from ensemblefuse.fusion._neural import NeuralFusionClassifier, NeuralFusionRegressor
from ensemblefuse.fusion._oof_ledger import Ledger, Member
from ensemblefuse.fusion.base import BaseFusion
from ensemblefuse.table import to_frame

__all__ = [
    "Run",
    "SearchTable",
    "effort_of",
    "estimator_of",
    "make_scorer",
    "scoring_name",
    "shares_ledger",
    "summarise",
]

DECISION = (DecisionFusionClassifier, DecisionFusionRegressor)
FEATURE = (FeatureFusionClassifier, FeatureFusionRegressor)
KERNEL = (KernelFusionClassifier, KernelFusionRegressor)
NEURAL = (NeuralFusionClassifier, NeuralFusionRegressor)


class SearchTable:
    """The data for the candidates: X as given, and its blocks."""

    def __init__(self, X: Any, blocks: Blocks):
        self.X = to_frame(X) if isinstance(X, Mapping) or hasattr(X, "columns") else np.asarray(X)
        self.blocks = blocks


class Run:
    """One candidate in the search, with its scores."""

    def __init__(self, candidate: Any, shares: bool):
        self.candidate = candidate
        self.shares = shares
        self.scores = self.mass = np.empty(0)
        self.seconds = 0.0
        self.n_members = 1

    def score(self, table: SearchTable, ledger: Ledger, scorer: Any) -> None:
        """Score the candidate in each fold of the ledger, and store the scores."""
        predictions = self._predictions(table, ledger)
        labels = np.array(ledger.labels) if ledger.n_classes else None
        weight = ledger.sample_weight
        known = np.isfinite(predictions if predictions.ndim == 1 else predictions[:, 0])
        scores = []
        for _, test in ledger.splits:
            test = test[known[test]]
            usable = len(test) and (weight is None or weight[test].sum() > 0)
            scores.append(
                scorer(predictions[test], ledger.y[test], labels, None if weight is None else weight[test])
                if usable
                else np.nan
            )
        self.scores = np.array(scores)
        # With weights, a fold counts by the weight of its rows. Without weights, all folds count the same.
        self.mass = np.array([1.0 if weight is None else weight[test].sum() for _, test in ledger.splits])

    def _predictions(self, table: SearchTable, ledger: Ledger) -> np.ndarray:
        """Return out-of-fold predictions, with the second level also fitted without the fold.

        A row without any block gets the prior.
        """
        start = perf_counter()
        before = sum(entry.seconds for entry in ledger.entries.values())
        if self.shares:
            predictions = self.candidate._predict_oof(table.blocks, ledger)
            entries = self.candidate._enter(table.blocks, ledger)[1]
        else:
            present = np.ones(len(ledger.y), dtype=bool)
            entries = ledger.add([Member("strategy", self.candidate, table.X, present, ledger.groups)])
            predictions = entries[0].predictions
        fitted_now = sum(entry.seconds for entry in ledger.entries.values()) - before
        second_level = max(0.0, perf_counter() - start - fitted_now)
        self.n_members, self.seconds = max(1, len(entries)), second_level + sum(entry.seconds for entry in entries)
        return fill_with_prior(predictions, np.asarray(~table.blocks.present.any(axis=0)), ledger)

    def fit(self, table: SearchTable, ledger: Ledger, y: Any, sample_weight: Any) -> Any:
        """Fit the candidate on all rows, with results from the ledger if it shares it."""
        if self.shares:
            self.candidate._fit_members(table.blocks, ledger)
            return self.candidate
        if isinstance(self.candidate, BaseFusion):
            self.candidate.fit(table.X, y, sample_weight=sample_weight, groups=ledger.groups)
            return self.candidate
        return fit_estimator(self.candidate, table.X, np.asarray(y), ledger.sample_weight, ledger.groups)[0]


def shares_ledger(candidate: Any) -> bool:
    """Return whether a candidate can take its members, or at least the splits, from the shared ledger."""
    if getattr(candidate, "class_weight", None) is not None or getattr(candidate, "blocks", None) is not None:
        return False
    if type(candidate) in FEATURE:
        return candidate.missing in ("impute", "native", "raise")
    return type(candidate) in (*DECISION, *KERNEL, *NEURAL)


def estimator_of(block: str, candidates: Any) -> Any:
    """Return the first estimator other than the default that a candidate names for this block."""
    for candidate in candidates:
        if type(candidate) in DECISION:
            given = candidate._given(block)
            if given is not None and not (isinstance(given, str) and given == "drop"):
                return given
    return None


def effort_of(candidates: Any) -> str:
    """Return the effort of the first decision-level candidate, which the strategies of single blocks take over."""
    return next((candidate.effort for candidate in candidates if type(candidate) in DECISION), "medium")


def summarise(scores: np.ndarray, mass: np.ndarray) -> tuple[float, float]:
    """Return the mean over the folds, and its standard error."""
    known = np.isfinite(scores)
    if not known.any():
        return np.nan, np.nan
    scores, mass = scores[known], mass[known]
    mean = np.average(scores, weights=mass)
    spread = np.average((scores - mean) ** 2, weights=mass)
    return float(mean), float(np.sqrt(spread / (len(scores) - 1))) if len(scores) > 1 else 0.0


class _FixedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that returns its input as probabilities, so that scikit-learn's scorers can score predictions."""

    def __init__(self, classes):
        self.classes = classes

    @property
    def classes_(self):
        return self.classes

    def fit(self, X: Any, y: Any) -> Self:
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        return X

    def predict(self, X: Any) -> np.ndarray:
        return self.classes[X.argmax(axis=1)]


class _FixedRegressor(RegressorMixin, BaseEstimator):
    def fit(self, X: Any, y: Any) -> Self:
        return self

    def predict(self, X: Any) -> np.ndarray:
        return X


def scoring_name(scoring: Any, classify: bool) -> Any:
    """Return `scoring`, or the name of the default score if it is None."""
    if scoring is not None:
        return scoring
    return "neg_log_loss" if classify else "neg_root_mean_squared_error"


def make_scorer(scoring: Any, classify: bool) -> Any:
    """Return a scoring function of (predictions, codes or numbers, labels, weight)."""
    name = scoring_name(scoring, classify)

    def by_log_loss(proba, y, labels, weight):
        truth = np.maximum(proba[np.arange(len(y)), y], 1e-15)
        return float(np.average(np.log(truth), weights=weight))

    def by_scorer(predictions, y, labels, weight):
        model = _FixedRegressor() if labels is None else _FixedClassifier(labels)
        weights = {} if weight is None else {"sample_weight": weight}
        return float(check_scoring(model, name)(model, predictions, y if labels is None else labels[y], **weights))

    # scikit-learn's own log-loss refuses a fold that lacks a class.
    return by_log_loss if name == "neg_log_loss" else by_scorer
