"""Non-negative weights of log-evidence that minimise the log-loss."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from ensemblefuse.combine._trusted_share import best_alone, trusted_share
from ensemblefuse.combine.probabilities import log_sum_exp, log_sum_exp_and_softmax


def weighted_evidence(evidence: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum over the members, of shape (n_samples, n_classes).

    `weights` has one number per member, or one per member and class.
    """
    if weights.ndim == 1:  # what `np.tensordot` does, without its checks
        return np.dot(weights[None], evidence.reshape(len(weights), -1)).reshape(evidence.shape[1:])
    return np.einsum("mk,mnk->nk", weights, evidence)


def learn_weights(
    evidence: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray,
    centre: np.ndarray,
    alpha: float,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    shared: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Learn weights and bias in ``softmax(offset + bias + sum_m w_m evidence_m)``.

    They minimise the mean log-loss plus ``alpha / n * (||d||^2 + shared * ||m||^2 + ||bias||^2)``. Here ``w - centre``
    is split into m, a vector with its mean in every position, and the rest d. The problem is convex.

    Parameters
    ----------
    evidence : ndarray of shape (n_members, n_samples, n_classes)
        0 where a member is absent.
    y : ndarray of int of shape (n_samples,)
    weight : ndarray of shape (n_samples,)
        As in scikit-learn, a row of weight 2 counts as two rows, also in n.
    offset : ndarray of shape (n_classes,)
    centre : ndarray of shape (n_members,) or (n_members, n_classes)
        Without an axis of classes, the bias stays 0.
    alpha : float
    start : tuple of weights and bias, optional
    shared : float
        With 1 the penalty is ``||w - centre||^2``. A smaller value lets all weights grow or shrink together, like a
        temperature.

    Returns
    -------
    weights : ndarray of the shape of `centre`
    bias : ndarray of shape (n_classes,)
    """
    n_members, n_samples, n_classes = evidence.shape
    per_class, size = centre.ndim == 2, centre.size
    penalty, weight = alpha / weight.sum(), weight / weight.sum()
    truth = np.arange(n_samples), y
    flat = np.ascontiguousarray(evidence).reshape(n_members, -1)

    def loss(parameters):
        w, bias = parameters[:size].reshape(centre.shape), parameters[size:] if per_class else 0.0
        scores = offset + bias + weighted_evidence(evidence, w)
        log_sum, residual = log_sum_exp_and_softmax(scores)
        nll = weight @ (log_sum - scores[truth])
        residual[truth] -= 1
        residual *= weight[:, None]
        gap = w - centre
        # d and m are orthogonal, so one expression gives both parts of the penalty: gap @ pull = |d|^2 + shared |m|^2.
        pull = gap - (1 - shared) * gap.mean()
        value, slope = nll + penalty * (gap * pull).sum(), 2 * penalty * pull
        if not per_class:
            return value, slope + flat @ residual.ravel()
        slope = slope + np.einsum("mnk,nk->mk", evidence, residual)
        return value + penalty * bias @ bias, np.r_[slope.ravel(), residual.sum(axis=0) + 2 * penalty * bias]

    weights, bias = (centre, np.zeros(n_classes)) if start is None else start
    first = np.r_[weights.ravel(), bias] if per_class else weights
    bounds = [(0, None)] * size + [(None, None)] * (n_classes * per_class)
    # Tighter than scipy's defaults: at 1e-5, another order of the same rows changes the third digit of the weights.
    options = {"ftol": 1e-13, "gtol": 1e-8, "maxiter": 1000}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return found[:size].reshape(centre.shape), found[size:] if per_class else np.zeros(n_classes)


def trusted_weights(
    evidence: np.ndarray, y: np.ndarray, weight: np.ndarray, offset: np.ndarray, weights: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return learned weights and bias as far as they are surely better than the best member alone.

    The best member has the weight 1; if none is better than the class frequencies in `offset`, all have the weight 0.
    Parameters and results are those of `learn_weights`.
    """
    rows = np.arange(len(y))

    def losses(scores: np.ndarray) -> np.ndarray:
        return log_sum_exp(scores) - scores[rows, y]

    members = np.stack([losses(offset + own) for own in evidence])
    alone = best_alone(members, losses(np.broadcast_to(offset, evidence.shape[1:])), weight)
    simple = losses(offset + weighted_evidence(evidence, alone))
    share = trusted_share(simple - losses(offset + bias + weighted_evidence(evidence, weights)), weight)
    return share * weights + (1 - share) * (alone if weights.ndim == 1 else alone[:, None]), share * bias
