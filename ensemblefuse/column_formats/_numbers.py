"""Numbers written as text: separators, currencies, units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np

from ensemblefuse.column_formats._cells import (
    BY_ALL_CELLS,
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
from ensemblefuse.column_formats._units import CASED, CURRENCIES, spellings_of
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import loose_text

__all__ = ["number_clash", "number_format", "other_signs", "read_number", "unit_clash"]

# What follows a number that is not exact is no unit: 40ish.
_INEXACT = re.compile(r"(?i:ish|or so|approx\.?|approximately|about|circa|plus|or more|and more|and up)")
# A blank or an apostrophe belongs to a number only before three digits: 5' 10" are two numbers.
_BODY = re.compile(r"(?:\d+(?:(?:[ '’_](?=\d{3}(?!\d))|[.,])\d+)*\.?|[.,]\d+)(?:[eE][+-]?\d{1,3}(?![\d.,]))?", re.ASCII)
# Letters of an alphabet with capitals, right behind a whole number.
_GLUED = re.compile(r"^[+-]?\d+(?:(?![ªºµ])[A-Za-z\u00aa-\u024f\u0370-\u058f])+\.?$", re.ASCII)
_UNKNOWN_UNIT = re.compile(r"(?:/ ?)?[^\d\s.,;:!?()<>=~*#&@|\\/\[\]{}_-][^\d;:!?()<>=~|\\\[\]{}]{0,23}")
_PREFIX = "|".join(
    re.escape(name) if name.isupper() else f"(?i:{re.escape(name)})"
    for name in sorted(CURRENCIES, key=len, reverse=True)
)
_CURRENCY_BEFORE = re.compile(rf"({_PREFIX})(?=[\d\s.,(+-])")
_POWER = re.compile(r"(?<=[mMt])\^?([23])(?![\w.,])")
# Lengths of time as a stopwatch writes them: minutes and seconds, or hours before both.
_STOPWATCH = re.compile(r"(?:(\d+):(?=\d\d:))?(\d+):([0-5]\d(?:[.,]\d+)?)", re.ASCII)
_MINUTES = re.compile(r"[+–-]?\d+:\d\d", re.ASCII)  # minutes:seconds, and hours:minutes in another table
_THOUSANDTHS = re.compile(r"[.,]\d{3}$", re.ASCII)
# The same as Python and pandas write them, with days, and as ISO 8601 does.
_DAYS_AND_CLOCK = re.compile(r"([+-]?)(\d{1,7}) days?,? \+?(\d{1,2}):([0-5]\d):([0-5]\d(?:\.\d+)?)", re.ASCII)
_ISO_SPAN = re.compile(
    r"([+-]?)P(?:(\d{1,7})D)?T(?=\d)(?:(\d{1,7})H)?(?:(\d{1,7})M)?(?:(\d{1,9}(?:\.\d+)?)S)?", re.ASCII
)
# Dashes where cents would be: 99.- and 5,-- and 85/-
_NO_CENTS = re.compile(r"(?<=\d)(?:[.,](?:--?|[–—])|/[-–=])(?![\d–—-])", re.ASCII)
_PER_HUNDRED = re.compile(r"\b[lL] ?/ ?100 ?km\b")
# Ratings: 4.5/5 and 4.5 out of 5. The number after them is part of the unit, so it has to be the same in all cells.
_OF = {"5": "five", "10": "ten", "20": "twenty", "100": "a hundred"}
_OUT_OF = re.compile(r" ?(?:/|out of|of) ?(5|10|20|100)(?=$| stars$)")
# All that cells and `_loose_unit` make of them. Other units may begin with "of", too: 3 of each.
_RATINGS = {f"of {word}{stars}": number for number, word in _OF.items() for stars in ("", " stars", " star")}
# In the order in which they are tried: decimal sign, sign between thousands.
_CONVENTIONS = ((".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"), (".", "_"))
# Signs of several currencies, with those that most people mean beside them.
_MEANT = {"¥": frozenset(("CNY", "JPY")), "$": frozenset(("USD",))}
_RANGE = re.compile(r"([^–—-]+?) ?(?:[–—-]| to | bis ) ?([^–—-]+)")
_MOST_RANGES = 0.2  # share of the cells that may be ranges; where most are, they are groups
_NAMES = {".": "points", ",": "commas", " ": "blanks", "'": "apostrophes", "_": "underscores"}
_FACTS = {"length": "lengths", "mass": "masses", "volume": "volumes", "area": "areas", "duration": "lengths of time"}


class _Said(NamedTuple):
    """A cell taken apart: ``(1,234.50 kg)`` is negative, with the pair of ``1,234.50`` and ``kg``."""

    negative: bool
    currency: str | None
    pairs: tuple[tuple[str, str], ...]


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
    signs = _signs(_bodies(read))
    counts: Counter[_Said] = Counter()
    for text, parts in read.items():
        counts[parts] += texts[text]
    units = _units(counts)
    if signs is None or units is None or _are_codes(texts, read):
        return None
    if (
        units[0]["unit"] == "+"
        and 2 * sum(n for parts, n in counts.items() if not parts.pairs[-1][1]) >= counts.total()
    ):
        return None  # among exact numbers, 5+ is a limit; in a column of limits, all are alike
    (decimal, thousands, choice), (unit, lacking) = signs, units
    settings = {"kind": "number", "decimal": decimal, "thousands": thousands, **unit, "ranges": False, "dash": None}
    settings["missing"] = sorted({loose_text(text) for text in odd})
    n_cells = texts.total() + len(others)
    if lacking:
        n, example = lacking
        have, are = ("has", "is") if n == 1 else ("have", "are")
        own = _shown(unit["unit"])
        more = f"{n} of {n_cells} cells, such as {short_repr(example)}, {have} no unit, and {are} read as {own}"
        choice = f"{choice}; {more}" if choice else more
    if twins := _twins({spelling for parts in read.values() for _, spelling in parts.pairs}, unit["dimension"]):
        choice = f"{choice}; {twins}" if choice else twins
    if frequent := frequent_word(odd, n_cells):
        choice = f"{choice}; {frequent}" if choice else frequent
    seen = _seen(settings, read.values(), len(others) >= texts.total())
    if spans := _written_spans(read):
        seen, choice = f"{seen}, from {spans[0]}", choice or spans[1]
    return Found(settings, 1 - sum(odd.values()) / n_cells, odd, seen, choice, frequent_words(odd, n_cells))


def _written_spans(read: Iterable[str]) -> tuple[str, str | None] | None:
    """Return in which order lengths of time have their parts, and what else two parts may be; None for other cells."""
    texts = [clean(text) for text in read]
    short = [text for text in texts if _MINUTES.fullmatch(text)]
    if not short or not all(":" in text for text in texts):
        return None
    if len(short) < len(texts):
        return "minutes:seconds and hours:minutes:seconds", None
    first, second = short[0].lstrip("+–-").split(":")
    minutes = f"{first} minutes and {int(second)} seconds"
    return "minutes:seconds", f"{short[0]!r} is read as {minutes}, and could be {first} hours and {int(second)} minutes"


def _with_ranges(cells: list[Any]) -> Found | None:
    """Return the form of numbers of which a few are ranges, such as ``547 - 637``; None if they are none."""
    texts, others = texts_of(cells)
    ranges = {text: ends for text in texts if (ends := _range(text))}
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


def _range(text: str) -> tuple[str, str] | None:
    """Return the ends of a range; None if a text is none."""
    parts = _RANGE.fullmatch(clean(text)) if len(text) <= LONGEST else None
    if parts is None:
        return None
    said = [_take_apart(end) for end in parts.groups()]
    plain = [one for one in said if one and not one.negative and len(one.pairs) == 1]
    if len(plain) < 2 or (plain[0].currency, plain[0].pairs[0][1]) != (plain[1].currency, plain[1].pairs[0][1]):
        return None
    return parts[1], parts[2]


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
            currencies.setdefault(parts.currency, _as_written(parts.currency, text))
    if len(_currencies_of(read.values())) > 1:
        return f"numbers in several currencies ({_and(list(currencies.values()))}); convert them to one"
    bodies = _contradiction(_bodies(read))
    if bodies is None:
        return None
    text_of = {body: text for text, parts in read.items() for body, _ in parts.pairs}
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
    if said is None or _are_codes(said[0], said[2]) or _units(Counter(said[2].values())) is not None:
        return None
    names = _currencies_of(said[2].values())
    spelled = sorted({spelling for parts in said[2].values() for _, spelling in parts.pairs if spelling})
    differ = len({loose_text(spelling) for spelling in spelled}) > 1  # by more than capitals
    if len(names) > 1 or (differ and not all(map(_is_measure, spelled))):
        return None
    return f"numbers in units that cannot be compared ({_and([*names, *map(_shown, spelled)])})"


def _is_measure(spelling: str) -> bool:
    """Return whether a unit is known, or would be with other capitals."""
    is_degree = spelling.startswith(("°", "℃", "℉"))
    return is_degree or _is_rating(spelling) or bool(spellings_of(spelling)) or loose_text(spelling) in CASED


def _and(names: list[str]) -> str:
    *first, last = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    return f"{', '.join(first)} and {last}"


def _as_written(currency: str, text: str) -> str:
    """Return a currency as a cell writes it: ``€``, where its name is EUR."""
    spellings = [re.escape(spelling) for spelling, name in CURRENCIES.items() if name == currency]
    found = [written[0] for s in spellings if (written := re.search(s, text, re.IGNORECASE))]
    return max(found, key=len, default=currency)


def _contradiction(bodies: set[str]) -> tuple[str, ...] | None:
    """Return the fewest numbers that no one convention of signs reads; None if one convention reads all of them."""
    first: dict[frozenset[tuple[str, str]], str] = {}
    for body in sorted(bodies):
        first.setdefault(frozenset(signs for signs in _CONVENTIONS if _PATTERNS[signs].fullmatch(body)), body)
    if not all(first):  # not even a number by itself, such as 1.2.3
        return None
    sets = (some for n in (2, 3) for some in combinations(first.items(), n))
    return next((tuple(b for _, b in some) for some in sets if not frozenset.intersection(*(s for s, _ in some))), None)


def _all_said(
    cells: Iterable[Any],
) -> tuple[Counter[str], list[Any], dict[str, _Said], dict[str, int]] | None:
    """Return texts, other cells, texts taken apart, and words for missing cells; None if they are no numbers."""
    texts, others = texts_of(cells)
    if not texts or not all(_is_real(cell) for cell in others):
        return None
    read: dict[str, _Said] = {}
    odd = odd_words(texts, len(others), lambda text: _is_taken_apart(text, read), frequent=True)
    if odd is None or not (read or others):
        return None
    if len(others) >= texts.total() and not _may_stand_among_numbers(read, odd):
        return None
    are_codes = any(re.fullmatch(r"0\d+", body) for body in _bodies(read))  # such as 04109
    return None if are_codes and not any(map(_has_known_unit, read.values())) else (texts, others, read, odd)


def _bodies(read: dict[str, _Said]) -> set[str]:
    return {body for parts in read.values() for body, _ in parts.pairs}


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
    if not any(decimal in (None, signs[0]) and thousands in (None, signs[1]) for signs in _CONVENTIONS):
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
    shown, said = short_repr(text), _take_apart(text)
    # Forms of older pickles name neither setting, and were learned with a dash read as a minus.
    if said is None and settings.get("ranges", False) and (ends := _range(text)):
        low, high = (read_number(end, settings) for end in ends)
        if low is not None and high is not None and low < high:
            return (low + high) / 2
    if said is None:
        raise UnreadableCell(f"{shown} is not a number")
    own = settings["currency"]
    if said.currency not in (None, own) and own not in _MEANT.get(said.currency or "", ()):
        raise UnreadableCell(f"{shown} is in {said.currency}, and the column {_in_unit(settings)} in fit")
    total = 0.0
    for body, spelling in said.pairs:
        size = _size(spelling, settings)
        if size is None:
            is_in = _shown(spelling) if _is_rating(spelling) else f"in {_shown(spelling)!r}"
            raise UnreadableCell(f"{shown} is {is_in}, and the column {_in_unit(settings)} in fit")
        total += _value(body, settings, shown) * size
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


# ---------------------------------------------------------------------- one cell


def _take_apart(text: str) -> _Said | None:
    """Return the parts of a cell; None if it is no number with a unit."""
    if len(text) > LONGEST:
        return None
    text = clean(text)
    if (span := _seconds(text)) is not None:
        return _Said(span < 0, None, ((f"{abs(span):f}", "s"),))
    text = _POWER.sub(lambda power: "²³"[int(power[1]) - 2], text)
    if "/" in text or " of " in text:
        text = _PER_HUNDRED.sub("l/hundred km", text)
        text = _OUT_OF.sub(lambda most: f" of {_OF[most[1]]}", text)
    text, outer = _without_sign(text)
    if (dash := _NO_CENTS.search(text)) is not None:
        before, sign = text[: dash.start()], dash[0][0]
        if sign == "." and sign in before:  # 1.200.- has points of two kinds
            return None
        text = before + text[dash.end() :]
    if ":" in text and (spans := _STOPWATCH.fullmatch(text)):
        seconds = _THOUSANDTHS.sub(r"\g<0>0", spans[3])  # one more digit, so that the sign is none between thousands
        text = f"{spans[1] + ' h ' if spans[1] else ''}{spans[2]} min {seconds} s"
    text, currency = _without_currency_before(text)
    text, inner = _without_sign(text) if not outer else (text, False)
    if currency is None:
        text, currency = _without_currency_before(text)
    found = list(_BODY.finditer(text))
    if not found or found[0].start():
        return None
    ends = [body.start() for body in found[1:]] + [len(text)]
    suffixes = [text[body.end() : end].strip() for body, end in zip(found, ends, strict=True)]
    if suffixes[-1] in ("-", "–"):
        outer, suffixes[-1] = outer or suffixes[-1] == "-", ""
    suffixes = [re.sub(r"(?:,|\band)$", "", suffix).strip() for suffix in suffixes]
    if len(suffixes) == 2 and not suffixes[1]:  # 5'11 and 1h30
        suffixes[1] = {"'": '"', "′": '"', "’": '"', "h": "min"}.get(suffixes[0], "")
    suffixes[-1], after = _without_currency_after(suffixes[-1])
    if after and currency and after != currency and {after, currency} - {"$", "¥"} != {after}:
        return None
    pairs = tuple((body[0], suffix) for body, suffix in zip(found, suffixes, strict=True))
    return _Said(outer or inner, after or currency, pairs) if _are_units(pairs) else None


def _seconds(text: str) -> Decimal | None:
    """Return the seconds of ``1 days 04:05:06`` and of ``PT8H31M``; None for another text.

    The clock goes forward also from negative days.
    """
    clock = _DAYS_AND_CLOCK.fullmatch(text)
    spans = clock or _ISO_SPAN.fullmatch(text)
    if spans is None:
        return None
    days, hours, minutes, seconds = (Decimal(number or 0) for number in spans.groups()[1:])
    below_a_day = hours * 3600 + minutes * 60 + seconds
    sign = -1 if spans[1] == "-" else 1
    total = sign * days * 86_400 + (below_a_day if clock else sign * below_a_day)
    return total.quantize(Decimal(1)) if total == total.to_integral_value() else total.quantize(Decimal("1e-9"))


def _has_known_unit(parts: _Said) -> bool:
    """Return whether a cell is in a unit that no code ends with, as 003xx does."""
    return parts.currency is not None or any(
        _is_rating(spelling) or spellings_of(spelling) for _, spelling in parts.pairs
    )


def _may_stand_among_numbers(read: dict[str, _Said], odd: dict[str, int]) -> bool:
    """Return whether texts in a column of real numbers are plain numbers, marks, or words that stand in several cells.

    Another text that stands alone is more likely a mistake than a sign for a missing cell.
    """
    are_words = all(n > 1 or is_mark(text) for text, n in odd.items())
    return are_words and all(re.fullmatch(r" *[+-]?\d+(\.\d+)? *", text) for text in read)


def _is_taken_apart(text: str, read: dict[str, _Said]) -> bool:
    parts = _take_apart(text)
    if parts is None or _INEXACT.fullmatch(parts.pairs[-1][1]):  # files of before may hold such a unit, and are read
        return False
    read[text] = parts
    return True


def _are_units(pairs: tuple[tuple[str, str], ...]) -> bool:
    """Return whether the text after each number may be a unit; several numbers make one only in known units."""
    if len(pairs) == 1:
        return not pairs[0][1] or bool(spellings_of(pairs[0][1])) or bool(_UNKNOWN_UNIT.fullmatch(pairs[0][1]))
    capitals = all(spelling.isupper() for _, spelling in pairs)
    sizes = [spellings_of(spelling, capitals) or {} for _, spelling in pairs]
    shared = [d for d in sizes[0] if d != "count" and all(d in other for other in sizes[1:])]
    return any(all(a[d] > b[d] for a, b in pairwise(sizes)) for d in shared)


def _without_sign(text: str) -> tuple[str, bool]:
    if text.startswith("(") and text.endswith(")"):
        return text[1:-1].strip(), True
    if text[:1] in ("-", "–", "+"):
        return text[1:].strip(), text[0] != "+"
    return text, False


def _without_currency_before(text: str) -> tuple[str, str | None]:
    found = None if text[:1].isdigit() else _CURRENCY_BEFORE.match(text)
    return (text[found.end() :].strip(), _currency(found[1])) if found else (text, None)


@lru_cache(maxsize=1000)
def _without_currency_after(suffix: str) -> tuple[str, str | None]:
    if (whole := _currency(suffix)) is not None:
        return "", whole
    for spelling in sorted((s for s in CURRENCIES if suffix.lower().endswith(s.lower())), key=len, reverse=True):
        left = suffix[: len(suffix) - len(spelling)]
        if (spellings_of(left.strip()) or {}).get("count") and (left.endswith(" ") or not spelling.isascii()):
            return left.strip(), CURRENCIES[spelling]
    return suffix, None


def _currency(text: str) -> str | None:
    return CURRENCIES.get(text) or CURRENCIES.get(text.lower())


# ---------------------------------------------------------------------- signs between digits


def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    d, t = re.escape(decimal), "['’]" if thousands == "'" else re.escape(thousands)
    grouped = rf"[1-9]\d{{0,2}}(?:{t}\d{{3}})+" + (rf"|[1-9]\d?(?:{t}\d{{2}})+{t}\d{{3}}" if thousands == "," else "")
    return re.compile(rf"(?:(?:{grouped}|\d+)(?:{d}\d*)?|{d}\d+)(?:[eE][+-]?\d+)?", re.ASCII)


_PATTERNS = {signs: _pattern(*signs) for signs in _CONVENTIONS}


def _signs(bodies: set[str]) -> tuple[str | None, str | None, str | None] | None:
    """Return the decimal sign, the sign between thousands, and what was chosen; None if no convention fits all."""
    fitting = [signs for signs in _CONVENTIONS if all(_PATTERNS[signs].fullmatch(body) for body in bodies)]
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
        choice = f"{example!r} is read as {first:g}, and could be {second:g} {BY_ALL_CELLS}"
    return (decimal if decimal in used else None), (thousands if thousands in used else None), choice


def _are_surely_thousands(bodies: set[str]) -> bool:
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


def _value(body: str, settings: dict[str, Any], shown: str) -> float:
    """Return the number that digits with signs say by the signs of fit."""
    decimal, thousands = settings["decimal"], settings["thousands"]
    allowed = [
        signs
        for signs in _CONVENTIONS
        if decimal in (None, signs[0]) and thousands in (None, signs[1]) and _PATTERNS[signs].fullmatch(body)
    ]
    values = {_plain(body, *signs) for signs in allowed}
    if not values:
        used = [f"decimal {_NAMES[decimal]}"] if decimal else []
        used += [f"{_NAMES[thousands]} between thousands"] if thousands else []
        raise UnreadableCell(f"{shown} is not a number" + (f" with {' and '.join(used)}, as in fit" if used else ""))
    if len(values) > 1:
        if decimal is None and "." in body and "," not in body and body.count(".") == 1 and thousands is None:
            return float(body)  # as Python writes numbers
        low, high = min(values), max(values)
        raise UnreadableCell(f"{shown} may be {high:.15g} or {low:.15g}: no number of fit had such a sign")
    return values.pop()


# ---------------------------------------------------------------------- units


def _units(said: Counter[_Said]) -> tuple[dict[str, Any], tuple[int, str] | None] | None:
    """Return currency, dimension and unit of a column, and how many cells lack them; None if they do not agree."""
    currencies = _currencies_of(said)
    spelled = sorted({spelling for parts in said for _, spelling in parts.pairs if spelling})
    if len(currencies) > 1:
        return None
    currency = next(iter(currencies), None)
    lacking = Counter({parts: n for parts, n in said.items() if not parts.currency and not parts.pairs[-1][1]})
    if not spelled:
        unit = {"currency": currency, "dimension": None, "unit": currency}
        return unit, _lacking(lacking) if currency else None
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
    return {"currency": currency, "dimension": None, "unit": name}, _lacking(lacking)


def _are_codes(texts: Counter[str], read: dict[str, _Said]) -> bool:
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
    said: Counter[_Said], dimension: str, currency: str | None, lacking: Counter[_Said]
) -> tuple[dict[str, Any], tuple[int, str] | None]:
    if dimension == "count":
        return {"currency": currency, "dimension": "count", "unit": currency or ""}, _lacking(lacking, currency)
    last: Counter[str] = Counter()
    for parts, n in said.items():
        if parts.pairs[-1][1]:
            last[parts.pairs[-1][1]] += n
    most = min(last, key=lambda spelling: (-last[spelling], spelling))
    return {"currency": None, "dimension": dimension, "unit": most}, _lacking(lacking)


def _currencies_of(said: Iterable[_Said]) -> set[str]:
    """Return the currencies of a column; a sign of several ones is that which other cells name: ¥5 beside 5元."""
    found = {parts.currency for parts in said if parts.currency}
    return {name for name in found if not (len(found) == 2 and found & _MEANT.get(name, frozenset()))}


def _lacking(lacking: Counter[_Said], unit: str | None = "unit") -> tuple[int, str] | None:
    """Return how many cells lack the unit of the others, and one of them; 0 is 0 in any unit."""
    told = {parts: n for parts, n in lacking.items() if re.search("[1-9]", parts.pairs[0][0])}
    return (sum(told.values()), min(parts.pairs[0][0] for parts in told)) if told and unit else None


def _size(spelling: str, settings: dict[str, Any]) -> float | None:
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


def _twins(spelled: set[str], dimension: str | None) -> str | None:
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


def _in_unit(settings: dict[str, Any]) -> str:
    unit = settings["currency"] or settings["unit"]
    if _is_rating(unit):
        return f"held ratings {_shown(unit)}"
    return f"held {_shown(unit)!r}" if unit else "held numbers without a unit"


def _is_rating(unit: str | None) -> bool:
    return unit in _RATINGS


def _shown(unit: str) -> str:
    """Return a unit as people write it: the numbers in some of them are kept as words."""
    if unit in ("°c", "°f"):  # forms keep them without capitals
        return unit.upper()
    return f"out of {_RATINGS[unit]}" if unit in _RATINGS else unit.replace("l/hundred km", "l/100 km")


def _as_in_cells(unit: str, read: Iterable[_Said]) -> str:
    """Return an unknown unit with the capitals that the first cell has."""
    spelled = (spelling for parts in read for _, spelling in parts.pairs)
    return _shown(next((spelling for spelling in spelled if spelling and _loose_unit(spelling) == unit), unit))


def _seen(settings: dict[str, Any], read: Iterable[_Said], among_numbers: bool) -> str:
    unit = settings["currency"] or settings["unit"]
    is_known = settings["currency"] or settings["dimension"]
    fact = _FACTS.get(settings["dimension"] or "", "numbers")
    if _is_rating(unit):
        fact = f"ratings {_shown(unit)}"
    elif unit:
        fact += f" in {unit}" if is_known else f" with {_as_in_cells(unit, read)!r}"
    else:
        fact += "" if among_numbers else " written as text"
    signs = ["decimal commas"] if settings["decimal"] == "," else []
    signs += [f"{_NAMES[settings['thousands']]} between thousands"] if settings["thousands"] else []
    return fact + (f", with {' and '.join(signs)}" if signs else "")
