"""The linear pool: a weighted mean of probabilities or of predicted values. Floor 2."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from ensemblefuse.combine._base import BasePool, member_weights

__all__ = ["MeanPool"]


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
            chosen = _accuracy(P, y, mask, weight)
        elif self.weights == "learned":
            chosen = _learn(P, y, mask, weight)
        else:
            raise ValueError(
                'weights must be "equal", "accuracy" (classification only), "learned" or an array; got '
                f"{self.weights!r}."
            )
        self.weights_ = chosen / chosen.sum()

    def _combine(self, P, mask):
        share = _shares(self.weights_, mask)
        return np.einsum("mn,mn...->n...", share, np.where(_like(mask, P), P, 0.0))


def _like(mask, P):
    return mask if P.ndim == 2 else mask[..., None]


def _shares(weights, mask):
    """Weights of the present members of each row, summing to 1; equal ones where all of these are 0."""
    raw = mask * weights[:, None]
    raw = np.where(raw.sum(axis=0) > 0, raw, mask)
    return raw / np.maximum(raw.sum(axis=0), np.finfo(float).tiny)


def _accuracy(P, y, mask, weight):
    right = (np.where(mask[..., None], P, -1.0).argmax(axis=2) == y) & mask
    accuracy = (right * weight).sum(axis=1) / np.maximum((mask * weight).sum(axis=1), np.finfo(float).tiny)
    return accuracy if accuracy.sum() > 0 else np.ones(len(P))


def _learn(P, y, mask, weight):
    """Weights on the simplex by sequential quadratic programming; few parameters, smooth and convex without gaps."""
    n_members = len(mask)
    used = mask.any(axis=0)
    weight = np.where(used, weight, 0.0)
    weight = weight / weight.sum()
    filled = np.where(_like(mask, P), P, 0.0)
    if P.ndim == 3:
        filled = np.take_along_axis(filled, y[None, :, None], axis=2)[..., 0]  # the true class's probability

    def loss(w):
        total = np.maximum((mask * w[:, None]).sum(axis=0), 1e-12)
        mean = w @ filled / total
        slope = (filled - mask * mean) / total
        if P.ndim == 3:
            mean = np.maximum(mean, 1e-12)
            return -weight @ np.log(mean), -slope @ (weight / mean)
        return weight @ (y - mean) ** 2, -2 * slope @ (weight * (y - mean))

    scale = 1.0 if P.ndim == 3 else max(loss(np.full(n_members, 1 / n_members))[0], np.finfo(float).tiny)
    result = minimize(
        lambda w: tuple(part / scale for part in loss(w)),
        np.full(n_members, 1 / n_members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return np.clip(result.x, 0, None)
