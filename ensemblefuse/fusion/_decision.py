"""Decision-level (late) fusion: one estimator per block, and a combiner of their out-of-fold predictions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.combine import apply_sigmoid, apply_temperature, fit_sigmoid, smooth_temperature
from ensemblefuse.fusion._decision_base import DecisionFusion
from ensemblefuse.fusion.splits import mean_over_folds
from ensemblefuse.fusion.targets import read_labels, read_numbers

__all__ = ["DecisionFusionClassifier", "DecisionFusionRegressor"]


class DecisionFusionClassifier(ClassifierMixin, DecisionFusion):
    """Decision-level (late) fusion: one classifier per block, and a combiner of their probabilities.

    The combiner, the temperatures and everything else in the second level are learned from out-of-fold predictions. All
    members share the same splits. A missing block is left out of its row, and the class frequencies take its place.

    Parameters
    ----------
    estimators : classifier, list of them, or dict of str to one of these, optional
        One for all blocks, or one per block. Each estimator in a list is a member of its own. ``"drop"`` leaves the
        block out. A block that is not named, or has ``None``, gets the default. The default is the candidate with the
        smallest out-of-fold loss: standardised logistic regressions with several penalties; an RBF kernel, as
        one-vs-rest SVMs if they cost little and otherwise as least squares on Nystroem features; and with few rows per
        class a discriminant analysis with shrinkage. A default block of at most 200 columns, not counting flags, that
        at least 100 rows hold has boosted trees (XGBoost) as one more member. A default block with a column
        ``block__words`` of texts beside its numbers has one more member over their words. ``[None]`` is the default
        without trees and words, for one block or for all. The key ``"joint"`` names the estimator over all blocks. It
        may be a feature-level fusion. By default, tables of narrow and wide blocks also have joint boosted trees: they
        see the columns of narrow blocks and 30 principal components of each wide one. Classifiers without
        ``predict_proba`` are accepted: their decision values get a temperature.
    combiner : pool, optional
        ``LogPool(per_pattern=True, smoothing=0.01)`` by default. Voting: `VotePool`, `MeanPool`; selection:
        `GreedyPool`; stacking: `StackingPool`; belief functions: `DempsterShaferPool`.
    joint : bool
        Whether a classifier over all blocks of numbers side by side is one more member (hybrid fusion).
    missing : {"present", "impute", "dropout", "reduced"}
        How the joint member treats missing blocks. ``"present"``: it takes part in rows that hold every block. It also
        takes part in rows that hold at least two blocks, if at least 10 rows in fit lacked the same blocks; the gap is
        filled with the mean. With the other values it takes part in all rows, as described in
        `FeatureFusionClassifier`. The members of single blocks take part if their block is present.
    cv : int, splitter or iterable of (train, test)
        Splits for the out-of-fold predictions. With a number, rows are shuffled, always in the same way, so a sorted
        table does no harm; folds are stratified and keep groups together. The number is limited by the size of the
        largest class and by the number of groups. Rows in the order of time need a splitter, such as scikit-learn's
        ``TimeSeriesSplit``. In an iterable, `train` and `test` are positions or masks of rows.
    calibration : {"temperature", "sigmoid", None}
        Calibration of the fused probabilities, fitted out of fold. A pool that is already calibrated, such as `LogPool`
        with learned weights, gets no temperature.
    refit : bool
        Whether each member is fitted once more, on all rows. If False, the models of the folds are kept, and the mean
        of their log-probabilities is used. This saves a fit, but prediction takes `cv` times the work.
    class_weight : "balanced" or dict of label to weight, optional
        For another cost of errors. It does not find rare classes better: at 1 row in 100, ``"balanced"`` lowered the
        average precision on three sets of three; lower the threshold of a probability instead. Multiplied with
        `sample_weight`. A class that is not named has the weight 1. A name that `y` lacks, as a fold of a
        cross-validation may, counts for nothing.
    effort : {"low", "medium", "high"}
        What is tried where no estimator is named; named estimators stay as they are. ``"medium"`` is described at
        `estimators`. ``"low"`` is for a first look in a fraction of the time: each block, and all of them together, has
        one linear model of one penalty, words have one penalty, and there are no kernels and no trees. ``"high"`` also
        fits four trees in each round of boosting, and adds members of extra trees, ``"<block>/forest"``; it takes two
        to four times as long. With all three, the combiner is learned from out-of-fold predictions. A limit of time is
        left out on purpose: on another machine it would give another model.
    n_jobs : int, optional
        Number of parallel jobs for the fits of members and folds, as in joblib. Workers are only started for enough
        work.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.
    verbose : int
        1 prints `members_` after `fit`, below a line that says what `effort` tries. 0 prints nothing.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    member_names_ : list of str
        Blocks in order, then ``"joint"``. The names are ``"<block>/<head>"`` if a block has several heads, and
        ``"<block>/trees"`` for the boosted trees of a block, and ``"<block>/words"`` for the member over the words of a
        block of texts. Extra trees (with ``effort="high"``), or the random forest of a regression, are
        ``"<block>/forest"``.
    word_members_ : list of str
        Members over words.
    joint_patterns_ : ndarray of shape (n_patterns, n_numeric_blocks), dtype bool
        Combinations of present blocks with which the joint member takes part. Only with a joint member.
    member_blocks_ : list of str
        Block of each member.
    members_ : DataFrame
        One row per member: ``head``, the estimator that was kept; ``n_tried``, how many were tried; ``n_rows`` with an
        out-of-fold prediction; ``seconds`` of all its fits, by the clock; ``log_loss`` and ``accuracy`` of the member
        alone, out of fold; and ``gain``, by how much the log-loss of the fused out-of-fold predictions grows if the
        combiner is learned without the member. Members that say the same have small gains each. Computed anew each
        time it is read, from the ledger.
    estimators_ : dict of str to classifier, or to list of classifiers without `refit`
        Fitted on all rows that hold the block, on coded labels.
    combiner_ : pool
    temperature_ : float
        Temperature of the fused probabilities; 1.0 without this calibration.
    member_temperatures_ : ndarray of shape (n_members,)
        1.0 for members with probabilities.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        Combinations of present blocks. With up to five blocks, these are all combinations. With more, they are the
        combinations seen in fit, each block alone, and all blocks.
    expected_scores_ : DataFrame
        Number of rows, log-loss and accuracy of each of `patterns_`, out of fold.
    oof_predictions_ : ndarray of shape (n_members, n_samples, n_classes), dtype float32
        The ledger: out-of-fold predictions. NaN where a member has none.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Fused out-of-fold probabilities. Combiner and calibration are fitted without the fold. They are for the class
        frequencies in fit, also if the combiner has a `class_prior`. NaN in rows in no test fold.
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
    >>> DecisionFusionClassifier(cv=3, effort="low").fit(X, model.predict(X)).members_["head"].to_dict()
    {'image': 'LogisticRegression(C=1)', 'text': 'LogisticRegression(C=1)', 'joint': 'LogisticRegression(C=1)'}
    """

    _classify = True

    def __init__(
        self,
        estimators=None,
        *,
        combiner=None,
        joint=True,
        missing="present",
        cv=5,
        calibration="temperature",
        refit=True,
        class_weight=None,
        effort="medium",
        n_jobs=None,
        blocks=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.combiner = combiner
        self.joint = joint
        self.missing = missing
        self.cv = cv
        self.calibration = calibration
        self.refit = refit
        self.class_weight = class_weight
        self.effort = effort
        self.n_jobs = n_jobs
        self.blocks = blocks
        self.verbose = verbose

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit all members in all folds, then the combiner, then all members on all rows.

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
        self._fit(X, y, sample_weight, groups)
        return self

    def _check_settings(self):
        super()._check_settings()
        if self.calibration not in ("temperature", "sigmoid", None):
            raise ValueError(f'calibration must be "temperature", "sigmoid" or None; got {self.calibration!r}.')

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _row_weights(self, sample_weight, blocks, y):
        return self._weigh_classes(self._read_weight(sample_weight, blocks), y)

    def _learn_certainty(self, fused, ledger):
        rows = np.flatnonzero(np.isfinite(fused).all(axis=1))
        self._calibration = self._fit_calibration(fused, rows, ledger)
        self.temperature_ = float(self._calibration[0]) if self._calibration.ndim == 1 else 1.0
        filled = []
        for train, test in ledger.splits:
            test = np.intersect1d(test, rows)
            filled.append((test, self._calibrate(fused[test], self._certainty_without(fused, train, test, ledger))))
        self.oof_proba_ = mean_over_folds(filled, len(ledger.y), ledger.n_classes).astype(np.float32)

    def _certainty_without(self, fused, train, test, ledger):
        """Fit the calibration without the rows of a test fold."""
        rows = np.flatnonzero(np.isfinite(fused).all(axis=1))
        return self._fit_calibration(fused, np.setdiff1d(np.intersect1d(train, rows), test), ledger)

    def _fit_calibration(self, fused, rows, ledger):
        """Fit a temperature (an array of shape (1,)) or sigmoids (coefficients of shape (n_classes, 2))."""
        y, weight = ledger.y[rows], None if ledger.sample_weight is None else ledger.sample_weight[rows]
        idle = not len(rows) or (weight is not None and not weight.sum() > 0)
        if self.calibration == "sigmoid" and not idle:
            return fit_sigmoid(fused[rows], y, weight)
        if self.calibration == "temperature" and not idle and not self.combiner_.is_calibrated:
            return np.array([smooth_temperature(np.log(np.maximum(fused[rows], 1e-12)), y, weight)])
        return np.ones(1)

    def _calibrate(self, fused, calibration=None):
        calibration = self._calibration if calibration is None else calibration
        if calibration.ndim == 2:
            return apply_sigmoid(fused, calibration)
        return fused if calibration[0] == 1 else apply_temperature(fused, float(calibration[0]))

    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the fused class probabilities.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row without any block gets the class frequencies.
        """
        return self._fuse(*self._outputs(X))

    def _fuse(self, P, mask):
        """Combine the members' predictions for new rows."""
        fused = self.combiner_.pool(P, mask)
        some = mask.any(axis=0)
        if some.any():
            fused[some] = self._calibrate(fused[some])
        return self.combiner_.shift(fused)

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
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]


class DecisionFusionRegressor(RegressorMixin, DecisionFusion):
    """Decision-level (late) fusion: one regressor per block, and a combiner of their predictions.

    Parameters
    ----------
    estimators : regressor, list of them, or dict of str to one of these, optional
        As in `DecisionFusionClassifier`. The default is standardised ridge regression, with its penalty chosen by
        leave-one-out error (out of fold where rows and columns are more than 600), or a regression with an RBF kernel
        if its out-of-fold error is smaller: support vector regression if it costs little, otherwise ridge regression on
        Nystroem features. If `y` is positive and skewed,
        each candidate is also tried on the log of `y` (see `LogTargetRegressor`); ``estimators_`` shows which was kept.
        Boosted trees are members as in the classifier, and beside them a random forest of 50 trees. Up to 4 000 rows,
        each round of boosting fits two trees and adds their mean; beyond, there is no forest over all blocks together.
    combiner : pool, optional
        ``LogPool(per_pattern=True)`` by default: non-negative weights for each combination of members. Otherwise
        `MeanPool`, `GreedyPool` or `StackingPool`.
    joint, missing, cv, refit, n_jobs, blocks, verbose
        As in `DecisionFusionClassifier`.
    effort : {"low", "medium", "high"}
        As in `DecisionFusionClassifier`, but in place of extra trees ``"high"`` has a second candidate of boosting. It
        learns more slowly, from more rounds of small trees. ``"low"`` also tries the log of a positive and skewed `y`.

    Attributes
    ----------
    blocks_, member_names_, member_blocks_, estimators_, combiner_, patterns_, n_features_in_, feature_names_in_
        As in `DecisionFusionClassifier`.
    members_ : DataFrame
        As in `DecisionFusionClassifier`, with ``rmse`` and ``r2``. ``gain`` is in R2.
    expected_scores_ : DataFrame
        Number of rows, root mean squared error and R2 of each of `patterns_`, out of fold.
    oof_predictions_ : ndarray of shape (n_members, n_samples)
        The ledger: out-of-fold predictions. NaN where a member has none.
    oof_fused_ : ndarray of shape (n_samples,)
        Fused out-of-fold predictions. The combiner is fitted without the fold.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0, 4.0], "text__0": [1.0, 3.0, 5.0, 7.0, 9.0]})
    >>> DecisionFusionRegressor().fit(X, [0.0, 2.0, 4.0, 6.0, 8.0]).predict(X).round(1)
    array([0., 2., 4., 6., 8.])
    """

    _classify = False

    def __init__(
        self,
        estimators=None,
        *,
        combiner=None,
        joint=True,
        missing="present",
        cv=5,
        refit=True,
        effort="medium",
        n_jobs=None,
        blocks=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.combiner = combiner
        self.joint = joint
        self.missing = missing
        self.cv = cv
        self.refit = refit
        self.effort = effort
        self.n_jobs = n_jobs
        self.blocks = blocks
        self.verbose = verbose

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
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

    def _row_weights(self, sample_weight, blocks, y):
        return self._read_weight(sample_weight, blocks)

    def _learn_certainty(self, fused, ledger):
        self.oof_fused_ = fused

    def _certainty_without(self, fused, train, test, ledger):
        return None  # in regression there is no calibration

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the fused value of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            A row without any block gets the mean of `y`.
        """
        return self._fuse(*self._outputs(X))

    def _fuse(self, P, mask):
        """Combine the members' predictions for new rows."""
        return self.combiner_.combine(P, mask)
