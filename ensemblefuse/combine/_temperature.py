"""Temperature scaling: calibration of probabilities by one number."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from ensemblefuse.combine.probabilities import log_probabilities, softmax

__all__ = ["apply_temperature", "fit_temperature", "smooth_temperature"]

_LOG_RANGE = 6.0


def fit_temperature(scores: Any, y: Any, sample_weight: Any = None, *, smoothing: float = 0.0) -> float:
    """Return the temperature with the smallest log-loss.

    Parameters
    ----------
    scores : array of shape (n_samples, n_classes)
        Logits, decision values or log-probabilities.
    y : array of int of shape (n_samples,)
        Column of the true class.
    sample_weight : array of shape (n_samples,), optional
    smoothing : float
        Share of each target that is divided equally among all classes. With 0, the temperature of a sample without
        errors runs to its bound. Platt's 1 / (n_samples + 2) prevents this.

    Returns
    -------
    float
        T in ``softmax(scores / T)``, between exp(-6) and exp(6).

    References
    ----------
    Guo et al., ICML 2017, eq. 9; for the smoothing: Platt, Advances in Large Margin Classifiers 1999.

    Examples
    --------
    A margin of 4 is right in 8 of 10 rows, so it is too certain:

    >>> from ensemblefuse.combine import fit_temperature
    >>> round(fit_temperature([[4.0, 0.0]] * 10, [0] * 8 + [1] * 2), 4)
    2.8854
    """
    scores = np.asarray(scores, dtype=float)
    y = np.asarray(y)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    rows = np.arange(len(y))
    # Centred and scaled to unit size, so that decision values of any scale fall into the search range.
    scores = scores - scores.max(axis=1, keepdims=True)
    size = np.average(-scores.min(axis=1), weights=weight) or 1.0
    scores = scores / size

    def loss(log_temperature):
        z = scores / np.exp(log_temperature)
        target = (1 - smoothing) * z[rows, y] + smoothing * z.mean(axis=1)
        return weight @ (np.log(np.exp(z).sum(axis=1)) - target)

    best = minimize_scalar(loss, bounds=(-_LOG_RANGE, _LOG_RANGE), method="bounded", options={"xatol": 1e-8})
    return float(size * np.exp(best.x))


def smooth_temperature(scores: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
    """Fit a temperature to out-of-fold scores, with Platt's smoothing to keep it finite if no row is wrong.

    The smoothing needs a number of rows. This is the sum of the weights, so that a row of weight 2 counts as two rows,
    but at least the number of rows with a weight.
    """
    n = len(y) if weight is None else max(float(weight.sum()), int((weight > 0).sum()))
    return fit_temperature(scores, y, weight, smoothing=1 / (n + 2))


def apply_temperature(proba: Any, temperature: float) -> np.ndarray:
    """Return the probabilities at another temperature: less certain above 1, more certain below 1.

    Parameters
    ----------
    proba : array of shape (n_samples, n_classes)
    temperature : float

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    Examples
    --------
    >>> from ensemblefuse.combine import apply_temperature
    >>> apply_temperature([[0.8, 0.2]], 0.5).round(4)
    array([[0.9412, 0.0588]])
    """
    return softmax(log_probabilities(np.asarray(proba, dtype=float)) / temperature)
