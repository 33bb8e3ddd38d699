"""Warnings about texts that a network was given but has not learned to read."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd

from ensemblefuse.cells.text import is_in_other_script
from ensemblefuse.exceptions import short_repr

__all__ = ["MULTILINGUAL", "unread_texts"]

MULTILINGUAL = 'TextEncoder("use-multilingual-v3")'
_ENGLISH_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_SHORT = 250  # characters; longer texts may be equal because they were cut
_SAME = 1e-5


def unread_texts(cells: pd.Series, vectors: np.ndarray | None, *, encoder: str, is_english: bool) -> str:
    """Return what to warn of: texts in other scripts, and distinct texts of unknown words that have one vector.

    Parameters
    ----------
    cells : Series of length n
    vectors : ndarray of shape (n, n_dims), or None
        A row of NaN if a cell could not be encoded. If None, only the scripts are looked at.
    encoder : str
        The encoder, as the user would write it.
    is_english : bool
        Whether the network learned English only.

    Returns
    -------
    str
        Empty if there is nothing to warn of.
    """
    read = [isinstance(cell, str) for cell in cells]
    if vectors is not None and vectors.shape[1]:
        read = np.isfinite(vectors[:, 0]).tolist()
    texts = [(i, cell) for i, cell in enumerate(cells) if read[i] and not cell.isascii()]
    n_other = sum(is_in_other_script(text) for _, text in texts) if is_english else 0
    told, column = [], repr(str(cells.name))
    if n_other:
        are, they_mean = ("is", "it means") if n_other == 1 else ("are", "they mean")
        told.append(
            f"{n_other} of {sum(read)} texts of column {column} {are} in another script than the Latin one, and "
            f"{encoder}, which learned English, hardly knows what {they_mean}."
        )
    alike = [] if vectors is None else _alike(texts, vectors)
    if alike:
        told.append(
            f"{len(alike)} distinct texts of column {column}, such as {short_repr(alike[0])} and "
            f"{short_repr(alike[1])}, have the vector of another one, because {encoder} knows none of their words."
        )
    if told and is_english:
        told.append(
            f"Pass {MULTILINGUAL} for Chinese, Japanese, Korean, Arabic, Russian, Thai and nine other languages."
        )
    return " ".join(told)


def _alike(texts: list[tuple[int, str]], vectors: np.ndarray) -> list[str]:
    """Return the texts without English letters and digits whose vector is also that of another such text."""
    found: dict[str, tuple[int, str]] = {}
    for i, text in texts:
        if len(text) <= _SHORT and (key := _without_marks(text)) and _ENGLISH_SIGNS.isdisjoint(key):
            found.setdefault(key, (i, text))
    if len(found) < 2:
        return []
    rows, names = np.array([i for i, _ in found.values()]), [text for _, text in found.values()]
    # Equal vectors are neighbours along any direction.
    direction = np.asarray(np.random.default_rng(0).normal(size=vectors.shape[1]), dtype=vectors.dtype)
    along = (vectors @ direction)[rows]
    order = np.argsort(along, kind="stable")
    (near,) = np.nonzero(np.diff(along[order]) < len(direction) * _SAME)
    first, second = rows[order[near]], rows[order[near + 1]]
    near = near[np.abs(vectors[first] - vectors[second]).max(axis=1, initial=0) < _SAME]
    return [names[i] for i in order[np.union1d(near, near + 1)]]


def _without_marks(text: str) -> str:
    """Return a text without case, accents, blanks and punctuation, which some networks ignore."""
    return "".join(
        c for c in unicodedata.normalize("NFKD", text.casefold()) if unicodedata.category(c)[0] not in "MPZC"
    )
