"""Decorators for old names: they warn until they are removed. Imports nothing from the library.

For a name that has no successor, use `sklearn.utils.deprecated`.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from sklearn.utils import deprecated

__all__ = ["read_renamed", "renamed", "renamed_parameter"]


def renamed(new: str, *, removal: str) -> Callable[[Any], Any]:
    """Decorate a function or class that keeps its old name until the version `removal`.

    Examples
    --------
    >>> from ensemblefuse._deprecation import renamed
    >>> @renamed("mean_score", removal="0.4")
    ... def average_score(scores): ...
    >>> with warnings.catch_warnings(action="error"):
    ...     average_score([1, 3])
    Traceback (most recent call last):
    FutureWarning: Function average_score is deprecated; use mean_score instead. ensemblefuse 0.4 removes it.
    """
    return deprecated(f"use {new} instead. ensemblefuse {removal} removes it.")


def renamed_parameter(
    old: str, new: str, *, removal: str, convert: Callable[[Any], Any] | None = None
) -> Callable[[Any], Any]:
    """Decorate a function or method whose parameter has a new name. For `__init__`, use `read_renamed`.

    `convert` turns the old value into the new one, if they differ.

    Examples
    --------
    >>> from ensemblefuse._deprecation import renamed_parameter
    >>> @renamed_parameter("rounds", "n_rounds", removal="0.4")
    ... def search(n_rounds=10): ...
    >>> with warnings.catch_warnings(action="error"):
    ...     search(rounds=3)
    Traceback (most recent call last):
    FutureWarning: Parameter rounds of search is deprecated; use n_rounds instead. ensemblefuse 0.4 removes it.
    """

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{function.__name__} takes {new} or its old name {old}, not both.")
                _warn(f"Parameter {old} of {function.__name__}", new, removal)
                value = kwargs.pop(old)
                kwargs[new] = value if convert is None or value is None else convert(value)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def read_renamed(
    estimator: Any, old: str, new: str, *, removal: str, convert: Callable[[Any], Any] | None = None
) -> Any:
    """Read a renamed parameter of `__init__`. The user may have set it by either name, not by both (ValueError).

    `convert` turns the old value into the new one, if they differ.

    `__init__` takes and stores both names: the old one comes last, with the default ``"deprecated"``. `fit` calls this
    function instead of reading an attribute. So `clone`, `set_params` and searches work with either name.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> from ensemblefuse._deprecation import read_renamed
    >>> class Mean(BaseEstimator):
    ...     def __init__(self, n_rounds=10, rounds="deprecated"):
    ...         self.n_rounds, self.rounds = n_rounds, rounds
    ...
    ...     def fit(self, X, y=None):
    ...         self.done_ = read_renamed(self, "rounds", "n_rounds", removal="0.4")
    ...         return self
    >>> Mean(n_rounds=3).fit([[1]]).done_
    3
    >>> with warnings.catch_warnings(action="error"):
    ...     Mean(rounds=3).fit([[1]])
    Traceback (most recent call last):
    FutureWarning: Parameter rounds of Mean is deprecated; use n_rounds instead. ensemblefuse 0.4 removes it.
    """
    value = getattr(estimator, old)
    if isinstance(value, str) and value == "deprecated":
        return getattr(estimator, new)
    name = type(estimator).__name__
    default = inspect.signature(type(estimator)).parameters[new].default
    if repr(getattr(estimator, new)) != repr(default):
        raise ValueError(f"{name} takes {new} or its old name {old}, not both.")
    _warn(f"Parameter {old} of {name}", new, removal)
    return value if convert is None else convert(value)


def _warn(what: str, new: str, removal: str) -> None:
    warnings.warn(f"{what} is deprecated; use {new} instead. ensemblefuse {removal} removes it.", FutureWarning, 3)
