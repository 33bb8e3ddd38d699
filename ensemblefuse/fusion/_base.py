"""What all fusion estimators share: reading blocks, reading y, fitting one member. Floor 3."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, column_or_1d, validate_data

from ensemblefuse.blocks import Blocks, find_blocks, is_raw, read_block
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.table import to_frame

__all__ = ["BaseFusion", "check_estimator_kind", "takes_nan"]


class BaseFusion(BaseEstimator):
    """Reads named blocks out of a table of columns."""

    def _read(self, X: Any, *, reset: bool, allow_partial: frozenset[str] | None = None) -> Blocks:
        """The blocks of X; with ``reset=True`` it also learns what they are.

        ``allow_partial`` names the blocks that may hold NaN beside numbers; None allows it to all of them.
        """
        if hasattr(X, "columns") and not isinstance(X, pd.DataFrame):
            X = to_frame(X)
        if isinstance(X, pd.DataFrame) and X.shape[1] and X.shape[0]:
            return self._read_frame(to_frame(X), reset, allow_partial)
        array = validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", ensure_min_samples=1
        )
        if reset:
            self.blocks_ = find_blocks(range(array.shape[1]), self.blocks)
            self.raw_blocks_: list[str] = []
        labels = list(range(len(array)))
        parts = {name: array[:, columns] for name, columns in self.blocks_.items()}
        return self._read_parts(parts, labels, allow_partial)

    def _read_frame(self, frame: pd.DataFrame, reset: bool, allow_partial: frozenset[str] | None) -> Blocks:
        validate_data(self, frame, reset=reset, skip_check_array=True)
        if reset:
            self.blocks_ = find_blocks(frame.columns, self.blocks)
        parts = {name: frame.iloc[:, columns] for name, columns in self.blocks_.items()}
        if reset:
            self.raw_blocks_ = [name for name, part in parts.items() if is_raw(part)]
        return self._read_parts(parts, frame.index.tolist(), allow_partial)

    def _read_parts(self, parts: dict[str, Any], labels: list, allow_partial: frozenset[str] | None) -> Blocks:
        data, present = {}, []
        for name, part in parts.items():
            partial = allow_partial is None or name in allow_partial
            raw = name in self.raw_blocks_
            data[name], there = read_block(name, part, labels, raw=raw, allow_partial=partial)
            present.append(there)
        return Blocks(data, np.array(present), labels)

    def _read_weight(self, sample_weight: Any, blocks: Blocks) -> np.ndarray | None:
        if sample_weight is None:
            return None
        weight = _check_sample_weight(sample_weight, np.empty((len(blocks), 1)), ensure_non_negative=True)
        if not weight.sum() > 0:
            raise ValueError("sample_weight must not be 0 in every row.")
        return weight

    def _refuse_raw(self, why: str) -> None:
        if self.raw_blocks_:
            raise ValueError(
                f"{type(self).__name__} {why}, but the blocks {self.raw_blocks_} hold raw cells. Encode them first, or "
                "use decision-level fusion with an estimator of their own."
            )

    def _require_blocks(self, given: dict[str, Any], what: str) -> None:
        unknown = sorted(set(given) - set(self.blocks_), key=str)
        if unknown:
            raise ValueError(f"{what} names unknown blocks {unknown}; X has the blocks {list(self.blocks_)}.")


def read_labels(fusion: Any, y: Any, n_samples: int) -> np.ndarray:
    """Learn ``classes_`` and return the labels as codes 0 to n_classes - 1."""
    if y is None:
        raise ValueError(f"{type(fusion).__name__} requires y to be passed, but the target y is None.")
    check_classification_targets(y)
    kind = type_of_target(y, input_name="y")
    if kind not in ("binary", "multiclass"):
        raise ValueError(f"{type(fusion).__name__} takes one label a row; got a target of type {kind!r}.")
    y = column_or_1d(y, warn=True)
    check_consistent_length(np.empty(n_samples), y)
    fusion.classes_, codes = np.unique(y, return_inverse=True)
    if len(fusion.classes_) < 2:
        raise ValueError(
            f"{type(fusion).__name__} needs samples of at least 2 classes; y holds one class: "
            f"{fusion.classes_.tolist()[0]!r}."
        )
    return codes


def read_numbers(fusion: Any, y: Any, n_samples: int) -> np.ndarray:
    """The target of a regression."""
    if y is None:
        raise ValueError(f"{type(fusion).__name__} requires y to be passed, but the target y is None.")
    if getattr(np.asarray(y), "ndim", 1) == 2 and np.asarray(y).shape[1] > 1:
        raise ValueError(f"{type(fusion).__name__} predicts one number a row; y has shape {np.asarray(y).shape}.")
    y = column_or_1d(y, warn=True, dtype=np.float64)
    check_consistent_length(np.empty(n_samples), y)
    if not np.isfinite(y).all():
        raise ValueError(f"Input y contains NaN or infinity in {int((~np.isfinite(y)).sum())} rows.")
    return y


def takes_nan(estimator: Any) -> bool:
    """Whether an estimator says that it takes NaN itself."""
    try:
        return bool(get_tags(estimator).input_tags.allow_nan)
    except (AttributeError, TypeError):
        return False


def check_estimator_kind(fusion: Any, name: str, estimator: Any, *, classify: bool) -> None:
    """Refuse what is no estimator, or one of the other kind."""
    if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise TypeError(
            f"{type(fusion).__name__}: the estimator of {name!r} must be an estimator object such as "
            f"{'LogisticRegression()' if classify else 'Ridge()'}; got {estimator!r}."
        )
    wrong = is_regressor(estimator) if classify else is_classifier(estimator)
    if wrong:
        raise ValueError(
            f"{type(fusion).__name__}: the estimator of {name!r} must be a "
            f"{'classifier' if classify else 'regressor'}; got {type(estimator).__name__}."
        )
    last = estimator
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    if getattr(last, "decision_function_shape", None) == "ovo":
        raise ValueError(
            f"{type(fusion).__name__}: the estimator of {name!r} has decision_function_shape='ovo', which gives one "
            "value a pair of classes; use 'ovr', or OneVsRestClassifier(SVC())."
        )


def warn_unweighted(fusion: Any, members: list[str]) -> None:
    """One warning for all members that cannot be weighted."""
    if members:
        warnings.warn(
            f"{type(fusion).__name__}: the estimators of {members} take no sample_weight and are fitted without it.",
            UserWarning,
            stacklevel=3,
        )


def warn_new_patterns(fusion: Any, blocks: Blocks) -> None:
    """Warn once if rows lack some modalities, and no row in fit lacked the same."""
    gaps = {tuple(p) for p in blocks.present.T.tolist() if any(p) and not all(p)}  # no block: the prior; all: no gap
    new = sorted(gaps - {tuple(p) for p in fusion.patterns_.tolist()})
    if new:
        names = blocks.names
        missing = [[name for name, there in zip(names, p, strict=True) if not there] for p in new[:3]]
        warnings.warn(
            f"{type(fusion).__name__} was fitted on no row without {' or without '.join(map(str, missing))}; it fills "
            "the gap with the mean and may be badly wrong. Decision-level fusion leaves the missing part out instead.",
            MissingModalityWarning,
            stacklevel=3,
        )


def final_has(method: str):
    """`available_if` the estimator of a fusion has `method`."""

    def check(self):
        estimator = getattr(self, "estimator_", None) or self._estimator()
        getattr(estimator, method)
        return True

    return available_if(check)
