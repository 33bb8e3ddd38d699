"""Cooperative learning: one linear model over all blocks, with a penalty on their disagreement."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.blocks import Blocks
from ensemblefuse.features import BlockScaler
from ensemblefuse.fusion._cooperative_algebra import Design, logistic, penalised_least_squares
from ensemblefuse.fusion._one_model_base import OneModelClassifier, OneModelFusion, OneModelRegressor
from ensemblefuse.fusion._parameter_choice import read_candidates
from ensemblefuse.fusion.base import warn_new_patterns
from ensemblefuse.fusion.members import member_scores

__all__ = ["CooperativeClassifier", "CooperativeRegressor"]


class _Cooperative(OneModelFusion):
    _needs_numbers = "fits a linear model of numbers"

    def _prepare(self, blocks: Blocks, used: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _table(blocks)[used], blocks.present[:, used]

    def _check_parameters(self) -> None:
        if self.scaling not in ("equal", "mfa", "frobenius", None):
            raise ValueError(f'scaling must be "equal", "mfa", "frobenius" or None; got {self.scaling!r}.')
        self._candidates()

    def _candidates(self) -> list[tuple[float, float]]:
        """Return all pairs of rho and alpha."""
        alphas = read_candidates("alpha", self.alpha, zero=not self._classify)
        return [(rho, alpha) for rho in read_candidates("rho", self.rho, zero=True) for alpha in alphas]

    def _spans(self) -> dict[str, np.ndarray]:
        """Return the positions of each block's columns in the table of all blocks side by side."""
        edges = np.cumsum([0, *(len(columns) for columns in self.blocks_.values())])
        return {name: np.arange(a, b) for name, (a, b) in zip(self.blocks_, pairwise(edges), strict=True)}

    def _design(self, table: np.ndarray, present: np.ndarray, weight: np.ndarray) -> tuple[Any, Design]:
        scaler = BlockScaler(self.scaling, blocks=self._spans()).fit(table, sample_weight=weight)
        scaled = _scaled(scaler, table)
        return scaler, Design([scaled[:, columns] for columns in self._spans().values()], present, weight)

    def _rows(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the scaled rows, the coefficients of their columns, and the rows without any block seen in fit."""
        check_is_fitted(self, "scaler_")
        blocks = self._read(X, reset=False, allow_partial=frozenset())
        warn_new_patterns(self, blocks)
        coefficients = np.concatenate(list(self.coef_.values()), axis=-1)
        return _scaled(self.scaler_, _table(blocks)), coefficients, self._empty(blocks)

    def _keep_coefficients(self, coefficients: np.ndarray) -> None:
        self.coef_ = {name: coefficients[..., columns] for name, columns in self._spans().items()}


def _table(blocks: Blocks) -> np.ndarray:
    return np.asarray(blocks.side_by_side(blocks.names), dtype=float)


def _scaled(scaler: BlockScaler, table: np.ndarray) -> np.ndarray:
    # After scaling, the mean is 0. It replaces a missing block, and a block that no row held in fit.
    return np.nan_to_num(scaler.transform(table), copy=False, nan=0.0)


class CooperativeRegressor(OneModelRegressor, _Cooperative):
    """Cooperative learning: linear regression on all blocks with a penalty on their disagreement.

    The blocks are scaled and centred. The coefficients beta_m of the blocks minimise ::

        1/2 |y - b - sum_m X_m beta_m|^2 + rho/2 sum_{m<l} |X_m beta_m - X_l beta_l|^2
            + alpha (l1_ratio |beta|_1 + (1 - l1_ratio)/2 |beta|^2)

    ``rho = 0`` is feature-level fusion. With ``rho = 1`` and ``alpha = 0``, each block has 1 / n_blocks of the
    coefficients that it would have alone, so the model is the mean of the blocks' own models. A missing block
    contributes 0, the mean, and its row is left out of the agreement terms of this block. Rows without any block, and
    rows with weight 0, are left out of the fit.

    Parameters
    ----------
    rho : float or sequence of float
        Weight of the agreement, at least 0.
    alpha : float or sequence of float
        Penalty, at least 0. Its scale is that of scikit-learn's `Ridge`: n_samples times the scale of `ElasticNet`. If
        `rho` or `alpha` is a sequence, the pair with the smallest out-of-fold squared error is chosen.
    l1_ratio : float
        Share of the L1 norm in the penalty, from 0 (ridge, solved in closed form) to 1 (lasso).
    scaling : {"equal", "mfa", "frobenius", None}
        As in `BlockScaler`. It is fitted anew in each fold, and matters only for the penalty.
    cv : int, splitter or iterable of (train, test)
        As in `DecisionFusionRegressor`.
    n_jobs : int, optional
        Number of parallel jobs for the folds, as in joblib.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.

    Attributes
    ----------
    rho_, alpha_ : float
    coef_ : dict of str to ndarray of shape (n_columns,)
        Coefficients of the scaled columns of each block.
    intercept_ : float
    scaler_ : BlockScaler
        Fitted on the blocks side by side.
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    prior_ : float
        Mean of `y`. This is the prediction for a row without any block.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        Combinations of present blocks seen in fit.
    oof_fused_ : ndarray of shape (n_samples,)
        Out-of-fold predictions with `rho_` and `alpha_`. NaN in rows in no test fold, with weight 0, or without any
        block.
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

    def _check_parameters(self):
        if not 0 <= self.l1_ratio <= 1:
            raise ValueError(f"l1_ratio must be between 0 and 1; got {self.l1_ratio!r}.")
        super()._check_parameters()

    def _fit_fold(self, shared, y, weight, train, test):
        table, present = shared
        if not len(train) or not len(test):
            return None
        scaler, design = self._design(table[train], present[:, train], weight[train])
        level = np.average(y[train], weights=weight[train])
        coefficients = penalised_least_squares(design, y[train] - level, self._candidates(), self.l1_ratio)
        return level + coefficients @ _scaled(scaler, table[test]).T

    def _fit_last(self, shared, y, weight, chosen):
        self.rho_, self.alpha_ = chosen
        self.scaler_, design = self._design(*shared, weight)
        self.intercept_ = float(np.average(y, weights=weight))
        self._keep_coefficients(penalised_least_squares(design, y - self.intercept_, [chosen], self.l1_ratio)[0])

    def _scores(self, X):
        rows, coefficients, empty = self._rows(X)
        return rows @ coefficients + self.intercept_, empty


class CooperativeClassifier(OneModelClassifier, _Cooperative):
    """Cooperative learning: logistic regression on all blocks with a penalty on their disagreement.

    Like `CooperativeRegressor`, but with the sum of -log p as its loss. The agreement is between the blocks' parts of
    the logits, in every class. Both penalties form one quadratic form. After a change of coordinates, the problem is
    plain logistic regression, so the solution is exact. The temperature of the probabilities is fitted on out-of-fold
    logits. Missing blocks are treated as in `CooperativeRegressor`.

    Parameters
    ----------
    rho : float or sequence of float
        Weight of the agreement, at least 0.
    alpha : float or sequence of float
        Ridge penalty ``alpha / 2 |beta|^2``, above 0. It equals 1 / C of scikit-learn's `LogisticRegression`. If `rho`
        or `alpha` is a sequence, the pair with the smallest out-of-fold log-loss is chosen.
    scaling, cv, n_jobs, blocks
        As in `CooperativeRegressor`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    rho_, alpha_, temperature_ : float
    coef_ : dict of str to ndarray of shape (n_outputs, n_columns)
        Coefficients of the scaled columns of each block. One output for two classes, otherwise one per class.
    intercept_ : ndarray of shape (n_outputs,)
    known_ : ndarray of int
        Classes that have rows to fit on, in the order of the outputs.
    prior_ : ndarray of shape (n_classes,)
        Class frequencies. These are the prediction for a row without any block.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Out-of-fold probabilities with `rho_` and `alpha_`, at the temperature fitted on them. NaN in rows in no test
        fold, with weight 0, or without any block.
    scaler_, blocks_, patterns_, n_features_in_, feature_names_in_
        As in `CooperativeRegressor`.

    References
    ----------
    Ding, Li, Narasimhan and Tibshirani, Cooperative learning for multiview analysis, PNAS 2022 (here with a likelihood
    instead of the squared error).

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import CooperativeClassifier
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.3, 0.8, 0.9, 1.0], "text__0": [5.0, 4.0, None, 1.0, 0.0, 1.0]})
    >>> CooperativeClassifier(cv=3).fit(X, ["cat", "cat", "cat", "dog", "dog", "dog"]).predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    """

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

    def _fit_fold(self, shared, y, weight, train, test):
        table, present = shared
        known, codes = np.unique(y[train], return_inverse=True)
        if len(known) < 2 or not len(test):
            return None
        scaler, design = self._design(table[train], present[:, train], weight[train])
        fitted = zip(*logistic(design, codes, self._candidates()), strict=True)
        rows = _scaled(scaler, table[test])
        return np.array([_logits(*parts, known, rows, len(self.classes_)) for parts in fitted])

    def _fit_last(self, shared, y, weight, chosen):
        self.rho_, self.alpha_ = chosen
        self.known_, codes = np.unique(y, return_inverse=True)
        self.scaler_, design = self._design(*shared, weight)
        coefficients, intercepts = logistic(design, codes, [chosen])
        self.intercept_ = intercepts[0]
        self._keep_coefficients(coefficients[0])

    def _scores(self, X):
        rows, coefficients, empty = self._rows(X)
        return _logits(coefficients, self.intercept_, self.known_, rows, len(self.classes_)), empty


def _logits(coefficients, intercept, known: np.ndarray, rows: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the scores of a logistic regression with these coefficients, fitted on the classes in `known`."""
    model = LogisticRegression()
    model.coef_, model.intercept_, model.classes_ = coefficients, intercept, np.arange(len(known))
    return member_scores(model, known, rows, n_classes, by_value=True)
