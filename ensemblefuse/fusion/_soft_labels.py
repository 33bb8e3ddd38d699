"""Soft labels: probabilities of classes that another model gave, and fitting an estimator to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.combine.probabilities import log_probabilities, softmax

__all__ = ["fit_soft", "soften"]


def soften(proba: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities at a temperature: above 1 they are nearer to each other.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.fusion._soft_labels import soften
    >>> soften(np.array([[0.9, 0.1]]), 2.0).round(2)
    array([[0.75, 0.25]])
    """
    return softmax(log_probabilities(proba, floor=-700.0) / temperature)


def fit_soft(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    proba: np.ndarray,
    share: float,
    temperature: float,
    sample_weight: np.ndarray | None,
    groups: np.ndarray | None,
) -> Any:
    """Fit a clone to labels of which a share is another model's probabilities.

    Parameters
    ----------
    estimator : classifier
        If it has a method ``_fit_soft``, that learns from both losses at the temperature. If it takes weights, each row
        is repeated for each class, with the weight of the class; there is no temperature then.
    X : table of n_samples rows
    y : ndarray of int of shape (n_samples,)
        Codes from 0 to n_classes - 1.
    proba : ndarray of shape (n_samples, n_classes)
    share, temperature : float
    sample_weight : ndarray of shape (n_samples,), optional
    groups : ndarray of shape (n_samples,), optional

    Raises
    ------
    ValueError
        If the estimator takes neither.
    """
    if hasattr(estimator, "_fit_soft"):
        return clone(estimator)._fit_soft(X, y, soften(proba, temperature), share, temperature, sample_weight, groups)
    mixed = share * proba
    mixed[np.arange(len(y)), y] += 1 - share
    rows, classes = np.nonzero(mixed > 0)
    weight = mixed[rows, classes] * (1.0 if sample_weight is None else sample_weight[rows])
    # The copies of a row must not be on both sides of a split inside the estimator.
    own = np.arange(len(y)) if groups is None else groups
    fitted, weighted = fit_estimator(estimator, _safe_indexing(X, rows), classes, weight, own[rows])
    if not weighted:
        raise ValueError(
            f"the student {type(estimator).__name__} takes neither soft targets nor sample_weight, so it cannot learn "
            "from a teacher. Pass one whose fit takes sample_weight, such as LogisticRegression(), or a "
            "NeuralFusionClassifier(); or weight=0 for no teacher."
        )
    return fitted
