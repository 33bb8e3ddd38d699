"""Stacking: a second-level estimator reads the members' predictions. Floor 2."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.combine._base import BasePool, log_probabilities

__all__ = ["StackingPool"]

_LOG_FLOOR = -12.0


class StackingPool(BasePool):
    """A second-level estimator over the members' predictions.

    An absent member is filled with the prior. Give out-of-fold predictions to `fit`: a stacker that sees in-sample ones
    trusts the member that overfits most.

    Parameters
    ----------
    estimator : estimator, optional
        By default ``LogisticRegression(C=0.1)``, and least squares with non-negative coefficients in regression. A
        classifier needs ``predict_proba``.
    input : {"logproba", "proba"}
        Whether the second level reads logarithms, not below -12, or probabilities. No meaning in regression.

    Attributes
    ----------
    estimator_ : estimator
        Fitted on coded labels.
    known_ : ndarray of int
        Columns of `P` whose classes had rows in `fit`; code i of `estimator_` is class ``known_[i]``.

    References
    ----------
    Wolpert, Neural Networks 1992; Ting and Witten, JAIR 1999; Breiman, Machine Learning 1996.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import StackingPool
    >>> P = np.array([[[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7]]])
    >>> StackingPool().fit(P, ["cat", "cat", "dog", "dog"]).combine(P).argmax(axis=1)
    array([0, 0, 1, 1])
    """

    def __init__(self, estimator=None, *, input="logproba"):
        self.estimator = estimator
        self.input = input

    def _fit(self, P, y, mask, weight):
        if self.input not in ("logproba", "proba"):
            raise ValueError(f'input must be "logproba" or "proba"; got {self.input!r}.')
        estimator = self.estimator
        if estimator is None:
            classify = LogisticRegression(C=0.1, max_iter=1000)
            estimator = classify if P.ndim == 3 else LinearRegression(positive=True)
        if P.ndim == 3 and not hasattr(estimator, "predict_proba"):
            raise ValueError(
                f"StackingPool needs an estimator with predict_proba; {type(estimator).__name__} has none. Wrap it in "
                "CalibratedClassifierCV."
            )
        self.estimator_, _ = fit_estimator(estimator, self._features(P, mask), self._coded(P, y), weight)

    def _coded(self, P, y):
        """Labels as codes of the classes that are there: XGBoost takes no gaps."""
        if P.ndim == 2:
            return y
        self.known_, y = np.unique(y, return_inverse=True)
        return y

    def _combine(self, P, mask):
        features = self._features(P, mask)
        if P.ndim == 2:
            return np.asarray(self.estimator_.predict(features), dtype=float)
        fused = np.zeros(P.shape[1:])
        fused[:, self.known_] = self.estimator_.predict_proba(features)
        return fused

    def _features(self, P, mask):
        """(n_samples, n_members * n_classes), or (n_samples, n_members) in regression."""
        if P.ndim == 2:
            return np.where(mask, P, self.prior_[0]).T
        filled = np.where(mask[..., None], P, self.prior_)
        if self.input == "logproba":
            filled = log_probabilities(filled, _LOG_FLOOR)
        return filled.transpose(1, 0, 2).reshape(P.shape[1], -1)
