"""Numbers written as text: separators, currencies, units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from ensemblefuse.column_formats._cells import (
    LONGEST,
    Found,
    UnreadableCell,
    are_measured,
    clean,
    frequent_word,
    frequent_words,
    is_mark,
    odd_words,
    texts_of,
)
from ensemblefuse.column_formats._number_cells import Said, bodies_of, range_ends, take_apart, written_spans
from ensemblefuse.column_formats._number_signs import CONVENTIONS, SIGN_NAMES, contradiction, signs_of, value_of
from ensemblefuse.column_formats._number_units import (
    MEANT,
    are_codes,
    as_in_cells,
    as_written,
    currencies_of,
    has_known_unit,
    in_unit,
    is_measure,
    is_rating,
    size_of,
    twin_units,
    unit_shown,
    units_of,
)
from ensemblefuse.column_formats._units import CURRENCIES, spellings_of
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import loose_text

__all__ = ["may_be_number_format", "number_clash", "number_format", "other_signs", "read_number", "unit_clash"]

# What follows a number that is not exact is no unit: 40ish.
_INEXACT = re.compile(r"(?i:ish|or so|approx\.?|approximately|about|circa|plus|or more|and more|and up)")
_MOST_LACKING = 0.8  # share of the cells that may lack an unknown unit
_MOST_RANGES = 0.2  # share of the cells that may be ranges; where most are, they are groups
_FACTS = {"length": "lengths", "mass": "masses", "volume": "volumes", "area": "areas", "duration": "lengths of time"}


def number_format(cells: Iterable[Any]) -> Found | None:
    """Find in which written form the cells of a column are numbers.

    A column has one currency, and units of one dimension; what is in another unit is converted. Percent stay percent:
    ``12%`` is 12. ``4:05`` is 4 minutes and 5 seconds. A cell without a unit is in the unit of its column. Where most
    cells are real numbers, texts must be plain numbers, marks such as ``-`` and ``n/a``, or words that stand in several
    cells.

    Parameters
    ----------
    cells : iterable
        Texts, numbers and missing cells.

    Returns
    -------
    Found or None
        None if the cells are not numbers, or codes that begin with 0. ``choice`` says so if ``1,234`` could also be
        1.234 by all cells, or if some cells lack the unit of the others.

    Examples
    --------
    >>> from ensemblefuse.column_formats import number_format, read_cell
    >>> found = number_format(["1.250,00 €", "99,90 €", "-", None, "(12,00 €)"] * 10)
    >>> found.seen, found.share, found.odd
    ('numbers in EUR, with decimal commas and points between thousands', 0.75, {'-': 10})
    >>> [read_cell(cell, found.format) for cell in ("1.250,00 €", "(12,00 €)", "-")]
    [1250.0, -12.0, None]
    >>> shoes = number_format(["9.4 oz", "1 lb", "310 g", "8 oz"])
    >>> [round(read_cell(cell, shoes.format), 2) for cell in ("9.4 oz", "1 lb", "310 g")]
    [9.4, 16.0, 10.93]
    >>> number_format(["12 kg", "28 cm"]) is None
    True
    """
    cells = list(cells)
    said = _all_said(cells)
    if said is None:
        return _with_ranges(cells)
    texts, others, read, odd = said
    signs = signs_of(bodies_of(read))
    counts: Counter[Said] = Counter()
    for text, parts in read.items():
        counts[parts] += texts[text]
    units = units_of(counts)
    if signs is None or units is None or are_codes(texts, read):
        return None
    if (
        units[0]["unit"] == "+"
        and 2 * sum(n for parts, n in counts.items() if not parts.pairs[-1][1]) >= counts.total()
    ):
        return None  # among exact numbers, 5+ is a limit; in a column of limits, all are alike
    (decimal, thousands, choice), (unit, lacking) = signs, units
    n_cells = texts.total() + len(others)
    bare = [cell for cell in others if cell] if unit["unit"] else []
    n_lacking = lacking.total() + len(bare)
    if n_lacking > _MOST_LACKING * n_cells and not (unit["currency"] or unit["dimension"]):
        return None  # what stands behind a few numbers is no unit of all
    settings = {"kind": "number", "decimal": decimal, "thousands": thousands, **unit, "ranges": False, "dash": None}
    settings["missing"] = sorted({loose_text(text) for text in odd})
    seen, spans = _seen(settings, read.values(), len(others) >= texts.total()), written_spans(read)
    if spans:
        seen, choice = f"{seen}, from {spans[0]}", choice or spans[1]
    without_unit = [*(text for text, parts in read.items() if parts in lacking), *bare]
    choices = (
        choice,
        _without_unit(without_unit, n_lacking, n_cells, unit_shown(unit["unit"] or "")),
        twin_units({spelling for parts in read.values() for _, spelling in parts.pairs}, unit["dimension"]),
        frequent_word(odd, n_cells),
    )
    told = "; ".join(filter(None, choices)) or None
    return Found(settings, 1 - sum(odd.values()) / n_cells, odd, seen, told, frequent_words(odd, n_cells))


def _without_unit(cells: list[Any], n: int, n_cells: int, unit: str) -> str | None:
    """Return how many cells have no unit, as which unit they are read, and one of them as it stands."""
    if not n:
        return None
    example = min(cells, key=lambda cell: (not isinstance(cell, str), clean(cell) if isinstance(cell, str) else ""))
    has = f"{'has' if n == 1 else 'have'} no unit, and {'is' if n == 1 else 'are'} read as {unit}"
    return f"{n} of {n_cells} cells, such as {short_repr(example)}, {has}"


def _with_ranges(cells: list[Any]) -> Found | None:
    """Return the form of numbers of which a few are ranges, such as ``547 - 637``; None if they are none."""
    texts, others = texts_of(cells)
    ranges = {text: ends for text in texts if (ends := range_ends(text))}
    n_cells, n = texts.total() + len(others), sum(texts[text] for text in ranges)
    if not ranges or n > _MOST_RANGES * n_cells or not are_measured(texts):
        return None
    found = number_format([*others, *(end for text in texts.elements() for end in ranges.get(text, (text,)))])
    if found is None:
        return None
    settings = {**found.format, "ranges": True}
    if not all(_says_number(text, settings) for text in ranges):
        return None
    are = "is a range" if n == 1 else "are ranges"
    told = f"{n} of {n_cells} cells {are}, such as {short_repr(next(iter(ranges)))}, read as the middle"
    choice = "; ".join(filter(None, (found.choice, f"{told}; could also be: string")))
    return found._replace(format=settings, choice=choice, share=1 - sum(found.odd.values()) / n_cells)


def _says_number(text: str, settings: dict[str, Any]) -> bool:
    try:
        return read_number(text, settings) is not None
    except UnreadableCell:
        return False


def number_clash(cells: Iterable[Any]) -> str | None:
    """Return why cells that are all numbers make no column of numbers: several currencies, or signs that contradict.

    Parameters
    ----------
    cells : iterable
        Texts, numbers and missing cells.

    Returns
    -------
    str or None
        None if the cells are no numbers, or if nothing contradicts.

    Examples
    --------
    >>> from ensemblefuse.column_formats import number_clash
    >>> number_clash(["$4.10", "€3.90", "$7"])
    'numbers in several currencies ($ and €); convert them to one'
    >>> number_clash(["4,535.90", "4.535,90"])
    "numbers with other signs between digits in some cells than in others, such as '4,535.90' and '4.535,90'; write \
all in one way"
    """
    said = _all_said(cells)
    if said is None:
        return None
    read = said[2]
    currencies: dict[str, str] = {}
    for text, parts in read.items():
        if parts.currency:
            currencies.setdefault(parts.currency, as_written(parts.currency, text))
    if len(currencies_of(read.values())) > 1:
        return f"numbers in several currencies ({_and(list(currencies.values()))}); convert them to one"
    bodies = contradiction(bodies_of(read))
    if bodies is None:
        return None
    text_of = bodies_of(read)
    shown = _and([short_repr(text_of[body]) for body in bodies])
    return (
        f"numbers with other signs between digits in some cells than in others, such as {shown}; write all in one way"
    )


def unit_clash(cells: Iterable[Any]) -> str | None:
    """Return why cells that are all numbers with known units make no column of numbers; None if they do, or are not.

    Unknown units are told of if they differ only in capitals, such as MBps and Mbps.

    Examples
    --------
    >>> from ensemblefuse.column_formats import unit_clash
    >>> unit_clash(["500 g", "28 cm", "1 kg"])
    'numbers in units that cannot be compared (cm, g and kg)'
    """
    said = _all_said(cells)
    if said is None or are_codes(said[0], said[2]) or units_of(Counter(said[2].values())) is not None:
        return None
    names = currencies_of(said[2].values())
    spelled = sorted({spelling for parts in said[2].values() for _, spelling in parts.pairs if spelling})
    differ = len({loose_text(spelling) for spelling in spelled}) > 1  # by more than capitals
    if len(names) > 1 or (differ and not all(map(is_measure, spelled))):
        return None
    return f"numbers in units that cannot be compared ({_and([*names, *map(unit_shown, spelled)])})"


def _and(names: list[str]) -> str:
    *first, last = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    return f"{', '.join(first)} and {last}"


def _all_said(
    cells: Iterable[Any],
) -> tuple[Counter[str], list[Any], dict[str, Said], dict[str, int]] | None:
    """Return texts, other cells, texts taken apart, and words for missing cells; None if they are no numbers."""
    texts, others = texts_of(cells)
    if not texts or not all(_is_real(cell) for cell in others):
        return None
    read: dict[str, Said] = {}
    odd = odd_words(texts, len(others), lambda text: _is_taken_apart(text, read), frequent=True)
    if odd is None or not (read or others):
        return None
    if len(others) >= texts.total() and not _may_stand_among_numbers(read, odd):
        return None
    are_codes = any(re.fullmatch(r"0\d+", body) for body in bodies_of(read))  # such as 04109
    return None if are_codes and not any(map(has_known_unit, read.values())) else (texts, others, read, odd)


def may_be_number_format(settings: dict[str, Any]) -> bool:
    """Return whether `read_number` takes these settings."""
    texts = {"decimal", "thousands", "currency", "dimension", "unit"}
    if settings.keys() != {*texts, "missing", "ranges", "dash"} or not isinstance(settings["ranges"], bool):
        return False
    if settings["dash"] not in (None, "minus"):  # the second of files of before, which read 99.- as -99
        return False
    if not all(settings[name] is None or isinstance(settings[name], str) for name in texts):
        return False
    decimal, thousands = settings["decimal"], settings["thousands"]
    if not any(decimal in (None, signs[0]) and thousands in (None, signs[1]) for signs in CONVENTIONS):
        return False
    currency, dimension, unit = settings["currency"], settings["dimension"], settings["unit"] or ""
    if len(unit) > LONGEST or not (currency is None or currency in CURRENCIES.values()):
        return False
    if dimension == "count":  # thousands are counted in ones
        return settings["unit"] == (currency or "")
    return dimension is None or dimension in (spellings_of(unit, unit.isupper()) or {})


def read_number(cell: Any, settings: dict[str, Any]) -> float | None:
    """Return the number that a cell says; None for a blank cell."""
    if _is_real(cell):
        return _finite(cell)
    text = bytes(cell).decode(errors="replace") if isinstance(cell, (bytes, bytearray)) else cell
    if not isinstance(text, str):
        raise UnreadableCell(f"{short_repr(cell)} is not a number")
    if not clean(text):
        return None
    shown, said = short_repr(text), take_apart(text)
    # Forms of older pickles name neither setting, and were learned with a dash read as a minus.
    if said is None and settings.get("ranges", False) and (ends := range_ends(text)):
        low, high = (read_number(end, settings) for end in ends)
        if low is not None and high is not None and low < high:
            return (low + high) / 2
    if said is None:
        raise UnreadableCell(f"{shown} is not a number")
    own = settings["currency"]
    if said.currency not in (None, own) and own not in MEANT.get(said.currency or "", ()):
        raise UnreadableCell(f"{shown} is in {said.currency}, and the column {in_unit(settings)} in fit")
    total = 0.0
    for body, spelling in said.pairs:
        size = size_of(spelling, settings)
        if size is None:
            is_in = unit_shown(spelling) if is_rating(spelling) else f"in {unit_shown(spelling)!r}"
            raise UnreadableCell(f"{shown} is {is_in}, and the column {in_unit(settings)} in fit")
        total += value_of(body, settings, shown) * size
    if not np.isfinite(total):
        raise UnreadableCell(f"{shown} is not a finite number")
    is_minus = settings.get("dash", "minus") == "minus" and clean(text).endswith(".-")
    return -total if said.negative or is_minus else total


def other_signs(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the signs of a column whose one sign between digits means the other thing; nothing if it has none or both.

    That is 1,234 as 1.234.
    """
    decimal, thousands = settings["decimal"], settings["thousands"]
    return {} if (decimal is None) == (thousands is None) else {"decimal": thousands, "thousands": decimal}


def _finite(cell: Any) -> float:
    try:
        value = float(cell)
    except OverflowError:
        raise UnreadableCell("a whole number of more than 308 digits is too large") from None
    if not np.isfinite(value):
        raise UnreadableCell(f"{short_repr(cell)} is not a finite number")
    return value


def _is_real(cell: Any) -> bool:
    kinds = (bool, np.bool_, int, float, np.integer, np.floating, Decimal)
    return isinstance(cell, kinds) and not isinstance(cell, np.timedelta64)


def _may_stand_among_numbers(read: dict[str, Said], odd: dict[str, int]) -> bool:
    """Return whether texts in a column of real numbers are plain numbers, marks, or words that stand in several cells.

    Another text that stands alone is more likely a mistake than a sign for a missing cell.
    """
    are_words = all(n > 1 or is_mark(text) for text, n in odd.items())
    return are_words and all(re.fullmatch(r" *[+-]?\d+(\.\d+)? *", text) for text in read)


def _is_taken_apart(text: str, read: dict[str, Said]) -> bool:
    parts = take_apart(text)
    if parts is None or _INEXACT.fullmatch(parts.pairs[-1][1]):  # files of before may hold such a unit, and are read
        return False
    read[text] = parts
    return True


def _seen(settings: dict[str, Any], read: Iterable[Said], among_numbers: bool) -> str:
    unit = settings["currency"] or settings["unit"]
    is_known = settings["currency"] or settings["dimension"]
    fact = _FACTS.get(settings["dimension"] or "", "numbers")
    if is_rating(unit):
        fact = f"ratings {unit_shown(unit)}"
    elif unit:
        fact += f" in {unit}" if is_known else f" with {as_in_cells(unit, read)!r}"
    else:
        fact += "" if among_numbers else " written as text"
    signs = ["decimal commas"] if settings["decimal"] == "," else []
    signs += [f"{SIGN_NAMES[settings['thousands']]} between thousands"] if settings["thousands"] else []
    return fact + (f", with {' and '.join(signs)}" if signs else "")
