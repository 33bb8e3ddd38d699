"""The ledger: one matrix of out-of-fold predictions, made once, with splits that all members share. Floor 3.

All second-level work (weights, calibration, stacking) reads it, and nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv
from threadpoolctl import threadpool_limits

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.combine._base import log_probabilities

__all__ = ["Member", "fit_members", "make_splits", "member_scores"]


@dataclass
class Member:
    """One first-level estimator and the rows that it can see.

    Attributes
    ----------
    name : str
    estimator : estimator
        Unfitted.
    data : ndarray, Series or DataFrame of length n_samples
    present : ndarray of shape (n_samples,), dtype bool
    """

    name: str
    estimator: Any
    data: Any
    present: np.ndarray


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
        If a group is on both sides of a split.
    """
    cv = 5 if cv is None else cv
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        if cv < 2:
            raise ValueError(f"cv must be at least 2 folds; got {cv}.")
        most = int(np.max(np.bincount(y))) if classify else len(y)
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


def fit_members(
    members: Sequence[Member],
    y: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    sample_weight: np.ndarray | None,
    n_classes: int,
    n_jobs: int | None,
) -> tuple[np.ndarray, list[Any], list[np.ndarray], list[str]]:
    """Out-of-fold scores of all members, and each member fitted on all of its rows.

    Returns
    -------
    scores : ndarray of shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression
        NaN where a member has no out-of-fold prediction: the row is missing there, is in no test fold, or the training
        rows of its fold held no two classes. A row in several test folds has the mean.
    estimators : list of fitted estimators
    classes : list of ndarray
        Codes of the classes that each fitted estimator knows, in its own order.
    unweighted : list of str
        Members that took no sample_weight.
    """
    everything = np.arange(len(y))
    jobs = [(m, fold, train, test) for m in range(len(members)) for fold, (train, test) in enumerate(splits)]
    jobs += [(m, -1, everything, everything[:0]) for m in range(len(members))]
    work = []
    for m, _, train, test in jobs:
        present = members[m].present
        train, test = train[present[train]], test[present[test]]
        work.append((m, train, test))
    results = Parallel(n_jobs=n_jobs)(
        delayed(_fit_one)(
            members[m].name,
            members[m].estimator,
            _rows(members[m].data, train),
            y[train],
            None if sample_weight is None else sample_weight[train],
            _rows(members[m].data, test),
            n_classes,
            keep=i >= len(work) - len(members),
        )
        for i, (m, train, test) in enumerate(work)
    )
    shape = (len(members), len(y), n_classes) if n_classes else (len(members), len(y))
    total, count = np.zeros(shape), np.zeros(shape[:2])
    for (m, _, test), (_, _, scores, _) in zip(work, results, strict=True):
        if scores is not None and len(test):
            total[m, test] += scores
            count[m, test] += 1
    filled = count > 0
    total[~filled] = np.nan
    total[filled] /= count[filled][:, None] if n_classes else count[filled]
    refits = results[-len(members) :]
    unweighted = [members[m].name for m, refit in enumerate(refits) if not refit[3]]
    return total, [refit[0] for refit in refits], [refit[1] for refit in refits], unweighted


def _rows(data: Any, rows: np.ndarray) -> Any:
    return data.iloc[rows] if hasattr(data, "iloc") else data[rows]


def _fit_one(name, estimator, X, y, sample_weight, X_test, n_classes, *, keep):
    """Fit one member on one training set and predict one test set, on one BLAS thread; `keep` the fitted one or not."""
    with threadpool_limits(1, "blas"):
        weighted_y = y if sample_weight is None else y[sample_weight > 0]
        classes, local = np.unique(y, return_inverse=True) if n_classes else (np.empty(0), y)
        if (n_classes and len(np.unique(weighted_y)) < 2) or len(y) == 0:
            return None, classes, None, True
        try:
            fitted, weighted = fit_estimator(estimator, X, local, sample_weight)
            scores = member_scores(fitted, classes, X_test, n_classes) if len(X_test) else None
        except Exception as error:
            error.add_note(f"while fitting member {name!r}")
            raise
    return fitted if keep else None, classes, scores, weighted


def gives_probabilities(estimator: Any) -> bool:
    """Whether a fitted estimator gives probabilities, as opposed to decision values without a scale."""
    return hasattr(estimator, "predict_proba")


def member_scores(estimator: Any, classes: np.ndarray, X: Any, n_classes: int) -> np.ndarray:
    """What a fitted member says, as scores whose softmax (at some temperature) is a probability.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        Log-probabilities; decision values, where the member has no probabilities; 1 for the predicted class and 0 for
        the others, where it has neither. A class that the member does not know gets the lowest value of its row.
    """
    if not n_classes:
        return np.asarray(estimator.predict(X), dtype=float).reshape(len(X))
    # Estimators were fitted on codes 0..len(classes) - 1 of the classes that their rows held.
    known = np.asarray(getattr(estimator, "classes_", np.arange(len(classes)))).astype(int)
    if gives_probabilities(estimator):
        local = log_probabilities(np.asarray(estimator.predict_proba(X), dtype=float))
        absent = np.full(len(local), -20.0)
    else:
        local = _decision_values(estimator, X, known)
        absent = local.min(axis=1)
    scores = np.repeat(absent[:, None], n_classes, axis=1)
    scores[:, classes[known]] = local
    return scores


def _decision_values(estimator: Any, X: Any, known: np.ndarray) -> np.ndarray:
    if hasattr(estimator, "decision_function"):
        values = np.asarray(estimator.decision_function(X), dtype=float)
        return np.column_stack([-values / 2, values / 2]) if values.ndim == 1 else values
    return (np.asarray(estimator.predict(X)).astype(int)[:, None] == known).astype(float)
