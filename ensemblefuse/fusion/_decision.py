"""Decision-level (late) fusion: one estimator a block, and a combiner over their out-of-fold predictions. Floor 3."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.blocks import Blocks
from ensemblefuse.combine import BasePool, LogPool, apply_temperature, fit_temperature
from ensemblefuse.combine._base import softmax
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features import BlockScaler
from ensemblefuse.fusion._base import (
    BaseFusion,
    check_estimator_kind,
    read_labels,
    read_numbers,
    takes_nan,
    warn_unweighted,
)
from ensemblefuse.fusion._heads import default_head
from ensemblefuse.fusion._ledger import Member, fit_members, gives_probabilities, make_splits, member_scores

__all__ = ["DecisionFusionClassifier", "DecisionFusionRegressor"]

JOINT = "joint"
# A joint member that never saw a pattern of missing blocks in training is badly wrong on it (a concatenation with means
# filled in fell from .89 to .62 in accuracy in our measurements), so it stays out of rare ones.
_MIN_PATTERN_ROWS = 10


class _DecisionFusion(BaseFusion):
    # ------------------------------------------------------------------ parameters

    def get_params(self, deep=True):
        """Parameters; with ``deep=True`` also those of a dict of estimators, as ``estimators__<block>__<param>``."""
        params = super().get_params(deep=deep)
        if deep and isinstance(self.estimators, Mapping):
            for name, estimator in self.estimators.items():
                params[f"estimators__{name}"] = estimator
                if hasattr(estimator, "get_params"):
                    nested = estimator.get_params(deep=True)
                    params.update({f"estimators__{name}__{key}": value for key, value in nested.items()})
        return params

    def set_params(self, **params):
        """Set parameters; see `get_params`."""
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        if isinstance(self.estimators, Mapping):
            nested = {key: params.pop(key) for key in list(params) if key.startswith("estimators__")}
            for key, value in nested.items():
                name, _, rest = key.removeprefix("estimators__").partition("__")
                if name not in self.estimators:
                    raise ValueError(f"Invalid parameter {key!r}: estimators names {list(self.estimators)}.")
                if rest:
                    self.estimators[name].set_params(**{rest: value})
                else:
                    self.estimators = {**self.estimators, name: value}
        return super().set_params(**params)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A block that is NaN throughout is always taken; NaN beside numbers only by an estimator that takes it.
        single = self.estimators is not None and not isinstance(self.estimators, Mapping)
        tags.input_tags.allow_nan = single and takes_nan(self.estimators)
        return tags

    # ------------------------------------------------------------------ fit

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        blocks = self._read(X, reset=True, allow_partial=None)
        y = self._read_target(y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        self._check_estimators()
        blocks = self._read(X, reset=False, allow_partial=self._partial_blocks())
        splits = make_splits(self.cv, y, groups, classify=self._classify)
        members = self._members(blocks)
        n_classes = len(self.classes_) if self._classify else 0
        scores, estimators, classes, unweighted = fit_members(members, y, splits, weight, n_classes, self.n_jobs)
        warn_unweighted(self, unweighted)
        kept = self._keep_fitted(members, estimators)
        scores = scores[kept]
        self.member_names_ = [members[m].name for m in kept]
        self.estimators_ = {members[m].name: estimators[m] for m in kept}
        self.member_classes_ = {members[m].name: classes[m] for m in kept}
        P = self._learn_scale(scores, y, weight)
        self._fit_combiner(P, y, weight, splits)

    def _check_estimators(self) -> None:
        if JOINT in self.blocks_ and (self.joint or isinstance(self.estimators, Mapping)):
            raise ValueError(f"{JOINT!r} is the name of the member over all blocks; rename the block.")
        for name in [*self.blocks_, JOINT]:
            if self._given(name) is not None:
                check_estimator_kind(self, name, self._given(name), classify=self._classify)
        if isinstance(self.estimators, Mapping):
            self._require_blocks({k: v for k, v in self.estimators.items() if k != JOINT}, "estimators")
        if not isinstance(self.combiner, (BasePool, type(None))):
            raise ValueError(f"combiner must be a pool such as LogPool(); got {self.combiner!r}.")
        bare = [name for name in self.raw_blocks_ if self._given(name) is None]
        if bare:
            raise ValueError(
                f"The blocks {bare} hold raw cells and have no estimator. Name one that takes them, as in "
                f"estimators={{{bare[0]!r}: make_pipeline(TfidfVectorizer(), LogisticRegression())}}, or encode them."
            )

    def _given(self, name: str) -> Any:
        if isinstance(self.estimators, Mapping):
            return self.estimators.get(name)
        return self.estimators

    def _partial_blocks(self) -> frozenset[str]:
        return frozenset(
            name for name in self.blocks_ if self._given(name) is not None and takes_nan(self._given(name))
        )

    def _members(self, blocks: Blocks) -> list[Member]:
        members = []
        for m, (name, data) in enumerate(blocks.data.items()):
            estimator = self._given(name)
            if estimator is None:
                estimator = default_head(data.shape[1], classify=self._classify)
            members.append(Member(name, estimator, data, blocks.present[m]))
        if self.joint and len(self._joint_blocks()) > 1:
            members.append(self._joint_member(blocks))
        return members

    def _joint_blocks(self) -> list[str]:
        return [name for name in self.blocks_ if name not in self.raw_blocks_]

    def _joint_member(self, blocks: Blocks) -> Member:
        data = self._joint_data(blocks)
        self.joint_patterns_ = self._common_patterns(blocks)
        present = self._joint_rows(blocks)
        spans, start = {}, 0
        for name in self._joint_blocks():
            width = blocks.data[name].shape[1]
            spans[name] = np.arange(start, start + width)
            start += width
        estimator = self._given(JOINT)
        if estimator is None:
            estimator = default_head(start / len(spans), classify=self._classify, scale=False)
        # Columns are centred by then, so 0 is the mean.
        gaps = SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
        return Member(JOINT, make_pipeline(BlockScaler(blocks=spans), gaps, estimator), data, present)

    def _joint_data(self, blocks: Blocks) -> np.ndarray:
        """All blocks of numbers side by side."""
        return np.hstack([blocks.data[name] for name in self._joint_blocks()])

    def _patterns(self, blocks: Blocks) -> np.ndarray:
        """Which blocks of numbers each row holds, of shape (n_samples, n_joint_blocks)."""
        return blocks.present[[blocks.names.index(name) for name in self._joint_blocks()]].T

    def _common_patterns(self, blocks: Blocks) -> np.ndarray:
        """Patterns of at least two blocks that the joint member can learn to fill: seen often enough, or complete."""
        patterns, counts = np.unique(self._patterns(blocks), axis=0, return_counts=True)
        complete = patterns.all(axis=1)
        return patterns[(patterns.sum(axis=1) > 1) & (complete | (counts >= _MIN_PATTERN_ROWS))]

    def _joint_rows(self, blocks: Blocks) -> np.ndarray:
        """Rows in which the joint member takes part."""
        return (self._patterns(blocks)[:, None] == self.joint_patterns_).all(axis=2).any(axis=1)

    def _keep_fitted(self, members: list[Member], estimators: list[Any]) -> list[int]:
        kept = [m for m, estimator in enumerate(estimators) if estimator is not None]
        lost = {member.name: int(member.present.sum()) for m, member in enumerate(members) if m not in kept}
        if not kept:
            raise ValueError(
                f"{type(self).__name__} has nothing to fit: every block is missing, or holds one class only, in all "
                f"{len(members[0].present)} rows."
            )
        if lost:
            warnings.warn(
                f"{type(self).__name__} goes on without these members, whose rows are too few or of one class "
                f"(member: rows): {lost}.",
                MissingModalityWarning,
                stacklevel=4,
            )
        return kept

    def _fit_combiner(self, P: np.ndarray, y: np.ndarray, weight: np.ndarray | None, splits: Any) -> None:
        combiner = LogPool() if self.combiner is None else self.combiner
        labels = self.classes_[y] if self._classify else y
        mask = np.isfinite(P[..., 0] if self._classify else P)
        rows = np.flatnonzero(mask.any(axis=0))
        classes = self.classes_ if self._classify else None
        self.combiner_ = _fit_pool(combiner, P, labels, mask, weight, np.arange(len(y)), classes)
        fused = np.full(P.shape[1:], np.nan)
        # Honest fused predictions: the combiner, too, is fitted without the rows that it combines.
        for train, test in splits:
            train, test = np.intersect1d(train, rows), np.intersect1d(test, rows)
            if len(test) and len(train) and (not self._classify or len(np.unique(y[train])) > 1):
                pool = _fit_pool(combiner, P, labels, mask, weight, train, classes)
                fused[test] = pool.pool(P[:, test], mask[:, test])
        self._learn_certainty(fused, y, weight)
        self.oof_predictions_ = P.astype(np.float32)

    def _outputs(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predictions of all members for new rows, and which members each row has."""
        check_is_fitted(self, "combiner_")
        blocks = self._read(X, reset=False, allow_partial=self._partial_blocks())
        n_classes = len(self.classes_) if self._classify else 0
        shape = (len(self.member_names_), len(blocks), *([n_classes] if n_classes else []))
        scores, mask = np.full(shape, np.nan), np.zeros(shape[:2], dtype=bool)
        for m, name in enumerate(self.member_names_):
            if name == JOINT and JOINT not in self.blocks_:
                data, present = self._joint_data(blocks), self._joint_rows(blocks)
            else:
                data, present = blocks.data[name], blocks.present[blocks.names.index(name)]
            if present.any():
                rows = data.iloc[present] if hasattr(data, "iloc") else data[present]
                scores[m, present] = member_scores(self.estimators_[name], self.member_classes_[name], rows, n_classes)
            mask[m] = present
        return self._scale(scores), mask


def _temperature(scores, y, weight):
    """Temperature from out-of-fold scores, kept finite where no row is wrong."""
    return fit_temperature(scores, y, weight, smoothing=1 / (len(y) + 2))


def _fit_pool(combiner, P, labels, mask, weight, rows, classes):
    weight = None if weight is None else weight[rows]
    return clone(combiner).fit(P[:, rows], labels[rows], mask[:, rows], weight, classes=classes)


class DecisionFusionClassifier(ClassifierMixin, _DecisionFusion):
    """Decision-level (late) fusion: one classifier a block, whose probabilities a combiner joins.

    The combiner, the temperatures and everything else of the second level are learned from out-of-fold predictions,
    made with splits that all members share. A missing block drops out of its row and the class frequencies fill in.

    Parameters
    ----------
    estimators : classifier or dict of str to classifier, optional
        One for all blocks, or one a block; a block that is not named, and ``None``, means the default: standardised
        logistic regression with ``C = min(1, 30 / n_columns)``. The key ``"joint"`` names the estimator over all
        blocks. Classifiers without ``predict_proba`` are welcome: their decision values get a temperature.
    combiner : pool, optional
        `LogPool` (default, with learned weights), `MeanPool`, `VotePool` or `StackingPool`.
    joint : bool
        Whether a classifier over all blocks of numbers side by side is one more member (hybrid fusion). It takes part
        in rows that hold every block, and in rows that lack some if at least 10 rows in fit lacked the same and
        two blocks are left; the gap is filled with the mean.
    cv : int, splitter or iterable of (train, test)
        Splits for the out-of-fold predictions. A number is lowered to the size of the largest class and to the number
        of groups.
    calibration : {"temperature", None}
        Whether the fused probabilities get a temperature that is fitted out of fold. A pool that has chosen its
        own certainty, as `LogPool` with learned weights has, gets none.
    n_jobs : int, optional
        Jobs for fits of members and folds, as in joblib.
    blocks : dict, optional
        Columns of each block; by default the prefix of their names before ``"__"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    member_names_ : list of str
        Blocks in order, then ``"joint"``.
    joint_patterns_ : ndarray of shape (n_patterns, n_numeric_blocks), dtype bool
        Combinations of present blocks in which the joint member takes part. Only with a joint member.
    estimators_ : dict of str to classifier
        Fitted on all rows that hold the block, on coded labels.
    combiner_ : pool
    temperature_ : float
        Of the fused probabilities; 1.0 without calibration.
    member_temperatures_ : ndarray of shape (n_members,)
        1.0 for members that give probabilities.
    oof_predictions_ : ndarray of shape (n_members, n_samples, n_classes), dtype float32
        The ledger; NaN where a member has no out-of-fold prediction.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Fused out-of-fold probabilities, the combiner fitted without the fold, at the temperature that was fitted on
        them; for the class frequencies in fit, whatever the combiner's `class_prior`. NaN in rows of no test fold.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Wolpert, Neural Networks 1992 (out-of-fold predictions); Rahaman and Thiery, NeurIPS 2021 (pool, then calibrate).

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.3, 0.8, 0.9, 1.0], "text__0": [5.0, 4.0, None, 1.0, 0.0, 1.0]})
    >>> model = DecisionFusionClassifier(cv=3).fit(X, ["cat", "cat", "cat", "dog", "dog", "dog"])
    >>> model.predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    >>> model.member_names_
    ['image', 'text', 'joint']
    """

    _classify = True

    def __init__(
        self,
        estimators=None,
        *,
        combiner=None,
        joint=True,
        cv=5,
        calibration="temperature",
        n_jobs=None,
        blocks=None,
    ):
        self.estimators = estimators
        self.combiner = combiner
        self.joint = joint
        self.cv = cv
        self.calibration = calibration
        self.n_jobs = n_jobs
        self.blocks = blocks

    def fit(self, X, y, sample_weight=None, groups=None):
        """Fit all members in all folds, then the combiner, then all members on all rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns. A
            block may hold raw cells (texts, paths) if its estimator takes them.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of an inner split.

        Returns
        -------
        self
        """
        if self.calibration not in ("temperature", None):
            raise ValueError(f'calibration must be "temperature" or None; got {self.calibration!r}.')
        self._fit(X, y, sample_weight, groups)
        return self

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _learn_scale(self, scores, y, weight):
        self.member_temperatures_ = np.ones(len(scores))
        for m, name in enumerate(self.member_names_):
            rows = np.isfinite(scores[m]).all(axis=1)
            if not gives_probabilities(self.estimators_[name]) and rows.any():
                member_weight = None if weight is None else weight[rows]
                self.member_temperatures_[m] = _temperature(scores[m, rows], y[rows], member_weight)
        return self._scale(scores)

    def _scale(self, scores):
        return softmax(scores / self.member_temperatures_[:, None, None])

    def _learn_certainty(self, fused, y, weight):
        self.temperature_ = 1.0
        rows = np.isfinite(fused).all(axis=1)
        if self.calibration == "temperature" and rows.any() and not self.combiner_.is_calibrated:
            log_fused = np.log(np.maximum(fused[rows], 1e-12))
            self.temperature_ = _temperature(log_fused, y[rows], None if weight is None else weight[rows])
            fused[rows] = apply_temperature(fused[rows], self.temperature_)
        self.oof_proba_ = fused.astype(np.float32)

    def predict_proba(self, X):
        """Fused class probabilities.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The class frequencies for a row with no block at all.
        """
        P, mask = self._outputs(X)
        fused = self.combiner_.pool(P, mask)
        some = mask.any(axis=0)
        if some.any() and self.temperature_ != 1:
            fused[some] = apply_temperature(fused[some], self.temperature_)
        return self.combiner_.shift(fused)

    def predict(self, X):
        """Most probable class of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]


class DecisionFusionRegressor(RegressorMixin, _DecisionFusion):
    """Decision-level (late) fusion: one regressor a block, whose predictions a combiner joins.

    Parameters
    ----------
    estimators : regressor or dict of str to regressor, optional
        One for all blocks, or one a block; the default is standardised ridge regression with its penalty chosen by
        leave-one-out error. The key ``"joint"`` names the estimator over all blocks.
    combiner : pool, optional
        `LogPool` (default: weights by out-of-fold precision), `MeanPool` or `StackingPool`.
    joint, cv, n_jobs, blocks
        As in `DecisionFusionClassifier`.

    Attributes
    ----------
    blocks_, member_names_, estimators_, combiner_, n_features_in_, feature_names_in_
        As in `DecisionFusionClassifier`.
    oof_predictions_ : ndarray of shape (n_members, n_samples), dtype float32
        The ledger; NaN where a member has no out-of-fold prediction.
    oof_fused_ : ndarray of shape (n_samples,), dtype float32
        Fused out-of-fold predictions, the combiner fitted without the fold.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0, 4.0], "text__0": [1.0, 3.0, 5.0, 7.0, 9.0]})
    >>> DecisionFusionRegressor().fit(X, [0.0, 2.0, 4.0, 6.0, 8.0]).predict(X).round(1)
    array([0., 2., 4., 6., 8.])
    """

    _classify = False

    def __init__(self, estimators=None, *, combiner=None, joint=True, cv=5, n_jobs=None, blocks=None):
        self.estimators = estimators
        self.combiner = combiner
        self.joint = joint
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    def fit(self, X, y, sample_weight=None, groups=None):
        """Fit all members in all folds, then the combiner, then all members on all rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            As in `DecisionFusionClassifier.fit`.
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

    def _learn_scale(self, scores, y, weight):
        return scores

    def _scale(self, scores):
        return scores

    def _learn_certainty(self, fused, y, weight):
        self.oof_fused_ = fused.astype(np.float32)

    def predict(self, X):
        """Fused prediction of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            The mean of `y` for a row with no block at all.
        """
        P, mask = self._outputs(X)
        return self.combiner_.combine(P, mask)
