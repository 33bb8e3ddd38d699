"""Blocks: the columns of each modality, and the rows in which it is missing. No files and no networks here."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import counted
from ensemblefuse.table import is_missing

__all__ = [
    "SEPARATOR",
    "WORDS",
    "Blocks",
    "check_complete",
    "find_blocks",
    "is_raw",
    "raw_columns",
    "read_block",
    "read_words",
    "words_apart",
]

SEPARATOR = "__"
SINGLE_BLOCK = "features"
# A column of this name beside the numbers of a block holds the texts that the numbers were made of.
WORDS = "words"
_SHOWN = 5


@dataclass
class Blocks:
    """The blocks of one table.

    Attributes
    ----------
    data : dict of str to array of shape (n_samples, n_columns), or Series or DataFrame for a block of raw cells
    present : ndarray of shape (n_blocks, n_samples), dtype bool
        False where all cells of the block are missing in the row.
    labels : list
        Index labels of the rows, for messages.
    tables : dict of tuple of str to array
        Arrays that `side_by_side` and `counts_of` return again, by the names of their blocks.
    words : dict of str to Series
        The texts of blocks of numbers that were made of texts, and None where the block is missing.
    """

    data: dict[str, Any]
    present: np.ndarray
    labels: list
    tables: dict[tuple, Any] = field(default_factory=dict, repr=False)
    words: dict[str, pd.Series] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> list[str]:
        return list(self.data)

    def side_by_side(self, names: Sequence[str], *, exact: bool = False) -> np.ndarray:
        """Return blocks of numbers as one array: the same array each time. With `exact`, it is float64.

        Nothing is copied if the blocks were read from one array.
        """
        key = tuple(names)
        if key not in self.tables:
            parts = [self.data[name] for name in key]
            self.tables[key] = parts[0] if len(parts) == 1 else np.hstack(parts)
        if not exact or self.tables[key].dtype == np.float64:
            return self.tables[key]
        precise = (key, np.float64)
        if precise not in self.tables:
            self.tables[precise] = self.tables[key].astype(np.float64)
        return self.tables[precise]

    def counts_of(self, name: str, count: Callable[[pd.Series], Any]) -> Any:
        """Return the counts of a block's words: the same object each time, so that a ledger knows its members again."""
        key = (name, WORDS)
        if key not in self.tables:
            self.tables[key] = count(self.words[name])
        return self.tables[key]

    def has_words(self, name: str) -> np.ndarray:
        """Return the rows that hold the texts of a block, as booleans of shape (n_samples,)."""
        return np.array([not is_missing(text) for text in self.words[name].tolist()], dtype=bool)

    def spans(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the positions of each block's columns in `side_by_side`."""
        ends = np.cumsum([self.data[name].shape[1] for name in names])
        return {name: np.arange(end - self.data[name].shape[1], end) for name, end in zip(names, ends, strict=True)}

    def __len__(self) -> int:
        return self.present.shape[1]


def find_blocks(columns: Sequence[Any], blocks: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Find the columns of each block.

    Parameters
    ----------
    columns : sequence
        Column names, or a range for a table without names.
    blocks : mapping of str to list of names, list of positions, or slice; optional
        The columns of each block. By default, the part of a column's name before ``"__"`` is the name of its block. A
        table without any such column is one block, ``"features"``.

    Returns
    -------
    dict of str to ndarray of int
        Positions of the columns of each block, in order of first appearance.

    Raises
    ------
    ValueError
        If some columns have a prefix and others do not, or if `blocks` is empty, repeats a column or leaves one out.

    Examples
    --------
    >>> from ensemblefuse.blocks import find_blocks
    >>> find_blocks(["image__0", "image__1", "text__0"])
    {'image': array([0, 1]), 'text': array([2])}
    >>> find_blocks(range(4), {"left": slice(0, 2), "right": [2, 3]})
    {'left': array([0, 1]), 'right': array([2, 3])}
    """
    columns = list(columns)
    if blocks is not None:
        return _declared_blocks(columns, blocks)
    prefixes = [c.split(SEPARATOR, 1)[0] if isinstance(c, str) and SEPARATOR in c else None for c in columns]
    if all(prefix is None for prefix in prefixes):
        return {SINGLE_BLOCK: np.arange(len(columns))}
    bare = [c for c, prefix in zip(columns, prefixes, strict=True) if not prefix]
    if bare:
        raise ValueError(
            f"Some columns of X name their block before '{SEPARATOR}', and {len(bare)} do not: {bare[:_SHOWN]}. "
            "Rename them to 'block__column', or pass blocks={'block': [columns], ...}."
        )
    found: dict[str, list[int]] = {}
    for position, prefix in enumerate(prefixes):
        found.setdefault(str(prefix), []).append(position)
    return {name: np.array(positions) for name, positions in found.items()}


def _declared_blocks(columns: list, blocks: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not isinstance(blocks, Mapping) or not blocks:
        raise ValueError(f"blocks must be a dict of block name to columns; got {blocks!r}.")
    # Embeddings have thousands of columns, so names are looked up in a dict. Of equal names the first one counts.
    places = {column: len(columns) - 1 - i for i, column in enumerate(reversed(columns))}
    found = {name: _positions(name, chosen, places, len(columns)) for name, chosen in blocks.items()}
    used, counts = np.unique(np.concatenate(list(found.values())), return_counts=True)
    repeated = [columns[i] for i in used[counts > 1]]
    if repeated:
        raise ValueError(f"blocks puts columns into several blocks: {repeated[:_SHOWN]}.")
    left = [columns[i] for i in np.setdiff1d(np.arange(len(columns)), used)]
    if left:
        raise ValueError(
            f"blocks leaves out {counted(len(left), 'column')} of X: {left[:_SHOWN]}. Drop them or name their block."
        )
    return found


def _positions(name: str, chosen: Any, places: Mapping[Any, int], n_columns: int) -> np.ndarray:
    if isinstance(chosen, slice):
        return np.arange(n_columns)[chosen]
    chosen = [chosen] if isinstance(chosen, (str, int)) else list(chosen)
    positions = []
    for column in chosen:
        if isinstance(column, Hashable) and column in places:
            positions.append(places[column])
        elif isinstance(column, (int, np.integer)) and -n_columns <= column < n_columns:
            positions.append(int(column) % n_columns)
        else:
            raise ValueError(f"blocks[{name!r}] names {column!r}, which is not a column of X.")
    if not positions:
        raise ValueError(f"blocks[{name!r}] names no column.")
    return np.array(positions)


def words_apart(frame: pd.DataFrame, blocks: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Take the column of texts out of each block of numbers that has one, ``block__words``.

    Parameters
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
    blocks : dict of str to ndarray of int
        As from `find_blocks`.

    Returns
    -------
    blocks : dict of str to ndarray of int
        Without the columns of texts.
    words : dict of str to int
        The position of the column of texts, for each block that has one.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.blocks import find_blocks, words_apart
    >>> frame = pd.DataFrame({"text__0": [0.5], "image__0": [1.0], "text__words": ["a red bird"]})
    >>> words_apart(frame, find_blocks(frame.columns))
    ({'text': array([0]), 'image': array([1])}, {'text': 2})
    """
    numbers, words = {}, {}
    for name, columns in blocks.items():
        numbers[name] = columns
        found = [i for i in columns.tolist() if _may_be_words(frame, i)]
        if len(found) == 1 and len(columns) > 1:
            rest = columns[columns != found[0]]
            if not is_raw(frame.iloc[:, rest]):
                numbers[name], words[name] = rest, found[0]
    return numbers, words


def _may_be_words(frame: pd.DataFrame, position: int) -> bool:
    column = frame.columns[position]
    is_named = isinstance(column, str) and column.endswith(f"{SEPARATOR}{WORDS}")
    return is_named and not pd.api.types.is_numeric_dtype(frame.dtypes.iloc[position])


def read_words(name: str, cells: pd.Series, present: np.ndarray, labels: Sequence[Any]) -> pd.Series:
    """Return the texts of a block, after checking them.

    Raises
    ------
    ValueError
        If a cell is no text, or a row has a text where the numbers of the block are missing: the two are views of one
        modality.
    """
    texts = cells.tolist()
    held = np.array([not is_missing(text) for text in texts], dtype=bool)
    wrong = [i for i, text in enumerate(texts) if held[i] and not isinstance(text, str)]
    if wrong:
        raise ValueError(
            f"Block {name!r}: its column {cells.name!r} holds texts, but a {type(texts[wrong[0]]).__name__} in "
            f"{counted(len(wrong), 'row')}: {[labels[i] for i in wrong[:_SHOWN]]}. Make them str, or None where they "
            "are missing."
        )
    alone = np.flatnonzero(held & ~present)
    if len(alone):
        raise ValueError(
            f"Block {name!r} has texts in its column {cells.name!r} without numbers in {counted(len(alone), 'row')}: "
            f"{[labels[i] for i in alone[:_SHOWN]]}. A missing modality is missing in all its columns."
        )
    return cells


def is_raw(frame: pd.DataFrame) -> bool:
    """Return whether a block holds raw cells (texts, paths, arrays) instead of numbers."""
    return bool(raw_columns(frame))


def raw_columns(frame: pd.DataFrame) -> list[Any]:
    """Return the columns of a block that hold raw cells; the others hold numbers."""
    return [name for i, name in enumerate(frame.columns) if not _is_numeric(frame.iloc[:, i])]


def _is_numeric(column: pd.Series) -> bool:
    if column.dtype != object:
        return pd.api.types.is_numeric_dtype(column.dtype)
    return all(is_missing(cell) or isinstance(cell, (bool, int, float, np.number)) for cell in column.tolist())


def read_block(
    name: str,
    frame: pd.DataFrame | np.ndarray,
    labels: Sequence[Any],
    *,
    raw: bool,
    allow_partial: bool,
    column_of: Callable[[int], Any] | None = None,
) -> tuple[Any, np.ndarray]:
    """Return the data of one block in the form for its estimator, and the rows in which it is present.

    Parameters
    ----------
    name : str
    frame : DataFrame or ndarray of shape (n_samples, n_columns)
    labels : sequence of length n_samples
    raw : bool
        Whether the block holds raw cells.
    allow_partial : bool
        Whether a row may hold NaN beside numbers.
    column_of : callable, optional
        Returns the name of a column by its position in the block, for messages.

    Returns
    -------
    data : ndarray of shape (n_samples, n_columns), or Series (one raw column) or DataFrame (several)
    present : ndarray of shape (n_samples,), dtype bool

    Raises
    ------
    ValueError
        If a row of numbers is partly NaN and this is not allowed, or if it holds an infinite number.
    """
    if raw:
        assert isinstance(frame, pd.DataFrame)
        lost = np.array([[is_missing(cell) for cell in frame.iloc[:, i].tolist()] for i in range(frame.shape[1])])
        data = frame.iloc[:, 0] if frame.shape[1] == 1 else frame
        return data, np.asarray(~lost.all(axis=0))
    data = frame if isinstance(frame, np.ndarray) else _to_floats(name, frame)
    nan = np.isnan(data)
    lost = np.asarray(nan.all(axis=1))
    if not allow_partial:
        check_complete(name, data, ~lost, labels)
    infinite = np.argwhere(np.isinf(data))
    if len(infinite):
        i, j = infinite[0].tolist()
        n_rows, column = len(np.unique(infinite[:, 0])), j if column_of is None else column_of(j)
        raise ValueError(
            f"Block {name!r} holds infinity in {counted(n_rows, 'row')}, first {data[i, j]} in row {labels[i]!r}, "
            f"column {column!r}. Correct such numbers before the fusion, or make the whole block NaN in these rows, "
            "which then lack the modality."
        )
    return data, ~lost


def check_complete(name: str, data: np.ndarray, present: np.ndarray, labels: Sequence[Any]) -> None:
    """Raise an error if a row holds NaN beside numbers."""
    partly = np.flatnonzero(np.isnan(data).any(axis=1) & present)
    if len(partly):
        raise ValueError(
            f"Block {name!r} is partly NaN in {counted(len(partly), 'row')}: {[labels[i] for i in partly[:_SHOWN]]}. A "
            "missing modality is NaN in all its columns; fill single gaps before fusion (SimpleImputer), or give "
            "the block an estimator that takes NaN."
        )


def _to_floats(name: str, frame: pd.DataFrame) -> np.ndarray:
    dtypes = set(frame.dtypes.tolist())
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float64)
    dtype = np.float32 if dtype == np.float32 else np.float64
    try:
        return frame.to_numpy(dtype=dtype, na_value=np.nan)
    except (TypeError, ValueError) as error:
        columns = raw_columns(frame)[:_SHOWN]
        raise ValueError(
            f"Block {name!r} held numbers in fit, but now it holds something else in the columns {columns}: {error}."
        ) from error
