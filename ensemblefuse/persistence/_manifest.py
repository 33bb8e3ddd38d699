"""What a saved model says about itself. Floor 4."""

from __future__ import annotations

import importlib
import json
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse import __version__
from ensemblefuse.encoders._weights import PACKAGED
from ensemblefuse.exceptions import short_repr
from ensemblefuse.persistence._archive import FORMAT
from ensemblefuse.persistence._types import type_name

_PACKAGES = ("numpy", "scikit-learn", "scipy", "pandas", "skops")
# How many leading numbers of a version must agree: the state of estimators changes between minor releases of these.
_COMPARED = {"scikit-learn": 2, "xgboost": 2, "ensemblefuse": 2, "numpy": 1, "scipy": 1, "pandas": 1}


def describe(model: Any, found: set[str]) -> dict[str, Any]:
    packages = [*_PACKAGES, *(["xgboost"] if any(name.startswith("xgboost.") for name in found) else [])]
    versions = {"ensemblefuse": __version__, "python": platform.python_version()}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions | {name: _version(name) for name in packages},
        "model": type_name(type(model)),
    }
    classes = getattr(model, "classes_", None)
    if classes is not None:
        manifest["classes"] = plain(classes)
    pipeline = getattr(model, "best_estimator_", model)
    encode = pipeline.steps[0][1] if isinstance(pipeline, Pipeline) else None
    if isinstance(encode, ColumnTransformer) and hasattr(encode, "transformers_"):
        manifest["modalities"] = _modalities(encode)
        numbers = getattr(encode, "numeric_columns_", ())
        columns = [column for modality in manifest["modalities"] for column in modality["columns"]]
        manifest["input"] = {column: "number" if column in numbers else "object" for column in columns}
    return manifest


def _modalities(encode: ColumnTransformer) -> list[dict[str, Any]]:
    names = pd.DataFrame(columns=getattr(encode, "feature_names_in_", range(encode.n_features_in_)))
    return [
        {
            "name": name,
            "columns": [str(column) for column in _columns(names, columns)],
            "encoder": [_encoder(step) for step in _steps(encoder)],
        }
        for name, encoder, columns in encode.transformers_
        if not (isinstance(encoder, str) and encoder == "drop")
    ]


def _columns(names: pd.DataFrame, columns: Any) -> Iterable[Any]:
    if isinstance(columns, str):
        return [columns]
    ends = (columns.start, columns.stop) if isinstance(columns, slice) else columns
    by_name = any(isinstance(end, str) for end in ends)
    return (names.loc[:, columns] if by_name else names.iloc[:, columns]).columns


def _steps(encoder: Any) -> list[Any]:
    return [step for _, step in encoder.steps] if isinstance(encoder, Pipeline) else [encoder]


def _encoder(step: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"repr": " ".join(repr(step).split())}
    if hasattr(step, "recipe"):
        described["recipe"] = recipe = step.recipe()
        # A recipe holds the digest of the user's own weights, and names those of packages, whose digests stand here.
        named = [value for value in (recipe or {}).get("params", {}).values() if isinstance(value, str)]
        described["weights"] = {name: PACKAGED[name].sha256 for name in named if name in PACKAGED}
    return described


def predictions(model: Any, example: Any) -> dict[str, np.ndarray]:
    return {
        method: np.asarray(getattr(model, method)(example))
        for method in ("predict", "predict_proba")
        if hasattr(model, method)
    }


def plain(value: Any) -> Any:
    """Arrays as lists of JSON types; what JSON lacks as text, NaN as None."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def checked_metadata(metadata: Any) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise ValueError(f"metadata must be a dict of str to JSON-serialisable values; got {metadata!r}.")
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise ValueError(f"metadata has the key {key!r}; keys must be str.")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"metadata[{key!r}] cannot be written as JSON: {error}; got {short_repr(value)}."
            ) from error
    return dict(metadata)


def differing_versions(manifest: Mapping[str, Any]) -> str:
    """``"scikit-learn 1.6.1 (here 1.9.1)"``, ..., or nothing."""
    facts = []
    saved_versions = manifest.get("versions")
    for package, saved in (saved_versions if isinstance(saved_versions, Mapping) else {}).items():
        if package not in _COMPARED:
            continue
        here = _version(package)
        n = _COMPARED[package]
        if str(saved).split(".")[:n] != here.split(".")[:n]:
            facts.append(f"{package} {saved} (here {here})")
    return ", ".join(facts)


def _version(package: str) -> str:
    """What the module says: a distribution may have another name, such as xgboost-cpu."""
    try:
        return importlib.import_module({"scikit-learn": "sklearn"}.get(package, package)).__version__
    except ImportError:
        return "not installed"
