"""Blocks of sequences: cells that hold arrays of shape (n_tokens, width), padded and masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemblefuse.blocks import raw_columns
from ensemblefuse.exceptions import short_repr
from ensemblefuse.training.preparation import fit_block, prepare_block

__all__ = ["fit_sequences", "pad_sequences", "read_sequences", "width_of"]

_SHOWN = 5


def read_sequences(
    name: str, cells: Any, present: np.ndarray, labels: Sequence[Any], width: int | None
) -> list[np.ndarray | None]:
    """Return the cells of a block as arrays of shape (n_tokens, width), None where the block is missing.

    A cell of shape (width,) is one token.

    Parameters
    ----------
    name : str
    cells : Series
    present : ndarray of shape (n_samples,), dtype bool
    labels : sequence
        Of the rows, for messages.
    width : int, optional
        Of a token; by default that of the first cell.

    Raises
    ------
    ValueError
        If the block has several columns, or a cell is no finite array of this width with a token or more.
    """
    if getattr(cells, "ndim", 1) != 1:
        raw, n = raw_columns(cells), cells.shape[1]
        how_many = f"{n}" if len(raw) == n else f"{len(raw)} of {n}"
        raise ValueError(
            f"Block {name!r} holds raw cells in {how_many} columns: {raw[:_SHOWN]}. A block of sequences is one "
            "column, with an array of shape (n_tokens, width) in each cell."
        )
    found: list[np.ndarray | None] = []
    for cell, there, label in zip(cells.tolist(), present.tolist(), labels, strict=True):
        array = _as_tokens(cell) if there else None
        if there and (array is None or array.shape[1] != (array.shape[1] if width is None else width)):
            wanted = "width" if width is None else width
            raise ValueError(
                f"Block {name!r}: row {label!r} holds {_what(cell)}. Each cell of such a block must be a finite "
                f"array of shape (n_tokens, {wanted}). Encode other cells first, or use decision-level fusion with an "
                "estimator for this block."
            )
        width = width if array is None else array.shape[1]
        found.append(array)
    return found


def _as_tokens(cell: Any) -> np.ndarray | None:
    """Return a cell as an array of tokens; None if it is none."""
    try:
        array = np.asarray(cell)
        array = array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        return None
    array = array[None] if array.ndim == 1 else array
    return array if array.ndim == 2 and array.size and np.isfinite(array).all() else None


def _what(cell: Any) -> str:
    shape = getattr(cell, "shape", None)
    return short_repr(cell) if shape is None else f"an array of shape {tuple(shape)} and dtype {cell.dtype}"


def width_of(cells: Sequence[np.ndarray | None]) -> int:
    """Return the width of the tokens. A block whose cells are all missing is no block of raw cells."""
    return next(cell.shape[1] for cell in cells if cell is not None)


def fit_sequences(cells: Sequence[np.ndarray], weight: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """Learn how tokens are prepared, as `fit_block` does. Each row counts by its weight, whatever its length."""
    lengths = np.array([len(cell) for cell in cells], dtype=int)
    return fit_block(np.vstack([np.empty((0, width), dtype=np.float32), *cells]), np.repeat(weight / lengths, lengths))


def pad_sequences(cells: Sequence[np.ndarray | None], fitted: dict[str, np.ndarray]) -> np.ndarray:
    """Return prepared tokens of shape (n_samples, longest, width + 1): the last column is 1 for a token, else 0."""
    longest = max((len(cell) for cell in cells if cell is not None), default=1)
    out = np.zeros((len(cells), longest, fitted["basis"].shape[1] + 1))
    for row, cell in zip(out, cells, strict=True):
        if cell is not None:
            row[: len(cell), :-1], row[: len(cell), -1] = prepare_block(cell, fitted), 1.0
    return out
