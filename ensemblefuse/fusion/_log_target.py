"""Regression on the log of the target, and when the default heads try it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from scipy.stats import skew
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import _num_samples, check_is_fitted

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.features.few_rows import numbers
from ensemblefuse.fusion._default_heads import HeadSearch
from ensemblefuse.fusion.targets import read_numbers
from ensemblefuse.scoring.inputs import read_weight

__all__ = ["LogTargetRegressor", "log_target_of", "on_both_scales", "smearing_factor"]

# A normal sample of this size has a skewness beyond 1 less than once in a thousand times.
_MIN_ROWS = 50
_SKEWED = 1.0
# Predictions stay within this factor of the smallest and the largest target: the exponential makes much of little.
_BEYOND = np.e


class LogTargetRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Fit a regressor to the log of a positive target, and predict the mean on the target's own scale.

    The exponential of a mean of logs is too low. It is multiplied by the smearing factor: the mean of `y` divided by
    these exponentials. The default heads of a fusion try this form where the target is positive and skewed, and keep
    it where its out-of-fold error is smaller on the scale of `y`.

    Parameters
    ----------
    regressor : regressor, optional
        By default, ridge regression with its penalty chosen by leave-one-out error.

    Attributes
    ----------
    regressor_ : regressor
        Fitted on the log of `y`.
    factor_ : float
        Smearing factor from the rows of `fit`. In a fusion that chose this head, it is corrected by the one of the
        out-of-fold predictions, because a regressor fits its own rows too well.
    range_ : ndarray of shape (2,)
        Smallest and largest log of a prediction before the factor: those of `y` in fit, and 1 more to either side.
    n_features_in_, feature_names_in_
        As in scikit-learn, if `regressor` has them.

    References
    ----------
    Duan, Smearing estimate: a nonparametric retransformation method, Journal of the American Statistical Association
    1983.

    See Also
    --------
    sklearn.compose.TransformedTargetRegressor : Any function of the target, without the factor.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import LogTargetRegressor
    >>> X = np.arange(5.0)[:, None]
    >>> LogTargetRegressor().fit(X, [1.0, 2.0, 4.0, 8.0, 16.0]).predict(X).round(1)
    array([ 1.,  2.,  4.,  8., 16.])
    """

    def __init__(self, regressor=None):
        self.regressor = regressor

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        if self.regressor is not None:
            tags.input_tags = get_tags(self.regressor).input_tags
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the regressor to the log of `y`.

        Parameters
        ----------
        X : array or table of shape (n_samples, n_features), as the regressor takes it
        y : array of shape (n_samples,)
            Numbers above 0.
        sample_weight : array of shape (n_samples,), optional
            Not used by a regressor that takes none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `y` holds a number that is not above 0.
        """
        y = read_numbers(self, y, _num_samples(X))
        weight = read_weight(sample_weight, len(y))
        wrong = np.flatnonzero(y <= 0)
        if len(wrong):
            raise ValueError(
                f"LogTargetRegressor needs a target above 0; y holds {y[wrong[0]]} in row {wrong[0]} ({len(wrong)} of "
                f"{len(y)} rows are not above 0). Use the regressor without it, or PoissonRegressor for counts."
            )
        regressor = RidgeCV(alphas=np.logspace(-2, 5, 15)) if self.regressor is None else clone(self.regressor)
        logs = np.log(y)
        self.regressor_, _ = fit_estimator(regressor, X, logs, weight)
        self.range_ = np.array([logs.min(), logs.max()]) + np.log(_BEYOND) * np.array([-1, 1])
        self.factor_ = 1.0
        self.factor_ = smearing_factor(y, self.predict(X), weight)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.regressor_, name):
                setattr(self, name, getattr(self.regressor_, name))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the mean of the target.

        Parameters
        ----------
        X : array or table of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            Positive numbers.
        """
        check_is_fitted(self, "factor_")
        logs = np.asarray(numbers(self.regressor_, X), dtype=float).reshape(-1)
        return self.factor_ * np.exp(np.clip(logs, *self.range_))


def smearing_factor(y: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the mean of ``y / predicted``: the mean of the exponentials of the residuals of the logs."""
    return float(np.average(y / predicted, weights=weight))


def on_both_scales(search: HeadSearch, y: np.ndarray, weight: np.ndarray | None) -> HeadSearch:
    """Return default heads of regression with their forms on the log of `y`, if `y` is positive and skewed."""
    if not _is_skewed(y if weight is None else y[weight > 0]):
        return search
    return replace(search, heads=[*search.heads, *(_logged(head) for head in search.heads)])


def log_target_of(fitted: Any) -> LogTargetRegressor | None:
    """Return the part of a fitted head, or of a head to fit, that works on the log of the target; None without one."""
    while isinstance(fitted, Pipeline):
        fitted = fitted.steps[-1][1]
    return fitted if isinstance(fitted, LogTargetRegressor) else None


def _logged(head: Any) -> Any:
    """Return the head with its last step on the log of the target, so that steps before it stay shared."""
    if isinstance(head, Pipeline):
        return Pipeline([*head.steps[:-1], (head.steps[-1][0], LogTargetRegressor(head.steps[-1][1]))])
    return LogTargetRegressor(head)


def _is_skewed(y: np.ndarray) -> bool:
    """Return whether positive numbers have a long tail of large values, which the log makes shorter."""
    if len(y) < _MIN_ROWS or not (y > 0).all() or y.min() == y.max():
        return False
    # Divided by the largest one, so that the cubes of very small and very large numbers are numbers.
    skewness = skew(y / y.max())
    return bool(skewness > _SKEWED and abs(skew(np.log(y / y.max()))) < skewness)
