"""The base class of all combiners, and the array functions that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.combine.probabilities import log_probabilities

__all__ = ["BasePool"]

PROBABILITY_FLOOR = np.exp(-20.0)
# Sums of float16 probabilities pass this check. Votes and decision values do not.
_SUM_TOLERANCE = 1e-2


class BasePool(BaseEstimator):
    """Combine the predictions of several members, row by row.

    The result for a row without any member is the prior: the class frequencies seen in `fit`, or the mean of `y`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of the last axis of `P`. Classification only.
    prior_ : ndarray of shape (n_classes,), or of shape (2,) with mean and variance of `y` in regression
    n_members_ : int

    Notes
    -----
    A subclass defines two hooks. Both get arrays that are already checked:

    - `P` is a float array of shape (n_members, n_samples, n_classes) with probabilities, or (n_members, n_samples) with
      predicted values in regression. It is NaN where a member has no prediction.
    - `mask` is a bool array of shape (n_members, n_samples). It is True where a member has a prediction.

    ``_fit(P, y, mask, weight)`` learns from out-of-fold predictions and returns None. It gets only rows that have at
    least one member and a weight above 0. `y` has shape (n_samples,) and holds positions on the last axis of `P`
    (ints), or numbers in regression. `weight` has shape (n_samples,). `prior_`, `n_members_` and `classes_` are already
    set.

    ``_combine(P, mask)`` returns a float array of shape (n_samples, n_classes) whose rows sum to 1, or (n_samples,) in
    regression. It may return any value for a row without a member: `pool` replaces it by the prior. Any other shape is
    an error that names both shapes.

    A weight or reliability of a subclass that may be given by name is read by ``member_weights(given, n_members,
    self._names)``; ``_names`` has the names of the members, or is None.

    Examples
    --------
    The median of the members, for a fusion or on its own:

    >>> import numpy as np
    >>> from ensemblefuse.combine import BasePool
    >>> class MedianPool(BasePool):
    ...     def _fit(self, P, y, mask, weight):
    ...         pass  # nothing to learn
    ...
    ...     def _combine(self, P, mask):
    ...         middle = np.nanmedian(P, axis=0)  # from (n_members, n_samples, n_classes) to (n_samples, n_classes)
    ...         return middle / middle.sum(axis=1, keepdims=True)
    >>> P = np.array([[[0.9, 0.1]], [[0.8, 0.2]], [[0.1, 0.9]]])
    >>> MedianPool().fit(P, [0], classes=[0, 1]).combine(P)
    array([[0.8, 0.2]])
    """

    def fit(
        self,
        P: Any,
        y: Any,
        mask: Any = None,
        sample_weight: Any = None,
        *,
        classes: Any = None,
        patterns: Any = None,
        names: Sequence[str] | None = None,
    ) -> Self:
        """Learn from out-of-fold predictions.

        Parameters
        ----------
        P : array of shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression
            Probabilities, or predicted values. NaN where a member has no prediction.
        y : array of shape (n_samples,)
            Labels, or numbers in regression.
        mask : array of shape (n_members, n_samples), dtype bool, optional
            Whether the member has a prediction. By default, where `P` is not NaN.
        sample_weight : array of shape (n_samples,), optional
        classes : array of shape (n_classes,), optional
            Sorted labels, in the order of the last axis of `P`. By default, the distinct values of `y`.
        patterns : array of shape (n_patterns, n_members), dtype bool, optional
            Sets of members that a row may have at prediction. By default, all sets. Only some pools use them.
        names : sequence of str of length n_members, optional
            Names of the members, for weights that are given by name. A fusion gives its ``member_names_``.

        Returns
        -------
        self

        Raises
        ------
        NotImplementedError
            If a subclass lacks one of the two hooks.
        ValueError
            If the shapes do not match, `P` does not hold probabilities, no row has a prediction, or the classes of `y`
            do not match `P`.
        """
        self._check_hooks()
        P, mask = check_predictions(P, mask)
        y = np.asarray(y)
        if y.shape != (P.shape[1],):
            raise ValueError(f"y must have shape ({P.shape[1]},) as P has {P.shape[1]} rows; got {y.shape}.")
        weight = _row_weights(sample_weight, len(y))
        self.n_members_ = P.shape[0]
        self.__dict__.pop("classes_", None)  # from an earlier fit
        if P.ndim == 3:
            y = self._read_classes(y, classes, P.shape[2])
            counts = np.bincount(y, weights=weight, minlength=P.shape[2])
            self.prior_ = np.maximum(counts / counts.sum(), PROBABILITY_FLOOR)
        else:
            mean = np.average(y, weights=weight)
            self.prior_ = np.array([mean, np.average((y - mean) ** 2, weights=weight)])
        rows = mask.any(axis=0) & (weight > 0)  # a row without a member counts only in the prior
        if not rows.any():
            raise ValueError(f"P holds no prediction in any of its {len(y)} rows; there is nothing to learn from.")
        self._possible = None if patterns is None else np.asarray(patterns, dtype=bool).reshape(-1, self.n_members_)
        self._names = None if names is None else [str(name) for name in names]
        self._fit(P[:, rows], y[rows], mask[:, rows], weight[rows])
        return self

    def _check_hooks(self) -> None:
        """Raise an error for a subclass that does not define both hooks."""
        lacking = [hook for hook in ("_fit", "_combine") if getattr(type(self), hook) is getattr(BasePool, hook)]
        if lacking:
            raise NotImplementedError(
                f"{type(self).__name__} does not define {' and '.join(lacking)}. A pool defines "
                "_fit(P, y, mask, weight) and _combine(P, mask); help(BasePool) describes their shapes."
            )

    def _read_classes(self, y: np.ndarray, classes: Any, n_columns: int) -> np.ndarray:
        """Set ``classes_`` and return the labels as positions on the last axis of `P`."""
        self.classes_ = np.unique(y) if classes is None else np.asarray(classes)
        if len(self.classes_) != n_columns:
            raise ValueError(f"y holds {len(self.classes_)} classes, but P has {n_columns} columns per row.")
        if n_columns < 2:
            raise ValueError(f"P needs a column for each of at least 2 classes; got {n_columns}.")
        codes = np.minimum(np.searchsorted(self.classes_, y), n_columns - 1)
        unknown = self.classes_[codes] != y
        if unknown.any():
            raise ValueError(f"y holds labels that are not in classes: {np.unique(y[unknown]).tolist()[:5]}.")
        return codes

    def combine(self, P: Any, mask: Any = None) -> np.ndarray:
        """Return the combined prediction of each row.

        Parameters
        ----------
        P : array of shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression
        mask : array of shape (n_members, n_samples), dtype bool, optional

        Returns
        -------
        ndarray of shape (n_samples, n_classes) whose rows sum to 1, or (n_samples,) in regression
        """
        return self.shift(self.pool(P, mask))

    def pool(self, P: Any, mask: Any = None) -> np.ndarray:
        """Combine, for the class frequencies seen in `fit`.

        A fusion estimator applies its temperature to the result, and then calls `shift`.
        """
        P, mask = self._read_new(P, mask)
        fused = self._check_combined(self._combine(P, mask), P, mask)
        if P.ndim == 3:
            fused = np.clip(fused, 0.0, 1.0)  # rounding may give a little more than 1
        empty = ~mask.any(axis=0)
        if empty.any():
            fused[empty] = self.prior_ / self.prior_.sum() if P.ndim == 3 else self.prior_[0]
        return fused

    def _check_combined(self, fused: Any, P: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the result of `_combine` as an array of floats; raise an error if it does not keep its promise."""
        name = f"{type(self).__name__}._combine"
        try:
            fused = np.asarray(fused, dtype=float)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must return an array of numbers; got {type(fused).__name__}: {error}") from error
        if fused.shape != P.shape[1:]:
            axes = "(n_samples, n_classes)" if P.ndim == 3 else "(n_samples,)"
            raise ValueError(
                f"{name} must return an array of shape {axes}, which is {P.shape[1:]} here; got {fused.shape} from P "
                f"of shape {P.shape}. help(BasePool) describes the shapes."
            )
        finite = np.isfinite(fused) if P.ndim == 2 else np.isfinite(fused).all(axis=1)
        right = finite if P.ndim == 2 else finite & (np.abs(fused.sum(axis=1) - 1) <= _SUM_TOLERANCE)
        wrong = np.flatnonzero(mask.any(axis=0) & ~right)
        if len(wrong):
            what = "finite numbers" if P.ndim == 2 else "probabilities that sum to 1 in each row"
            raise ValueError(
                f"{name} must return {what}; {len(wrong)} of {len(fused)} rows hold something else, such as row "
                f"{wrong[0]}: {fused[wrong[0]]}."
            )
        return fused

    def _read_new(self, P: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self, "n_members_")
        P, mask = check_predictions(P, mask)
        if P.shape[0] != self.n_members_:
            raise ValueError(f"fitted with {self.n_members_} members; P has {P.shape[0]}.")
        n_classes = (len(self.classes_),) if hasattr(self, "classes_") else ()
        if P.shape[2:] != n_classes:
            expected = ("n_members", "n_samples", *n_classes)
            raise ValueError(f"P must have shape ({', '.join(map(str, expected))}) as in fit; got {P.shape}.")
        return P, mask

    def _refuse_regression(self, P: np.ndarray) -> None:
        if P.ndim == 2:
            raise ValueError(
                f"{type(self).__name__} combines class probabilities; use MeanPool or LogPool in regression."
            )

    def shift(self, fused: np.ndarray) -> np.ndarray:
        """Adapt fused predictions to the class frequencies expected at prediction, if the pool has any."""
        return fused

    @property
    def is_calibrated(self) -> bool:
        """Whether `fit` already calibrates the fused probabilities, so that they need no temperature."""
        return False

    def _fit(self, P: np.ndarray, y: np.ndarray, mask: np.ndarray, weight: np.ndarray) -> None:
        """Learn from out-of-fold predictions. See the notes of `BasePool` for the shapes."""
        raise NotImplementedError

    def _combine(self, P: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the combined predictions. See the notes of `BasePool` for the shapes."""
        raise NotImplementedError


def check_predictions(P: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return `P` as a float array with NaN where a member is absent, and the mask of its predictions."""
    P = np.asarray(P, dtype=float)
    if P.ndim not in (2, 3):
        raise ValueError(
            "P must have shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression; got "
            f"{P.shape}."
        )
    if mask is None:
        mask = ~(np.isnan(P) if P.ndim == 2 else np.isnan(P).all(axis=2))
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != P.shape[:2]:
        raise ValueError(f"mask must have shape {P.shape[:2]}; got {mask.shape}.")
    finite = np.isfinite(P) if P.ndim == 2 else np.isfinite(P).all(axis=2)
    if (mask & ~finite).any():
        member, row = np.argwhere(mask & ~finite)[0]
        raise ValueError(
            f"P holds NaN or infinity in row {row} of member {member}, which is not absent: {P[member, row]}. An "
            "absent prediction is NaN in all classes, or False in mask."
        )
    P = np.where(like(mask, P), P, np.nan)
    if P.ndim == 3:
        _check_probabilities(P, mask)
    return P, mask


def _check_probabilities(P: np.ndarray, mask: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        wrong = mask & ((P < 0).any(axis=2) | (np.abs(P.sum(axis=2) - 1) > _SUM_TOLERANCE))
    if wrong.any():
        member, row = np.argwhere(wrong)[0]
        raise ValueError(
            f"P must hold probabilities that sum to 1 over the last axis; row {row} of member {member} is "
            f"{P[member, row]}. Turn decision values into probabilities first, for example with fit_temperature."
        )


def _row_weights(sample_weight: Any, n_samples: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_samples)
    weight = np.asarray(sample_weight, dtype=float)
    if weight.shape != (n_samples,) or not np.isfinite(weight).all() or (weight < 0).any() or not weight.sum() > 0:
        raise ValueError(
            f"sample_weight must be {n_samples} numbers of at least 0, one per row and not all 0; got shape "
            f"{weight.shape}, smallest {weight.min(initial=np.inf)}, sum {weight.sum()}."
        )
    return weight


def member_weights(weights: Any, n_members: int, names: Sequence[str] | None = None, what: str = "weights") -> Any:
    """Return the weights given by the user as an array, after checking them. They may be named by member."""
    if isinstance(weights, Mapping):
        weights = _by_name(weights, names, what)
    try:
        array = np.asarray(weights, dtype=float)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (n_members,) or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"{what} must be {n_members} numbers of at least 0, one per member; got {weights!r}.")
    return array


def _by_name(given: Mapping[str, Any], names: Sequence[str] | None, what: str) -> list[Any]:
    """Return numbers that are named by member in the order of the members."""
    if names is None:
        raise ValueError(f"{what} is a dict, but the members have no names here; pass names= to fit, or a list.")
    unknown = [name for name in given if name not in names]
    missing = [name for name in names if name not in given]
    if unknown or missing:
        wrong = [f"names {unknown}, which are no members"] if unknown else []
        wrong += [f"has no number for {missing}"] if missing else []
        hint = " joint=False leaves the joint member out." if "joint" in missing else ""
        trees = any(name.endswith(("/trees", "/forest")) for name in map(str, missing))
        hint += " estimators=[None] leaves the trees out." if trees else ""
        words = any(name.endswith("/words") for name in map(str, missing))
        hint += (
            " TextEncoder(words=False) and StringFeatures(words=False) leave the members over words out."
            if words
            else ""
        )
        raise ValueError(
            f"{what} must be one number for each member of {list(names)}; {given!r} {' and '.join(wrong)}.{hint}"
        )
    return [given[name] for name in names]


def like(mask: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Return the mask with as many axes as `P`."""
    return mask if P.ndim == 2 else mask[..., None]


def present_shares(weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the weights of the members present in each row, scaled to sum to 1.

    Where all present members of a row have weight 0, they get equal weights. `weights` has shape (n_members,), or
    (n_members, n_samples) if they differ from row to row.
    """
    raw = mask * (weights[:, None] if weights.ndim == 1 else weights)
    raw = np.where(raw.sum(axis=0) > 0, raw, mask)
    return raw / np.maximum(raw.sum(axis=0), np.finfo(float).tiny)


def weighted_mean(P: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean over the members present in each row; `weights` as in `present_shares`."""
    return np.einsum("mn,mn...->n...", present_shares(weights, mask), np.where(like(mask, P), P, 0.0))


def accuracies(P: np.ndarray, y: np.ndarray, mask: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the accuracy of each member over its rows; 0 for a member without rows."""
    right = (np.where(mask[..., None], P, -1.0).argmax(axis=2) == y) & mask
    return (right * weight).sum(axis=1) / np.maximum((mask * weight).sum(axis=1), np.finfo(float).tiny)


def log_evidence(P: np.ndarray, mask: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return log p_m - log prior, and 0 where the member is absent.

    Subtracting the prior makes 0 mean "no information", so that an absent member simply drops out of a sum.
    """
    return np.where(mask[..., None], log_probabilities(P) - np.log(prior), 0.0)
