"""Export of a fitted fusion estimator to one ONNX file."""

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
# For up to five modalities all sets are checked; for more, each alone, all but each, and all.
_ALL_PATTERNS = 5
# The label of a row for which the library raises an error.
_NO_NUMBER = np.iinfo(np.int64).min


def export_onnx(model: Any, path: str | Path, *, example: Any = None, tolerance: float = 1e-4) -> Path:
    """Write the fusion of a fitted model as ONNX: blocks of numbers in, predictions out, without Python.

    The graph holds the fusion estimator with its members, pool and calibration. The steps before it in a pipeline
    (encoders, transformers of single modalities) are not in it; `export_encoder_onnx` writes networks.

    Parameters
    ----------
    model : fitted fusion estimator, fitted pipeline that ends in one, or fitted search over these
        `onnx_support` lists the supported fusions, pools and heads.
    path : str or Path
        An existing file is replaced once the new one is complete.
    example : DataFrame or ndarray of shape (n_samples, n_features), optional
        Rows as the fusion estimator takes them: for a pipeline, ``model[:-1].transform(X)``. Before the file is
        written, ONNX Runtime and the model predict each row with every set of its modalities (with more than five
        modalities: each alone, all but each, and all). Use some hundreds of real rows.
    tolerance : float
        The largest allowed difference between the two, of a probability or of a prediction in regression, relative to
        1 or to the largest prediction. Labels must be equal if the two highest probabilities differ by more than this.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ValueError
        If a part of the model cannot be written as ONNX; the message has its block and an alternative. If the fusion
        estimator does not take `example`.
    PersistenceError
        If a prediction for the example differs by more than `tolerance`; nothing is written.
    ImportError
        If onnx, skl2onnx, onnxruntime (for an example) or onnxmltools (for XGBoost) is not installed.

    See Also
    --------
    onnx_support, export_encoder_onnx, save_model

    Notes
    -----
    Inputs: one per modality, with its name, of shape (n, width), dtype float32, with columns in the order of fit. A
    missing modality is a row of NaN in its input, as in the library. Outputs in classification: ``label`` of shape
    (n,), int64 for labels that are integers or booleans, double for floats, string for str; ``probabilities`` of shape
    (n, n_classes), float32, in the order of ``classes_``. Output in regression: ``prediction`` of shape (n,), float32.

    A graph raises no errors. If the library would raise one for a row (infinite, or partly NaN and the estimator takes
    no NaN), the numbers are NaN and the label is the empty string, NaN, or the lowest int64. The same happens if NaN
    reaches trees inside another estimator, such as a BaggingClassifier: ONNX does not know their branch for NaN.

    The inputs and the parts that skl2onnx converts are float32. The parts that the library writes itself (scalers,
    linear decision values, support vector machines, discriminant analyses, pools, calibration) are computed in float64.
    Over all of `onnx_support` the largest difference of a probability was 2e-6 (SGDClassifier(loss="log_loss")), and
    1e-7 with the default heads. A tree checks whether a number is at most a threshold. The thresholds are rounded so
    that the result is the same for each float32. But the scalers of a model compute in the dtype of its table, float32
    or float64. If a scaled number equals a threshold, the last digit may decide differently, and the prediction changes
    by the weight of that tree.

    The metadata of the file has ``ensemblefuse`` (the version), ``model``, ``classes`` and ``blocks`` (columns of each)
    as JSON, and with an example ``largest_difference``.

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
    parts = FittedModel(model, several=True)  # the next check names the way out
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
            + (f". Use {other}." if (other := _FAILS["fusion"].get(type(fusion).__name__)) else ".")
        )
    if fusion.raw_blocks_:
        raise ValueError(
            f"{_NEEDED_BY}: the blocks {fusion.raw_blocks_} hold raw cells, but a graph takes numbers. Encode them "
            "first, as make_fusion_pipeline does."
        )
    if words := list(getattr(fusion, "word_members_", ())):
        raise ValueError(
            f"{_NEEDED_BY}: the members {words} read the words of texts, but a graph takes numbers. Fit with "
            "TextEncoder(words=False) and StringFeatures(words=False), or name an estimator for these blocks."
        )
    taken = sorted({_LABEL, _PROBABILITIES, _PREDICTION} & set(map(str, fusion.blocks_)))
    if taken:
        raise ValueError(f"{_NEEDED_BY}: outputs have the names {taken}; rename these blocks and fit again.")


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
        raise ValueError(f"{_NEEDED_BY} cannot write {whose}{error}; onnx_support() lists what works.") from error
    refused = refused | value.op("IsNaN").any()  # also rows for which a part of the graph has no result
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
    """Return which rows the library raises an error for."""
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
    """Return the labels, followed by the label of refused rows, and the type of the output."""
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
    """Return the largest difference of a prediction for the example, with modalities hidden; raise if too large."""
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
            f"{_NEEDED_BY}: example must be rows as the fusion takes them, for a pipeline "
            f"model[:-1].transform(X): {error}"
        ) from error
    largest = 0.0
    for keep in _patterns(len(fusion.blocks_)):
        if getattr(fusion, "missing", None) == "raise" and not keep.all():
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
    """Return each block of the example as float64 numbers that float32 represents exactly."""
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
    if names is None:
        return array
    texts = {names[position]: None for position in fusion.word_columns_.values()}  # read by no member
    return pd.DataFrame(array, columns=names).assign(**texts)


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
            f"{_NEEDED_BY}: with {', '.join(shown)} the graph predicts {labels[row]!r} and the model {said[row]!r} in "
            f"row {row} of the example. Nothing was written."
        )
