"""Which rows each member of an ensemble learns from, and by which rows it stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np

__all__ = ["held_digest", "member_rows", "out_of_fold"]


def member_rows(
    splits: Sequence[tuple[np.ndarray, np.ndarray]] | None, n_members: int, n_rows: int
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Return the rows that each member learns from, and those that it holds out.

    Member j holds out fold j, so that with as many members as folds each row is held out once. The folds come from the
    caller, who knows classes and groups.

    Parameters
    ----------
    splits : sequence of (train, test), optional
        Positions of rows. Without splits, all members learn from all rows.
    n_members, n_rows : int

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.training.holdout import member_rows
    >>> halves = [(np.array([0, 1]), np.array([2, 3])), (np.array([2, 3]), np.array([0, 1]))]
    >>> [rows.tolist() for rows in member_rows(halves, 3, 4)[1]]
    [[2, 3], [0, 1], [2, 3]]
    """
    if splits is None:
        return [np.arange(n_rows)] * n_members, None
    chosen = [splits[j % len(splits)] for j in range(n_members)]
    return [train for train, _ in chosen], [test for _, test in chosen]


def held_digest(held: Sequence[np.ndarray], tables: Sequence[Any]) -> str:
    """Return a digest of the rows of a fit, and of those that each member holds out.

    Networks that go on with an earlier fit of another digest may have learned from rows that they now hold out.

    Parameters
    ----------
    held : sequence of arrays of positions
    tables : sequence
        What the rows hold: arrays of shape (n_rows, n_columns), or lists of n_rows arrays or None.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.training.holdout import held_digest
    >>> held, table = [np.array([0, 1])], np.arange(6.0).reshape(3, 2)
    >>> held_digest(held, [table]) == held_digest(held, [table[::-1]])
    False
    """
    plain = lambda values: None if values is None else np.ascontiguousarray(values, dtype=np.float64)
    rows = [[plain(cell) for cell in table] if isinstance(table, list) else plain(table) for table in tables]
    return str(joblib.hash(([np.sort(part) for part in held], rows)))


def out_of_fold(outputs: np.ndarray, held: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over the members that held a row out, NaN for a row that none held out.

    Parameters
    ----------
    outputs : ndarray of shape (n_members, n_rows, n_outputs)
    held : sequence of n_members arrays of positions
    """
    total, count = np.zeros(outputs.shape[1:]), np.zeros((outputs.shape[1], 1))
    for member, rows in zip(outputs, held, strict=True):
        total[rows] += member[rows]
        count[rows] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
