"""Save fitted models to one file without pickle, and load them with their types checked first. Floor 4."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.persistence._archive import MANIFEST, MODEL, first_line, read_archive, write_archive
from ensemblefuse.persistence._manifest import checked_metadata, describe, differing_versions, plain, predictions
from ensemblefuse.persistence._storable import check_storable
from ensemblefuse.persistence._types import build, dump, known_types, trusted_names, types_in, untrusted_types

__all__ = ["inspect_model", "load_model", "save_model"]


def save_model(model: Any, path: str | Path, *, metadata: Mapping[str, Any] | None = None, example: Any = None) -> Path:
    """Save a fitted model to one file, without pickle. Networks' weights are named by digest, not stored.

    The file is written under another name in the same folder, read back, and renamed: a crash leaves the old file or
    the new one, never half of one. Fitted state holds the labels and, in some estimators, words or rows of the training
    data; so the file is as private as these.

    Parameters
    ----------
    model : estimator
        A fusion pipeline, a fusion estimator or any scikit-learn or XGBoost estimator.
    path : str or Path
        By custom it ends in ``.fuse``. A file of this name is replaced.
    metadata : dict of str to JSON-serialisable, optional
        Kept in the manifest under ``"metadata"``.
    example : table, optional
        A few rows as the model takes them. The manifest keeps its predictions on them (not the rows), and the file read
        back must give the same ones.

    Returns
    -------
    Path
        Where the model is.

    Raises
    ------
    ValueError
        If metadata cannot be written as JSON.
    PersistenceError
        If the model holds something that cannot be stored exactly, such as a lambda; the message says where.

    See Also
    --------
    load_model, inspect_model

    Notes
    -----
    ``joblib.dump`` works, too, and is small, as encoders keep no weights. But ``joblib.load`` and ``pickle.load`` run
    whatever the file tells them to: load such files only from people you trust.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from ensemblefuse import FeatureFusionClassifier, inspect_model, load_model, save_model
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.9, 1.0], "text__0": [5.0, 4.0, 1.0, 0.0]})
    >>> model = FeatureFusionClassifier().fit(X, ["cat", "cat", "dog", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(model, f"{folder}/pets.fuse", metadata={"author": "me"})
    ...     manifest, loaded = inspect_model(path), load_model(path)
    >>> loaded.predict(X)
    array(['cat', 'cat', 'dog', 'dog'], dtype='<U3')
    >>> manifest["classes"], manifest["metadata"]
    (['cat', 'dog'], {'author': 'me'})
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file to save the model to.")
    notes = checked_metadata(metadata)
    check_storable(model)
    data = dump(model)
    found = types_in(data, path)
    manifest = {**describe(model, found), "metadata": notes}
    expected = None if example is None else predictions(model, example)
    if expected is not None:
        manifest["example_predictions"] = {key: plain(value) for key, value in expected.items()}
    _check_reload(model, data, example, expected)
    # allow_nan: the manifest is to be read by any JSON parser.
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    write_archive(path, {MANIFEST: text.encode(), MODEL: data})
    return path


def load_model(path: str | Path, *, trusted: Iterable[str | type] | str | type = ()) -> Any:
    """Load a model that `save_model` wrote. Nothing in the file is run: all its types are checked before any is built.

    Known are scikit-learn's estimators, XGBoost's, this library's, and the plain types that they hold. The list stands
    in the library, never in the file. Types are checked, contents are not: the trees of a forest, neighbour trees and
    XGBoost models are read by compiled code, which a crafted file can crash or make read foreign memory. So load files
    of strangers in a process that may crash and holds no secrets.

    Parameters
    ----------
    path : str or Path
    trusted : sequence of str or type, optional
        More types (and functions) that may be built, such as your own encoder classes: ``["my_module.MyEncoder"]``.
        Their modules are imported.

    Returns
    -------
    estimator

    Raises
    ------
    PersistenceError
        If the file is something else, is damaged, was written by a newer version, or holds types that are not trusted.

    Warns
    -----
    UserWarning
        If versions of packages differ from those that saved the model.

    See Also
    --------
    save_model, inspect_model

    Notes
    -----
    For files of ``joblib.dump`` there is ``joblib.load``. It runs whatever the file tells it to: only for files of
    people you trust.

    Examples
    --------
    >>> from ensemblefuse import load_model
    >>> load_model("pets.fuse", trusted=["my_module.MyEncoder"])  # doctest: +SKIP
    """
    path = Path(path)
    named = trusted_names(trusted)
    manifest, data = read_archive(path)
    untrusted = untrusted_types(data, path)
    refused = sorted(untrusted - known_types() - named)
    if refused:
        raise PersistenceError(
            f"{path} holds types that load_model does not know: {refused}. If you know where the file comes from and "
            f"what these do, pass trusted={refused!r}."
        )
    differing = differing_versions(manifest)
    if differing:
        warnings.warn(
            f"{path} was saved with other versions: {differing}. The model may predict differently or fail; save it "
            "again with the installed ones.",
            UserWarning,
            stacklevel=2,
        )
    try:
        return build(data, untrusted)
    except Exception as error:
        hint = f" It was saved with other versions: {differing}." if differing else ""
        raise PersistenceError(
            f"{path} cannot be rebuilt here: {type(error).__name__}: {first_line(error)}.{hint}"
        ) from error


def inspect_model(path: str | Path) -> dict[str, Any]:
    """What a saved model says about itself. Builds and imports nothing.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        The manifest (``format``, ``created``, ``versions``, ``model``, ``classes``, ``modalities``, ``input``,
        ``metadata``, ``example_predictions``; the last five where known) and ``types``, the sorted names of all types
        and functions that the file would build. The manifest is what the writer of the file claims.

    Raises
    ------
    PersistenceError
        If the file is something else, is damaged, or was written by a newer version.

    See Also
    --------
    save_model, load_model

    Examples
    --------
    >>> from ensemblefuse import inspect_model
    >>> inspect_model("pets.fuse")["types"]  # doctest: +SKIP
    ['builtins.dict', ..., 'ensemblefuse.fusion._feature.FeatureFusionClassifier', ...]
    """
    path = Path(path)
    manifest, data = read_archive(path)
    return {**manifest, "types": sorted(types_in(data, path))}


def _check_reload(model: Any, data: bytes, example: Any, expected: dict[str, np.ndarray] | None) -> None:
    """Build the model from its own file, before anybody relies on it."""
    try:
        loaded = build(data, untrusted_types(data, Path(MODEL)))
    except Exception as error:
        raise PersistenceError(
            f"{type(model).__name__} holds something that skops writes but cannot read: {type(error).__name__}: "
            f"{first_line(error)}. joblib.dump may take it; load such a file only from people you trust."
        ) from error
    if expected is None:
        return
    for method, before in expected.items():
        after = predictions(loaded, example)[method]
        exact = before.dtype.kind != "f"
        if not (np.array_equal(before, after) if exact else np.allclose(before, after, 1e-9, 1e-12, equal_nan=True)):
            raise PersistenceError(
                f"{type(model).__name__}.{method} gives other values for the example after saving and loading, so it "
                "was not saved. Please report this."
            )
