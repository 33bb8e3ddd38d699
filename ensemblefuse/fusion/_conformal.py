"""Conformal fusion: sets of classes and intervals that hold the truth at a chosen rate."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples, check_is_fitted

from ensemblefuse.fusion._conformal_quantiles import BaseConformalFusion, label_scores
from ensemblefuse.fusion.base import read_labels, read_numbers

__all__ = ["ConformalFusionClassifier", "ConformalFusionRegressor"]

# Out-of-fold probabilities are float32; without room for their rounding a score that equals the quantile may miss it.
_ROUNDING = 1e-6


class ConformalFusionClassifier(ClassifierMixin, BaseConformalFusion):
    """Sets of classes that hold the true one with probability 1 - alpha, around any fusion classifier.

    Out-of-fold probabilities of the fusion say how badly the true class fits in a row that was not trained on. A class
    is in the set of a new row if it fits no worse than the ceil((n + 1) (1 - alpha))-th best of the n true classes.

    The scores come from models of the folds and the sets from the model that was fitted on all rows, so no theorem for
    finite samples holds (CV+, which keeps the models of the folds, promises 1 - 2 alpha). It is for new rows drawn like
    those in `fit`; with `sample_weight`, for the population that the weights describe, a new row having their mean
    weight.

    Inside a pipeline: ``pipe[-1].predict_set(pipe[:-1].transform(X))``.

    Parameters
    ----------
    fusion : classifier, optional
        `DecisionFusionClassifier` by default. It must have ``predict_proba``.
    alpha : float
        Share of rows whose true class may be missed.
    method : {"lac", "aps"}
        Score of a class of probability p: 1 - p (least ambiguous sets), or the sum of all higher probabilities plus
        u p, with u uniform in the row (adaptive sets: larger on average, with more even coverage of easy and hard
        rows).
    per_pattern : bool
        Whether each combination of present blocks has a quantile of its own, if it has at least 10 / alpha rows with
        out-of-fold predictions. The others share one, of their rows together or, if these too are fewer, the larger of
        it and that of all rows: it promises coverage on average over these patterns only.
    cv : int, splitter or iterable of (train, test)
        As in `DecisionFusionClassifier`. Of the default fusion, and of one that has no ``oof_proba_``; a fusion that
        has it makes it with its own ``cv``.
    random_state : int, RandomState or None
        Of u in APS. A fitted estimator gives the same sets for the same table every time.
    blocks : dict, optional
        Columns of each block, if `fusion` has no ``blocks`` set.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    fusion_ : classifier
        Fitted on all rows.
    quantile_ : float
        Of the scores of all calibration rows; infinite if these are too few for `alpha`, so that all classes are in.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        The combinations of present blocks among the calibration rows.
    own_quantile_ : ndarray of shape (n_patterns,), dtype bool
        Whether the pattern has a quantile of its own.
    pattern_quantiles_ : ndarray of shape (n_patterns,)
        The quantile that is used for each.
    calibration_scores_, calibration_weights_, calibration_patterns_ : ndarray of shape (n_calibration,)
        Score of the true class, weight, and row of `patterns_`, for the rows with an out-of-fold prediction and any
        block.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    MAPIE 1.6 gives the same sets where it applies (the tests compare them). It refuses APS with two classes, raises
    where the rows are too few for `alpha` instead of returning all classes, and has no weighted quantiles.

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
    >>> model = ConformalFusionClassifier(alpha=0.05).fit(X, y)
    >>> new = pd.DataFrame({"image__0": [0.0, 5.5, 11.0], "text__0": [0.5, 0.5, 0.5]})
    >>> model.predict_set(new)
    array([[ True, False],
           [ True,  True],
           [False,  True]])
    """

    _classify = True

    def __init__(self, fusion=None, *, alpha=0.1, method="lac", per_pattern=True, cv=5, random_state=None, blocks=None):
        self.fusion = fusion
        self.alpha = alpha
        self.method = method
        self.per_pattern = per_pattern
        self.cv = cv
        self.random_state = random_state
        self.blocks = blocks

    def fit(self, X, y, sample_weight=None, groups=None):
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
        if self.method not in ("lac", "aps"):
            raise ValueError(f'method must be "lac" or "aps"; got {self.method!r}.')
        self._forget()
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._fit(X, y, sample_weight, groups)
        return self

    def _read_target(self, y, n_samples):
        codes = read_labels(self, y, n_samples)
        return self.classes_[codes]

    def _predict_all(self, fitted, X):
        """Probabilities of all classes; 0 for one that was absent from the fold."""
        proba = np.zeros((_num_samples(X), len(self.classes_)))
        proba[:, np.searchsorted(self.classes_, fitted.classes_)] = fitted.predict_proba(X)
        return proba

    def _shift(self, predicted):
        """To the class frequencies to expect, as the fusion's predictions are, where its combiner was given any."""
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

    def predict_proba(self, X):
        """Class probabilities of the fitted fusion.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "quantile_")
        return self._predict_all(self.fusion_, X)

    def predict_set(self, X, alpha=None):
        """The classes that fit.

        A set may be empty: no class fits as well as the true ones did in fit. A row with no block at all, and every
        row where the calibration rows are too few for `alpha`, has all classes.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        alpha : float, optional
            Another rate than in `fit`; the sets grow as it falls.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), dtype bool
            Column k says whether ``classes_[k]`` is in the set.

        Warns
        -----
        MissingModalityWarning
            If a row holds a combination of blocks that no calibration row held.
        """
        quantiles = self._row_quantiles(X, alpha)
        scores = label_scores(self.predict_proba(X), self.method, self._uniform(len(quantiles), 1))
        return scores <= quantiles[:, None] + _ROUNDING


class ConformalFusionRegressor(RegressorMixin, BaseConformalFusion):
    """Intervals that hold the true value with probability 1 - alpha, around any fusion regressor.

    The half width is the ceil((n + 1) (1 - alpha))-th smallest of the n absolute out-of-fold residuals. What
    `ConformalFusionClassifier` says about coverage, weights and pipelines holds here too.

    Parameters
    ----------
    fusion : regressor, optional
        `DecisionFusionRegressor` by default.
    alpha, per_pattern, blocks
        As in `ConformalFusionClassifier`.
    cv : int, splitter or iterable of (train, test)
        Of the default fusion, and of one that has no ``oof_fused_``.

    Attributes
    ----------
    fusion_ : regressor
        Fitted on all rows.
    quantile_ : float
        Of the absolute residuals of all calibration rows, in the unit of `y`; infinite if these are too few for
        `alpha`.
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

    def __init__(self, fusion=None, *, alpha=0.1, per_pattern=True, cv=5, blocks=None):
        self.fusion = fusion
        self.alpha = alpha
        self.per_pattern = per_pattern
        self.cv = cv
        self.blocks = blocks

    def fit(self, X, y, sample_weight=None, groups=None):
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

    def predict_interval(self, X, alpha=None):
        """Interval of each row, symmetric around its prediction.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        alpha : float, optional
            Another rate than in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper end; infinite for a row with no block at all, and where the calibration rows are too few for
            `alpha`.

        Warns
        -----
        MissingModalityWarning
            If a row holds a combination of blocks that no calibration row held.
        """
        half = self._row_quantiles(X, alpha)
        middle = self.predict(X)
        return np.column_stack([middle - half, middle + half])
