"""Removal of samples from the embedding cache, and a report of the saved models that saw them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.cache import EmbeddingCache, get_cache
from ensemblefuse.cache.cell_digests import keys_of
from ensemblefuse.cells.numbers import rows_of_numbers
from ensemblefuse.column_kinds import cell_kind
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.persistence import inspect_model, saw_samples
from ensemblefuse.scoring.result import TableResult
from ensemblefuse.table import is_missing, to_frame

__all__ = ["ForgetReport", "forget"]

_FILES = ("image", "audio", "video")


class ForgetReport(TableResult):
    """Report of what `forget` removed and what it could not remove.

    Attributes
    ----------
    table : DataFrame
        One row per sample, by id: ``n_vectors`` (overwritten records of its cells), ``unread`` (columns whose cell
        could not be read, so its vectors may remain), ``saw_it`` (models that saw the sample) and ``cannot_tell``
        (models for which this is unknown), all but the first as texts.
    models : DataFrame
        One row per model file: ``n_seen`` (samples that it saw; missing if unknown), ``reason`` (why it is unknown).
    n_vectors : int
        Number of overwritten records, each counted once.
    caption, notes
        As in other results.
    """

    def __init__(self, table: pd.DataFrame, models: pd.DataFrame, n_vectors: int, caption: str, notes: list[str]):
        super().__init__(table, caption, notes)
        self.models = models
        self.n_vectors = n_vectors


def forget(
    X: Any,
    *,
    ids: Iterable[Any] | None = None,
    models: str | os.PathLike | Iterable[str | os.PathLike] = (),
    sample_key: bytes | None = None,
    cache: EmbeddingCache | None = None,
) -> ForgetReport:
    """Remove the vectors of these rows by all encoders from the embedding cache.

    Vectors and their older duplicates are overwritten on disk, and the cache is pruned, so that no file of the cache
    holds them any more. They are identified by content: a sample with the same picture or text loses its vector, too,
    and is encoded again when it is needed.

    Parameters
    ----------
    X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
        The rows to forget, with the cells as the encoders took them. Files must still exist, because they are
        identified by their content: call `forget` first, and then delete the files.
    ids : sequence of str or int, of length n_samples, optional
        The ids that `save_model` was given as ``sample_ids``. Needed with `models`; by default the report uses the
        labels of the index.
    models : path or list of paths, optional
        Files of `save_model`, or folders with such files (``*.fuse``, at any depth).
    sample_key : bytes, optional
        The key that `save_model` was given. With a different key, no model seems to have seen a sample.
    cache : EmbeddingCache, optional
        By default the cache of `get_cache`.

    Returns
    -------
    ForgetReport

    Raises
    ------
    ValueError
        If the number of `ids` differs from that of rows, or `models` are given without `ids`. If a folder holds no
        model.
    FileNotFoundError
        If a model does not exist.
    OSError
        If the cache cannot be written.

    See Also
    --------
    EmbeddingCache.forget, saw_samples

    Notes
    -----
    A model cannot forget a sample: all its coefficients depend on it, and a model file may hold training rows as
    examples, support vectors or neighbours. The model must be fitted again without the sample; the report says which
    models saw it.

    Not reached: exported caches and other copies, snapshots and backups, blocks of overwritten files that a file system
    or a disk keeps, vectors in the memory of running processes. Cells that consist of several columns of numbers, as in
    `TimeSeriesEncoder`, can be identified only through the modalities of `models`.

    Examples
    --------
    >>> import tempfile
    >>> from ensemblefuse import EmbeddingCache, FunctionEncoder, config_context, forget
    >>> with tempfile.TemporaryDirectory() as folder, config_context(cache=folder):
    ...     _ = FunctionEncoder(len).fit_transform({"title": ["a cat", "a dog", "a cat"]})
    ...     report = forget({"title": ["a cat"]}, ids=["p1"])
    ...     EmbeddingCache(folder).stats()["n_rows"]
    1
    >>> report.table["n_vectors"].to_dict()
    {'p1': 1}
    """
    frame = to_frame(X)
    names = list(frame.index) if ids is None else list(ids)
    if len(names) != len(frame):
        raise ValueError(f"ids has {len(names)} ids for the {len(frame)} rows of X.")
    paths = _model_files(models)
    if paths and ids is None:
        raise ValueError("models are checked by the ids that save_model was given; pass ids=, one per row.")
    asked, seen = _ask(paths, names, sample_key)
    keys, unread = _keys(frame, _manifests(paths))
    found = get_cache() if cache is None else cache
    erased = found.forget_keys(set().union(*keys)) if found is not None and keys else {}
    if found is not None:
        found.prune()  # also removes records that a crash has left without a key
    table = pd.DataFrame(
        {
            "n_vectors": [sum(erased.get(key, 0) for key in own) for own in keys],
            "unread": [", ".join(columns) for columns in unread],
            "saw_it": [", ".join(str(path) for path in seen if seen[path][i]) for i in range(len(frame))],
            "cannot_tell": ", ".join(str(path) for path in paths if path not in seen),
        },
        index=pd.Index(names, name="id", tupleize_cols=False),
    )
    n_vectors = sum(erased.values())
    where = "The cache is off" if found is None else f"{found.folder}"
    caption = f"{where}: {n_vectors} vectors of {len(frame)} samples were overwritten."
    return ForgetReport(table, asked, n_vectors, caption, _notes(table, asked, keys))


def _model_files(models: Any) -> list[Path]:
    given: Sequence[Any] = [models] if isinstance(models, (str, os.PathLike)) else list(models)
    files: list[Path] = []
    for path in map(Path, given):
        inside = sorted(path.rglob("*.fuse")) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"The folder {path} holds no *.fuse file; name the files of models.")
        if not inside[0].is_file():
            raise FileNotFoundError(f"The model {str(inside[0])!r} does not exist.")
        files += inside
    return list(dict.fromkeys(files))


def _ask(paths: list[Path], names: list[Any], key: bytes | None) -> tuple[pd.DataFrame, dict[Path, np.ndarray]]:
    """Return for each model how many samples it saw or why that is unknown, and which samples it saw."""
    rows: list[tuple[int | None, str]] = []
    seen: dict[Path, np.ndarray] = {}
    for path in paths:
        try:
            seen[path] = saw_samples(path, names, sample_key=key)
            rows.append((int(seen[path].sum()), ""))
        except PersistenceError as error:
            rows.append((None, str(error)))
        except ValueError as error:
            if "sample_key" not in str(error):  # the ids are wrong, not the file
                raise
            rows.append((None, str(error)))
    index = pd.Index([str(path) for path in paths], name="model")
    return pd.DataFrame(rows, columns=["n_seen", "reason"], index=index).astype({"n_seen": "Int64"}), seen


def _manifests(paths: list[Path]) -> list[dict[str, Any]]:
    found = []
    for path in paths:
        with contextlib.suppress(PersistenceError):  # the report lists such a file with the reason
            found.append(inspect_model(path))
    return found


def _keys(frame: pd.DataFrame, manifests: list[dict[str, Any]]) -> tuple[list[set[bytes]], list[list[str]]]:
    """Return the keys of each row's cells, and the columns whose cell could not be read."""
    keys: list[set[bytes]] = [set() for _ in range(len(frame))]
    unread: list[list[str]] = [[] for _ in range(len(frame))]
    files = {c for m in manifests for c, held in m.get("input", {}).items() if held.get("type") in _FILES}
    for column in frame.columns:
        for i, cell in enumerate(frame[column].tolist()):
            if is_missing(cell):
                continue
            try:
                keys[i].update(key for twin in _twins(cell) for key in keys_of(twin, None))
                is_lost = isinstance(cell, str) and _names_file(cell, column in files) and not os.path.isfile(cell)
            except (OSError, TypeError, ValueError):
                is_lost = True
            if is_lost:
                unread[i].append(str(column))
    for columns in {tuple(m["columns"]) for manifest in manifests for m in manifest.get("modalities", ())}:
        if len(columns) > 1 and _are_numbers(frame, columns):
            for own, row in zip(keys, rows_of_numbers(frame[list(columns)], "forget", "numbers"), strict=True):
                own.update(() if row is None else keys_of(row, None))
    return keys, unread


def _twins(cell: Any) -> list[Any]:
    """Return a whole number as int and as float: a table with gaps has floats, but it may have been encoded as int."""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return [cell, int(cell)]
    return [cell, float(cell)] if isinstance(cell, Integral) and not isinstance(cell, bool) else [cell]


def _names_file(cell: str, known: bool) -> bool:
    return known or cell_kind(cell) in _FILES


def _are_numbers(frame: pd.DataFrame, columns: tuple[str, ...]) -> bool:
    return all(c in frame.columns and pd.api.types.is_numeric_dtype(frame[c].dtype) for c in columns)


def _notes(table: pd.DataFrame, models: pd.DataFrame, keys: list[set[bytes]]) -> list[str]:
    notes = ["Samples with the same content have lost their vectors, too; they are encoded again when needed."]
    if len(models):
        notes.append("A model cannot forget: models that saw a sample must be fitted again without it.")
    for path, reason in models.loc[models["reason"] != "", "reason"].items():
        notes.append(f"{path} cannot be checked: {reason}")
    lost = table.index[table["unread"] != ""].tolist()
    if lost:
        notes.append(
            f"In {len(lost)} samples a cell could not be read, for example because a file was deleted: {lost[:5]}. Its "
            "vectors, if any, remain in the cache; clear removes all vectors."
        )
    return notes
