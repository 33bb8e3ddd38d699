"""Checks of inputs, made before any model is fitted or predicts."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.multiclass import type_of_target

__all__ = ["finite_numbers", "kind_of_models", "name_rows", "one_a_row", "read_groups", "read_weight", "read_y"]


def kind_of_models(models: Any, what: str) -> bool:
    """Return True if all models are classifiers, False if all are regressors.

    Parameters
    ----------
    models : dict of str to estimator
    what : str
        The name of the parameter, for messages.

    Raises
    ------
    TypeError
        If `models` is not a dict, or holds something that is neither a classifier nor a regressor.
    ValueError
        If it is empty, or holds both kinds.
    """
    if not isinstance(models, Mapping):
        raise TypeError(
            f"{what} must be a dict of names and estimators, such as {{'hybrid': model}}; got {type(models).__name__}."
        )
    if not models:
        raise ValueError(f"{what} is an empty dict; name at least one estimator, as in {{'hybrid': model}}.")
    kinds = {}
    for name, model in models.items():
        kinds[name] = (is_classifier(model), is_regressor(model)) if hasattr(model, "fit") else (False, False)
        if not any(kinds[name]):
            raise TypeError(f"{what}[{name!r}] must be a classifier or a regressor; got {model!r}.")
    first = next(iter(kinds))
    other = next((name for name, kind in kinds.items() if kind != kinds[first]), None)
    if other is not None:
        raise ValueError(
            f"{what} must be all classifiers or all regressors; {first!r} is a {_kind(kinds[first][0])} and {other!r} "
            f"a {_kind(kinds[other][0])}."
        )
    return kinds[first][0]


def _kind(classify: bool) -> str:
    return "classifier" if classify else "regressor"


def read_y(y: Any, n_rows: int, *, classify: bool) -> np.ndarray:
    """Return the target as an array of one label per row, or of one number per row in regression.

    Raises
    ------
    ValueError
        If `y` is None, has several columns, missing values or another length than X, or does not fit the kind of model.
    """
    if y is None:
        raise ValueError(f"y is None; pass one {'label' if classify else 'number'} per row.")
    # dtype=object: in a list with texts, numpy would otherwise turn numbers and NaN into texts too.
    y = np.array(y, dtype=object) if isinstance(y, (list, tuple)) else np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"y must hold one {'label' if classify else 'number'} per row; got shape {y.shape}.")
    if len(y) != n_rows:
        raise ValueError(f"y has {len(y)} values for the {n_rows} rows of X.")
    lost = np.flatnonzero(pd.isna(y))
    if len(lost):
        raise ValueError(f"y is missing in {len(lost)} rows, first at position {lost[0]}; leave these rows out.")
    if not classify:
        return _read_numbers(y)
    kinds = sorted({type(label).__name__ for label in y.tolist()})
    if len(kinds) > 1:
        raise ValueError(f"y mixes labels of the types {kinds}; make them one type, as in y.astype(str).")
    y = np.array(y.tolist()) if y.dtype == object else y
    if type_of_target(y) not in ("binary", "multiclass"):
        raise ValueError(
            f"the models are classifiers, but y holds continuous numbers ({len(np.unique(y))} values in {len(y)} rows, "
            f"such as {y.tolist()[0]!r}); use regressors, or turn the numbers into classes first."
        )
    if len(np.unique(y)) < 2:
        raise ValueError(f"y holds only one class, {y.tolist()[0]!r}; a classifier needs at least 2.")
    return y


def _read_numbers(y: np.ndarray) -> np.ndarray:
    strange = [value for value in y.tolist() if not isinstance(value, Real)]
    if strange:
        kind = type(strange[0]).__name__
        raise ValueError(
            f"the models are regressors, but y holds {kind} such as {strange[0]!r}; use classifiers, or pass numbers."
        )
    numbers = y.astype(float)
    if not np.isfinite(numbers).all():
        raise ValueError(f"y is infinite in {int((~np.isfinite(numbers)).sum())} rows; leave these rows out.")
    return numbers


def one_a_row(y: Any, what: str = "y") -> np.ndarray:
    """Return `y` as an array of shape (n_rows,); raise an error, with `what` as its name, if values are missing."""
    # dtype=object: in a list with texts, numpy would otherwise turn numbers and NaN into texts too.
    y = np.array(y, dtype=object) if isinstance(y, (list, tuple)) else np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"{what} must hold one value per row; got shape {y.shape}.")
    lost = np.asarray(pd.isna(y))
    if lost.any():
        raise ValueError(f"{what} is missing in {name_rows(lost)}; leave these rows out.")
    return y


def finite_numbers(y: np.ndarray, what: str = "y") -> np.ndarray:
    """Return `y` as an array of floats; raise an error if a value is infinite or not a number."""
    strange = np.array([not isinstance(value, Real) for value in y.tolist()], dtype=bool)
    if strange.any():
        raise ValueError(
            f"{what} must hold numbers for a regressor; it holds {y[strange][0]!r} in {name_rows(strange)}."
        )
    numbers = y.astype(float)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{what} is infinite in {name_rows(~np.isfinite(numbers))}; leave these rows out.")
    return numbers


def name_rows(rows: np.ndarray) -> str:
    """Describe a mask of rows for a message: how many are True, and the positions of the first 5."""
    places = np.flatnonzero(rows)
    return f"{len(places)} of {len(rows)} rows (positions {places[:5].tolist()}{', ...' if len(places) > 5 else ''})"


def read_groups(groups: Any, n_rows: int, rows: str = "rows") -> np.ndarray | None:
    """Return the groups of the rows as an array that numpy can sort.

    Parameters
    ----------
    groups : array of shape (n_rows,), optional
    n_rows : int
    rows : str
        What the rows are, for messages.

    Raises
    ------
    ValueError
        If there is not one value per row, a value is missing, or values are of several types.
    """
    values = _read_values(groups, "groups", n_rows, rows)
    if values is None or values.dtype != object:
        return values
    kinds = sorted({type(value).__name__ for value in values.tolist()})
    if len(kinds) > 1:
        raise ValueError(f"groups mixes values of the types {kinds}; make them one type, as in groups.astype(str).")
    return np.array(values.tolist())


def read_weight(sample_weight: Any, n_rows: int) -> np.ndarray | None:
    """Return the weights of the rows, dtype float.

    Raises
    ------
    ValueError
        If there is not one value per row, a value is not a finite number of at least 0, or all are 0.
    """
    values = _read_values(sample_weight, "sample_weight", n_rows, "rows")
    if values is None:
        return None
    numbers = [float(value) if isinstance(value, Real) else np.nan for value in values.tolist()]
    wrong = np.array([not 0 <= value < np.inf for value in numbers])
    if wrong.any():
        raise ValueError(
            f"sample_weight must hold finite numbers of at least 0; it holds {values[wrong].tolist()[0]!r} in "
            f"{name_rows(wrong)}."
        )
    weight = values.astype(float)
    if not weight.any():
        raise ValueError("sample_weight is 0 in every row.")
    return weight


def _read_values(values: Any, what: str, n_rows: int, rows: str) -> np.ndarray | None:
    if values is None:
        return None
    # dtype=object: in a list with texts, numpy would otherwise turn a missing value into a text.
    values = np.array(values, dtype=object) if isinstance(values, (list, tuple)) else np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"{what} must hold one value for each of the {n_rows} {rows}; got shape {values.shape}.")
    if len(values) != n_rows:
        raise ValueError(f"{what} has {len(values)} values for the {n_rows} {rows}.")
    lost = np.asarray(pd.isna(values))
    if lost.any():
        raise ValueError(f"{what} is missing in {name_rows(lost)}; give each row a value, or leave these rows out.")
    return values
