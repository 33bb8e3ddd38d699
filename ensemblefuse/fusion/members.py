"""First-level members: fitting a member on one set of rows, and the predictions of a fitted member."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from ensemblefuse._calls import plain_inside
from ensemblefuse._fitting import taught_labels
from ensemblefuse._threads import one_blas_thread
from ensemblefuse.combine.probabilities import log_probabilities, softmax
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features.few_rows import decision_values, numbers, probabilities, transform
from ensemblefuse.fusion._default_heads import HeadSearch
from ensemblefuse.fusion._head_fits import HeadFit, fit_given, fit_search

__all__ = [
    "Fit",
    "Member",
    "ask_member",
    "class_columns",
    "fit_one",
    "gives_probabilities",
    "member_scores",
    "take_rows",
]


@dataclass
class Member:
    """One first-level estimator, and the rows that hold its data.

    Attributes
    ----------
    name : str
    estimator : estimator or HeadSearch
        Unfitted.
    data : ndarray, sparse array, Series or DataFrame of n_samples rows
    present : ndarray of shape (n_samples,), dtype bool
    groups : ndarray of shape (n_samples,), optional
        For the inner splits of a fusion estimator.
    block : str
        Name of the block in `data`.
    """

    name: str
    estimator: Any
    data: Any
    present: np.ndarray
    groups: np.ndarray | None = None
    block: str = ""

    @property
    def heads(self) -> list[Any]:
        """All candidate estimators of this member."""
        return self.estimator.heads if isinstance(self.estimator, HeadSearch) else [self.estimator]

    @property
    def decides_by_value(self) -> bool:
        """Whether decision values are used even if the estimator has probabilities."""
        return isinstance(self.estimator, HeadSearch) and self.estimator.by_value


@dataclass
class Fit:
    """One member fitted on the training rows of one fold, or on all rows.

    Attributes
    ----------
    estimators : list of fitted estimators, one per head
        None for a default head that failed. The list is empty if the rows hold fewer than two classes.
    classes : ndarray of int
        Codes of the classes in the rows. For an estimator that came fitted: of the classes that it knows.
    scores : list of ndarray or None, one per head
        Scores of the test rows. The list is empty as above, or if there are no test rows.
    by_value : list of bool, one per head
        Whether the scores are decision values, which need a temperature.
    weighted : bool
        False if there were weights and the estimator took none.
    seconds : list of float, one per head
    """

    estimators: list[Any]
    classes: np.ndarray
    scores: list[np.ndarray | None]
    by_value: list[bool]
    weighted: bool
    seconds: list[float]


def take_rows(data: Any, rows: np.ndarray) -> Any:
    """Return rows of an array, sparse array, Series or DataFrame, by positions or by a mask."""
    return data.iloc[rows] if hasattr(data, "iloc") else data[rows]


def fit_one(
    member: Member,
    heads: Sequence[int],
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    train: np.ndarray,
    test: np.ndarray,
    labels: Sequence[Any],
) -> Fit:
    """Fit some heads of one member on one training set, and predict one test set, with one BLAS thread.

    Parameters
    ----------
    member : Member
    heads : sequence of int
        Positions in ``member.heads``.
    y : ndarray of shape (n_samples,)
        Codes, or numbers.
    sample_weight : ndarray of shape (n_samples,), optional
    train, test : ndarray of int
        Positions of rows. Rows in which the member is missing are left out.
    labels : sequence
        Label of each code; empty in regression.
    """
    train, test = train[member.present[train]], test[member.present[test]]
    if sample_weight is not None:
        train = train[sample_weight[train] > 0]  # a class with only rows of weight 0 must not count as a class
    X, X_test = take_rows(member.data, train), take_rows(member.data, test)
    target, weight = y[train], None if sample_weight is None else sample_weight[train]
    n_classes = len(labels)
    classes, local = np.unique(target, return_inverse=True) if n_classes else (np.empty(0), target)
    if not len(target) or (n_classes and len(classes) < 2):
        return Fit([], classes, [], [], True, [])
    try:
        with one_blas_thread(), warnings.catch_warnings():
            _ignore_expected(member, heads)
            known = [labels[code] for code in classes] if n_classes else []
            groups = None if member.groups is None else member.groups[train]
            taught = taught_labels(member.heads[0], labels) if n_classes and len(member.heads) == 1 else None
            if taught is None:
                fits = _fit_heads(member, heads, X, local, weight, known, groups)
            else:
                fits = _fit_heads(member, heads, X, taught[target], weight, None, groups)
                classes = _codes_of(fits[0][0], taught)
            score = lambda fitted: member_scores(fitted, classes, X_test, n_classes, member.decides_by_value)
            scores = [None if fitted is None else score(fitted) for fitted, _, _ in fits]
    except Exception as error:
        if "could not convert string to float" in str(error):
            raise ValueError(
                f"Block {member.block or member.name!r} holds texts, and its estimator takes numbers; give the "
                "modality an encoder, or the block an estimator that reads texts."
            ) from error
        error.add_note(f"while fitting member {member.name!r}")
        raise
    estimators = [f for f, _, _ in fits]
    return Fit(
        estimators,
        classes,
        scores if len(test) else [],
        [member.decides_by_value or not gives_probabilities(f) for f in estimators] if n_classes else [],
        all(weighted for _, weighted, _ in fits),
        [seconds for _, _, seconds in fits],
    )


def _ignore_expected(member: Member, heads: Sequence[int]) -> None:
    """Ignore warnings that a fit in a fold may cause and that tell the user nothing."""
    # A training fold may lack a pattern of missing blocks. Only predictions of new rows should warn about this.
    # A fusion that is the estimator of one block gets the array of this block.
    warnings.simplefilter("ignore", MissingModalityWarning)
    if isinstance(member.estimator, HeadSearch) and len(heads) > 1:
        # Default heads may fail to converge: their loss is measured anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Only one sample available", category=UserWarning)
    if isinstance(member.estimator, HeadSearch) and len(member.heads) > 1:
        # The training rows of a fold may be fewer than the components that suit all rows; then all are used.
        warnings.filterwarnings("ignore", message="n_components > n_samples", category=UserWarning)


def _fit_heads(
    member: Member, heads: Sequence[int], X: Any, y: np.ndarray, weight: Any, known: list | None, groups: Any
) -> list[HeadFit]:
    if isinstance(member.estimator, HeadSearch):
        return fit_search(member.estimator, heads, X, y, weight, known, groups)
    return [fit_given(member.estimator, X, y, weight, known, groups)]


def _codes_of(fitted: Any, taught: np.ndarray) -> np.ndarray:
    """Return the codes of the classes of an estimator that came fitted, as `class_columns` reads them."""
    own = np.asarray(fitted.classes_)
    place = {value: code for code, value in enumerate(taught.tolist())}
    codes = np.array([place[value] for value in own.tolist()])
    if not _are_codes(own):
        return codes
    by_value = np.empty_like(codes)
    by_value[own.astype(int)] = codes
    return by_value


def class_columns(estimator: Any, classes: np.ndarray) -> np.ndarray:
    """Return the code of each column of a fitted classifier's predictions.

    Parameters
    ----------
    estimator : fitted classifier
        Fitted on the codes 0 to ``len(classes) - 1``, or on labels of its own.
    classes : ndarray of int
        Code of each class: of class i if `estimator` was fitted on codes, otherwise of ``estimator.classes_[i]``.

    Returns
    -------
    ndarray of int of shape (n_columns,)
    """
    own = np.asarray(getattr(estimator, "classes_", np.arange(len(classes))))
    if len(own) == len(classes) and not _are_codes(own):
        return np.asarray(classes)
    return np.asarray(classes)[own.astype(int)]


def _are_codes(own: np.ndarray) -> bool:
    """Return whether these are the numbers 0 to n - 1, in any order."""
    return own.dtype.kind in "biuf" and np.array_equal(np.sort(own), np.arange(len(own)))


def gives_probabilities(estimator: Any) -> bool:
    """Return whether a fitted estimator gives probabilities, and not only decision values without a scale."""
    return hasattr(estimator, "predict_proba")


# In single precision, BLAS may set the flag of an invalid operation for products of finite numbers.
@np.errstate(invalid="ignore")
def member_scores(estimator: Any, classes: np.ndarray, X: Any, n_classes: int, by_value: bool = False) -> np.ndarray:
    """Compute the scores of a fitted member. Their softmax, at some temperature, is a probability.

    Parameters
    ----------
    estimator : fitted estimator
    classes : ndarray of int
        Codes of the classes in the rows of its fit.
    X : array or DataFrame of n_samples rows
    n_classes : int
        0 in regression.
    by_value : bool
        Whether decision values are preferred to probabilities.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        Log-probabilities. If the member has no probabilities: decision values. If it has neither: 1 for the predicted
        class and 0 for the others. A class that was absent from its fit gets the lowest decision value of the row, or
        the log-probability -20.
    """
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)  # a sparse array has no length
    if not n_samples:
        return np.empty((0, n_classes) if n_classes else 0)
    estimator, X = _last_step(estimator, X)
    if not n_classes:
        return np.asarray(numbers(estimator, X), dtype=float).reshape(n_samples)
    if gives_probabilities(estimator) and not (by_value and hasattr(estimator, "decision_function")):
        local = log_probabilities(np.asarray(probabilities(estimator, X), dtype=float))
        absent = np.full(len(local), -20.0)
    else:
        local = _decision_values(estimator, X, len(classes))
        absent = local.min(axis=1)
    scores = np.repeat(absent[:, None], n_classes, axis=1)
    scores[:, class_columns(estimator, classes)] = local
    return scores


@plain_inside
def ask_member(
    estimators: Sequence[Any],
    classes: Sequence[np.ndarray],
    rows: Any,
    n_classes: int,
    temperature: float,
    by_value: bool,
) -> np.ndarray:
    """Predict rows that hold the block of a fitted member.

    With one model per fold, this is the mean over the models (of log-probabilities in classification).

    Parameters
    ----------
    estimators, classes : sequences of equal length
        Fitted estimators, and the codes of the classes that each was fitted on.
    rows : array, Series or DataFrame of n_samples rows
    n_classes : int
        0 in regression.
    temperature : float
    by_value : bool
        As in `member_scores`.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
    """
    with warnings.catch_warnings():
        # The combiner warns about new patterns once, for all members.
        warnings.simplefilter("ignore", MissingModalityWarning)
        scores = [member_scores(e, c, rows, n_classes, by_value) for e, c in zip(estimators, classes, strict=True)]
    mean = scores[0] if len(scores) == 1 else np.mean(scores, axis=0)
    return softmax(mean / temperature) if n_classes else mean


def _last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the last step of a pipeline, and X transformed by the other steps.

    This avoids the metadata routing of Pipeline, which takes time and has nothing to route here.
    """
    while type(estimator) is Pipeline:
        for _, step in estimator.steps[:-1]:
            X = X if step is None or isinstance(step, str) else transform(step, X)
        estimator = estimator.steps[-1][1]
    return estimator, X


def _decision_values(estimator: Any, X: Any, n_known: int) -> np.ndarray:
    if hasattr(estimator, "decision_function"):
        values = np.asarray(decision_values(estimator, X), dtype=float)
        return np.column_stack([-values / 2, values / 2]) if values.ndim == 1 else values
    own = np.asarray(getattr(estimator, "classes_", np.arange(n_known)))
    said = np.asarray(estimator.predict(X))
    return ((said if own.dtype.kind in "OSU" else said.astype(own.dtype))[:, None] == own).astype(float)
