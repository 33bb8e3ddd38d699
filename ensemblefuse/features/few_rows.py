"""Fitted estimators asked for few rows, without the checks of scikit-learn that take longer than their work.

A fusion has checked its blocks once. For one row, each step of each member would check them again: names, tags, memory
layout and settings take about 80 microseconds, the arithmetic takes 5. The functions here do the same operations on the
same arrays in the same order, so their numbers are equal to the last bit. Everything that they do not know, they leave
to the estimator: other types, more rows, numbers that are not finite, and settings that change what a step returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import sklearn
from scipy import sparse
from sklearn import get_config
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms
from sklearn.utils.fixes import parse_version
from sklearn.utils.validation import validate_data

from ensemblefuse.features._table_transformer import TableTransformer

__all__ = ["checked_floats", "decision_values", "numbers", "probabilities", "transform"]

# Above, the checks no longer matter, and a step may split its rows.
_MOST_ROWS = 64
# Up to 1.7, scikit-learn computed a scaled table of single precision in double precision.
_SCALES_IN_DOUBLE = parse_version(sklearn.__version__) < parse_version("1.8")
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# Chunks of the components of fitted kernels in double precision. A cache, not state.
_chunks: WeakKeyDictionary[Any, tuple[np.ndarray, list[tuple[slice, np.ndarray, np.ndarray]]]] = WeakKeyDictionary()


def transform(step: Any, X: Any) -> Any:
    """Return ``step.transform(X)`` of a fitted transformer.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.features.few_rows import transform
    >>> from sklearn.preprocessing import StandardScaler
    >>> transform(StandardScaler().fit([[0.0], [2.0]]), np.array([[3.0]]))
    array([[2.]])
    """
    found = _lean_table(step, X) if isinstance(X, pd.DataFrame) else _lean(_TRANSFORMS, step, X)
    return step.transform(X) if found is None else found


def checked_floats(step: Any, X: Any) -> np.ndarray:
    """Return X as the array of numbers that a fitted transformer reads; NaN is allowed, infinity is not."""
    if type(X) is np.ndarray and _is_plain(step, X) and not np.isinf(X).any():
        return X
    return validate_data(step, X, reset=False, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")


def decision_values(classifier: Any, X: Any) -> Any:
    """Return ``classifier.decision_function(X)`` of a fitted classifier."""
    found = _lean(_DECISIONS, classifier, X)
    return classifier.decision_function(X) if found is None else found


def probabilities(classifier: Any, X: Any) -> Any:
    """Return ``classifier.predict_proba(X)`` of a fitted classifier."""
    found = _boosted_probabilities(classifier, X) if _is_boosted(classifier, "XGBClassifier", X) else None
    return classifier.predict_proba(X) if found is None else found


def numbers(regressor: Any, X: Any) -> Any:
    """Return ``regressor.predict(X)`` of a fitted regressor."""
    if _is_boosted(regressor, "XGBRegressor", X):
        return _boosted(regressor, X)
    found = _lean(_NUMBERS, regressor, X)
    return regressor.predict(X) if found is None else found


def _lean(ways: dict[type, Callable[[Any, Any], Any]], step: Any, X: Any) -> Any:
    """Return the answer of a step, or None if the step itself must be asked."""
    way = ways.get(type(step))
    return way(step, X) if way is not None and _is_plain(step, X) else None


def _is_plain(step: Any, X: Any) -> bool:
    """Return whether X is what `fit` has seen, in a form that needs no conversion."""
    own = vars(step)
    if "feature_names_in_" in own or "_sklearn_output_config" in own:
        return False
    is_table = type(X) is np.ndarray or (sparse.issparse(X) and X.format == "csr")
    if not is_table or X.ndim != 2 or X.dtype not in _FLOATS or not 0 < X.shape[0] <= _MOST_ROWS:
        return False
    return type(step) in _WRAPPERS or X.shape[1] == own.get("n_features_in_")


def _is_finite(X: Any) -> bool:
    return bool(np.isfinite(X.data if sparse.issparse(X) else X).all())


# ---------------------------------------------------------------------- transformers


def _standardised(step: StandardScaler, X: Any) -> np.ndarray | None:
    if not step.copy or sparse.issparse(X):
        return None
    Z = np.array(X)
    if step.with_mean:
        Z -= _scaling(step.mean_, Z)
    if step.with_std:
        Z /= _scaling(step.scale_, Z)
    return Z


def _scaling(values: np.ndarray, Z: np.ndarray) -> np.ndarray:
    return values if _SCALES_IN_DOUBLE else values.astype(Z.dtype)


def _filled(step: SimpleImputer, X: Any) -> np.ndarray | None:
    gaps = step.missing_values
    if sparse.issparse(X) or X.dtype != step._fit_dtype or not isinstance(gaps, float) or not np.isnan(gaps):
        return None
    fills, lost = step.statistics_.astype(X.dtype), np.isnan(X)
    if np.isnan(fills).any() or np.isinf(X).any():
        return None
    Z = np.where(lost, fills, X)
    return np.hstack((Z, lost[:, step.indicator_.features_])) if step.add_indicator else Z


def _components(step: PCA, X: Any) -> np.ndarray | None:
    if sparse.issparse(X) or step.whiten or not _is_finite(X):
        return None
    Z = X @ step.components_.T
    Z -= step.mean_.reshape(1, -1) @ step.components_.T
    return Z


def _kernel_features(step: Nystroem, X: Any) -> np.ndarray | None:
    """Return the features of an RBF kernel of default width."""
    Y = step.components_
    given = (step.kernel_params, step.gamma, step.coef0, step.degree)
    if step.kernel != "rbf" or any(setting is not None for setting in given) or type(Y) is not np.ndarray:
        return None
    if sparse.issparse(X) or not _is_finite(X):
        return None
    if X.dtype == Y.dtype == np.float32:
        K = np.empty((len(X), len(Y)), dtype=np.float32)
        exact = X.astype(np.float64)
        lengths = row_norms(exact, squared=True)[:, None]
        for part, rows, their_lengths in _chunks_of(step, len(X)):
            K[:, part] = _distances(exact, lengths, rows, their_lengths)
    elif X.dtype == Y.dtype:
        K = _distances(X, row_norms(X, squared=True)[:, None], Y, row_norms(Y, squared=True)[None, :])
    else:
        return None
    np.maximum(K, 0, out=K)
    K *= -1.0 / X.shape[1]
    np.exp(K, K)
    return K @ step.normalization_.T


def _distances(X: np.ndarray, lengths: np.ndarray, Y: np.ndarray, their_lengths: np.ndarray) -> np.ndarray:
    K = -2 * (X @ Y.T)
    K += lengths
    K += their_lengths
    return K


def _chunks_of(step: Nystroem, n_rows: int) -> list[tuple[slice, np.ndarray, np.ndarray]]:
    """Return the components in double precision, in the chunks in which scikit-learn converts them for these rows.

    The chunks are made once for a model: converting them takes longer than the product.
    """
    Y: Any = step.components_
    size = _chunk_size(n_rows, *Y.shape)
    known: Any
    known, chunks = _chunks.get(step, (None, []))
    if known is not Y or not chunks or chunks[0][0].stop != min(size, len(Y)):
        chunks = []
        for part in gen_batches(len(Y), size):
            rows = Y[part].astype(np.float64)
            chunks.append((part, rows, row_norms(rows, squared=True)[None, :]))
        _chunks[step] = Y, chunks
    return chunks


def _chunk_size(n_rows: int, n_components: int, n_columns: int) -> int:
    """Return the number of components that scikit-learn converts at a time."""
    memory = max(((n_rows + n_components) * n_columns + n_rows * n_components) / 10, 10 * 2**17)
    return max(int((-2 * n_columns + np.sqrt(4 * n_columns**2 + 4 * memory)) / 2), 1)


def _side_by_side(step: ColumnTransformer, X: Any) -> np.ndarray | None:
    """Return the parts of a transformer whose columns are given by position."""
    if sparse.issparse(X) or step.sparse_output_ or step.transformer_weights:
        return None
    parts = []
    for _, part, columns in step.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        if not isinstance(columns, np.ndarray) or columns.dtype.kind != "i":
            return None
        cells = X[:, columns]
        parts.append(cells if isinstance(part, str) else transform(part, cells))
    alike = all(type(part) is np.ndarray and part.ndim == 2 for part in parts)
    return np.hstack(parts) if parts and alike else None


def _passed_on(step: FunctionTransformer, X: Any) -> Any:
    if step.validate:
        return None
    return X if step.func is None else step.func(X, **(step.kw_args or {}))


def _robust(step: RobustScaler, X: Any) -> np.ndarray | None:
    if not step.copy or X.dtype != np.float64 or sparse.issparse(X):
        return None
    Z = np.array(X)
    if step.with_centering:
        Z -= step.center_
    if step.with_scaling:
        Z /= step.scale_
    return Z


# ---------------------------------------------------------------------- tables with names


def _lean_table(step: Any, X: pd.DataFrame) -> np.ndarray | None:
    """Return the numbers of a table whose columns are transformed in groups, or of one such group."""
    if not 0 < len(X) <= _MOST_ROWS or "_sklearn_output_config" in vars(step):
        return None
    if type(step) in (ColumnTransformer, TableTransformer):
        return _groups_of_columns(step, X)
    return _steps_in_turn(step, X) if type(step) is Pipeline else None


def _groups_of_columns(step: ColumnTransformer, X: pd.DataFrame) -> np.ndarray | None:
    if step.sparse_output_ or step.transformer_weights or get_config()["enable_metadata_routing"]:
        return None
    groups = [(part, columns) for _, part, columns in step.transformers_ if not (isinstance(part, str))]
    passed = [part for _, part, _ in step.transformers_ if isinstance(part, str) and part != "drop"]
    named = all(isinstance(columns, list) and columns for _, columns in groups)
    wanted = [column for _, columns in groups for column in columns] if named and not passed else []
    # Names that are no text, are absent or come twice are scikit-learn's to judge.
    if not wanted or not X.columns.is_unique or not all(isinstance(c, str) and c in X.columns for c in wanted):
        return None
    parts = [transform(part, X[columns]) for part, columns in groups]
    return np.hstack(parts) if all(type(part) is np.ndarray and part.ndim == 2 for part in parts) else None


def _steps_in_turn(pipeline: Pipeline, X: pd.DataFrame) -> Any:
    """Return what a pipeline makes of a table; its first step learned the names, which the columns were chosen by."""
    steps = [step for _, step in pipeline.steps]
    if any(step is None or isinstance(step, str) for step in steps) or get_config()["enable_metadata_routing"]:
        return None
    Z = _named_numbers(steps[0], X)
    Z = steps[0].transform(X) if Z is None else Z
    for step in steps[1:]:
        Z = transform(step, Z)
    return Z


def _named_numbers(step: Any, X: pd.DataFrame) -> Any:
    """Return the answer of a first step that reads columns of numbers, or None if it must be asked itself."""
    way, own = _TRANSFORMS.get(type(step)), vars(step)
    names = own.get("feature_names_in_")
    if way is None or names is None or "_sklearn_output_config" in own or names.tolist() != X.columns.tolist():
        return None
    return way(step, X.to_numpy(np.float64)) if _has_double(X) else None


def _has_double(X: pd.DataFrame) -> bool:
    """Return whether scikit-learn, too, reads these columns as numbers of double precision."""
    dtypes = set(X.dtypes.tolist())
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in dtypes):
        return False
    return _FLOATS[1] in dtypes or all(dtype.kind in "iu" for dtype in dtypes)


# ---------------------------------------------------------------------- classifiers and regressors


def _linear_decision(step: Any, X: Any) -> np.ndarray | None:
    if not _is_finite(X):
        return None
    scores = X @ (step.coef_.T if step.coef_.ndim == 2 else step.coef_) + step.intercept_
    return scores.reshape(-1) if scores.ndim > 1 and scores.shape[1] == 1 else scores


def _linear_number(step: Any, X: Any) -> np.ndarray | None:
    if not _is_finite(X):
        return None
    return X @ (step.coef_ if step.coef_.ndim == 1 else step.coef_.T) + step.intercept_


def _machines_decide(step: OneVsRestClassifier, X: Any) -> np.ndarray | None:
    """Return the decision values of one support vector machine a class; X is made ready once for all of them."""
    machines = step.estimators_
    if sparse.issparse(X) or not all(type(m) is SVC and _has_rbf(m) for m in machines) or not _is_finite(X):
        return None
    X = np.ascontiguousarray(X, dtype=np.float64)
    values = [-machine._dense_decision_function(X).ravel() for machine in machines]
    return values[0] if len(values) == 1 else np.array(values).T


def _machine_number(step: SVR, X: Any) -> np.ndarray | None:
    if sparse.issparse(X) or not _has_rbf(step) or not _is_finite(X):
        return None
    return step._dense_predict(np.ascontiguousarray(X, dtype=np.float64))


def _has_rbf(machine: Any) -> bool:
    return machine.kernel == "rbf" and not machine._sparse


def _mean_of_trees(step: RandomForestRegressor, X: Any) -> np.ndarray | None:
    """Return the mean of the trees, added in their order; scikit-learn starts threads for it."""
    if sparse.issparse(X) or step.n_outputs_ != 1 or step.verbose or not _is_finite(X):
        return None
    X = np.ascontiguousarray(X, dtype=np.float32)
    if not _is_finite(X):
        return None
    total = np.zeros(len(X))
    for tree in step.estimators_:
        total += tree.tree_.predict(X)[:, 0]
    return total / len(step.estimators_)


def _scaled_back(step: TransformedTargetRegressor, X: Any) -> np.ndarray | None:
    scaler = step.transformer_
    if type(scaler) is not StandardScaler or not scaler.copy or step._training_dim != 1:
        return None
    Z = np.array(numbers(step.regressor_, X))
    if Z.ndim != 1 or Z.dtype not in _FLOATS:
        return None
    if scaler.with_std:
        Z *= _scaling(scaler.scale_, Z)
    if scaler.with_mean:
        Z += _scaling(scaler.mean_, Z)
    return Z


def _is_boosted(estimator: Any, name: str, X: Any) -> bool:
    """Return whether these are boosted trees of XGBoost, which is imported only where there are some."""
    kind = type(estimator)
    own = kind.__name__ == name and kind.__module__ == "xgboost.sklearn"
    is_table = type(X) is np.ndarray and X.ndim == 2 and 0 < X.shape[0] <= _MOST_ROWS and X.dtype in _FLOATS
    return own and is_table and estimator.booster in (None, "gbtree")


def _boosted(estimator: Any, X: np.ndarray) -> np.ndarray:
    rounds = estimator._get_iteration_range(None)
    return estimator.get_booster().inplace_predict(X, iteration_range=rounds, missing=estimator.missing)


def _boosted_probabilities(estimator: Any, X: np.ndarray) -> np.ndarray | None:
    if estimator.objective not in ("binary:logistic", "multi:softprob"):
        return None
    found = _boosted(estimator, X)
    return np.vstack((1.0 - found, found)).T if found.ndim == 1 else found


_WRAPPERS = (OneVsRestClassifier, TransformedTargetRegressor)
_TRANSFORMS: dict[type, Callable[[Any, Any], Any]] = {
    StandardScaler: _standardised,
    SimpleImputer: _filled,
    PCA: _components,
    Nystroem: _kernel_features,
    ColumnTransformer: _side_by_side,
    FunctionTransformer: _passed_on,
    RobustScaler: _robust,
}
_DECISIONS: dict[type, Callable[[Any, Any], Any]] = {
    LogisticRegression: _linear_decision,
    RidgeClassifier: _linear_decision,
    LinearDiscriminantAnalysis: _linear_decision,
    OneVsRestClassifier: _machines_decide,
}
_NUMBERS: dict[type, Callable[[Any, Any], Any]] = {
    Ridge: _linear_number,
    RidgeCV: _linear_number,
    SVR: _machine_number,
    RandomForestRegressor: _mean_of_trees,
    TransformedTargetRegressor: _scaled_back,
}
