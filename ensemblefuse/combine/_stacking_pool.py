"""Stacking: a second-level estimator on the members' predictions."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.combine._base import BasePool, like
from ensemblefuse.combine._log_loss_weights import learn_weights, weighted_evidence
from ensemblefuse.combine.probabilities import LOG_FLOOR, log_probabilities, softmax
from ensemblefuse.exceptions import MissingModalityWarning

__all__ = ["StackingPool"]

# C of the default second level. The non-negative one has the same penalty, ||w||^2 / (2 C).
_C = 0.1


class StackingPool(BasePool):
    """A second-level estimator over the members' predictions.

    The prior, or the mean of `y` in regression, replaces an absent member. The second level can only learn the meaning
    of such a gap if some rows in `fit` lack the same members. `combine` warns once about sets of absent members that
    `fit` did not see. Give out-of-fold predictions to `fit`: on in-sample predictions, the second level trusts the
    member that overfits most.

    Parameters
    ----------
    estimator : estimator, optional
        By default ``LogisticRegression(C=0.1)``, or least squares with non-negative coefficients in regression. A
        classifier needs ``predict_proba``.
    input : {"logproba", "proba"}
        Whether the second level gets logarithms (not below -12) or probabilities. Ignored in regression.
    nonnegative : bool
        Use a multinomial logistic regression with non-negative coefficients and the default penalty, in which the score
        of a class depends only on the predictions for that class. It has fewer coefficients (one per member and class),
        and a higher prediction for a class never lowers its score. Needs ``estimator=None``. In regression, the default
        is already non-negative. `LogPool` with ``per_class=True`` shrinks its weights to 1/M instead of 0, and so needs
        fewer rows.

    Attributes
    ----------
    estimator_ : estimator
        Fitted on coded labels. None if `coef_` is set.
    known_ : ndarray of int
        Columns of `P` whose classes had rows in `fit`. Code i of `estimator_` is class ``known_[i]``.
    coef_ : ndarray of shape (n_members, n_known)
        Coefficients of the inputs minus the same inputs of the prior. Only with ``nonnegative=True`` in classification.
    intercept_ : ndarray of shape (n_known,)
        Added to the log of the prior. Only with `coef_`.
    patterns_ : ndarray of shape (n_patterns, n_members), dtype bool
        Sets of present members in `fit`.

    References
    ----------
    Wolpert, Neural Networks 1992; for one coefficient per class and member: Ting and Witten, JAIR 1999; for
    non-negative coefficients: Breiman, Machine Learning 1996, and, in logistic regression, van Loon et al., Information
    Fusion 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import StackingPool
    >>> P = np.array([[[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7]]])
    >>> StackingPool().fit(P, ["cat", "cat", "dog", "dog"]).combine(P).argmax(axis=1)
    array([0, 0, 1, 1])
    """

    def __init__(self, estimator=None, *, input="logproba", nonnegative=False):
        self.estimator = estimator
        self.input = input
        self.nonnegative = nonnegative

    def _fit(self, P, y, mask, weight):
        if self.input not in ("logproba", "proba"):
            raise ValueError(f'input must be "logproba" or "proba"; got {self.input!r}.')
        if self.nonnegative and self.estimator is not None:
            raise ValueError(
                "nonnegative=True has its own second level; use it with estimator=None, or use "
                f"{type(self.estimator).__name__} without nonnegative=True."
            )
        self.patterns_ = np.unique(mask.T, axis=0)
        if P.ndim == 3:
            # Codes of the classes present in y: XGBoost takes no codes with gaps.
            self.known_, y = np.unique(y, return_inverse=True)
        if P.ndim == 3 and self.nonnegative:
            self._fit_nonnegative(P, y, mask, weight)
        else:
            self._fit_estimator(P, y, mask, weight)

    def _fit_estimator(self, P, y, mask, weight):
        estimator = self.estimator
        if estimator is None:
            classify = LogisticRegression(C=_C, max_iter=5000, tol=1e-6)
            estimator = classify if P.ndim == 3 else LinearRegression(positive=True)
        if P.ndim == 3 and not hasattr(estimator, "predict_proba"):
            raise ValueError(
                f"StackingPool needs an estimator with predict_proba; {type(estimator).__name__} has none. Wrap it in "
                "CalibratedClassifierCV."
            )
        given = None if (weight == 1).all() else weight
        self.estimator_, weighted = fit_estimator(estimator, self._features(P, mask), y, given)
        if not weighted:
            warnings.warn(
                f"StackingPool: {type(estimator).__name__} takes no sample_weight and is fitted without it.",
                UserWarning,
                stacklevel=4,
            )

    def _fit_nonnegative(self, P, y, mask, weight):
        evidence = self._evidence(P, mask)
        offset, centre = np.log(self.prior_[self.known_]), np.zeros((len(P), len(self.known_)))
        self.coef_, self.intercept_ = learn_weights(evidence, y, weight, offset, centre, 1 / (2 * _C))
        self.estimator_ = None

    def _combine(self, P, mask):
        self._warn_of_new_patterns(mask)
        if P.ndim == 2:
            return np.asarray(self.estimator_.predict(self._features(P, mask)), dtype=float)
        fused = np.zeros(P.shape[1:])
        if self.estimator_ is None:
            scores = weighted_evidence(self._evidence(P, mask), self.coef_)
            fused[:, self.known_] = softmax(np.log(self.prior_[self.known_]) + self.intercept_ + scores)
        else:
            fused[:, self.known_] = self.estimator_.predict_proba(self._features(P, mask))
        return fused

    def _warn_of_new_patterns(self, mask):
        patterns = np.unique(mask.T, axis=0)
        # A row with no member gets the prior, and a row with all members has no gap: neither depends on the fill.
        gaps = patterns[patterns.any(axis=1) & ~patterns.all(axis=1)]
        new = [p for p in gaps if not (self.patterns_ == p).all(axis=1).any()]
        if new:
            absent = [np.flatnonzero(~p).tolist() for p in new[:3]]
            what = "prior" if hasattr(self, "classes_") else "mean of y"
            warnings.warn(
                f"StackingPool saw no row in fit that lacks the members {' or '.join(map(str, absent))} and no others. "
                f"It fills the gap with the {what}, and its predictions may be badly wrong. LogPool leaves absent "
                "members out instead.",
                MissingModalityWarning,
                stacklevel=4,
            )

    def _read(self, P, mask):
        """Return the inputs of the second level, with absent members filled, in the shape of `P`."""
        filled = np.where(like(mask, P), P, self.prior_ if P.ndim == 3 else self.prior_[0])
        return log_probabilities(filled, LOG_FLOOR) if P.ndim == 3 and self.input == "logproba" else filled

    def _features(self, P, mask):
        """Return the inputs as a table (n_samples, n_members * n_classes), or (n_samples, n_members) in regression."""
        filled = self._read(P, mask)
        return filled.T if P.ndim == 2 else filled.transpose(1, 0, 2).reshape(P.shape[1], -1)

    def _evidence(self, P, mask):
        """Return the inputs minus those of the prior, for the known classes; 0 where the member is absent.

        With this difference, an absent member adds nothing, and a prediction above the prior raises the score.
        """
        prior = self._read(self.prior_[None, None], np.ones((1, 1), dtype=bool))
        return (self._read(P, mask) - prior)[..., self.known_]
