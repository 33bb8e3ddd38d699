"""Signs between digits: which are decimal, and which stand between thousands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from ensemblefuse.column_formats._cells import BY_ALL_CELLS, UnreadableCell
from ensemblefuse.exceptions import short_repr

__all__ = ["CONVENTIONS", "SIGN_NAMES", "contradiction", "signs_of", "value_of"]

# In the order in which they are tried: decimal sign, sign between thousands.
CONVENTIONS = ((".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"), (".", "_"))
SIGN_NAMES = {".": "points", ",": "commas", " ": "blanks", "'": "apostrophes", "_": "underscores"}


def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    d, t = re.escape(decimal), "['’]" if thousands == "'" else re.escape(thousands)
    grouped = rf"[1-9]\d{{0,2}}(?:{t}\d{{3}})+" + (rf"|[1-9]\d?(?:{t}\d{{2}})+{t}\d{{3}}" if thousands == "," else "")
    return re.compile(rf"(?:(?:{grouped}|\d+)(?:{d}\d*)?|{d}\d+)(?:[eE][+-]?\d+)?", re.ASCII)


_PATTERNS = {signs: _pattern(*signs) for signs in CONVENTIONS}


def signs_of(bodies: Mapping[str, str]) -> tuple[str | None, str | None, str | None] | None:
    """Return the decimal sign, the sign between thousands, and what was chosen; None if no convention fits all."""
    fitting = [signs for signs in CONVENTIONS if all(_PATTERNS[signs].fullmatch(body) for body in bodies)]
    if not fitting:
        return None
    readings = {body: [_plain(body, *signs) for signs in fitting] for body in bodies}
    several = [body for body, values in readings.items() if len(set(values)) > 1]
    decimal, thousands = fitting[0]
    used = set("".join(bodies).replace("’", "'"))
    choice = None
    if several and not _are_surely_thousands(bodies):
        example = min(several, key=lambda body: (len(body), body))
        first, second = list(dict.fromkeys(readings[example]))[:2]
        choice = f"{short_repr(bodies[example])} is read as {first:g}, and could be {second:g} {BY_ALL_CELLS}"
    return (decimal if decimal in used else None), (thousands if thousands in used else None), choice


def _are_surely_thousands(bodies: Iterable[str]) -> bool:
    """Return whether commas stand between thousands though each is before three digits.

    Beside whole numbers such as 999, decimals have no zeros at their end, or those numbers would have some.
    """
    separated = [body for body in bodies if "," in body]
    plain = [body for body in bodies if body.isdigit()]
    return (
        not any("." in body for body in bodies)
        and any(body.endswith("0") for body in separated)
        and any(1 < len(body) <= 3 for body in plain)
        and not any(len(body) > 3 for body in plain)
    )


def _plain(body: str, decimal: str, thousands: str) -> float:
    body = body.replace("’", "'").replace(thousands, "") if thousands else body
    return float(body.replace(decimal, "."))


def value_of(body: str, settings: dict[str, Any], shown: str) -> float:
    """Return the number that digits with signs say by the signs of fit."""
    decimal, thousands = settings["decimal"], settings["thousands"]
    allowed = [
        signs
        for signs in CONVENTIONS
        if decimal in (None, signs[0]) and thousands in (None, signs[1]) and _PATTERNS[signs].fullmatch(body)
    ]
    values = {_plain(body, *signs) for signs in allowed}
    if not values:
        used = [f"decimal {SIGN_NAMES[decimal]}"] if decimal else []
        used += [f"{SIGN_NAMES[thousands]} between thousands"] if thousands else []
        raise UnreadableCell(f"{shown} is not a number" + (f" with {' and '.join(used)}, as in fit" if used else ""))
    if len(values) > 1:
        if decimal is None and "." in body and "," not in body and body.count(".") == 1 and thousands is None:
            return float(body)  # as Python writes numbers
        low, high = min(values), max(values)
        raise UnreadableCell(f"{shown} may be {high:.15g} or {low:.15g}: no number of fit had such a sign")
    return values.pop()


def contradiction(bodies: Iterable[str]) -> tuple[str, ...] | None:
    """Return the fewest numbers that no one convention of signs reads; None if one convention reads all of them."""
    first: dict[frozenset[tuple[str, str]], str] = {}
    for body in sorted(bodies):
        first.setdefault(frozenset(signs for signs in CONVENTIONS if _PATTERNS[signs].fullmatch(body)), body)
    if not all(first):  # not even a number by itself, such as 1.2.3
        return None
    sets = (some for n in (2, 3) for some in combinations(first.items(), n))
    return next((tuple(b for _, b in some) for some in sets if not frozenset.intersection(*(s for s, _ in some))), None)
