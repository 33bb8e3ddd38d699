"""The choice among several values of a parameter by out-of-fold scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from ensemblefuse.combine import smooth_temperature
from ensemblefuse.combine.probabilities import softmax

__all__ = ["choose_by_log_loss", "choose_by_squared_error", "mean_of_folds", "read_candidates"]


def read_candidates(name: str, value: Any, *, zero: bool) -> list[float]:
    """Return a number or a sequence of numbers as a list, after checking it; ``zero`` allows the value 0."""
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    wanted = "at least 0" if zero else "above 0"
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(np.isfinite(v) and (v > 0 or (zero and v == 0)) for v in numbers):
        raise ValueError(f"{name} must be a finite number {wanted}, or a sequence of such numbers; got {value!r}.")
    return numbers


def mean_of_folds(results: Any, n_candidates: int, shape: tuple[int, ...]) -> np.ndarray:
    """Collect the scores of all candidates from ``(test, scores)`` of each fold.

    A row in no fold is NaN; a row in several folds gets the mean.
    """
    total, count = np.zeros((n_candidates, *shape)), np.zeros(shape[0])
    for test, scores in results:
        if scores is not None and len(test):
            total[:, test] += scores
            count[test] += 1
    total[:, count == 0] = np.nan
    return total / np.maximum(count, 1).reshape(-1, *[1] * (len(shape) - 1))


def choose_by_log_loss(scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[int, float, np.ndarray]:
    """Choose the candidate with the smallest out-of-fold log-loss, each at its own temperature.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates, n_samples, n_classes)
        Out-of-fold scores; NaN in the same rows of all candidates.
    y : ndarray of int of shape (n_samples,)
    weight : ndarray of shape (n_samples,)

    Returns
    -------
    best : int
        Position of the first of the best candidates.
    temperature : float
    proba : ndarray of shape (n_samples, n_classes)
    """
    rows = np.isfinite(scores[0]).all(axis=1)
    if not rows.any():
        _warn_nothing_to_choose_by("the temperature is 1")
        return 0, 1.0, np.full(scores.shape[1:], np.nan)
    y, weight = y[rows], weight[rows]
    temperatures = [smooth_temperature(s[rows], y, weight) for s in scores]
    probas = [softmax(s / t) for s, t in zip(scores, temperatures, strict=True)]
    truth = (np.flatnonzero(rows), y)
    losses = [-np.average(np.log(np.maximum(p[truth], 1e-15)), weights=weight) for p in probas]
    best = int(np.argmin(losses))
    return best, temperatures[best], probas[best]


def choose_by_squared_error(predictions: np.ndarray, y: np.ndarray, weight: np.ndarray) -> int:
    """Return the position of the first candidate with the smallest out-of-fold squared error.

    ``predictions`` has shape (n_candidates, n_samples).
    """
    rows = np.isfinite(predictions[0])
    if not rows.any():
        if len(predictions) > 1:
            _warn_nothing_to_choose_by("the first value of each parameter is taken")
        return 0
    return int(np.argmin(((predictions[:, rows] - y[rows]) ** 2) @ weight[rows]))


def _warn_nothing_to_choose_by(what: str) -> None:
    warnings.warn(
        f"no row has an out-of-fold prediction, so {what}. Use more rows, or another cv.", UserWarning, stacklevel=7
    )
