"""Exceptions and warnings of ensemblefuse. Imports nothing from the library."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BadRow",
    "CacheWarning",
    "ColumnError",
    "EncodingError",
    "FarNumberWarning",
    "IncompatibleModelError",
    "MissingModalityWarning",
    "PersistenceError",
    "UnseenCategoryWarning",
    "UnseenValueWarning",
    "counted",
    "format_bad_rows",
    "format_unread_cells",
    "path_hints",
    "reason_of",
    "short_repr",
]

NO_SUCH_FILE = "no such file"
_SHOWN = 5
_VALUE_WIDTH = 60
_REASON_WIDTH = 500
_LONGEST_NAME = 255  # characters of a file's name
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|file)://", re.IGNORECASE)
_BASE64 = re.compile(r"[\w+/=\s-]*", re.ASCII)

FUSION_READS = "fuse__encoders__"  # parameters of transformers by which a fusion reads raw cells


_OF_ONE = {"are": "is", "have": "has", "do": "does"}


def counted(count: float, what: str, verb: str = "") -> str:
    """Return how many things there are, and in the right number what they do.

    Examples
    --------
    >>> from ensemblefuse.exceptions import counted
    >>> counted(1, "row", "hold"), counted(2, "cell"), counted(1, "cell", "are")
    ('1 row holds', '2 cells', '1 cell is')
    """
    number = f"{count:g}" if isinstance(count, float) else f"{count}"
    if count != 1:
        return f"{number} {what}s {verb}".rstrip()
    return f"{number} {what} {_OF_ONE.get(verb, f'{verb}s' if verb else '')}".rstrip()


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
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"{type(value).__name__} with a number of thousands of digits"
    if len(text) <= _VALUE_WIDTH:
        return text
    # The end of a path identifies the file; the beginning of a text identifies the text.
    is_path = isinstance(value, str) and os.sep in value and " " not in value
    return "'..." + text[3 - _VALUE_WIDTH :] if is_path else text[: _VALUE_WIDTH - 3] + "..."


def format_bad_rows(bad: Sequence[BadRow], others: str = "") -> str:
    """Return the first five bad rows, one on each line, and the number of the others. `others` says where these are."""
    lines = [f"  row {row.label!r}, column {row.column!r}, value {row.value}: {row.reason}" for row in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  ... and {len(bad) - _SHOWN} more" + (f" ({others})" if others else ""))
    # Of a long path, only the end is shown, which does not say where it starts.
    absent = [row.value[1:-1] for row in bad if row.reason == NO_SUCH_FILE and not row.value.startswith("'...")]
    lines += [f"  {hint}" for hint in path_hints(absent)]
    return "\n".join(lines)


def path_hints(paths: Iterable[str], folder: str | None = None) -> list[str]:
    """Return what may be wrong with paths of files that are not there: addresses, relative paths, backslashes.

    Parameters
    ----------
    paths : iterable of str
    folder : str, optional
        Where relative paths start; by default the working directory.

    Examples
    --------
    >>> from ensemblefuse.exceptions import path_hints
    >>> path_hints(["/data/a.png"]), path_hints(["a.png"], "/data")
    ([], ['Relative paths start at /data.'])
    """
    paths, hints = list(paths), []
    where = f"the working directory, {os.getcwd()}" if folder is None else folder
    if "" in paths:
        hints.append("An empty text is not a path; the cell of a missing file is None.")
    if any(_ADDRESS.match(path) for path in paths):
        hints.append("Nothing is downloaded: fetch what an address names first, and write the path of the file.")
    paths = [path for path in paths if path and not _ADDRESS.match(path)]
    if not all(os.path.isabs(path) or path.startswith("~") for path in paths):
        hints.append(f"Relative paths start at {where}.")
    if os.sep == "/" and any("\\" in path for path in paths):
        hints.append("A backslash separates folders on Windows only; write '/' instead, which Windows reads as well.")
    return hints


class EncodingError(ValueError):
    """Some cells could not be encoded. The other rows of the same call stay in the cache.

    Its cause (``error.__cause__``, in the traceback) is the first error that a cell gave.

    Attributes
    ----------
    rows : list of BadRow
        Every bad row: index label, column, value, reason.
    report : pandas.DataFrame
        The same as a table with the columns ``label``, ``column``, ``value``, ``reason``.
    """

    def __init__(self, encoder: str, rows: Sequence[BadRow], n_cells: int, all_alike: bool = False):
        self.encoder = encoder
        self.rows = list(rows)
        self.n_cells = n_cells
        self._all_alike = all_alike
        alike = (
            "All rows fail in the same way, so the encoder, its parameters or the column may be at fault, and not the "
            "cells: see the first error in the traceback.\n"
        )
        super().__init__(
            f"{encoder} could not encode {len(self.rows)} of {n_cells} cells:\n"
            f"{format_bad_rows(self.rows, 'see error.rows')}\n{alike if all_alike else ''}"
            'Fix or remove these rows, or pass on_error="missing" to treat them as missing. '
            "The other rows stay in the cache."
        )

    def __reduce__(self):
        return type(self), (self.encoder, self.rows, self.n_cells, self._all_alike)

    @property
    def report(self) -> pd.DataFrame:
        """Return the bad rows as a table."""
        return _table_of(self.rows)


class ColumnError(EncodingError):
    """Some cells of a table cannot be read as their columns were in fit, such as a text in a column of numbers.

    `parameter` is the parameter of a `ModalityTransformer` that would take them as missing; None if there is none.
    """

    def __init__(self, rows: Sequence[BadRow], n_rows: int, parameter: str | None = None):
        self.encoder, self.rows, self.n_cells, self._parameter = "", list(rows), n_rows, parameter
        told = format_unread_cells(self.rows, n_rows, "see error.rows")
        way_out = "Correct these cells, or leave them empty."
        if parameter is not None:
            step = "" if parameter.startswith(FUSION_READS) else "encode__"
            way_out = (
                "Correct these cells, leave them empty, or take them as missing: "
                f'model.set_params({step}{parameter}="missing").'
            )
        ValueError.__init__(self, f"{told}\n{way_out}")

    def __reduce__(self):
        return type(self), (self.rows, self.n_cells, self._parameter)


def format_unread_cells(rows: Sequence[BadRow], n_rows: int, others: str, *, missing: bool = False) -> str:
    """Return how many cells of a table cannot be read, and the first five. `others` says where the others are."""
    lines = [f"  row {row.label!r}, column {row.column!r}: {row.reason}" for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(f"  ... and {len(rows) - _SHOWN} more ({others})")
    more = f", and {'counts' if len(rows) == 1 else 'count'} as missing" if missing else ""
    told = f"{counted(len(rows), 'cell')} in {counted(n_rows, 'row')}"
    return "\n".join([f"{told} cannot be read as the column requires{more}:", *lines])


class MissingModalityWarning(UserWarning):
    """A modality, or some of its rows, is missing where the user may not expect it.

    Attributes
    ----------
    rows : list of BadRow
        Every cell that could not be encoded and is missing for this reason. Empty if the warning is about something
        else. ``warnings.catch_warnings(record=True)`` gives the object of the warning.
    report : pandas.DataFrame
        The same as a table, as in `EncodingError`.
    """

    def __init__(self, *args: object, rows: Sequence[BadRow] = ()):
        super().__init__(*args)
        self.rows = list(rows)

    @property
    def report(self) -> pd.DataFrame:
        """Return the bad rows as a table."""
        return _table_of(self.rows)


def _table_of(rows: Sequence[BadRow]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(BadRow._fields))


class UnseenValueWarning(UserWarning):
    """A table holds values unlike all that the model saw in fit."""


class FarNumberWarning(UnseenValueWarning):
    """A table holds numbers far outside the range of fit. Each call gives one such warning, which counts them."""


class UnseenCategoryWarning(UnseenValueWarning):
    """A table holds categories that the model never saw in fit. Each call gives one such warning, which counts them."""


class CacheWarning(UserWarning):
    """The embedding cache could not be read or written. The result is correct, but takes longer to compute."""


class PersistenceError(ValueError):
    """A saved model cannot be read: the wrong file, a damaged file, or types in it that are not trusted."""


class IncompatibleModelError(PersistenceError):
    """With the package versions installed here, a saved model cannot be built or makes other predictions.

    The message ends with the pip command that installs the versions with which the model was saved.
    """


def reason_of(error: Exception) -> str:
    """Return one line that explains why a cell is bad; it never repeats a long cell."""
    name = error.filename if isinstance(error, OSError) else None
    if isinstance(name, str) and _is_base64(name):
        return (
            f"not the path of a file, but {len(name)} characters that look like base64; put the bytes of the file into "
            "the cell, as base64.b64decode gives them (without a head such as 'data:image/png;base64,')"
        )
    if isinstance(error, FileNotFoundError):
        return NO_SUCH_FILE
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    text = str(error).strip().split("\n")[0]
    if isinstance(name, (str, bytes)) and len(name) > _VALUE_WIDTH and error.strerror:  # type: ignore[attr-defined]
        text = f"{error.strerror} ({len(name)} characters)"  # type: ignore[attr-defined]
    text = text if len(text) <= _REASON_WIDTH else text[: _REASON_WIDTH - 3] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_base64(name: str) -> bool:
    start = name[:_LONGEST_NAME]
    is_uri = start.startswith("data:") and "base64," in start
    return is_uri or (len(name) > _LONGEST_NAME and _BASE64.fullmatch(start) is not None)
