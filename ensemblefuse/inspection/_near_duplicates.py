"""Duplicate and nearly duplicate rows: across train and test, or within a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.fitted.modality_rows import ModalityRows
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.scoring.result import TableResult

__all__ = ["NearDuplicates", "duplicate_pairs", "find_near_duplicates"]

# In fewer dimensions rows are near each other by chance. In 16 dimensions, about one pair in two million of 10 000
# normal rows has a correlation over 0.95.
_FEWEST_DIMENSIONS = 16
_CHUNK = 1024
# With more pairs per row than this, a modality distinguishes too few rows for its pairs to mean anything.
_MOST_PAIRS = 50


class NearDuplicates(TableResult):
    """Pairs of rows that are equal, or nearly equal, in a modality.

    Attributes
    ----------
    table : DataFrame
        One row per pair and modality. ``modality``; ``row`` and ``other``: index labels, where ``other`` is in `X_test`
        if that is given; ``row_position`` and ``other_position``; ``similarity``: correlation of the embeddings about
        their mean, 1 for equal ones, NaN if only equality was checked; ``exact``: whether the content is the same.
    caption, notes
        As in `TableResult`.
    """


def find_near_duplicates(
    model: Any, X: Any, X_test: Any = None, *, modality: str | None = None, threshold: float = 0.95
) -> NearDuplicates:
    """Find pairs of rows in `X` and `X_test`, or within `X`, with equal content or nearly equal embeddings.

    Parameters
    ----------
    model : fitted model
        A pipeline that ends in a fusion estimator, a fusion estimator, or a search over these.
    X : DataFrame of n_samples rows
        For example the rows of fit.
    X_test : DataFrame of n_test rows, optional
    modality : str, optional
        By default all except those that hold only numbers, categories or counts: their rows may be equal by chance.
    threshold : float
        Least correlation of two embeddings, from 0 to 1, after subtracting each column's mean over `X`. Blocks of fewer
        than 16 columns are checked only for equal content.

    Returns
    -------
    NearDuplicates
        Its notes name the modalities that were left out, with the reason. Equal content is found by digests of cells;
        the digest of a file is that of its content, so the same picture under two names is equal.

    Raises
    ------
    ValueError
        If the named modality has more than 50 pairs per row; raise the threshold.

    Notes
    -----
    Correlations are computed for 1024 rows at a time, in float32.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, find_near_duplicates, make_fusion_pipeline
    >>> from sklearn.linear_model import LogisticRegression
    >>> text = FunctionEncoder(lambda title: [title.count("a"), len(title)])
    >>> df = pd.DataFrame({"title": ["a cat", "a dog", "banana", "poor old moon"]})
    >>> fusion = DecisionFusionClassifier(LogisticRegression(), cv=2)
    >>> model = make_fusion_pipeline([("text", text, "title")], fusion).fit(df, [0, 1, 0, 1])
    >>> find_near_duplicates(model, df, {"title": ["a dog", "sun"]}).table[["modality", "row", "other", "exact"]]
      modality  row  other  exact
    0     text    1      0   True
    """
    parts = FittedModel(model, several=True)
    if modality is not None:
        parts.check_modality(modality)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be over 0 and at most 1; got {threshold!r}.")
    rows = ModalityRows(parts, X)
    others = None if X_test is None else ModalityRows(parts, X_test)
    found, notes = duplicate_pairs(rows, others, [modality] if modality else None, threshold)
    where = f"within {len(rows)} rows" if others is None else f"across {len(rows)} rows and {len(others)} others"
    return NearDuplicates(found, f"Pairs of rows that are equal or nearly equal, {where}", notes)


def duplicate_pairs(
    rows: ModalityRows, others: ModalityRows | None, modalities: list[str] | None, threshold: float
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of `find_near_duplicates`, and its notes."""
    tables, notes = [], []
    for name in modalities or rows.parts.names:
        if modalities is None and rows.may_repeat(name):
            notes.append(
                f"{name!r} holds only numbers or categories, and its rows may be equal by chance; name it to check it."
            )
            continue
        pairs, note = _pairs(rows, others, name, threshold, named=modalities is not None)
        notes += [note] if note else []
        tables.append(pairs)
    columns = ["modality", "row", "other", "row_position", "other_position", "similarity", "exact"]
    if not any(map(len, tables)):
        return pd.DataFrame(columns=columns), notes
    table = pd.concat([pairs for pairs in tables if len(pairs)], ignore_index=True)
    second = rows if others is None else others
    table["row"] = [rows.labels[i] for i in table["row_position"]]
    table["other"] = [second.labels[j] for j in table["other_position"]]
    table = table.sort_values(["exact", "similarity"], ascending=False, kind="stable", ignore_index=True)
    return table[columns], notes


def _pairs(
    rows: ModalityRows, others: ModalityRows | None, name: str, threshold: float, *, named: bool
) -> tuple[pd.DataFrame, str]:
    """Return the pairs of one modality, by position, and a note about it."""
    second = rows if others is None else others
    most = _MOST_PAIRS * max(len(rows), len(second))
    left, right = rows.digests(name), second.digests(name) if others is not None else None
    exact = _equal_pairs(left, right, most)
    block = rows.block(name)
    near: dict[tuple[int, int], float] | None = {}
    wide = block is not None and block.shape[1] >= _FEWEST_DIMENSIONS
    if wide and exact is not None:
        near = _near_pairs(rows, second, name, threshold, most, within=others is None)
    if exact is None or near is None:
        what = f"{name!r} has more than {most} pairs of nearly equal rows, so it distinguishes too few rows"
        if named:
            raise ValueError(f"{what}; raise the threshold, now {threshold}, or pass fewer rows.")
        return pd.DataFrame(), f"{what}; it is left out."
    both = sorted({*near, *exact})
    table = pd.DataFrame(both, columns=["row_position", "other_position"], dtype=int)
    table.insert(0, "modality", name)
    table["similarity"] = [near.get(pair, 1.0 if wide else np.nan) for pair in both]
    table["exact"] = [pair in exact for pair in both]
    return table, "" if wide else f"{name!r} has fewer than 16 columns; only equal content was looked for."


def _equal_pairs(left: list[bytes | None], right: list[bytes | None] | None, most: int) -> set[tuple[int, int]] | None:
    """Return the pairs of equal digests; None if there are more than `most`."""
    place: dict[bytes, list[int]] = {}
    for i, digest in enumerate(left):
        if digest is not None:
            place.setdefault(digest, []).append(i)
    if right is None:
        if sum(len(same) * (len(same) - 1) // 2 for same in place.values()) > most:
            return None
        return {(i, j) for same in place.values() for k, i in enumerate(same) for j in same[k + 1 :]}
    if sum(len(place.get(digest, ())) for digest in right if digest is not None) > most:
        return None
    return {(i, j) for j, digest in enumerate(right) if digest is not None for i in place.get(digest, ())}


def _near_pairs(
    rows: ModalityRows, second: ModalityRows, name: str, threshold: float, most: int, *, within: bool
) -> dict[tuple[int, int], float] | None:
    """Return the correlation of each pair that reaches the threshold; None if there are more than `most` pairs."""
    a, b = rows.block(name), second.block(name)
    assert a is not None and b is not None
    here, there = np.flatnonzero(rows.present[name]), np.flatnonzero(second.present[name])
    if not len(here):
        return {}
    # NaN in single columns, which some estimators accept, counts as the column's mean.
    with np.errstate(invalid="ignore"):
        mean = np.nan_to_num(np.nansum(a[here], axis=0) / np.isfinite(a[here]).sum(axis=0))
    left, right = _unit(a[here] - mean), _unit(b[there] - mean)
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(here), _CHUNK):
        alike = left[start : start + _CHUNK] @ right.T
        near = np.argwhere(alike >= threshold - 1e-6)  # float32: equal rows may have a little less than 1
        if within:
            near = near[near[:, 0] + start < near[:, 1]]
        if len(found) + len(near) > most:
            return None
        values = np.minimum(alike[near[:, 0], near[:, 1]], 1.0).tolist()
        pairs = zip(here[near[:, 0] + start].tolist(), there[near[:, 1]].tolist(), strict=True)
        found.update(zip(pairs, values, strict=True))
    return found


def _unit(block: np.ndarray) -> np.ndarray:
    block = np.nan_to_num(block)
    length = np.linalg.norm(block, axis=1, keepdims=True)
    return (block / np.where(length > 0, length, 1)).astype(np.float32)
