"""Encoding of every modality once, before anything is fitted, with a line of counts and time for each."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone

from ensemblefuse._config import config_context
from ensemblefuse.cache import get_cache
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.modalities import steps_of
from ensemblefuse.table import is_missing, list_columns

_HEADER = ("modality", "rows", "missing", "repeated", "in cache", "encoded now", "unreadable", "seconds")


class Encoded(NamedTuple):
    """Counts and time of encoding one modality."""

    n_rows: int
    n_missing: int
    n_repeated: int
    n_read: int
    n_written: int
    n_unreadable: int
    seconds: float


@contextlib.contextmanager
def working_cache() -> Iterator[str]:
    """Use the user's cache or, if that is off, a temporary one; yield a line that says which."""
    cache = get_cache()
    if cache is not None:
        yield f"cache: {cache.folder}"
        return
    with tempfile.TemporaryDirectory(prefix="ensemblefuse-") as folder, config_context(cache=folder):
        yield "cache: off, so embeddings are kept for this run only"


def encode_modalities(
    modalities: Sequence[tuple[str, Any, Any]], X: pd.DataFrame, *, quiet: bool = False, header: bool = True
) -> tuple[pd.DataFrame, dict[str, Encoded]]:
    """Fill the cache with the embeddings of all cells, and print one line per modality.

    Encoders are frozen and see one row at a time, so this may be done before any split.

    Parameters
    ----------
    modalities : list of (name, encoder, columns)
    X : DataFrame of shape (n_samples, n_columns)
    quiet : bool
        Whether to print nothing.
    header : bool
        Whether to print the titles of the columns first.

    Returns
    -------
    X : DataFrame of shape (n_samples, n_columns)
        Cells that could not be encoded (``on_error="missing"``) are None, so that no fold tries them again.
    took : dict of str to Encoded
    """
    names = [name for name, encoder, _ in modalities if isinstance(steps_of(encoder)[0], BaseEncoder)]
    width = max(map(len, [*names, _HEADER[0]]))
    took = {}
    if names and header and not quiet:
        print("  ".join([_HEADER[0].ljust(width), *_HEADER[1:]]))
    for name, encoder, columns in modalities:
        encoder = steps_of(encoder)[0]
        if not isinstance(encoder, BaseEncoder):
            continue
        X, took[name] = _encode(encoder, columns, X)
        if not quiet:
            cells = [*map(str, took[name][:-1]), f"{took[name].seconds:.1f}"]
            line = [cell.rjust(len(title)) for cell, title in zip(cells, _HEADER[1:], strict=True)]
            print("  ".join([name.ljust(width), *line]), flush=True)
    return X, took


def _encode(encoder: BaseEncoder, columns: Any, X: pd.DataFrame) -> tuple[pd.DataFrame, Encoded]:
    cache = get_cache()
    before = (cache.n_read, cache.n_written) if cache is not None else (0, 0)
    start = time.perf_counter()
    part = X[list_columns(columns)]
    bad = np.isnan(clone(encoder)._fit_vectors(part)).all(axis=1)
    seconds = time.perf_counter() - start
    n_read, n_written = (cache.n_read - before[0], cache.n_written - before[1]) if cache is not None else (0, 0)
    missing = part.map(is_missing).all(axis=1).to_numpy()
    unreadable = bad & ~missing
    if unreadable.any():
        gone = {c: part[c].astype(object).mask(pd.Series(unreadable, index=part.index), None) for c in part.columns}
        X = X.assign(**gone)
    n_done = len(X) - int(missing.sum()) - int(unreadable.sum())
    n_repeated = n_done - n_read - n_written if cache is not None else 0
    return X, Encoded(len(X), int(missing.sum()), n_repeated, n_read, n_written, int(unreadable.sum()), seconds)
