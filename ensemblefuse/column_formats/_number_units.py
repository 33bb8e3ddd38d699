"""Units and currencies of a column of numbers: which one it has, and how much others are in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from ensemblefuse.column_formats._cells import clean
from ensemblefuse.column_formats._number_cells import Said
from ensemblefuse.column_formats._units import CASED, CURRENCIES, RATED_OF, spellings_of
from ensemblefuse.table import loose_text

__all__ = [
    "MEANT",
    "are_codes",
    "as_in_cells",
    "as_written",
    "currencies_of",
    "has_known_unit",
    "in_unit",
    "is_measure",
    "is_rating",
    "size_of",
    "twin_units",
    "unit_shown",
    "units_of",
]

# Letters of an alphabet with capitals, right behind a whole number.
_GLUED = re.compile(r"^[+-]?\d+(?:(?![ªºµ])[A-Za-z\u00aa-\u024f\u0370-\u058f])+\.?$", re.ASCII)
# All that cells and `_loose_unit` make of ratings. Other units may begin with "of", too: 3 of each.
_RATINGS = {f"of {word}{stars}": number for number, word in RATED_OF.items() for stars in ("", " stars", " star")}
# Signs of several currencies, with those that most people mean beside them.
MEANT = {"¥": frozenset(("CNY", "JPY")), "$": frozenset(("USD",))}


def units_of(said: Counter[Said]) -> tuple[dict[str, Any], Counter[Said]] | None:
    """Return currency, dimension and unit of a column, and which cells lack them; None if they do not agree."""
    currencies = currencies_of(said)
    spelled = sorted({spelling for parts in said for _, spelling in parts.pairs if spelling})
    if len(currencies) > 1:
        return None
    currency = next(iter(currencies), None)
    lacking = Counter({parts: n for parts, n in said.items() if not parts.currency and not parts.pairs[-1][1]})
    if not spelled:
        unit = {"currency": currency, "dimension": None, "unit": currency}
        return unit, _told(lacking, currency)
    capitals = all(map(str.isupper, spelled))
    sizes = [spellings_of(spelling, capitals) for spelling in spelled]
    if all(sizes):
        shared = [d for d in (sizes[0] or {}) if all(d in (other or {}) for other in sizes)]
        shared = [d for d in shared if d == "count"] if currency else shared
        if not currency and lacking and "count" in shared and lacking.total() * 2 > said.total():
            shared = ["count"]  # beside plain numbers, m is a million
        if shared:
            return _known_unit(said, shared[0], currency, lacking)
    name, *others = {_loose_unit(spelling) for spelling in spelled}
    if others or (currency and any(parts.pairs[-1][1] and not parts.currency for parts in said)):
        return None  # the last: $5 and 5 kg
    return {"currency": currency, "dimension": None, "unit": name}, _told(lacking)


def are_codes(texts: Counter[str], read: dict[str, Said]) -> bool:
    """Return whether letters right behind a few of the numbers make codes of them, such as 136A and 1OT.

    Beside many bare numbers, only a known unit of several letters is one there, or a letter behind a decimal number.
    """
    bare = with_letters = 0
    for text, parts in read.items():
        (body, spelling), *more = parts.pairs
        if not (parts.currency or spelling or more):
            bare += texts[text] if re.search("[1-9]", body) else 0
        elif parts.currency or more or not _GLUED.search(clean(text)) or (len(spelling) > 1 and spellings_of(spelling)):
            return False
        else:
            with_letters += texts[text]
    return bare > with_letters > 0


def _known_unit(
    said: Counter[Said], dimension: str, currency: str | None, lacking: Counter[Said]
) -> tuple[dict[str, Any], Counter[Said]]:
    if dimension == "count":
        return {"currency": currency, "dimension": "count", "unit": currency or ""}, _told(lacking, currency)
    last: Counter[str] = Counter()
    for parts, n in said.items():
        if parts.pairs[-1][1]:
            last[parts.pairs[-1][1]] += n
    most = min(last, key=lambda spelling: (-last[spelling], spelling))
    return {"currency": None, "dimension": dimension, "unit": most}, _told(lacking)


def currencies_of(said: Iterable[Said]) -> set[str]:
    """Return the currencies of a column; a sign of several ones is that which other cells name: ¥5 beside 5元."""
    found = {parts.currency for parts in said if parts.currency}
    return {name for name in found if not (len(found) == 2 and found & MEANT.get(name, frozenset()))}


def _told(lacking: Counter[Said], unit: str | None = "unit") -> Counter[Said]:
    """Return which cells lack the unit of the others, if there is one; 0 is 0 in any unit."""
    return Counter({parts: n for parts, n in lacking.items() if unit and re.search("[1-9]", parts.pairs[0][0])})


def size_of(spelling: str, settings: dict[str, Any]) -> float | None:
    """Return how many units of the column a unit is; None if it is none of its dimension."""
    dimension, unit = settings["dimension"], settings["unit"]
    if not spelling or (spelling == unit and unit != settings["currency"]):
        return 1.0
    if dimension is None:
        is_unit = unit is not None and unit != settings["currency"] and _loose_unit(spelling) == unit
        return 1.0 if is_unit else None
    size = (spellings_of(spelling, unit.isupper()) or {}).get(dimension)
    own = Fraction(1) if dimension == "count" else (spellings_of(unit, unit.isupper()) or {}).get(dimension)
    return None if size is None or own is None else float(size / own)


def twin_units(spelled: set[str], dimension: str | None) -> str | None:
    """Return that a unit in small letters is read as one with capitals, if it could be another."""
    for large in sorted(spelled):
        small = large.lower()
        here, there = spellings_of(small) or {}, spellings_of(large) or {}
        is_pair = small != large and small in spelled and dimension in here
        if is_pair and here != there and here.get(dimension or "") == there.get(dimension or ""):
            return f"{small!r} is read as {large!r} is"
    return None


def _loose_unit(spelling: str) -> str:
    """Return an unknown unit without capitals, as far as they do not make another unit of it."""
    if loose_text(spelling).rstrip(".") in CASED:  # mJ and MJ are two units
        return spelling.rstrip(".")
    text = re.sub(r"[^\W\d_]+", _loose_letters, " ".join(spelling.split())).rstrip(".")
    stem = text.removesuffix("s") if len(text) > 3 else text
    return text if stem in _RATINGS and not stem.endswith(" star") else stem  # 3 of fives is no rating


def _loose_letters(word: re.Match[str]) -> str:
    """Return letters without capitals. MB and Mb are two units, and so may be all that differ in those letters."""
    letters = word[0]
    if len(letters) > 2 and (letters.isupper() or letters[1:].islower()):
        return letters.casefold()
    return "".join(char if char in "MB" else char.casefold() for char in letters)


def in_unit(settings: dict[str, Any]) -> str:
    unit = settings["currency"] or settings["unit"]
    if is_rating(unit):
        return f"held ratings {unit_shown(unit)}"
    return f"held {unit_shown(unit)!r}" if unit else "held numbers without a unit"


def is_rating(unit: str | None) -> bool:
    return unit in _RATINGS


def unit_shown(unit: str) -> str:
    """Return a unit as people write it: the numbers in some of them are kept as words."""
    if unit in ("°c", "°f"):  # forms keep them without capitals
        return unit.upper()
    return f"out of {_RATINGS[unit]}" if unit in _RATINGS else unit.replace("l/hundred km", "l/100 km")


def as_in_cells(unit: str, read: Iterable[Said]) -> str:
    """Return an unknown unit with the capitals that the first cell has."""
    spelled = (spelling for parts in read for _, spelling in parts.pairs)
    return unit_shown(next((spelling for spelling in spelled if spelling and _loose_unit(spelling) == unit), unit))


def is_measure(spelling: str) -> bool:
    """Return whether a unit is known, or would be with other capitals."""
    is_degree = spelling.startswith(("°", "℃", "℉"))
    return is_degree or is_rating(spelling) or bool(spellings_of(spelling)) or loose_text(spelling) in CASED


def as_written(currency: str, text: str) -> str:
    """Return a currency as a cell writes it: ``€``, where its name is EUR."""
    spellings = [re.escape(spelling) for spelling, name in CURRENCIES.items() if name == currency]
    found = [written[0] for s in spellings if (written := re.search(s, text, re.IGNORECASE))]
    return max(found, key=len, default=currency)


def has_known_unit(parts: Said) -> bool:
    """Return whether a cell is in a unit that no code ends with, as 003xx does."""
    return parts.currency is not None or any(
        is_rating(spelling) or spellings_of(spelling) for _, spelling in parts.pairs
    )
