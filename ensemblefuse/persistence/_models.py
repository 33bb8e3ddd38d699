"""Functions that save fitted models to one file without pickle, and load them after a check of their types."""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import joblib
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._writing import check_place
from ensemblefuse.exceptions import IncompatibleModelError, PersistenceError
from ensemblefuse.features import EmbeddingNoise
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.fusion.base import BaseFusion
from ensemblefuse.persistence._devices import use_devices_of_here
from ensemblefuse.persistence._fingerprint import SAMPLES, describe_training
from ensemblefuse.persistence._other_versions import adapt
from ensemblefuse.persistence._requests import plain_requests
from ensemblefuse.persistence._schemas import check_schemas
from ensemblefuse.persistence._storable import check_storable
from ensemblefuse.persistence.archive import (
    MODEL,
    Archive,
    first_line,
    is_pickle,
    open_archive,
    write_archive,
)
from ensemblefuse.persistence.bundled_weights import describe_weights, pack_weights, sources_of, unpack_weights
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

    The model is first rebuilt from its stored form. The file is written under another name in the same folder and then
    renamed: a crash leaves the old file or the new one, never half of one. The file ends in a digest of all its bytes,
    and its manifest holds a digest of each member, so any damage is found. (A digest is not a signature: someone who
    changes a file on purpose can seal it again.)

    Parameters
    ----------
    model : estimator
        A fusion pipeline, a fusion estimator or any scikit-learn or XGBoost estimator.
    path : str or Path
        It usually ends in ``.fuse``. An existing file is replaced.
    example : table, optional
        A few rows as the model takes them. The file keeps the predictions for them, the encoded rows, and the rows
        themselves: texts, numbers, arrays, and the bytes of files in place of their paths, up to a megabyte in all. The
        manifest says what could not be kept, and why. `load_model` predicts them again and compares.
    metadata : dict of str to JSON-serialisable, optional
        Kept in the manifest under ``"metadata"``.
    training_data : table, optional
        The data that the model was fitted on. The manifest then holds its numbers of rows and columns and one digest of
        all cells (paths count as text).
    sample_ids : sequence of str or int, optional
        Names of the rows of fit. The file keeps a salted digest of each, in an order that reveals nothing, and
        `saw_samples` reports which samples the model saw. Without a key, anyone who has the file can test guesses.
    sample_key : bytes, optional
        At least 16 bytes, to be kept elsewhere. Without the key nobody can test a guess of an id.
    bundle_weights : bool, default=False
        Whether the file also holds the weights of the encoders' networks: state dicts as safetensors, folders file by
        file. `load_model` writes weights that its machine lacks into the user's cache folder, or into the folder that
        the environment variable ``ENSEMBLEFUSE_WEIGHTS`` names. The packages that run the networks are still needed.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    NotFittedError
        If the model is a pipeline or a fusion that is not fitted.
    ValueError
        If metadata cannot be written as JSON. If there is an example and the model does not predict, or adds random
        noise.
    PersistenceError
        If the model holds something that cannot be stored exactly, such as a lambda; the message says where. If weights
        to be bundled are in a format that only pickle reads. If the manifest or the model has more values than
        `load_model` reads.
    OSError
        If `path` names a folder, a pipe or a device, or lies in no folder.

    See Also
    --------
    load_model, inspect_model, saw_samples

    Notes
    -----
    Fitted state holds the labels, the out-of-fold predictions and, in some estimators, words or rows of the training
    data; an example holds its rows. So the file must be kept as private as these.

    ``joblib.dump`` works, too, and its files are small, because encoders hold no weights. But ``joblib.load`` and
    ``pickle.load`` run any code in the file: load such files only from people you trust.

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
    if isinstance(model, (Pipeline, BaseFusion)):
        check_is_fitted(model)
    notes = checked_metadata(metadata)
    training, samples = describe_training(training_data, sample_ids, sample_key)
    if example is not None:
        _check_repeatable(model)
    with plain_requests(model):
        check_storable(model)
        data = dump(model)
    found = types_in(data, path, len(data))
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
        # What load_model would refuse is not written.
        write_archive(path, manifest, members, lambda size: types_in(data, path, size))
    return path


def load_model(
    path: str | Path,
    *,
    trusted: Iterable[str | type] | str | type = (),
    allow_pickle: bool = False,
    verify: str | None = "encoded",
) -> Any:
    """Load a model that `save_model` wrote. No code in the file is run: all types are checked before any is built.

    The known types are the estimators of scikit-learn, XGBoost and this library, and the plain types that they hold.
    The list is part of the library, never of the file. Types are checked, contents are not: compiled code reads the
    trees of a forest, neighbour trees and XGBoost models, and a crafted file can crash that code or make it read other
    memory. So load files from strangers in a process that may crash and holds no secrets.

    Parameters
    ----------
    path : str or Path
    trusted : sequence of str or type, optional
        Further types (and functions) that may be built, such as your own encoder classes: ``["my_module.MyEncoder"]``.
        Their modules are imported.
    allow_pickle : bool, default=False
        Whether a file of pickle or joblib is loaded, too. Loading it runs any code in the file: use this only for files
        from people you trust.
    verify : {"encoded", "rows", None}, default="encoded"
        How to predict the saved example again. ``"encoded"`` starts from the encoded rows, so that no network is
        loaded; ``"rows"`` encodes the rows again if they were kept; None does not predict.

    Returns
    -------
    estimator

    Raises
    ------
    PersistenceError
        If the file was not written by `save_model`, is damaged, was written by a newer version, or holds types that are
        not trusted, or a schema by which no table can be read. If it would take too much memory: the manifest and the
        example rows may have 16 MB and a million values of JSON each, the model two values more for each byte of the
        file. If the predictions for its example have changed. If a pickle is cut, or holds something that this process
        cannot build.
    IncompatibleModelError
        If those predictions have changed, or the model cannot be built, and versions of packages differ. The message
        has the pip command that installs the versions that saved it.

    Warns
    -----
    UserWarning
        If versions of packages differ from those that saved the model, and the file holds no example to compare. If the
        model names a device that this machine lacks; ``device="auto"`` is used instead.

    See Also
    --------
    save_model, inspect_model

    Notes
    -----
    Older files are read as well: format 1 has no seal and no rows, format 2 names private modules.

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
        return _unpickled(path)
    archive = open_archive(path)
    data = archive.read(MODEL)
    types_in(data, path, archive.size)
    data = with_current_names(data)
    untrusted = untrusted_types(data, path)
    refused = sorted(untrusted - known_types() - named)
    if refused:
        raise PersistenceError(
            f"{path} holds types that load_model does not know: {refused}. If you know where the file comes from and "
            f"what these types do, pass trusted={refused!r}."
        )
    differing = differing_versions(archive.manifest)
    try:
        model = build(data, untrusted)
        adapt(model)
        use_devices_of_here(model)
        unpack_weights(archive, model)
    except PersistenceError as error:
        if differing and not isinstance(error, IncompatibleModelError) and str(path) not in str(error):
            raise _unlike(archive, str(error)) from error
        raise
    except Exception as error:
        raise _unlike(archive, f"cannot be rebuilt here: {type(error).__name__}: {first_line(error)}") from error
    try:
        check_schemas(model)
    except ValueError as error:
        raise _unlike(archive, f"its table cannot be read: {str(error).rstrip('.')}") from error
    agrees = _verify(archive, model, verify) if verify is not None else False
    if differing and not agrees:
        warnings.warn(
            f"{path} was saved with other versions: {differing}. The model may predict differently or fail; save it "
            "again with the installed versions.",
            UserWarning,
            stacklevel=2,
        )
    return model


def _unpickled(path: Path) -> Any:
    """Return what a pickle or joblib file holds; raise in one sentence if it cannot be read."""
    try:
        return joblib.load(path)
    except (AttributeError, ImportError) as error:  # pickle names classes, and does not hold them
        raise PersistenceError(
            f"{path} is a pickle of something that is not found here: {first_line(error)}. A pickle only names its "
            "classes and functions. Import or install the module that defines them; if it was a notebook or a script, "
            "define them again, under the same name, before the file is loaded."
        ) from error
    except (EOFError, pickle.UnpicklingError) as error:
        raise PersistenceError(
            f"{path} is a pickle that is cut short or damaged ({type(error).__name__}: {first_line(error)}); copy or "
            "write the file again."
        ) from error
    except Exception as error:  # a class may raise anything while it is built
        raise PersistenceError(
            f"{path} is a pickle that cannot be read here: {type(error).__name__}: {first_line(error)}. It is damaged, "
            "or other versions of its packages wrote it; load it where it was written, and save it with save_model."
        ) from error


def _verify(archive: Archive, model: Any, verify: str) -> bool:
    """Return whether the file holds rows to compare; raise an error if the predictions for them have changed."""
    try:
        changed = changed_prediction(model, archive, verify)
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
    """Return the manifest of a saved model. Nothing is built or imported.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        The manifest, with ``format``, ``created``, ``versions``, ``model``, ``metadata``, ``members`` (bytes and digest
        of each), and where known ``classes``, ``modalities`` (columns, encoders, weights), ``input`` (what each column
        holds), ``metrics`` (out of fold), ``training`` and ``example``; and ``types``, the sorted names of all types
        and functions that the file would build. The manifest holds claims by the writer of the file.

    Raises
    ------
    PersistenceError
        If the file was not written by `save_model`, is damaged, or was written by a newer version.

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
    return {**archive.manifest, "types": sorted(types_in(archive.read(MODEL), path, archive.size))}


def _check_repeatable(model: Any) -> None:
    """Raise `ValueError` if the predictions of a model cannot be repeated."""
    if not hasattr(model, "predict"):
        raise ValueError(f"example= keeps predictions, and {type(model).__name__} has no predict; leave example out.")
    noise = next((w for w, p in parts_of(model) if isinstance(p, EmbeddingNoise) and p.random_state is None), None)
    if noise is not None:
        raise ValueError(
            f"example= keeps predictions that load_model repeats, and {noise} draws new noise at each prediction; "
            "leave example out."
        )


def _check_reload(model: Any, data: bytes, example: Any, manifest: dict[str, Any]) -> None:
    """Build the model from its own file, before anyone relies on it."""
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
