"""Functions that fit clones of any estimator, with sample weights where possible."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, clone, is_classifier
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from ensemblefuse.exceptions import short_repr

__all__ = [
    "check_components",
    "check_label_types",
    "fit_clone",
    "fit_estimator",
    "is_fitted_before",
    "refuses_weights",
    "taught_labels",
    "weight_codes",
    "with_groups",
]

_SHOWN = 8


def fit_clone(estimator: Any, *args: Any, **params: Any) -> Any:
    """Fit a clone and return it, whatever its `fit` returns: the `fit` of a user's class may return nothing."""
    fitted = clone(estimator)
    fitted.fit(*args, **params)
    return fitted


def fit_estimator(
    estimator: Any, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, groups: np.ndarray | None = None
) -> tuple[Any, bool]:
    """Fit a clone, with weights if its last step takes weights in any way, and with groups if its `fit` takes them.

    A part with ``set_fit_request(sample_weight=False)`` gets no weights, and one with ``set_fit_request(groups=False)``
    no groups. Groups are for folds inside an estimator, as early stopping has.

    Returns
    -------
    estimator : estimator
    weighted : bool
        False if weights were given and the estimator takes none. True if the user turned them off.
    """
    if groups is not None and not _takes_groups(estimator):
        groups = None
    if sample_weight is None:
        return _fit_plain(estimator, X, y, groups), True
    given = {} if groups is None else {"groups": groups}
    asked = any(_asked(part) is not None for part in _parts(estimator))
    if has_fit_parameter(estimator, "sample_weight") and not asked:
        with config_context(enable_metadata_routing=False):
            return fit_clone(estimator, X, y, sample_weight=sample_weight, **given), True
    # scikit-learn's metadata routing passes the weights into pipelines, searches and one-vs-rest.
    refused = False
    fitted = clone(estimator)
    try:
        with config_context(enable_metadata_routing=True):
            last, refused = _request_weights(fitted)
            if given:
                _request_groups(fitted)
            if last or (refused and any(_asked(part) is True for part in _parts(estimator))):
                fitted.fit(X, y, sample_weight=sample_weight, **given)
                _forget_requests(fitted)
                return fitted, True
    except (UnsetMetadataPassedError, NotImplementedError):  # this meta-estimator does not route them
        pass
    fitted = _fit_plain(estimator, X, y, groups)
    _forget_requests(fitted)
    return fitted, refused


def _fit_plain(estimator: Any, X: Any, y: np.ndarray, groups: np.ndarray | None) -> Any:
    """Fit a clone without weights, with groups for its last step if there are any."""
    if groups is None:
        return fit_clone(estimator, X, y)
    path = [*(name for name, _ in _last_steps(estimator)), "groups"]
    with config_context(enable_metadata_routing=False):
        return fit_clone(estimator, X, y, **{"__".join(path): groups})


def _last_steps(estimator: Any) -> list[tuple[str, Any]]:
    """Return name and estimator of the last step of a pipeline, of the last step of that one, and so on."""
    steps: list[tuple[str, Any]] = []
    while isinstance(estimator, Pipeline):
        steps.append(estimator.steps[-1])
        estimator = estimator.steps[-1][1]
    return steps


def _takes_groups(estimator: Any) -> bool:
    """Return whether the estimator, or the last step of a pipeline, takes groups, and the user has not refused them."""
    last = [estimator, *(step for _, step in _last_steps(estimator))][-1]
    return has_fit_parameter(last, "groups") and _asked(last, "groups") is not False


def taught_labels(estimator: Any, labels: Sequence[Any]) -> np.ndarray | None:
    """Return what an estimator that holds a fitted classifier calls each class; None for any other estimator.

    Such a classifier (`FrozenEstimator`) stays as it is when it is cloned, and so keeps the labels of its own fit.

    Parameters
    ----------
    estimator : estimator
    labels : sequence
        Label of each code.

    Returns
    -------
    ndarray of shape (n_classes,), or None
        The labels; or, if the labels are text and the classifier was fitted on their codes, the codes.

    Raises
    ------
    ValueError
        If the classifier knows other classes.
    """
    known = [part.classes_ for part in _parts(estimator) if _is_frozen(part) and hasattr(part, "classes_")]
    if not known:
        if any(_is_frozen(part) and is_classifier(part) for part in _parts(estimator)):
            raise ValueError(
                f"{type(estimator).__name__} holds a fitted classifier without the attribute classes_, so the order of "
                "its classes is unknown. Pass it unfitted."
            )
        return None
    known = [np.asarray(classes).tolist() for classes in known]
    if all(set(classes) <= set(labels) for classes in known):
        return np.asarray(labels)
    codes = list(range(len(labels)))
    if all(isinstance(label, str) for label in labels) and all(classes == codes for classes in known):
        return np.asarray(codes)
    wrong = next(classes for classes in known if not set(classes) <= set(labels))
    raise ValueError(
        f"{type(estimator).__name__} holds a classifier that was fitted on the classes {_few(wrong)}, but y holds "
        f"{_few(labels)}. Fit it on labels of y, or pass it unfitted."
    )


def is_fitted_before(estimator: Any) -> bool:
    """Return whether the estimator holds a fitted model that predicts (`FrozenEstimator`)."""
    return any(_is_frozen(part) and hasattr(part, "predict") for part in _parts(estimator))


def refuses_weights(estimator: Any) -> bool:
    """Return whether the user turned the weights of an estimator off, with ``set_fit_request(sample_weight=False)``."""
    return _asked(estimator) is False


def check_components(name: str, transformer: Any, n_rows: int, n_columns: int) -> None:
    """Raise an error for a PCA or truncated SVD with more components than its rows or columns allow.

    The first step of a pipeline that changes the number of columns is checked.

    Parameters
    ----------
    name : str
        What it gets, for the message.
    transformer : transformer, estimator or pipeline
    n_rows, n_columns : int
    """
    steps = [step for _, step in transformer.steps] if isinstance(transformer, Pipeline) else [transformer]
    for step in steps:
        if step is None or isinstance(step, (str, OneToOneFeatureMixin)):
            continue
        count: Any = getattr(step, "n_components", None)
        most = n_columns if isinstance(step, TruncatedSVD) else min(n_rows, n_columns)
        limited = isinstance(step, (PCA, IncrementalPCA, TruncatedSVD)) and isinstance(count, Integral)
        if limited and count > most:
            raise ValueError(
                f"{type(step).__name__}(n_components={count}) is too wide for {name}, which has {n_columns} columns in "
                f"{n_rows} rows; pass n_components of at most {most}"
                + ("." if isinstance(step, TruncatedSVD) else ", or a share of the variance such as 0.95.")
            )
        return


def _few(values: Sequence[Any]) -> str:
    return repr(list(values)) if len(values) <= _SHOWN else f"{list(values[:_SHOWN])} and {len(values) - _SHOWN} more"


def _is_frozen(part: Any) -> bool:
    """Return whether a clone of an estimator is the estimator itself."""
    if isinstance(part, FrozenEstimator):
        return True
    own = getattr(type(part), "__sklearn_clone__", None)
    return own is not None and own is not BaseEstimator.__sklearn_clone__ and clone(part) is part


def weight_codes(estimator: Any, labels: Sequence[Any]) -> Any:
    """Replace labels by codes in the ``class_weight`` dicts of an estimator, because it is fitted on codes.

    This includes those of its parts, and those in the grid of a search. Labels that are not in `labels` are left out; a
    label without a weight gets the weight 1. In one-vs-rest, a dict names 0 and 1, and is left as it is.

    Parameters
    ----------
    estimator : estimator
    labels : sequence
        Label of each code.

    Returns
    -------
    estimator
        A changed clone, or the estimator itself if it has no such dict.

    Raises
    ------
    ValueError
        If a dict names texts and the labels are none, or the other way round.
    """
    if not len(labels) or not hasattr(estimator, "get_params"):
        return estimator
    params = estimator.get_params(deep=True)
    binary = [name for name, part in {"": estimator, **params}.items() if isinstance(part, OneVsRestClassifier)]
    changed = {
        name: _coded(name, value, labels)
        for name, value in params.items()
        if not any(name.startswith(f"{outer}__" if outer else "estimator__") for outer in binary)
    }
    changed = {name: value for name, value in changed.items() if value is not params[name]}
    return clone(estimator).set_params(**changed) if changed else estimator


def check_label_types(what: str, named: Sequence[Any], labels: Sequence[Any]) -> None:
    """Raise `ValueError` if a label that a parameter names is a text and the labels in y are none, or vice versa."""
    other = [label for label in named if isinstance(label, str) != isinstance(labels[0], str)]
    if other:
        raise ValueError(
            f"{what} names the class {short_repr(other[0])} ({type(other[0]).__name__}), but the classes in y are of "
            f"type {type(labels[0]).__name__}, such as {short_repr(labels[0])}. Name them as y does."
        )


# Parameters of scikit-learn's searches that hold candidates for other parameters.
_GRIDS = ("param_grid", "param_distributions")


def _coded(name: str, value: Any, labels: Sequence[Any]) -> Any:
    """Return the value of a parameter with codes in place of labels; the value itself if it names no labels."""
    last = name.rpartition("__")[2]
    if last == "class_weight" and isinstance(value, Mapping):
        # Every class gets a weight: scikit-learn refuses a dict that lacks one class and names another which is absent,
        # and a fold of a cross-validation inside the estimator may lack a class.
        check_label_types("class_weight", list(value), labels)
        return {code: value.get(label, 1.0) for code, label in enumerate(labels)}
    if last not in _GRIDS:
        return value
    if isinstance(value, list):
        grids = [_coded(name, grid, labels) for grid in value]
        return value if all(new is old for new, old in zip(grids, value, strict=True)) else grids
    if not isinstance(value, Mapping):
        return value
    weights = {
        key: [_coded(key, candidate, labels) for candidate in candidates]
        for key, candidates in value.items()
        if key.rpartition("__")[2] == "class_weight" and isinstance(candidates, (list, tuple))
    }
    return {**value, **weights} if weights else value


def _forget_requests(part: Any, seen: set[int] | None = None) -> None:
    """Remove the metadata requests of all parts, because a fitted estimator with them cannot be saved.

    `seen` has the ids of the parts so far: a part may hold itself.
    """
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, (list, tuple, set)):
        values: Any = part
    elif isinstance(part, Mapping):
        values = part.values()
    elif isinstance(part, BaseEstimator) and not _is_frozen(part):  # a frozen part is the user's own object
        vars(part).pop("_metadata_request", None)
        values = vars(part).values()
    else:
        return
    for value in list(values):
        _forget_requests(value, seen)


def _parts(estimator: Any) -> list[Any]:
    """Return the estimator and all its parts, without the insides of frozen parts."""
    if _is_frozen(estimator) or not hasattr(estimator, "get_params"):
        return [estimator]
    nested = [part for part in estimator.get_params(deep=True).values() if not isinstance(part, type)]
    inside = {id(value) for part in nested if _is_frozen(part) for value in part.get_params(deep=True).values()}
    return [estimator, *(part for part in nested if id(part) not in inside)]


def _asked(part: Any, name: str = "sample_weight") -> Any:
    """Return what the user asked for with ``set_fit_request(sample_weight=...)``; None if nothing."""
    request = getattr(part, "_metadata_request", None)
    return None if request is None else request.fit.requests.get(name)


def _request_groups(estimator: Any) -> None:
    """Request groups for the last step. A step before it that takes some gets none, as without weights."""
    last = [estimator, *(step for _, step in _last_steps(estimator))][-1]
    for part in _parts(estimator):
        request = getattr(part, "set_fit_request", None)
        if request is None or _is_frozen(part) or not has_fit_parameter(part, "groups"):
            continue
        if _asked(part, "groups") is None:
            request(groups=part is last)


def _request_weights(estimator: Any) -> tuple[bool, bool]:
    """Request ``sample_weight`` for every part for which the user has not asked for anything.

    Returns
    -------
    last : bool
        Whether the last step takes weights in `fit`, or a part of it.
    refused : bool
        Whether the user turned them off there.
    """
    end = estimator
    while isinstance(end, Pipeline):
        end = end.steps[-1][1]
    decisive = {id(part) for part in _parts(end)}
    last = refused = False
    for part in _parts(estimator):
        asked = _asked(part)
        if not _is_frozen(part):
            _request(part, "score")
            asked = _request(part, "fit") if asked is None else asked
        last = last or (asked is True and id(part) in decisive)
        refused = refused or (asked is False and id(part) in decisive)
    return last, refused


def _request(part: Any, method: str) -> bool | None:
    """Request weights for a method of a part, if the user has not. Return True, or None if it takes none."""
    asked = getattr(getattr(part, "_metadata_request", None), method, None)
    if asked is not None and asked.requests.get("sample_weight") is not None:
        return None
    request = getattr(part, f"set_{method}_request", None)
    try:
        if request is not None:
            request(sample_weight=True)
            return True
    except TypeError:  # this part has no such argument
        pass
    return None


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
