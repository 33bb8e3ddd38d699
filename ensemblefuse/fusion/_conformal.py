"""Conformal fusion: sets of classes and intervals that hold the truth at a chosen rate. Floor 3."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples, check_is_fitted, has_fit_parameter, validate_data

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion._base import (
    BaseFusion,
    check_estimator_kind,
    read_labels,
    read_numbers,
    takes_nan,
    warn_unweighted,
)
from ensemblefuse.fusion._decision import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion._ledger import make_splits
from ensemblefuse.table import to_frame

__all__ = ["ConformalFusionClassifier", "ConformalFusionRegressor"]

# A pattern of missing blocks has a quantile of its own from this many rows times 1 / alpha: 10 of them lie beyond it.
_ROWS_BEYOND = 10
# Out-of-fold probabilities are float32; without room for their rounding a score that equals the quantile may miss it.
_ROUNDING = 1e-6


def conformal_quantile(scores: np.ndarray, alpha: float, sample_weight: np.ndarray | None = None) -> float:
    """The ceil((n + 1) (1 - alpha))-th smallest score, infinite if there are fewer than that.

    With weights: the smallest score below or at which lies 1 - alpha of the weight, where the row to come has the mean
    weight and an infinite score (Tibshirani et al., NeurIPS 2019, equation 7).
    """
    weight = np.ones(len(scores)) if sample_weight is None else sample_weight
    scores, weight = scores[weight > 0], weight[weight > 0]
    if not len(scores):
        return np.inf
    order = np.argsort(scores)
    reached = np.cumsum(weight[order])
    needed = (1 - alpha) * (reached[-1] + weight.mean())
    k = np.searchsorted(reached, needed * (1 - 1e-12))  # (1 - 0.7) * 10 is a little over 3 in floating point
    return float(scores[order[k]]) if k < len(scores) else np.inf


def label_scores(P: np.ndarray, method: str, u: np.ndarray) -> np.ndarray:
    """Score of every class in every row: the higher, the worse it fits. ``u`` of shape (n_samples,) is for APS."""
    if method == "lac":
        return 1 - P
    order = np.argsort(-P, axis=1, kind="stable")
    p = np.take_along_axis(P, order, axis=1)
    scores = np.empty_like(P)
    np.put_along_axis(scores, order, p.cumsum(axis=1) - p + u[:, None] * p, axis=1)
    return scores


class _ConformalFusion(BaseFusion):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.fusion is not None and takes_nan(self.fusion)
        return tags

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        _check_alpha(self.alpha)
        fusion = self._fusion()
        if not isinstance(X, pd.DataFrame):
            X = to_frame(X) if hasattr(X, "columns") else X if hasattr(X, "shape") else np.asarray(X)
        if not _num_samples(X):
            raise ValueError(f"Found 0 samples in X; {type(self).__name__} needs at least one.")
        y = self._read_target(y, _num_samples(X))
        self.fusion_, weighted = _fit_fusion(fusion, X, y, sample_weight, groups)
        validate_data(self, X, reset=True, skip_check_array=True)
        blocks = self._blocks(X, reset=True)
        weight = self._read_weight(sample_weight, blocks)
        warn_unweighted(self, [] if weighted else ["fusion"])
        predicted = self._out_of_fold(fusion, X, y, weight, groups)
        usable = np.isfinite(predicted.reshape(len(predicted), -1)).all(axis=1) & blocks.present.any(axis=0)
        usable &= True if weight is None else weight > 0
        self.calibration_scores_ = self._true_scores(predicted[usable], y[usable])
        self.calibration_weights_ = np.ones(usable.sum()) if weight is None else weight[usable]
        self.patterns_, self.calibration_patterns_ = np.unique(blocks.present.T[usable], axis=0, return_inverse=True)
        self.calibration_patterns_ = self.calibration_patterns_.reshape(-1)  # numpy 2.0 gave it a second axis
        counts = np.bincount(self.calibration_patterns_, minlength=len(self.patterns_))
        # Not anew for another alpha in predict_set: sets must grow as alpha falls.
        self.own_quantile_ = (counts * self.alpha >= _ROWS_BEYOND * (1 - 1e-12)) & bool(self.per_pattern)
        self.quantile_, self.pattern_quantiles_ = self._learn_quantiles(self.alpha)

    def _fusion(self) -> Any:
        if self.fusion is None:
            fusion = (DecisionFusionClassifier if self._classify else DecisionFusionRegressor)(cv=self.cv)
        else:
            check_estimator_kind(self, "fusion", self.fusion, classify=self._classify)
            fusion = clone(self.fusion)
        if self._classify and not hasattr(fusion, "predict_proba"):
            raise ValueError(
                f"{type(self).__name__} needs a fusion with predict_proba; {type(fusion).__name__} has none here. "
                "DecisionFusionClassifier makes probabilities of decision values."
            )
        if self.blocks is not None and "blocks" in fusion.get_params(deep=False):
            if fusion.blocks is not None:
                raise ValueError(f"{type(self).__name__} and its fusion both have blocks=; give it to one of them.")
            fusion.set_params(blocks=self.blocks)
        return fusion

    def _blocks(self, X: Any, *, reset: bool) -> Blocks:
        """The blocks as the fusion sees them; an estimator that knows no blocks sees those of `blocks`."""
        if isinstance(self.fusion_, BaseFusion):
            return self.fusion_._read(X, reset=False)
        return self._read(X, reset=reset)

    def _out_of_fold(self, fusion: Any, X: Any, y: np.ndarray, weight: Any, groups: Any) -> np.ndarray:
        """Out-of-fold predictions of the fusion, its own if it has made any; NaN in rows without."""
        own = getattr(self.fusion_, "oof_proba_" if self._classify else "oof_fused_", None)
        if own is not None:
            return self._shift(np.array(own, dtype=float))
        codes = np.searchsorted(self.classes_, y) if self._classify else y
        total, count = np.zeros((len(y), len(self.classes_)) if self._classify else len(y)), np.zeros(len(y))
        for train, test in make_splits(self.cv, codes, groups, classify=self._classify):
            if self._classify and len(np.unique(y[train] if weight is None else y[train][weight[train] > 0])) < 2:
                continue
            part = [None if array is None else np.asarray(array)[train] for array in (weight, groups)]
            with warnings.catch_warnings():
                # A fold may lack a pattern that the whole table holds.
                warnings.simplefilter("ignore", MissingModalityWarning)
                fitted, _ = _fit_fusion(fusion, _rows(X, train), y[train], *part)
                total[test] += self._predict_all(fitted, _rows(X, test))
            count[test] += 1
        total[count == 0] = np.nan
        return total / np.maximum(count, 1).reshape(-1, *[1] * (total.ndim - 1))

    def _shift(self, predicted: np.ndarray) -> np.ndarray:
        return predicted

    def _learn_quantiles(self, alpha: float) -> tuple[float, np.ndarray]:
        """Quantile of all rows, and those of the patterns: their own if they had rows enough for alpha in fit."""
        scores, weights, pattern = self.calibration_scores_, self.calibration_weights_, self.calibration_patterns_
        overall = conformal_quantile(scores, alpha, weights)
        quantiles = np.full(len(self.patterns_), overall)
        for p in np.flatnonzero(self.own_quantile_):
            quantiles[p] = conformal_quantile(scores[pattern == p], alpha, weights[pattern == p])
        return overall, quantiles

    def _row_quantiles(self, X: Any, alpha: float | None) -> np.ndarray:
        """Quantile that holds for each row of X."""
        check_is_fitted(self, "quantile_")
        if alpha is None:
            overall, of_patterns = self.quantile_, self.pattern_quantiles_
        else:
            _check_alpha(alpha)
            overall, of_patterns = self._learn_quantiles(alpha)
        blocks = self._blocks(X, reset=False)
        quantiles = np.full(len(blocks), overall)
        known = ~blocks.present.any(axis=0)
        quantiles[known] = np.inf  # nothing is known of a row without any block, so nothing is ruled out
        for pattern, quantile in zip(self.patterns_, of_patterns, strict=True):
            rows = (pattern == blocks.present.T).all(axis=1)
            quantiles[rows] = quantile
            known |= rows
        if not known.all():
            self._warn_unseen(blocks, known)
        return quantiles

    def _warn_unseen(self, blocks: Blocks, known: np.ndarray) -> None:
        first = int(np.flatnonzero(~known)[0])
        held = [name for name, there in zip(blocks.names, blocks.present[:, first], strict=True) if there]
        warnings.warn(
            f"{type(self).__name__}: {int((~known).sum())} rows hold a combination of blocks that no calibration row "
            f"held, such as row {blocks.labels[first]!r} with {held}; the quantile of all rows is used, and coverage "
            "is not promised there.",
            MissingModalityWarning,
            stacklevel=4,
        )

    def predict(self, X):
        """What the fitted fusion predicts.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "quantile_")
        return self.fusion_.predict(X)


def _check_alpha(alpha: Any) -> None:
    if not isinstance(alpha, (int, float, np.number)) or not 0 < alpha < 1:
        raise ValueError(f"alpha, the share of rows that may be missed, must be between 0 and 1; got {alpha!r}.")


def _rows(X: Any, rows: np.ndarray) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _fit_fusion(fusion: Any, X: Any, y: np.ndarray, weight: Any, groups: Any) -> tuple[Any, bool]:
    """A fitted clone with groups if it takes them, and whether it was weighted if there are weights."""
    if has_fit_parameter(fusion, "groups"):
        return clone(fusion).fit(X, y, sample_weight=weight, groups=groups), True
    return fit_estimator(fusion, X, y, weight)


class ConformalFusionClassifier(ClassifierMixin, _ConformalFusion):
    """Sets of classes that hold the true one with probability 1 - alpha, around any fusion classifier.

    Out-of-fold probabilities of the fusion say how badly the true class fits in a row that was not trained on. A class
    is in the set of a new row if it fits no worse than the ceil((n + 1) (1 - alpha))-th best of the n true classes.

    The scores come from models of the folds and the sets from the model that was fitted on all rows, so no theorem for
    finite samples holds (CV+, which keeps the models of the folds, promises 1 - 2 alpha). On made blocks we measured
    coverage of .89 to .92 at alpha = 0.1. It is for new rows drawn like those in `fit`; with `sample_weight`, for the
    population that the weights describe, a new row having their mean weight.

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
        out-of-fold predictions. The others share the quantile of all rows, which promises coverage on average only:
        rows without two of three blocks were covered at .83 to .89 with LAC in our measurements.
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
        return self.fusion_.predict_proba(X)

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


class ConformalFusionRegressor(RegressorMixin, _ConformalFusion):
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
