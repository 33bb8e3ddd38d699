"""The common part of conformal classifiers and regressors: scores, quantiles, and the quantile of each row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import _num_samples, check_is_fitted, has_fit_parameter, validate_data

from ensemblefuse._calls import answers_rows
from ensemblefuse._deprecation import read_renamed
from ensemblefuse._fitting import fit_clone, fit_estimator, refuses_weights
from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning, counted
from ensemblefuse.fusion._decision import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion.base import (
    BaseFusion,
    check_estimator_kind,
    takes_nan,
    warn_unweighted,
)
from ensemblefuse.fusion.members import take_rows
from ensemblefuse.fusion.patterns import hidden_predictions
from ensemblefuse.fusion.splits import lasting, make_splits
from ensemblefuse.table import to_frame

__all__ = ["BaseConformalFusion", "conformal_quantile", "label_scores"]

# A pattern of missing blocks has a quantile of its own if about this number of its rows lie beyond the quantile.
_ROWS_BEYOND = 10
# Scores with blocks hidden, their weights, and whether new rows are predicted alike; by fusion and combination. A
# cache, not state: they take as long as pooling all rows of fit.
_Hidden = tuple[np.ndarray, np.ndarray, bool]
_hidden_scores: WeakKeyDictionary[Any, dict[tuple[bool, ...], _Hidden]] = WeakKeyDictionary()
_MOST_REMEMBERED = 64
# alpha, the share of rows that may be missed, is now confidence_level. The version that no longer takes alpha:
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
        level = _checked_level(read_renamed(self, *_RENAMED, removal=ALPHA_REMOVAL, convert=complement, stacklevel=5))
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
        # These choices are not repeated for another level in predict_set, so that sets grow with the level.
        enough = _ROWS_BEYOND * (1 - 1e-12) / (1 - level)
        self.own_quantile_ = (counts >= enough) & bool(self.per_pattern)
        self._shares_enough = bool(counts[~self.own_quantile_].sum() >= enough)
        self._level = level
        self.quantile_, self.pattern_quantiles_ = self._learn_quantiles(level)

    def check_target(
        self,
        y: Any,
        n_samples: int,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        blocks: Sequence[str] | None = None,
    ) -> None:
        """Raise the errors of `fit` that need no table, also those of the fusion; see `BaseFusion.check_target`."""
        super().check_target(y, n_samples, sample_weight, groups, blocks=blocks)
        fusion = self._fusion()
        if isinstance(fusion, BaseFusion):
            fusion.check_target(y, n_samples, sample_weight, groups, blocks=blocks)

    def _check_settings(self) -> None:
        _checked_level(read_renamed(self, *_RENAMED, removal=ALPHA_REMOVAL, convert=complement, stacklevel=5))

    def _wants_words(self, name: str) -> bool:
        fusion = self._fusion()
        return isinstance(fusion, BaseFusion) and fusion._wants_words(name)

    def _needs_splits(self, y: np.ndarray) -> bool:
        return False  # the fusion makes them, or its folds are made after it is fitted

    def _fusion(self) -> Any:
        if self.fusion is None:
            fusion = (DecisionFusionClassifier if self._classify else DecisionFusionRegressor)(cv=lasting(self.cv))
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

    def _warn_one_block(self, n_columns: int) -> None:
        """Do nothing: an estimator of one table has nothing to fuse, and a fusion inside has warned."""

    def _out_of_fold(self, fusion: Any, X: Any, y: np.ndarray, weight: Any, groups: Any) -> np.ndarray:
        """Return out-of-fold predictions of the fusion: its own if it has them. NaN in rows without a prediction."""
        own = getattr(self.fusion_, "oof_proba_" if self._classify else "oof_fused_", None)
        # A fusion that came fitted has predictions for the rows of its own fit, which may be others.
        if own is not None and not isinstance(self.fusion_, FrozenEstimator):
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

    def _learn_quantiles(self, level: float, wanted: np.ndarray | None = None) -> tuple[float, np.ndarray]:
        """Return the quantile of all rows, and the quantile of each pattern, or of the `wanted` ones (NaN elsewhere).

        A pattern has its own quantile if it had enough rows for the level in fit. Each of the others has the largest of
        two or three: the quantile that they share; the one of rows with their other blocks hidden; and, if such rows
        are not predicted as those of the pattern, the one of its own few rows. Without `per_pattern`, all have the
        quantile of all rows.
        """
        scores, weights, pattern = self.calibration_scores_, self.calibration_weights_, self.calibration_patterns_
        overall = conformal_quantile(scores, level, weights)
        if not self.per_pattern:
            return overall, np.full(len(self.patterns_), overall)
        shared = self._shared_quantile(level, overall)
        quantiles = np.full(len(self.patterns_), np.nan)
        for p in range(len(self.patterns_)) if wanted is None else np.flatnonzero(wanted):
            own = conformal_quantile(scores[pattern == p], level, weights[pattern == p])
            if self.own_quantile_[p]:
                quantiles[p] = own
                continue
            hidden, is_alike = self._hidden_quantile(self.patterns_[p], level)
            quantiles[p] = max(shared, hidden) if is_alike else max(shared, own, hidden)
        return overall, quantiles

    def _shared_quantile(self, level: float, overall: float) -> float:
        """Return the quantile of all rows whose pattern has none of its own.

        If these rows are too few for the level of fit, it is not smaller than the quantile of all rows.
        """
        rest = ~self.own_quantile_[self.calibration_patterns_]
        scores = self.calibration_scores_[rest]
        shared = conformal_quantile(scores, level, self.calibration_weights_[rest])
        if getattr(self, "_shares_enough", False):
            return shared
        return max(overall, shared if np.isfinite(shared) else scores.max(initial=overall))

    def _hidden_quantile(self, held: np.ndarray, level: float) -> tuple[float, bool]:
        """Return a quantile for rows that hold only these blocks, from all rows of fit that hold at least these.

        Their other blocks are hidden from the fusion. Only decision-level fusion can do this, because it has a ledger
        of its members.

        Returns
        -------
        quantile : float
            Minus infinity if the fusion has no ledger.
        is_alike : bool
            Whether the fusion predicts new rows with these blocks in the same way.
        """
        fusion = getattr(self.fusion_, "best_estimator_", self.fusion_)  # a search predicts with the best one
        if not isinstance(fusion, (DecisionFusionClassifier, DecisionFusionRegressor)):
            return -np.inf, False
        known = _hidden_scores.setdefault(fusion, {})
        key = tuple(held.tolist())
        found = known.get(key)  # another thread may clear what is known
        if found is None:
            if len(known) >= _MOST_REMEMBERED:
                known.clear()
            found = known[key] = self._score_without_the_rest(fusion, held)
        scores, weights, is_alike = found
        return conformal_quantile(scores, level, weights), is_alike

    def _score_without_the_rest(self, fusion: Any, held: np.ndarray) -> _Hidden:
        """Return out-of-fold scores and weights of the rows of fit that hold these blocks, as if they held no others.

        The last result is `is_alike`, as in `_hidden_quantile`.
        """
        names = {name for name, there in zip(fusion.blocks_, held, strict=True) if there}
        predicted, rows, is_alike = hidden_predictions(fusion, names)
        y, weight = fusion._oof["y"], fusion._oof["sample_weight"]
        if weight is not None:
            rows = rows[weight[rows] > 0]
        predicted = self._shift(predicted)
        scores = self._true_scores(predicted, self.classes_[y] if self._classify else y)[rows]
        return scores, np.ones(len(rows)) if weight is None else weight[rows], is_alike

    def _row_quantiles(self, X: Any, level: float | None) -> np.ndarray:
        """Return the quantile for each row of X."""
        check_is_fitted(self, "quantile_")
        blocks = self._blocks(X, reset=False)
        rows_of = [(pattern == blocks.present.T).all(axis=1) for pattern in self.patterns_]
        if level is None:
            level, of_patterns = _level_of(self), self.pattern_quantiles_
        else:
            level = _checked_level(level)
            of_patterns = self._learn_quantiles(level, np.array([rows.any() for rows in rows_of]))[1]
        # A row without any block gives no information, so no value is excluded.
        quantiles = np.full(len(blocks), np.inf)
        known = np.asarray(~blocks.present.any(axis=0))
        for rows, quantile in zip(rows_of, of_patterns, strict=True):
            quantiles[rows] = quantile
            known |= rows
        if not known.all():
            self._fill_unseen(blocks, known, quantiles, level)
        return quantiles

    def _fill_unseen(self, blocks: Blocks, known: np.ndarray, quantiles: np.ndarray, level: float) -> None:
        """Set the quantiles of the rows with combinations that no calibration row held, and warn once."""
        unseen = np.flatnonzero(~known)
        patterns, pattern_of = np.unique(blocks.present.T[unseen], axis=0, return_inverse=True)
        pattern_of = pattern_of.reshape(-1)  # numpy 2.0 gave it a second axis
        hidden = [self._hidden_quantile(pattern, level) for pattern in patterns]
        of_patterns = np.array([quantile if is_alike else np.inf for quantile, is_alike in hidden])
        quantiles[unseen] = of_patterns[pattern_of]
        self._warn_unseen(blocks, unseen, np.isfinite(quantiles[unseen]))

    def is_calibrated(self, X: Any) -> np.ndarray:
        """Return whether a calibration row held the same combination of blocks.

        Other rows get a quantile that was measured on rows of `fit` with some blocks hidden, or no value is excluded.

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

    def _warn_unseen(self, blocks: Blocks, unseen: np.ndarray, hidden: np.ndarray) -> None:
        first = int(unseen[0])
        held = [name for name, there in zip(blocks.names, blocks.present[:, first], strict=True) if there]
        whole = "sets of all classes" if self._classify else "infinite intervals"
        ways = [
            f"{int(hidden.sum())} of them have a quantile from rows of fit with the other blocks hidden, so their "
            "coverage holds if blocks are missing at random",
            f"{int((~hidden).sum())} of them get {whole}, because nothing is known of such rows",
        ]
        warnings.warn(
            f"{type(self).__name__}: {counted(len(unseen), 'row', 'hold')} a combination of blocks that no calibration "
            f"row held, such as row {blocks.labels[first]!r} with {held}. "
            + "; ".join(way for way, some in zip(ways, (hidden.any(), not hidden.all()), strict=True) if some)
            + ".",
            MissingModalityWarning,
            stacklevel=7,  # the caller of predict_set, which two decorators wrap
        )

    @answers_rows
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


def _level_of(conformal: Any) -> float:
    """Return the level of fit. Files of format 3 and older do not have it: there it is the parameter."""
    if hasattr(conformal, "_level"):
        return conformal._level
    return conformal.confidence_level if isinstance(conformal.alpha, str) else complement(conformal.alpha)


def _checked_level(level: Any) -> float:
    if not isinstance(level, (int, float, np.number)) or not 0 < level < 1:
        raise ValueError(f"confidence_level must be between 0 and 1; got {level!r}.")
    return float(level)


def _fit_fusion(fusion: Any, X: Any, y: np.ndarray, weight: Any, groups: Any) -> tuple[Any, bool]:
    """Fit a clone, with groups if it takes them. Return it, and whether it was fitted with the weights, if any."""
    if has_fit_parameter(fusion, "groups"):
        weight = None if refuses_weights(fusion) else weight
        return fit_clone(fusion, X, y, sample_weight=weight, groups=groups), True
    if weight is not None:  # rows of weight 0 are dropped, because the estimator may take no weights
        X, y, weight = take_rows(X, weight > 0), y[weight > 0], weight[weight > 0]
    return fit_estimator(fusion, X, y, weight)
