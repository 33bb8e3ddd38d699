"""Worth of every subset of the modalities in each row, the basis of Shapley values and interactions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import SubsetPredictions, all_subsets, groups_for, predict_subsets
from ensemblefuse.scoring.bootstrap import Resampling, read_seed
from ensemblefuse.scoring.inputs import finite_numbers, name_rows, one_a_row, read_groups
from ensemblefuse.scoring.metrics import METRICS, read_metric, row_values

__all__ = [
    "SubsetWorth",
    "given_subsets",
    "where_from",
    "worth_of_model",
    "worth_of_predictions",
]

_SOURCES = {
    "ledger": "out-of-fold predictions of {} rows of fit",
    "predict": "predictions of {} given rows",
    "refit": "cross-validation of {} rows",
    "given": "given predictions of {} rows",
}


@dataclass
class SubsetWorth:
    """Worth of each subset in each row, with means and intervals over rows.

    Attributes
    ----------
    said : SubsetPredictions
    values : ndarray of shape (2 ** n_modalities, n_rows)
        In the order of ``all_subsets(said.names)``; greater is better.
    metric : str
    resampling : Resampling
        Its seed is an int, so all intervals use the same resamples.
    """

    said: SubsetPredictions
    values: np.ndarray
    metric: str
    resampling: Resampling

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """Compute the weighted mean over the last axis."""
        return np.average(rows, axis=-1, weights=self.said.sample_weight)

    def interval(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the low and high end of a bootstrap interval for each mean over the last of two axes."""
        return self.resampling.interval(rows.T)

    @property
    def caption(self) -> str:
        """Text with unit, rows and interval."""
        where = where_from(self.said.method, len(self.said.rows))
        return f"{METRICS[self.metric].worth}; {where}; {self.resampling.caption}"

    @property
    def notes(self) -> list[str]:
        return [*self.said.notes, *self.resampling.notes(len(self.said.rows))]


def where_from(method: str, n_rows: int) -> str:
    """Describe the origin of the predictions, and the number of rows."""
    return _SOURCES[method].format(n_rows)


def worth_of_model(
    model: Any,
    X: Any,
    y: Any,
    *,
    method: str,
    metric: str | None,
    cv: Any,
    groups: Any,
    n_resamples: int,
    confidence_level: float,
    random_state: Any,
) -> SubsetWorth:
    """Compute the worth of all subsets of a model's modalities; parameters as in `modality_shapley`."""
    parts = FittedModel(model)
    Resampling(n_resamples, confidence_level).check()
    metric = read_metric(metric, parts.classify)
    subsets = all_subsets(parts.names)
    groups = groups_for(groups, parts, X, y, method)
    settings = Resampling(n_resamples, confidence_level, random_state)
    said = predict_subsets(model, subsets, X, y, method=method, cv=cv, groups=groups, resampling=settings)
    return _worth(said, metric, replace(settings, groups=None if groups is None else groups[said.rows]))


def worth_of_predictions(
    y: Any,
    predictions: Mapping[Collection[str], Any],
    *,
    metric: str | None = None,
    groups: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> SubsetWorth:
    """Compute the same from given predictions; see `given_subsets`."""
    said = given_subsets(y, predictions)
    Resampling(n_resamples, confidence_level).check()
    metric = read_metric(metric, said.classes is not None)
    units = read_groups(groups, len(said.y), classes=None if said.classes is None else said.y)
    return _worth(said, metric, Resampling(n_resamples, confidence_level, random_state, units))


def _worth(said: SubsetPredictions, metric: str, resampling: Resampling) -> SubsetWorth:
    values = row_values(said.predictions, said.y, metric)
    own = replace(resampling, seed=read_seed(resampling.seed), sample_weight=said.sample_weight)
    return SubsetWorth(said, values, metric, own)


def given_subsets(y: Any, predictions: Mapping[Collection[str], Any]) -> SubsetPredictions:
    """Read the predictions of all subsets from a dict.

    Parameters
    ----------
    y : array of shape (n_rows,)
    predictions : dict of tuple (or frozenset) of str to array of shape (n_rows, n_classes), or (n_rows,) in regression
        One for every subset of the names, including the empty one. Columns are the sorted labels of `y`.

    Raises
    ------
    ValueError
        If a subset is missing, or shapes do not agree.
    """
    given = {frozenset(subset): np.asarray(value, dtype=float) for subset, value in predictions.items()}
    names = list(dict.fromkeys(name for subset in predictions for name in sorted(subset)))
    subsets = all_subsets(names)
    lost = [subset for subset in subsets if frozenset(subset) not in given]
    if lost:
        raise ValueError(f"predictions lack the subsets {lost[:3]}; all {len(subsets)} of {names} are needed.")
    y, classes = one_a_row(y), None
    if given[frozenset()].ndim == 2:
        classes, y = np.unique(y, return_inverse=True)
    else:
        y = finite_numbers(y)
    wanted = (len(y),) if classes is None else (len(y), len(classes))
    for subset in subsets:
        if given[frozenset(subset)].shape != wanted:
            shape = given[frozenset(subset)].shape
            raise ValueError(f"predictions of {subset} have shape {shape}; y requires {wanted}.")
        gaps = ~np.isfinite(given[frozenset(subset)].reshape(len(y), -1)).all(axis=1)
        if gaps.any():
            raise ValueError(f"predictions of {subset} are missing or infinite in {name_rows(gaps)}.")
    stacked = np.stack([given[frozenset(subset)] for subset in subsets])
    present = np.ones((len(names), len(y)), dtype=bool)
    return SubsetPredictions(names, subsets, stacked, y, np.arange(len(y)), present, None, classes, "given")
