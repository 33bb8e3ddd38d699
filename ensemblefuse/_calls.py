"""What the methods of all estimators do around their own work: arrays inside, and an answer for a table of no rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context, get_config
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.table import to_frame

__all__ = ["answers_rows", "count_rows", "plain_inside"]


def plain_inside(method: Callable) -> Callable:
    """Decorate a function: transformers inside it give arrays, whatever scikit-learn's ``transform_output`` is.

    The setting is the user's wish for what transformers give to the user. Between the steps inside a model, frames
    would be read as arrays, or fail. Under ``TransformerMixin`` the result is still wrapped as the user wishes.
    """

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _arrays():
            return method(*args, **kwargs)

    return call


def answers_rows(method: Callable) -> Callable:
    """Decorate a method ``(self, X, ...)`` that answers for each row of X. It also does what `plain_inside` does.

    A table without rows gets an answer without rows. Its shape and dtype are those of the answer for one row, because
    the method is asked for one made-up row: 0 in blocks of numbers, nothing in blocks of raw cells. A generator of
    answers becomes an iterator over them, made at once.
    """

    @wraps(method)
    def call(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        with _arrays():
            if count_rows(X) != 0:
                return _at_once(method(self, X, *args, **kwargs))
            check_is_fitted(self)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MissingModalityWarning)
                return _none_of(_at_once(method(self, _made_up_row(self, X), *args, **kwargs)))

    return call


def _arrays() -> Any:
    is_plain = get_config()["transform_output"] == "default"
    return nullcontext() if is_plain else config_context(transform_output="default")


def count_rows(X: Any) -> int | None:
    """Return the number of rows of a table or array; None for anything else."""
    if isinstance(X, Mapping) and not hasattr(X, "shape"):
        column = next(iter(X.values()), ())
        return len(column) if hasattr(column, "__len__") else None
    shape = getattr(X, "shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    return len(X) if isinstance(X, (list, tuple)) else None


def _at_once(answer: Any) -> Any:
    return iter(list(answer)) if isinstance(answer, Iterator) else answer


def _none_of(answer: Any) -> Any:
    if isinstance(answer, Iterator):
        return iter([part[:0] for part in answer])
    if isinstance(answer, dict):
        return {name: part[:0] for name, part in answer.items()}
    return answer[:0]


def _made_up_row(estimator: Any, X: Any) -> Any:
    if isinstance(X, (Mapping, pd.Series)) or (hasattr(X, "columns") and not isinstance(X, pd.DataFrame)):
        X = to_frame(X)
    if not isinstance(X, pd.DataFrame):
        X = np.asarray(X)
        return np.zeros((1, *X.shape[1:]), dtype=X.dtype if X.dtype.kind == "f" else np.float64)
    dtype = np.float32 if set(X.dtypes.tolist()) == {np.dtype(np.float32)} else np.float64
    row = pd.DataFrame(np.zeros((1, X.shape[1]), dtype=dtype), columns=X.columns)
    raw = _raw_positions(estimator)
    cells = {name: pd.Series([None], dtype=object) for i, name in enumerate(X.columns) if i in raw}
    return row.assign(**cells) if cells else row


def _raw_positions(estimator: Any) -> set[int]:
    """Return the positions of the columns that hold raw cells, for the fusion itself or for the one that it holds."""
    while hasattr(estimator, "fusion_") and not (
        getattr(estimator, "raw_blocks_", None) or getattr(estimator, "word_columns_", None)
    ):
        estimator = estimator.fusion_
    blocks = getattr(estimator, "blocks_", {})
    words = getattr(estimator, "word_columns_", {})
    return {*words.values(), *(int(i) for name in getattr(estimator, "raw_blocks_", ()) for i in blocks[name])}
