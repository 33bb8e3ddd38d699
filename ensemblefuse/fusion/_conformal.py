"""Conformal fusion: sets of classes, and intervals, that contain the true value at a chosen rate."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples, check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._deprecation import renamed_parameter
from ensemblefuse.fusion._conformal_quantiles import ALPHA_REMOVAL, BaseConformalFusion, complement, label_scores
from ensemblefuse.fusion.targets import read_labels, read_numbers

__all__ = ["ConformalFusionClassifier", "ConformalFusionRegressor"]

# Out-of-fold probabilities are float32. Without this tolerance, rounding could put a score just above its own quantile.
_ROUNDING = 1e-6


class ConformalFusionClassifier(ClassifierMixin, BaseConformalFusion):
    """Sets of classes that contain the true class with probability `confidence_level`, for any fusion classifier.

    Each row of `fit` has a score: how badly its true class fits, by the out-of-fold probabilities of the fusion. A
    class is in the set of a new row if its score is at most the k-th smallest of the n scores, where k is
    (n + 1) `confidence_level`, rounded up.

    The scores come from the models of the folds, but the sets come from the model fitted on all rows. So no theorem for
    finite samples holds. (CV+ keeps the models of the folds, and guarantees 2 `confidence_level` - 1.) The rate is for
    new rows from the same distribution as the rows in `fit`. With `sample_weight`, it is for the population that the
    weights describe, and a new row counts with their mean weight.

    Inside a pipeline: ``pipe[-1].predict_set(pipe[:-1].transform(X))``.

    Parameters
    ----------
    fusion : classifier, optional
        `DecisionFusionClassifier` by default. It must have ``predict_proba``.
    confidence_level : float
        Share of rows whose set must hold the true class.
    method : {"lac", "aps"}
        Score of a class with probability p. ``"lac"``: 1 - p (least ambiguous sets). ``"aps"``: the sum of all higher
        probabilities plus u p, with one uniform u per row. These adaptive sets are larger on average, but their
        coverage of easy and hard rows is more even.
    per_pattern : bool
        Whether each combination of present blocks with at least 10 / (1 - `confidence_level`) out-of-fold predictions
        has a quantile of its own. Each other combination that `fit` saw gets the larger of two quantiles: the one of
        all these other rows together, and the one of rows with some blocks hidden (see Notes). If False, all
        combinations that `fit` saw share one quantile. Coverage then holds only on average over them.
    cv : int, splitter or iterable of (train, test)
        As in `DecisionFusionClassifier`. It is used for the default fusion, and for a fusion without ``oof_proba_``. A
        fusion with ``oof_proba_`` uses its own ``cv``.
    random_state : int, RandomState or None
        Seed for u in APS. A fitted estimator always gives the same sets for the same table.
    blocks : dict, optional
        Columns of each block, if `fusion` does not have ``blocks`` set.
    alpha : float
        The share of rows whose set may miss the true class: 1 - `confidence_level`.

        .. deprecated:: 0.1
           Use `confidence_level`. Version 0.3 removes `alpha`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    fusion_ : classifier
        Fitted on all rows.
    quantile_ : float
        Quantile of the scores of all calibration rows. If these are too few for `confidence_level`, it is infinite, and
        the sets contain all classes.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        Combinations of present blocks among the calibration rows.
    own_quantile_ : ndarray of shape (n_patterns,), dtype bool
        Whether the pattern has a quantile of its own.
    pattern_quantiles_ : ndarray of shape (n_patterns,)
        Quantile used for each pattern.
    calibration_scores_, calibration_weights_, calibration_patterns_ : ndarray of shape (n_calibration,)
        Score of the true class, weight, and row of `patterns_`, for each row with an out-of-fold prediction and at
        least one block.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    A combination of blocks that `fit` never saw gets a quantile from the rows of `fit` that hold at least these blocks:
    their other blocks are hidden, and the ledger of out-of-fold predictions gives the scores. Coverage then holds if
    blocks are missing at random. Only `DecisionFusionClassifier` has such a ledger, and its joint member must not take
    part in these rows (with ``missing="present"`` it never does). Otherwise the set holds all classes.

    MAPIE 1.6 gives the same sets in the cases that it covers (the tests compare them). It refuses APS with two classes,
    raises an error instead of returning all classes if the rows are too few for `confidence_level`, and has no weighted
    quantiles.

    References
    ----------
    Vovk, Gammerman and Shafer 2005 (conformal prediction by categories); Sadinle, Lei and Wasserman, JASA 2019 (LAC);
    Romano, Sesia and Candes, NeurIPS 2020 (APS); Barber et al., Annals of Statistics 2021 (CV+).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import ConformalFusionClassifier
    >>> y = np.repeat(["cat", "dog"], 30)
    >>> image = np.r_[np.linspace(0, 6, 30), np.linspace(5, 11, 30)]
    >>> X = pd.DataFrame({"image__0": image, "text__0": image % 1})
    >>> model = ConformalFusionClassifier(confidence_level=0.95).fit(X, y)
    >>> new = pd.DataFrame({"image__0": [0.0, 5.5, 11.0], "text__0": [0.5, 0.5, 0.5]})
    >>> model.predict_set(new)
    array([[ True, False],
           [ True,  True],
           [False,  True]])
    """

    _classify = True

    def __init__(
        self,
        fusion=None,
        *,
        confidence_level=0.9,
        method="lac",
        per_pattern=True,
        cv=5,
        random_state=None,
        blocks=None,
        alpha="deprecated",
    ):
        self.fusion = fusion
        self.confidence_level = confidence_level
        self.method = method
        self.per_pattern = per_pattern
        self.cv = cv
        self.random_state = random_state
        self.blocks = blocks
        self.alpha = alpha

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit the fusion, and learn the quantiles from its out-of-fold probabilities.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            As `fusion` takes it.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows in the fusion and in the quantiles.
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of an inner split.

        Returns
        -------
        self
        """
        self._check_method()
        self._forget()
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._fit(X, y, sample_weight, groups)
        return self

    def _check_method(self):
        if self.method not in ("lac", "aps"):
            raise ValueError(f'method must be "lac" or "aps"; got {self.method!r}.')

    def _check_settings(self):
        super()._check_settings()
        self._check_method()

    def _read_target(self, y, n_samples):
        codes = read_labels(self, y, n_samples)
        return self.classes_[codes]

    def _predict_all(self, fitted, X):
        """Return the probabilities of all classes; 0 for a class that was absent from the fold."""
        proba = np.zeros((_num_samples(X), len(self.classes_)))
        proba[:, np.searchsorted(self.classes_, fitted.classes_)] = fitted.predict_proba(X)
        return proba

    def _shift(self, predicted):
        """Adapt predictions to the expected class frequencies, if the fusion's combiner has any.

        The fusion does the same with its predictions for new rows, so that both are comparable.
        """
        shift = getattr(getattr(self.fusion_, "combiner_", None), "shift", None)
        rows = np.isfinite(predicted).all(axis=1)
        if shift is not None and rows.any():
            predicted[rows] = shift(predicted[rows])
        return predicted

    def _uniform(self, n, stream):
        return np.random.default_rng([self.seed_, stream]).uniform(size=n)

    def _true_scores(self, predicted, y):
        scores = label_scores(predicted, self.method, self._uniform(len(y), 0))
        return scores[np.arange(len(y)), np.searchsorted(self.classes_, y)]

    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities with the fitted fusion.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "quantile_")
        return self._predict_all(self.fusion_, X)

    @renamed_parameter("alpha", "confidence_level", removal=ALPHA_REMOVAL, convert=complement)
    @answers_rows
    def predict_set(self, X: Any, *, confidence_level: float | None = None) -> np.ndarray:
        """Predict the set of classes of each row.

        A set may be empty: then no class fits as well as the true classes did in `fit`. A set contains all classes if
        the row has no block, if the calibration rows are too few for `confidence_level`, or if nothing is known of rows
        with the same blocks (see the notes of the class).

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        confidence_level : float, optional
            Another level than in `fit`. A higher level gives larger sets.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), dtype bool
            Column k is True if ``classes_[k]`` is in the set.

        Warns
        -----
        MissingModalityWarning
            If a row holds a combination of blocks that no calibration row held.
        """
        quantiles = self._row_quantiles(X, confidence_level)
        scores = label_scores(self.predict_proba(X), self.method, self._uniform(len(quantiles), 1))
        return scores <= quantiles[:, None] + _ROUNDING


class ConformalFusionRegressor(RegressorMixin, BaseConformalFusion):
    """Intervals that contain the true value with probability `confidence_level`, for any fusion regressor.

    The half width is the k-th smallest of the n absolute out-of-fold residuals, where k is (n + 1) `confidence_level`,
    rounded up. Coverage, weights, pipelines and combinations of blocks that `fit` never saw are as in
    `ConformalFusionClassifier`; an interval may be infinite in place of a set of all classes.

    Parameters
    ----------
    fusion : regressor, optional
        `DecisionFusionRegressor` by default.
    confidence_level, per_pattern, blocks, alpha
        As in `ConformalFusionClassifier`.
    cv : int, splitter or iterable of (train, test)
        As in `DecisionFusionRegressor`. Used for the default fusion, and for a fusion without ``oof_fused_``.

    Attributes
    ----------
    fusion_ : regressor
        Fitted on all rows.
    quantile_ : float
        Quantile of the absolute residuals of all calibration rows, in the unit of `y`; infinite if these rows are too
        few for `confidence_level`.
    patterns_, own_quantile_, pattern_quantiles_, calibration_scores_, calibration_weights_, calibration_patterns_
        As in `ConformalFusionClassifier`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Vovk, Gammerman and Shafer 2005; Barber et al., Annals of Statistics 2021 (CV+).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import ConformalFusionRegressor
    >>> image = np.arange(40.0)
    >>> X = pd.DataFrame({"image__0": image, "text__0": image % 3})
    >>> model = ConformalFusionRegressor().fit(X, 2 * image + np.where(image % 2, 1, -1))
    >>> model.predict_interval(X.iloc[[20]]).round()
    array([[39., 41.]])
    """

    _classify = False

    def __init__(self, fusion=None, *, confidence_level=0.9, per_pattern=True, cv=5, blocks=None, alpha="deprecated"):
        self.fusion = fusion
        self.confidence_level = confidence_level
        self.per_pattern = per_pattern
        self.cv = cv
        self.blocks = blocks
        self.alpha = alpha

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit the fusion, and learn the quantiles from its out-of-fold predictions.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            As `fusion` takes it.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional

        Returns
        -------
        self
        """
        self._forget()
        self._fit(X, y, sample_weight, groups)
        return self

    def _read_target(self, y, n_samples):
        return read_numbers(self, y, n_samples)

    def _predict_all(self, fitted, X):
        return np.asarray(fitted.predict(X), dtype=float)

    def _true_scores(self, predicted, y):
        return np.abs(y - predicted)

    @renamed_parameter("alpha", "confidence_level", removal=ALPHA_REMOVAL, convert=complement)
    @answers_rows
    def predict_interval(self, X: Any, *, confidence_level: float | None = None) -> np.ndarray:
        """Predict an interval for each row, symmetric around its prediction.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        confidence_level : float, optional
            Another level than in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper end. Infinite for a row without any block, if the calibration rows are too few for
            `confidence_level`, and if nothing is known of rows with the same blocks.

        Warns
        -----
        MissingModalityWarning
            If a row holds a combination of blocks that no calibration row held.
        """
        half = self._row_quantiles(X, confidence_level)
        middle = self.predict(X)
        return np.column_stack([middle - half, middle + half])
