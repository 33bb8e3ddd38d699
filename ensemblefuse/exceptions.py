"""What ensemblefuse raises and warns with. No imports from the library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = [
    "BadRow",
    "CacheWarning",
    "EncodingError",
    "IncompatibleModelError",
    "MissingModalityWarning",
    "PersistenceError",
    "format_bad_rows",
    "reason_of",
    "short_repr",
]

_SHOWN = 5
_VALUE_WIDTH = 60


class BadRow(NamedTuple):
    """One cell that could not be encoded."""

    label: Any
    """Index label of the row."""
    column: str
    """Name of the column."""
    value: str
    """The cell, shortened to one printable line."""
    reason: str
    """Why it could not be encoded."""


def short_repr(value: object) -> str:
    """One printable line for a cell of any size."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    text = repr(value)
    if len(text) <= _VALUE_WIDTH:
        return text
    # The end of a path says which file it is, the beginning of a text which text.
    is_path = isinstance(value, str) and os.sep in value and " " not in value
    return "'..." + text[3 - _VALUE_WIDTH :] if is_path else text[: _VALUE_WIDTH - 3] + "..."


def format_bad_rows(bad: Sequence[BadRow]) -> str:
    """The first five bad rows, one a line, and how many more there are."""
    lines = [f"  row {row.label!r}, column {row.column!r}, value {row.value}: {row.reason}" for row in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  ... and {len(bad) - _SHOWN} more (see error.rows)")
    return "\n".join(lines)


class EncodingError(ValueError):
    """Some cells could not be encoded. The good rows of the same call stay cached.

    Attributes
    ----------
    rows : list of BadRow
        Every bad row: index label, column, value, reason.
    report : pandas.DataFrame
        The same as a table with the columns ``label``, ``column``, ``value``, ``reason``.
    """

    def __init__(self, encoder: str, rows: Sequence[BadRow], n_cells: int):
        self.encoder = encoder
        self.rows = list(rows)
        self.n_cells = n_cells
        super().__init__(
            f"{encoder} could not encode {len(self.rows)} of {n_cells} cells:\n{format_bad_rows(self.rows)}\n"
            'Mend or remove these rows, or pass on_error="missing" to treat them as missing. '
            "The other rows stay in the cache."
        )

    def __reduce__(self):
        return type(self), (self.encoder, self.rows, self.n_cells)

    @property
    def report(self):
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(BadRow._fields))


class MissingModalityWarning(UserWarning):
    """A modality, or some of its rows, is missing where the user may not expect it."""


class CacheWarning(UserWarning):
    """The embedding cache could not be read or written; the result is right, only slower to get."""


class PersistenceError(ValueError):
    """A saved model cannot be read as asked: wrong file, damaged, or holding types that are not trusted."""


class IncompatibleModelError(PersistenceError):
    """A saved model predicts otherwise, or cannot be built, with the versions of packages that are installed here.

    The message ends in the command of pip that installs those that the model was saved with.
    """


def reason_of(error: Exception) -> str:
    """One line on why a cell is bad."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
