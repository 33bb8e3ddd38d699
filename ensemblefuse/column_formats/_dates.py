"""Dates and times written as text."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats._cells import (
    BY_ALL_CELLS,
    LONGEST,
    Found,
    UnreadableCell,
    clean,
    frequent_word,
    frequent_words,
    is_mark,
    odd_words,
    texts_of,
)
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import item, loose_text

__all__ = ["DATE_WAY_OUT", "date_format", "may_be_date_format", "other_order", "read_date", "written_day"]


_MONTH_NAME = re.compile("[A-Z][a-z]{2}", re.ASCII)
_QUARTER, _WEEK = "%YQ%q", "%GW%V"  # with signs and order as `_tidy` leaves them


def _shape(form: str) -> re.Pattern[str]:
    """Return what texts of a form look like: most are told apart faster by this than by parsing them."""
    if form == "%Y%m%d":
        return re.compile(r"(?:19|20)\d{6}")
    if form in (_QUARTER, _WEEK):
        return re.compile(r"(\d{4})Q([1-4])" if form == _QUARTER else r"(\d{4})W(\d\d)", re.ASCII)
    digits = {"%d": r"\d\d?", "%m": r"\d\d?", "%Y": r"\d{4}", "%y": r"\d\d", "%b": _MONTH_NAME.pattern}
    return re.compile(re.sub("%[dmYyb]", lambda code: digits[code[0]], form.replace(".", r"\.")), re.ASCII)


# Forms of the date, as `datetime.strptime` takes them, after `_tidy`. The time of day and the zone are read apart.
_DAY_FIRST = ("%d/%m/%Y", "%d-%m-%Y", "%d.%m.%Y", "%d/%m/%y", "%d-%m-%y", "%d.%m.%y", "%d %m %Y")
_MONTH_FIRST = ("%m/%d/%Y", "%m-%d-%Y", "%m.%d.%Y", "%m/%d/%y", "%m-%d-%y", "%m.%d.%y", "%m %d %Y")
_OTHER = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y %m %d", "%Y%m%d", "%Y年%m月%d日"),
    *("%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d %b %y", "%d-%b-%y", "%b %d %Y", "%b-%d-%Y", "%Y %b %d", "%Y-%b-%d"),
    "%d%b%Y",
)
# Months whose years have two digits are taken for days, fractions or texts unless their cells say more.
_SHORT_MONTHS = ("%b-%y", "%b/%y", "%b %y", "%m/%y")
_MONTHS = (
    *("%b %Y", "%b-%Y", "%b/%Y", "%Y %b", "%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%Y年%m月", "%b '%y"),
    *(*_SHORT_MONTHS, _QUARTER, _WEEK),
)
_YEARS = ("%Y", "%Y年")
_SHAPES = {form: _shape(form) for form in (*_DAY_FIRST, *_MONTH_FIRST, *_OTHER, *_MONTHS, *_YEARS)}
DATE_WAY_OUT = "write dates as 2021-12-31, or pass datetimes"
_TIME = "time"  # a time of day without a date
_SHOWN = {"%d": "day", "%m": "month", "%Y": "year", "%y": "year of 2 digits", "%b": "name of the month"}
_LEAST_FULL = 0.1  # share of the cells that hold more than a year, for years to be dates

_FARTHEST = datetime.timedelta(hours=18)  # from UTC; no place was ever farther

_ENGLISH = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# The names of the twelve months: English, German, Dutch, French, Spanish, Italian, Portuguese; then abbreviations.
_LANGUAGES = """
    january february march april may june july august september october november december
    januar februar märz april mai juni juli august september oktober november dezember
    januari februari maart april mei juni juli augustus september oktober november december
    janvier février mars avril mai juin juillet août septembre octobre novembre décembre
    enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
    gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre
    janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro
    jan feb mar apr may jun jul aug sep oct nov dec
    jän feb mär apr mai jun jul aug sept okt nov dez
    janv févr mrt avr mei juin juil aoû set ott nov déc
    ene fev mrz abr mag giu lug ago sept out nov dic
    gen fév mars avr mai jun juil août sept oct nov déc"""
_MONTH_OF = {name: _ENGLISH[i] for line in _LANGUAGES.strip().split("\n") for i, name in enumerate(line.split())}
_WORD = re.compile(r"[^\W\d_]{3,}\.?")
_QUARTERS = re.compile(
    r"(?:(?P<y>\d{4})[ /-]?(?:Q(?P<q>[1-4])|(?P<r>[1-4])Q)|(?:Q(?P<s>[1-4])|(?P<t>[1-4])Q)[ /-]?(?P<z>\d{4}))",
    re.IGNORECASE | re.ASCII,
)
_WEEKS = re.compile(r"(\d{4})[ -]?W(\d\d)", re.IGNORECASE | re.ASCII)
# A time of day before the year, as in Sat Jun 21 00:00:00 +0000 2014, and behind a colon, as in logs of servers.
_CLOCK_BEFORE_YEAR = re.compile(
    r"^([A-Z][a-z]{2} \d{1,2}) (\d\d:\d\d:\d\d)((?: [+-]\d{4}| [A-Z]{3,4})?) (\d{4})$", re.ASCII
)
_CLOCK_OF_LOG = re.compile(r"^\[?(\d\d/[A-Z][a-z]{2}/\d{4}):(\d\d:\d\d:\d\d(?: [+-]\d{4})?)\]?$", re.ASCII)
# Zones that mean one place, in hours from UTC; CST and IST, as people write them, are of several.
_ZONES = {"EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "CET": 1, "CEST": 2}
_WEEKDAY = re.compile(r"^(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? ", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:^|[ T]|(?<=日))(?P<h>\d{1,2})(?:[:时時点](?P<m>\d{2})(?:[:分](?P<s>\d{2})(?P<f>[.,]\d{1,9})?)?[分秒]?)?"
    r" ?(?P<half>[ap]\.?m\.?)?(?: ?(?P<zone>Z|UTC|GMT|E[SD]T|CDT|M[SD]T|P[SD]T|CES?T|[+-]\d{2}:?\d{2}|[+-]\d{2}))?$",
    re.IGNORECASE,
)


def date_format(cells: Iterable[Any], *, declared: bool = False) -> Found | None:
    """Find in which written form the cells of a column are dates, with or without a time, or times of day.

    Several forms may stand in one column. Years alone are dates only beside fuller ones. Dates with a time zone are
    read in UTC. A time of day is read as a time of 1970-01-01.

    Parameters
    ----------
    cells : iterable
        Texts, dates and missing cells.
    declared : bool
        Whether somebody said that they are dates. Whole numbers such as 20240131 are read then, too.

    Returns
    -------
    Found or None
        None if the cells are not dates. ``choice`` says so if day and month could change places in all cells.

    Examples
    --------
    >>> from ensemblefuse.column_formats import date_format, read_cell
    >>> found = date_format(["August 1st 2000", "13/02/2001", "1/3/2001", "1999", "-"])
    >>> found.seen, found.odd
    ('dates as day/month/year, name of the month day year, year', {'-': 1})
    >>> [str(read_cell(cell, found.format).date()) for cell in ("August 1st 2000", "1/3/2001", "1999")]
    ['2000-08-01', '2001-03-01', '1999-01-01']
    """
    texts, others = texts_of(map(written_day, cells) if declared else cells)
    if not texts or not all(isinstance(cell, (datetime.date, np.datetime64)) for cell in others):
        return None
    read: dict[str, list[str]] = {}
    odd = odd_words(texts, len(others), lambda text: bool(_forms(text, read)), digits=True, frequent=True)
    if odd is None or not (read or (others and all(map(is_mark, odd)))):
        return None
    chosen = _chosen(Counter({text: texts[text] for text in read}), read)
    zones = {_zone(text) is not None for text in read if not _is_only_date(text)}
    zones |= {getattr(cell, "tzinfo", None) is not None for cell in others}
    if chosen is None or (True in zones and (len(zones) > 1 or any(_is_only_date(text) for text in read))):
        return None
    (used, choice, doubtful), n_cells = chosen, texts.total() + len(others)
    n_years = sum(texts[text] for text, found in read.items() if found[0] in _YEARS)
    if (_TIME in used and (len(used) > 1 or others)) or n_cells - sum(odd.values()) - n_years < _LEAST_FULL * n_cells:
        return None
    used = used or ["%Y-%m-%d"]  # texts are marks alone, and later ones may be ISO 8601
    settings = {"kind": "date", "formats": used, "utc": True in zones, "missing": sorted({loose_text(t) for t in odd})}
    choice = "; ".join(filter(None, (choice, frequent_word(odd, n_cells)))) or None
    seen, doubtful = _seen(used, any(map(_clock, read))), (*doubtful, *frequent_words(odd, n_cells))
    return Found(settings, 1 - sum(odd.values()) / n_cells, odd, seen, choice, doubtful)


def may_be_date_format(settings: dict[str, Any]) -> bool:
    """Return whether `read_date` takes these settings."""
    forms = settings.get("formats")
    is_list = isinstance(forms, list) and bool(forms) and all(isinstance(form, str) for form in forms)
    return (
        is_list
        and (forms == [_TIME] or set(forms or ()) <= _SHAPES.keys())
        and len(set(forms or ())) == len(forms or ())  # each of them is tried on each cell
        and isinstance(settings["utc"], bool)
        and settings.keys() == {"formats", "utc", "missing"}
    )


def read_date(cell: Any, settings: dict[str, Any]) -> pd.Timestamp | None:
    """Return the time that a cell says, with a zone if the column has zones; None for a blank cell."""
    shown = short_repr(item(cell))
    if isinstance(cell, (bytes, bytearray)):
        cell = bytes(cell).decode(errors="replace")
    if isinstance(cell, (datetime.date, np.datetime64)):
        stamp = _stamp(cell)
    elif not isinstance(cell, str):
        raise UnreadableCell(f"{shown} is not a date; {DATE_WAY_OUT}")
    elif not clean(cell):
        return None
    elif len(cell) > LONGEST:  # before it is kept among the texts that were read
        raise UnreadableCell(f"{shown} is not a date")
    else:
        date, clock = _split(cell)
        # What ISO 8601 says can be mistaken for nothing else.
        forms = settings["formats"] if settings["formats"] == [_TIME] else [*settings["formats"], "%Y-%m-%d"]
        parsed = [_parsed(date, form) for form in forms]
        moment = next((day for day in parsed if day is not None), None)
        if moment is None or (clock is not None and _of_day(clock) is None):
            as_in_fit = ", ".join(map(_described, settings["formats"]))
            advice = "declare lengths of time as numbers" if forms == [_TIME] else DATE_WAY_OUT
            raise UnreadableCell(f"{shown} is not a date as in fit: {as_in_fit}; {advice}")
        stamp = pd.Timestamp(moment)
        if clock is not None:
            stamp = stamp.as_unit("us") + pd.Timedelta(_of_day(clock) or datetime.timedelta())
            zone = _zone(cell)
            stamp = stamp if zone is None else stamp.tz_localize(zone)
    if (stamp.tzinfo is None) == settings["utc"]:
        has = (
            "no time zone, and the column had one in fit" if settings["utc"] else "a time zone, and the column had none"
        )
        raise UnreadableCell(f"{shown} has {has}")
    return (stamp.tz_convert("UTC") if settings["utc"] else stamp).as_unit("us")


def written_day(cell: Any) -> Any:
    """Return a whole number as its digits, and another cell as it is: 20240131 may be a date.

    Numbers of more than 64 bits stay: no table means days by them, and Python writes no number of 5000 digits.
    """
    if not isinstance(cell, (int, float, np.integer, np.floating)) or isinstance(cell, (bool, np.timedelta64)):
        return cell
    number = item(cell)
    return str(int(number)) if -(2**63) <= number < 2**64 and number == int(number) else cell


def other_order(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the forms of a column with day and month in the other order; nothing if no form has them in digits."""
    swapped = dict(zip((*_DAY_FIRST, *_MONTH_FIRST), (*_MONTH_FIRST, *_DAY_FIRST), strict=True))
    forms = [swapped.get(form, form) for form in settings["formats"]]
    return {} if forms == settings["formats"] else {"formats": forms}


def _stamp(cell: Any) -> pd.Timestamp:
    """Return a date as one of pandas."""
    try:
        return pd.Timestamp(cell).as_unit("us")
    except (ValueError, OverflowError):
        raise UnreadableCell(f"{short_repr(str(cell))} is outside the range of dates") from None


# ---------------------------------------------------------------------- one cell


@lru_cache(maxsize=20_000)
def _tidy(text: str) -> str:
    """Return a text with months as their English abbreviations, and without weekdays, ordinals and commas."""
    text = _WEEKDAY.sub("", clean(text))
    text = re.sub(r"(?<=\d)(?:st|nd|rd|th|er|º|ª)(?!\w)", "", text, flags=re.IGNORECASE)
    text = re.sub(r" ?([年月日년월일]) ?", r"\1", text)
    text = text.replace("년", "年").replace("월", "月").replace("일", "日").replace("号", "日")
    text = _WORD.sub(_month, text)
    text = re.sub(r"(?<=[a-z]) ?['’](?=\d\d$)", " '", text)  # Oct'75
    text = re.sub(r"\b(?:de|del|of|at|um|à)\b ?|,(?!\d)", " ", text)
    text = re.sub(r"(?<=\d)\.(?= [A-Z][a-z]{2}\b)", "", text)  # 5. March
    text = re.sub(r" {2,}", " ", text).strip()
    if (quarter := _QUARTERS.fullmatch(text)) is not None:
        year, number = (next(filter(None, quarter.group(*names))) for names in ("yz", "qrst"))
        return f"{year}Q{number}"
    if (week := _WEEKS.fullmatch(text)) is not None:
        return f"{week[1]}W{week[2]}"
    text = _CLOCK_OF_LOG.sub(r"\1 \2", text)
    return _CLOCK_BEFORE_YEAR.sub(r"\1 \4 \2\3", text)


def _month(word: re.Match[str]) -> str:
    return _MONTH_OF.get(word[0].rstrip(".").lower(), word[0])


def _clock(text: str) -> re.Match[str] | None:
    """Return the time of day at the end of a cell; an hour alone is one only with am or pm."""
    found = _CLOCK.search(_tidy(text))
    return found if found and (found["m"] or found["half"]) else None


def _split(text: str) -> tuple[str, re.Match[str] | None]:
    tidy, clock = _tidy(text), _clock(text)
    return (tidy, None) if clock is None else (tidy[: clock.start()].strip(), clock)


def _is_only_date(text: str) -> bool:
    return _clock(text) is None


def _of_day(clock: re.Match[str]) -> datetime.timedelta | None:
    """Return the time since midnight; None if there is no such time, or no such zone."""
    if clock["zone"] and _offset(clock["zone"]) is None:
        return None
    hour, half = int(clock["h"]), (clock["half"] or "").lower()[:1]
    minute, second = int(clock["m"] or 0), int(clock["s"] or 0)
    if minute > 59 or second > 59 or hour > 23 or (half and not 1 <= hour <= 12):
        return None
    hour = hour % 12 + 12 * (half == "p") if half else hour
    micro = int((clock["f"] or ".0")[1:].ljust(6, "0")[:6])
    return datetime.timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micro)


def _zone(text: str) -> datetime.timezone | None:
    clock = _clock(text)
    name = clock["zone"] if clock else None
    if name is None:
        return None
    offset = _offset(name)
    return None if offset is None else datetime.timezone(offset)


def _offset(zone: str) -> datetime.timedelta | None:
    """Return how far the clocks of a zone are from UTC; None if there is no such zone."""
    if zone.upper() in ("Z", "UTC", "GMT"):
        return datetime.timedelta()
    if zone.upper() in _ZONES:
        return datetime.timedelta(hours=_ZONES[zone.upper()])
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    offset = datetime.timedelta(hours=hours, minutes=minutes)
    if minutes > 59 or offset > _FARTHEST:
        return None
    return -offset if zone[0] == "-" else offset


def _parsed(date: str, form: str) -> datetime.datetime | None:
    """Return the date that a text says in one form; None if it is not written so."""
    if form == _TIME:
        return None if date else datetime.datetime(1970, 1, 1)
    shape = _SHAPES[form].fullmatch(date)
    if not shape:
        return None
    if form in (_QUARTER, _WEEK):
        return _first_day(form, int(shape[1]), int(shape[2]))
    if "%b" in form:  # the names of months that strptime knows depend on the language of the process
        name = _MONTH_NAME.findall(date)[0]
        if name not in _ENGLISH:
            return None
        date, form = date.replace(name, f"{_ENGLISH.index(name) + 1:02d}"), form.replace("%b", "%m")
    try:
        return datetime.datetime.strptime(date, form)
    except ValueError:
        return None


def _first_day(form: str, year: int, number: int) -> datetime.datetime | None:
    """Return the day with which a quarter, or a week of ISO 8601, begins; None if there is no such one."""
    try:
        if form == _QUARTER:
            return datetime.datetime(year, 3 * number - 2, 1)
        return datetime.datetime.fromisocalendar(year, number, 1)
    except ValueError:
        return None


def _forms(text: str, read: dict[str, list[str]]) -> list[str]:
    """Return the forms in which a text is a date, and keep them in `read` if there are any."""
    date, clock = ("", None) if len(text) > LONGEST else _split(text)
    if clock is not None and _of_day(clock) is None:
        return []
    if clock is not None and not date:
        found = [_TIME]
    else:
        shorter = () if clock is not None else (*_MONTHS, *_YEARS)
        found = [form for form in (*_OTHER, *_DAY_FIRST, *_MONTH_FIRST, *shorter) if _parsed(date, form) is not None]
    if found:
        read[text] = found
    return found


# ---------------------------------------------------------------------- a column


def _chosen(texts: Counter[str], forms: dict[str, list[str]]) -> tuple[list[str], str | None, tuple[str, ...]] | None:
    """Return the forms of a column in the order in which they are tried, what was chosen, and which may be no dates.

    None if day and month stand in one order in some cells and in the other in others.
    """
    counts: Counter[str] = Counter()
    swapped = dict(zip(_DAY_FIRST, _MONTH_FIRST, strict=True))
    choices = []
    decided: dict[str, str] = {}
    for day, month in swapped.items():
        both = [text for text, found in forms.items() if {day, month} & set(found)]
        only_day = any(month not in forms[text] for text in both)
        only_month = any(day not in forms[text] for text in both)
        if only_day and only_month:
            return None
        decided |= dict.fromkeys((day, month), month if only_month or not (only_day or "." in day) else day)
        if both and not only_day and not only_month and "." not in day:
            example = min(both, key=len)
            choices.append(
                f"{example!r} is read as {_described(decided[day])}, and could be {_described(day)} {BY_ALL_CELLS}"
            )
    short = _short_months(list(forms.items()))
    if short is None:
        return None
    choices += short.values()
    for text, found in forms.items():
        counts[decided.get(found[0], found[0])] += texts[text]
    return [form for form, _ in counts.most_common()], "; ".join(choices) or None, tuple(short)


def _short_months(forms: list[tuple[str, list[str]]]) -> dict[str, str] | None:
    """Return what else each form of months with years of two digits may be; None if it more likely is something else.

    ``Oct-75`` has no day 75. ``Oct 12`` is a day, and ``Oct-12`` may be one. ``1/86`` may be a fraction or a score,
    unless the numbers behind the sign are several years.
    """
    choices = {}
    for form in _SHORT_MONTHS:
        texts = [text for text, found in forms if found[0] == form]
        years = {int(_tidy(text)[-2:]) for text in texts}
        has_year = any(year > 31 for year in years) or (form != "%m/%y" and 0 in years)
        are_several = len(years) > 1 and any(year % 2 for year in years)  # those of 1/16 and 1/64 are even
        if not texts or (has_year and form != "%m/%y"):
            continue
        if form == "%b %y" or (form == "%m/%y" and not (has_year and are_several)):
            return None
        other = "a text" if form == "%m/%y" else "a day of a month"
        choices[form] = f"{texts[0]!r} is read as {_described(form)}, and could be {other}"
    return choices


def _described(form: str) -> str:
    if form == _TIME:
        return "hour:minute"
    if form == "%Y%m%d":
        return "year month day in 8 digits"
    if form in (_QUARTER, _WEEK):
        return "year and quarter" if form == _QUARTER else "year and week"
    if form == "%d%b%Y":
        return "day, name of the month and year in one word"
    if "年" in form:
        return re.sub("%[Ymd]", "", form)
    for code, name in _SHOWN.items():
        form = form.replace(code, name)
    return form


def _seen(used: list[str], has_clock: bool) -> str:
    if used == [_TIME]:
        return "times of day"
    return f"dates{' with times' if has_clock else ''} as {', '.join(map(_described, used))}"
