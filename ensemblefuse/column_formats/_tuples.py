"""Cells that say more than one number: numbers at a limit (``<0.5``), and a fixed count of numbers (``5x6x7 cm``)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ensemblefuse.column_formats._cells import LONGEST, Found, UnreadableCell, clean, odd_words, texts_of
from ensemblefuse.column_formats._numbers import may_be_number_format, number_format, read_number
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import loose_text

__all__ = [
    "censored_format",
    "may_be_censored_format",
    "may_be_numbers_format",
    "numbers_format",
    "read_censored",
    "read_numbers",
]

_BELOW = re.compile(r"(?:<|≤) ?=? ?(?P<body>.+)")
_ABOVE = re.compile(r"(?:>|≥) ?=? ?(?P<body>.+)|(?P<open>.*\d) ?\+")
_EXACT = 0.2  # least share of cells that say a number and no limit: limits alone are classes
_LEAST_EXACT = 3  # least count of such numbers

_MOST = 4  # numbers in a cell
# Signs between numbers, with their names. Those of the second line stand in dates, scores, ranges and codes, too.
_SIGNS = {
    **{"x": r" ?(?<![^\W\d_])[xX×*](?![^\W\d_]) ?| by ", "/": " ?/ ?", ",": " ?, ?"},
    **{"-": " ?[-–] ?", ":": " ?: ?", ";": " ?; ?"},
}
_PATTERNS = {sign: re.compile(pattern) for sign, pattern in _SIGNS.items()}
_WITH_UNIT = re.compile(r"[+-]?[\d.,]+ ?(?P<unit>.*)", re.ASCII)
_DEGREES = re.compile(r"[+-]?\d{1,3}\.\d{2,}", re.ASCII)
_LATITUDE, _LONGITUDE = 90.0, 180.0
_DAYS = 31  # beyond it, two numbers are no day and month


# ---------------------------------------------------------------------- numbers at a limit


def censored_format(cells: Iterable[Any], *, declared: bool = False) -> Found | None:
    """Find in which written form the cells are numbers, of which some say only a limit: ``<0.5``, ``≥ 100``, ``5+``.

    Parameters
    ----------
    cells : iterable
        Texts, numbers and missing cells.
    declared : bool
        Whether somebody said so. Without, some cells must say a limit, and enough others a number.

    Returns
    -------
    Found or None

    Examples
    --------
    >>> from ensemblefuse.column_formats import censored_format, read_cell
    >>> found = censored_format(["<0.5", "1.2", "0.9", "4", "> 100"])
    >>> found.seen
    "numbers written as text, but only a limit in 2 of 5 cells, such as '<0.5'"
    >>> [read_cell(cell, found.format) for cell in ("<0.5", "1.2", ">100")]
    [(0.5, 1.0, 0.0), (1.2, 0.0, 0.0), (100.0, 0.0, 1.0)]
    """
    texts, others = texts_of(cells)
    limits = {text: n for text, n in texts.items() if _apart(text)[1:] != (False, False)}
    bodies = {text: _apart(text)[0] for text in texts}
    found = number_format([*(bodies[text] for text, n in texts.items() for _ in range(n)), *others])
    if found is None:
        return None
    n_cells, n_limits = texts.total() + len(others), sum(limits.values())
    exact = {text for text in texts if text not in limits and text not in found.odd} | set(map(str, others))
    n_exact = n_cells - n_limits - sum(found.odd.values())
    if not declared and (not limits or n_exact < _EXACT * n_cells or len(exact) < _LEAST_EXACT):
        return None
    if any(text in found.odd for text in map(bodies.get, limits)):
        return None
    settings = {**found.format, "kind": "censored"}
    seen = found.seen
    if limits:
        seen += f", but only a limit in {n_limits} of {n_cells} cells, such as {short_repr(next(iter(limits)).strip())}"
    return found._replace(format=settings, seen=seen)


def may_be_censored_format(settings: dict[str, Any]) -> bool:
    """Return whether `read_censored` takes these settings."""
    return may_be_number_format(settings)


def read_censored(cell: Any, settings: dict[str, Any]) -> tuple[float, float, float] | None:
    """Return the number that a cell says, and whether the true one is below or above it; None for a blank cell."""
    text = _decoded(cell)
    if isinstance(text, tuple) and len(text) == 3:  # read already
        value, below, above = (read_number(part, settings) for part in text)
        return None if value is None else (value, float(bool(below)), float(bool(above)))
    body, below, above = _apart(text) if isinstance(text, str) else (text, False, False)
    try:
        value = read_number(body, settings)
    except UnreadableCell as error:
        raise UnreadableCell(str(error).replace(short_repr(body), short_repr(text), 1)) from None
    return None if value is None else (value, float(below), float(above))


def _apart(text: str) -> tuple[str, bool, bool]:
    """Return a text without the sign of a limit, and whether it had one of a number below or above."""
    if len(text) > LONGEST:
        return text, False, False
    plain = clean(text)
    if found := _BELOW.fullmatch(plain):
        return found["body"], True, False
    if found := _ABOVE.fullmatch(plain):
        return found["body"] or found["open"], False, True
    return text, False, False


# ---------------------------------------------------------------------- a fixed count of numbers


def numbers_format(cells: Iterable[Any], *, declared: bool = False) -> Found | None:
    """Find in which written form each cell holds the same count of numbers: ``5x6x7 cm``, ``120/80``, ``48.85, 2.35``.

    Two numbers with a slash may be a date or a fraction, so most first numbers must be beyond 31, and the second ones
    of two digits. With a comma, they must be latitude and longitude. Other signs, as in scores and ranges, are read
    only if `declared`.

    Examples
    --------
    >>> from ensemblefuse.column_formats import numbers_format, read_cell
    >>> found = numbers_format(["5x6x7 cm", "10 x 4 x 3 cm", "8×8×1 cm"])
    >>> found.seen, read_cell("1x2x3 cm", found.format)
    ("3 numbers with 'x' between them, lengths in cm", (1.0, 2.0, 3.0))
    """
    texts, others = texts_of(cells)
    if not texts or others:
        return None
    for sign in _SIGNS if declared else ("x", "/", ","):
        split = {text: parts for text in texts if (parts := _split(text, sign))}
        odd = odd_words(texts, 0, split.__contains__)
        sizes = {len(parts) for parts in split.values()}
        if odd is None or len(sizes) != 1 or not (declared or _is_safe(sign, split, texts)):
            continue
        parts = [part for text, own in split.items() for _ in range(texts[text]) for part in own]
        found = number_format(parts)
        if found is None or found.odd:
            continue
        (size,) = sizes
        settings = {**found.format, "kind": "numbers", "sign": sign, "size": size}
        settings["missing"] = sorted({loose_text(text) for text in odd})
        choice = found.choice
        if sign == ",":  # the comma stands between the numbers, so the point is the decimal one
            settings["decimal"], settings["thousands"], choice = ".", None, None
        what = found.seen.removesuffix(" written as text")
        seen = f"{size} numbers with {sign!r} between them" + (f", {what}" if what != "numbers" else "")
        return Found(settings, 1 - sum(odd.values()) / texts.total(), odd, seen, choice)
    return None


def may_be_numbers_format(settings: dict[str, Any]) -> bool:
    """Return whether `read_numbers` takes these settings."""
    size, sign = settings.get("size"), settings.get("sign")
    is_size = isinstance(size, int) and not isinstance(size, bool) and 2 <= size <= _MOST
    number = {name: value for name, value in settings.items() if name not in ("size", "sign")}
    return is_size and isinstance(sign, str) and sign in _SIGNS and may_be_number_format(number)


def read_numbers(cell: Any, settings: dict[str, Any]) -> tuple[float, ...] | None:
    """Return the numbers that a cell says; None for a blank cell."""
    text, size, sign = _decoded(cell), settings["size"], settings["sign"]
    if isinstance(text, (list, tuple)):
        parts: list[Any] | None = list(text)
    elif isinstance(text, str):
        if not clean(text):
            return None
        parts = _split(text, sign)
    else:
        parts = None
    if parts is None or len(parts) != size:
        raise UnreadableCell(f"{short_repr(text)} is not {size} numbers with {sign!r} between them, as in fit")
    try:
        values = [read_number(part, settings) for part in parts]
    except UnreadableCell as error:
        raise UnreadableCell(f"{short_repr(text)} is not {size} numbers: {error}") from None
    if any(value is None for value in values):
        raise UnreadableCell(f"{short_repr(text)} lacks one of {size} numbers")
    return tuple(value for value in values if value is not None)


def _split(text: str, sign: str) -> list[str] | None:
    """Return the numbers of a cell, each with the unit that stands behind the last; None if it has no such sign."""
    if len(text) > LONGEST:
        return None
    plain = clean(text)
    if plain[:1] in ("(", "[") and plain[-1:] in (")", "]"):
        plain = plain[1:-1].strip()
    parts = _PATTERNS[sign].split(plain)
    if not 2 <= len(parts) <= _MOST:
        return None
    found = [_WITH_UNIT.fullmatch(part) for part in parts]
    if not all(found):
        return None
    units = [part["unit"] for part in found if part]
    if units[-1] and not any(units[:-1]):
        return [*(f"{part} {units[-1]}" for part in parts[:-1]), parts[-1]]
    return parts


def _is_safe(sign: str, split: dict[str, list[str]], texts: Counter[str]) -> bool:
    """Return whether numbers with this sign between them can hardly be a date, a fraction, a score or one number."""
    if sign == "x":
        return True
    if any(len(parts) != 2 for parts in split.values()):
        return False
    pairs = list(split.values())
    if sign == "/":
        are_whole = all(part.isascii() and part.isdecimal() and 2 <= len(part) <= 3 for pair in pairs for part in pair)
        n_late = sum(texts[text] for text, pair in split.items() if are_whole and int(pair[0]) > _DAYS)
        return are_whole and n_late > 0.9 * sum(texts[text] for text in split)
    return all(
        _DEGREES.fullmatch(first)
        and _DEGREES.fullmatch(second)
        and abs(float(first)) <= _LATITUDE
        and abs(float(second)) <= _LONGITUDE
        for first, second in pairs
    )


def _decoded(cell: Any) -> Any:
    return bytes(cell).decode(errors="replace") if isinstance(cell, (bytes, bytearray)) else cell
