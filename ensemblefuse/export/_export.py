"""A fitted fusion estimator as one ONNX file."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._optional import import_optional
from ensemblefuse._writing import check_place, write_atomically
from ensemblefuse.exceptions import MissingModalityWarning, PersistenceError
from ensemblefuse.export._fusions import FUSIONS, Rows, UnsupportedMember, fuse
from ensemblefuse.export._graph import DOUBLE, FLOAT, INT64, STRING, Graph, Value, where
from ensemblefuse.export._heads import UnsupportedError
from ensemblefuse.export._support import _FAILS
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fusion.base import BaseFusion

__all__ = ["export_onnx"]

_NEEDED_BY = "export_onnx"
_LABEL, _PROBABILITIES, _PREDICTION = "label", "probabilities", "prediction"
# All sets of up to five modalities; of more, each alone, all but each, and all.
_ALL_PATTERNS = 5
# The label of a row that the library refuses.
_NO_NUMBER = np.iinfo(np.int64).min


def export_onnx(model: Any, path: str | Path, *, example: Any = None, tolerance: float = 1e-4) -> Path:
    """Write the fusion of a fitted model as ONNX: blocks of numbers in, predictions out, without Python.

    The graph holds the fusion estimator, with its members, pool and calibration; what stands before it in a pipeline
    (encoders, the transformers of single modalities) is not in it. Networks are written by `export_encoder_onnx`.

    Parameters
    ----------
    model : fitted fusion estimator, fitted pipeline that ends in one, or fitted search over these
        `onnx_support` says which fusions, pools and heads are written.
    path : str or Path
        A file of this name is replaced, when the whole new one is there.
    example : DataFrame or ndarray of shape (n_samples, n_features), optional
        Rows as the fusion estimator takes them: of a pipeline ``model[:-1].transform(X)``. ONNX Runtime predicts them
        before the file is written, each with every set of its modalities (of more than five: each alone, all but each,
        and all), and so does the model. Take some hundreds of real ones.
    tolerance : float
        The largest difference that is allowed between the two: of a probability, or in regression of a prediction, as
        a share of 1 and the largest of the predictions. Labels must be equal where the two highest probabilities
        differ by more than it.

    Returns
    -------
    Path
        Where the file is.

    Raises
    ------
    ValueError
        If a part of the model has no form in ONNX, named with its block and with what to take instead; if `example` is
        not what the fusion estimator takes.
    PersistenceError
        If a prediction for the example differs by more than `tolerance`; nothing is written.
    ImportError
        If onnx, skl2onnx, onnxruntime (for an example) or onnxmltools (for XGBoost) is not installed.

    See Also
    --------
    onnx_support, export_encoder_onnx, save_model

    Notes
    -----
    Inputs: one a modality, of its name, of shape (n, width), dtype float32, in the columns' order in fit. A missing
    modality is a row of NaN in its input, as in the library. Outputs, in classification: ``label`` of shape (n,), int64
    for labels that are integers or booleans, double for floats, string for str; ``probabilities`` of shape (n,
    n_classes), float32, in the order of ``classes_``. In regression ``prediction`` of shape (n,), float32.

    A graph raises no errors. In a row that the library refuses (partly NaN where the estimator takes no NaN, or
    infinite) the numbers are NaN and the label is the empty string, NaN, or the lowest int64; also where NaN reaches
    trees that stand inside another estimator, such as a BaggingClassifier, of which ONNX does not know where it goes.

    The inputs and what skl2onnx converts are float32; what the library writes itself (scalers, linear decision values,
    support vector machines, discriminant analyses, pools, calibration) is computed in float64. Over all of
    `onnx_support` the largest difference of a probability was 2e-6 (SGDClassifier(loss="log_loss")), and 1e-7 with the
    default heads. A tree asks whether a number is at most a threshold. The thresholds are rounded so that the answer
    is the same for each float32; but the model computes what its scalers give in the type of the table that it reads,
    float32 or float64, and in the last digit this may decide otherwise for a number that is a threshold itself, and
    then the prediction changes by as much as that tree has to say.

    The file's metadata has ``ensemblefuse`` (the version), ``model``, ``classes`` and ``blocks`` (columns of each) as
    JSON, and with an example ``largest_difference``.

    Examples
    --------
    >>> import tempfile
    >>> import onnxruntime
    >>> import pandas as pd
    >>> from ensemblefuse import FeatureFusionClassifier, export_onnx
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.9, 1.0], "text__0": [5.0, 4.0, 1.0, 0.0]})
    >>> model = FeatureFusionClassifier().fit(X, ["cat", "cat", "dog", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export_onnx(model, f"{folder}/pets.onnx", example=X)
    ...     session = onnxruntime.InferenceSession(path)
    >>> row = {"image": [[0.15]], "text": [[float("nan")]]}
    >>> session.run(["label"], row)[0].tolist()
    ['cat']
    """
    path = check_place(path, "write the graph")
    parts = FittedModel(model)
    fusion = parts.core
    _check_fusion(fusion)
    data = _write(fusion, {})
    if example is not None:
        difference = _check(data, fusion, example, tolerance)
        data = _write(fusion, {"largest_difference": f"{difference:.1e}"})
    return write_atomically(path, data)


def _check_fusion(fusion: BaseFusion) -> None:
    if type(fusion) not in FUSIONS:
        raise ValueError(
            f"{_NEEDED_BY} writes {', '.join(kind.__name__ for kind in FUSIONS)}; got {type(fusion).__name__}"
            + (f". Take {other}." if (other := _FAILS["fusion"].get(type(fusion).__name__)) else ".")
        )
    if fusion.raw_blocks_:
        raise ValueError(
            f"{_NEEDED_BY}: the blocks {fusion.raw_blocks_} hold raw cells, and a graph takes numbers. Encode them "
            "first, as make_fusion_pipeline does."
        )
    taken = sorted({_LABEL, _PROBABILITIES, _PREDICTION} & set(map(str, fusion.blocks_)))
    if taken:
        raise ValueError(f"{_NEEDED_BY}: {taken} are names of the graph's outputs; rename these blocks and fit again.")


def _write(fusion: Any, notes: dict[str, str]) -> bytes:
    g = Graph(_NEEDED_BY)
    inputs = {name: g.input(str(name), len(columns)) for name, columns in fusion.blocks_.items()}
    lost = {name: x.op("IsNaN") for name, x in inputs.items()}
    present = {name: (~nan).any() for name, nan in lost.items()}
    data = {name: where(present[name], x, 0.0) for name, x in inputs.items()}
    rows = Rows(data, present, {name: len(columns) for name, columns in fusion.blocks_.items()})
    refused = _refused(fusion, inputs, lost, present)
    try:
        value, code = fuse(g, fusion, rows)
    except UnsupportedError as error:
        whose = "" if isinstance(error, UnsupportedMember) else f"{type(fusion).__name__}: "
        raise ValueError(f"{_NEEDED_BY} cannot write {whose}{error}; onnx_support() lists what it writes.") from error
    refused = refused | value.op("IsNaN").any()  # also what a part of the graph has no answer for
    value = where(refused, np.nan, value).op("Cast", to=FLOAT)
    outputs: dict[str, tuple[Value, int, list[Any]]]
    if code is None:
        outputs = {_PREDICTION: (value.op("Reshape", np.array([-1])), FLOAT, ["n"])}
    else:
        labels, kind = _labels(fusion.classes_)
        code = where(refused.op("Squeeze", np.array([1])), np.array(len(labels) - 1), code)
        outputs = {
            _LABEL: (g.constant(labels).op("Gather", code), kind, ["n"]),
            _PROBABILITIES: (value, FLOAT, ["n", len(fusion.classes_)]),
        }
    return g.finish(outputs, {**_notes(fusion), **notes})


def _refused(
    fusion: Any, inputs: Mapping[str, Value], lost: Mapping[str, Value], present: Mapping[str, Value]
) -> Value:
    """Rows for which the library raises an error."""
    fills = getattr(fusion, "missing", None) == "native" or getattr(fusion, "imputer", None) is not None
    takers = fusion._partial_blocks() if hasattr(fusion, "_partial_blocks") else set(inputs) if fills else set()
    reasons = []
    for name, x in inputs.items():
        reasons.append(x.op("IsInf").any())
        if name not in takers:
            reasons.append(lost[name].any() & present[name])
        if getattr(fusion, "missing", None) == "raise":
            reasons.append(~present[name])
    out = reasons[0]
    for reason in reasons[1:]:
        out = out | reason
    return out


def _labels(classes: np.ndarray) -> tuple[np.ndarray, int]:
    """The labels and, last, what a row gets that has none; and the type of their output."""
    if classes.dtype.kind in "iub" and int(classes.max()) <= np.iinfo(np.int64).max:
        return np.append(classes.astype(np.int64), _NO_NUMBER), INT64
    if classes.dtype.kind == "f":
        return np.append(classes.astype(float), np.nan), DOUBLE
    if not all(isinstance(label, str) for label in classes.tolist()):
        raise ValueError(
            f"{_NEEDED_BY}: labels must be str, integers of 64 bits, floats or booleans, of one kind; got "
            f"{classes.tolist()[:5]}."
        )
    return np.array([*classes.tolist(), ""], dtype=object), STRING


def _notes(fusion: Any) -> dict[str, str]:
    import ensemblefuse

    names = getattr(fusion, "feature_names_in_", np.arange(fusion.n_features_in_))
    blocks = {str(name): [str(names[i]) for i in columns] for name, columns in fusion.blocks_.items()}
    notes = {
        "ensemblefuse": ensemblefuse.__version__,
        "model": type(fusion).__name__,
        "blocks": json.dumps(blocks),
    }
    if fusion._classify:
        notes["classes"] = json.dumps(fusion.classes_.tolist())
    return notes


# ---------------------------------------------------------------------- verification


def _check(data: bytes, fusion: Any, example: Any, tolerance: float) -> float:
    """The largest difference of a prediction for the example, its modalities hidden in turn; an error over it."""
    if not (np.ndim(tolerance) == 0 and 0 < tolerance < np.inf):
        raise ValueError(f"{_NEEDED_BY}: tolerance must be a number above 0; got {tolerance!r}.")
    runtime = import_optional("onnxruntime", extra="onnx", needed_by=f"{_NEEDED_BY} with an example")
    parts = FittedModel(fusion)
    try:
        session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PersistenceError(f"{_NEEDED_BY}: ONNX Runtime does not load the graph; nothing was written.") from error
    try:
        blocks = fusion._read(example, reset=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{_NEEDED_BY}: example must be rows as the fusion takes them, of a pipeline "
            f"model[:-1].transform(X): {error}"
        ) from error
    largest = 0.0
    for keep in _patterns(len(fusion.blocks_)):
        if fusion.missing == "raise" and not keep.all():
            continue
        rows = _hidden(blocks, keep)
        got = session.run(None, {str(n): np.asarray(rows[n], dtype=np.float32) for n in rows})
        table = _table(fusion, rows)
        expected = parts.predict(table)
        largest = max(largest, _compare(fusion, table, expected, got, tolerance, list(rows), keep))
    return largest


def _patterns(n_blocks: int) -> np.ndarray:
    if n_blocks <= _ALL_PATTERNS:
        return np.array(list(itertools.product([True, False], repeat=n_blocks)))
    one = np.eye(n_blocks, dtype=bool)
    return np.vstack([np.ones((1, n_blocks), dtype=bool), ~one, one])


def _hidden(blocks: Any, keep: np.ndarray) -> dict[Any, np.ndarray]:
    """Each block of the example, as float64 numbers that float32 holds."""
    rows = {}
    for name, there in zip(blocks.names, keep, strict=True):
        part = np.asarray(blocks.data[name], dtype=np.float32)
        rows[name] = part.astype(float) if there else np.full(part.shape, np.nan)
    return rows


def _table(fusion: Any, rows: Mapping[Any, np.ndarray]) -> Any:
    array = np.empty((len(next(iter(rows.values()))), fusion.n_features_in_))
    for name, columns in fusion.blocks_.items():
        array[:, columns] = rows[name]
    names = getattr(fusion, "feature_names_in_", None)
    return array if names is None else pd.DataFrame(array, columns=names)


def _compare(
    fusion: Any, table: Any, expected: np.ndarray, got: list[Any], tolerance: float, names: list, keep: np.ndarray
) -> float:
    shown = [str(name) for name, there in zip(names, keep, strict=True) if there] or ["no modality"]
    scale = 1.0 if fusion._classify else max(1.0, float(np.abs(expected).max()))
    values = np.asarray(got[-1], dtype=float)
    difference = np.abs(values - expected).reshape(len(expected), -1).max(axis=1) / scale
    bad = np.flatnonzero(~(difference <= tolerance))
    if len(bad):
        worst = int(bad[np.argmax(np.nan_to_num(difference[bad], nan=np.inf))])
        raise PersistenceError(
            f"{_NEEDED_BY}: with {', '.join(shown)} the graph differs from the model in {len(bad)} of {len(expected)} "
            f"rows of the example, most in row {worst}: {values[worst].tolist()} instead of "
            f"{expected[worst].tolist()}. Nothing was written. Pass a larger tolerance if {difference[worst]:.1e} will "
            "do."
        )
    if fusion._classify:
        _compare_labels(fusion, table, expected, got[0], tolerance, shown)
    return float(difference.max(initial=0.0))


def _compare_labels(
    fusion: Any, table: Any, expected: np.ndarray, labels: Any, tolerance: float, shown: list[str]
) -> None:
    top = np.sort(expected, axis=1)
    sure = top[:, -1] - top[:, -2] > tolerance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        said = fusion.predict(table)
    wrong = np.flatnonzero(sure & (np.asarray(labels).astype(said.dtype) != said))
    if len(wrong):
        row = int(wrong[0])
        raise PersistenceError(
            f"{_NEEDED_BY}: with {', '.join(shown)} the graph says {labels[row]!r} and the model {said[row]!r} in row "
            f"{row} of the example. Nothing was written."
        )
