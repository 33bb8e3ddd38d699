"""Base classes of fusions with one model over all blocks, whose parameters are chosen out of fold."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import ClassifierMixin, RegressorMixin

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine.probabilities import log_probabilities, softmax
from ensemblefuse.fusion._parameter_choice import (
    choose_by_log_loss,
    choose_by_squared_error,
    fold_positions,
    mean_of_folds,
)
from ensemblefuse.fusion.base import BaseFusion, read_labels, read_numbers
from ensemblefuse.fusion.splits import make_splits

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
    """

    _needs_numbers: str
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
        used = self._usable(blocks, weight)
        self.patterns_ = np.unique(blocks.present[:, used].T, axis=0)
        self._learn_prior(y, weight)
        splits = fold_positions(make_splits(self.cv, y, groups, classify=self._classify), used)
        shared = self._prepare(blocks, used, weight[used])
        y, weight = y[used], weight[used]
        # Threads share the tables and start at once, and libsvm and LAPACK release the lock of the interpreter.
        results = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(self._fit_fold)(shared, y, weight, train, test) for train, test in splits
        )
        folds = [(test, scores) for (_, test), scores in zip(splits, results, strict=True)]
        candidates = self._candidates()
        shape = (len(y), len(self.classes_)) if self._classify else (len(y),)
        best, chosen = self._choose(mean_of_folds(folds, len(candidates), shape), y, weight)
        self._fit_last(shared, y, weight, candidates[best])
        oof = np.full((len(used), *shape[1:]), np.nan)
        oof[used] = chosen
        self._keep_oof(oof)
        return self

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


class OneModelClassifier(ClassifierMixin):
    """Mixin of classifiers: probabilities at a temperature fitted on out-of-fold scores.

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
        return best, proba

    def _keep_oof(self, oof):
        self.oof_proba_ = oof.astype(np.float32)

    def _class_scores(self, X):
        scores, empty = self._scores(X)
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
        return best, predictions[best]

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
        return np.where(empty, self.prior_, values)
