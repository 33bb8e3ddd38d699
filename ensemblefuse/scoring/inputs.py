"""Checks of inputs, made before any model is fitted or predicts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.multiclass import type_of_target

from ensemblefuse.exceptions import short_repr

__all__ = [
    "finite_numbers",
    "kind_of_models",
    "name_rows",
    "one_a_row",
    "plain_labels",
    "read_groups",
    "read_weight",
    "read_y",
    "warn_of_class_groups",
]


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
    y = one_a_row(y, n_rows=n_rows)
    if not classify:
        return finite_numbers(y)
    y = plain_labels(y)
    if type_of_target(y) not in ("binary", "multiclass"):
        raise ValueError(
            f"the models are classifiers, but y holds continuous numbers ({len(np.unique(y))} values in {len(y)} rows, "
            f"such as {y.tolist()[0]!r}); use regressors, or turn the numbers into classes first."
        )
    if len(np.unique(y)) < 2:
        raise ValueError(f"y holds only one class, {y.tolist()[0]!r}; a classifier needs at least 2.")
    return y


def one_a_row(y: Any, what: str = "y", n_rows: int | None = None) -> np.ndarray:
    """Return `y` as an array of shape (n_rows,); raise an error, with `what` as its name, if values are missing."""
    # dtype=object: in a list with texts, numpy would otherwise turn numbers and NaN into texts too.
    y = np.array(y, dtype=object) if isinstance(y, (list, tuple)) else np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"{what} must hold one value per row; got shape {y.shape}.")
    if n_rows is not None and len(y) != n_rows:
        raise ValueError(f"{what} has {len(y)} values for the {n_rows} rows of X.")
    lost = np.asarray(pd.isna(y))
    if lost.any():
        raise ValueError(f"{what} is missing in {name_rows(lost)}; leave these rows out.")
    return y


def plain_labels(y: np.ndarray, what: str = "y") -> np.ndarray:
    """Return labels as an array of texts, numbers or booleans; raise an error if they cannot be compared.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Without missing values, see `one_a_row`.
    what : str
        The name of the parameter, for messages.

    Raises
    ------
    ValueError
        If a label is an empty text, labels are of several types, or of a type that is none of the above.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.scoring.inputs import plain_labels
    >>> plain_labels(np.array([0, 1, 1], dtype=object))
    array([0, 1, 1])
    """
    if y.dtype.kind not in "OU":
        return y
    labels = [value.item() if isinstance(value, np.generic) else value for value in y.tolist()]
    blank = np.array([isinstance(label, str) and not label.strip() for label in labels], dtype=bool)
    if blank.any():
        raise ValueError(
            f"{what} is missing, an empty text, in {name_rows(blank)}; leave these rows out, or name their class."
        )
    if y.dtype.kind == "U":
        return y
    kinds = np.array([_kind_of_label(label) for label in labels], dtype=object)
    found, counts = np.unique(kinds, return_counts=True)
    rarest = kinds == found[counts.argmin()] if len(found) else kinds
    if len(found) > 1:
        raise ValueError(
            f"{what} has dtype object and mixes {' and '.join(found)}: {found[counts.argmin()]} such as "
            f"{short_repr(y[rarest][0])} in {name_rows(rarest)}. Make them one type, as in {what}.astype(str)."
        )
    plain = np.array(labels)
    if len(found) and (found[0] not in ("texts", "numbers", "booleans") or plain.dtype == object):
        raise ValueError(
            f"{what} has dtype object and holds {found[0]} such as {short_repr(y[0])}; labels are texts, whole numbers "
            f"or booleans, as from {what}.astype(str)."
        )
    return plain


def _kind_of_label(label: Any) -> str:
    if isinstance(label, str):
        return "texts"
    if isinstance(label, bool):
        return "booleans"
    return "numbers" if isinstance(label, (int, float)) else type(label).__name__


def finite_numbers(y: np.ndarray, what: str = "y") -> np.ndarray:
    """Return `y` as an array of floats; raise an error if a value is infinite or not a number."""
    strange = np.array([not isinstance(value, (Real, Decimal)) for value in y.tolist()], dtype=bool)
    if strange.any():
        raise ValueError(
            f"{what} must hold numbers for a regressor; it holds {short_repr(y[strange].tolist()[0])} in "
            f"{name_rows(strange)}."
        )
    numbers = y.astype(float)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{what} is infinite in {name_rows(~np.isfinite(numbers))}; leave these rows out.")
    return numbers


def name_rows(rows: np.ndarray) -> str:
    """Describe a mask of rows for a message: how many are True, and the positions of the first 5."""
    places = np.flatnonzero(rows)
    return f"{len(places)} of {len(rows)} rows (positions {places[:5].tolist()}{', ...' if len(places) > 5 else ''})"


def read_groups(groups: Any, n_rows: int, rows: str = "rows", classes: Any = None) -> np.ndarray | None:
    """Return the groups of the rows as an array that numpy can sort.

    Parameters
    ----------
    groups : array of shape (n_rows,), optional
    n_rows : int
    rows : str
        What the rows are, for messages.
    classes : array of shape (n_rows,), optional
        The class of each row, if the groups are the units of a bootstrap.

    Raises
    ------
    ValueError
        If there is not one value per row, a value is missing, or values are of several types.

    Warns
    -----
    UserWarning
        If the groups coincide with the classes.
    """
    values = _read_values(groups, "groups", n_rows, rows)
    if values is None:
        return None
    if values.dtype == object:
        plain = [value.item() if isinstance(value, np.generic) else value for value in values.tolist()]
        kinds = sorted({type(value).__name__ for value in plain})
        if len(kinds) > 1:
            raise ValueError(f"groups mixes values of the types {kinds}; make them one type, as in groups.astype(str).")
        values = np.array(plain)
    if classes is not None and len(classes) == n_rows:
        warn_of_class_groups(values, classes)
    return values


def warn_of_class_groups(groups: np.ndarray, classes: np.ndarray) -> None:
    """Warn if each class lies in one group, of two groups or more: a bootstrap then draws whole classes."""
    units, codes = (np.unique(values, return_inverse=True)[1].reshape(-1) for values in (groups, classes))
    if not len(units) or units.max() == 0:
        return
    if len(np.unique(np.column_stack([codes, units]), axis=0)) == codes.max() + 1:
        warnings.warn(
            f"groups coincide with classes: all rows of each class are in one group ({units.max() + 1} groups), so the "
            "intervals draw whole classes and do not show how the score varies. Pass groups that are finer than the "
            "classes, or no groups if the rows are independent.",
            UserWarning,
            stacklevel=5,
        )


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
        raise ValueError("sample_weight is zero in every row.")
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
