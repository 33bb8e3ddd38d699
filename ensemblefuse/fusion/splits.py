"""Splits that all members share, and the mean of the predictions of their folds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, check_cv

from ensemblefuse.exceptions import short_repr

__all__ = [
    "InseparableGroupsError",
    "fold_positions",
    "lasting",
    "make_splits",
    "mean_over_folds",
    "quiet_about_groups",
    "splits_to_stop_by",
]

Splits = list[tuple[np.ndarray, np.ndarray]]

# Rows of a file are often sorted, by class, by time of measurement, by size. Numbered folds are shuffled, always in the
# same way. The seed is a rare one, so that the folds share no pattern with a table that was drawn with a usual seed.
_SEED = 748_190
_SHOWN = 5


_TOGETHER = "groups keep a whole class together"


@contextmanager
def quiet_about_groups() -> Iterator[None]:
    """Show no warning that groups keep a class together, for fits on a part of the rows that were already checked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_TOGETHER, category=UserWarning)
        yield


class InseparableGroupsError(ValueError):
    """Raised if groups coincide with classes, so that no split can be learned from."""


def make_splits(cv: Any, y: np.ndarray, groups: Any, *, classify: bool) -> Splits:
    """Make the splits of all rows, once for all members.

    Parameters
    ----------
    cv : int, splitter, iterable of (train, test), or None
        A number of folds (None means 5) gives folds of shuffled rows, the same ones in each call. They are stratified
        in classification, and keep groups together. The number is limited by the size of the largest class and by the
        number of groups. In an iterable, `train` and `test` are positions of rows, masks or slices.
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
        If `cv` is none of these or makes no split, a part of a split is not made of rows of `y`, a group is on both
        sides of a split, groups coincide with classes, or no class has 2 rows.

    Warns
    -----
    UserWarning
        If groups hold all rows of some class, so that the split that tests them cannot learn this class.
    """
    once, cv = isinstance(cv, Iterator), lasting(cv)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is absent from some folds. The ledger can handle this.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        warnings.filterwarnings("ignore", message="The groups parameter is ignored", category=UserWarning)
        if cv is None or isinstance(cv, (bool, int, np.bool_, np.integer)):
            splits = _numbered(5 if cv is None else cv, y, groups, classify)
        elif isinstance(cv, list) and not hasattr(cv, "split"):
            splits = cv
        else:
            splits = list(check_cv(cv, y, classifier=classify).split(np.zeros((len(y), 1)), y, groups))
    if not splits:
        why = ": an iterator can be read only once; pass a list, a number or a splitter" if once else ""
        raise ValueError(f"cv={short_repr(cv)} made no split{why}.")
    splits = [_read_split(i, split, len(y)) for i, split in enumerate(splits)]
    if groups is not None:
        groups = np.asarray(groups)
        _check_groups(cv, splits, groups)
        if classify:
            _check_classes_of_groups(splits, y, groups)
    return splits


def lasting(cv: Any) -> Any:
    """Return `cv` with iterators read into lists, so that it can be copied, and read more than once."""
    if hasattr(cv, "split") or isinstance(cv, str) or not isinstance(cv, Iterable):
        return cv
    keep = lambda part: list(part) if isinstance(part, Iterator) else part
    return [tuple(map(keep, split)) if isinstance(split, (tuple, list, Iterator)) else split for split in cv]


def _numbered(n_folds: Any, y: np.ndarray, groups: Any, classify: bool) -> list:
    """Make a number of shuffled folds, stratified in classification, with whole groups."""
    if isinstance(n_folds, (bool, np.bool_)) or n_folds < 2:
        raise ValueError(f"cv must be at least 2 folds; got {n_folds}.")
    most = int(np.max(np.bincount(y))) if classify else len(y)
    if most < 2:
        what = f"a class of 2 rows or more; y holds {len(y)} classes of one row" if classify else "2 rows; got 1 sample"
        raise ValueError(f"cross-validation needs {what}.")
    X = np.zeros((len(y), 1))
    if groups is None:
        shuffled = (StratifiedKFold if classify else KFold)(
            max(2, min(int(n_folds), most)), shuffle=True, random_state=_SEED
        )
        return list(shuffled.split(X, y))
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    n_groups = int(codes.max()) + 1
    n_folds = max(2, min(int(n_folds), most, n_groups))
    # Both splitters take the groups by size or by classes, equal ones in the order of their names. So the names are
    # shuffled: with shuffle=True, GroupKFold makes folds of very unequal size.
    names = np.random.RandomState(_SEED).permutation(n_groups)
    return list((StratifiedGroupKFold if classify else GroupKFold)(n_folds).split(X, y, names[codes]))


def _read_split(i: int, split: Any, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two parts of a split as arrays of positions."""
    (split,) = lasting([split])  # a splitter of the user's own may make iterators
    parts = list(split) if isinstance(split, Iterable) and not isinstance(split, str) else []
    if len(parts) != 2:
        raise ValueError(
            f"split {i} of cv must be a pair (train, test) of positions or masks of rows; got {type(split).__name__}"
            f"{f' of {len(parts)} parts' if parts else ''}."
        )
    return _positions(i, "train", parts[0], n_samples), _positions(i, "test", parts[1], n_samples)


def _positions(i: int, side: str, part: Any, n_samples: int) -> np.ndarray:
    """Return the rows of one part of a split: positions, a mask, or a slice."""
    everything = np.arange(n_samples)
    if isinstance(part, slice):
        return everything[part]
    rows = np.asarray(part)
    if rows.size == 0 and rows.ndim == 1:
        return everything[:0]
    rows = np.asarray(rows.tolist()) if rows.dtype == object else rows  # a nullable mask of pandas
    what = f"the {side} part of split {i} of cv"
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise ValueError(
            f"{what} must hold positions of rows (whole numbers) or one True or False for each row; got "
            f"{type(part).__name__} of shape {rows.shape} and dtype {rows.dtype}."
        )
    if rows.dtype.kind == "b" and len(rows) != n_samples:
        raise ValueError(f"{what} is a mask of {len(rows)} rows; there are {n_samples} rows here. {_ONE_TABLE}")
    if rows.dtype.kind != "b":
        outside = rows[(rows < -n_samples) | (rows >= n_samples)] if rows.dtype.kind == "i" else rows[rows >= n_samples]
        if len(outside):
            raise ValueError(f"{what} names row {outside[0]}; there are {n_samples} rows here. {_ONE_TABLE}")
    return everything[rows]


_ONE_TABLE = (
    "A list of splits is made for one table; for a part of its rows, as inside another cross-validation, pass a number "
    "or a splitter."
)


def _check_groups(cv: Any, splits: Splits, groups: np.ndarray) -> None:
    for train, test in splits:
        both = np.intersect1d(groups[train], groups[test])
        if len(both):
            raise ValueError(
                f"cv={short_repr(cv)} puts {len(both)} groups on both sides of a split, such as {both.tolist()[0]!r}. "
                "Pass a number of folds, or a splitter that keeps groups together (StratifiedGroupKFold, GroupKFold)."
            )


def _check_classes_of_groups(splits: Splits, y: np.ndarray, groups: np.ndarray) -> None:
    """Warn of test rows whose class the training rows lack, because of their groups; raise if all rows are such."""
    lost = [test[~np.isin(y[test], y[train])] for train, test in splits]
    if not any(len(rows) for rows in lost):
        return
    if all(len(rows) == len(test) for rows, (_, test) in zip(lost, splits, strict=True)):
        raise InseparableGroupsError(
            "groups coincide with classes: no split has a test row whose class is in its training rows, so nothing can "
            "be learned or scored. Pass groups that are finer than the classes, or no groups if the rows are "
            "independent."
        )
    names = np.unique(groups[np.concatenate(lost)]).tolist()
    shown = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    warnings.warn(
        f"{_TOGETHER}: where the rows of {len(names)} groups ({shown}) are tested, no training "
        f"row has their class, so {sum(map(len, lost))} rows are predicted wrong in any case. Give each class several "
        "groups, or pass no groups if the rows are independent.",
        UserWarning,
        stacklevel=4,
    )


def fold_positions(splits: Any, used: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Convert splits of all rows into splits of the rows in ``used`` (bool), with positions among these rows."""
    place = np.cumsum(used) - 1
    return [(place[train[used[train]]], place[test[used[test]]]) for train, test in splits]


def splits_to_stop_by(splits: Splits, used: np.ndarray) -> Splits:
    """Convert splits for early stopping like `fold_positions`, without those of which a side has no row left.

    Raises
    ------
    ValueError
        If no split is left.
    """
    found = [(train, test) for train, test in fold_positions(splits, used) if len(train) and len(test)]
    if not found:
        raise ValueError(
            "early stopping holds out the folds of cv, but none has rows on both sides where missing cells, missing "
            "targets and rows of weight 0 are left out. Pass early_stopping=False, or another cv."
        )
    return found


def mean_over_folds(filled: list[tuple[np.ndarray, np.ndarray]], n_samples: int, n_classes: int) -> np.ndarray:
    """Return one array from ``(test, values)`` of each fold. NaN in rows in no fold, the mean in rows in several."""
    total = np.zeros((n_samples, n_classes) if n_classes else n_samples)
    count = np.zeros(n_samples)
    for test, values in filled:
        np.add.at(total, test, values)
        np.add.at(count, test, 1)
    total[count == 0] = np.nan
    return total / (np.maximum(count, 1)[:, None] if n_classes else np.maximum(count, 1))
