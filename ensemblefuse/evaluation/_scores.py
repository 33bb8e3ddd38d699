"""Names of scores, and their intervals over rows that are drawn anew. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ensemblefuse.evaluation._bootstrap import bootstrap_means, n_units, resample_weights
from ensemblefuse.evaluation._subsets import default_metric

__all__ = ["mean_scores", "read_metric", "read_seed", "resampled_scores", "score_name"]

# Metrics of `row_values` under scikit-learn's names of scores, all the greater the better.
_NAMES = {
    "log_loss": "neg_log_loss",
    "accuracy": "accuracy",
    "brier": "neg_brier_score",
    "squared_error": "neg_mean_squared_error",
    "absolute_error": "neg_mean_absolute_error",
}
_CLASSES = ("log_loss", "accuracy", "brier")
# Numbers of the resamples that are held at once: 80 MB.
_AT_ONCE = 10_000_000


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


def read_seed(random_state: Any) -> int:
    """A number that draws the same resamples in every call."""
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def resampled_scores(
    values: np.ndarray,
    n_resamples: int,
    random_state: Any,
    sample_weight: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Mean of each column over the rows of each resample, the same rows for all columns.

    The same seed draws the same rows in every call. Draws are made some at a time: those of 100 000 rows take 0.8 GB.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_scores)
    n_resamples : int
    random_state : int, RandomState or None
    sample_weight, groups : ndarray of shape (n_rows,), optional

    Returns
    -------
    ndarray of shape (n_resamples, n_scores)
        NaN where there are fewer than 2 rows (groups) to draw from: they have no spread.
    """
    rng, n_rows = check_random_state(random_state), len(values)
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1; got {n_resamples!r}.")
    if n_units(n_rows, sample_weight, groups) < 2:
        return np.full((n_resamples, values.shape[1]), np.nan)
    size = max(1, _AT_ONCE // n_rows)
    parts = [min(size, n_resamples - start) for start in range(0, n_resamples, size)]
    return np.concatenate(
        [bootstrap_means(values, resample_weights(n_rows, part, rng, groups), sample_weight) for part in parts]
    )
