"""The log-linear pool: a weighted geometric mean, in which the prior stands in for what is absent. Floor 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ensemblefuse.combine._base import BasePool, log_probabilities, member_weights, softmax

__all__ = ["LogPool", "shift_prior"]


class LogPool(BasePool):
    r"""Log-linear pool of probabilities, the default combiner.

    .. math:: p \propto \pi^{1-\sum_{m \in S} w_m} \prod_{m \in S} p_m^{w_m}

    over the members :math:`S` that the row has. With all weights 1 it is the exact posterior if modalities are
    independent given the class; with weights 1/M it is the geometric mean. Absent members drop out and the class
    prior fills in, so that a row with less evidence gets a less certain prediction.

    In regression every member is read as a normal density around its prediction, with the variance of its
    out-of-fold error; the product gives a mean weighted by precision, over the members that the row has.

    Parameters
    ----------
    weights : "learned", "equal", or array of shape (n_members,)
        ``"learned"``: non-negative, of least log-loss on the predictions given to `fit`; in regression 1/M, since the
        precisions are learned. ``"equal"``: 1/M each, which suits members of about equal strength.
    alpha : float
        Penalty ``alpha / n * ||w - 1/M||^2`` on learned weights.
    class_prior : array of shape (n_classes,) or dict of label to probability, optional
        Class frequencies to expect at prediction, where they differ from those in `fit`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_members,)
    variance_ : ndarray of shape (n_members,)
        Out-of-fold squared error of each member. Regression only.

    References
    ----------
    Genest and Zidek, Statistical Science 1986; Ranjan and Gneiting, JRSS-B 2010; for non-negative weights Heskes,
    NIPS 1998; for `class_prior` Saerens, Latinne and Decaestecker, Neural Computation 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import LogPool
    >>> P = np.array([[[0.8, 0.2], [0.2, 0.8]], [[0.6, 0.4], [0.4, 0.6]]])
    >>> LogPool("equal").fit(P, ["cat", "dog"]).combine(P).round(4)
    array([[0.7101, 0.2899],
           [0.2899, 0.7101]])
    """

    def __init__(self, weights="learned", *, alpha=2.0, class_prior=None):
        self.weights = weights
        self.alpha = alpha
        self.class_prior = class_prior

    def _fit(self, P, y, mask, weight):
        n_members = len(P)
        if isinstance(self.weights, str) and self.weights not in ("equal", "learned"):
            raise ValueError(f'weights must be "equal", "learned" or an array; got {self.weights!r}.')
        if not isinstance(self.weights, str):
            self.weights_ = member_weights(self.weights, n_members)
        else:
            self.weights_ = np.full(n_members, 1 / n_members)
        if P.ndim == 2:
            self._fit_variance(P, y, mask, weight)
        elif isinstance(self.weights, str) and self.weights == "learned":
            self.weights_ = self._learn(self._evidence(P, mask), y, weight)
        if self.class_prior is not None:
            self._new_prior()

    def _fit_variance(self, P, y, mask, weight):
        error = np.where(mask, (np.nan_to_num(P) - y) ** 2, 0.0)
        mass = np.maximum((mask * weight).sum(axis=1), np.finfo(float).tiny)
        floor = 1e-12 * self.prior_[1] + np.finfo(float).tiny
        self.variance_ = np.maximum((error * weight).sum(axis=1) / mass, floor)

    def _evidence(self, P, mask):
        """log p_m - log prior, 0 where the member is absent."""
        return np.where(mask[..., None], log_probabilities(P) - np.log(self.prior_), 0.0)

    def _learn(self, evidence, y, weight):
        penalty = self.alpha / weight.sum()  # as in scikit-learn, a row of weight 2 counts as two
        weight = weight / weight.sum()
        rows, start = np.arange(evidence.shape[1]), self.weights_
        # (n_samples, n_members): what each member says for the true class.
        truth = np.take_along_axis(evidence, y[None, :, None], axis=2)[..., 0].T
        log_prior = np.log(self.prior_)

        def loss(w):
            fused = softmax(log_prior + np.tensordot(w, evidence, 1))
            nll = -weight @ np.log(np.maximum(fused[rows, y], 1e-300))
            gradient = np.einsum("n,nk,mnk->m", weight, fused, evidence) - weight @ truth
            gap = w - start
            return nll + penalty * gap @ gap, gradient + 2 * penalty * gap

        bounds = [(0, None)] * len(start)
        return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12}).x

    def _combine(self, P, mask):
        if P.ndim == 2:
            return self._combine_normal(P, mask)
        return softmax(np.log(self.prior_) + np.tensordot(self.weights_, self._evidence(P, mask), 1))

    def shift(self, fused):
        """Probabilities for `class_prior`, if there is one; see `shift_prior`."""
        return fused if self.class_prior is None else shift_prior(fused, self.prior_, self._new_prior())

    @property
    def is_calibrated(self):
        """True with learned weights: their sum is a temperature."""
        return isinstance(self.weights, str) and self.weights == "learned"

    def _combine_normal(self, P, mask):
        # No prior here: a regressor's prediction is drawn towards the mean of y already, as far as its block is weak.
        precision = np.where(mask, (self.weights_ / self.variance_)[:, None], 0.0)
        total = precision.sum(axis=0)
        fused = (precision * np.where(mask, P, 0.0)).sum(axis=0)
        return np.where(total > 0, fused / np.where(total > 0, total, 1.0), self.prior_[0])

    def _new_prior(self) -> np.ndarray:
        prior: Any = self.class_prior
        if isinstance(prior, Mapping):
            if set(prior) != set(self.classes_.tolist()):
                raise ValueError(f"class_prior must name the classes {self.classes_.tolist()}; got {list(prior)}.")
            prior = [prior[label] for label in self.classes_.tolist()]
        prior = np.asarray(prior, dtype=float)
        if not hasattr(self, "classes_") or prior.shape != self.prior_.shape or not (prior > 0).all():
            raise ValueError(f"class_prior must hold one positive number a class; got {self.class_prior!r}.")
        return prior / prior.sum()


def shift_prior(proba, prior, new_prior) -> np.ndarray:
    """Probabilities for other class frequencies than those that a model was trained on.

    Parameters
    ----------
    proba : array of shape (n_samples, n_classes)
    prior, new_prior : array of shape (n_classes,)
        Class frequencies in training, and those to expect.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    References
    ----------
    Saerens, Latinne and Decaestecker, Neural Computation 2002, eq. 2.4.

    Examples
    --------
    >>> from ensemblefuse.combine import shift_prior
    >>> shift_prior([[0.3, 0.7]], [0.5, 0.5], [0.8, 0.2]).round(6)
    array([[0.631579, 0.368421]])
    """
    shifted = np.asarray(proba, dtype=float) * np.asarray(new_prior, dtype=float) / np.asarray(prior, dtype=float)
    return shifted / shifted.sum(axis=1, keepdims=True)
