"""The common part of conformal classifiers and regressors: scores, quantiles, and the quantile of each row."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import _num_samples, check_is_fitted, has_fit_parameter, validate_data

from ensemblefuse._deprecation import read_renamed
from ensemblefuse._fitting import fit_estimator
from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion._decision import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion.base import (
    BaseFusion,
    check_estimator_kind,
    takes_nan,
    warn_unweighted,
)
from ensemblefuse.fusion.members import take_rows
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.table import to_frame

__all__ = ["BaseConformalFusion", "conformal_quantile", "label_scores"]

# A pattern of missing blocks has a quantile of its own if about this number of its rows lie beyond the quantile.
_ROWS_BEYOND = 10
# alpha, the share of rows that may be missed, is now confidence_level: this version takes no alpha any more.
ALPHA_REMOVAL = "0.3"


def complement(share: float) -> float:
    """Return the confidence level for the share of rows that may be missed."""
    return 1 - share


def conformal_quantile(scores: np.ndarray, level: float, sample_weight: np.ndarray | None = None) -> float:
    """Return the ceil((n + 1) level)-th smallest score; infinity if there are fewer scores.

    With weights, return the smallest score s such that the scores up to s have a share of at least `level` of the
    weight. The total includes the new row, with the mean weight and an infinite score (Tibshirani et al., NeurIPS 2019,
    equation 7).
    """
    weight = np.ones(len(scores)) if sample_weight is None else sample_weight
    scores, weight = scores[weight > 0], weight[weight > 0]
    if not len(scores):
        return np.inf
    order = np.argsort(scores)
    reached = np.cumsum(weight[order])
    needed = level * (reached[-1] + weight.mean())
    k = np.searchsorted(reached, needed * (1 - 1e-12))  # (1 - 0.7) * 10 is a little over 3 in floating point
    return float(scores[order[k]]) if k < len(scores) else np.inf


def label_scores(P: np.ndarray, method: str, u: np.ndarray) -> np.ndarray:
    """Compute the score of every class in every row. A high score means a bad fit.

    ``u`` has shape (n_samples,), and is used for APS only.
    """
    if method == "lac":
        return 1 - P
    order = np.argsort(-P, axis=1, kind="stable")
    p = np.take_along_axis(P, order, axis=1)
    scores = np.empty_like(P)
    np.put_along_axis(scores, order, p.cumsum(axis=1) - p + u[:, None] * p, axis=1)
    return scores


class BaseConformalFusion(BaseFusion):
    """Base class of conformal fusions.

    A subclass sets the class attribute ``_classify`` and defines these hooks:

    - ``_read_target(y, n_samples)`` returns the checked target of shape (n_samples,): labels or numbers;
    - ``_predict_all(fitted, X)`` returns what a fitted fusion predicts: probabilities of shape (n_samples, n_classes),
      or numbers of shape (n_samples,);
    - ``_true_scores(predicted, y)`` returns the score of the true value of each row, of shape (n_samples,). `predicted`
      is as above, out of fold.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state; files of format 2 and older have `alpha` in place of `confidence_level`."""
        if "confidence_level" not in state and "alpha" in state:
            state = {**state, "confidence_level": complement(state["alpha"]), "alpha": "deprecated"}
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.fusion is not None and takes_nan(self.fusion)
        return tags

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        level = _checked_level(read_renamed(self, *_RENAMED, removal=ALPHA_REMOVAL, convert=complement))
        fusion = self._fusion()
        if not isinstance(X, pd.DataFrame):
            X = to_frame(X) if hasattr(X, "columns") else X if hasattr(X, "shape") else np.asarray(X)
        if not _num_samples(X):
            raise ValueError(f"Found 0 samples in X; {type(self).__name__} needs at least one.")
        y = self._read_target(y, _num_samples(X))
        weight = self._read_weight(sample_weight, X)
        self.fusion_, weighted = _fit_fusion(fusion, X, y, weight, groups)
        validate_data(self, X, reset=True, skip_check_array=True)
        blocks = self._blocks(X, reset=True)
        warn_unweighted(self, [] if weighted else ["fusion"])
        predicted = self._out_of_fold(fusion, X, y, weight, groups)
        usable = np.isfinite(predicted.reshape(len(predicted), -1)).all(axis=1) & blocks.present.any(axis=0)
        usable &= True if weight is None else weight > 0
        self.calibration_scores_ = self._true_scores(predicted[usable], y[usable])
        self.calibration_weights_ = np.ones(usable.sum()) if weight is None else weight[usable]
        self.patterns_, self.calibration_patterns_ = np.unique(blocks.present.T[usable], axis=0, return_inverse=True)
        self.calibration_patterns_ = self.calibration_patterns_.reshape(-1)  # numpy 2.0 gave it a second axis
        counts = np.bincount(self.calibration_patterns_, minlength=len(self.patterns_))
        # This choice is not repeated for another level in predict_set, so that sets grow with the level.
        self.own_quantile_ = (counts * (1 - level) >= _ROWS_BEYOND * (1 - 1e-12)) & bool(self.per_pattern)
        self.quantile_, self.pattern_quantiles_ = self._learn_quantiles(level)

    def _fusion(self) -> Any:
        if self.fusion is None:
            fusion = (DecisionFusionClassifier if self._classify else DecisionFusionRegressor)(cv=self.cv)
        else:
            check_estimator_kind(self, "fusion", self.fusion, classify=self._classify)
            fusion = clone(self.fusion)
        if self._classify and not hasattr(fusion, "predict_proba"):
            raise ValueError(
                f"{type(self).__name__} needs a fusion with predict_proba; {type(fusion).__name__} has none here. "
                "DecisionFusionClassifier turns decision values into probabilities."
            )
        if self.blocks is not None and "blocks" in fusion.get_params(deep=False):
            if fusion.blocks is not None:
                raise ValueError(f"{type(self).__name__} and its fusion both have blocks=; set it in one of them only.")
            fusion.set_params(blocks=self.blocks)
        return fusion

    def _blocks(self, X: Any, *, reset: bool) -> Blocks:
        """Return the blocks as the fusion reads them. An estimator without blocks gets the parameter `blocks`."""
        if isinstance(self.fusion_, BaseFusion):
            return self.fusion_._read(X, reset=False)
        return self._read(X, reset=reset)

    def _out_of_fold(self, fusion: Any, X: Any, y: np.ndarray, weight: Any, groups: Any) -> np.ndarray:
        """Return out-of-fold predictions of the fusion: its own if it has them. NaN in rows without a prediction."""
        own = getattr(self.fusion_, "oof_proba_" if self._classify else "oof_fused_", None)
        if own is not None:
            return self._shift(np.array(own, dtype=float))
        codes = np.searchsorted(self.classes_, y) if self._classify else y
        total, count = np.zeros((len(y), len(self.classes_)) if self._classify else len(y)), np.zeros(len(y))
        for train, test in make_splits(self.cv, codes, groups, classify=self._classify):
            train = train if weight is None else train[weight[train] > 0]
            if len(np.unique(y[train])) < 2 if self._classify else not len(train):
                continue
            part = [None if array is None else np.asarray(array)[train] for array in (weight, groups)]
            with warnings.catch_warnings():
                # A training fold may lack a pattern that is present in the whole table.
                warnings.simplefilter("ignore", MissingModalityWarning)
                fitted, _ = _fit_fusion(fusion, take_rows(X, train), y[train], *part)
                total[test] += self._predict_all(fitted, take_rows(X, test))
            count[test] += 1
        total[count == 0] = np.nan
        return total / np.maximum(count, 1).reshape(-1, *[1] * (total.ndim - 1))

    def _shift(self, predicted: np.ndarray) -> np.ndarray:
        return predicted

    def _learn_quantiles(self, level: float) -> tuple[float, np.ndarray]:
        """Return the quantile of all rows, and the quantile of each pattern.

        A pattern has its own quantile if it had enough rows for the level in fit. The others share one, from all their
        rows together. Such rows often lack more blocks than average, and the quantile of all rows would be too
        small for them. If they are also too few together, the larger of the two quantiles is used, to be safe.
        """
        scores, weights, pattern = self.calibration_scores_, self.calibration_weights_, self.calibration_patterns_
        overall = conformal_quantile(scores, level, weights)
        rest = ~self.own_quantile_[pattern]
        shared = conformal_quantile(scores[rest], level, weights[rest])
        if rest.sum() * (1 - level) < _ROWS_BEYOND * (1 - 1e-12):
            shared = max(overall, shared) if np.isfinite(shared) else overall
        quantiles = np.full(len(self.patterns_), shared)
        for p in np.flatnonzero(self.own_quantile_):
            quantiles[p] = conformal_quantile(scores[pattern == p], level, weights[pattern == p])
        return overall, quantiles

    def _row_quantiles(self, X: Any, level: float | None) -> np.ndarray:
        """Return the quantile for each row of X."""
        check_is_fitted(self, "quantile_")
        if level is None:
            overall, of_patterns = self.quantile_, self.pattern_quantiles_
        else:
            overall, of_patterns = self._learn_quantiles(_checked_level(level))
        blocks = self._blocks(X, reset=False)
        quantiles = np.full(len(blocks), overall)
        known = np.asarray(~blocks.present.any(axis=0))
        quantiles[known] = np.inf  # a row without any block gives no information, so no value is excluded
        for pattern, quantile in zip(self.patterns_, of_patterns, strict=True):
            rows = (pattern == blocks.present.T).all(axis=1)
            quantiles[rows] = quantile
            known |= rows
        if not known.all():
            self._warn_unseen(blocks, known)
        return quantiles

    def is_calibrated(self, X: Any) -> np.ndarray:
        """Return whether a calibration row held the same combination of blocks.

        For other rows, the coverage is not guaranteed.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), dtype bool
            Also True for rows without any block, because no value is excluded there.
        """
        check_is_fitted(self, "quantile_")
        present = self._blocks(X, reset=False).present.T
        return (present[:, None] == self.patterns_).all(axis=2).any(axis=1) | ~present.any(axis=1)

    def _warn_unseen(self, blocks: Blocks, known: np.ndarray) -> None:
        first = int(np.flatnonzero(~known)[0])
        held = [name for name, there in zip(blocks.names, blocks.present[:, first], strict=True) if there]
        warnings.warn(
            f"{type(self).__name__}: {int((~known).sum())} rows hold a combination of blocks that no calibration row "
            f"held, such as row {blocks.labels[first]!r} with {held}; the quantile of all rows is used for them, and "
            "their coverage is not guaranteed.",
            MissingModalityWarning,
            stacklevel=4,
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predict with the fitted fusion.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "quantile_")
        return self.fusion_.predict(X)


_RENAMED = ("alpha", "confidence_level")


def _checked_level(level: Any) -> float:
    if not isinstance(level, (int, float, np.number)) or not 0 < level < 1:
        raise ValueError(f"confidence_level must be between 0 and 1; got {level!r}.")
    return float(level)


def _fit_fusion(fusion: Any, X: Any, y: np.ndarray, weight: Any, groups: Any) -> tuple[Any, bool]:
    """Fit a clone, with groups if it takes them. Return it, and whether it was fitted with the weights, if any."""
    if has_fit_parameter(fusion, "groups"):
        return clone(fusion).fit(X, y, sample_weight=weight, groups=groups), True
    if weight is not None:  # rows of weight 0 are dropped, because the estimator may take no weights
        X, y, weight = take_rows(X, weight > 0), y[weight > 0], weight[weight > 0]
    return fit_estimator(fusion, X, y, weight)
