"""The types that a saved model may hold, and calls of skops, which builds them."""

from __future__ import annotations

import importlib
import io
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from ensemblefuse._public_names import current_path, public_path
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.persistence import bounds
from ensemblefuse.persistence._other_versions import installed_path, loss_types
from ensemblefuse.persistence._requests import restore_requests
from ensemblefuse.persistence.archive import DAMAGE, MODEL, damaged, first_line

_OURS, _SCHEMA = "ensemblefuse", "schema.json"
# The protocol of skops 0.12, the oldest version that this library accepts.
_OLDEST_PROTOCOL = 2

# Types in fusion models that skops does not trust by itself. Only the types are known, not their contents.
_KNOWN_TYPES = frozenset(
    {
        "builtins.frozenset",
        "builtins.range",
        "numpy.dtype",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._bsplines._BSpline",
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._kd_tree.KDTree64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._ball_tree.BallTree64",
        "sklearn.metrics._dist_metrics.ChebyshevDistance64",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.DotProduct",
        "sklearn.gaussian_process.kernels.Exponentiation",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.RationalQuadratic",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.feature_selection._mutual_info.mutual_info_classif",
        "sklearn.feature_selection._mutual_info.mutual_info_regression",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._split.GroupKFold",
        "sklearn.model_selection._split.GroupShuffleSplit",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.LeaveOneGroupOut",
        "sklearn.model_selection._split.LeaveOneOut",
        "sklearn.model_selection._split.PredefinedSplit",
        "sklearn.model_selection._split.RepeatedKFold",
        "sklearn.model_selection._split.RepeatedStratifiedKFold",
        "sklearn.model_selection._split.ShuffleSplit",
        "sklearn.model_selection._split.StratifiedGroupKFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.model_selection._split.StratifiedShuffleSplit",
        "sklearn.model_selection._split.TimeSeriesSplit",
        "sklearn.model_selection._split._CVIterableWrapper",
        "sklearn.utils._bunch.Bunch",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRegressor",
        "xgboost.sklearn.XGBRFClassifier",
        "xgboost.sklearn.XGBRFRegressor",
        # A spline of scipy holds the function that makes its arrays.
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        # Needed with scikit-learn 1.6 and skops 0.12; later versions trust them by themselves, or do not store them.
        "_loss.CyHalfMultinomialLoss",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn._loss.link.HalfLogitLink",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogLink",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.AbsoluteError",
        "sklearn._loss.loss.ExponentialLoss",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfGammaLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn._loss.loss.HalfPoissonLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn._loss.loss.HuberLoss",
        "sklearn._loss.loss.PinballLoss",
    }
)


@lru_cache(maxsize=1)
def known_types() -> frozenset[str]:
    """Return the names of the types that `load_model` builds in addition to those on skops' own list."""
    from sklearn.metrics import get_scorer, get_scorer_names

    ours = [
        value
        for room in ("combine", "compose", "deployment", "encoders", "features", "fusion", "networks")
        for module in [importlib.import_module(f"ensemblefuse.{room}")]
        for value in map(vars(module).get, module.__all__)
        if isinstance(value, type) and issubclass(value, BaseEstimator)
    ]
    metrics = [get_scorer(name)._score_func for name in get_scorer_names()]
    return _KNOWN_TYPES | {type_name(value) for value in [*ours, *metrics]} | loss_types()


def type_name(value: Any) -> str:
    """Return the name of a type or function in a file; for the library's own, the public path."""
    path = public_path(value) if hasattr(value, "__qualname__") else ""
    return path if path.startswith(f"{_OURS}.") else f"{value.__module__}.{value.__name__}"


def trusted_names(trusted: Any) -> set[str]:
    items = [trusted] if isinstance(trusted, (str, type)) or not isinstance(trusted, Iterable) else list(trusted)
    if not all(isinstance(item, str) or callable(item) for item in items):
        raise ValueError(f'trusted must be a list of names such as "my_module.MyEncoder", or types; got {trusted!r}.')
    return {current_path(item) if isinstance(item, str) else type_name(item) for item in items}


@lru_cache(maxsize=1)
def skops_io() -> Any:
    """Return `skops.io`, imported without torch, cupy and dask.

    Its import walks through all of scikit-learn to collect the names of estimators. That includes adapters for these
    packages. The adapters hold no estimator but import the packages: torch takes 3 seconds and 500 MB.
    """
    adapters = [f"sklearn.externals.array_api_compat.{name}" for name in ("torch", "cupy", "dask")]
    absent = [name for name in adapters if name not in sys.modules]
    # None makes their import fail, and skops skips modules that cannot be imported.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        return importlib.import_module("skops.io")
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def with_current_names(data: bytes) -> bytes:
    """Return a skops file that names types as the installed versions do, whichever versions wrote it."""
    return _renamed(data, lambda path: installed_path(current_path(path)))


def _stored_path(path: str) -> str:
    """Return the public path for the module and name of one of the library's own types."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None) if module.split(".")[0] == _OURS else None
    return path if found is None else type_name(found)


def _renamed(data: bytes, rename: Callable[[str], str]) -> bytes:
    """Return a skops file with renamed types; the same bytes if no name changes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        changed, stack = False, [schema]
        while stack:
            node = stack.pop()
            if isinstance(node, dict):
                old = f"{node.get('__module__')}.{node.get('__class__')}"
                if (new := rename(old)) != old:
                    node["__module__"], _, node["__class__"] = new.rpartition(".")
                    changed = True
                stack.extend(node.values())
            elif isinstance(node, list):
                stack.extend(node)
        if not changed:
            return data
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as renamed:
            for info in archive.infolist():
                content = json.dumps(schema).encode() if info.filename == _SCHEMA else archive.read(info)
                renamed.writestr(info, content)
    return buffer.getvalue()


def untrusted_types(data: bytes, path: Path) -> set[str]:
    try:
        return set(skops_io().get_untrusted_types(data=data))
    except Exception as error:
        raise PersistenceError(
            f"{path} holds a {MODEL} that skops cannot read: {type(error).__name__}: {first_line(error)}."
        ) from error


def build(data: bytes, allowed: set[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)  # one for every part; load_model warns once
        model = skops_io().loads(data, trusted=sorted(allowed))
    restore_requests(model)
    return model


def types_in(data: bytes, path: Path, size: int) -> set[str]:
    """Return all types and functions that a skops file names, read as plain JSON.

    Parameters
    ----------
    data : bytes
        The skops file.
    path : Path
        The model file that holds it.
    size : int
        Bytes of the model file on disk. What it may cost grows with this, not with `data`, which is unpacked already.

    Raises
    ------
    PersistenceError
        If the file cannot be read as JSON, or would take too much memory. If this library never wrote its protocol
        (readers of old protocols check less). If it reads its members so often that it cannot be a model.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            bounds.check_sizes(path, archive, size)
            schema = bounds.load_json(path, archive, _SCHEMA, bounds.limits_of_model(size))
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except PersistenceError:
        raise
    except (*DAMAGE, RecursionError) as error:
        raise damaged(path, f"its {MODEL} cannot be read: {first_line(error)}") from error
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if type(protocol) is not int or protocol < _OLDEST_PROTOCOL:
        raise PersistenceError(f"{path} holds a {MODEL} of protocol {protocol!r}, which save_model never wrote.")
    stack, found, read, seen = [schema], set(), 0, set()
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("__loader__"), str) and node["__loader__"] != "JsonNode":
                found.add(current_path(f"{node.get('__module__')}.{node.get('__class__')}"))
                if isinstance(node.get("file"), str) and ("__id__" not in node or node["__id__"] not in seen):
                    read += sizes.get(node["file"], 0)
                    seen.add(node.get("__id__"))
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    if read > bounds.LARGE and read > bounds.RATIO * size:
        raise PersistenceError(
            f"{path} has {size:,} bytes and holds a {MODEL} that would unpack to {read:,} bytes: no model is like "
            "that, so it was not read."
        )
    return found


def dump(model: Any) -> bytes:
    try:
        return _renamed(skops_io().dumps(model), _stored_path)
    except Exception as error:
        raise PersistenceError(
            f"{type(model).__name__} cannot be stored without pickle: {type(error).__name__}: {first_line(error)}. "
            "joblib.dump may take it; load such a file only from people you trust."
        ) from error
