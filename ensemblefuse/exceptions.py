"""Exceptions and warnings of ensemblefuse. Imports nothing from the library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

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
    """Return one printable line for a cell of any size."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    text = repr(value)
    if len(text) <= _VALUE_WIDTH:
        return text
    # The end of a path identifies the file; the beginning of a text identifies the text.
    is_path = isinstance(value, str) and os.sep in value and " " not in value
    return "'..." + text[3 - _VALUE_WIDTH :] if is_path else text[: _VALUE_WIDTH - 3] + "..."


def format_bad_rows(bad: Sequence[BadRow]) -> str:
    """Return the first five bad rows, one on each line, and the number of the others."""
    lines = [f"  row {row.label!r}, column {row.column!r}, value {row.value}: {row.reason}" for row in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  ... and {len(bad) - _SHOWN} more (see error.rows)")
    return "\n".join(lines)


class EncodingError(ValueError):
    """Some cells could not be encoded. The other rows of the same call stay in the cache.

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
            'Fix or remove these rows, or pass on_error="missing" to treat them as missing. '
            "The other rows stay in the cache."
        )

    def __reduce__(self):
        return type(self), (self.encoder, self.rows, self.n_cells)

    @property
    def report(self) -> pd.DataFrame:
        """Return the bad rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(BadRow._fields))


class MissingModalityWarning(UserWarning):
    """A modality, or some of its rows, is missing where the user may not expect it."""


class CacheWarning(UserWarning):
    """The embedding cache could not be read or written. The result is correct, but takes longer to compute."""


class PersistenceError(ValueError):
    """A saved model cannot be read: the wrong file, a damaged file, or types in it that are not trusted."""


class IncompatibleModelError(PersistenceError):
    """With the package versions installed here, a saved model cannot be built or makes other predictions.

    The message ends with the pip command that installs the versions with which the model was saved.
    """


def reason_of(error: Exception) -> str:
    """Return one line that explains why a cell is bad."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
