"""The ledger: one matrix of out-of-fold predictions, made once, with splits that all members share.

The second level (weights, calibration, stacking, the choice of a strategy) learns only from this matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import time
from typing import Any

import joblib
import numpy as np

from ensemblefuse.combine import smooth_temperature
from ensemblefuse.combine.probabilities import softmax
from ensemblefuse.fusion._default_heads import HeadSearch
from ensemblefuse.fusion._jobs import run_jobs
from ensemblefuse.fusion._log_target import log_target_of, on_both_scales, smearing_factor
from ensemblefuse.fusion.members import Fit, Member, fit_one, member_scores
from ensemblefuse.fusion.splits import mean_over_folds

__all__ = ["Entry", "Ledger", "Member", "NothingToFitError", "OutOfTimeError", "member_scores"]


class NothingToFitError(ValueError):
    """Raised if no member has rows to learn from."""


class OutOfTimeError(Exception):
    """Raised if the time limit is reached before the fits of a member are finished."""


@dataclass
class Entry:
    """The results of one member in the ledger.

    Attributes
    ----------
    member : Member
        With all heads that were tried: for a skewed target, default heads also on the log scale.
    temperature : float
        Temperature of the scores of the chosen head; 1 for a member with probabilities, and in regression.
    predictions : ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        Out-of-fold probabilities, or numbers. Head and temperature are also chosen without the fold. NaN if the member
        is missing in the row, if the row is in no test fold, or if the training rows of its fold hold fewer than two
        classes. A row in several test folds gets the mean.
    head : int
        Position in ``member.heads`` of the best head on all rows. It predicts new rows.
    loss : float
        Weighted mean of -log p, or of the squared error, of this head over all rows with predictions.
    folds : list of Fit
        Fitted on each training set, if the ledger keeps them.
    refit : Fit or None
        The chosen head, fitted on all rows.
    seconds : float
        Time of the fits of all heads in all folds.
    factor : float
        Factor of the predictions of a head on the log scale, by which they have the right mean out of fold. It is in
        `predictions`, in `refit` and in `folds`.
    """

    member: Member
    temperature: float
    predictions: np.ndarray
    head: int
    loss: float
    folds: list[Fit] = field(default_factory=list)
    refit: Fit | None = None
    seconds: float = 0.0
    factor: float = 1.0

    def deployed(self, refit: bool) -> list[Fit]:
        """Return the fits that predict new rows: the fit on all rows, or the fits of the folds.

        The list is empty if nothing could be fitted.
        """
        fits = [self.refit] if refit else self.folds
        return [fit for fit in fits if fit is not None and fit.estimators]


class Ledger:
    """Out-of-fold predictions of any number of members. Each distinct member is fitted only once.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Class codes, or numbers.
    splits : list of (train, test)
    sample_weight : ndarray of shape (n_samples,), optional
    labels : sequence
        Label of each class code; empty in regression.
    groups : array of shape (n_samples,), optional
        For members with inner splits.
    n_jobs : int, optional
    keep_folds : bool
        Whether to keep the estimators of the folds.
    deadline : float, optional
        No fit is started after this value of `time.time`.
    row_weight : ndarray of shape (n_samples,), optional
        Weights of the rows in scores for the user: `sample_weight` without the weights of the classes.
    """

    def __init__(
        self,
        y,
        splits,
        sample_weight,
        labels,
        *,
        groups=None,
        n_jobs=None,
        keep_folds=False,
        deadline=None,
        row_weight=None,
    ):
        self.y = y
        self.splits = splits
        self.sample_weight = sample_weight
        self.row_weight = row_weight
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
        """Return the entries of these members. New members are first fitted in all folds."""
        keys = [member_key(member) for member in members]
        new = {k: self._on_scales(m) for k, m in zip(keys, members, strict=True) if k not in self.entries}
        jobs = [(m, train, test) for train, test in self.splits for m in new.values()]
        fits = list(self._run([(m, range(len(m.heads)), train, test) for m, train, test in jobs], self.keep_folds))
        for i, (key, member) in enumerate(new.items()):
            self.entries[key] = self._enter(member, fits[i :: len(new)])
        return [self.entries[key] for key in keys]

    def _on_scales(self, member: Member) -> Member:
        """Return a member of default heads with those on the log scale, if the target asks for it."""
        search = member.estimator
        if self.n_classes or not isinstance(search, HeadSearch) or not search.by_value:
            return member
        return replace(member, estimator=on_both_scales(search, self.y, self.sample_weight))

    def refit(self, entries: Sequence[Entry]) -> None:
        """Fit the chosen heads on all rows, unless this is already done."""
        waiting = list({id(entry): entry for entry in entries if entry.refit is None}.values())
        everything = np.arange(len(self.y))
        jobs = [(entry.member, [entry.head], everything, everything[:0]) for entry in waiting]
        deadline, self.deadline = self.deadline, None  # the last fit of a search has no time limit
        try:
            for entry, fit in zip(waiting, self._run(jobs, keep=True), strict=True):
                entry.refit = _corrected(fit, entry.factor)
        finally:
            self.deadline = deadline

    def _run(self, jobs: list, keep: bool) -> Iterator[Fit]:
        """Yield the fits in order."""
        shared = (self.y, self.sample_weight, self.labels, keep, self.deadline)
        return run_jobs(_fit_lean, [(job, *shared) for job in jobs], self.n_jobs)

    def _enter(self, member: Member, folds: list[Fit]) -> Entry:
        by_head = [self._gather(member, folds, head) for head in range(len(member.heads))]
        everything = np.arange(len(self.y))
        is_log = [not self.n_classes and log_target_of(head) is not None for head in member.heads]
        head, scale, loss = self._choose(by_head, folds, everything, is_log)
        predictions = self._predictions(by_head, folds, (head, scale), is_log)
        seconds = float(sum(sum(fit.seconds) for fit in folds))
        temperature, factor = (scale, 1.0) if self.n_classes else (1.0, scale)
        kept = [_corrected(_only(fit, head), factor) for fit in folds] if self.keep_folds else []
        return Entry(member, temperature, predictions, head, loss, kept, None, seconds, factor)

    def _gather(self, member: Member, folds: list[Fit], head: int) -> np.ndarray:
        """Collect the out-of-fold scores of one head. All are NaN if it failed in any fold."""
        n = len(self.y)
        if any(fit.scores and fit.scores[head] is None for fit in folds):
            return np.full((n, self.n_classes) if self.n_classes else n, np.nan)
        pairs = [(test[member.present[test]], fit) for fit, (_, test) in zip(folds, self.splits, strict=True)]
        filled: list = [(test, fit.scores[head]) for test, fit in pairs if fit.scores and len(test)]
        return mean_over_folds(filled, n, self.n_classes)

    def _predictions(
        self, by_head: list[np.ndarray], folds: list[Fit], overall: tuple[int, float], is_log: list[bool]
    ) -> np.ndarray:
        """Return the prediction of each row, with head and temperature (or factor) chosen without the row's own fold.

        If the other rows have no predictions, as with only one test fold, the overall choice is used.
        """
        alone = len(by_head) == 1 and not self._by_value(folds, 0)  # one head and no temperature: nothing to choose
        filled = []
        for train, test in self.splits:
            head, scale = overall
            if not alone:
                other, own, loss = self._choose(by_head, folds, np.setdiff1d(train, test), is_log)
                head, scale = (other, own) if np.isfinite(loss) else overall
            test = test[self._known(by_head[head])[test]]
            scores = by_head[head][test]
            filled.append((test, softmax(scores / scale) if self.n_classes else scores * scale))
        return mean_over_folds(filled, len(self.y), self.n_classes)

    def _choose(
        self, by_head: list[np.ndarray], folds: list[Fit], rows: np.ndarray, is_log: list[bool]
    ) -> tuple[int, float, float]:
        """Return the head with the smallest loss on these rows, its temperature (or factor), and the loss."""
        rated = [self._rate(s, rows, self._by_value(folds, head), is_log[head]) for head, s in enumerate(by_head)]
        head = int(np.argmin([loss for loss, _ in rated]))
        return head, rated[head][1], rated[head][0]

    def _by_value(self, folds: list[Fit], head: int) -> bool:
        return bool(self.n_classes) and any(fit.by_value[head] for fit in folds if fit.scores)

    def _known(self, scores: np.ndarray) -> np.ndarray:
        return np.isfinite(scores[:, 0] if self.n_classes else scores)

    def _rate(self, scores: np.ndarray, rows: np.ndarray, by_value: bool, is_log: bool) -> tuple[float, float]:
        """Return loss and temperature of one head on some rows; in regression its factor, 1 unless `is_log`."""
        rows = rows[self._known(scores)[rows]]
        if self.sample_weight is not None:
            rows = rows[self.sample_weight[rows] > 0]
        if not len(rows):
            return np.inf, 1.0
        y, weight = self.y[rows], None if self.sample_weight is None else self.sample_weight[rows]
        if not self.n_classes:
            factor = smearing_factor(y, scores[rows], weight) if is_log else 1.0
            return float(np.average((factor * scores[rows] - y) ** 2, weights=weight)), factor
        temperature = smooth_temperature(scores[rows], y, weight) if by_value else 1.0
        truth = softmax(scores[rows] / temperature)[np.arange(len(y)), y]
        return float(-np.average(np.log(np.maximum(truth, 1e-15)), weights=weight)), temperature


def member_key(member: Member) -> str:
    """Return a key that is equal for members with the same data, rows and estimator."""
    search = member.estimator if isinstance(member.estimator, HeadSearch) else None
    prepare = [] if search is None else [search.prepare]
    raises = search is not None and search.raise_weights
    recipe = [_recipe(part) for part in [*prepare, *member.heads]] + [str(member.decides_by_value), str(raises)]
    return f"{id(member.data)} {joblib.hash((member.present, member.groups))} {recipe}"


def _recipe(estimator: Any) -> str:
    try:
        return str(joblib.hash(estimator))
    except Exception:  # an object that cannot be pickled is only equal to itself
        return f"id {id(estimator)}"


def _fit_lean(job: tuple, y, sample_weight, labels, keep, deadline) -> Fit:
    """Call `fit_one`, unless the deadline has passed. Without `keep`, the fitted estimators are not sent back."""
    if deadline is not None and time() > deadline:
        raise OutOfTimeError
    member, heads, train, test = job
    fit = fit_one(member, heads, y, sample_weight, train, test, labels)
    return fit if keep else replace(fit, estimators=[])


def _corrected(fit: Fit, factor: float) -> Fit:
    """Return a fit of one head on the log scale with the factor that the ledger found; any other fit as it is."""
    for fitted in fit.estimators:
        part = log_target_of(fitted)
        if part is not None and factor != 1:
            part.factor_ *= factor
    return fit


def _only(fit: Fit, head: int) -> Fit:
    parts = {name: getattr(fit, name)[head : head + 1] for name in ("estimators", "scores", "by_value", "seconds")}
    return replace(fit, **parts)
