"""The base class of all fusion estimators, and functions that check labels, numbers and estimators."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from functools import partial as partial_of
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from ensemblefuse._fitting import is_fitted_before
from ensemblefuse.blocks import (
    Blocks,
    check_complete,
    find_blocks,
    raw_columns,
    read_block,
    read_words,
    words_apart,
)
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion._diagram import fusion_diagram
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.fusion.targets import TargetReader, read_labels, read_numbers
from ensemblefuse.table import to_frame

__all__ = ["BaseFusion", "check_estimator_kind", "predicts_several", "takes_nan"]

_SHOWN = 5  # names that a message shows
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

# Column names already found equal to those of fit. A cache, not state: comparing 2 000 names takes longer than
# predicting a row.
_known_names: WeakKeyDictionary[Any, tuple[np.ndarray, pd.Index]] = WeakKeyDictionary()


class BaseFusion(TargetReader, BaseEstimator):
    """Base class of fusion estimators. It reads named blocks from a table of columns.

    A subclass has a parameter `blocks`, and sets the class attribute ``_classify`` (True for a classifier, False for a
    regressor). It defines `fit` and `predict`. These are the steps of `fit`, with methods of this class:

    - ``_forget()`` deletes the attributes of an earlier fit;
    - ``_read(X, reset=True)`` sets ``blocks_`` and ``raw_blocks_``, and returns `Blocks`: for each block an array of
      shape (n_samples, n_columns), or raw cells; and ``present``, a mask of shape (n_blocks, n_samples). A column
      ``block__words`` of texts beside numbers is set apart, in ``words``: ``word_columns_`` has its position;
    - `read_labels` returns class codes of shape (n_samples,) and sets ``classes_``; `read_numbers` returns numbers of
      shape (n_samples,);
    - ``_read_weight`` and ``_read_groups`` return arrays of shape (n_samples,), or None.

    `predict` reads the new rows with ``_read(X, reset=False)``.

    Decision-level and feature-level fusion also define ``_enter``, ``_predict_oof`` and ``_fit_members``. With these,
    `FusionSearchCV` shares one ledger among its candidates.
    """

    _classify: bool
    # Files of before have no such columns.
    word_columns_: Mapping[str, int] = MappingProxyType({})

    def _sk_visual_block_(self) -> Any:
        """Return the boxes for scikit-learn's HTML diagram."""
        return fusion_diagram(self)

    def check_target(
        self,
        y: Any,
        n_samples: int,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        blocks: Sequence[str] | None = None,
    ) -> None:
        """Raise the errors of `fit` that need no table. A pipeline calls this before it encodes a single cell.

        Nothing of this object changes. Warnings are left to `fit`, which gives them once.

        Parameters
        ----------
        y : array of shape (n_samples,)
        n_samples : int
            Number of rows of the table.
        sample_weight, groups : array of shape (n_samples,), optional
        blocks : sequence of str, optional
            Names of the blocks that the table will have.

        Raises
        ------
        ValueError
            If `y` is missing in a row, has another length or does not fit the kind of model; if `sample_weight` or
            `groups` cannot be used; if a parameter of the fusion is wrong, or names a block that is not in `blocks`.
        TypeError
            If an estimator is none.

        Examples
        --------
        >>> from ensemblefuse import DecisionFusionClassifier
        >>> DecisionFusionClassifier().check_target(["cat", None, "dog", "dog"], 4)
        Traceback (most recent call last):
        ValueError: y is missing in 1 of 4 rows (positions [1]); leave these rows out.
        """
        probe = copy(self)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe._check_settings()
            target = probe._read_target(y, n_samples)  # before the estimators: one that came fitted knows its classes
            if blocks is not None:
                probe.blocks_, probe.raw_blocks_ = dict.fromkeys(blocks, np.empty(0, dtype=int)), []
                probe._check_names_of_blocks()
            probe._row_weights(sample_weight, range(n_samples), target)
            groups = probe._read_groups(groups, n_samples)
            cv = getattr(probe, "cv", None)
            if probe._needs_splits(target) and not hasattr(cv, "__next__"):  # an iterator can be read only once
                make_splits(deepcopy(cv), target, groups, classify=self._classify)

    def _check_settings(self) -> None:
        """Raise an error for a wrong parameter that shows without the blocks."""

    def _check_names_of_blocks(self) -> None:
        """Raise an error for a wrong parameter that shows once ``blocks_`` holds the names, and `y` has been read."""

    def _needs_splits(self, y: np.ndarray) -> bool:
        """Return whether `fit` makes splits by the parameter `cv`."""
        return hasattr(self, "cv")

    def _wants_words(self, name: str) -> bool:
        """Return whether `fit` would read the texts of this block beside its numbers, if the table has them."""
        return False

    def _read_target(self, y: Any, n_samples: int) -> np.ndarray:
        return read_labels(self, y, n_samples) if self._classify else read_numbers(self, y, n_samples)

    def _row_weights(self, sample_weight: Any, blocks: Any, y: np.ndarray) -> np.ndarray | None:
        return self._read_weight(sample_weight, blocks)

    def _read(self, X: Any, *, reset: bool, allow_partial: frozenset[str] | None = None) -> Blocks:
        """Return the blocks of X. With ``reset=True``, first find out which columns form the blocks.

        ``allow_partial`` names the blocks that may hold NaN beside numbers; None allows this for all blocks.
        """
        # A sparse array may also be a dict. It is not converted here: scikit-learn refuses it below.
        if (isinstance(X, Mapping) and not issparse(X)) or (hasattr(X, "columns") and not isinstance(X, pd.DataFrame)):
            X = to_frame(X)
        if isinstance(X, pd.DataFrame) and X.shape[1] and X.shape[0]:
            return self._read_frame(to_frame(X), reset, allow_partial)
        if self.word_columns_ and not reset and not hasattr(X, "columns"):
            raise ValueError(
                f"{type(self).__name__} reads the texts of the blocks {list(self.word_columns_)} beside their numbers, "
                f"and X is a {type(X).__name__} without names of columns. Pass the table as the encoding step gives it."
            )
        if isinstance(X, np.ndarray) and X.dtype == object and any(isinstance(cell, str) for cell in X.flat):
            raise ValueError(
                f"{type(self).__name__}: X is an array that holds texts, without names of columns that tell what they "
                "are. Pass the table as the encoding step gives it; Bagging, AdaBoost and SelfTrainingClassifier turn "
                "it into an array, so use them inside the fusion."
            )
        array = validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", ensure_min_samples=1
        )
        if reset:
            self.blocks_ = find_blocks(range(array.shape[1]), self.blocks)
            self.raw_blocks_: list[str] = []
            self.word_columns_ = {}
            self._warn_one_block(array.shape[1])
        return self._read_array(array, list(range(len(array))), allow_partial)

    def _warn_one_block(self, n_columns: int) -> None:
        """Warn that an array has no names of columns: whoever made it of a table may have hidden the modalities."""
        if self.blocks is None and n_columns > 1:
            warnings.warn(
                f"{type(self).__name__}: X is an array without names of columns, so all {n_columns} columns are one "
                'block. Pass a DataFrame with columns such as "image__0", or the columns of each modality, as in '
                'blocks={"image": slice(0, 3), "text": slice(3, 9)}: Bagging, AdaBoost, SelfTrainingClassifier and '
                "many transformers hand arrays on.",
                MissingModalityWarning,
                stacklevel=5,
            )

    def _read_frame(self, frame: pd.DataFrame, reset: bool, allow_partial: frozenset[str] | None) -> Blocks:
        self._check_names(frame, reset)
        if reset:
            self.blocks_, self.word_columns_ = words_apart(frame, find_blocks(frame.columns, self.blocks))
        labels = frame.index.tolist()
        blocks = self._read_numbers(frame, labels, reset, allow_partial)
        for name, position in self.word_columns_.items():
            present = blocks.present[blocks.names.index(name)]
            blocks.words[name] = read_words(name, frame.iloc[:, position], present, labels)
        return blocks

    def _read_numbers(
        self, frame: pd.DataFrame, labels: list, reset: bool, allow_partial: frozenset[str] | None
    ) -> Blocks:
        n_words = len(self.word_columns_)
        if n_words and min(self.word_columns_.values()) == frame.shape[1] - n_words:
            frame = frame.iloc[:, :-n_words]  # as the encoding step has them: the others keep their positions
        dtypes = frame.dtypes.tolist()
        held = set(dtypes)
        if held in ({_SINGLE}, {_DOUBLE}):
            if reset:
                self.raw_blocks_ = []
            if not self.raw_blocks_:
                return self._read_array(frame.to_numpy(), labels, allow_partial)
        if held == {_SINGLE, _DOUBLE} and len(frame) == 1 and not reset and not self.raw_blocks_:
            return self._read_parts(self._one_row(frame, dtypes), labels, allow_partial)
        parts = {name: frame.iloc[:, columns] for name, columns in self.blocks_.items()}
        if reset:
            self._raw_columns = {name: columns for name, part in parts.items() if (columns := raw_columns(part))}
            self.raw_blocks_ = list(self._raw_columns)
        return self._read_parts(parts, labels, allow_partial)

    def _one_row(self, frame: pd.DataFrame, dtypes: list) -> dict[str, np.ndarray]:
        """Return the blocks of one row by way of double precision, which keeps every number of single precision.

        Taking the columns of each block out of a frame costs more than asking the members of this block.
        """
        row, parts = frame.to_numpy(np.float64), {}
        for name, columns in self.blocks_.items():
            is_single = all(dtypes[i] == _SINGLE for i in columns.tolist())
            parts[name] = row[:, _run(columns)].astype(_SINGLE if is_single else _DOUBLE)
        return parts

    def _check_names(self, frame: pd.DataFrame, reset: bool) -> None:
        """Compare the columns with those of fit, only once for each index object: pandas indexes never change."""
        names = getattr(self, "feature_names_in_", None)
        known = None if reset else _known_names.get(self)
        if known is not None and known[0] is names and known[1].is_(frame.columns):
            return
        validate_data(self, frame, reset=reset, skip_check_array=True)
        names = getattr(self, "feature_names_in_", None)
        if names is not None and isinstance(frame.columns[0], str):  # names that are not str give a warning each time
            _known_names[self] = (names, frame.columns)

    def _read_array(self, array: np.ndarray, labels: list, allow_partial: frozenset[str] | None) -> Blocks:
        """Return the blocks as parts of one array, without a copy if their columns are consecutive."""
        parts = {name: array[:, _run(columns)] for name, columns in self.blocks_.items()}
        blocks = self._read_parts(parts, labels, allow_partial)
        if np.array_equal(np.concatenate(list(self.blocks_.values())), np.arange(array.shape[1])):
            blocks.tables[tuple(blocks.names)] = array
        return blocks

    def _read_parts(self, parts: dict[str, Any], labels: list, allow_partial: frozenset[str] | None) -> Blocks:
        data, present = {}, []
        for name, part in parts.items():
            partial = allow_partial is None or name in allow_partial
            raw = name in self.raw_blocks_
            data[name], there = read_block(
                name, part, labels, raw=raw, allow_partial=partial, column_of=partial_of(self._column, name)
            )
            present.append(there)
        return Blocks(data, np.array(present), labels)

    def _column(self, block: str, position: int) -> Any:
        """Return the name of a column of a block, or its position in X if it has none."""
        in_table = int(self.blocks_[block][position])
        names = getattr(self, "feature_names_in_", None)
        return in_table if names is None else names[in_table]

    def _check_partial(self, blocks: Blocks, allowed: frozenset[str]) -> None:
        """Raise an error for NaN beside numbers in the blocks where this is not allowed."""
        for name, present in zip(blocks.names, blocks.present, strict=True):
            if name not in allowed and name not in self.raw_blocks_:
                check_complete(name, blocks.data[name], present, blocks.labels)

    def _refuse_raw(self, why: str) -> None:
        if self.raw_blocks_:
            raise ValueError(
                f"{type(self).__name__} {why}, but the blocks {self.raw_blocks_} hold raw cells in "
                f"{self._raw_told(self.raw_blocks_)}. Encode them first, or use decision-level fusion with an "
                "estimator for these blocks."
            )

    def _refuse_bare(self, bare: list[str]) -> None:
        """Raise an error for blocks of raw cells that have no estimator, if there are any."""
        if bare:
            raise ValueError(
                f"The blocks {bare} hold raw cells and have no estimator: {self._raw_told(bare)}. Give one that "
                f"accepts raw cells, as in estimators={{{bare[0]!r}: make_pipeline(TfidfVectorizer(), "
                "LogisticRegression())}, or encode them."
            )

    def _raw_told(self, names: list[str]) -> str:
        """Return which columns of blocks hold raw cells; there may be columns of numbers beside them."""
        columns = [column for name in names for column in self._raw_columns[name]]
        more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
        return f"column {columns[0]!r}" if len(columns) == 1 else f"columns {columns[:_SHOWN]}{more}"

    def _require_blocks(self, given: dict[str, Any], what: str) -> None:
        unknown = sorted(set(given) - set(self.blocks_), key=str)
        if unknown:
            raise ValueError(f"{what} names unknown blocks {unknown}; X has the blocks {list(self.blocks_)}.")


def _run(columns: np.ndarray) -> Any:
    """Return positions as a slice if they are consecutive, because a slice copies nothing."""
    run = len(columns) > 0 and np.array_equal(columns, np.arange(columns[0], columns[0] + len(columns)))
    return slice(int(columns[0]), int(columns[0]) + len(columns)) if run else columns


def takes_nan(estimator: Any) -> bool:
    """Return whether an estimator accepts NaN, by its tags.

    A pipeline accepts NaN if an imputer comes before each step that does not accept NaN.
    """
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if "Imputer" in type(step).__name__:
                return True
            if not (step is None or isinstance(step, str) or takes_nan(step)):
                return False
        return True
    try:
        return bool(get_tags(estimator).input_tags.allow_nan)
    except (AttributeError, TypeError):
        return False


def check_estimator_kind(fusion: Any, name: str, estimator: Any, *, classify: bool) -> None:
    """Raise an error for an object that is not an estimator, or not of the right kind."""
    known = hasattr(estimator, "fit") and hasattr(estimator, "get_params") and not isinstance(estimator, type)
    # The kind is also checked, because StackingClassifier and others have no predict method before fit.
    if not known or not (_is_kind(estimator) or hasattr(estimator, "predict") or hasattr(estimator, "predict_proba")):
        raise TypeError(
            f"{type(fusion).__name__}: the estimator of {name!r} must be an estimator object such as "
            f"{'LogisticRegression()' if classify else 'Ridge()'}; got {estimator!r}."
        )
    if predicts_several(estimator) or (is_regressor(estimator) if classify else is_classifier(estimator)):
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
            "value per pair of classes; use 'ovr', or OneVsRestClassifier(SVC())."
        )


def predicts_several(estimator: Any) -> bool:
    """Return whether an estimator is made for several targets, and takes no single one."""
    return isinstance(estimator, BaseEstimator) and not get_tags(estimator).target_tags.single_output


def refuse_fitted(fusion: Any, name: str, estimator: Any, why: str, way_out: str) -> None:
    """Raise an error for an estimator that came fitted, where it has to be fitted."""
    if estimator is not None and is_fitted_before(estimator):
        raise ValueError(
            f"{type(fusion).__name__}: the estimator of {name!r} comes fitted ({type(estimator).__name__}), but {why}. "
            f"Pass it unfitted, or {way_out}."
        )


def _is_kind(estimator: Any) -> bool:
    return is_classifier(estimator) or is_regressor(estimator)


def warn_unweighted(fusion: Any, members: list[str]) -> None:
    """Give one warning for all members that take no weights."""
    if members:
        warnings.warn(
            f"{type(fusion).__name__}: the estimators of {members} take no sample_weight, and are fitted without it.",
            UserWarning,
            stacklevel=4,
        )


_FILLED = "It fills the gap with the mean, and its predictions may be badly wrong"


def warn_new_patterns(fusion: Any, blocks: Blocks, what: str = _FILLED) -> None:
    """Warn once if rows lack some modalities, and no row in fit lacked the same ones; `what` says what happens then."""
    # Rows without any block get the prior, and rows with all blocks have no gap.
    gaps = {tuple(p) for p in blocks.present.T.tolist() if any(p) and not all(p)}
    new = sorted(gaps - {tuple(p) for p in fusion.patterns_.tolist()})
    if new:
        names = blocks.names
        missing = [[name for name, there in zip(names, p, strict=True) if not there] for p in new[:3]]
        warnings.warn(
            f"{type(fusion).__name__} saw no row in fit without {' or without '.join(map(str, missing))}. {what}. "
            "Decision-level fusion leaves the missing part out instead.",
            MissingModalityWarning,
            stacklevel=4,
        )


def final_has(method: str) -> Any:
    """Return a decorator: the method is available if the estimator of the fusion has `method`."""

    def check(self):
        if getattr(self, "missing", None) == "reduced":
            return method == "predict_proba"
        calibrated = method == "predict_proba" and hasattr(self, "temperature_")
        fitted = getattr(self, "estimator_", None)  # an ensemble has a length, and may be empty: `or` does not serve
        return calibrated or hasattr(self._estimator() if fitted is None else fitted, method)

    return available_if(check)
