"""The contract of every combiner. Floor 2."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

__all__ = ["BasePool"]

PROBABILITY_FLOOR = np.exp(-20.0)


class BasePool(BaseEstimator):
    """Combine the predictions of several members, row by row.

    A subclass gives ``_fit(P, y, mask, sample_weight)`` and ``_combine(P, mask)``. Where a row has no member at all the
    result is the prior: the class frequencies seen in `fit`, or the mean of `y`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of the last axis of `P`. Classification only.
    prior_ : ndarray of shape (n_classes,), or of shape (2,) with mean and variance of `y` in regression
    n_members_ : int
    """

    def fit(self, P, y, mask=None, sample_weight=None, *, classes=None):
        """Learn from out-of-fold predictions.

        Parameters
        ----------
        P : array of shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression
            Probabilities, or predicted values. NaN where a member has no prediction.
        y : array of shape (n_samples,)
            Labels, or numbers in regression.
        mask : array of shape (n_members, n_samples), dtype bool, optional
            Whether the member has a prediction. By default: where `P` is finite.
        sample_weight : array of shape (n_samples,), optional
        classes : array of shape (n_classes,), optional
            Labels in the order of the last axis of `P`, sorted; by default the distinct values of `y`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the shapes disagree or `y` has another number of classes than `P`.
        """
        P, mask = check_predictions(P, mask)
        y = np.asarray(y)
        if y.shape != (P.shape[1],):
            raise ValueError(f"y must have shape ({P.shape[1]},) as P has {P.shape[1]} rows; got {y.shape}.")
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        self.n_members_ = P.shape[0]
        if P.ndim == 3:
            self.classes_ = np.unique(y) if classes is None else np.asarray(classes)
            if len(self.classes_) != P.shape[2]:
                raise ValueError(f"y holds {len(self.classes_)} classes, but P has {P.shape[2]} columns a row.")
            y = np.searchsorted(self.classes_, y)
            counts = np.bincount(y, weights=weight, minlength=P.shape[2])
            self.prior_ = np.maximum(counts / counts.sum(), PROBABILITY_FLOOR)
        else:
            mean = np.average(y, weights=weight)
            self.prior_ = np.array([mean, np.average((y - mean) ** 2, weights=weight)])
        rows = mask.any(axis=0)  # a row with no member counts in the prior and teaches nothing else
        self._fit(P[:, rows], y[rows], mask[:, rows], weight[rows])
        return self

    def combine(self, P, mask=None) -> np.ndarray:
        """Combine new predictions.

        Parameters
        ----------
        P : array of shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression
        mask : array of shape (n_members, n_samples), dtype bool, optional

        Returns
        -------
        ndarray of shape (n_samples, n_classes) whose rows sum to 1, or (n_samples,) in regression
        """
        return self.shift(self.pool(P, mask))

    def pool(self, P, mask=None) -> np.ndarray:
        """Combine for the class frequencies in `fit`; a temperature goes between this and `shift`."""
        check_is_fitted(self, "n_members_")
        P, mask = check_predictions(P, mask)
        if P.shape[0] != self.n_members_:
            raise ValueError(f"fitted with {self.n_members_} members; P has {P.shape[0]}.")
        fused = self._combine(P, mask)
        empty = ~mask.any(axis=0)
        if empty.any():
            fused[empty] = self.prior_ / self.prior_.sum() if hasattr(self, "classes_") else self.prior_[0]
        return fused

    def shift(self, fused: np.ndarray) -> np.ndarray:
        """Carry fused predictions over to the class frequencies to expect, where the pool was given any."""
        return fused

    @property
    def is_calibrated(self) -> bool:
        """Whether `fit` has already chosen how certain the fused probabilities are."""
        return False

    def _fit(self, P: np.ndarray, y: np.ndarray, mask: np.ndarray, weight: np.ndarray) -> None:
        raise NotImplementedError

    def _combine(self, P: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def check_predictions(P: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """`P` as a float array, and the mask of its predictions."""
    P = np.asarray(P, dtype=float)
    if P.ndim not in (2, 3):
        raise ValueError(
            "P must have shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression; got "
            f"{P.shape}."
        )
    finite = np.isfinite(P) if P.ndim == 2 else np.isfinite(P).all(axis=2)
    if mask is None:
        return P, finite
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != P.shape[:2]:
        raise ValueError(f"mask must have shape {P.shape[:2]}; got {mask.shape}.")
    if (mask & ~finite).any():
        raise ValueError("P holds NaN or infinity where mask says that there is a prediction.")
    return P, mask


def member_weights(weights: Any, n_members: int) -> np.ndarray:
    """Weights given by the user, checked."""
    array = np.asarray(weights, dtype=float)
    if array.shape != (n_members,) or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"weights must be {n_members} numbers of at least 0, one a member; got {weights!r}.")
    return array


def log_probabilities(P: np.ndarray, floor: float = -20.0) -> np.ndarray:
    """Logarithms, not below `floor`: trees give exact zeros."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(P), floor)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)
