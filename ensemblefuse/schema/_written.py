"""Columns whose texts are numbers, dates or lists of tags: the written form that fit found."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ensemblefuse.column_formats import (
    Found,
    boolean_format,
    date_format,
    number_clash,
    number_format,
    read_cell,
    tag_format,
    unit_clash,
)
from ensemblefuse.schema._cells import NUMBER, TRUTH

__all__ = ["written_dates", "written_numbers", "written_tags"]


def written_numbers(cells: pd.Series) -> dict[str, Any] | None:
    """Return how texts are read as numbers, or as true and false; None if they are plain numbers, or no numbers.

    Raises
    ------
    ValueError
        If they are numbers in several currencies or units, or with signs between digits that contradict.
    """
    listed = cells.tolist()
    if all(_is_plain(cell) for cell in listed):
        return None
    if (found := number_format(listed)) is not None:
        return {"kind": "number", **_kept(found)}
    if (found := boolean_format(listed)) is not None:
        return {"kind": "boolean", "as": "number", **_kept(found)}
    if clash := number_clash(listed) or unit_clash(listed):
        raise ValueError(f"Column {cells.name!r} holds {clash}.")
    return None


def written_dates(cells: pd.Series) -> dict[str, Any] | None:
    """Return how texts are read as dates; None if they are none."""
    found = date_format(cells.tolist())
    if found is None:
        return None
    dtype = "datetime64[us, UTC]" if found.format["utc"] else "datetime64[us]"
    return {"kind": "date", "dtype": dtype, **_kept(found)}


def written_tags(cells: pd.Series) -> dict[str, Any] | None:
    """Return how cells are read as lists of tags, and the tags of fit; None if they hold something else."""
    listed = cells.tolist()
    found = tag_format(listed, declared=True)
    if found is None:
        return None
    known = {tag: None for cell in listed for tag in read_cell(cell, found.format) or ()}
    return {"kind": "tags", **_kept(found), "known": list(known)}


def _kept(found: Found) -> dict[str, Any]:
    return {"format": found.format, "seen": found.seen}


def _is_plain(cell: Any) -> bool:
    """Return whether a cell says a number by itself, as Python writes numbers, or true or false."""
    if isinstance(cell, (bytes, bytearray)):
        cell = bytes(cell).decode(errors="replace")
    if not isinstance(cell, str):
        return True
    text = cell.strip()
    return not text or text.lower() in TRUTH or NUMBER.fullmatch(text) is not None
