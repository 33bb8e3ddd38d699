"""Feature-level (early) fusion: one estimator over all blocks, brought to a common footing. Floor 3."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.blocks import Blocks
from ensemblefuse.features import BlockScaler
from ensemblefuse.fusion._base import (
    BaseFusion,
    check_estimator_kind,
    final_has,
    read_labels,
    read_numbers,
    takes_nan,
    warn_new_patterns,
    warn_unweighted,
)
from ensemblefuse.fusion._heads import default_head

__all__ = ["FeatureFusionClassifier", "FeatureFusionRegressor"]


class _FeatureFusion(BaseFusion):
    def __init__(self, estimator=None, *, scaling="equal", weights=None, missing="impute", blocks=None):
        self.estimator = estimator
        self.scaling = scaling
        self.weights = weights
        self.missing = missing
        self.blocks = blocks

    def fit(self, X, y, sample_weight=None, groups=None):
        """Scale the blocks and fit the estimator on all of them.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : ignored
            There is no inner split; taken so that a search may set decision-level fusion beside it.

        Returns
        -------
        self
        """
        if self.estimator is not None:
            check_estimator_kind(self, "all blocks", self.estimator, classify=isinstance(self, ClassifierMixin))
        blocks = self._read_blocks(X, reset=True)
        y = self._read_target(y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        self._check_rows(y, weight)
        self.patterns_ = np.unique(blocks.present.T, axis=0)
        order = {name: np.arange(start, stop) for name, start, stop in _spans(blocks)}
        self.scaler_ = BlockScaler(self.scaling, weights=self.weights, blocks=order)
        there = blocks.present.any(axis=0)
        if not there.any():
            raise ValueError("every block is missing in every row of X; there is nothing to fit.")
        self._learn_prior(y, weight)
        weight = None if weight is None else weight[there]
        table = _side_by_side(blocks)[there]
        self.scaler_.fit(table, sample_weight=weight)
        with threadpool_limits(1, "blas"):
            target = self._known_target(y[there])
            self.estimator_, weighted = fit_estimator(self._estimator(), self._scale(table), target, weight)
        warn_unweighted(self, [] if weighted else ["all blocks"])
        return self

    def _read_blocks(self, X: Any, *, reset: bool) -> Blocks:
        if self.missing not in ("impute", "native", "raise"):
            raise ValueError(f'missing must be "impute", "native" or "raise"; got {self.missing!r}.')
        native = self.missing == "native"
        if native and not takes_nan(self._estimator()):
            raise ValueError(
                f'missing="native" needs an estimator that takes NaN; {type(self._estimator()).__name__} does not. '
                'Use missing="impute".'
            )
        blocks = self._read(X, reset=reset, allow_partial=None if native else frozenset())
        self._refuse_raw("puts numbers side by side")
        if self.missing == "raise" and not blocks.present.all():
            lost = {n: int((~p).sum()) for n, p in zip(blocks.names, blocks.present, strict=True) if not p.all()}
            raise ValueError(
                f"blocks are missing in some rows (block: rows) {lost}. Drop these rows, or use "
                'missing="impute" or decision-level fusion.'
            )
        return blocks

    def _scale(self, table: np.ndarray) -> np.ndarray:
        scaled = self.scaler_.transform(table)
        # After scaling the mean of a column is 0, so this imputes the mean of the rows seen in fit.
        return scaled if self.missing == "native" else np.nan_to_num(scaled, copy=False, nan=0.0)

    def _estimator(self) -> Any:
        if self.estimator is not None:
            return self.estimator
        width = self.n_features_in_ / len(self.blocks_) if hasattr(self, "blocks_") else 1
        return default_head(width, classify=isinstance(self, ClassifierMixin), scale=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A block that is NaN throughout is always taken; NaN beside numbers only by an estimator that takes it.
        tags.input_tags.allow_nan = self.missing == "native"
        return tags

    def _rows(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Scaled table, and the rows in which no block is present."""
        check_is_fitted(self, "estimator_")
        blocks = self._read_blocks(X, reset=False)
        warn_new_patterns(self, blocks)
        return self._scale(_side_by_side(blocks)), np.asarray(~blocks.present.any(axis=0))


def _spans(blocks: Blocks):
    start = 0
    for name, part in blocks.data.items():
        yield name, start, start + part.shape[1]
        start += part.shape[1]


def _side_by_side(blocks: Blocks) -> np.ndarray:
    return np.hstack(list(blocks.data.values()))


class FeatureFusionClassifier(ClassifierMixin, _FeatureFusion):
    """Feature-level (early) fusion: scale the blocks, put them side by side, fit one classifier.

    Parameters
    ----------
    estimator : classifier, optional
        By default logistic regression with ``C = min(1, 30 / width)``, where `width` is the mean number of columns of
        a block.
    scaling : {"equal", "mfa", "frobenius", "unit", None}
        See `BlockScaler`. ``"equal"`` gives every block the same total variance.
    weights : dict of str to float, optional
        Weight of each block, 1 where not named.
    missing : {"impute", "native", "raise"}
        A missing block: filled with the mean, given to an estimator that takes NaN, or an error.
    blocks : dict, optional
        Columns of each block; by default the prefix of their names before ``"__"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    scaler_ : BlockScaler
    estimator_ : classifier
        Fitted on coded labels.
    known_ : ndarray of int
        Classes that have rows with any block; code i of `estimator_` is class ``known_[i]``.
    prior_ : ndarray of shape (n_classes,)
        Class frequencies; the prediction for a row with no block at all.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        The combinations of present blocks seen in fit.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import FeatureFusionClassifier
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.9, 1.0], "text__0": [5.0, 4.0, 1.0, 0.0]})
    >>> FeatureFusionClassifier().fit(X, ["cat", "cat", "dog", "dog"]).predict(X)
    array(['cat', 'cat', 'dog', 'dog'], dtype='<U3')
    """

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _check_rows(self, y, weight):
        if weight is not None and len(np.unique(y[weight > 0])) < 2:
            raise ValueError("after leaving out rows of sample_weight 0, y holds one class only.")

    def _known_target(self, y):
        """Codes of the classes that have rows with any block: XGBoost takes no gaps."""
        self.known_, y = np.unique(y, return_inverse=True)
        if len(self.known_) < 2:
            raise ValueError("the rows that hold any block are of one class; there is nothing to fit.")
        return y

    def _learn_prior(self, y, weight):
        self.prior_ = np.bincount(y, weights=weight, minlength=len(self.classes_)).astype(float)
        self.prior_ /= self.prior_.sum()

    def predict(self, X):
        """Most probable class of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        table, empty = self._rows(X)
        codes = self.known_[np.asarray(self.estimator_.predict(table)).astype(int)]
        codes[empty] = self.prior_.argmax()
        return self.classes_[codes]

    @final_has("predict_proba")
    def predict_proba(self, X):
        """Class probabilities; there if the estimator has them.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        table, empty = self._rows(X)
        proba = np.zeros((len(table), len(self.classes_)))
        proba[:, self.known_] = self.estimator_.predict_proba(table)
        proba[empty] = self.prior_
        return proba

    @final_has("decision_function")
    def decision_function(self, X):
        """Decision values; there if the estimator has them.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        table, _ = self._rows(X)
        return self.estimator_.decision_function(table)


class FeatureFusionRegressor(RegressorMixin, _FeatureFusion):
    """Feature-level (early) fusion: scale the blocks, put them side by side, fit one regressor.

    Parameters
    ----------
    estimator : regressor, optional
        By default ridge regression with its penalty chosen by leave-one-out error.
    scaling, weights, missing, blocks
        As in `FeatureFusionClassifier`.

    Attributes
    ----------
    blocks_, scaler_, estimator_, patterns_, n_features_in_, feature_names_in_
        As in `FeatureFusionClassifier`.
    prior_ : float
        Mean of `y`; the prediction for a row with no block at all.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import FeatureFusionRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0], "text__0": [1.0, 0.0, 1.0, 0.0]})
    >>> FeatureFusionRegressor().fit(X, [0.0, 2.0, 4.0, 6.0]).predict(X).round(1)
    array([0., 2., 4., 6.])
    """

    def _read_target(self, y, n_samples):
        return read_numbers(self, y, n_samples)

    def _check_rows(self, y, weight):
        pass

    def _known_target(self, y):
        return y

    def _learn_prior(self, y, weight):
        self.prior_ = float(np.average(y, weights=weight))

    def predict(self, X):
        """Predicted value of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        table, empty = self._rows(X)
        values = np.asarray(self.estimator_.predict(table), dtype=float)
        values[empty] = self.prior_
        return values
