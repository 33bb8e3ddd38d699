"""Saved models in MLflow: arguments for its generic flavour, and the loader that it calls. No pickle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._optional import import_optional
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.fitted.model import FittedPipeline, targets_of
from ensemblefuse.fitted.row_predictor import Predicted, join_targets, prediction_columns
from ensemblefuse.persistence._models import inspect_model, load_model
from ensemblefuse.persistence.example import split
from ensemblefuse.persistence.known_types import trusted_names
from ensemblefuse.table import is_missing, to_frame

__all__ = ["mlflow_arguments"]

# MLflow writes the name of the module that loads a model into each stored model: this name can never change.
_LOADER = "ensemblefuse.persistence"
_BY_KIND = {"number": "double", "text": "string", "image": "string", "audio": "string", "video": "string"}
_BY_KIND |= {"category": "string", "boolean": "double"}


def mlflow_arguments(
    path: str | Path, example: Any = None, *, trusted: Iterable[str | type] | str | type = ()
) -> dict[str, Any]:
    """Return the arguments with which MLflow stores a file of `save_model`.

    They are for ``mlflow.pyfunc.log_model`` and ``mlflow.pyfunc.save_model``. MLflow keeps the file as it is, and
    `load_model` opens it, also in a server: no pickle is written or read. All columns of the signature are optional,
    because a modality may be missing in any request. Predictions are a table with the column ``prediction`` and, for
    a classifier, the columns ``proba_<class>``.

    Parameters
    ----------
    path : str or Path
        A file that `save_model` wrote.
    example : DataFrame (pandas or polars) or dict of columns, of a few rows, optional
        Rows as requests will hold them: bytes in place of paths become ``binary``, which JSON carries in base64.
        Columns that are absent or empty here get their type from the file: numbers ``double``, texts and paths
        ``string``.
    trusted : sequence of str or type, optional
        As in `load_model`. The names are stored beside the model.

    Returns
    -------
    dict
        ``loader_module``, ``data_path``, ``signature``, ``pip_requirements`` (the versions that saved the file), and
        ``model_config`` if `trusted` is not empty.

    Raises
    ------
    ImportError
        If MLflow is not installed.
    PersistenceError
        If the file is damaged or was not written by `save_model`. If its model has no encoders, so no named columns.
    ValueError
        If `example` has a column that the model does not read.

    See Also
    --------
    save_model

    Examples
    --------
    >>> import mlflow  # doctest: +SKIP
    >>> from ensemblefuse import mlflow_arguments
    >>> arguments = mlflow_arguments("shop.fuse", example=df.head(3))  # doctest: +SKIP
    >>> mlflow.pyfunc.save_model("shop", **arguments)  # doctest: +SKIP
    """
    import_optional("mlflow.models", package="mlflow-skinny", extra="mlflow", needed_by="mlflow_arguments")
    path = Path(path)
    manifest = inspect_model(path)
    if not manifest.get("input"):
        raise PersistenceError(
            f"{path} has no encoders: it takes blocks of numbers. Save a pipeline of make_fusion_pipeline instead."
        )
    arguments = {
        "loader_module": _LOADER,
        "data_path": str(path),
        "signature": _signature(manifest, None if example is None else to_frame(example)),
        "pip_requirements": _requirements(manifest["versions"]),
    }
    names = sorted(trusted_names(trusted))
    return arguments | ({"model_config": {"trusted": names}} if names else {})


def _signature(manifest: Mapping[str, Any], example: pd.DataFrame | None) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    known = manifest["input"]
    unknown = [] if example is None else [str(c) for c in example.columns if str(c) not in known]
    if unknown:
        raise ValueError(f"example has the columns {unknown}, which the model does not read; it reads {list(known)}.")
    columns = {
        name: _type_of_cells(example[name]) if example is not None and name in example.columns else None
        for name in known
    }
    inputs: list[Any] = [
        ColSpec(columns[name] or _type_of_kind(kind), name, required=False) for name, kind in known.items()
    ]
    classes = manifest.get("classes")
    outputs: list[Any] = [ColSpec(_type_of_label(classes), "prediction")]
    outputs += [ColSpec("double", f"proba_{label}") for label in classes or ()]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _type_of_cells(cells: pd.Series) -> Any:
    """Return MLflow's type of a column; None if the column is empty."""
    there = [cell for cell in cells.tolist() if not is_missing(cell)]
    if not there:
        return None
    # Columns of booleans and numbers become double: a column of integers cannot hold missing cells.
    for kinds, name in (((str, os.PathLike), "string"), ((bytes, bytearray), "binary"), (_NUMBERS, "double")):
        if all(isinstance(cell, kinds) for cell in there):
            return name
    return _any_type()


_NUMBERS = (bool, int, float, np.number, np.bool_)


def _type_of_kind(kind: Mapping[str, Any]) -> Any:
    """Return MLflow's type of a column; numbers that were texts in fit may come as either."""
    return (None if "written" in kind else _BY_KIND.get(kind["type"])) or _any_type()


def _any_type() -> Any:
    from mlflow.types.schema import AnyType

    return AnyType()


def _type_of_label(classes: list[Any] | None) -> str:
    if classes is None:
        return "double"
    kinds = {type(label) for label in classes}
    return {frozenset({bool}): "boolean", frozenset({int}): "long", frozenset({float}): "double"}.get(
        frozenset(kinds), "string"
    )


def _requirements(versions: Mapping[str, str]) -> list[str]:
    """Return the requirements of the model for pip; local version parts, as in ``2.9+cu126``, are cut off."""
    import mlflow

    found = {name: version for name, version in versions.items() if name != "python" and version != "not installed"}
    return [f"mlflow-skinny=={mlflow.__version__}", *(f"{n}=={v.partition('+')[0]}" for n, v in found.items())]


# ---------------------------------------------------------------------- called by MLflow


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Any:
    """Load a model for ``mlflow.pyfunc.load_model``, which calls this function by its name."""
    return _Predictor(load_model(path, trusted=list((model_config or {}).get("trusted", ()))))


class _Predictor:
    """A model with the interface that MLflow calls."""

    def __init__(self, model: Any):
        self.encode, self.rest = split(model)
        self.targets = targets_of(FittedPipeline(model).fusion)

    def predict(self, model_input: Any, params: Any = None) -> pd.DataFrame:
        """Return predictions for a table, as `prediction_columns` names them; the index is that of the table."""
        table = to_frame(model_input)
        Z = table if self.encode is None else self.encode.transform(table)
        prediction = self.rest.predict(Z)
        proba = self.rest.predict_proba(Z) if hasattr(self.rest, "predict_proba") else None
        said = Predicted([], np.ones(len(table), dtype=bool), Z, prediction, proba, None, None, [])
        columns = {task: prediction_columns(task, labels, *said.of(task)) for task, labels in self.targets.items()}
        return pd.DataFrame(join_targets(columns), index=table.index)
