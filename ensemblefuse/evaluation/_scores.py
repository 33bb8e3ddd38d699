"""Names of scores, and their intervals over rows that are drawn anew. Floor 4."""

from __future__ import annotations

import numpy as np

from ensemblefuse.evaluation._subsets import default_metric

__all__ = ["mean_scores", "read_metric", "score_name"]

# Metrics of `row_values` under scikit-learn's names of scores, all the greater the better.
_NAMES = {
    "log_loss": "neg_log_loss",
    "accuracy": "accuracy",
    "brier": "neg_brier_score",
    "squared_error": "neg_mean_squared_error",
    "absolute_error": "neg_mean_absolute_error",
}
_CLASSES = ("log_loss", "accuracy", "brier")


def read_metric(metric: str | None, classify: bool) -> str:
    """The name that `row_values` knows, of scikit-learn's name of a score or of that name itself.

    Raises
    ------
    ValueError
        If it is no metric of this kind of model.
    """
    if metric is None:
        return default_metric(classify)
    known = {name: key for key, name in _NAMES.items() if (key in _CLASSES) == classify}
    if metric not in known and metric not in known.values():
        kind = "classification" if classify else "regression"
        raise ValueError(
            f"metric must be one of {tuple(known.values())} in {kind}, or scikit-learn's name of it, {tuple(known)}; "
            f"got {metric!r}."
        )
    return known.get(metric, metric)


def score_name(metric: str) -> str:
    """Scikit-learn's name of the mean of `row_values`."""
    return _NAMES[metric]


def mean_scores(values: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    """Weighted mean over the rows of values of shape (n_rows, n_scores)."""
    return np.average(values, axis=0, weights=sample_weight)
