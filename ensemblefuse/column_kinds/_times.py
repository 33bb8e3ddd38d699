"""Times of day and lengths of time, which are written alike."""

from __future__ import annotations

import re
from collections import Counter

from ensemblefuse.column_formats import Found, is_mark
from ensemblefuse.column_kinds._kind import LEAST_CELLS

__all__ = ["are_among_times", "are_spans", "other_than_date", "other_than_time"]

_CLOCK = re.compile(r"(\d{1,4}):(\d\d)(?::\d\d)?", re.ASCII)
_MINUTES = re.compile(r"-?\d{1,4}:\d\d", re.ASCII)
_BARE, _HOURS = re.compile(r"\d{1,2}(?:[.,]\d+)?", re.ASCII), 24
_EVENING, _LATE = 18, 0.1  # share of cells from this hour on, which lengths of time below 24 hardly ever have


def are_among_times(date: Found) -> bool:
    """Return whether bare numbers beside times of day may be hours, such as 9.12: then they are no seconds."""
    bare = [text.strip() for text in date.odd if not is_mark(text)]
    are_bare = all(_BARE.fullmatch(text) and float(text.replace(",", ".")) < _HOURS for text in bare)
    return bool(bare) and are_bare and date.format["formats"] == ["time"]


def other_than_date(date: Found, counts: Counter[str]) -> str | None:
    """Return what else dates may be that are also read as numbers: lengths of time, or numbers of 8 digits."""
    if date.format["formats"] != ["time"]:
        return "could also be: number"
    return None if _is_surely_of_day(counts) else "could also be: number, as lengths of time"


def other_than_time(texts: list[str], *, is_date: bool) -> str | None:
    """Return what else lengths of time may be: times of day, or results of games if no seconds are below 10."""
    short = [text for text in texts if _MINUTES.fullmatch(text)]
    if is_date:
        return "could also be: date, as times of day"
    is_game = len(short) == len(texts) and not any(text[-2] == "0" for text in short)
    return "could also be: string" if is_game else None


def are_spans(counts: Counter[str]) -> bool:
    """Return whether times are lengths of time: no clock shows 4:05 in some rows, and 1:02:03 in others."""
    texts = [text for text in counts if _CLOCK.fullmatch(text)]
    short = [text for text in texts if text.count(":") == 1]
    return 0 < len(short) < len(texts) == len(counts) and any(text[1] == ":" for text in short)


def _is_surely_of_day(counts: Counter[str]) -> bool:
    """Return whether times are those of a clock: in steps of five minutes, or with two digits and up to evening."""
    parts = {text: found for text in counts if (found := _CLOCK.fullmatch(text))}
    n_cells = sum(counts[text] for text in parts)
    if n_cells >= LEAST_CELLS and len(parts) > 1 and all(int(found[2]) % 5 == 0 for found in parts.values()):
        return True
    n_late = sum(counts[text] for text, found in parts.items() if int(found[1]) >= _EVENING)
    return all(len(found[1]) == 2 for found in parts.values()) and n_late > _LATE * n_cells
