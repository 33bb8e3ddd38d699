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

    A mean of calibrated probabilities is not certain enough (Ranjan and Gneiting, JRSS-B 2010). A fusion estimator
    calibrates it afterwards. The weights of absent members are divided among the present ones, in proportion.

    Parameters
    ----------
    weights : "equal", "accuracy", "learned", array of shape (n_members,), or dict of member name to number
        ``"accuracy"``: each member's accuracy on the predictions given to `fit` (classification only).
        ``"learned"``: weights on the simplex that minimise the log-loss, or the squared error in regression. A dict
        names every member of the fusion (see its ``member_names_``): a modality, and ``"joint"`` unless
        ``joint=False``.

    Attributes
    ----------
    weights_ : ndarray of shape (n_members,)
        They sum to 1.

    References
    ----------
    Kittler et al., TPAMI 1998; for learned weights: Yao et al., Bayesian Analysis 2018, and Breiman, Machine Learning
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
            chosen = member_weights(self.weights, n_members, self._names)
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
                'weights must be "equal", "accuracy" (classification only), "learned", an array or a dict; got '
                f"{self.weights!r}."
            )
        self.weights_ = chosen / chosen.sum()

    def _combine(self, P, mask):
        return weighted_mean(P, mask, self.weights_)


def _learn(P, y, mask, weight):
    """Learn the weights on the simplex with the smallest loss, as a softmax of free numbers.

    If rows have gaps, the ratio of two weights matters even if both are tiny: it decides the rows that hold only these
    two members. So the search runs over logarithms. A very small penalty selects the most equal weights among weights
    with the same loss.
    """
    n_members = len(mask)
    weight = weight / weight.sum()
    filled = np.where(like(mask, P), P, 0.0)
    if P.ndim == 3:
        filled = np.take_along_axis(filled, y[None, :, None], axis=2)[..., 0]  # probability of the true class
    # In regression the loss is divided by this, so that the tolerances do not depend on the unit of y.
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
