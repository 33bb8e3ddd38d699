"""Feature-level (early) fusion: one estimator over all blocks, after scaling them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._fitting import check_components, fit_estimator, weight_codes
from ensemblefuse._threads import one_blas_thread
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine.probabilities import softmax
from ensemblefuse.features import ModalityDropout
from ensemblefuse.fusion._block_preparation import SCALED, make_preparation
from ensemblefuse.fusion._default_heads import HeadSearch, default_search
from ensemblefuse.fusion._head_fits import fit_preparation
from ensemblefuse.fusion._oof_ledger import Entry, Ledger
from ensemblefuse.fusion._reduced_models import fit_reduced, predict_reduced
from ensemblefuse.fusion.base import (
    BaseFusion,
    check_estimator_kind,
    final_has,
    refuse_fitted,
    takes_nan,
    warn_new_patterns,
    warn_unweighted,
)
from ensemblefuse.fusion.linear_head import default_head
from ensemblefuse.fusion.members import Member, member_scores
from ensemblefuse.fusion.prior_term import (
    learn_prior_weight,
    prior_weight_of,
    shrink_oof,
    shrink_scores,
    shrink_values,
)
from ensemblefuse.fusion.splits import fold_positions, make_splits
from ensemblefuse.fusion.targets import read_labels, read_numbers

__all__ = ["FeatureFusionClassifier", "FeatureFusionRegressor"]

_MISSING = ("impute", "dropout", "reduced", "native", "raise")


class _FeatureFusion(BaseFusion):
    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        self._check_settings()
        self._forget()
        blocks = self._read_blocks(X, reset=True)
        self._check_parts(blocks)
        y = self._read_target(y, len(blocks))
        weight = self._row_weights(sample_weight, blocks, y)
        groups = self._read_groups(groups, len(blocks))
        self._check_rows(y, weight)
        self.patterns_ = np.unique(blocks.present.T, axis=0)
        there = np.asarray(blocks.present.any(axis=0))
        if not there.any():
            raise ValueError("every block is missing in every row of X; there is nothing to fit.")
        self._learn_prior(y, weight)
        used = there if weight is None else there & (weight > 0)
        splits = None
        if self.estimator is None and self._can_be_tuned(y[used]):
            splits = make_splits(self.cv, y, groups, classify=self._classify)
        if self.missing == "reduced":
            fit_reduced(self, blocks, y, weight, used, splits)
            return
        table = blocks.side_by_side(blocks.names)
        self._fit_rows(
            table if used.all() else table[used],
            blocks.spans(blocks.names),
            y[used],
            None if weight is None else weight[used],
            None if splits is None else fold_positions(splits, used),
            None if groups is None else groups[used],
        )

    known_: np.ndarray

    def _fit_rows(self, table, spans, y, weight, splits, groups=None) -> None:
        y = self._known_target(y)
        weighted = weight is not None
        if self.missing == "dropout":
            dropout = ModalityDropout(blocks=spans, random_state=self.random_state)
            table, y, weight = dropout.fit_resample(table, y, weight)
            # All copies of a row are on the same side of every inner split as the row itself.
            groups = None if groups is None else groups[dropout.sample_indices_]
            side = lambda rows: np.flatnonzero(np.isin(dropout.sample_indices_, rows))
            splits = None if splits is None else [(side(train), side(test)) for train, test in splits]
        prepare = self._preparation(spans)
        with one_blas_thread():
            if splits is not None:
                self._fit_default(prepare, table, spans, y, weight, splits)
                return
            labels = self.classes_[self.known_].tolist() if self._classify else []
            self.prepare_, table = fit_preparation(weight_codes(prepare, labels), table, y, weight)
            self.estimator_, took = fit_estimator(weight_codes(self._estimator(), labels), table, y, weight, groups)
        warn_unweighted(self, [] if took or not weighted else ["all blocks"])

    def _preparation(self, spans: dict[str, np.ndarray]) -> Any:
        return make_preparation(
            spans,
            scaling=self.scaling,
            weights=self.weights,
            imputer=self.imputer,
            transformer=self.transformer,
            fill=self.missing != "native",
        )

    # ------------------------------------------------------------------ on the ledger of a search

    def _enter(self, blocks: Blocks, ledger: Ledger) -> tuple[list[Member], list[Entry]]:
        """Return the only member of feature-level fusion, and its entry in the ledger."""
        self._check_read(blocks)
        self._check_parts(blocks)
        names = blocks.names
        table, spans, there = blocks.side_by_side(names), blocks.spans(names), np.asarray(blocks.present.any(axis=0))
        prepare = self._preparation(spans)
        if self.estimator is None:
            shape, weighted = (int(there.sum()), table.shape[1]), ledger.sample_weight is not None
            width = table.shape[1] / len(spans)
            search = default_search(width, shape, ledger.n_classes, weighted=weighted, prepare=prepare)
        else:
            search = HeadSearch([self.estimator], prepare, by_value=False)
        members = [Member("all blocks", search, table, there)]
        return members, ledger.add(members)

    def _check_parts(self, blocks: Blocks) -> None:
        """Raise an error for an estimator that came fitted, or that has more components than the table has columns."""
        refuse_fitted(self, "all blocks", self.estimator, SCALED, "use decision-level fusion with it on one block")
        n_rows, n_columns = int(blocks.present.any(axis=0).sum()), sum(part.shape[1] for part in blocks.data.values())
        first = self.estimator if self.transformer is None else self.transformer
        check_components("all blocks side by side", first, n_rows, n_columns)

    def _predict_oof(self, blocks: Blocks, ledger: Ledger) -> np.ndarray:
        predictions = self._enter(blocks, ledger)[1][0].predictions
        return shrink_oof(predictions, ledger) if self.estimator is None else predictions

    def _fit_members(self, blocks: Blocks, ledger: Ledger) -> None:
        (entry,) = self._enter(blocks, ledger)[1]
        ledger.refit([entry])
        self.patterns_ = np.unique(blocks.present.T, axis=0)
        self._learn_prior(ledger.y, ledger.sample_weight)
        self._take(entry, ledger)

    def _take(self, entry: Entry, ledger: Ledger) -> None:
        """Take over the chosen head of an entry, fitted on all rows, and learn how far to trust it."""
        (fit,) = entry.deployed(refit=True)
        fitted = fit.estimators[0]
        self.prepare_, self.estimator_ = fitted[:-1], fitted[-1]
        if self._classify:
            self.known_ = fit.classes
        if self.estimator is None:
            if self._classify:
                self.temperature_ = entry.temperature
            mean = 0.0 if self._classify else self.prior_
            y, weight = ledger.y, ledger.sample_weight
            self.prior_weight_ = learn_prior_weight(entry.predictions, y, weight, ledger.n_classes, mean)

    def _can_be_tuned(self, y: np.ndarray) -> bool:
        """Return whether there can be two folds with two classes each."""
        return len(y) > 3 and (not self._classify or np.sort(np.bincount(y, minlength=2))[-2] > 1)

    def _fit_default(self, prepare, table, spans, y, weight, splits) -> None:
        """Choose the default head by out-of-fold loss, and fit it on all rows."""
        labels = self.classes_[self.known_].tolist() if self._classify else []
        width = table.shape[1] / len(spans)
        search = default_search(width, table.shape, len(labels), weighted=weight is not None, prepare=prepare)
        ledger = Ledger(y, splits, weight, labels, n_jobs=self.n_jobs)
        (entry,) = ledger.add([Member("all blocks", search, table, np.ones(len(y), dtype=bool))])
        ledger.refit([entry])
        known: Any = getattr(self, "known_", None)
        self._take(entry, ledger)
        if self._classify:
            self.known_ = known[self.known_]

    def _check_settings(self) -> None:
        if self.estimator is not None:
            check_estimator_kind(self, "all blocks", self.estimator, classify=self._classify)
            refuse_fitted(self, "all blocks", self.estimator, SCALED, "use decision-level fusion with it on one block")
        if self.missing not in _MISSING:
            raise ValueError(f"missing must be one of {_MISSING}; got {self.missing!r}.")

    def _check_names_of_blocks(self) -> None:
        if isinstance(self.weights, Mapping):
            self._require_blocks(dict(self.weights), "weights")

    def _needs_splits(self, y: np.ndarray) -> bool:
        return self.estimator is None and self._can_be_tuned(y)

    def _read_blocks(self, X: Any, *, reset: bool) -> Blocks:
        blocks = self._read(X, reset=reset)
        self._check_read(blocks)
        return blocks

    def _check_read(self, blocks: Blocks) -> None:
        self._refuse_raw("puts numbers side by side")
        for name in ("imputer", "transformer"):
            part = getattr(self, name)
            if part is not None and not (hasattr(part, "fit") and hasattr(part, "transform")):
                raise ValueError(f"{name} must be a transformer, with fit and transform; got {part!r}.")
        if self.missing != "native" and self.imputer is None:
            self._check_partial(blocks, frozenset())
        if self.missing == "native" and not takes_nan(self._estimator()):
            raise ValueError(
                f'missing="native" needs an estimator that accepts NaN; {type(self._estimator()).__name__} does not. '
                'Use missing="impute".'
            )
        if self.missing == "raise" and not blocks.present.all():
            lost = {n: int((~p).sum()) for n, p in zip(blocks.names, blocks.present, strict=True) if not p.all()}
            raise ValueError(
                f"blocks are missing in some rows (block: rows) {lost}. Drop these rows, or use "
                'missing="impute" or decision-level fusion.'
            )

    def _estimator(self) -> Any:
        if self.estimator is not None:
            return self.estimator
        width = self.n_features_in_ / len(self.blocks_) if hasattr(self, "blocks_") else 1
        return default_head(width, classify=self._classify, scale=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A row that is NaN in all columns of a block is always accepted; NaN beside numbers only if the estimator
        # accepts it.
        tags.input_tags.allow_nan = self.missing == "native"
        return tags

    def _rows(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the prepared table, and the rows in which no block is present."""
        check_is_fitted(self, "prior_")
        blocks = self._read_blocks(X, reset=False)
        if self.missing in ("impute", "native") and self.imputer is None:
            warn_new_patterns(self, blocks)
        return self.prepare_.transform(blocks.side_by_side(blocks.names)), np.asarray(~blocks.present.any(axis=0))


class FeatureFusionClassifier(ClassifierMixin, _FeatureFusion):
    """Feature-level (early) fusion: scale the blocks, put them side by side, fit one classifier.

    Parameters
    ----------
    estimator : classifier, optional
        The default is the candidate with the smallest out-of-fold loss: logistic regressions with several penalties
        and an RBF kernel: one-vs-rest SVMs if they cost little, otherwise least squares on Nystroem features. With few
        rows per class, also a discriminant analysis with shrinkage.
    scaling : {"equal", "mfa", "frobenius", "unit", None}
        See `BlockScaler`. ``"equal"`` gives every block the same total variance.
    weights : dict of str to float, optional
        Weight of each block; 1 for blocks that are not named.
    transformer : transformer, optional
        Applied to the scaled blocks, and fitted with the labels: `CommonSpaceProjector`, `BlockPCA`, `BlockNystroem`,
        or any transformer of scikit-learn. Its parameter `blocks`, if it has one, is set to the columns of the blocks.
    missing : {"impute", "dropout", "reduced", "native", "raise"}
        Treatment of a missing block. ``"impute"``: filled by `imputer`. ``"dropout"``: also filled; the estimator is
        additionally trained on copies of the rows with blocks left out (see `ModalityDropout`). ``"reduced"``: one
        model for each combination of blocks, fitted on all rows that hold these blocks (Saar-Tsechansky and Provost,
        JMLR 2007). ``"native"``: left as NaN, for an estimator that accepts NaN. ``"raise"``: raise an error.
    imputer : transformer, optional
        For example `CrossModalImputer`. By default, the mean of each column.
    cv : int, splitter or iterable of (train, test)
        Splits for the choice of the default estimator; as in `DecisionFusionClassifier`.
    class_weight : "balanced" or dict of label to weight, optional
        Multiplied with `sample_weight`. A class that is not named has the weight 1. A name that `y` lacks, as a fold
        of a cross-validation may, counts for nothing.
    random_state : int, RandomState or None
        Seed for ``missing="dropout"``.
    n_jobs : int, optional
        Number of parallel jobs for the choice of the default estimator.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    prepare_ : Pipeline
        Scaling, imputation and `transformer`. Not with ``missing="reduced"``.
    estimator_ : classifier
        Fitted on coded labels. Not with ``missing="reduced"``.
    reduced_ : dict of str to FeatureFusionClassifier
        The model of each combination of blocks. A key is the names of the blocks, joined by ``" + "``. Only with
        ``missing="reduced"``.
    temperature_ : float
        Temperature of the decision values of the default estimator.
    prior_weight_ : float
        Share of the log class frequencies in the scores, from 0 (none) to 1 (no trust in the default estimator):
        ``(1 - prior_weight_) * scores / temperature_ + prior_weight_ * log(prior_)``. Learned out of fold, as the
        weight of a `LogPool` with one member. Only for the default estimator.
    known_ : ndarray of int
        Classes that have rows with any block. Code i of `estimator_` is class ``known_[i]``.
    prior_ : ndarray of shape (n_classes,)
        Class frequencies. These are the prediction for a row without any block.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        Combinations of present blocks seen in fit.
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

    _classify = True

    def __init__(
        self,
        estimator=None,
        *,
        scaling="equal",
        weights=None,
        transformer=None,
        missing="impute",
        imputer=None,
        cv=5,
        class_weight=None,
        random_state=None,
        n_jobs=None,
        blocks=None,
    ):
        self.estimator = estimator
        self.scaling = scaling
        self.weights = weights
        self.transformer = transformer
        self.missing = missing
        self.imputer = imputer
        self.cv = cv
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.blocks = blocks

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Scale the blocks and fit the estimator on all of them.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of a split.

        Returns
        -------
        self
        """
        self._fit(X, y, sample_weight, groups)
        return self

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _row_weights(self, sample_weight, blocks, y):
        return self._weigh_classes(self._read_weight(sample_weight, blocks), y)

    def _check_rows(self, y, weight):
        if weight is not None and len(np.unique(y[weight > 0])) < 2:
            raise ValueError("after leaving out rows with sample_weight 0, y holds only one class.")

    def _known_target(self, y):
        """Return codes of the classes that have rows with any block, because XGBoost takes no codes with gaps."""
        self.known_, y = np.unique(y, return_inverse=True)
        if len(self.known_) < 2:
            raise ValueError("the rows that hold any block are all of one class; there is nothing to fit.")
        return y

    def _learn_prior(self, y, weight):
        self.prior_ = np.bincount(y, weights=weight, minlength=len(self.classes_)).astype(float)
        self.prior_ /= self.prior_.sum()

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
        if self.missing == "reduced":
            codes = self.predict_proba(X).argmax(axis=1)  # first: it tells if the fusion is not fitted
            return self.classes_[codes]
        table, empty = self._rows(X)
        if prior_weight_of(self):
            codes = self.known_[self._known_scores(table).argmax(axis=1)]
        else:
            codes = self.known_[np.asarray(self.estimator_.predict(table)).astype(int)]
        codes[empty] = self.prior_.argmax()
        return self.classes_[codes]

    @final_has("predict_proba")
    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities. Available if the estimator has them.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        if self.missing == "reduced":
            return predict_reduced(self, X)
        table, empty = self._rows(X)
        proba = np.zeros((len(table), len(self.classes_)))
        proba[:, self.known_] = self._proba(table)
        proba[empty] = self.prior_
        return proba

    def _proba(self, table):
        if not hasattr(self, "temperature_"):
            return self.estimator_.predict_proba(table)
        return softmax(self._known_scores(table) / self.temperature_)

    def _known_scores(self, table):
        """Return the scores of the default estimator for the classes in `known_`, with the prior term."""
        known = np.arange(len(self.known_))
        scores = member_scores(self.estimator_, known, table, len(known), by_value=True)
        return shrink_scores(scores, prior_weight_of(self), self.temperature_, self.prior_[self.known_])

    @final_has("decision_function")
    @answers_rows
    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the decision values. Available if the estimator has them.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        table, _ = self._rows(X)
        if not prior_weight_of(self):
            return self.estimator_.decision_function(table)
        scores = self._known_scores(table)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores


class FeatureFusionRegressor(RegressorMixin, _FeatureFusion):
    """Feature-level (early) fusion: scale the blocks, put them side by side, fit one regressor.

    If `y` is positive and skewed, the default estimators are also tried on the log of `y`. If one of these has the
    smallest out-of-fold error on the scale of `y`, ``estimator_`` is a `LogTargetRegressor`.

    Parameters
    ----------
    estimator : regressor, optional
        The default is ridge regression, with its penalty chosen by leave-one-out error, or a regression with an RBF
        kernel if its out-of-fold error is smaller: support vector regression if it costs little, otherwise ridge
        regression on Nystroem features.
    scaling, weights, transformer, missing, imputer, cv, random_state, n_jobs, blocks
        As in `FeatureFusionClassifier`.

    Attributes
    ----------
    blocks_, prepare_, estimator_, reduced_, patterns_, n_features_in_, feature_names_in_
        As in `FeatureFusionClassifier`.
    prior_ : float
        Mean of `y`. This is the prediction for a row without any block.
    prior_weight_ : float
        Share of this mean in the predictions, from 0 to 1, learned out of fold. Only for the default estimator.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import FeatureFusionRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0], "text__0": [1.0, 0.0, 1.0, 0.0]})
    >>> FeatureFusionRegressor().fit(X, [0.0, 2.0, 4.0, 6.0]).predict(X).round(1)
    array([0., 2., 4., 6.])
    """

    _classify = False

    def __init__(
        self,
        estimator=None,
        *,
        scaling="equal",
        weights=None,
        transformer=None,
        missing="impute",
        imputer=None,
        cv=5,
        random_state=None,
        n_jobs=None,
        blocks=None,
    ):
        self.estimator = estimator
        self.scaling = scaling
        self.weights = weights
        self.transformer = transformer
        self.missing = missing
        self.imputer = imputer
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.blocks = blocks

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Scale the blocks and fit the estimator on all of them.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            As in `FeatureFusionClassifier.fit`.
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
        return read_numbers(self, y, n_samples)

    def _row_weights(self, sample_weight, blocks, y):
        return self._read_weight(sample_weight, blocks)

    def _check_rows(self, y, weight):
        pass

    def _known_target(self, y):
        return y

    def _learn_prior(self, y, weight):
        self.prior_ = float(np.average(y, weights=weight))

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the value of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        if self.missing == "reduced":
            return predict_reduced(self, X)
        table, empty = self._rows(X)
        values = shrink_values(np.asarray(self.estimator_.predict(table), float), prior_weight_of(self), self.prior_)
        values[empty] = self.prior_
        return values
