"""The manifest of a saved model: the description that it holds of itself."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse import __version__
from ensemblefuse._plain import plain, plain_dict
from ensemblefuse.backbones.weights import PACKAGED
from ensemblefuse.exceptions import short_repr
from ensemblefuse.features import PresentRows
from ensemblefuse.fitted.model import best_model, column_transformer_of, core_of, modalities_of, targets_of
from ensemblefuse.fusion import LogTargetRegressor
from ensemblefuse.modalities import Modality, top_steps
from ensemblefuse.persistence.archive import FORMAT
from ensemblefuse.persistence.known_types import type_name
from ensemblefuse.schema import Schema, schema_of
from ensemblefuse.table import list_columns

_PACKAGES = ("numpy", "scikit-learn", "scipy", "pandas", "skops")
# How many leading numbers of a version must agree: the state of estimators changes between minor releases of these.
_COMPARED = {"scikit-learn": 2, "xgboost": 2, "ensemblefuse": 2, "numpy": 1, "scipy": 1, "pandas": 1}
_VERSION = re.compile(r"[0-9A-Za-z.+!_-]+")
_MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "sentence-transformers": "sentence_transformers"}
# Packages that encoders use. Their versions are recorded but not compared: loading a model does not need them.
_OF_ENCODERS = {
    "ImageEncoder": ("torch", "torchvision", "timm", "pillow"),
    "VideoEncoder": ("torch", "torchvision", "timm", "av"),
    "VideoSoundEncoder": ("ctranslate2", "librosa", "av"),
    "TextEncoder": ("torch", "transformers", "sentence-transformers"),
    "AudioEncoder": ("ctranslate2", "librosa", "soundfile"),
    "GraphEncoder": ("torch", "torch-geometric"),
}
_KINDS = {
    **{"ImageEncoder": "image", "VideoEncoder": "video", "VideoSoundEncoder": "video", "TextEncoder": "text"},
    **{"AudioEncoder": "audio", "GraphEncoder": "graph", "TimeSeriesEncoder": "series", "WordVectorEncoder": "text"},
    **{"PrecomputedEncoder": "embedding", "OneHotEncoder": "category", "OrdinalEncoder": "category"},
    **{"TfidfVectorizer": "text", "CountVectorizer": "text", "HashingVectorizer": "text"},
}


# Kinds of a schema that need no look at the class that reads the column.
_CERTAIN = ("number", "boolean", "date", "duration")


def describe(model: Any, found: set[str], example: Any = None) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {},
        "model": type_name(type(model)),
    }
    pipeline = best_model(model)
    targets = targets_of(pipeline[-1] if isinstance(pipeline, Pipeline) else pipeline)
    if None not in targets:
        manifest["tasks"] = {str(name): None if labels is None else plain(labels) for name, labels in targets.items()}
    elif targets[None] is not None:
        manifest["classes"] = plain(targets[None])
    encode = column_transformer_of(pipeline)
    if encode is not None:
        manifest["modalities"] = _modalities(encode)
        kinds = _kinds_of_columns(modalities_of(pipeline))
        manifest["input"] = _inputs(manifest["modalities"], kinds, schema_of(encode), example)
        # Files of before lack the summary.
        for column, (low, median, high) in getattr(encode, "numeric_summary_", {}).items():
            if manifest["input"].get(column, {}).get("type") == "number":
                manifest["input"][column] |= {"range": [low, high], "median": median}
    elif isinstance(getattr(model, "blocks_", None), dict):
        names = np.asarray(getattr(model, "feature_names_in_", range(model.n_features_in_)))
        manifest["modalities"] = [
            {"name": name, "columns": [str(column) for column in names[columns]], "encoder": []}
            for name, columns in model.blocks_.items()
        ]
    classes_of_steps = {name.removeprefix("ensemblefuse.") for name in found}
    needed = {package for name in classes_of_steps for package in _OF_ENCODERS.get(name, ())}
    packages = [*_PACKAGES, *(["xgboost"] if any(name.startswith("xgboost.") for name in found) else [])]
    versions = {name: _version(name) for name in packages} | {name: _recorded(name) for name in sorted(needed)}
    manifest["versions"] = {"ensemblefuse": __version__, "python": platform.python_version(), **versions}
    facts = (("log_target", _on_log_scale(model)), ("metrics", _metrics(model)))
    manifest |= {name: value for name, value in facts if value}
    return manifest


def _inputs(modalities: list[dict[str, Any]], kinds: Mapping[str, str], schema: Schema, example: Any) -> dict[str, Any]:
    """Return for each column of the raw table what it holds, which modalities read it, and its type in the example."""
    inputs: dict[str, Any] = {}
    schema = {str(column): held for column, held in schema.items()}
    for modality in modalities:
        for column in modality["columns"]:
            held = schema.get(column, {}).get("kind", "object")
            if held not in _CERTAIN:
                held = kinds.get(column) or ("category" if held == "category" else "object")
            known = inputs.setdefault(column, {"type": held, "modalities": []})
            known["modalities"].append(modality["name"])
            if "seen" in schema.get(column, {}):
                known["written"] = schema[column]["seen"]
            if "%Y%m%d" in schema.get(column, {}).get("format", {}).get("formats", ()):
                known["days"] = True  # as whole numbers, too
            if isinstance(example, pd.DataFrame) and column in example.columns:
                known["dtype"] = str(example[column].dtype)
    return inputs


def _kinds_of_columns(modalities: Iterable[Modality]) -> dict[str, str]:
    """Return what each column holds, if the class of a transformer that reads it shows that; the first one decides."""
    kinds: dict[str, str] = {}
    for _, encoder, columns in modalities:
        for step, names in _readers(encoder, columns):
            if type(step).__name__ in _KINDS:
                for column in list_columns(names):
                    kinds.setdefault(str(column), _KINDS[type(step).__name__])
    return kinds


def _readers(encoder: Any, columns: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each transformer with the columns that reach it."""
    if isinstance(encoder, Pipeline):
        for _, step in encoder.steps:
            yield from _readers(step, columns)
    elif isinstance(encoder, ColumnTransformer):
        for _, inner, names in encoder.transformers:
            yield from _readers(inner, names)
    elif isinstance(encoder, PresentRows):
        yield from _readers(encoder.transformer, columns)
    else:
        yield encoder, columns


def _on_log_scale(model: Any) -> list[str]:
    """Return the members of a fusion that were fitted to the log of the target."""
    model = best_model(model)
    fusion = core_of(model[-1] if isinstance(model, Pipeline) else model)
    members = getattr(fusion, "estimators_", None)
    if not isinstance(members, dict):
        members = {"all blocks": getattr(fusion, "estimator_", None)}
    return [str(name) for name, fitted in members.items() if _is_on_log_scale(fitted)]


def _is_on_log_scale(fitted: Any) -> bool:
    if isinstance(fitted, list):  # one model for each fold
        return any(map(_is_on_log_scale, fitted))
    return isinstance(fitted[-1] if isinstance(fitted, Pipeline) else fitted, LogTargetRegressor)


def _metrics(model: Any) -> dict[str, Any]:
    """Return the out-of-fold scores that the fusion keeps; nothing is fitted."""
    model = best_model(model)
    fusion, metrics = model[-1] if isinstance(model, Pipeline) else model, {}
    if hasattr(fusion, "results_") and hasattr(fusion, "best_strategy_"):
        metrics["strategy"] = fusion.best_strategy_
        metrics["mean_score"] = plain(fusion.results_.loc[fusion.best_strategy_, "mean_score"])
    scores = getattr(core_of(fusion), "expected_scores_", None)
    if isinstance(scores, pd.DataFrame):
        metrics["out_of_fold"] = {str(name): plain_dict(row) for name, row in scores.to_dict("index").items()}
    return metrics


def _modalities(encode: ColumnTransformer) -> list[dict[str, Any]]:
    names = pd.DataFrame(columns=getattr(encode, "feature_names_in_", range(encode.n_features_in_)))
    return [
        {
            "name": name,
            "columns": [str(column) for column in _columns(names, columns)],
            "classes": [type(getattr(step, "transformer", step)).__name__ for step in top_steps(encoder)],
            "encoder": [_encoder(step) for step in top_steps(encoder)],
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


def _encoder(step: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"repr": " ".join(repr(step).split())}
    if hasattr(step, "recipe"):
        described["recipe"] = recipe = step.recipe()
        # A recipe holds the digest of the user's own weights, but only the name of packaged weights: add their digests.
        named = [value for value in (recipe or {}).get("params", {}).values() if isinstance(value, str)]
        described["weights"] = {name: PACKAGED[name].sha256 for name in named if name in PACKAGED}
    return described


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
    """Return the versions that differ, such as ``"scikit-learn 1.6.1 (here 1.9.1)"``; an empty str if none does."""
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


def pip_line(manifest: Mapping[str, Any]) -> str:
    """Return the pip command that installs the saved versions of packages whose versions differ here."""
    saved = manifest.get("versions")
    wanted = [
        f'"{package}=={version}"'
        for package, version in (saved if isinstance(saved, Mapping) else {}).items()
        if package in {*_COMPARED, *_PACKAGES} and str(version) != _version(package)
        if _VERSION.fullmatch(str(version))  # text from a file must not reach a shell unchecked
    ]
    return f"pip install {' '.join(wanted)}" if wanted else ""


def _version(package: str) -> str:
    """Return the version that the module reports: a distribution may have another name, such as xgboost-cpu."""
    try:
        return importlib.import_module(_MODULES.get(package, package)).__version__
    except ImportError:
        return "not installed"


def _recorded(package: str) -> str:
    """Return the version of a package without importing it: torch takes seconds."""
    module = sys.modules.get(_MODULES.get(package, package.replace("-", "_")))
    try:
        return str(getattr(module, "__version__", None) or importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
