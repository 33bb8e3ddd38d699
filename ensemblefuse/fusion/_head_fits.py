"""The fits of one member's heads on one training set: an estimator that was given, or the candidates of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import has_fit_parameter

from ensemblefuse._fitting import fit_clone, fit_estimator, refuses_weights, weight_codes
from ensemblefuse.fusion._default_heads import HeadSearch
from ensemblefuse.fusion.base import BaseFusion

__all__ = ["HeadFit", "fit_given", "fit_preparation", "fit_search"]

# The fitted estimator, or None; whether it took the weights; and the seconds.
HeadFit = tuple[Any, bool, float]


def fit_given(
    estimator: Any, X: Any, y: np.ndarray, weight: np.ndarray | None, known: list | None, groups: Any
) -> HeadFit:
    """Fit a clone of an estimator that the user named.

    Parameters
    ----------
    estimator : estimator
    X : array, sparse array, Series or DataFrame of n_samples rows
    y : ndarray of shape (n_samples,)
        Codes from 0 on, or labels, or numbers.
    weight : ndarray of shape (n_samples,), optional
    known : list, optional
        Label of each code in `y`. None if `y` holds labels.
    groups : ndarray of shape (n_samples,), optional
        For the inner splits of a fusion, and for every other estimator whose `fit` takes them.
    """
    start = perf_counter()
    coded = estimator if known is None else weight_codes(estimator, known)
    if isinstance(coded, BaseFusion):
        weight = None if refuses_weights(coded) else weight
        fitted, weighted = fit_clone(coded, X, y, sample_weight=weight, groups=groups), True
    else:
        fitted, weighted = fit_estimator(coded, X, y, weight, groups)
    return fitted, weighted, perf_counter() - start


def fit_search(
    search: HeadSearch,
    heads: Sequence[int],
    X: Any,
    y: np.ndarray,
    weight: np.ndarray | None,
    known: list | None,
    groups: Any,
) -> list[HeadFit]:
    """Fit some heads of a search; what they share is fitted once.

    Parameters
    ----------
    search : HeadSearch
    heads : sequence of int
        Positions in ``search.heads``.
    X, y, weight, known, groups
        As in `fit_given`.

    Returns
    -------
    list of HeadFit, one per head
        A head that fails on so few rows is None. If all fail, the error of the last one is raised.
    """
    start = perf_counter()
    # Several heads are always default ones of the library: their parameters need no check in each fold. A single head
    # may be the user's estimator.
    own = len(search.heads) > 1
    if search.raise_weights and weight is not None:
        weight = weight / min(1.0, float(weight.mean()))
    estimators = search.heads if own or known is None else [weight_codes(head, known) for head in search.heads]
    steps = search.prepare if known is None else weight_codes(search.prepare, known)
    path = _Path(*fit_preparation(steps, X, y, weight), y, weight, groups, own)
    shared = (perf_counter() - start) / len(heads)
    fits: list[HeadFit] = []
    for head in heads:
        start = perf_counter()
        whole, weighted = None, True
        try:
            whole, weighted = path.fit(estimators[head])
        except (ValueError, np.linalg.LinAlgError):
            if not any(fitted is not None for fitted, _, _ in fits) and head == heads[-1]:
                raise
        fits.append((whole, weighted, shared + perf_counter() - start))
    return fits


@dataclass
class _Path:
    """The heads of one search, fitted one after the other, and what they share.

    Attributes
    ----------
    prepare : fitted pipeline
    table : array
        What `prepare` makes of the training rows.
    y : ndarray of shape (n_samples,)
    weight, groups : ndarray of shape (n_samples,), optional
    own : bool
        Whether the heads are default ones of the library.
    before : list of fitted estimators
    kernel : transformer, optional
        The features of a kernel that were fitted last, unfitted.
    mapped : tuple, optional
        Fitted steps up to these features, and the table that they make.
    """

    prepare: Any
    table: Any
    y: np.ndarray
    weight: np.ndarray | None
    groups: Any
    own: bool
    before: list[Any] = field(default_factory=list)
    kernel: Any = None
    mapped: Any = None

    def fit(self, estimator: Any) -> tuple[Any, bool]:
        """Return the fitted pipeline of one head, and whether it took the weights."""
        steps, table = self.prepare, self.table
        with config_context(skip_parameter_validation=self.own or None):
            if self.own and isinstance(estimator, Pipeline):
                steps, table = self._map(estimator.steps[0][1])
                estimator = estimator.steps[-1][1]
            last, weighted = _fit_head(estimator, self.before, table, self.y, self.weight, self.groups)
        self.before.append(last)
        return make_pipeline(*_parts(steps), last), weighted

    def _map(self, features: Any) -> Any:
        """Fit the features of a kernel, unless the head before has the same object."""
        if features is not self.kernel:
            fitted, columns = fit_preparation(features, self.table, self.y, self.weight)
            self.kernel, self.mapped = features, (make_pipeline(*_parts(self.prepare), *_parts(fitted)), columns)
        return self.mapped


def _parts(pipeline: Pipeline) -> list[Any]:
    return [step for _, step in pipeline.steps]


def _fit_head(head: Any, before: list[Any], Z: Any, y: np.ndarray, weight: Any, groups: Any) -> tuple[Any, bool]:
    """Fit a clone, starting from the fitted heads before it if possible. Return it, and whether it took the weights.

    The penalties of a path have equal ratios, and its solutions move about evenly. So the start is the last solution
    and its last step once more: this saves a quarter of the iterations.
    """
    alike = [fitted for fitted in before[-2:] if type(fitted) is type(head) and hasattr(fitted, "coef_")]
    if not alike or not hasattr(head, "warm_start"):
        return fit_estimator(head, Z, y, weight, groups)
    estimator = clone(head)
    first, last = alike[0], alike[-1]
    estimator.classes_ = last.classes_
    estimator.coef_, estimator.intercept_ = 2 * last.coef_ - first.coef_, 2 * last.intercept_ - first.intercept_
    estimator.warm_start = True
    estimator.fit(Z, y, sample_weight=weight)
    estimator.warm_start = False
    return estimator, True


def fit_preparation(prepare: Any, X: Any, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, Any]:
    """Fit a clone of a transformer, or of a pipeline of transformers. Return it and the transformed X.

    Each step gets the weights if it takes them.
    """
    steps = []
    for step in [part for _, part in prepare.steps] if isinstance(prepare, Pipeline) else [prepare]:
        weights = {"sample_weight": weight} if weight is not None and has_fit_parameter(step, "sample_weight") else {}
        steps.append(fit_clone(step, X, y, **weights))
        X = steps[-1].transform(X)
    return make_pipeline(*steps), X
