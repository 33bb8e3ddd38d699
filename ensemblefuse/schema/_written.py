"""Columns whose texts are numbers, dates or lists of tags: their written form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import (
    Found,
    UnreadableCell,
    boolean_format,
    censored_format,
    certain_form,
    date_format,
    full_format,
    majority_format,
    number_clash,
    number_format,
    numbers_format,
    read_cell,
    short_format,
    tag_format,
    unit_clash,
)
from ensemblefuse.schema._cells import NUMBER, TRUTH, types_held
from ensemblefuse.table import is_missing

__all__ = ["find_form", "given_form", "written_dates", "written_numbers", "written_tags", "written_tuples"]


_OF_SEVERAL = {"tags": tag_format, "censored": censored_format, "numbers": numbers_format}
_NAMES = {
    "censored": "numbers, of which some say only a limit",
    "numbers": "several numbers in one text",
    "number": "numbers written as text",
    "date": "dates written as text",
    "boolean": "true and false written as text",
    "tags": "tags written as text",
    "category": "categories",
    "text": "texts",
}


def find_form(cells: pd.Series, kind: str, *, declared: bool = True, found: Found | None = None) -> Found | None:
    """Return in which written form the cells of a column say numbers, dates, true and false, or tags.

    None if they are in no such form, or need none because all of them are values. `declared` is whether somebody said
    of which kind they are: with less evidence, cells are tags and whole numbers are dates. `found` is the form if it
    is known already. Of numbers, a few cells may be bad, which a reader by this form then names. Categories and short
    texts have a form if a part of the cells would seem to be of another kind.
    """
    listed = cells.tolist()
    if kind in ("category", "string"):
        return _mixed_form(cells, kind)
    if kind in _OF_SEVERAL:
        form = found or _OF_SEVERAL[kind](listed, declared=True)
        return majority_format(listed, [kind]) if form is None and kind != "tags" else form
    held = types_held(cells)
    if kind == "date" and held & {"text", "bytes", "number"}:
        return found or date_format(listed, declared=declared)
    if not held & {"text", "bytes"}:
        return None
    if kind == "number" and not all(_is_plain(cell) for cell in listed):
        return found or number_format(listed) or boolean_format(listed) or majority_format(listed, [kind])
    return found or boolean_format(listed) if kind == "boolean" else None


def given_form(cells: pd.Series, form: Mapping[str, Any], roles: set[str]) -> dict[str, Any] | None:
    """Return how a column is read of which the written form is known; None if its transformers read something else."""
    settings = full_format(cells.name, form)
    kind, is_category = settings["kind"], roles <= {"category", "ordinal"}
    kept = {"format": settings, "seen": form.get("seen", _NAMES[kind])}
    if kind == "text" and roles == {"text"}:
        return {"kind": "text"}
    if kind == "number" and "number" in roles:
        return {"kind": "number", **kept}
    if kind == "boolean" and ("number" in roles or is_category):
        return {"kind": "boolean", "as": "category" if is_category else "number", **kept}
    if kind == "date" and roles == {"date"}:
        return {"kind": "date", "dtype": "datetime64[us, UTC]" if settings["utc"] else "datetime64[us]", **kept}
    if kind in ("censored", "numbers") and roles == {kind}:
        return {"kind": kind, **kept}
    if kind == "tags" and roles == {"tags"}:
        return {"kind": "tags", **kept, "known": _tags(cells, settings)}
    return None


def _mixed_form(cells: pd.Series, kind: str) -> Found | None:
    """Return that cells are categories or texts, if some of them alone would be booleans, dates or numbers."""
    if kind == "string":
        kind, held = "text", types_held(cells)
    else:
        held = {_truth_of(cell) for cell in cells.tolist() if not is_missing(cell)}
    are_read = len(held) > 1 or (kind == "text" and "number" in held)  # 1234.0 as 1234
    return Found({"kind": kind, "missing": []}, 1.0, {}, _NAMES[kind], None) if are_read else None


def _truth_of(cell: Any) -> str:
    """Return whether a cell is a boolean, or a text that says true or false, or something else."""
    if isinstance(cell, (bool, np.bool_)):
        return "boolean"
    return "text" if isinstance(cell, str) and cell.strip().lower() in TRUTH else "other"


def written_numbers(cells: pd.Series) -> dict[str, Any] | None:
    """Return how texts are read as numbers, or as true and false; None if they are plain numbers, or no numbers.

    Raises
    ------
    ValueError
        If they are numbers in several currencies or units, or with signs between digits that contradict.
    """
    found, listed = _found(cells, "number"), cells.tolist()
    unread = found is None and not all(_is_plain(cell) for cell in listed)
    if unread and (clash := number_clash(listed) or unit_clash(listed)):
        raise ValueError(f"Column {cells.name!r} holds {clash}.")
    return found


def written_dates(cells: pd.Series) -> dict[str, Any] | None:
    """Return how texts are read as dates; None if they are none."""
    return _found(cells, "date")


def written_tuples(cells: pd.Series, kind: str) -> dict[str, Any] | None:
    """Return how cells are read as numbers at a limit (``"censored"``), or as ``"numbers"``; None if they are none."""
    return _found(cells, kind)


def written_tags(cells: pd.Series) -> dict[str, Any] | None:
    """Return how cells are read as lists of tags, and the tags of fit; None if they hold something else."""
    return _found(cells, "tags")


def _found(cells: pd.Series, kind: str) -> dict[str, Any] | None:
    """Return how cells are read by what they surely say: here nobody sees what else was chosen."""
    found = find_form(cells, kind)
    found = None if found is None else certain_form(found)
    return None if found is None else given_form(cells, short_format(found), {kind})


def _tags(cells: pd.Series, settings: dict[str, Any]) -> list[str]:
    """Return the tags of all cells that can be read; reading the table of fit says where one cannot."""
    known: dict[str, None] = {}
    for cell in cells.tolist():
        try:
            known |= dict.fromkeys(read_cell(cell, settings) or ())
        except UnreadableCell:
            continue
    return list(known)


def _is_plain(cell: Any) -> bool:
    """Return whether a cell says a number by itself, as Python writes numbers, or true or false."""
    if isinstance(cell, (bytes, bytearray)):
        cell = bytes(cell).decode(errors="replace")
    if not isinstance(cell, str):
        return True
    text = cell.strip()
    return not text or text.lower() in TRUTH or NUMBER.fullmatch(text) is not None
