"""The written form of nearly all cells of a column, where a few are not written in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ensemblefuse.column_formats._cells import Found, UnreadableCell, clean, is_mark, texts_of
from ensemblefuse.column_formats._numbers import number_format, read_number
from ensemblefuse.column_formats._tuples import censored_format, numbers_format, read_censored, read_numbers
from ensemblefuse.table import loose_text

__all__ = ["majority_format"]

_LEAST_CELLS = 5
_MOST_BAD = 0.2  # share of the cells that may be bad
_MOST_TEXTS = 3  # different bad texts with a digit: more of them are rather codes
_MOST_SHAPES = 40  # of more, the cells are words with digits
_SAMPLE = 20  # texts of one shape that are looked at
_LOOK_ALIKE = str.maketrans("oOlI", "0011")
_KINDS = ("number", "censored", "numbers")

_Find = Callable[[list[Any]], Found | None]


def majority_format(cells: Iterable[Any], kinds: Sequence[str] = _KINDS) -> Found | None:
    """Find the form of numbers in which all cells are written but for a few bad ones, such as ``12 5%`` among ``12%``.

    Parameters
    ----------
    cells : iterable
        Texts, numbers and missing cells.
    kinds : list of str
        Kinds of forms that are tried: ``"number"``, ``"censored"``, ``"numbers"``. The one with the fewest bad cells is
        taken.

    Returns
    -------
    Found or None
        ``bad`` holds the texts that are not in this form. None if there is no such form, if more than a fifth of the
        cells are bad, or if bad ones look like codes, such as 12B among 12, 14 and 18.

    Examples
    --------
    >>> from ensemblefuse.column_formats import majority_format
    >>> found = majority_format(["12%", "7.5%", "40%", "12 5%", "3%", "8.1%"])
    >>> found.seen, found.bad
    ('numbers in %', ('12 5%',))
    """
    cells = list(cells)
    texts, others = texts_of(cells)
    if texts.total() + len(others) < _LEAST_CELLS:
        return None
    shapes = _shapes(texts)
    if len(shapes) > _MOST_SHAPES:
        return None
    found = [_of_kind(kind, texts, others, shapes) for kind in kinds]
    sure = [form for form in found if form is not None]
    return min(sure, key=lambda form: sum(texts[text] for text in form.bad), default=None)


def _shapes(texts: Counter[str]) -> list[list[str]]:
    """Return the texts by their shape, that of most cells first: ``12.5%`` and ``3.1%`` have one, ``12 5%`` another.

    Words without a digit are of no shape: they say missing, or are bad.
    """
    shapes: dict[str, list[str]] = {}
    for text in texts:
        shape = re.sub(r"\d+", lambda digits: "0" if len(digits[0]) < 3 else "000", clean(text))
        if "0" in shape:
            shapes.setdefault(shape, []).append(text)
    return sorted(shapes.values(), key=lambda held: -sum(texts[text] for text in held))


def _of_kind(kind: str, texts: Counter[str], others: list[Any], shapes: list[list[str]]) -> Found | None:
    find, find_any, read = _WAYS[kind]
    form: Found | None = None
    kept: list[Any] = others[:_SAMPLE]
    for shape in shapes:
        more = [*kept, *shape[:_SAMPLE]]
        # A unit is known by its cell. Of cells with real numbers, the form is that of plain numbers.
        found = find_any(more)
        if found is not None and not set(shape[:_SAMPLE]) & found.odd.keys():
            form, kept = found, more
    if form is None:
        form = find_any([*kept, "1"]) if others and kind == "number" else None
    if form is None:
        return None
    bad = [text for text in texts if not _is_read(text, form.format, read)]
    return _without(bad, texts, others, find)


def _is_read(text: str, settings: dict[str, Any], read: Callable[[Any, dict[str, Any]], Any]) -> bool:
    if is_mark(text) or loose_text(text) in settings["missing"]:
        return True
    try:
        return read(text, settings) is not None
    except UnreadableCell:
        return False


def _without(bad: list[str], texts: Counter[str], others: list[Any], find: _Find) -> Found | None:
    """Return the form of the cells that are not bad, if the bad ones are few and no codes."""
    n_cells, n_bad = texts.total() + len(others), sum(texts[text] for text in bad)
    with_digit = [text for text in bad if any(map(str.isdecimal, text))]
    if not bad or n_bad > _MOST_BAD * n_cells or (with_digit and len(bad) > _MOST_TEXTS):
        return None
    refused = set(bad)
    good = [text for text in texts.elements() if text not in refused]
    found = find([*good, *others] if good or not others else [*others, "1"])
    if found is None or set(found.odd) & set(with_digit):
        return None
    if _are_counts(found, others) and any(map(_is_code, with_digit)):
        return None
    share = 1 - (n_bad + sum(found.odd.values())) / n_cells
    return found._replace(share=share, bad=tuple(bad))


def _are_counts(found: Found, others: list[Any]) -> bool:
    """Return whether cells are plain whole numbers, beside which codes may stand."""
    settings = found.format
    if settings["kind"] != "number" or any(settings[name] for name in ("decimal", "thousands", "currency", "unit")):
        return False
    return all(isinstance(cell, int) or float(cell).is_integer() for cell in others)


def _is_code(text: str) -> bool:
    """Return whether a text with a digit may be a value as any other, as 1OT is; 12o has a letter for a digit."""
    is_typed = text.strip().translate(_LOOK_ALIKE).isdecimal()
    return not is_typed and number_format([text]) is not None


# Kind -> what finds the form, what does so in part of the cells, and what reads a cell.
_WAYS: dict[str, tuple[_Find, _Find, Callable[[Any, dict[str, Any]], Any]]] = {
    "number": (number_format, number_format, read_number),
    "censored": (censored_format, lambda cells: censored_format(cells, declared=True), read_censored),
    "numbers": (numbers_format, numbers_format, read_numbers),
}
