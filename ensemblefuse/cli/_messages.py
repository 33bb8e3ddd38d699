"""Output of the commands besides their results: notes, warnings and errors, all on standard error."""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any

from ensemblefuse.exceptions import NO_SUCH_FILE, EncodingError, PersistenceError

FROM_TABLE = "Relative paths in a table start at the folder of the table."
_WAY_OUT = "Correct these cells, leave them empty, or pass --on-error missing to take them as missing."
FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

# The text of these classes is shown in full; of all others only the first line is shown.
_EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError)


class CommandError(Exception):
    """Raised if the work failed; the message gives the full reason. Exit code 1."""

    code = FAILED


class UsageError(CommandError):
    """Raised if the command line names something that does not exist or is not allowed. Exit code 2."""

    code = WRONG_USAGE


def describe(error: BaseException) -> str:
    """Return an exception as one sentence, or as the short list of an `EncodingError`.

    Examples
    --------
    >>> from ensemblefuse.cli._messages import describe
    >>> describe(ValueError("C must be positive.\\nSee the guide."))
    'C must be positive.'
    >>> describe(KeyError("price"))
    "KeyError: 'price' (run again with --debug for the traceback)"
    """
    text = str(error).strip()
    if isinstance(error, EncodingError):
        told = text.replace('pass on_error="missing"', "pass --on-error missing").replace(" (see error.rows)", "")
        told = re.sub(r"\nCorrect these cells, .*", f"\n{_WAY_OUT}", told)
        # Existing files were found from the folder of the table, so a path that is left relative was looked for there.
        told = "\n".join(line for line in told.split("\n") if not line.startswith("  Relative paths start at"))
        return f"{told} {FROM_TABLE}" if f": {NO_SUCH_FILE}" in told else told
    if isinstance(error, PersistenceError):
        return _as_options(text)
    if isinstance(error, CommandError):
        return text
    first = text.splitlines()[0].strip() if text else ""
    if isinstance(error, _EXPECTED) and first:
        return first
    return f"{type(error).__name__}{': ' + first if first else ''} (run again with --debug for the traceback)"


def _as_options(text: str) -> str:
    """Return a message of `load_model` with options of the command line; no command opens a pickle."""
    named = re.sub(r"pass trusted=\[(.*)\]", lambda found: f"pass --trusted {found[1].replace(', ', ' ')}", text)
    return named.replace(
        "Pass allow_pickle=True or use joblib.load only",
        "Convert it to a model file in Python with save_model(load_model(old, allow_pickle=True), new), only",
    )


def one_line(text: str) -> str:
    """Return a message and the list under it in one line. What is not indented is a sentence of its own.

    Examples
    --------
    >>> from ensemblefuse.cli._messages import one_line
    >>> one_line("2 cells are bad:\\n  row 1: no such file\\n  row 7: no such file\\nCorrect them.")
    '2 cells are bad: row 1: no such file; row 7: no such file. Correct them.'
    """
    first, *lines = [line for line in text.strip().splitlines() if line.strip()] or [""]
    told, after_item = first.rstrip(), False
    for line in lines:
        is_item = line[0].isspace()
        ends = told.endswith((".", ":", "!", "?"))
        between = "; " if is_item and after_item else " " if is_item or ends else ". "
        told, after_item = f"{told}{between}{line.strip()}", is_item
    return told


def install_warning_printer() -> None:
    """Show warnings as ``warning: ...``, each text once. Call inside `warnings.catch_warnings`."""
    shown: set[str] = set()

    def show(message: Any, category: Any, *_: Any, **__: Any) -> None:
        text = one_line(str(message))
        if text not in shown:
            shown.add(text)
            print(f"warning: {text}", file=sys.stderr)

    from ensemblefuse.exceptions import CacheWarning, MissingModalityWarning

    warnings.showwarning = show
    for category in (MissingModalityWarning, CacheWarning):
        warnings.simplefilter("always", category)


def did_you_mean(name: str, names: Iterable[Any]) -> str:
    """Return `` Did you mean 'x'?`` with a leading space, or an empty str."""
    near = difflib.get_close_matches(name, [str(other) for other in names], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def shown_list(values: Iterable[Any], limit: int = 5) -> str:
    """Return the first few values and how many more there are.

    Examples
    --------
    >>> from ensemblefuse.cli._messages import shown_list
    >>> shown_list(range(8), limit=2)
    '0, 1 and 6 more'
    """
    values = list(values)
    text = ", ".join(repr(value) if isinstance(value, str) else str(value) for value in values[:limit])
    return text if len(values) <= limit else f"{text} and {len(values) - limit} more"


def print_columns(rows: list[list[str]], *, right: Iterable[int] = ()) -> None:
    """Print rows of cells on standard output in aligned columns; those in `right` are aligned to the right."""
    right = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())
