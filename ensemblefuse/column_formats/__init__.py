"""Written forms of cells: numbers, dates, true and false, and lists of tags as tables hold them in text.

A form is found from all cells of a column, once. It is a dict of plain settings that JSON can hold, by which
`read_cell` reads any later cell. ``kind`` says what the cells are, and ``missing`` which texts stand for missing cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ensemblefuse.column_formats._booleans import boolean_format, read_boolean
from ensemblefuse.column_formats._cells import Found, UnreadableCell
from ensemblefuse.column_formats._dates import date_format, read_date
from ensemblefuse.column_formats._numbers import number_clash, number_format, read_number, unit_clash
from ensemblefuse.column_formats._tags import read_tags, tag_format
from ensemblefuse.table import is_missing, loose_text

__all__ = [
    "Found",
    "UnreadableCell",
    "boolean_format",
    "date_format",
    "number_clash",
    "number_format",
    "read_cell",
    "tag_format",
    "unit_clash",
]

_READERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "number": read_number,
    "date": read_date,
    "boolean": read_boolean,
    "tags": read_tags,
}


def read_cell(cell: Any, settings: dict[str, Any]) -> Any:
    """Return the value of a cell by the format of its column; None for a missing cell.

    Parameters
    ----------
    cell : object
        A text, or a value that is read already: a number (in the unit of the column), a date, a bool, a list.
    settings : dict
        ``format`` of what `number_format`, `date_format`, `boolean_format` or `tag_format` found.

    Returns
    -------
    float, pandas.Timestamp, bool, list of str, or None

    Raises
    ------
    UnreadableCell
        If the cell is not written in this format.

    Examples
    --------
    >>> from ensemblefuse.column_formats import number_format, read_cell
    >>> heights = number_format(["5' 10\\"", "6'", "5' 8\\""])
    >>> heights.seen, read_cell("6' 1\\"", heights.format)
    ('lengths in "', 73.0)
    """
    if is_missing(cell) or (isinstance(cell, str) and loose_text(cell) in settings["missing"]):
        return None
    return _READERS[settings["kind"]](cell, settings)
