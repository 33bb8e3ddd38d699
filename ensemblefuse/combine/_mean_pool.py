"""The linear pool: a weighted mean of probabilities or of predicted values."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from ensemblefuse.combine._base import PROBABILITY_FLOOR, BasePool, accuracies, like, member_weights, weighted_mean
from ensemblefuse.combine.probabilities import softmax

__all__ = ["MeanPool"]

_LOG_RANGE = 8.0
_PENALTY = 1e-7


class MeanPool(BasePool):
    """Weighted mean of the members (soft voting).

    A mean of calibrated probabilities is not certain enough (Ranjan and Gneiting, JRSS-B 2010); a fusion estimator
    calibrates it afterwards. The weights of absent members go to those present, in proportion.

    Parameters
    ----------
    weights : "equal", "accuracy", "learned", or array of shape (n_members,)
        ``"accuracy"``: each member's accuracy on the predictions given to `fit` (classification only).
        ``"learned"``: on the simplex, of least log-loss, or of least squared error in regression.

    Attributes
    ----------
    weights_ : ndarray of shape (n_members,)
        They sum to 1.

    References
    ----------
    Kittler et al., TPAMI 1998; for learned weights Yao et al., Bayesian Analysis 2018, and Breiman, Machine Learning
    1996.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import MeanPool
    >>> P = np.array([[[0.8, 0.2], [0.2, 0.8]], [[0.6, 0.4], [0.4, 0.6]]])
    >>> MeanPool().fit(P, ["cat", "dog"]).combine(P)
    array([[0.7, 0.3],
           [0.3, 0.7]])
    """

    def __init__(self, weights="equal"):
        self.weights = weights

    def _fit(self, P, y, mask, weight):
        n_members = len(P)
        if not isinstance(self.weights, str):
            chosen = member_weights(self.weights, n_members)
            if chosen.sum() == 0:
                raise ValueError(f"weights must not all be 0; got {self.weights!r}.")
        elif self.weights == "equal":
            chosen = np.ones(n_members)
        elif self.weights == "accuracy" and P.ndim == 3:
            chosen = accuracies(P, y, mask, weight)
            chosen = chosen if chosen.sum() > 0 else np.ones(n_members)
        elif self.weights == "learned":
            chosen = _learn(P, y, mask, weight)
        else:
            raise ValueError(
                'weights must be "equal", "accuracy" (classification only), "learned" or an array; got '
                f"{self.weights!r}."
            )
        self.weights_ = chosen / chosen.sum()

    def _combine(self, P, mask):
        return weighted_mean(P, mask, self.weights_)


def _learn(P, y, mask, weight):
    """Weights on the simplex of least loss, as a softmax of free numbers.

    Where rows have gaps the loss depends on the ratio of two weights however small both are, since they share the rows
    that lack the others; so the search runs over logarithms, and a penalty too small to matter elsewhere picks
    the most equal of weights that do as well.
    """
    n_members = len(mask)
    weight = weight / weight.sum()
    filled = np.where(like(mask, P), P, 0.0)
    if P.ndim == 3:
        filled = np.take_along_axis(filled, y[None, :, None], axis=2)[..., 0]  # the true class's probability
    scale = np.average((y - filled.sum(axis=0) / mask.sum(axis=0)) ** 2, weights=weight) if P.ndim == 2 else 1.0
    scale = max(scale, np.finfo(float).tiny)

    def loss(log_weights):
        w = softmax(log_weights)
        total = w @ mask
        mean = w @ filled / total
        slope = w[:, None] * (filled - mask * mean) / total
        if P.ndim == 3:
            mean = np.maximum(mean, PROBABILITY_FLOOR)
            value, slope = -weight @ np.log(mean), -slope @ (weight / mean)
        else:
            value, slope = weight @ (y - mean) ** 2 / scale, -2 * slope @ (weight * (y - mean)) / scale
        return value + _PENALTY * log_weights @ log_weights, slope + 2 * _PENALTY * log_weights

    bounds = [(-_LOG_RANGE, _LOG_RANGE)] * n_members
    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    return softmax(minimize(loss, np.zeros(n_members), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)
