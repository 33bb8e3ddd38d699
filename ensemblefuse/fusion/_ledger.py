"""The ledger: one matrix of out-of-fold predictions, made once, with splits that all members share. Floor 3.

All second-level work (weights, calibration, stacking, the choice of a strategy) reads it, and nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import joblib
import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv

from ensemblefuse.combine import fit_temperature
from ensemblefuse.combine._base import softmax
from ensemblefuse.fusion._members import Fit, Member, fit_one, member_scores

__all__ = [
    "Entry",
    "Ledger",
    "Member",
    "NothingToFitError",
    "OutOfTimeError",
    "fit_members",
    "make_splits",
    "member_scores",
]

# Workers take about a second to start, which short fits do not win back.
_WORTH_WORKERS = 2.0


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


class NothingToFitError(ValueError):
    """No member has a row that it could learn from."""


class OutOfTimeError(Exception):
    """The time limit came before the member was done."""


@dataclass
class Entry:
    """What the ledger knows of one member.

    Attributes
    ----------
    member : Member
    scores : ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        Out-of-fold scores of the chosen head; NaN where there are none: the row is missing there, is in no test fold,
        or the training rows of its fold held no two classes. A row in several test folds has the mean.
    temperature : float
        Of the scores; 1 for a member that gives probabilities.
    predictions : ndarray of the shape of `scores`
        Probabilities, or the scores themselves in regression.
    head : int
        The chosen one of ``member.heads``.
    loss : float
        Weighted mean of -log p, or of the squared error, over the rows with predictions.
    folds : list of Fit
        Fitted on each training set, if the ledger keeps them.
    refit : Fit or None
        The chosen head fitted on all rows.
    seconds : float
        Spent on fits of all heads in all folds.
    """

    member: Member
    scores: np.ndarray
    temperature: float
    predictions: np.ndarray
    head: int
    loss: float
    folds: list[Fit] = field(default_factory=list)
    refit: Fit | None = None
    seconds: float = 0.0

    def deployed(self, refit: bool) -> list[Fit]:
        """What predicts new rows: the fit on all rows, or the fits of the folds; none if nothing could be fitted."""
        fits = [self.refit] if refit else self.folds
        return [fit for fit in fits if fit is not None and fit.estimators]


class Ledger:
    """Out-of-fold predictions of any number of members, each distinct member fitted once.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Class codes, or numbers.
    splits : list of (train, test)
    sample_weight : ndarray of shape (n_samples,), optional
    labels : sequence
        Label of each class code; empty in regression.
    groups : array of shape (n_samples,), optional
        For the inner splits of members that have some.
    n_jobs : int, optional
    keep_folds : bool
        Whether to keep the estimators of the folds.
    deadline : float, optional
        `time.perf_counter` after which no fit is started.
    """

    def __init__(self, y, splits, sample_weight, labels, *, groups=None, n_jobs=None, keep_folds=False, deadline=None):
        self.y = y
        self.splits = splits
        self.sample_weight = sample_weight
        self.labels = list(labels)
        self.groups = None if groups is None else np.asarray(groups)
        self.n_jobs = n_jobs
        self.keep_folds = keep_folds
        self.deadline = deadline
        self.entries: dict[str, Entry] = {}

    @property
    def n_classes(self) -> int:
        return len(self.labels)

    def add(self, members: Sequence[Member]) -> list[Entry]:
        """Entries of these members; those that are new are fitted in all folds."""
        keys = [member_key(member) for member in members]
        new = {key: member for key, member in zip(keys, members, strict=True) if key not in self.entries}
        jobs = [(m, train, test) for train, test in self.splits for m in new.values()]
        fits = list(self._run([(m, range(len(m.heads)), train, test) for m, train, test in jobs], self.keep_folds))
        for i, (key, member) in enumerate(new.items()):
            self.entries[key] = self._enter(member, fits[i :: len(new)])
        return [self.entries[key] for key in keys]

    def refit(self, entries: Sequence[Entry]) -> None:
        """Fit the chosen heads on all rows, where that has not been done."""
        waiting = list({id(entry): entry for entry in entries if entry.refit is None}.values())
        everything = np.arange(len(self.y))
        jobs = [(entry.member, [entry.head], everything, everything[:0]) for entry in waiting]
        deadline, self.deadline = self.deadline, None  # the end of a search must be finished
        for entry, fit in zip(waiting, self._run(jobs, keep=True), strict=True):
            entry.refit = fit
        self.deadline = deadline

    def _run(self, jobs: list, keep: bool) -> Iterator[Fit]:
        """Results in order. The first jobs run here, until it is clear that the rest is worth starting workers."""
        start, todo = perf_counter(), list(jobs)
        while todo:
            if self.deadline is not None and perf_counter() > self.deadline:
                raise OutOfTimeError
            yield _fit_lean(todo.pop(0), self.y, self.sample_weight, self.labels, keep)
            spent = perf_counter() - start
            left = spent / (len(jobs) - len(todo)) * len(todo)
            if len(todo) > 1 and left > _WORTH_WORKERS and effective_n_jobs(self.n_jobs) > 1:
                break
        if todo:
            work = (delayed(_fit_lean)(job, self.y, self.sample_weight, self.labels, keep) for job in todo)
            yield from Parallel(n_jobs=self.n_jobs)(work)

    def _enter(self, member: Member, folds: list[Fit]) -> Entry:
        columns = [self._gather(member, folds, head) for head in range(len(member.heads))]
        rated = [(*self._rate(scores, folds, head), scores) for head, scores in enumerate(columns)]
        head = int(np.argmin([loss for loss, _, _, _ in rated]))
        loss, temperature, predictions, scores = rated[head]
        seconds = float(sum(sum(fit.seconds) for fit in folds))
        kept = [_only(fit, head) for fit in folds] if self.keep_folds else []
        return Entry(member, scores, temperature, predictions, head, loss, kept, None, seconds)

    def _gather(self, member: Member, folds: list[Fit], head: int) -> np.ndarray:
        n = len(self.y)
        total = np.zeros((n, self.n_classes) if self.n_classes else n)
        count = np.zeros(n)
        for fit, (_, test) in zip(folds, self.splits, strict=True):
            test = test[member.present[test]]
            if fit.scores and len(test):
                np.add.at(total, test, fit.scores[head])
                np.add.at(count, test, 1)
        filled = count > 0
        total[~filled] = np.nan
        total[filled] /= count[filled][:, None] if self.n_classes else count[filled]
        return total

    def _rate(self, scores: np.ndarray, folds: list[Fit], head: int) -> tuple[float, float, np.ndarray]:
        """Loss, temperature and predictions."""
        rows = np.isfinite(scores[:, 0] if self.n_classes else scores)
        y, weight = self.y[rows], None if self.sample_weight is None else self.sample_weight[rows]
        usable = rows.any() and (weight is None or weight.sum() > 0)
        if not self.n_classes:
            return float(np.average((scores[rows] - y) ** 2, weights=weight)) if usable else np.inf, 1.0, scores
        temperature = 1.0
        if usable and any(fit.by_value[head] for fit in folds if fit.scores):
            temperature = smooth_temperature(scores[rows], y, weight)
        predictions = softmax(scores / temperature)
        truth = np.log(np.maximum(predictions[rows][np.arange(len(y)), y], 1e-15))
        return float(-np.average(truth, weights=weight)) if usable else np.inf, temperature, predictions


def smooth_temperature(scores: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> float:
    """Temperature from out-of-fold scores, kept finite where no row is wrong.

    Platt's smoothing counts rows; one of weight 2 is two of them, and weights below 1 make no row less than one.
    """
    n = len(y) if weight is None else max(float(weight.sum()), int((weight > 0).sum()))
    return fit_temperature(scores, y, weight, smoothing=1 / (n + 2))


def member_key(member: Member) -> str:
    """What makes two members the same: data, rows and estimator."""
    try:
        recipe = joblib.hash(member.estimator)
    except Exception:  # what cannot be pickled is only the same as itself
        recipe = f"id {id(member.estimator)}"
    return f"{id(member.data)} {joblib.hash((member.present, member.groups))} {recipe}"


def _fit_lean(job: tuple, y, sample_weight, labels, keep) -> Fit:
    """`fit_one`; without `keep` nothing fitted is carried back."""
    member, heads, train, test = job
    fit = fit_one(member, heads, y, sample_weight, train, test, labels)
    return fit if keep else replace(fit, estimators=[])


def _only(fit: Fit, head: int) -> Fit:
    parts = {name: getattr(fit, name)[head : head + 1] for name in ("estimators", "scores", "by_value", "seconds")}
    return replace(fit, **parts)


def fit_members(
    members: Sequence[Member],
    y: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    sample_weight: np.ndarray | None,
    n_classes: int,
    n_jobs: int | None,
) -> tuple[np.ndarray, list[Any], list[np.ndarray], list[str]]:
    """Out-of-fold scores of members, and each member fitted on all of its rows: a ledger used once.

    Returns
    -------
    scores : ndarray of shape (n_members, n_samples, n_classes), or (n_members, n_samples) in regression
        See `Entry.scores`.
    estimators : list of fitted estimators, None for one that could not be fitted
    classes : list of ndarray
        Codes of the classes that each fitted estimator knows, in its own order.
    unweighted : list of str
        Members that took no sample_weight.
    """
    ledger = Ledger(y, splits, sample_weight, range(n_classes), n_jobs=n_jobs)
    entries = ledger.add(members)
    ledger.refit(entries)
    fits = [entry.refit for entry in entries if entry.refit is not None]
    return (
        np.stack([entry.scores for entry in entries]),
        [fit.estimators[0] if fit.estimators else None for fit in fits],
        [fit.classes for fit in fits],
        [member.name for member, fit in zip(members, fits, strict=True) if not fit.weighted],
    )
