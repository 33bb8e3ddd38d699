"""Splits of all rows that every member shares, and the mean of what their folds predict."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv

__all__ = ["make_splits", "mean_over_folds"]


def make_splits(cv: Any, y: np.ndarray, groups: Any, *, classify: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits of all rows, made once.

    Parameters
    ----------
    cv : int, splitter, iterable of (train, test), or None
        A number of folds (None means 5) is stratified in classification, keeps groups together if there are any, and
        is lowered to the size of the largest class and to the number of groups.
    y : ndarray of shape (n_samples,)
        Class codes, or numbers.
    groups : array of shape (n_samples,), optional
    classify : bool

    Returns
    -------
    list of (train, test) : arrays of positions

    Raises
    ------
    ValueError
        If a group is on both sides of a split, or no class has 2 rows.
    """
    cv = 5 if cv is None else cv
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        if cv < 2:
            raise ValueError(f"cv must be at least 2 folds; got {cv}.")
        most = int(np.max(np.bincount(y))) if classify else len(y)
        if most < 2:
            what = (
                f"a class of 2 rows or more; y holds {len(y)} classes of one row"
                if classify
                else "2 rows; got 1 sample"
            )
            raise ValueError(f"cross-validation needs {what}.")
        if groups is not None:
            most = min(most, len(np.unique(groups)))
        cv = max(2, min(int(cv), most))
        if groups is not None:
            cv = StratifiedGroupKFold(cv) if classify else GroupKFold(cv)
    splitter = check_cv(cv, y, classifier=classify)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is absent from some of them, which the ledger takes.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        warnings.filterwarnings("ignore", message="The groups parameter is ignored", category=UserWarning)
        splits = list(splitter.split(np.zeros((len(y), 1)), y, groups))
    if not splits:
        raise ValueError(f"cv={cv!r} made no split.")
    if groups is not None:
        _check_groups(cv, splits, np.asarray(groups))
    return splits


def _check_groups(cv: Any, splits: Sequence[tuple[np.ndarray, np.ndarray]], groups: np.ndarray) -> None:
    for train, test in splits:
        both = np.intersect1d(groups[train], groups[test])
        if len(both):
            raise ValueError(
                f"cv={cv!r} puts {len(both)} groups on both sides of a split, such as {both.tolist()[0]!r}. Pass a "
                "number of folds, or a splitter that keeps groups together (StratifiedGroupKFold, GroupKFold)."
            )


def mean_over_folds(filled: list[tuple[np.ndarray, np.ndarray]], n_samples: int, n_classes: int) -> np.ndarray:
    """One array from ``(test, values)`` of each fold: NaN in rows of none, the mean in rows of several."""
    total = np.zeros((n_samples, n_classes) if n_classes else n_samples)
    count = np.zeros(n_samples)
    for test, values in filled:
        np.add.at(total, test, values)
        np.add.at(count, test, 1)
    total[count == 0] = np.nan
    return total / (np.maximum(count, 1)[:, None] if n_classes else np.maximum(count, 1))
