"""The log-linear pool: a weighted geometric mean, in which the prior replaces absent members.

In regression it is a weighted sum of predicted values.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ensemblefuse.combine._base import BasePool, log_evidence, member_weights
from ensemblefuse.combine._log_loss_weights import learn_weights, trusted_weights, weighted_evidence
from ensemblefuse.combine._squared_error_weights import learn_value_weights
from ensemblefuse.combine.probabilities import softmax

__all__ = ["LogPool", "shift_prior"]

# A pattern with fewer rows has no weights of its own: the weights from all rows are better for it.
_MIN_PATTERN_ROWS = 10
# Up to this number of sets, each has weights of its own. Above it, only the sets seen in fit and each member alone.
_MAX_PATTERNS = 31
# The weights that the other sets share are learned on copies of all rows, reduced to this number of sampled sets.
_SAMPLED_PATTERNS = 12
# The common growth of all weights is one number, and the data determine it better than each weight. So its penalty is
# multiplied by this factor.
_SHARED = 0.2
# Up to this number of members, all subsets are listed.
_MAX_LISTED = 10


class LogPool(BasePool):
    r"""Log-linear pool of probabilities, the default combiner.

    .. math:: p \propto \pi^{1-\sum_{m \in S} w_m} \prod_{m \in S} p_m^{w_m}

    over the members :math:`S` present in the row. With all weights 1 it is the exact posterior if the modalities are
    independent given the class. With weights 1/M it is the geometric mean. The class prior replaces absent members, so
    a row with less evidence gets a less certain prediction.

    In regression, members and prior count as normal densities around their predictions. With learned weights, these
    have the same variance, and the product of the densities is normal around

    .. math:: f = \bar y + b + \sum_{m \in S} w_m (f_m - \bar y)

    With other weights, the variance is that of the member's out-of-fold error, and the members present in the row give
    a mean weighted by precision.

    Parameters
    ----------
    weights : "learned", "equal", array of shape (n_members,), or dict of member name to number
        ``"learned"``: non-negative weights that minimise the log-loss on the predictions given to `fit`, or the squared
        error in regression. In regression, four forms are compared by generalised cross-validation: the best member
        (if it is clearly better than the mean of all), a mean, any sum of weights, and any sum with an intercept. The
        first is taken that is at most half a standard error worse than the best. So a useless member gets a weight of
        about 0, and members that add up may have a sum above 1.
        Where each row holds each member, and the gain over the best member alone is less than a standard error (in
        regression, two), the weights are between the learned ones and that member, or the prior if no member is better
        than it.
        ``"equal"``: 1/M each, for members of about equal strength; in regression, times the precision. A dict names
        every member, as in `MeanPool`.
    alpha : float
        Factor of the penalty ``alpha / n * (||w - mean(w)||^2 + M / 5 * (mean(w) - 1/M)^2)`` on learned weights. Here n
        is the sum of the sample weights, or the number of rows if that is larger. The mean acts as a temperature, and
        is shrunk less than the differences. A large `alpha` makes the weights equal, unless the best member alone is
        better than that. In regression, the loss is divided by twice the squared error of the best
        member, so that no unit matters.
    per_class : bool
        Whether each class has weights of its own, and a bias that is shrunk to 0:
        :math:`\log p_k = \log \pi_k + b_k + \sum_{m \in S} w_{mk} (\log p_{mk} - \log \pi_k)` up to a constant.
        For learned weights and classification only.
    per_pattern : bool
        Whether each set of present members has weights of its own. They are learned on all rows that hold at least
        these members, with the other members left out. If at most 31 sets can occur, this holds for all of them;
        otherwise for the sets seen in `fit` and for each member alone. A set with fewer than 10 rows (counted by sample
        weight), or with one class only, has no weights of its own. All sets without their own weights share one vector
        of weights. It is learned on all rows, reduced to each of the possible sets (to 12 random ones if there are more
        than 31). `per_pattern` helps if members carry the same information: one of them alone must then count for both.
        For learned weights only. It can be combined with `per_class`.
    smoothing : float
        Share of the uniform distribution in the probabilities of each member, in `fit` and at prediction. With 0.01,
        one member that is certain and wrong has a bounded effect. Classification only.
    class_prior : array of shape (n_classes,) or dict of label to probability, optional
        Class frequencies to expect at prediction, if they differ from those in `fit`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_members,), or (n_members, n_classes) with `per_class`
    bias_ : ndarray of shape (n_classes,)
        0 without `per_class`. In regression of shape (1,), the intercept, and only with learned weights.
    patterns_ : ndarray of shape (n_patterns, n_members), dtype bool
        Sets of present members that have weights of their own. Empty without `per_pattern`. Not in regression with
        weights that are given.
    pattern_weights_ : ndarray of shape (n_patterns, n_members), or (n_patterns, n_members, n_classes)
        0 for members outside the set.
    pattern_bias_ : ndarray of shape (n_patterns, n_classes)
    other_weights_ : ndarray of shape (n_members,), or (n_members, n_classes) with `per_class`
        Weights of the sets that have none of their own. Only with `per_pattern`.
    other_bias_ : ndarray of shape (n_classes,)
    variance_ : ndarray of shape (n_members,)
        Out-of-fold squared error of each member. Regression only.

    References
    ----------
    Genest and Zidek, Statistical Science 1986; Ranjan and Gneiting, JRSS-B 2010; for non-negative weights: Heskes,
    NIPS 1998, and in regression Breiman, Machine Learning 1996, and van der Laan, Polley and Hubbard, SAGMB 2007; for
    `per_pattern`: the reduced models of Saar-Tsechansky and Provost, JMLR 2007, here on the second level; for
    `class_prior`: Saerens, Latinne and Decaestecker, Neural Computation 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import LogPool
    >>> P = np.array([[[0.8, 0.2], [0.2, 0.8]], [[0.6, 0.4], [0.4, 0.6]]])
    >>> LogPool("equal").fit(P, ["cat", "dog"]).combine(P).round(4)
    array([[0.7101, 0.2899],
           [0.2899, 0.7101]])
    """

    def __init__(
        self, weights="learned", *, alpha=10.0, per_class=False, per_pattern=False, smoothing=0.0, class_prior=None
    ):
        self.weights = weights
        self.alpha = alpha
        self.per_class = per_class
        self.per_pattern = per_pattern
        self.smoothing = smoothing
        self.class_prior = class_prior

    def _fit(self, P, y, mask, weight):
        self._check_parameters(classify=P.ndim == 3)
        n_members = len(P)
        if isinstance(self.weights, str):
            self.weights_ = np.full(n_members, 1 / n_members)
        else:
            self.weights_ = member_weights(self.weights, n_members, self._names)
        self.__dict__.pop("bias_", None)  # from an earlier fit
        if P.ndim == 2:
            self._fit_variance(P, y, mask, weight)
        if P.ndim == 3 or self.is_calibrated:
            self._fit_weights(P, y, mask, weight)
        if self.class_prior is not None:
            self._new_prior()

    def _check_parameters(self, classify):
        if isinstance(self.weights, str) and self.weights not in ("equal", "learned"):
            raise ValueError(f'weights must be "equal", "learned", an array or a dict; got {self.weights!r}.')
        if not (np.ndim(self.alpha) == 0 and 0 <= self.alpha < np.inf):
            raise ValueError(f"alpha must be a number of at least 0; got {self.alpha!r}.")
        if not (np.ndim(self.smoothing) == 0 and 0 <= self.smoothing < 1):
            raise ValueError(f"smoothing must be a number of at least 0 and below 1; got {self.smoothing!r}.")
        for name in ("per_class", "per_pattern"):
            if getattr(self, name) and not self.is_calibrated:
                raise ValueError(f'{name}=True needs weights="learned"; got weights={self.weights!r}.')
        if self.per_class and not classify:
            raise ValueError("per_class=True is for classification: in regression there are no classes.")

    def _fit_weights(self, P, y, mask, weight):
        n_members = len(P)
        self.bias_ = np.zeros(P.shape[2] if P.ndim == 3 else 1)
        self.patterns_ = np.zeros((0, n_members), dtype=bool)
        if not self.is_calibrated:
            return
        evidence = self._evidence(P, mask)
        # Weights of a mean below 1 count as many rows as there are. They are raised here, for the whole table: the
        # copies of `_learn_patterns` share the weight of a row.
        weight = weight / min(1.0, float(weight[weight > 0].mean()))
        self.weights_, self.bias_ = self._learn(evidence, y, weight, complete=bool(mask.all()))
        if self.per_pattern:
            self._learn_patterns(evidence, y, mask, weight)

    def _evidence(self, P, mask):
        """Return what each member adds to the prior, 0 where it is absent; in regression with a last axis of size 1."""
        if P.ndim == 2:
            return np.where(mask, P - self.prior_[0], 0.0)[..., None]
        smooth = (1 - self.smoothing) * P + self.smoothing / P.shape[2] if self.smoothing else P
        return log_evidence(smooth, mask, self.prior_)

    def _learn(self, evidence, y, weight, start=None, *, complete):
        """Return weights and bias. `complete`: each row holds each member, so one member alone may be the answer."""
        if not hasattr(self, "classes_"):
            return learn_value_weights(evidence[..., 0], y - self.prior_[0], weight, self.alpha, _SHARED, complete)
        shape = (len(evidence), evidence.shape[2]) if self.per_class else (len(evidence),)
        centre = np.full(shape, 1 / self.n_members_)
        prior = np.log(self.prior_)
        found = learn_weights(evidence, y, weight, prior, centre, self.alpha, start, _SHARED)
        if len(evidence) == 1 or not complete:
            return found
        counted = weight > 0
        return trusted_weights(evidence[:, counted], y[counted], weight[counted], prior, *found)

    def _learn_patterns(self, evidence, y, mask, weight):
        patterns, weights, biases = [], [], []
        possible = _listed(self._possible, self.n_members_)
        for pattern in _candidates(possible, mask):
            rows = mask[pattern].all(axis=0)
            if weight[rows].sum() < _MIN_PATTERN_ROWS or len(np.unique(y[rows])) < 2:
                continue
            start = self.weights_[pattern], self.bias_
            own, bias = self._learn(evidence[pattern][:, rows], y[rows], weight[rows], start, complete=True)
            full = np.zeros_like(self.weights_)
            full[pattern] = own
            patterns.append(pattern)
            weights.append(full)
            biases.append(bias)
        self.patterns_ = np.array(patterns, dtype=bool).reshape(-1, self.n_members_)
        self.pattern_weights_ = np.array(weights).reshape(-1, *self.weights_.shape)
        self.pattern_bias_ = np.array(biases).reshape(-1, evidence.shape[2])
        self.other_weights_, self.other_bias_ = self.weights_, self.bias_
        if possible is None or len(patterns) < len(possible):
            # Each row enters once per sampled set, with its weight divided among the copies: n in the penalty stays.
            kept = np.stack([mask & pattern[:, None] for pattern in _sample(possible, self.n_members_)], axis=1)
            reduced = np.where(kept[..., None], evidence[:, None], 0.0).reshape(len(mask), -1, evidence.shape[2])
            copies = kept.shape[1]
            start = self.weights_, self.bias_
            shares = np.tile(weight / copies, copies)
            found = self._learn(reduced, np.tile(y, copies), shares, start, complete=False)
            self.other_weights_, self.other_bias_ = found

    def _weights_of(self, pattern):
        """Return weights and bias of one set of present members."""
        for own in np.flatnonzero((self.patterns_ == pattern).all(axis=1)):
            return self.pattern_weights_[own], self.pattern_bias_[own]
        return self.other_weights_, self.other_bias_

    def _fit_variance(self, P, y, mask, weight):
        error = np.where(mask, (np.nan_to_num(P) - y) ** 2, 0.0)
        mass = np.maximum((mask * weight).sum(axis=1), np.finfo(float).tiny)
        floor = 1e-12 * self.prior_[1] + np.finfo(float).tiny
        self.variance_ = np.maximum((error * weight).sum(axis=1) / mass, floor)

    def _combine(self, P, mask):
        if not hasattr(self, "bias_"):  # weights that are given, and files of versions that learned none in regression
            return self._combine_normal(P, mask)
        evidence = self._evidence(P, mask)
        scores = self.bias_ + weighted_evidence(evidence, self.weights_)
        if self.per_pattern and self.is_calibrated:
            held, pattern_of = np.unique(mask, axis=1, return_inverse=True)
            for i, pattern in enumerate(held.T):
                rows = pattern_of.ravel() == i
                weights, bias = self._weights_of(pattern)
                scores[rows] = bias + weighted_evidence(evidence[:, rows], weights)
        if P.ndim == 2:
            return self.prior_[0] + scores[:, 0]
        return softmax(np.log(self.prior_) + scores)

    def shift(self, fused: np.ndarray) -> np.ndarray:
        """Adapt probabilities to `class_prior`, if it is given; see `shift_prior`."""
        return fused if self.class_prior is None else shift_prior(fused, self.prior_, self._new_prior())

    @property
    def is_calibrated(self) -> bool:
        """True with learned weights, because their sum acts as a temperature."""
        return isinstance(self.weights, str) and self.weights == "learned"

    def _combine_normal(self, P, mask):
        # Unlike in classification, no prior is added: a regressor on a weak block already predicts close to the mean.
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
            raise ValueError(f"class_prior must hold one positive number per class; got {self.class_prior!r}.")
        return prior / prior.sum()


def _listed(possible, n_members):
    """Return the sets that may occur, as rows of booleans; None if there are too many to list."""
    if possible is None and n_members <= _MAX_LISTED:
        possible = np.array(list(itertools.product([False, True], repeat=n_members)))
    return None if possible is None else possible[possible.any(axis=1)]


def _candidates(possible, mask):
    """Return the sets that may get weights of their own."""
    if possible is not None and len(possible) <= _MAX_PATTERNS:
        return possible
    return np.unique(np.vstack([mask.T, np.eye(len(mask), dtype=bool)]), axis=0)


def _sample(possible, n_members):
    """Return a sample of the sets that may occur, the same in each fit."""
    rng = np.random.default_rng(0)
    if possible is None:
        return rng.random((_SAMPLED_PATTERNS, n_members)) < 0.5
    if len(possible) <= _MAX_PATTERNS:
        return possible
    return possible[rng.choice(len(possible), _SAMPLED_PATTERNS, replace=False)]


def shift_prior(proba: Any, prior: Any, new_prior: Any) -> np.ndarray:
    """Adapt probabilities to class frequencies that differ from those in training.

    Parameters
    ----------
    proba : array of shape (n_samples, n_classes)
    prior, new_prior : array of shape (n_classes,)
        Class frequencies in training, and at prediction.

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
