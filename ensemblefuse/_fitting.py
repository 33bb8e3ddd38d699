"""Functions that fit clones of any estimator, with sample weights where possible."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

__all__ = ["fit_estimator", "weight_codes", "with_groups"]


def fit_estimator(estimator: Any, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> tuple[Any, bool]:
    """Fit a clone, with weights if its last step takes weights in any way.

    Returns
    -------
    estimator : estimator
    weighted : bool
        False if weights were given and the estimator takes none.
    """
    fitted = clone(estimator)
    if sample_weight is None:
        return fitted.fit(X, y), True
    if has_fit_parameter(fitted, "sample_weight"):
        with config_context(enable_metadata_routing=False):
            return fitted.fit(X, y, sample_weight=sample_weight), True
    # scikit-learn's metadata routing passes the weights into pipelines, searches and one-vs-rest.
    try:
        with config_context(enable_metadata_routing=True):
            if _request_weights(fitted):
                fitted.fit(X, y, sample_weight=sample_weight)
                _forget_requests(fitted)
                return fitted, True
    except (UnsetMetadataPassedError, NotImplementedError):  # this meta-estimator does not route them
        pass
    return clone(estimator).fit(X, y), False


def weight_codes(estimator: Any, labels: Sequence[Any]) -> Any:
    """Replace labels by codes in the ``class_weight`` dicts of an estimator, because it is fitted on codes.

    Parameters
    ----------
    estimator : estimator
    labels : sequence
        Label of each code.

    Returns
    -------
    estimator
        A changed clone, or the estimator itself if it has no such dict.
    """
    if not hasattr(estimator, "get_params"):
        return estimator
    codes = {label: code for code, label in enumerate(labels)}
    changed = {
        name: {codes[label]: weight for label, weight in value.items() if label in codes}
        for name, value in estimator.get_params(deep=True).items()
        if name.rpartition("__")[2] == "class_weight" and isinstance(value, Mapping)
    }
    return clone(estimator).set_params(**changed) if changed else estimator


def _forget_requests(part: Any) -> None:
    """Remove the metadata requests set by `_request_weights`, because a fitted estimator with them cannot be saved."""
    if isinstance(part, (list, tuple, set)):
        values: Any = part
    elif isinstance(part, Mapping):
        values = part.values()
    elif isinstance(part, BaseEstimator):
        vars(part).pop("_metadata_request", None)
        values = vars(part).values()
    else:
        return
    for value in values:
        _forget_requests(value)


def _parts(estimator: Any) -> list[Any]:
    nested = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else []
    return [estimator, *(part for part in nested if not isinstance(part, type))]


def _request_weights(estimator: Any) -> bool:
    """Request ``sample_weight`` for every part. Return whether the last step, or a part of it, takes it in `fit`."""
    last = estimator
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    decisive = {id(part) for part in _parts(last)}
    taken = False
    for part in _parts(estimator):
        for method in ("fit", "score"):
            request = getattr(part, f"set_{method}_request", None)
            if request is None:
                continue
            try:
                request(sample_weight=True)
            except TypeError:  # this part has no such argument
                continue
            taken = taken or (method == "fit" and id(part) in decisive)
    return taken


def with_groups(model: Any, groups: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the model, prepared for groups in fit, and the parameters of `cross_validate` that pass them on."""
    inside = isinstance(model, Pipeline) and "fuse" in model.named_steps
    if groups is None or "groups" not in inspect.signature((model["fuse"] if inside else model).fit).parameters:
        return model, {}
    if not get_config()["enable_metadata_routing"]:
        return model, {"fuse__groups" if inside else "groups": np.asarray(groups)}
    model = clone(model)
    (model["fuse"] if inside else model).set_fit_request(groups=True)
    return model, {"groups": np.asarray(groups)}
