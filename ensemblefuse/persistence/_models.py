"""Save fitted models to one file without pickle, and load them with their types checked first."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import joblib

from ensemblefuse._writing import check_place
from ensemblefuse.exceptions import IncompatibleModelError, PersistenceError
from ensemblefuse.features import EmbeddingNoise
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.persistence._devices import use_devices_of_here
from ensemblefuse.persistence._fingerprint import SAMPLES, describe_training
from ensemblefuse.persistence._storable import check_storable
from ensemblefuse.persistence.archive import (
    MODEL,
    Archive,
    first_line,
    is_pickle,
    open_archive,
    write_archive,
)
from ensemblefuse.persistence.example import (
    EXACT,
    as_table,
    changed_prediction,
    describe_example,
    differs,
    predictions,
)
from ensemblefuse.persistence.known_types import (
    build,
    dump,
    known_types,
    trusted_names,
    types_in,
    untrusted_types,
    with_current_names,
)
from ensemblefuse.persistence.manifest import checked_metadata, describe, differing_versions, pip_line
from ensemblefuse.persistence.weights import describe_weights, pack_weights, sources_of, unpack_weights

__all__ = ["inspect_model", "load_model", "save_model"]

_VERIFY = ("encoded", "rows")


def save_model(
    model: Any,
    path: str | Path,
    *,
    example: Any = None,
    metadata: Mapping[str, Any] | None = None,
    training_data: Any = None,
    sample_ids: Iterable[Any] | None = None,
    sample_key: bytes | None = None,
    bundle_weights: bool = False,
) -> Path:
    """Save a fitted model to one file, without pickle. Networks' weights are named by digest.

    The file is written under another name in the same folder, read back, and renamed: a crash leaves the old file or
    the new one, never half of one. It ends in a digest of all its bytes, and its manifest has one of each member, so
    damage anywhere is found. (A digest is no signature: who changes a file on purpose can seal it anew.)

    Parameters
    ----------
    model : estimator
        A fusion pipeline, a fusion estimator or any scikit-learn or XGBoost estimator.
    path : str or Path
        By custom it ends in ``.fuse``. A file of this name is replaced.
    example : table, optional
        A few rows as the model takes them. The file keeps its predictions for them, the rows as they come out of the
        encoders, and the rows themselves: texts, numbers, arrays, and in place of paths the files' bytes, a megabyte in
        all. What could not be kept, and why, is in the manifest. `load_model` asks the model again.
    metadata : dict of str to JSON-serialisable, optional
        Kept in the manifest under ``"metadata"``.
    training_data : table, optional
        What the model was fitted on, of which the manifest then has the number of rows and one digest of all cells
        (paths count as text).
    sample_ids : sequence of str or int, optional
        Names of the rows of fit. The file keeps a salted digest of each, in no order, and `saw_samples` answers which
        samples it saw. Whoever has the file can still test guesses, unless there is a key.
    sample_key : bytes, optional
        At least 16 bytes, kept elsewhere, without which nobody can test a guess of an id.
    bundle_weights : bool, default=False
        Whether the file also holds the weights of the encoders' networks: state dicts as safetensors, folders file by
        file. `load_model` puts those that its machine lacks into the user's cache folder, or the one that the
        environment variable ``ENSEMBLEFUSE_WEIGHTS`` names. The packages that run them are needed all the same.

    Returns
    -------
    Path
        Where the model is.

    Raises
    ------
    ValueError
        If metadata cannot be written as JSON. If there is an example and the model predicts nothing, or draws noise.
    PersistenceError
        If the model holds something that cannot be stored exactly, such as a lambda; the message says where. If weights
        are to be bundled that only pickle reads.

    See Also
    --------
    load_model, inspect_model, saw_samples

    Notes
    -----
    Fitted state holds the labels, the out-of-fold predictions and, in some estimators, words or rows of the training
    data; an example holds its rows. So the file is as private as these.

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
    path = check_place(path, "save the model")
    notes = checked_metadata(metadata)
    training, samples = describe_training(training_data, sample_ids, sample_key)
    check_storable(model)
    if example is not None:
        _check_repeatable(model)
    data = dump(model)
    found = types_in(data, path)
    manifest = {**describe(model, found, example), "metadata": notes}
    members: dict[str, bytes | Path] = {MODEL: data}
    if training is not None:
        manifest["training"] = training
        members |= {SAMPLES: samples} if samples is not None else {}
    if example is not None:
        manifest["example"], kept = describe_example(model, example)
        members |= kept
    _check_reload(model, data, example, manifest)
    sources = sources_of(model, strict=bundle_weights)
    with tempfile.TemporaryDirectory() as scratch:
        if sources:
            manifest["weights"] = describe_weights(sources)
        for source, record in zip(sources, manifest.get("weights", ()), strict=True):
            if bundle_weights:
                record["bundled"], files = pack_weights(source, Path(scratch))
                members |= files
        write_archive(path, manifest, members)
    return path


def load_model(
    path: str | Path,
    *,
    trusted: Iterable[str | type] | str | type = (),
    allow_pickle: bool = False,
    verify: str | None = "encoded",
) -> Any:
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
    allow_pickle : bool, default=False
        Whether a file of pickle or joblib is loaded, too. It runs whatever it tells the reader to: only for files of
        people you trust.
    verify : {"encoded", "rows", None}, default="encoded"
        How to ask the model again for the example that it was saved with. ``"encoded"`` takes the rows as they came out
        of the encoders, so that no network is loaded; ``"rows"`` encodes them again, where they were kept; None asks
        nothing.

    Returns
    -------
    estimator

    Raises
    ------
    PersistenceError
        If the file is something else, is damaged, was written by a newer version, holds types that are not trusted, or
        does not predict for its example what it did.
    IncompatibleModelError
        If it does not, or cannot be built, and versions of packages differ; with the command of pip that installs those
        that saved it.

    Warns
    -----
    UserWarning
        If versions of packages differ from those that saved the model, and it holds no example to ask. If the model
        names a device that is not here; ``device="auto"`` takes its place.

    See Also
    --------
    save_model, inspect_model

    Notes
    -----
    Files of format 1, which have no seal and no rows, and of format 2, which name private modules, are read as well.

    Examples
    --------
    >>> from ensemblefuse import load_model
    >>> load_model("pets.fuse", trusted=["my_module.MyEncoder"])  # doctest: +SKIP
    """
    path = Path(path)
    named = trusted_names(trusted)
    if verify not in (*_VERIFY, None):
        raise ValueError(f"verify must be one of {_VERIFY}, or None; got {verify!r}.")
    if allow_pickle and is_pickle(path):
        return joblib.load(path)
    archive = open_archive(path)
    data = archive.read(MODEL)
    types_in(data, path)
    data = with_current_names(data)
    untrusted = untrusted_types(data, path)
    refused = sorted(untrusted - known_types() - named)
    if refused:
        raise PersistenceError(
            f"{path} holds types that load_model does not know: {refused}. If you know where the file comes from and "
            f"what these do, pass trusted={refused!r}."
        )
    differing = differing_versions(archive.manifest)
    try:
        model = build(data, untrusted)
        use_devices_of_here(model)
        unpack_weights(archive, model)
    except PersistenceError:
        raise
    except Exception as error:
        raise _unlike(archive, f"cannot be rebuilt here: {type(error).__name__}: {first_line(error)}") from error
    agrees = _verify(archive, model, verify) if verify is not None else False
    if differing and not agrees:
        warnings.warn(
            f"{path} was saved with other versions: {differing}. The model may predict differently or fail; save it "
            "again with the installed ones.",
            UserWarning,
            stacklevel=2,
        )
    return model


def _verify(archive: Archive, model: Any, verify: str) -> bool:
    """Whether the file holds rows for which the model gives what it gave when it was saved; an error if it does not."""
    try:
        changed = changed_prediction(model, archive.manifest, archive.read, verify)
    except PersistenceError:
        raise
    except Exception as error:
        what = f"cannot predict the example that it holds: {type(error).__name__}: {first_line(error)}"
        raise _unlike(archive, what) from error
    if changed:
        raise _unlike(archive, f"{changed} gives other values for the example than when the model was saved")
    return changed is not None


def _unlike(archive: Archive, what: str) -> PersistenceError:
    line = pip_line(archive.manifest)
    if not line:
        return PersistenceError(f"{archive.path}: {what}.")
    return IncompatibleModelError(f"{archive.path}: {what}. It was saved with other versions: {line}")


def inspect_model(path: str | Path) -> dict[str, Any]:
    """What a saved model says about itself. Builds and imports nothing.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        The manifest, with ``format``, ``created``, ``versions``, ``model``, ``metadata``, ``members`` (bytes and digest
        of each), and where known ``classes``, ``modalities`` (columns, encoders, weights), ``input`` (what each column
        holds), ``metrics`` (out of fold), ``training`` and ``example``; and ``types``, the sorted names of all types
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
    ['builtins.dict', ..., 'ensemblefuse.FeatureFusionClassifier', ...]
    """
    path = Path(path)
    archive = open_archive(path)
    return {**archive.manifest, "types": sorted(types_in(archive.read(MODEL), path))}


def _check_repeatable(model: Any) -> None:
    """Refuse to keep predictions that nobody can get again."""
    if not hasattr(model, "predict"):
        raise ValueError(f"example= keeps predictions, and {type(model).__name__} predicts nothing; leave it out.")
    noise = next((w for w, p in parts_of(model) if isinstance(p, EmbeddingNoise) and p.random_state is None), None)
    if noise is not None:
        raise ValueError(
            f"example= keeps predictions to ask for again, and {noise} draws other noise at each prediction; leave it "
            "out."
        )


def _check_reload(model: Any, data: bytes, example: Any, manifest: dict[str, Any]) -> None:
    """Build the model from its own file, before anybody relies on it."""
    try:
        loaded = build(data, untrusted_types(data, Path(MODEL)))
    except Exception as error:
        raise PersistenceError(
            f"{type(model).__name__} holds something that skops writes but cannot read: {type(error).__name__}: "
            f"{first_line(error)}. joblib.dump may take it; load such a file only from people you trust."
        ) from error
    if example is None:
        return
    changed = differs(manifest["example"]["predictions"], predictions(loaded, as_table(example)), EXACT)
    if changed:
        raise PersistenceError(
            f"{type(model).__name__}.{changed} gives other values for the example after saving and loading, so it "
            "was not saved. Please report this."
        )
