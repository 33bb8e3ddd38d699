"""Written forms of cells: numbers, dates, true and false, and lists of tags as tables hold them in text.

A form is found from all cells of a column, once. It is a dict of plain settings that JSON can hold, by which
`read_cell` reads any later cell. ``kind`` says what the cells are, and ``missing`` which texts stand for missing cells,
beside marks such as ``-`` and ``n/a`` (`is_mark`),
which do in any column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ensemblefuse.column_formats._booleans import boolean_format, read_boolean
from ensemblefuse.column_formats._cells import BY_ALL_CELLS, MOST_MISSING, Found, UnreadableCell, is_mark
from ensemblefuse.column_formats._dates import (
    DATE_WAY_OUT,
    date_format,
    may_be_date_format,
    other_order,
    read_date,
    written_day,
)
from ensemblefuse.column_formats._majority import majority_format
from ensemblefuse.column_formats._numbers import (
    may_be_number_format,
    number_clash,
    number_format,
    other_signs,
    read_number,
    unit_clash,
)
from ensemblefuse.column_formats._tags import may_be_tag_format, read_tags, tag_format
from ensemblefuse.column_formats._tuples import (
    censored_format,
    may_be_censored_format,
    may_be_numbers_format,
    numbers_format,
    read_censored,
    read_numbers,
)
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import is_missing, loose_text

__all__ = [
    "DATE_WAY_OUT",
    "Found",
    "UnreadableCell",
    "boolean_format",
    "censored_format",
    "certain_form",
    "date_format",
    "full_format",
    "is_mark",
    "majority_format",
    "number_clash",
    "number_format",
    "numbers_format",
    "read_cell",
    "readings_of",
    "short_format",
    "tag_format",
    "unit_clash",
]

_OTHERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"number": other_signs, "date": other_order}
_READERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "number": read_number,
    "date": read_date,
    "boolean": read_boolean,
    "tags": read_tags,
    "censored": read_censored,
    "numbers": read_numbers,
}
_OF_NUMBERS = {**dict.fromkeys(("decimal", "thousands", "currency", "dimension", "unit", "dash")), "ranges": False}
# What a setting is that is left out.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "number": _OF_NUMBERS,
    "date": {"utc": False},
    "boolean": {},
    "tags": {},
    **dict.fromkeys(("censored", "numbers"), _OF_NUMBERS),
    "category": {},
    "text": {},
}
_CHECKS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "number": may_be_number_format,
    "date": may_be_date_format,
    "boolean": lambda settings: settings.keys() == {"missing"},
    "tags": may_be_tag_format,
    "censored": may_be_censored_format,
    "numbers": may_be_numbers_format,
    # Cells that are read as they are, also where those of a part of the table would seem to be of another kind.
    "category": lambda settings: settings == {"missing": []},
    "text": lambda settings: settings == {"missing": []},
}


def readings_of(found: Found) -> list[dict[str, Any]]:
    """Return the forms between which was chosen, the chosen one first; none if no form tells the readings apart.

    Examples
    --------
    >>> from ensemblefuse.column_formats import date_format, readings_of
    >>> readings_of(date_format(["01/02/2001"]))
    [{'kind': 'date', 'formats': ['%m/%d/%Y']}, {'kind': 'date', 'formats': ['%d/%m/%Y']}]
    """
    other = _OTHERS.get(found.format["kind"], dict)(found.format) if BY_ALL_CELLS in (found.choice or "") else {}
    forms = [found.format, {**found.format, **other}]
    short = [{k: v for k, v in short_format(found._replace(format=form)).items() if k != "seen"} for form in forms]
    return short if other else []


def certain_form(found: Found) -> Found | None:
    """Return a form that reads nothing of which a person should know first; None if nothing is left to read.

    It reads no ranges as their middle, no word in many cells as missing, and no months that may be days of a month.

    Examples
    --------
    >>> from ensemblefuse.column_formats import certain_form, number_format
    >>> found = number_format([*map(str, range(60)), *["sold"] * 50])
    >>> found.format["missing"], certain_form(found).format["missing"]
    (['sold'], [])
    """
    settings = dict(found.format)
    words = set(map(loose_text, found.doubtful))
    settings["missing"] = [word for word in settings["missing"] if word not in words]
    if "ranges" in settings:
        settings["ranges"] = False
    if "formats" in settings:
        settings["formats"] = [form for form in settings["formats"] if form not in found.doubtful]
    return found._replace(format=settings) if settings.get("formats", True) else None


def short_format(found: Found) -> dict[str, Any]:
    """Return the settings that differ from their defaults, with ``seen``: what `full_format` makes whole again.

    Examples
    --------
    >>> from ensemblefuse.column_formats import date_format, full_format, short_format
    >>> short_format(date_format(["13.02.2001"]))
    {'kind': 'date', 'formats': ['%d.%m.%Y'], 'seen': 'dates as day.month.year'}
    >>> full_format("born", {"kind": "date", "formats": ["%d.%m.%Y"]})
    {'kind': 'date', 'utc': False, 'missing': [], 'formats': ['%d.%m.%Y']}
    """
    defaults = {**_DEFAULTS[found.format["kind"]], "missing": []}
    kept = {name: value for name, value in found.format.items() if name not in defaults or value != defaults[name]}
    return {**kept, "seen": found.seen}


def full_format(column: Any, given: Any) -> dict[str, Any]:
    """Return the format of a column as `read_cell` takes it, from a short one.

    Raises
    ------
    ValueError
        If `given` is no dict, of an unknown kind, or has settings that its kind does not take.
    """
    kind = given.get("kind") if isinstance(given, dict) else None
    if isinstance(kind, str) and kind in _DEFAULTS and isinstance(given.get("seen", ""), str):
        settings = {**_DEFAULTS[kind], "missing": [], **{k: v for k, v in given.items() if k not in ("kind", "seen")}}
        if "dimension" in settings and settings["unit"] is None and settings["dimension"] == "count":
            settings["unit"] = settings["currency"] or ""
        words = settings["missing"]
        if isinstance(words, (list, tuple)) and all(isinstance(word, str) for word in words):
            settings["missing"] = sorted({loose_text(word) for word in words})
            if len(settings["missing"]) <= MOST_MISSING and _CHECKS[kind](settings):
                return {"kind": kind, **settings}
    raise ValueError(
        f"The format of column {column!r} must be a dict as infer_modalities finds it, such as "
        f"{{'kind': 'date', 'formats': ['%d/%m/%Y']}}; got {short_repr(given)}."
    )


def read_cell(cell: Any, settings: dict[str, Any]) -> Any:
    """Return the value of a cell by the format of its column; None for a missing cell.

    Parameters
    ----------
    cell : object
        A text, or a value that is read already: a number (in the unit of the column), a date, a bool, a list.
    settings : dict
        ``format`` of what `number_format`, `date_format` and the other functions found.

    Returns
    -------
    float, pandas.Timestamp, bool, list of str, tuple of float, or None

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
    if is_missing(cell):
        return None
    if settings["kind"] == "date" and "%Y%m%d" in settings["formats"]:
        cell = written_day(cell)
    text = bytes(cell).decode(errors="replace") if isinstance(cell, (bytes, bytearray)) else cell
    if isinstance(text, str) and loose_text(text) in settings["missing"]:
        return None
    try:
        return _READERS[settings["kind"]](cell, settings)
    except UnreadableCell:
        # Tried last: signs such as a tick say something in some columns.
        if isinstance(text, str) and is_mark(text):
            return None
        raise
