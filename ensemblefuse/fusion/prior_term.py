"""The prior term: how much a fitted model is trusted against the class frequencies, or against the mean of y."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemblefuse.combine import LogPool
from ensemblefuse.combine.probabilities import log_probabilities, softmax
from ensemblefuse.fusion.splits import mean_over_folds

__all__ = ["learn_prior_weight", "prior_weight_of", "shrink_oof", "shrink_scores", "shrink_values"]

# The prior weight in regression is shrunk towards 0 as if this number of rows said that the model is right.
_ROWS_OF_TRUST = 2.0


def learn_prior_weight(
    predictions: np.ndarray, y: np.ndarray, weight: np.ndarray | None, n_classes: int, mean: float = 0.0
) -> float:
    """Learn the prior weight from out-of-fold predictions: 0 if they are best as they are, 1 if the prior is better.

    In classification, this is 1 minus the weight of a log-linear pool of one member, ``p ~ prior^(1 - w) p^w``. In
    regression, it is the share of ``mean`` in ``(1 - share) prediction + share mean`` with the smallest squared error.

    Parameters
    ----------
    predictions : ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        NaN in rows that do not count.
    y : ndarray of shape (n_samples,)
        Codes, or numbers.
    weight : ndarray of shape (n_samples,), optional
    n_classes : int
        0 in regression.
    mean : float
        Mean of `y`. Regression only.

    Returns
    -------
    float
        From 0 to 1.
    """
    rows = np.isfinite(predictions[:, 0] if n_classes else predictions)
    if weight is not None:
        rows &= weight > 0
    if not rows.any() or (n_classes and len(np.unique(y[rows])) < 2):
        return 0.0
    weight = np.ones(rows.sum()) if weight is None else weight[rows]
    if n_classes:
        # A weight above 1 would sharpen the probabilities, which is the part of the temperature.
        pool = LogPool().fit(predictions[None, rows], y[rows], sample_weight=weight, classes=np.arange(n_classes))
        return float(1 - np.clip(pool.weights_[0], 0.0, 1.0))
    truth, said = y[rows] - mean, predictions[rows] - mean
    trust = _ROWS_OF_TRUST * float(np.average(truth**2, weights=weight))
    own = float(weight @ said**2) + trust
    return float(1 - np.clip((weight @ (said * truth) + trust) / own, 0.0, 1.0)) if own > 0 else 0.0


def prior_weight_of(fusion: Any) -> float:
    """Return the prior weight of a fitted fusion; 0 for a file of a version that had none."""
    return float(getattr(fusion, "prior_weight_", 0.0))


def shrink_scores(scores: np.ndarray, share: float, temperature: float, prior: np.ndarray) -> np.ndarray:
    """Return scores whose softmax at the temperature has the log-prior in the given share."""
    if share == 0:
        return scores
    return (1 - share) * scores + share * temperature * log_probabilities(prior)


def shrink_values(values: np.ndarray, share: float, mean: float) -> np.ndarray:
    """Return numbers with the mean in the given share."""
    return values if share == 0 else values + share * (mean - values)


def shrink_oof(predictions: np.ndarray, ledger: Any) -> np.ndarray:
    """Return out-of-fold predictions with the prior term, which is learned without the fold of the row."""
    known = np.isfinite(predictions[:, 0] if ledger.n_classes else predictions)
    filled = []
    for train, test in ledger.splits:
        train, test = np.setdiff1d(train, test), test[known[test]]
        weight = np.ones(len(train)) if ledger.sample_weight is None else ledger.sample_weight[train]
        y, part = ledger.y[train], predictions[test]
        if weight.sum() > 0:
            mean = 0.0 if ledger.n_classes else float(np.average(y, weights=weight))
            share = learn_prior_weight(predictions[train], y, weight, ledger.n_classes, mean)
            if ledger.n_classes:
                prior = np.bincount(y, weights=weight, minlength=ledger.n_classes) / weight.sum()
                part = softmax(shrink_scores(log_probabilities(part), share, 1.0, prior)) if share else part
            else:
                part = shrink_values(part, share, mean)
        filled.append((test, part))
    return mean_over_folds(filled, len(ledger.y), ledger.n_classes)
