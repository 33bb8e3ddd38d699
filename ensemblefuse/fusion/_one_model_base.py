"""Base classes of fusions with one model over all blocks, whose parameters are chosen out of fold."""

from __future__ import annotations

from time import time
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import ClassifierMixin, RegressorMixin

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine.probabilities import log_probabilities, softmax
from ensemblefuse.fusion._oof_ledger import Ledger, OutOfTimeError
from ensemblefuse.fusion._parameter_choice import (
    choose_by_log_loss,
    choose_by_squared_error,
    mean_of_folds,
)
from ensemblefuse.fusion.base import BaseFusion
from ensemblefuse.fusion.prior_term import learn_prior_weight, prior_weight_of, shrink_scores, shrink_values
from ensemblefuse.fusion.splits import fold_positions, make_splits
from ensemblefuse.fusion.targets import read_labels, read_numbers

__all__ = ["OneModelClassifier", "OneModelFusion", "OneModelRegressor"]


class OneModelFusion(BaseFusion):
    """Base class of fusions with one model over all blocks. It is fitted on the rows with a block and a weight above 0.

    A subclass also inherits from `OneModelClassifier` or `OneModelRegressor`, and defines

    - ``_needs_numbers``: a str for the error on raw cells, such as "computes kernels of numbers";
    - ``_check_parameters()``: raises an error for a wrong parameter; ``blocks_`` is already set;
    - ``_candidates()``: returns the list of parameter values to choose from;
    - ``_prepare(blocks, used, weight)``: returns any object `shared` for all folds, from the rows in `used`, a mask of
      shape (n_samples,). `weight` has shape (n_used,). It must not learn from labels;
    - ``_fit_fold(shared, y, weight, train, test)``: fits one model per candidate. It returns scores of shape
      (n_candidates, n_test, n_classes), or predictions of shape (n_candidates, n_test) in regression, or None if it has
      nothing to learn from. `y` and `weight` have shape (n_used,), and `train` and `test` are positions in them;
    - ``_fit_last(shared, y, weight, chosen)``: fits and stores the model of the chosen candidate on all n_used rows;
    - ``_scores(X)``: returns scores of shape (n_samples, n_classes), or predictions of shape (n_samples,), for new
      rows; and a mask of shape (n_samples,) of the rows without any block seen in fit.

    In a search, it takes the splits of the ledger: `_predict_oof` and `_fit_members` are as in `BaseFusion`.
    """

    _needs_numbers: str
    # Whether predictions are shrunk towards the prior. Coefficients that the user reads would not say so.
    _shrinks = False
    prior_: Any

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Choose the parameters given as sequences by out-of-fold predictions, and fit on all rows.

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
        self._forget()
        blocks = self._read(X, reset=True, allow_partial=frozenset())
        self._check_parameters()
        self._refuse_raw(self._needs_numbers)
        y = self._read_target(y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        weight = np.ones(len(y)) if weight is None else weight
        groups = self._read_groups(groups, len(blocks))
        splits = make_splits(self.cv, y, groups, classify=self._classify)
        self._fit_blocks(blocks, y, weight, splits)
        return self

    def _fit_blocks(self, blocks: Blocks, y: np.ndarray, weight: np.ndarray, splits: Any) -> None:
        used = self._usable(blocks, weight)
        self.patterns_ = np.unique(blocks.present[:, used].T, axis=0)
        self._learn_prior(y, weight)
        shared, scores, _ = self._score_folds(blocks, y, weight, splits, used)
        y, weight = y[used], weight[used]
        best, chosen = self._choose(scores, y, weight)
        self._fit_last(shared, y, weight, self._candidates()[best])
        self._keep_oof(_in_all_rows(chosen, used))

    def _score_folds(
        self, blocks: Blocks, y: np.ndarray, weight: np.ndarray, splits: Any, used: np.ndarray, deadline: Any = None
    ) -> tuple[Any, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Return what the folds share, the out-of-fold scores of all candidates, and the splits of the used rows."""

        def fit_fold(train, test):
            if deadline is not None and time() > deadline:
                raise OutOfTimeError
            return self._fit_fold(shared, y, weight, train, test)

        splits = fold_positions(splits, used)
        shared = self._prepare(blocks, used, weight[used])
        y, weight = y[used], weight[used]
        # Threads share the tables and start at once, and libsvm and LAPACK release the lock of the interpreter.
        results = Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(fit_fold)(*split) for split in splits)
        folds = [(test, scores) for (_, test), scores in zip(splits, results, strict=True)]
        shape = (len(y), len(self.classes_)) if self._classify else (len(y),)
        return shared, mean_of_folds(folds, len(self._candidates()), shape), splits

    # ------------------------------------------------------------------ on the splits of a search

    def _enter(self, blocks: Blocks, ledger: Ledger) -> tuple[list, list]:
        """Return no members: one model over all blocks takes the splits of a ledger, and nothing else."""
        return [], []

    def _predict_oof(self, blocks: Blocks, ledger: Ledger) -> np.ndarray:
        """Return out-of-fold predictions, with the candidate and what follows it chosen without the fold, too."""
        self._check_parameters()
        self._refuse_raw(self._needs_numbers)
        self._check_partial(blocks, frozenset())
        y, weight = ledger.y, _weights_in(ledger)
        used = self._usable(blocks, weight)
        _, scores, splits = self._score_folds(blocks, y, weight, ledger.splits, used, ledger.deadline)
        y, weight = y[used], weight[used]
        chosen = np.full(scores.shape[1:], np.nan)
        for train, test in splits:
            rest = np.setdiff1d(train, test)
            known = np.isfinite(scores[0].reshape(len(y), -1)).all(axis=1)
            # With one test fold, no other row has a score to choose by: then all of them serve.
            rest = rest if known[rest].any() and not (self._classify and len(np.unique(y[rest])) < 2) else known
            self._learn_prior(y[rest], weight[rest])
            best, _ = self._choose(scores[:, rest], y[rest], weight[rest])
            chosen[test] = self._finished(scores[best][test])
        return _in_all_rows(chosen, used)

    def _fit_members(self, blocks: Blocks, ledger: Ledger) -> None:
        self._fit_blocks(blocks, ledger.y, _weights_in(ledger), ledger.splits)

    def _check_names_of_blocks(self) -> None:
        self._check_parameters()

    def _usable(self, blocks: Blocks, weight: np.ndarray) -> np.ndarray:
        present = blocks.present.any(axis=0)
        if not present.any():
            raise ValueError("every block is missing in every row of X; there is nothing to fit.")
        used = present & (weight > 0)
        if not used.any():
            raise ValueError("every row that holds a block has sample_weight 0; there is nothing to fit.")
        return used

    def _empty(self, blocks: Blocks) -> np.ndarray:
        """Return the rows without any block seen in fit."""
        return np.asarray(~blocks.present[self.patterns_.any(axis=0)].any(axis=0))


def _in_all_rows(chosen: np.ndarray, used: np.ndarray) -> np.ndarray:
    out = np.full((len(used), *chosen.shape[1:]), np.nan)
    out[used] = chosen
    return out


def _weights_in(ledger: Ledger) -> np.ndarray:
    return np.ones(len(ledger.y)) if ledger.sample_weight is None else ledger.sample_weight


class OneModelClassifier(ClassifierMixin):
    """Mixin of classifiers: probabilities at a temperature, with a share of the prior, both fitted out of fold.

    In a list of base classes, it stands before the `OneModelFusion`.
    """

    _classify = True

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _learn_prior(self, y, weight):
        self.prior_ = np.bincount(y, weights=weight, minlength=len(self.classes_))
        self.prior_ /= self.prior_.sum()

    def _choose(self, scores, y, weight):
        if len(np.unique(y)) < 2:
            raise ValueError(
                "the rows that hold a block and have a weight above 0 are all of one class; there is nothing to fit."
            )
        best, self.temperature_, proba = choose_by_log_loss(scores, y, weight)
        if not self._shrinks:
            return best, proba
        self.prior_weight_ = learn_prior_weight(proba, y, weight, len(self.classes_))
        return best, self._finished(scores[best])

    def _finished(self, scores):
        return softmax(self._with_prior(scores) / self.temperature_)

    def _with_prior(self, scores):
        return shrink_scores(scores, prior_weight_of(self), self.temperature_, self.prior_)

    def _keep_oof(self, oof):
        self.oof_proba_ = oof.astype(np.float32)

    def _class_scores(self, X):
        scores, empty = self._scores(X)
        scores = self._with_prior(scores)
        scores[empty] = self.temperature_ * log_probabilities(self.prior_, floor=-700.0)
        return scores

    @answers_rows
    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the scores of the classes, before the temperature.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            A row without any block gets scores that give the class frequencies at the temperature.
        """
        scores = self._class_scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row without any block gets the class frequencies.
        """
        return softmax(self._class_scores(X) / self.temperature_)

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
        codes = self._class_scores(X).argmax(axis=1)
        return self.classes_[codes]


class OneModelRegressor(RegressorMixin):
    """Mixin of regressors. In a list of base classes, it stands before the `OneModelFusion`."""

    _classify = False

    def _read_target(self, y, n_samples):
        return read_numbers(self, y, n_samples)

    def _learn_prior(self, y, weight):
        self.prior_ = float(np.average(y, weights=weight))

    def _choose(self, predictions, y, weight):
        best = choose_by_squared_error(predictions, y, weight)
        if not self._shrinks:
            return best, predictions[best]
        self.prior_weight_ = learn_prior_weight(predictions[best], y, weight, 0, self.prior_)
        return best, self._finished(predictions[best])

    def _finished(self, values):
        return shrink_values(values, prior_weight_of(self), self.prior_)

    def _keep_oof(self, oof):
        self.oof_fused_ = oof

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the value of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            A row without any block gets the mean of `y`.
        """
        values, empty = self._scores(X)
        return np.where(empty, self.prior_, self._finished(values))
