"""Columns of a CSV file whose digits are codes, such as postal codes: they keep the zeros at their beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from ensemblefuse.column_kinds import column_kind

__all__ = ["columns_of_codes", "told_codes"]

_SHORTEST = 3  # two digits, such as 07, are a month, a day, an hour or an age
_FIRST_ROWS = 1000  # they rule out most columns before whole columns are read again
_SHOWN = 5

Reader = Callable[[list[str], int | None], pd.DataFrame]


def columns_of_codes(table: pd.DataFrame, columns: Iterable[str], read: Reader) -> pd.DataFrame:
    """Return the columns of numbers that hold codes, as the file writes them.

    Codes have one length in all cells, and some begin with 0. Numbers that were filled up with zeros look alike. They
    stay numbers where no cell needs the whole length, as in 000120 and 003456, and where nearly all cells differ: a
    column of such codes would be left out, because it names rows.

    Parameters
    ----------
    table : DataFrame
        The table as pandas reads it. Codes are numbers there, and lack their zeros.
    columns : iterable of str
        Where to look.
    read : callable
        Returns some columns as texts, of a number of rows or of all (None).

    Returns
    -------
    DataFrame of texts, and of None for missing cells

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.cli._codes import columns_of_codes
    >>> file = pd.DataFrame({"zip": ["01067", "80331"] * 5, "paid": ["0350", "0012"] * 5})
    >>> columns_of_codes(file.astype(int), file.columns, lambda names, n: file[names].head(n or 10)).head(2)
         zip
    0  01067
    1  80331
    """
    numeric = [column for column in columns if _is_whole(table[column])]
    first = read(numeric, _FIRST_ROWS) if numeric else table[[]]
    likely = [column for column in numeric if _may_be_codes(first[column], table[column])]
    whole = read(likely, None) if likely else table[[]]
    found = {column: whole[column].to_numpy(dtype=object) for column in likely if _are_codes(whole[column])}
    codes = pd.DataFrame(found, index=table.index, dtype=object)
    return codes.where(codes.notna(), None)


def told_codes(codes: pd.DataFrame) -> str:
    """Return the line that says which columns were read as codes; "" if none were.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.cli._codes import told_codes
    >>> told_codes(pd.DataFrame({"zip": ["80331", "01067"]}))
    "Read as codes, with the zeros at their beginning: 'zip' (such as 01067). If one is a number, pass --kind \
COLUMN=number."
    """
    facts = [f"{column!r} (such as {next(c for c in codes[column] if c and c[0] == '0')})" for column in codes.columns]
    if not facts:
        return ""
    shown = ", ".join(facts[:_SHOWN]) + (f" and {len(facts) - _SHOWN} more" if len(facts) > _SHOWN else "")
    return f"Read as codes, with the zeros at their beginning: {shown}. If one is a number, pass --kind COLUMN=number."


def _is_whole(cells: pd.Series) -> bool:
    """Return whether cells are whole numbers of at least 0, with or without gaps."""
    if not pd.api.types.is_numeric_dtype(cells.dtype) or pd.api.types.is_bool_dtype(cells.dtype):
        return False
    values = cells.dropna().to_numpy(dtype=float)
    return len(values) > 0 and 0 <= values.min() <= values.max() < np.inf and bool((values % 1 == 0).all())


def _may_be_codes(first: pd.Series, values: pd.Series) -> bool:
    """Return whether the first cells have one length, and some cell of all has fewer digits as a number."""
    lengths = {len(text) for text in first.dropna()}
    if len(lengths) > 1:
        return False
    return not lengths or (max(lengths) >= _SHORTEST and values.min() < 10.0 ** (max(lengths) - 1))


def _are_codes(texts: pd.Series) -> bool:
    present = texts.dropna()
    lengths = {len(text) for text in present}
    n_zeros = {len(text) - len(text.lstrip("0")) for text in present}
    return (
        len(lengths) == 1
        and max(lengths) >= _SHORTEST
        and all(text.isascii() and text.isdecimal() for text in present)
        and max(n_zeros) > 0
        and (0 in n_zeros or len(n_zeros) == 1)
        and column_kind(texts)[0] in ("category", "string")
    )
