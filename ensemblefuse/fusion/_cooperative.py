"""Cooperative learning: one linear model over all blocks, whose blocks are asked to agree. Floor 3."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.blocks import Blocks
from ensemblefuse.combine._base import log_probabilities, softmax
from ensemblefuse.features import BlockScaler
from ensemblefuse.fusion._agreement import Design, logistic, penalised_least_squares
from ensemblefuse.fusion._base import BaseFusion, read_labels, read_numbers, warn_new_patterns
from ensemblefuse.fusion._candidates import (
    choose_by_log_loss,
    choose_by_squared_error,
    fold_positions,
    mean_of_folds,
    read_candidates,
)
from ensemblefuse.fusion._ledger import make_splits

__all__ = ["CooperativeClassifier", "CooperativeRegressor"]


class _Cooperative(BaseFusion):
    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        self._check_parameters()
        blocks = self._read(X, reset=True, allow_partial=frozenset())
        self._refuse_raw("fits a linear model of numbers")
        y = self._read_target(y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        weight = np.ones(len(y)) if weight is None else weight
        used = blocks.present.any(axis=0) & (weight > 0)
        self._check_rows(blocks.present, used)
        self.patterns_ = np.unique(blocks.present[:, used].T, axis=0)
        self._learn_prior(y, weight)
        splits = fold_positions(make_splits(self.cv, y, groups, classify=self._classify), used)
        table, present, y, weight = _side_by_side(blocks)[used], blocks.present[:, used], y[used], weight[used]
        results = Parallel(n_jobs=self.n_jobs)(
            delayed(self._fit_fold)(table, present, y, weight, train, test) for train, test in splits
        )
        folds = [(test, scores) for (_, test), scores in zip(splits, results, strict=True)]
        shape = (len(y), len(self.classes_)) if self._classify else (len(y),)
        best, out_of_fold = self._choose(mean_of_folds(folds, len(self._candidates()), shape), y, weight)
        self.rho_, self.alpha_ = self._candidates()[best]
        self._fit_last(table, present, y, weight)
        oof = np.full((len(used), *shape[1:]), np.nan, dtype=np.float32 if self._classify else np.float64)
        oof[used] = out_of_fold
        self._keep_oof(oof)

    def _check_parameters(self) -> None:
        if self.scaling not in ("equal", "mfa", "frobenius", None):
            raise ValueError(f'scaling must be "equal", "mfa", "frobenius" or None; got {self.scaling!r}.')
        self._candidates()

    def _candidates(self) -> list[tuple[float, float]]:
        """All pairs of rho and alpha."""
        alphas = read_candidates("alpha", self.alpha, zero=not self._classify)
        return [(rho, alpha) for rho in read_candidates("rho", self.rho, zero=True) for alpha in alphas]

    def _check_rows(self, present: np.ndarray, used: np.ndarray) -> None:
        if not present.any():
            raise ValueError("every block is missing in every row of X; there is nothing to fit.")
        if not used.any():
            raise ValueError("every row that holds a block has sample_weight 0; there is nothing to fit.")

    def _spans(self) -> dict[str, np.ndarray]:
        """Positions of each block's columns when the blocks stand side by side."""
        edges = np.cumsum([0, *(len(columns) for columns in self.blocks_.values())])
        return {name: np.arange(a, b) for name, (a, b) in zip(self.blocks_, pairwise(edges), strict=True)}

    def _design(self, table: np.ndarray, present: np.ndarray, weight: np.ndarray) -> tuple[Any, Design]:
        scaler = BlockScaler(self.scaling, blocks=self._spans()).fit(table, sample_weight=weight)
        scaled = _scaled(scaler, table)
        return scaler, Design([scaled[:, columns] for columns in self._spans().values()], present, weight)

    def _linear(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Intercept and the blocks' parts, of shape (n_samples, n_outputs), and the rows without a known block."""
        check_is_fitted(self, "scaler_")
        blocks = self._read(X, reset=False, allow_partial=frozenset())
        warn_new_patterns(self, blocks)
        coefficients = np.hstack([np.atleast_2d(part) for part in self.coef_.values()])
        values = _scaled(self.scaler_, _side_by_side(blocks)) @ coefficients.T + self.intercept_
        known = self.patterns_.any(axis=0)
        return values, np.asarray(~blocks.present[known].any(axis=0))

    def _keep_coefficients(self, coefficients: np.ndarray) -> None:
        self.coef_ = {name: coefficients[..., columns] for name, columns in self._spans().items()}


def _side_by_side(blocks: Blocks) -> np.ndarray:
    return np.hstack([np.asarray(part, dtype=float) for part in blocks.data.values()])


def _scaled(scaler: BlockScaler, table: np.ndarray) -> np.ndarray:
    # The mean is 0 after scaling: there a missing block, and one that no row held in fit, has its part.
    return np.nan_to_num(scaler.transform(table), copy=False, nan=0.0)


class CooperativeRegressor(RegressorMixin, _Cooperative):
    """Cooperative learning: linear regression on all blocks with a penalty on their disagreement.

    The blocks are scaled and centred. Over the blocks' coefficients beta_m it minimises ::

        1/2 |y - b - sum_m X_m beta_m|^2 + rho/2 sum_{m<l} |X_m beta_m - X_l beta_l|^2
            + alpha (l1_ratio |beta|_1 + (1 - l1_ratio)/2 |beta|^2)

    ``rho = 0`` is feature-level fusion. At ``rho = 1`` and ``alpha = 0`` each block has 1 / n_blocks of the
    coefficients that it has alone: the mean of the blocks' own models. A missing block has the part 0, the mean, and
    the row drops out of the agreement of its pairs. Rows without any block, and rows of weight 0, are left out of the
    fit.

    Parameters
    ----------
    rho : float or sequence of float
        Weight of the agreement, at least 0.
    alpha : float or sequence of float
        Penalty, at least 0; in the scale of scikit-learn's `Ridge`, n_samples times that of its `ElasticNet`. Of
        sequences the pair with `rho` of least out-of-fold squared error is taken.
    l1_ratio : float
        Share of the absolute values in the penalty, from 0 (ridge, solved in closed form) to 1 (lasso).
    scaling : {"equal", "mfa", "frobenius", None}
        As in `BlockScaler`, which is fitted anew in each fold. It matters to the penalty alone.
    cv : int, splitter or iterable of (train, test)
        As in `DecisionFusionRegressor`.
    n_jobs : int, optional
        Jobs for the folds, as in joblib.
    blocks : dict, optional
        Columns of each block; by default the prefix of their names before ``"__"``.

    Attributes
    ----------
    rho_, alpha_ : float
    coef_ : dict of str to ndarray of shape (n_columns,)
        Of the scaled columns of each block.
    intercept_ : float
    scaler_ : BlockScaler
        Of the blocks side by side.
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    prior_ : float
        Mean of `y`; the prediction for a row with no block at all.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        The combinations of present blocks seen in fit.
    oof_fused_ : ndarray of shape (n_samples,)
        Out-of-fold predictions at `rho_` and `alpha_`. NaN in rows of no test fold, of weight 0 and without any block.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Ding, Li, Narasimhan and Tibshirani, Cooperative learning for multiview analysis, PNAS 2022.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import CooperativeRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0, 4.0], "text__0": [1.0, 0.0, 1.0, 3.0, 2.0]})
    >>> model = CooperativeRegressor(rho=0.0, alpha=0.0).fit(X, [1.0, 1.0, 3.0, 6.0, 6.0])
    >>> model.predict(X).round(1)
    array([1., 1., 3., 6., 6.])
    """

    _classify = False

    def __init__(
        self,
        rho=(0.0, 0.2, 1.0),
        *,
        alpha=(1.0, 10.0, 100.0, 1000.0),
        l1_ratio=0.0,
        scaling="equal",
        cv=5,
        n_jobs=None,
        blocks=None,
    ):
        self.rho = rho
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.scaling = scaling
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    def fit(self, X, y, sample_weight=None, groups=None):
        """Choose `rho` and `alpha` out of fold and fit on all rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of an inner split.

        Returns
        -------
        self
        """
        if not 0 <= self.l1_ratio <= 1:
            raise ValueError(f"l1_ratio must be between 0 and 1; got {self.l1_ratio!r}.")
        self._fit(X, y, sample_weight, groups)
        return self

    def _read_target(self, y, n_samples):
        return read_numbers(self, y, n_samples)

    def _learn_prior(self, y, weight):
        self.prior_ = float(np.average(y, weights=weight))

    def _fit_fold(self, table, present, y, weight, train, test):
        if not len(train) or not len(test):
            return None
        scaler, design = self._design(table[train], present[:, train], weight[train])
        level = np.average(y[train], weights=weight[train])
        coefficients = penalised_least_squares(design, y[train] - level, self._candidates(), self.l1_ratio)
        return level + coefficients @ _scaled(scaler, table[test]).T

    def _choose(self, predictions, y, weight):
        best = choose_by_squared_error(predictions, y, weight)
        return best, predictions[best]

    def _fit_last(self, table, present, y, weight):
        self.scaler_, design = self._design(table, present, weight)
        self.intercept_ = float(np.average(y, weights=weight))
        chosen = [(self.rho_, self.alpha_)]
        self._keep_coefficients(penalised_least_squares(design, y - self.intercept_, chosen, self.l1_ratio)[0])

    def _keep_oof(self, oof):
        self.oof_fused_ = oof

    def predict(self, X):
        """Predicted value of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            The mean of `y` for a row with no block at all.
        """
        values, empty = self._linear(X)
        return np.where(empty, self.prior_, values[:, 0])


class CooperativeClassifier(ClassifierMixin, _Cooperative):
    """Cooperative learning: logistic regression on all blocks with a penalty on their disagreement.

    As `CooperativeRegressor` with the sum of -log p for its loss; the blocks' parts of the logits are asked to agree,
    in every class. The penalties are one quadratic form, in whose coordinates the problem is plain logistic regression,
    so that the solution is exact. Probabilities have a temperature that is fitted on out-of-fold logits. Missing
    blocks: as there.

    Parameters
    ----------
    rho : float or sequence of float
        Weight of the agreement, at least 0.
    alpha : float or sequence of float
        Ridge penalty ``alpha / 2 |beta|^2``, above 0; 1 / C of scikit-learn's `LogisticRegression`. Of sequences the
        pair with `rho` of least out-of-fold log-loss is taken.
    scaling, cv, n_jobs, blocks
        As in `CooperativeRegressor`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    rho_, alpha_, temperature_ : float
    coef_ : dict of str to ndarray of shape (n_outputs, n_columns)
        Of the scaled columns of each block; one output for two classes, else one a class.
    intercept_ : ndarray of shape (n_outputs,)
    known_ : ndarray of int
        Classes that have rows to fit on, in the order of the outputs.
    prior_ : ndarray of shape (n_classes,)
        Class frequencies; the prediction for a row with no block at all.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Out-of-fold probabilities at `rho_` and `alpha_`, at the temperature that was fitted on them. NaN in rows of no
        test fold, of weight 0 and without any block.
    scaler_, blocks_, patterns_, n_features_in_, feature_names_in_
        As in `CooperativeRegressor`.

    References
    ----------
    Ding, Li, Narasimhan and Tibshirani, Cooperative learning for multiview analysis, PNAS 2022 (with a likelihood for
    the squared error).

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import CooperativeClassifier
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.3, 0.8, 0.9, 1.0], "text__0": [5.0, 4.0, None, 1.0, 0.0, 1.0]})
    >>> CooperativeClassifier(cv=3).fit(X, ["cat", "cat", "cat", "dog", "dog", "dog"]).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

    _classify = True

    def __init__(
        self,
        rho=(0.0, 0.1, 0.5),
        *,
        alpha=(1.0, 10.0, 100.0),
        scaling="equal",
        cv=5,
        n_jobs=None,
        blocks=None,
    ):
        self.rho = rho
        self.alpha = alpha
        self.scaling = scaling
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    def fit(self, X, y, sample_weight=None, groups=None):
        """Choose `rho`, `alpha` and the temperature out of fold and fit on all rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            As in `CooperativeRegressor.fit`.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional

        Returns
        -------
        self
        """
        self._fit(X, y, sample_weight, groups)
        return self

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _learn_prior(self, y, weight):
        self.prior_ = np.bincount(y, weights=weight, minlength=len(self.classes_))
        self.prior_ /= self.prior_.sum()

    def _fit_fold(self, table, present, y, weight, train, test):
        known, codes = np.unique(y[train], return_inverse=True)
        if len(known) < 2 or not len(test):
            return None
        scaler, design = self._design(table[train], present[:, train], weight[train])
        coefficients, intercepts = logistic(design, codes, self._candidates())
        rows = _scaled(scaler, table[test])
        values = [rows @ c.T + b for c, b in zip(coefficients, intercepts, strict=True)]
        return np.array([_class_scores(v, known, len(self.classes_)) for v in values])

    def _choose(self, scores, y, weight):
        best, self.temperature_, proba = choose_by_log_loss(scores, y, weight)
        return best, proba

    def _fit_last(self, table, present, y, weight):
        self.known_, codes = np.unique(y, return_inverse=True)
        if len(self.known_) < 2:
            raise ValueError("the rows that hold a block and have weight are of one class; there is nothing to fit.")
        self.scaler_, design = self._design(table, present, weight)
        coefficients, intercepts = logistic(design, codes, [(self.rho_, self.alpha_)])
        self.intercept_ = intercepts[0]
        self._keep_coefficients(coefficients[0])

    def _keep_oof(self, oof):
        self.oof_proba_ = oof

    def _scores(self, X):
        values, empty = self._linear(X)
        scores = _class_scores(values, self.known_, len(self.classes_))
        scores[empty] = self.temperature_ * log_probabilities(self.prior_, floor=-700.0)
        return scores

    def decision_function(self, X):
        """Logits before the temperature.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For a row with no block at all, those that give the class frequencies at the temperature.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X):
        """Class probabilities.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The class frequencies for a row with no block at all.
        """
        return softmax(self._scores(X) / self.temperature_)

    def predict(self, X):
        """Most probable class of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self._scores(X).argmax(axis=1)
        return self.classes_[codes]


def _class_scores(values: np.ndarray, known: np.ndarray, n_classes: int) -> np.ndarray:
    """Logits of all classes; a class that the fit did not see gets the lowest of its row."""
    local = np.hstack([-values / 2, values / 2]) if values.shape[1] == 1 else values
    scores = np.repeat(local.min(axis=1, keepdims=True), n_classes, axis=1)
    scores[:, known] = local
    return scores
