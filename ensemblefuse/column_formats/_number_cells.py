"""One cell that says a number: its sign, its currency, and its digits with the units behind them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ensemblefuse.column_formats._cells import LONGEST, clean
from ensemblefuse.column_formats._units import CURRENCIES, RATED_OF, spellings_of

__all__ = ["Said", "bodies_of", "range_ends", "take_apart", "written_spans"]

# A blank or an apostrophe belongs to a number only before three digits: 5' 10" are two numbers.
_BODY = re.compile(r"(?:\d+(?:(?:[ '’_](?=\d{3}(?!\d))|[.,])\d+)*\.?|[.,]\d+)(?:[eE][+-]?\d{1,3}(?![\d.,]))?", re.ASCII)
_UNKNOWN_UNIT = re.compile(r"(?:/ ?)?[^\d\s.,;:!?()<>=~*#&@|\\/\[\]{}_-][^\d;:!?()<>=~|\\\[\]{}]{0,23}")
_PREFIX = "|".join(
    re.escape(name) if name != name.lower() else f"(?i:{re.escape(name)})"
    for name in sorted(CURRENCIES, key=len, reverse=True)
)
# US $5 and USD$5 are US dollars, and Kr. 5 are kr.
_CURRENCY_BEFORE = re.compile(rf"(?:US|USD) ?\$(?=[\d\s])|({_PREFIX})(?:(?<=[^\W\d_])\.(?= ))?(?=[\d\s.,(+-])")
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
# Dashes where cents would be: 99.- and 5,-- and 85/- and 20:-
_NO_CENTS = re.compile(r"(?<=\d) ?(?:[.,:](?:--?|[–—])|/[-–=])(?![\d–—-])", re.ASCII)
_LAST_DIGITS = re.compile(r"\d[\d.,'’ ]*$", re.ASCII)
_PER_HUNDRED = re.compile(r"\b[lL] ?/ ?100 ?km\b")
_OUT_OF = re.compile(r" ?(?:/|out of|of) ?(5|10|20|100)(?=$| stars$)")
_RANGE = re.compile(r"([^–—-]+?) ?(?:[–—-]| to | bis ) ?([^–—-]+)")


class Said(NamedTuple):
    """A cell taken apart: ``(1,234.50 kg)`` is negative, with the pair of ``1,234.50`` and ``kg``."""

    negative: bool
    currency: str | None
    pairs: tuple[tuple[str, str], ...]


def take_apart(text: str) -> Said | None:
    """Return the parts of a cell; None if it is no number with a unit."""
    if len(text) > LONGEST:
        return None
    text = clean(text)
    if (span := _seconds(text)) is not None:
        return Said(span < 0, None, ((f"{abs(span):f}", "s"),))
    text = _POWER.sub(lambda power: "²³"[int(power[1]) - 2], text)
    if "/" in text or " of " in text:
        text = _PER_HUNDRED.sub("l/hundred km", text)
        text = _OUT_OF.sub(lambda most: f" of {RATED_OF[most[1]]}", text)
    text, outer = _without_sign(text)
    if (dash := _NO_CENTS.search(text)) is not None:
        before, sign = text[: dash.start()], dash[0].lstrip()[0]
        number = _LAST_DIGITS.search(before)  # without the point of Fr.
        if sign == "." and number and sign in number[0]:  # 1.200.- has points of two kinds
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
    return Said(outer or inner, after or currency, pairs) if _are_units(pairs) else None


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
    return (text[found.end() :].strip(), currency_of(found[1] or "USD")) if found else (text, None)


@lru_cache(maxsize=1000)
def _without_currency_after(suffix: str) -> tuple[str, str | None]:
    if (whole := currency_of(suffix)) is not None:
        return "", whole
    for spelling in sorted((s for s in CURRENCIES if suffix.lower().endswith(s.lower())), key=len, reverse=True):
        left = suffix[: len(suffix) - len(spelling)]
        if (spellings_of(left.strip()) or {}).get("count") and (left.endswith(" ") or not spelling.isascii()):
            return left.strip(), CURRENCIES[spelling]
    return suffix, None


def currency_of(text: str) -> str | None:
    return CURRENCIES.get(text) or CURRENCIES.get(text.lower())


def range_ends(text: str) -> tuple[str, str] | None:
    """Return the ends of a range; None if a text is none."""
    parts = _RANGE.fullmatch(clean(text)) if len(text) <= LONGEST else None
    if parts is None:
        return None
    said = [take_apart(end) for end in parts.groups()]
    plain = [one for one in said if one and not one.negative and len(one.pairs) == 1]
    if len(plain) < 2 or (plain[0].currency, plain[0].pairs[0][1]) != (plain[1].currency, plain[1].pairs[0][1]):
        return None
    return parts[1], parts[2]


def bodies_of(read: dict[str, Said]) -> dict[str, str]:
    """Return the digits with signs that cells hold, each with the first cell that does."""
    return {body: text for text, parts in reversed(read.items()) for body, _ in parts.pairs}


def written_spans(read: Iterable[str]) -> tuple[str, str | None] | None:
    """Return in which order lengths of time have their parts, and what else two parts may be; None for other cells."""
    texts = {text: clean(text) for text in read}
    short = [text for text, plain in texts.items() if _MINUTES.fullmatch(plain)]
    if not short or not all(":" in text for text in texts):
        return None
    if len(short) < len(texts):
        return "minutes:seconds and hours:minutes:seconds", None
    first, second = texts[short[0]].lstrip("+–-").split(":")
    minutes = f"{first} minutes and {int(second)} seconds"
    return "minutes:seconds", f"{short[0]!r} is read as {minutes}, and could be {first} hours and {int(second)} minutes"
