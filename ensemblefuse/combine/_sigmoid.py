"""Sigmoid calibration (Platt scaling), one class against the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ensemblefuse.combine.probabilities import log_probabilities

__all__ = ["apply_sigmoid", "fit_sigmoid"]


def fit_sigmoid(proba: Any, y: Any, sample_weight: Any = None) -> np.ndarray:
    """Fit slope and intercept of each class, for `apply_sigmoid`.

    For each class, a logistic regression without penalty predicts "this class" from its log-odds. The targets are
    Platt's: (N+ + 1) / (N+ + 2) for the rows of the class and 1 / (N- + 2) for the others. N+ and N- are sums of
    weights. These targets keep the coefficients finite when no row is wrong. A temperature has one parameter, a sigmoid
    has two per class. So it can correct classes that are predicted too rarely or too often, but it needs more rows.

    Parameters
    ----------
    proba : array of shape (n_samples, n_classes)
    y : array of int of shape (n_samples,)
        Column of the true class.
    sample_weight : array of shape (n_samples,), optional

    Returns
    -------
    ndarray of shape (n_classes, 2)
        Slope and intercept of each class.

    References
    ----------
    Platt, Advances in Large Margin Classifiers 1999; for one class against the rest: Zadrozny and Elkan, KDD 2002.

    Examples
    --------
    A prediction with probability .982 is right in 8 of 10 rows, so it is too certain:

    >>> import numpy as np
    >>> from ensemblefuse.combine import apply_sigmoid, fit_sigmoid
    >>> p = 1 / (1 + np.exp(-4))
    >>> proba = np.array([[p, 1 - p]] * 50 + [[1 - p, p]] * 50)
    >>> y = np.r_[np.zeros(40), np.ones(10), np.ones(40), np.zeros(10)].astype(int)
    >>> apply_sigmoid([[p, 1 - p]], fit_sigmoid(proba, y)).round(2)
    array([[0.79, 0.21]])
    """
    odds = _log_odds(proba)
    y = np.asarray(y)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    return np.array([_platt(odds[:, k], y == k, weight) for k in range(odds.shape[1])])


def _platt(odds: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    n_positive, n_negative = weight[positive].sum(), weight[~positive].sum()
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    # scikit-learn takes no target between 0 and 1: each row is given twice, with labels 1 and 0 and these weights.
    size = np.abs(odds).max(initial=0) or 1.0  # the solver is slow if slope and intercept differ much in scale
    both = np.r_[odds, odds][:, None] / size
    labels = np.repeat([1, 0], len(odds))
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(both, labels, sample_weight=np.r_[weight * target, weight * (1 - target)])
    return model.coef_[0, 0] / size, model.intercept_[0]


def apply_sigmoid(proba: Any, coefficients: Any) -> np.ndarray:
    """Return calibrated probabilities: a sigmoid of each class's log-odds, scaled to sum to 1.

    Parameters
    ----------
    proba : array of shape (n_samples, n_classes)
    coefficients : array of shape (n_classes, 2)
        The result of `fit_sigmoid`.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    Examples
    --------
    >>> from ensemblefuse.combine import apply_sigmoid
    >>> apply_sigmoid([[0.8, 0.2]], [[0.5, 0.0], [0.5, 0.0]]).round(4)
    array([[0.6667, 0.3333]])
    """
    slope, intercept = np.asarray(coefficients, dtype=float).T
    scaled = expit(slope * _log_odds(proba) + intercept)
    return scaled / scaled.sum(axis=1, keepdims=True)


def _log_odds(proba) -> np.ndarray:
    proba = np.asarray(proba, dtype=float)
    return log_probabilities(proba) - log_probabilities(1 - proba)
