"""Splits that all members share, and the mean of the predictions of their folds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv

__all__ = ["make_splits", "mean_over_folds"]


def make_splits(cv: Any, y: np.ndarray, groups: Any, *, classify: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make the splits of all rows, once for all members.

    Parameters
    ----------
    cv : int, splitter, iterable of (train, test), or None
        A number of folds (None means 5) gives stratified splits in classification, and keeps groups together. The
        number is limited by the size of the largest class and by the number of groups.
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
        If a group is on both sides of a split, or if no class has 2 rows.
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
        # A class with fewer rows than folds is absent from some folds. The ledger can handle this.
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
    """Return one array from ``(test, values)`` of each fold. NaN in rows in no fold, the mean in rows in several."""
    total = np.zeros((n_samples, n_classes) if n_classes else n_samples)
    count = np.zeros(n_samples)
    for test, values in filled:
        np.add.at(total, test, values)
        np.add.at(count, test, 1)
    total[count == 0] = np.nan
    return total / (np.maximum(count, 1)[:, None] if n_classes else np.maximum(count, 1))
