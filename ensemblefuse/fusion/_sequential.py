"""Sequential fusion: each block learns what the blocks before it did not explain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._fitting import weight_codes
from ensemblefuse._threads import one_blas_thread
from ensemblefuse.blocks import Blocks
from ensemblefuse.fusion._jobs import run_jobs
from ensemblefuse.fusion._per_block_base import PerBlockFusion, is_number
from ensemblefuse.fusion._sequential_stage import (
    check_stage,
    fit_stage,
    log_loss_of,
    stage_step,
    step_size,
    step_size_of_numbers,
)
from ensemblefuse.fusion.base import check_estimator_kind, refuse_fitted, warn_unweighted
from ensemblefuse.fusion.linear_head import default_head
from ensemblefuse.fusion.members import take_rows
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.fusion.targets import read_labels, read_numbers

__all__ = ["SequentialFusionClassifier", "SequentialFusionRegressor"]

_PRIOR_FLOOR = np.exp(-20.0)


@dataclass
class _Stage:
    """One block, learned on top of a margin."""

    name: str
    estimator: Any  # fitted on all rows; None if there was nothing to fit
    classes: np.ndarray
    weighted: bool
    size: float  # factor of its steps
    margin: np.ndarray  # out of fold, after adding this block


class _SequentialFusion(PerBlockFusion):
    """The common part of the classifier and the regressor of sequential fusion.

    A subclass sets ``_classify`` and defines these hooks. A margin has shape (n_samples, n_classes), or (n_samples, 1)
    in regression:

    - ``_read_target(y, n_samples)`` returns the checked target, of shape (n_samples,): class codes, or numbers;
    - ``_check_estimator(name)`` raises an error if the estimator of a block cannot be a stage;
    - ``_learn_prior(y, weight)`` sets ``prior_``;
    - ``_start(n_samples)`` returns the margin before the first stage;
    - ``_loss(margin, y, weight)`` returns the mean loss of a margin, as a float;
    - ``_learn_fused(margin)`` gets the last out-of-fold margin and sets ``oof_proba_`` or ``oof_fused_``.
    """

    _classify: bool
    prior_: Any

    def __init__(self, estimators=None, *, order="auto", learning_rate=1.0, cv=5, n_jobs=None, blocks=None):
        self.estimators = estimators
        self.order = order
        self.learning_rate = learning_rate
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit one block after another, each on top of the out-of-fold margin of the blocks before it.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns. A
            block may hold raw cells (texts, paths) if its estimator accepts them.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of an inner split.

        Returns
        -------
        self
        """
        self._check_settings()
        self._forget()
        blocks = self._read(X, reset=True, allow_partial=None)
        y = self._read_target(y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        groups = self._read_groups(groups, len(blocks))
        order = self._check_names_of_blocks()
        blocks = self._read(X, reset=False, allow_partial=self._partial_blocks())
        splits = make_splits(self.cv, y, groups, classify=self._classify)
        self._learn_prior(y, weight)
        self._fit_stages(blocks, y, weight, splits, order)
        return self

    def _check_names_of_blocks(self) -> Any:
        """Check the estimators, and return the order given by the user."""
        self._require_estimators(self.raw_blocks_)
        for name in self.blocks_:
            if self._given(name) is not None:
                self._check_estimator(name)
                why = "each stage is fitted on what the stages before it left"
                refuse_fitted(self, name, self._given(name), why, "use decision-level fusion")
        return self._given_order()

    def _check_settings(self) -> None:
        if not (is_number(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise ValueError(f"learning_rate must be a number above 0 and at most 1; got {self.learning_rate!r}.")

    def _fit_stages(self, blocks: Blocks, y: np.ndarray, weight: np.ndarray | None, splits: list, order: Any) -> None:
        margin = self._start(len(blocks))
        first: dict[str, _Stage] = {}
        if order is None:
            first = {name: self._stage(name, blocks, y, weight, splits, margin) for name in blocks.names}
            order = sorted(first, key=lambda name: self._loss(first[name].margin, y, weight))
        stages: list[_Stage] = []
        lost = {}
        for name in order:
            # The first stage starts from the prior, as in the comparison above, so it needs no new fit.
            again = bool(stages) or name not in first
            stage = self._stage(name, blocks, y, weight, splits, margin) if again else first[name]
            if stage.estimator is None:
                lost[name] = int(blocks.present[blocks.names.index(name)].sum())
            else:
                stages.append(stage)
                margin = stage.margin
        if not stages:
            raise self._refuse_nothing(len(blocks))
        self._warn_left_out(lost)
        warn_unweighted(self, [stage.name for stage in stages if not stage.weighted])
        self.order_ = [stage.name for stage in stages]
        self.estimators_ = {stage.name: stage.estimator for stage in stages}
        self.stage_classes_ = {stage.name: stage.classes for stage in stages}
        self.step_sizes_ = np.array([stage.size for stage in stages])
        self.stage_losses_ = np.array([self._loss(stage.margin, y, weight) for stage in stages])
        self._learn_fused(margin)

    def _stage(self, name, blocks, y, weight, splits, margin) -> _Stage:
        """Learn one block on top of an out-of-fold margin, in each fold and on all rows."""
        data, present = blocks.data[name], blocks.present[blocks.names.index(name)]
        estimator = self._given(name)
        if estimator is None:
            estimator = default_head(data.shape[1], classify=self._classify)
        usable = present & np.isfinite(margin).all(axis=1)
        if weight is not None:
            usable &= weight > 0  # such rows are dropped here, because the estimator may take no weights
        everything = np.arange(len(y))
        folds = [(train[usable[train]], test[present[test]]) for train, test in splits]
        folds.append((everything[usable], everything[:0]))
        coded = weight_codes(estimator, self.classes_.tolist()) if self._classify else estimator
        jobs = [
            (
                name,
                coded,
                take_rows(data, train),
                y[train],
                None if weight is None else weight[train],
                margin[train],
                take_rows(data, test),
                self._classify,
            )
            for train, test in folds
        ]
        results = list(run_jobs(_fit_one, jobs, self.n_jobs))
        step, count = np.zeros_like(margin), np.zeros(len(y))
        for (_, test), result in zip(folds, results, strict=True):
            if result.step is not None:
                step[test] += result.step
                count[test] += 1
        step /= np.maximum(count, 1)[:, None]
        step[present & (count == 0)] = np.nan  # these rows have the block, but no out-of-fold step
        fitted = results[-1]
        default = self._given(name) is None
        size = self._size(fitted.estimator, default, margin, step, y, weight, usable & (count > 0))
        after = margin + size * step
        return _Stage(name, fitted.estimator, fitted.classes, fitted.weighted, size, after)

    def _size(self, fitted, default, margin, step, y, weight, rows) -> float:
        """Return the learning rate, times the result of a line search on out-of-fold steps.

        The search is for stages that were fitted on the gradient, and for default estimators: these count at most once,
        and not at all if the block says nothing.
        """
        searched = isinstance(fitted, list) or (default and fitted is not None)
        if not searched or not rows.any():
            return float(self.learning_rate)
        row_weight = np.ones(rows.sum()) if weight is None else weight[rows]
        rate = step_size if self._classify else step_size_of_numbers
        best = rate(margin[rows], step[rows], y[rows], row_weight)
        return float(self.learning_rate) * (best if isinstance(fitted, list) else min(1.0, best))

    def _margins(self, X: Any) -> Iterator[np.ndarray]:
        """Yield the margins of new rows after each stage."""
        check_is_fitted(self, "order_")
        blocks = self._read(X, reset=False, allow_partial=self._partial_blocks())
        margin = self._start(len(blocks))
        n_classes = len(self.classes_) if self._classify else 0
        for name, size in zip(self.order_, self.step_sizes_, strict=True):
            present = blocks.present[blocks.names.index(name)]
            if present.any():
                rows = take_rows(blocks.data[name], present)
                step = stage_step(self.estimators_[name], rows, self.stage_classes_[name], n_classes)
                margin[present] += size * step
            yield margin.copy()

    def _last_margin(self, X: Any) -> np.ndarray:
        *_, margin = self._margins(X)
        return margin


def _known(margin: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the rows that count in the loss of a margin."""
    finite = np.isfinite(margin).all(axis=1)
    return finite if weight is None else finite & (weight > 0)


@dataclass
class _Fit:
    estimator: Any
    classes: np.ndarray
    weighted: bool
    step: np.ndarray | None


def _fit_one(name, estimator, X, y, weight, margin, X_test, classify) -> _Fit:
    """Fit one stage on one training set and compute its step for one test set, with one BLAS thread."""
    classes, local = np.unique(y, return_inverse=True) if classify else (np.empty(0, dtype=int), y)
    if len(y) == 0 or (classify and len(classes) < 2):
        return _Fit(None, classes, True, None)
    with one_blas_thread():
        try:
            known = margin[:, classes] if classify else margin
            fitted, weighted = fit_stage(weight_codes(estimator, classes.tolist()), X, local, weight, known, classify)
            tested = X_test.shape[0] > 0
            step = stage_step(fitted, X_test, classes, margin.shape[1] if classify else 0) if tested else None
        except Exception as error:
            error.add_note(f"while fitting the stage of block {name!r}")
            raise
    return _Fit(fitted, classes, weighted, step)


class SequentialFusionClassifier(ClassifierMixin, _SequentialFusion):
    r"""Sequential fusion: one block after another, each learning what the blocks before it did not explain.

    .. math:: F_0 = \log \pi, \qquad F_t = F_{t-1} + \nu f_t(x_{m_t}), \qquad p = \mathrm{softmax}(F_T)

    Stage t is fitted to minimise the log-loss of :math:`\mathrm{softmax}(F_{t-1} + f_t)`. Here :math:`F_{t-1}` is out
    of fold. So if a stage overfits its training rows, later stages still see the errors that remain on new rows. A
    block that is missing in a row adds 0 to this row. This is stage-wise additive modelling with one stage per block.
    If the blocks are of about equal strength, decision-level fusion is the better default.

    Parameters
    ----------
    estimators : estimator or dict of str to estimator, optional
        One for all blocks, or one per block. A block that is not named, or has ``None``, gets the default: standardised
        logistic regression with ``C = min(1, 30 / n_columns)``. These are allowed, alone or as the last step of a
        pipeline:

        - `sklearn.linear_model.LogisticRegression` with an L2 penalty or none: its objective is minimised by L-BFGS,
          with the margin as an offset; `solver` is not used;
        - `xgboost.XGBClassifier`: it starts from the margin (``base_margin``);
        - any regressor: one per class, on the gradient :math:`y_k - p_k`. The factor of their step is chosen by
          out-of-fold log-loss (Friedman 2001, algorithm 1 with one iteration per block).
    order : "auto" or list of str
        Blocks in the order of their stages. ``"auto"`` sorts the blocks by the out-of-fold log-loss over all rows that
        each of them reaches alone, the smallest first.
    learning_rate : float
        :math:`\nu`, above 0 and at most 1.
    cv : int, splitter or iterable of (train, test)
        Splits for the out-of-fold margins, the same in all stages; as in `DecisionFusionClassifier`.
    n_jobs : int, optional
        Number of parallel jobs for the fits of one stage, as in joblib.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    prior_ : ndarray of shape (n_classes,)
        Weighted class frequencies. These are the prediction for a row without any block.
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    order_ : list of str
        Blocks in the order of their stages. A block that could not be fitted is left out, with a warning.
    estimators_ : dict of str to estimator, or to list of one regressor per class
        Fitted on all rows that hold the block, on coded labels. With two classes, only the second has a regressor. The
        decision values of a logistic regression are its contribution to the margin.
    stage_classes_ : dict of str to ndarray of int
        Codes of the classes that each stage was fitted on.
    step_sizes_ : ndarray of shape (n_stages,)
        Factors of the steps: `learning_rate`, times the result of a line search on out-of-fold steps if the stage
        consists of regressors or is the default; for the default it is at most 1, and 0 for a block that says nothing.
    stage_losses_ : ndarray of shape (n_stages,)
        Out-of-fold log-loss after each stage, in nats.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Out-of-fold probabilities of the last stage. NaN in rows that hold a block, but have no out-of-fold step for it:
        they are in no test fold, or the training rows of their fold hold fewer than two classes. These rows are left
        out of the following stages.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Friedman, Annals of Statistics 2001 (stage-wise additive models, eq. 9 to 12); Wolpert, Neural Networks 1992
    (out-of-fold predictions).

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import SequentialFusionClassifier
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.3, 0.8, 0.9, 1.0], "text__0": [5.0, 4.0, None, 1.0, 2.0, 4.0]})
    >>> model = SequentialFusionClassifier(cv=3).fit(X, ["cat", "cat", "cat", "dog", "dog", "dog"])
    >>> model.predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    >>> model.order_
    ['image', 'text']
    """

    _classify = True

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _check_estimator(self, name):
        check_stage(type(self).__name__, name, self._given(name))

    def _learn_prior(self, y, weight):
        counts = np.bincount(y, weights=weight, minlength=len(self.classes_))
        self.prior_ = np.maximum(counts / counts.sum(), _PRIOR_FLOOR)
        self.prior_ = self.prior_ / self.prior_.sum()

    def _start(self, n_samples):
        return np.tile(np.log(self.prior_), (n_samples, 1))

    def _loss(self, margin, y, weight):
        known = _known(margin, weight)
        return (
            log_loss_of(margin[known], y[known], None if weight is None else weight[known]) if known.any() else np.inf
        )

    def _learn_fused(self, margin):
        self.oof_proba_ = softmax(margin, axis=1).astype(np.float32)

    @answers_rows
    def staged_predict_proba(self, X: Any) -> Iterator[np.ndarray]:
        """Predict the class probabilities after each stage.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Yields
        ------
        ndarray of shape (n_samples, n_classes)
        """
        for margin in self._margins(X):
            yield softmax(margin, axis=1)

    @answers_rows
    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """Predict the most probable class after each stage.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Yields
        ------
        ndarray of shape (n_samples,)
        """
        for margin in self._margins(X):
            yield self.classes_[margin.argmax(axis=1)]

    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities, after the last stage.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row without any block gets the class frequencies.
        """
        return softmax(self._last_margin(X), axis=1)

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self._last_margin(X).argmax(axis=1)
        return self.classes_[codes]


class SequentialFusionRegressor(RegressorMixin, _SequentialFusion):
    """Sequential fusion: one block after another, each fitted to the residual of the blocks before it.

    The residual of a training row is out of fold. A block that is missing in a row adds 0 to this row.

    Parameters
    ----------
    estimators : regressor or dict of str to regressor, optional
        One for all blocks, or one per block. The default is standardised ridge regression, with its penalty chosen by
        leave-one-out error.
    order : "auto" or list of str
        Blocks in the order of their stages. ``"auto"`` sorts the blocks by the out-of-fold squared error over all rows
        that each of them reaches alone, the smallest first.
    learning_rate, cv, n_jobs, blocks
        As in `SequentialFusionClassifier`.

    Attributes
    ----------
    prior_ : float
        Weighted mean of `y`. This is the prediction for a row without any block.
    blocks_, order_, estimators_, n_features_in_, feature_names_in_
        As in `SequentialFusionClassifier`.
    step_sizes_ : ndarray of shape (n_stages,)
        `learning_rate`; for a default stage, times the factor from 0 to 1 that has the smallest out-of-fold error.
    stage_losses_ : ndarray of shape (n_stages,)
        Out-of-fold mean squared error after each stage.
    oof_fused_ : ndarray of shape (n_samples,)
        Out-of-fold predictions of the last stage; NaN as in `SequentialFusionClassifier`.

    References
    ----------
    Friedman, Annals of Statistics 2001, algorithm 2.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import SequentialFusionRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0, 4.0], "text__0": [1.0, 3.0, 5.0, 7.0, 9.0]})
    >>> SequentialFusionRegressor().fit(X, [1.0, 3.0, 5.0, 7.0, 9.0]).predict(X).round(1)
    array([1., 3., 5., 7., 9.])
    """

    _classify = False

    def _read_target(self, y, n_samples):
        return read_numbers(self, y, n_samples)

    def _check_estimator(self, name):
        check_estimator_kind(self, name, self._given(name), classify=False)

    def _learn_prior(self, y, weight):
        self.prior_ = float(np.average(y, weights=weight))

    def _start(self, n_samples):
        return np.full((n_samples, 1), self.prior_)

    def _loss(self, margin, y, weight):
        known = _known(margin, weight)
        error = (margin[known, 0] - y[known]) ** 2
        return float(np.average(error, weights=None if weight is None else weight[known])) if known.any() else np.inf

    def _learn_fused(self, margin):
        self.oof_fused_ = margin[:, 0]

    @answers_rows
    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """Predict the value after each stage.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Yields
        ------
        ndarray of shape (n_samples,)
        """
        for margin in self._margins(X):
            yield margin[:, 0]

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the value of each row, after the last stage.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            A row without any block gets the mean of `y`.
        """
        return self._last_margin(X)[:, 0]
