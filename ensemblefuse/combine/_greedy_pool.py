"""Greedy ensemble selection: members are added one by one, as long as the loss falls."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from ensemblefuse.combine._base import PROBABILITY_FLOOR, BasePool, log_evidence, weighted_mean
from ensemblefuse.combine.probabilities import log_sum_exp, softmax

__all__ = ["GreedyPool"]

_DECIMALS = 6


class GreedyPool(BasePool):
    """Greedy selection of members with replacement.

    Each round adds one member: the one that gives the smallest loss on the predictions given to `fit`, together with
    all members chosen so far. The rounds up to the smallest loss are kept. The weight of a member is the share of these
    rounds in which it was chosen. The loss is the log-loss, or the squared error in regression. Losses are compared at
    6 decimals (of the variance of `y` in regression). Among equal losses, a member chosen before is preferred, so that
    few members are used.

    The pool is meant for many models of the same data. With one model per modality, ``space="prob"`` usually selects
    only the strongest modality, because a mean cannot be more certain than its members. ``space="log"`` can be.

    Parameters
    ----------
    n_rounds : int
    space : {"log", "prob"}
        ``"log"``: mean of log-probabilities. The class prior replaces absent members, as in `LogPool`.
        ``"prob"``: mean of probabilities. Present members take over the weights of absent ones, as in `MeanPool`.
        Ignored in regression, where the mean of the predicted values is used.

    Attributes
    ----------
    weights_ : ndarray of shape (n_members,)
        They sum to 1. Each is a multiple of 1 / `size_`.
    size_ : int
        Number of rounds kept.
    loss_path_ : ndarray of shape (n_rounds,)
        Loss after each round.

    References
    ----------
    Caruana et al., ICML 2004; for the comparison at 6 decimals and for ties: Erickson et al., AutoGluon-Tabular, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import GreedyPool
    >>> P = np.array([[[0.9, 0.1], [0.3, 0.7]], [[0.5, 0.5], [0.5, 0.5]]])
    >>> GreedyPool().fit(P, ["cat", "dog"]).weights_
    array([1., 0.])
    """

    def __init__(self, n_rounds=50, *, space="log"):
        self.n_rounds = n_rounds
        self.space = space

    def _fit(self, P, y, mask, weight):
        if not isinstance(self.n_rounds, Integral) or isinstance(self.n_rounds, bool) or self.n_rounds < 1:
            raise ValueError(f"n_rounds must be an integer of at least 1; got {self.n_rounds!r}.")
        if self.space not in ("log", "prob"):
            raise ValueError(f'space must be "log" or "prob"; got {self.space!r}.')
        weight = weight / weight.sum()
        if P.ndim == 3 and self.space == "log":
            parts, loss = self._log_parts(P, y, mask, weight)
        else:
            parts, loss = self._mean_parts(P, y, mask, weight)
        # Squared errors are compared on the scale of y.
        scale = (self.prior_[1] or 1.0) if P.ndim == 2 else 1.0
        chosen, path = _select(parts, loss, self.n_rounds, scale)
        self.loss_path_ = np.array(path)
        self.size_ = int(np.argmin(np.round(self.loss_path_ / scale, _DECIMALS))) + 1
        self.weights_ = np.bincount(chosen[: self.size_], minlength=len(P)) / self.size_

    def _log_parts(self, P, y, mask, weight):
        """Return the evidence of the members, and a function: the log-loss of a sum of `size` of them."""
        log_prior, truth = np.log(self.prior_), (np.arange(len(y)), y)

        def loss(total, size):
            scores = log_prior + total / size
            return weight @ (log_sum_exp(scores) - scores[truth])

        return log_evidence(P, mask, self.prior_), loss

    def _mean_parts(self, P, y, mask, weight):
        """Return value and presence of each member, and a function: the loss of a sum of these.

        A row without any chosen member gets the mean of all its members, so that each round counts the same rows.
        """
        value = P if P.ndim == 2 else np.take_along_axis(P, y[None, :, None], axis=2)[..., 0]
        value = np.where(mask, value, 0.0)
        otherwise = value.sum(axis=0) / mask.sum(axis=0)

        def loss(total, size):
            mean = np.where(total[1] > 0, total[0] / np.maximum(total[1], 1), otherwise)
            if P.ndim == 2:
                return weight @ (y - mean) ** 2
            return -weight @ np.log(np.maximum(mean, PROBABILITY_FLOOR))

        return np.stack([value, mask], axis=1), loss

    def _combine(self, P, mask):
        if P.ndim == 2 or self.space == "prob":
            return weighted_mean(P, mask, self.weights_)
        return softmax(np.log(self.prior_) + np.tensordot(self.weights_, log_evidence(P, mask, self.prior_), 1))


def _select(parts, loss, n_rounds, scale):
    """Return the member chosen in each round, and the loss after each round."""
    total, chosen, path = np.zeros(parts.shape[1:]), [], []
    for size in range(1, n_rounds + 1):
        losses = np.array([loss(total + part, size) for part in parts])
        rounded = np.round(losses / scale, _DECIMALS)
        best = np.flatnonzero(rounded == rounded.min())
        used = np.intersect1d(best, chosen)
        best = used if len(used) else best
        chosen.append(int(best[np.argmin(losses[best])]))
        path.append(losses[chosen[-1]])
        total += parts[chosen[-1]]
    return chosen, path
