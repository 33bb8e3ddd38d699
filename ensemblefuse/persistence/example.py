"""Example rows of a saved model, and the check that its predictions for them have not changed."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ensemblefuse._plain import plain
from ensemblefuse._writing import special_kind
from ensemblefuse.compose import ModalityTransformer
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.fitted.model import FittedPipeline, best_model
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.persistence.archive import Archive, damaged, first_line
from ensemblefuse.table import to_frame

ENCODED, ROWS = "example/encoded.json", "example/rows.json"
_SMALL = 1_000_000  # bytes of cells
_OF = " of "  # between a method and one of several targets
# Numerical libraries differ in the last digits from one processor to the next.
_CLOSE, EXACT = {"rtol": 1e-5, "atol": 1e-6}, {"rtol": 1e-9, "atol": 1e-12}
# Vectors of a network differ by 1e-5 from one backend to the next, and the estimators that follow enlarge that.
_ENCODED_AGAIN = {"rtol": 1e-2, "atol": 1e-3}


class NotKeptError(ValueError):
    """Raised for a table whose cells are too large to keep, or are not of a plain type."""


def split(model: Any) -> tuple[Any, Any]:
    """Return the part of a model that encodes raw rows (None if there is none), and the part that predicts."""
    best = best_model(model)
    if isinstance(best, Pipeline) and len(best) > 1 and isinstance(best[0], ModalityTransformer):
        return best[0], best[1:]
    return None, model


def predictions(model: Any, X: Any) -> dict[str, Any]:
    """Return the predictions of a model for rows, as plain JSON values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing modalities: the user has seen them, or only loads the model
        answers: dict[str, Any] = {}
        for method in ("predict", "predict_proba"):
            if hasattr(model, method):
                answers.update(_by_task(method, getattr(model, method)(X)))
        return {name: plain(np.asarray(answer)) for name, answer in answers.items()}


def _by_task(method: str, answer: Any) -> dict[str, Any]:
    """Return the answer of a method; of a model of several targets, one entry for each."""
    if isinstance(answer, (Mapping, pd.DataFrame)):
        return {f"{method}{_OF}{task}": values for task, values in answer.items()}
    return {method: answer}


def differs(before: Mapping[str, Any], after: Mapping[str, Any], close: Mapping[str, float] = _CLOSE) -> str:
    """Return the method whose predictions differ, or an empty str. Labels may differ if their probabilities are tied.

    Probabilities are compared on the scale 1, numbers on the scale of the largest one in `before`.

    Examples
    --------
    >>> from ensemblefuse.persistence.example import differs
    >>> differs({"predict": [1e-8]}, {"predict": [9e-7]}), differs({"predict": [1e-8]}, {"predict": [1e-8 + 1e-16]})
    ('predict', '')
    """
    if set(before) != set(after):
        return " and ".join(sorted(set(before) ^ set(after)))
    tied: dict[str, np.ndarray] = {}
    for name in sorted(after, key=lambda name: not name.startswith("predict_proba")):
        method, _, task = name.partition(_OF)
        old, new = np.asarray(before[name]), np.asarray(after[name])
        if old.shape != new.shape:
            return name
        if new.dtype.kind == "f" or (new.dtype == object and method != "predict"):
            old, new = old.astype(float), new.astype(float)
            scale = 1.0 if method == "predict_proba" else np.nanmax(np.abs(old), initial=0.0) or 1.0
            if not np.allclose(old, new, equal_nan=True, rtol=close["rtol"], atol=scale * close["atol"]):
                return name
            if method == "predict_proba" and new.ndim == 2 and new.shape[1] > 1:
                top = np.sort(new, axis=1)[:, -2:]
                tied[task] = top[:, 1] - top[:, 0] <= 4 * close["atol"]
        else:
            ties = tied.get(task, np.zeros(len(new), dtype=bool))
            if any(a != b for a, b, tie in zip(before[name], after[name], ties, strict=True) if not tie):
                return name
    return ""


# ---------------------------------------------------------------------- tables as JSON


def pack_table(X: Any, files_of: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a table as JSON that `unpack_table` reads back cell by cell.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_samples, n_columns)
    files_of : frozenset of str
        Columns in which a str or path names a file; the bytes of the file are kept instead.

    Raises
    ------
    NotKeptError
        If cells are not of a plain type, or all of them take more than a megabyte.
    """
    if isinstance(X, np.ndarray):
        return {"array": _pack_array(X)}
    if not isinstance(X, pd.DataFrame):
        raise NotKeptError(f"a {type(X).__name__} is not a table of cells")
    columns = [_pack_column(name, X[name], str(name) in files_of) for name in X.columns]
    arrays = {
        dtype: _pack_array(X[[c["name"] for c in columns if _is_plain(c) and c["dtype"] == dtype]].to_numpy(dtype))
        for dtype in sorted({c["dtype"] for c in columns if _is_plain(c)})
    }
    if sum(len(str(column)) for column in columns) > 2 * _SMALL:
        raise NotKeptError(f"its cells take more than {_SMALL:,} bytes")
    return {"n_rows": len(X), "columns": columns, "arrays": arrays}


def _is_plain(column: Mapping[str, Any]) -> bool:
    return "cells" not in column


def _pack_column(name: Any, cells: pd.Series, names_files: bool) -> dict[str, Any]:
    """Return the name, the type and the cells of a column; without cells if it is part of an array."""
    if not isinstance(name, (str, int)) or isinstance(name, bool):
        raise NotKeptError(f"the column name {name!r} is not a str or int")
    packed: dict[str, Any] = {"name": name, "dtype": str(cells.dtype)}
    if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "biuf":
        return packed
    if isinstance(cells.dtype, pd.CategoricalDtype):
        packed |= {"dtype": "category", "categories": [_pack_cell(c, False) for c in cells.cat.categories]}
        packed["ordered"] = bool(cells.cat.ordered)
    elif packed["dtype"] not in ("object", "str", "string"):
        raise NotKeptError(f"the column {name!r} is of the type {packed['dtype']}")
    return packed | {"cells": [_pack_cell(cell, names_files) for cell in cells]}


def _pack_cell(cell: Any, names_files: bool) -> Any:
    if names_files and isinstance(cell, (str, os.PathLike)):
        path = Path(cell)
        if kind := special_kind(path):
            raise NotKeptError(f"{path.name} is {kind}")
        try:
            if path.stat().st_size > _SMALL:
                raise NotKeptError(f"{path.name} is larger than {_SMALL:,} bytes")
            return {"bytes": base64.b64encode(path.read_bytes()).decode()}
        except OSError as error:
            raise NotKeptError(f"{path.name} cannot be read") from error
    if cell is None or isinstance(cell, (bool, int, str)):
        return cell
    if cell is pd.NA:
        return {"na": True}
    if isinstance(cell, np.generic) and not isinstance(cell, (np.str_, np.bytes_)):
        return {"array": _pack_array(np.asarray(cell)), "scalar": True}
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else {"float": str(cell)}
    if isinstance(cell, (bytes, bytearray)) and len(cell) <= _SMALL:
        return {"bytes": base64.b64encode(cell).decode()}
    if isinstance(cell, np.ndarray):
        return {"array": _pack_array(cell)}
    if isinstance(cell, (list, tuple)):
        return {type(cell).__name__: [_pack_cell(item, names_files) for item in cell]}
    if isinstance(cell, dict) and all(isinstance(key, str) for key in cell):
        return {"dict": {key: _pack_cell(value, names_files) for key, value in cell.items()}}
    raise NotKeptError(f"a {type(cell).__name__} cannot be kept")


def _pack_array(array: np.ndarray) -> str:
    if array.dtype.kind not in "biufU" or array.nbytes > _SMALL:
        raise NotKeptError(f"an array of {array.dtype} and {array.nbytes:,} bytes")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode()


def unpack_table(packed: Mapping[str, Any]) -> Any:
    """Return the table that `pack_table` was given, with rows numbered from 0.

    Raises
    ------
    ValueError
        If a column has another number of rows than the table claims: pandas would fill up the rest.
    """
    if "array" in packed:
        return _unpack_array(packed["array"])
    arrays = {dtype: iter(_unpack_array(text).T) for dtype, text in packed["arrays"].items()}
    series = {
        column["name"]: pd.Series(next(arrays[column["dtype"]])) if _is_plain(column) else _unpack_column(column)
        for column in packed["columns"]
    }
    lengths = {len(column) for column in series.values()}
    if lengths - {packed["n_rows"]}:
        raise ValueError(f"the example's columns have {sorted(lengths)} rows")
    return pd.DataFrame(series, index=range(packed["n_rows"]) if series else None)


def _unpack_column(column: Mapping[str, Any]) -> pd.Series:
    cells = [_unpack_cell(cell) for cell in column["cells"]]
    if column["dtype"] == "category":
        categories = [_unpack_cell(cell) for cell in column["categories"]]
        return pd.Series(pd.Categorical(cells, categories, ordered=column["ordered"]))
    if column["dtype"] == "str":  # of pandas 3; before it, such columns hold objects
        return pd.Series(cells)
    held = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):  # cell by cell: numpy would spread lists over columns
        held[i] = cell
    return pd.Series(held, dtype=column["dtype"])


def _unpack_cell(cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    kind = next(iter(cell))
    if kind == "array":
        array = _unpack_array(cell["array"])
        return array[()] if cell.get("scalar") else array
    if kind == "bytes":
        return base64.b64decode(cell["bytes"])
    if kind in ("list", "tuple"):
        items = [_unpack_cell(item) for item in cell[kind]]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _unpack_cell(value) for key, value in cell["dict"].items()}
    return float(cell["float"]) if kind == "float" else pd.NA


def _unpack_array(text: str) -> np.ndarray:
    return np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)


# ---------------------------------------------------------------------- which columns name files


def as_table(example: Any) -> Any:
    """Return an example in the form that models take: a table or an array."""
    if isinstance(example, (np.ndarray, pd.DataFrame)):
        return example
    return np.asarray(example) if isinstance(example, (list, tuple)) else to_frame(example)


# ---------------------------------------------------------------------- the example of a file


def describe_example(model: Any, example: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest's entry on the example, and the members with its rows, raw and encoded if both can be kept.

    Encoded rows need no network, no library of a modality, and no file. So `load_model` checks a file with these.
    """
    table = as_table(example)
    encode, rest = split(model)
    encoded = table if encode is None else encode.transform(table)
    described: dict[str, Any] = {"n_rows": len(table), "not_kept": {}}
    members = {}
    tables: dict[str, tuple[Any, frozenset[str]]] = {ENCODED: (encoded, frozenset())}
    if encode is not None:
        tables[ROWS] = (table, frozenset(map(str, FittedPipeline(model).path_columns)))
    for member, (rows, files_of) in tables.items():
        try:
            packed = pack_table(rows, files_of)
        except NotKeptError as error:
            described["not_kept"][member] = str(error)
        else:
            members[member] = json.dumps(packed, allow_nan=False).encode()
    return described | {"predictions": predictions(rest, encoded)}, members


def read_table(archive: Archive, member: str) -> Any:
    """Return the example rows of a file, raw or encoded.

    Raises
    ------
    PersistenceError
        If they are too large, or no table.
    """
    try:
        return unpack_table(archive.read_json(member))
    except PersistenceError:
        raise
    except Exception as error:  # in a crafted file anything may be of another type
        raise damaged(archive.path, f"its {member} cannot be read: {first_line(error)}") from error


def changed_prediction(model: Any, archive: Archive, verify: str) -> str | None:
    """Return the method whose predictions for the example have changed; "" if none has; None if no rows were kept.

    Raises
    ------
    Exception
        Any error of the prediction.
    """
    described = archive.manifest.get("example") or {}
    encode, rest = split(model)
    rows_will_do = encode is not None and not any(isinstance(part, BaseEncoder) for _, part in parts_of(encode))
    whole = verify == "rows" or rows_will_do
    for member, asked in ((ROWS, model), (ENCODED, rest)) if whole else ((ENCODED, rest),):
        if member in archive:
            table = read_table(archive, member)
            networks = member == ROWS and not rows_will_do
            return differs(described["predictions"], predictions(asked, table), _ENCODED_AGAIN if networks else _CLOSE)
    return None
