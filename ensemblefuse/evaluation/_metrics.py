"""Scores of predictions, for many weightings of the rows at once, as a bootstrap needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

__all__ = ["CLASS_METRICS", "class_rates", "classification_scores", "expected_calibration_error", "regression_scores"]

CLASS_METRICS = ("recall", "precision", "f1")
# Probabilities are clipped at this distance from 0 and 1, as in scikit-learn's log-loss.
_EPSILON = np.finfo(np.float64).eps
_BINS = 15


def classification_scores(proba: np.ndarray, y: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores of probabilities, as in scikit-learn with ``zero_division=0``.

    Parameters
    ----------
    proba : ndarray of shape (n_rows, n_classes)
    y : ndarray of shape (n_rows,), dtype int
        Class codes.
    weight : ndarray of shape (n_rows, n_draws)
        A column for each weighting of the rows.

    Returns
    -------
    dict of str to ndarray of shape (n_draws,)
        NaN where a score is not defined: a draw whose weights are all 0; ROC AUC where a class is absent.
    """
    truth = proba[np.arange(len(y)), y]
    right, true, said = _counts(proba, y, weight)
    # Squared distance to the one-hot true class: sum over k of (p_k - [k = y])^2 = sum of p_k^2 - 2 p_y + 1.
    distances = (proba**2).sum(axis=1) - 2 * truth + 1
    values = np.column_stack([-np.log(np.clip(truth, _EPSILON, 1 - _EPSILON)), distances])
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weight.sum(axis=0)
        # One matrix product gives the weighted means of all draws, where a loop would take one pass per draw.
        log_loss, brier = values.T @ weight / total
        rates = {name: np.where((true + said) > 0, rate, np.nan) for name, rate in _rates(right, true, said).items()}
        accuracy, balanced = right.sum(axis=0) / total, _mean(np.where(true > 0, right / true, np.nan))
    return {
        "accuracy": accuracy,
        "balanced_accuracy": balanced,
        **{f"macro_{name}": _mean(rate) for name, rate in rates.items()},
        "roc_auc": _roc_auc(proba, y, weight),
        "log_loss": log_loss,
        "brier": brier,
        "ece": _calibration_error(proba, y, weight, np.linspace(0, 1, _BINS + 1)),
    }


def class_rates(proba: np.ndarray, y: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Compute recall, precision and F1 of each class, of shape (n_classes, n_draws); NaN for a class without rows."""
    right, true, said = _counts(proba, y, weight)
    return {name: np.where(true > 0, rate, np.nan) for name, rate in _rates(right, true, said).items()}


def _rates(right: np.ndarray, true: np.ndarray, said: np.ndarray) -> dict[str, np.ndarray]:
    parts = {"recall": (right, true), "precision": (right, said), "f1": (2 * right, true + said)}
    return {name: np.divide(a, b, out=np.zeros_like(a), where=b > 0) for name, (a, b) in parts.items()}


def _counts(proba: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum the weights, by class, of the correctly predicted rows, of the true rows, and of the predicted rows."""
    said, n_classes = proba.argmax(axis=1), proba.shape[1]
    hits = said == y
    return _sums(y[hits], weight[hits], n_classes), _sums(y, weight, n_classes), _sums(said, weight, n_classes)


def _sums(codes: np.ndarray, weight: np.ndarray, n_codes: int) -> np.ndarray:
    """Sum the weights of the rows of each code: shape (n_codes, n_draws)."""
    # A sparse 0/1 matrix of codes by rows: its product with the weights sums them, for all draws at once.
    member = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(n_codes, len(codes)))
    return member @ weight


def _mean(rates: np.ndarray) -> np.ndarray:
    """Compute the mean over the classes whose rate is defined; NaN where none is."""
    known = np.isfinite(rates)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, rates, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _roc_auc(proba: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve: the mean over each class against the rest, or of the second of two."""
    classes = [1] if proba.shape[1] == 2 else range(proba.shape[1])
    return np.mean([_area(proba[:, k], y == k, weight) for k in classes], axis=0)


def _area(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Compute the weighted share of (positive, negative) pairs whose positive scores higher; ties count half.

    This share equals the area under the ROC curve. With negatives sorted by score and their weights cumulated in
    `below`, ``below[first]`` is the weight strictly below a positive, and ``below[last]`` adds that of ties. Half the
    sum of the two thus counts ties half, without a curve per draw.
    """
    rest = np.flatnonzero(~positive)
    rest = rest[np.argsort(score[rest], kind="stable")]
    below = np.zeros((len(rest) + 1, weight.shape[1]))
    np.cumsum(weight[rest], axis=0, out=below[1:])
    first, last = (np.searchsorted(score[rest], score[positive], side) for side in ("left", "right"))
    own = weight[positive]
    won = np.einsum("ij,ij->j", own, below[first]) + np.einsum("ij,ij->j", own, below[last])
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / (2 * own.sum(axis=0) * below[-1])


def regression_scores(predicted: np.ndarray, y: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Compute R2, the mean absolute error and the root of the mean squared error.

    Parameters
    ----------
    predicted, y : ndarray of shape (n_rows,)
    weight : ndarray of shape (n_rows, n_draws)

    Returns
    -------
    dict of str to ndarray of shape (n_draws,)
        R2 is NaN where all targets of a draw are equal.
    """
    error = predicted - y
    centred = y - y.mean()  # in sums of squares of large numbers, rounding would hide a small spread
    with np.errstate(invalid="ignore", divide="ignore"):
        squares, absolute, first, second = (
            np.column_stack([error**2, np.abs(error), centred, centred**2]).T @ weight / weight.sum(axis=0)
        )
        spread = second - first**2  # variance of y in each draw
        # A spread within rounding error of 0 counts as 0: R2 is then undefined.
        spread = np.where(spread > 1e-12 * second + (1e-12 * np.abs(y).max(initial=0)) ** 2, spread, np.nan)
        return {"r2": 1 - squares / spread, "mae": absolute, "rmse": np.sqrt(squares)}


# ---------------------------------------------------------------------- calibration


def expected_calibration_error(
    y_true: Any,
    proba: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    sample_weight: Any = None,
    labels: Any = None,
) -> float:
    """Compute the mean gap between the probability of the predicted class and the accuracy of the prediction.

    Rows are put into bins by the probability of their most probable class. The error is the sum over the bins of
    ``share of the rows * |accuracy - mean probability|``.

    Parameters
    ----------
    y_true : array of shape (n_samples,)
    proba : array of shape (n_samples, n_classes)
        Or of shape (n_samples,): probabilities of the second of two classes.
    n_bins : int
    strategy : {"uniform", "quantile"}
        Bins of equal width from 0 to 1, or of equal weight. A probability on an edge belongs to the lower bin.
    sample_weight : array of shape (n_samples,), optional
    labels : array of shape (n_classes,), optional
        Class of each column; by default the sorted values of `y_true`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If `strategy` is unknown, `n_bins` is below 1, or the columns do not fit the classes.

    Notes
    -----
    The error depends on the bins and is biased upwards: in a bin of few rows even a calibrated model has some error.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017, equation 3 (bins of equal
    width); Nguyen and O'Connor, EMNLP 2015 (of equal weight).

    Examples
    --------
    >>> from ensemblefuse import expected_calibration_error
    >>> round(expected_calibration_error([1, 1, 1, 0], [0.9, 0.9, 0.9, 0.9]), 3)
    0.15
    """
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f'strategy must be "uniform" or "quantile"; got {strategy!r}.')
    if not n_bins >= 1:
        raise ValueError(f"n_bins must be at least 1; got {n_bins!r}.")
    y, P = np.asarray(y_true), np.asarray(proba, dtype=float)
    P = np.column_stack([1 - P, P]) if P.ndim == 1 else P
    classes = np.unique(y) if labels is None else np.asarray(labels)
    if P.shape != (len(y), len(classes)):
        raise ValueError(
            f"proba has shape {P.shape} for {len(y)} labels of {len(classes)} classes; if y_true lacks some classes, "
            "pass labels=, the class of each column."
        )
    unknown = sorted(set(y.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise ValueError(f"y_true holds {unknown[:5]}, which labels={classes.tolist()} lacks.")
    place = {label: i for i, label in enumerate(classes.tolist())}
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    edges = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        edges = _quantiles(P.max(axis=1), weight, edges)
    codes = np.array([place[label] for label in y.tolist()])
    return float(_calibration_error(P, codes, weight[:, None], edges)[0])


def _quantiles(values: np.ndarray, weight: np.ndarray, shares: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    places = np.searchsorted(reached, shares * reached[-1] * (1 - 1e-12))
    return values[order][np.minimum(places, len(values) - 1)]


def _calibration_error(proba: np.ndarray, y: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> np.ndarray:
    confidence = proba.max(axis=1)
    # share of a bin * |accuracy - mean confidence| = |weighted sum of (right - confidence) in the bin| / total weight
    gap = (proba.argmax(axis=1) == y) - confidence
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(_sums(bins, gap[:, None] * weight, len(edges) - 1)).sum(axis=0) / weight.sum(axis=0)
