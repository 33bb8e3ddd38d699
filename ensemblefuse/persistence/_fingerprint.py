"""Digests of the samples that a saved model was trained on; the samples themselves are not named."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.persistence.archive import open_archive
from ensemblefuse.table import is_missing, to_frame

__all__ = ["describe_training", "saw_samples"]

SAMPLES = "samples.bin"
_BYTES = 16  # in the digest of one sample: among a million samples, two collide with a probability of 1e-27


def describe_training(data: Any, ids: Any, key: bytes | None) -> tuple[dict[str, Any] | None, bytes | None]:
    """Return the manifest's entry on the training data, and the digests of the ids, sorted to hide their order."""
    if key is not None and (not isinstance(key, bytes) or len(key) < _BYTES or ids is None):
        raise ValueError("sample_key must be at least 16 bytes, and needs sample_ids.")
    if data is None and ids is None:
        return None, None
    described: dict[str, Any] = {}
    if data is not None:
        described |= _describe_table(data)
    if ids is None:
        return described, None
    names = _names(ids)
    if "n_rows" in described and described["n_rows"] != len(names):
        raise ValueError(f"sample_ids has {len(names)} ids for the {described['n_rows']} rows of training_data.")
    salt = secrets.token_bytes(_BYTES)
    digests = sorted({_digest(name, salt, key) for name in names})
    described["samples"] = {"n": len(digests), "salt": salt.hex(), "keyed": key is not None}
    return described, b"".join(digests)


def saw_samples(path: str | Path, sample_ids: Iterable[Any], *, sample_key: bytes | None = None) -> np.ndarray:
    """Return which samples a saved model was trained on, by the ids that `save_model` was given.

    Parameters
    ----------
    path : str or Path
        A file that `save_model` wrote with ``sample_ids=``.
    sample_ids : sequence of str or int
        The ids to look up.
    sample_key : bytes, optional
        The ``sample_key`` that `save_model` was given.

    Returns
    -------
    ndarray of shape (n_ids,), dtype bool

    Raises
    ------
    PersistenceError
        If the file is damaged, or holds no ids.
    ValueError
        If the file needs a key and none is given, or the other way round.

    See Also
    --------
    save_model

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import save_model, saw_samples
    >>> model = LogisticRegression().fit([[0.0], [1.0]], ["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(model, f"{folder}/pets.fuse", sample_ids=["p1", "p2"], sample_key=b"0123456789abcdef")
    ...     saw_samples(path, ["p2", "p3"], sample_key=b"0123456789abcdef")
    array([ True, False])
    """
    archive = open_archive(Path(path))
    training = archive.manifest.get("training")
    samples = training.get("samples") if isinstance(training, dict) else None
    if not samples:
        raise PersistenceError(f"{path} does not record which samples it saw: it was saved without sample_ids=.")
    if samples["keyed"] != (sample_key is not None):
        raise ValueError(f"{path} was saved {'with a' if samples['keyed'] else 'without'} sample_key; do the same.")
    content = archive.read(SAMPLES)
    known = {content[i : i + _BYTES] for i in range(0, len(content), _BYTES)}
    salt = bytes.fromhex(samples["salt"])
    return np.array([_digest(name, salt, sample_key) in known for name in _names(sample_ids)], dtype=bool)


def _digest(name: bytes, salt: bytes, key: bytes | None) -> bytes:
    return hmac.digest(key or b"", salt + name, hashlib.sha256)[:_BYTES]


def _names(ids: Any) -> list[bytes]:
    """Return the ids as bytes; 1 and "1" are one id, because tables from files and ids typed by hand differ in that."""
    values = ids.tolist() if hasattr(ids, "tolist") else [ids] if isinstance(ids, (str, bytes)) else list(ids)
    wrong = [value for value in values if isinstance(value, bool) or not isinstance(value, (str, Integral))]
    if wrong:
        raise ValueError(f"sample_ids must be str or int; got {wrong[0]!r}.")
    return [str(value).encode(errors="surrogatepass") for value in values]


def _describe_table(data: Any) -> dict[str, Any]:
    """Return the numbers of rows and columns, and one digest of all cells. Paths count as text: files are not read."""
    frame = pd.DataFrame(data) if isinstance(data, (np.ndarray, list)) else to_frame(data)
    hasher = hashlib.sha256()
    for name in frame.columns:
        cells = frame[name]
        hasher.update(f"{name!r} {len(cells)} ".encode())
        if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "biuf":
            hasher.update(np.ascontiguousarray(cells.to_numpy(dtype=np.float64)).data)
        else:
            for cell in cells:
                hasher.update(b"missing" if is_missing(cell) else _cell(cell))
    return {"n_rows": len(frame), "n_columns": frame.shape[1], "sha256": hasher.hexdigest()}


def _cell(cell: Any) -> bytes:
    if isinstance(cell, os.PathLike):
        cell = os.fspath(cell)
    try:
        return cell_digest(cell, strings_are_paths=False)
    except (TypeError, OSError) as error:
        raise ValueError(f"training_data holds a {type(cell).__name__}, which has no digest.") from error
