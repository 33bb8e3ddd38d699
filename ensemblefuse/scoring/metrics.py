"""Metrics that score each row: their names, labels and units."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import get_scorer_names

__all__ = [
    "METRICS",
    "SCORE_UNITS",
    "Metric",
    "check_scoring",
    "default_metric",
    "mean_scores",
    "read_metric",
    "row_values",
]


class Metric(NamedTuple):
    """Names of a metric of `row_values`; greater is better for all metrics."""

    scorer: str
    """scikit-learn's name of the score, which is the mean over rows."""
    classify: bool
    label: str
    unit: str
    """Unit of one row's value; empty if it has none."""
    axis: str
    """Label of the axis in a picture of the mean."""

    @property
    def worth(self) -> str:
        """Label and unit of a difference of scores."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


METRICS = {
    "log_loss": Metric(
        "neg_log_loss", True, "log-loss", "nats per row", "mean log probability of the true class (nats)"
    ),
    "accuracy": Metric("accuracy", True, "accuracy", "share of rows", "accuracy"),
    "brier": Metric("neg_brier_score", True, "Brier score", "", "minus Brier score (0 to 2)"),
    "squared_error": Metric(
        "neg_mean_squared_error", False, "squared error", "squared units of y", "minus mean squared error"
    ),
    "absolute_error": Metric(
        "neg_mean_absolute_error", False, "absolute error", "units of y", "minus mean absolute error"
    ),
}
# Units of scores over many rows; scores without a unit are left out.
SCORE_UNITS = {
    **{"log_loss": "nats", "brier": "0 to 2", "set_size": "classes"},
    **dict.fromkeys(["mae", "rmse", "interval_width"], "unit of the target"),
}


def read_metric(metric: str | None, classify: bool) -> str:
    """Return the name that `row_values` knows, given that name, scikit-learn's name of the score, or None.

    None stands for the default metric.

    Raises
    ------
    ValueError
        If this kind of model has no such metric.
    """
    if metric is None:
        return default_metric(classify)
    known = {metric.scorer: name for name, metric in METRICS.items() if metric.classify == classify}
    if metric not in known and metric not in known.values():
        kind = "classification" if classify else "regression"
        raise ValueError(
            f"metric must be one of {tuple(known.values())} in {kind}, or scikit-learn's name of one, {tuple(known)}; "
            f"got {metric!r}."
        )
    return known.get(metric, metric)


def mean_scores(values: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    """Compute the weighted mean over rows of values of shape (n_rows, n_scores)."""
    return np.average(values, axis=0, weights=sample_weight)


_FLOOR = 1e-15


def default_metric(classify: bool) -> str:
    return "log_loss" if classify else "squared_error"


def row_values(predictions: np.ndarray, y: np.ndarray, metric: str) -> np.ndarray:
    """Compute the value of each row's prediction; greater is better, and the mean over rows is the score.

    Parameters
    ----------
    predictions : ndarray of shape (..., n_rows, n_classes), or (..., n_rows) in regression
    y : ndarray of shape (n_rows,)
        Class codes, or numbers.
    metric : str
        Classification: ``"log_loss"`` (log of the true class's probability, in nats), ``"accuracy"``, ``"brier"``
        (minus the squared distance to the true class, from 0 to 2). Regression: ``"squared_error"`` and
        ``"absolute_error"``, negative.

    Returns
    -------
    ndarray of shape (..., n_rows)
    """
    numbers = {"squared_error": lambda d: -(d**2), "absolute_error": lambda d: -np.abs(d)}
    classes = tuple(name for name, known in METRICS.items() if known.classify)
    if metric in numbers and predictions.ndim >= 1 and predictions.shape[-1] == len(y) and y.dtype.kind == "f":
        return numbers[metric](predictions - y)
    if metric not in classes or y.dtype.kind == "f":
        allowed = tuple(numbers) if y.dtype.kind == "f" else classes
        raise ValueError(f"metric must be one of {allowed}; got {metric!r}.")
    truth = np.take_along_axis(predictions, np.broadcast_to(y[:, None], (*predictions.shape[:-1], 1)), -1)[..., 0]
    if metric == "log_loss":
        return np.log(np.maximum(truth, _FLOOR))
    if metric == "accuracy":
        return (predictions.argmax(axis=-1) == y).astype(float)
    return -((predictions**2).sum(axis=-1) - 2 * truth + 1)


def check_scoring(scoring: Any) -> None:
    """Raise an error if `scoring` is neither None, nor a function, nor the name of a score of scikit-learn.

    Examples
    --------
    >>> from ensemblefuse.scoring.metrics import check_scoring
    >>> check_scoring("acuracy")
    Traceback (most recent call last):
    ValueError: scoring must be the name of one score, or a function; got 'acuracy'. Did you mean 'accuracy'?
    """
    if scoring is None or callable(scoring) or (isinstance(scoring, str) and scoring in get_scorer_names()):
        return
    near = difflib.get_close_matches(scoring, get_scorer_names(), n=1) if isinstance(scoring, str) else []
    hint = f" Did you mean {near[0]!r}?" if near else " sklearn.metrics.get_scorer_names() lists them."
    raise ValueError(f"scoring must be the name of one score, or a function; got {scoring!r}.{hint}")
