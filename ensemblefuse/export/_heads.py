"""Fitted estimators and transformers as parts of an ONNX graph: heads of members and the steps before them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, PowerTransformer, StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, NuSVR
from sklearn.utils._missing import is_scalar_nan

from ensemblefuse.export._graph import INT64, TREES, Graph, Value, where
from ensemblefuse.export._support import _FAILS
from ensemblefuse.features import BlockNystroem, BlockPCA, BlockScaler
from ensemblefuse.fusion import LogTargetRegressor

__all__ = ["UnsupportedError", "codes", "decision_values", "prediction", "probabilities", "transform"]

_INSTEAD = {False: ["LogisticRegression", "RandomForestClassifier"], True: ["Ridge", "RandomForestRegressor"]}
# Estimators that the converters write wrongly, without an error.
_WRONG = {
    "GaussianProcessRegressor": "float32 has too few digits for its kernel",
}


class UnsupportedError(ValueError):
    """Raised for a part of a model that cannot be written as ONNX."""

    def __init__(self, part: Any, why: str, instead: list[str] | None = None):
        kind = type(part)
        known = next((other for some in _FAILS.values() for name, other in some.items() if name == kind.__name__), None)
        others = instead or ([known] if known else _INSTEAD[is_regressor(part)])
        super().__init__(f"{kind.__name__} ({why}). Use instead, for example, {', '.join(others)}")


def unwrapped(estimator: Any) -> Any:
    """Return the estimator that a search has chosen; any other estimator unchanged."""
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    return estimator


def probabilities(g: Graph, estimator: Any, x: Value, width: int) -> Value:
    """Return ``estimator.predict_proba``: shape (n, n_classes)."""
    estimator, x, width = _last(g, estimator, x, width)
    if isinstance(estimator, VotingClassifier):
        return _vote(g, estimator, x, width)
    if isinstance(estimator, LinearDiscriminantAnalysis):  # for two classes skl2onnx squares the odds
        return decision_values(g, estimator, x, width).softmax()
    if isinstance(estimator, KNeighborsClassifier) and estimator.weights != "uniform":
        raise UnsupportedError(estimator, f"weights={estimator.weights!r} needs distances that float32 lacks")
    proba = _numbers(g, estimator, x, width, 1, zipmap=False)
    return proba.op("Clip", np.array(0.0), np.array(1.0))  # 1 minus a sum of float32 may be negative


def _vote(g: Graph, estimator: Any, x: Value, width: int) -> Value:
    """Return the mean of the parts' probabilities; skl2onnx does not convert this."""
    parts = [probabilities(g, part, x, width) for part in estimator.estimators_]
    weights = np.ones(len(parts)) if estimator.weights is None else estimator._weights_not_none
    out = parts[0] * float(weights[0])
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        out = out + part * float(weight)
    return out / float(np.sum(weights))


def codes(g: Graph, estimator: Any, x: Value, width: int) -> Value:
    """Return ``estimator.predict`` of a classifier fitted on whole numbers: shape (n,)."""
    estimator, x, width = _last(g, estimator, x, width)
    if isinstance(estimator, (VotingClassifier, LinearDiscriminantAnalysis)):
        return probabilities(g, estimator, x, width).op("ArgMax", axis=1, keepdims=0)
    return _embedded(g, estimator, x, width, zipmap=False)[0].op("Cast", to=INT64).op("Reshape", np.array([-1]))


def prediction(g: Graph, estimator: Any, x: Value, width: int) -> Value:
    """Return ``estimator.predict`` of a regressor: shape (n, 1)."""
    estimator, x, width = _last(g, estimator, x, width)
    if isinstance(estimator, TransformedTargetRegressor):
        scaler = estimator.transformer_
        if type(scaler) is not StandardScaler:
            raise UnsupportedError(estimator, "only a StandardScaler may transform its targets")
        scale = 1.0 if scaler.scale_ is None else scaler.scale_
        mean = 0.0 if scaler.mean_ is None else scaler.mean_
        return prediction(g, estimator.regressor_, x, width) * scale + mean
    if isinstance(estimator, LogTargetRegressor):
        low, high = (float(end) for end in estimator.range_)
        return prediction(g, estimator.regressor_, x, width).op("Clip", low, high).exp() * estimator.factor_
    if isinstance(estimator, (SVR, NuSVR)) and isinstance(estimator.kernel, str):
        return _machines(g, [estimator], x)
    return _numbers(g, estimator, x, width, 0).op("Reshape", np.array([-1, 1]))


def decision_values(g: Graph, estimator: Any, x: Value, width: int) -> Value:
    """Return ``estimator.decision_function``: shape (n, n_classes); for two classes minus and plus a half of it."""
    estimator, x, width = _last(g, estimator, x, width)
    n_classes = len(estimator.classes_)
    values = _decisions(g, estimator, x, width)
    if n_classes > 2:
        return values
    return g.concat([values * -0.5, values * 0.5])


def _decisions(g: Graph, estimator: Any, x: Value, width: int) -> Value:
    """Return ``estimator.decision_function`` with one column for two classes."""
    if isinstance(estimator, LinearClassifierMixin):
        return x @ np.asarray(estimator.coef_).reshape(-1, width).T + np.asarray(estimator.intercept_).reshape(1, -1)
    if isinstance(estimator, (SVC, NuSVC)) and len(estimator.classes_) == 2:
        return _machines(g, [estimator], x)
    if isinstance(estimator, OneVsRestClassifier):
        return _one_vs_rest(g, estimator, x, width)
    values = _numbers(g, estimator, x, width, 1, zipmap=False, raw_scores=True)
    return values.columns([1]) if len(estimator.classes_) == 2 else values


def _one_vs_rest(g: Graph, estimator: Any, x: Value, width: int) -> Value:
    parts = estimator.estimators_
    first = parts[0]
    alike = {(type(part), getattr(part, "kernel", None), getattr(part, "_gamma", None)) for part in parts}
    if isinstance(first, (SVC, NuSVC)) and isinstance(first.kernel, str) and len(alike) == 1:
        return _machines(g, parts, x)
    if not all(hasattr(part, "decision_function") and len(getattr(part, "classes_", [])) == 2 for part in parts):
        raise UnsupportedError(estimator, "its parts have no decision values")
    return g.concat([_decisions(g, part, x, width) for part in parts])


def _machines(g: Graph, machines: list[Any], x: Value) -> Value:
    """Return the decision values of support vector machines with the same kernel; they share all support vectors."""
    first = machines[0]
    vectors, place = np.unique(np.vstack([m.support_vectors_ for m in machines]), axis=0, return_inverse=True)
    weights = np.zeros((len(vectors), len(machines)))
    starts = np.cumsum([0, *(len(m.support_vectors_) for m in machines)])
    for column, machine in enumerate(machines):
        rows = place.ravel()[starts[column] : starts[column + 1]]
        np.add.at(weights[:, column], rows, machine.dual_coef_.ravel())
    intercept = np.array([machine.intercept_[0] for machine in machines])
    return _kernel(first, x, vectors) @ weights + intercept[None]


def _kernel(machine: Any, x: Value, vectors: np.ndarray) -> Value:
    inner = x @ vectors.T
    gamma, coef0 = float(machine._gamma), float(machine.coef0)
    if machine.kernel == "linear":
        return inner
    if machine.kernel == "poly":
        return (inner * gamma + coef0).op("Pow", float(machine.degree))
    if machine.kernel == "sigmoid":
        return (inner * gamma + coef0).op("Tanh")
    if machine.kernel != "rbf":
        raise UnsupportedError(machine, f"its kernel is {machine.kernel!r}", ["SVC(kernel='rbf')"])
    return (_distances(x, vectors) * -gamma).exp()


def _distances(x: Value, rows: np.ndarray) -> Value:
    """Return the squared distances to each of `rows`."""
    squares = (x * x).sum() + (rows**2).sum(axis=1)[None]
    return (squares - (x @ rows.T) * 2.0).at_least(0.0)


# ---------------------------------------------------------------------- transformers


def transform(g: Graph, step: Any, x: Value, width: int) -> tuple[Value, int]:
    """Return ``step.transform`` and its number of columns."""
    if step is None or isinstance(step, str):  # "passthrough"
        return x, width
    if isinstance(step, Pipeline):
        for _, part in step.steps:
            x, width = transform(g, part, x, width)
        return x, width
    if type(step) is StandardScaler:
        return _standardised(step, x), width
    if isinstance(step, BlockScaler):
        return _scaled(g, step, x, width), width
    if isinstance(step, SimpleImputer):
        if step.add_indicator or not is_scalar_nan(step.missing_values):
            raise UnsupportedError(step, "it must fill NaN and add no indicator", ["SimpleImputer()"])
        if step.keep_empty_features or not np.isnan(step.statistics_).any():  # otherwise it drops columns
            return where(x.op("IsNaN"), np.asarray(step.statistics_, dtype=float)[None], x), width
    if isinstance(step, (BlockPCA, BlockNystroem)):
        parts = [_components(g, step, name, x.columns(columns)) for name, columns in step.blocks_.items()]
        return g.concat([part for part, _ in parts]), sum(size for _, size in parts)
    if type(step) is Nystroem:
        return _nystroem(step, x, width), len(step.components_)
    if isinstance(step, ColumnTransformer) and any(isinstance(part, BlockPCA) for _, part, _ in step.transformers_):
        return _by_columns(g, step, x, width)
    if not hasattr(step, "transform") or is_classifier(step):
        raise UnsupportedError(step, "skl2onnx does not convert it", ["StandardScaler", "PCA"])
    out = _embedded(g, step, x, width)[0].number()
    if isinstance(step, PowerTransformer):  # that of scikit-learn keeps NaN
        out = where(x.op("IsNaN"), np.nan, out)
    return out, np.asarray(step.transform(np.zeros((1, width)))).shape[1]


def _standardised(scaler: StandardScaler, x: Value) -> Value:
    """Scale in float64, as scikit-learn does: a tree compares the result with a threshold of the same origin."""
    if scaler.with_mean:
        x = x - np.asarray(scaler.mean_)[None]
    return x / np.asarray(scaler.scale_)[None] if scaler.with_std else x


def _scaled(g: Graph, scaler: BlockScaler, x: Value, width: int) -> Value:
    factors, z = np.ones(width), _standardised(scaler.scaler_, x)
    if scaler.method == "unit":
        z = _unit_length(g, scaler, z, width)
    for name, columns in scaler.blocks_.items():
        factors[columns] = scaler.scale_[name]
    return z * factors[None]


def _unit_length(g: Graph, scaler: BlockScaler, z: Value, width: int) -> Value:
    belongs = np.zeros((len(scaler.blocks_), width))
    for row, columns in enumerate(scaler.blocks_.values()):
        belongs[row, columns] = 1
    squares = where(z.op("IsNaN"), 0.0, z * z)
    norm = (squares @ belongs.T).op("Sqrt")
    return z / (where(norm.equals(0.0), 1.0, norm) @ belongs)


def _by_columns(g: Graph, step: ColumnTransformer, x: Value, width: int) -> tuple[Value, int]:
    """Return the outputs of the parts side by side; skl2onnx knows none of this library's transformers."""
    parts = []
    for _, part, columns in step.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        identity = isinstance(part, FunctionTransformer) and part.func is None  # what "passthrough" becomes in fit
        own = np.arange(width)[columns]
        parts.append(transform(g, "passthrough" if identity else part, x.columns(own), len(own)))
    return g.concat([part for part, _ in parts]), sum(size for _, size in parts)


def _components(g: Graph, step: BlockPCA | BlockNystroem, name: str, x: Value) -> tuple[Value, int]:
    """Return the components of one block; a row of NaN stays NaN."""
    known = step.pcas_ if isinstance(step, BlockPCA) else step.nystroems_
    if name not in known:
        return x.columns([0]) * np.nan, 1
    part = known[name]
    if isinstance(step, BlockPCA):
        out = (x - part.mean_[None]) @ part.components_.T
        if part.whiten:
            out = out / np.sqrt(part.explained_variance_)[None]
        return out, len(part.components_)
    lost = x.op("IsNaN").any()  # Max need not keep NaN
    features = _nystroem(part, x, part.n_features_in_) * step.scale_[name]
    return where(lost, np.nan, features), len(part.components_)


def _nystroem(step: Nystroem, x: Value, width: int) -> Value:
    if step.kernel != "rbf":
        raise UnsupportedError(step, f"its kernel is {step.kernel!r}", ["Nystroem(kernel='rbf')"])
    gamma = 1 / width if step.gamma is None else float(step.gamma)
    kernel = (_distances(x, np.asarray(step.components_)) * -gamma).exp()
    return kernel @ np.asarray(step.normalization_).T


# ---------------------------------------------------------------------- shared


def _last(g: Graph, estimator: Any, x: Value, width: int) -> tuple[Any, Value, int]:
    """Return the last step of a pipeline, and the output of the others for x."""
    estimator = unwrapped(estimator)
    while isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            x, width = transform(g, step, x, width)
        estimator = unwrapped(estimator.steps[-1][1])
    return estimator, x, width


def _numbers(g: Graph, estimator: Any, x: Value, width: int, place: int, **options: Any) -> Value:
    """Return one output; NaN for rows whose NaN the converters would send into the wrong branch of a tree."""
    out = _embedded(g, estimator, x, width, **options)[place].number()
    if isinstance(estimator, TREES):  # `Graph.embed` corrects these
        return out
    inner = [*estimator.get_params(deep=True).values(), getattr(estimator, "estimator_", None)]
    holds_trees = any(isinstance(part, TREES) for part in inner)
    return where(x.op("IsNaN").any(), np.nan, out) if holds_trees else out


def _embedded(g: Graph, estimator: Any, x: Value, width: int, **options: Any) -> list[Value]:
    if type(estimator).__name__ in _WRONG:
        raise UnsupportedError(estimator, _WRONG[type(estimator).__name__])
    try:
        return g.embed(estimator, x, width, **options)
    except ImportError:
        raise
    except Exception as error:
        text = str(error).strip().splitlines()
        why = f"skl2onnx does not convert it: {type(error).__name__}: {text[0][:200] if text else ''}"
        raise UnsupportedError(estimator, why) from error
