"""Columns of texts: addresses, names of files, cells in a written form, or words."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from ensemblefuse.column_formats import (
    Found,
    boolean_format,
    censored_format,
    date_format,
    is_mark,
    majority_format,
    number_clash,
    number_format,
    numbers_format,
    read_cell,
    tag_format,
    unit_clash,
)
from ensemblefuse.column_kinds._categories import MOST_CATEGORIES, are_categories_of_text, facts_of_values
from ensemblefuse.column_kinds._cells import MEDIA, NUMBERS, SEEN_OF, cell_kind
from ensemblefuse.column_kinds._identifiers import says_id
from ensemblefuse.column_kinds._kind import (
    CONSTANT_CELLS,
    DISTINCT,
    UNUSED,
    ColumnKind,
    constant_kind,
    facts_of,
    has_digit,
    kind_of_form,
    share_of,
)
from ensemblefuse.column_kinds._numbers import as_float, number_kind
from ensemblefuse.column_kinds._strings import are_codes, code_kind, is_numeric, worded
from ensemblefuse.column_kinds._tags import may_be_tags, tag_kind
from ensemblefuse.column_kinds._times import are_among_times, are_spans, other_than_date, other_than_time
from ensemblefuse.exceptions import counted, short_repr

__all__ = ["text_kind"]

# Columns that cannot be in a written form are not tried: each try reads every distinct cell.
_READABLE = 0.5  # least share of cells that numbers or dates could be
_VECTOR = re.compile(r"\[[\d.eE+-]+(?:(?:, ?| )[\d.eE+-]+)+\]", re.ASCII)
_OF_WORDS = ("string", "category", "text")
_LONGEST_VALUE = 60
_MOST_BAD_VALUES = 2  # cells of a bad value among categories: one of more cells is a category
_PAIR = re.compile(r"(\d{1,3})(?:,(?!0)(\d{1,3}))?", re.ASCII)
_LEAST_PAIRS = 4  # fewer are sorted by chance
_LEAST_ENDS = 3  # different numbers behind a comma, without which they are halves
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]{1,9}://|www\.|mailto:|data:[\w/+.-]+[;,])\S*", re.IGNORECASE)


def text_kind(cells: list[Any], name: str, has_gaps: bool) -> ColumnKind:
    """Return what texts hold, some of which may be numbers, dates or booleans by type."""
    texts = [cell if isinstance(cell, str) else str(cell) for cell in cells]
    all_texts = all(isinstance(cell, str) for cell in cells)
    counts = Counter(text.strip() for text in texts)
    for decide in (_address_kind, _media_kind):
        found = decide(counts) if all_texts else None
        if found:
            return found
    if len(counts) == 1 and (has_gaps or len(texts) < CONSTANT_CELLS):
        if boolean_format(cells):
            return ColumnKind("boolean", f"{short_repr(texts[0])} or nothing")
        if has_gaps and len(texts) >= CONSTANT_CELLS and not is_numeric(texts[0]):
            return ColumnKind(
                "category", f"{short_repr(texts[0])} in {counted(len(texts), 'cell')}, and nothing elsewhere"
            )
    elif len(counts) == 1:
        return constant_kind(texts[0], len(texts))
    found = _formatted(cells, counts, name) or worded(counts, name, mixed=not all_texts)
    if found.kind in _OF_WORDS and found.choice is None and all(map(_VECTOR.fullmatch, counts)):
        return found._replace(choice="lists of numbers as text: read them with json.loads, and they are series")
    are_words = found.kind in ("string", "category") and found.choice is None
    return found._replace(choice=unit_clash(cells)) if are_words and _may_count(counts) else found


def _may_count(counts: Counter[str]) -> bool:
    """Return whether so many cells are short, and hold a digit, that all may be numbers or dates."""
    return share_of(counts, lambda text: len(text) <= _LONGEST_VALUE and has_digit(text)) >= _READABLE


def _address_kind(counts: Counter[str]) -> ColumnKind | None:
    n_cells = counts.total()
    n_addresses = sum(n for text, n in counts.items() if _ADDRESS.fullmatch(text))
    if n_addresses < DISTINCT * n_cells or are_categories_of_text(counts):
        return None
    files = {cell_kind(text) for text in counts} & set(MEDIA)
    what = f"addresses of {files.pop()} files, which no encoder fetches" if files else "addresses"
    first = next(iter(counts))  # its beginning says whose it is
    shown = first if len(first) <= _LONGEST_VALUE else f"{first[: _LONGEST_VALUE - 3]}..."
    return ColumnKind("address", f"{what}, such as {shown!r}")


def _media_kind(counts: Counter[str]) -> ColumnKind | None:
    kinds: Counter[str] = Counter()
    for text, n in counts.items():
        kinds[cell_kind(text)] += n
    kind, n = kinds.most_common(1)[0]
    if kind not in MEDIA:
        return None
    if n == counts.total():
        return ColumnKind(kind, SEEN_OF[kind])
    other = next(text for text in counts if cell_kind(text) != kind)
    facts = f"{n} of {counts.total()} cells name {kind} files, but {short_repr(other)} does not"
    return ColumnKind("other", f"{facts}; correct such cells, or make them missing", f"could also be: {kind}", other)


def _formatted(cells: list[Any], counts: Counter[str], name: str) -> ColumnKind | None:
    """Return the kind of cells that are all written as flags, numbers, dates or lists of tags."""
    if len(counts) <= MOST_CATEGORIES and (found := boolean_format(cells)):
        if all(map(is_mark, found.odd)):
            return kind_of_form("boolean", found, len(cells))
        return _third_value(found, counts)
    if are_codes(counts):
        return code_kind(counts)
    may_count = _may_count(counts)
    number, date = (number_format(cells), date_format(cells)) if may_count else (None, None)
    is_date = bool(number and date and (date.share >= number.share or are_among_times(date)))
    if date and is_date and not are_spans(counts):
        return kind_of_form("date", date, len(cells), date.choice or other_than_date(date, counts))
    if number:
        kind, choice = _of_numbers(cells, counts, name, number), number.choice
        if others := other_than_time([text for text in counts if text not in number.odd], is_date=is_date):
            choice = f"{choice}; {others}" if choice else others
        choice = choice or _other_than_decimals(number, counts)
        return kind if kind.choice else kind._replace(choice=choice)
    if date:
        return kind_of_form("date", date, len(cells))
    if may_count and (several := _tuples(cells, counts)):
        return several
    if may_count and (most := _of_most(cells, counts, name)):
        return most
    if may_count and (clash := number_clash(cells)):
        return ColumnKind("other", clash, "could also be: string")
    if may_be_tags(counts) and (tags := tag_format(cells)):
        return tag_kind(tags, counts, len(cells))
    return None


def _of_numbers(cells: list[Any], counts: Counter[str], name: str, number: Found) -> ColumnKind:
    """Return whether numbers in a written form are a feature, or count or identify rows; bad cells are left out."""
    kept = [cell for cell in cells if cell not in number.bad] if number.bad else cells
    values = [as_float(cell) if isinstance(cell, NUMBERS) else read_cell(cell, number.format) for cell in kept]
    kind = number_kind(values, facts_of(number, len(cells)), name, measured=_are_measured(number, counts, name))
    return kind._replace(form=number)


def _of_most(cells: list[Any], counts: Counter[str], name: str) -> ColumnKind | None:
    """Return that nearly all cells are numbers in one form, with the first one that is none."""
    found = None if says_id(name) else majority_format(cells)
    if found is None:
        return None
    n_bad = sum(counts[text] for text in {text.strip() for text in found.bad})
    if are_categories_of_text(counts) and n_bad > _MOST_BAD_VALUES:
        return None  # one more value
    is_number = found.format["kind"] == "number"
    kind = kind_of_form(found.format["kind"], found, len(cells))
    kind = _of_numbers(cells, counts, name, found) if is_number else kind
    if kind.kind in UNUSED:
        return None
    what = found.seen.partition(", ")[0].removesuffix(" written as text")
    bad = next(cell for cell in cells if isinstance(cell, str) and cell in found.bad)
    fact = f"{len(cells) - n_bad} of {len(cells)} cells are {what}, but {short_repr(bad)} is not"
    return kind._replace(seen=f"{kind.seen}; {fact}", choice=kind.choice or found.choice, odd=bad, is_refused=True)


def _tuples(cells: list[Any], counts: Counter[str]) -> ColumnKind | None:
    """Return that cells are numbers of which some say only a limit, or that each holds several numbers."""
    if limits := censored_format(cells):
        return kind_of_form("censored", limits, len(cells))
    several = None if are_categories_of_text(counts) else numbers_format(cells)
    if several is None:
        return None
    is_sure = several.format["sign"] != "/"
    return kind_of_form("numbers", several, len(cells), None if is_sure else "could also be: string")


def _are_measured(number: Found, counts: Counter[str], name: str) -> bool:
    """Return whether numbers have a unit, decimals, or signs between thousands, which no identifier has.

    A letter behind an identifier may look like a unit. Whole numbers that were floats in between end with .0.
    """
    form = number.format
    if says_id(name):
        return False
    if form["currency"] or form["dimension"] or form["thousands"] or form["unit"]:
        return True
    return bool(form["decimal"]) and any(re.search(rf"[{form['decimal']}]\d\d", text) for text in counts)


def _other_than_decimals(number: Found, counts: Counter[str]) -> str | None:
    """Return that decimal commas may stand between tags, as in ``4,6`` among mostly whole numbers.

    The smaller one is first in all of them, and none is far above the numbers that stand alone.
    """
    parts = [_PAIR.fullmatch(text) for text in counts if text not in number.odd]
    if number.format["decimal"] != "," or not all(parts):
        return None
    pairs = [(int(found[1]), int(found[2])) for found in parts if found and found[2]]
    alone = [int(found[1]) for found in parts if found and not found[2]]
    if len(pairs) < _LEAST_PAIRS or len(alone) < len(pairs) or len({second for _, second in pairs}) < _LEAST_ENDS:
        return None
    are_sorted = all(first < second <= 2 * max(alone) for first, second in pairs)
    return "could also be: tags" if are_sorted else None


def _third_value(found: Found, counts: Counter[str]) -> ColumnKind:
    """Return that cells are categories, because a few hold a word that is neither true nor false."""
    n_cells, n_odd = counts.total(), sum(found.odd.values())
    odd = next(text for text in found.odd if not is_mark(text)).strip()
    facts = f"{facts_of_values(counts)}; {n_cells - n_odd} cells say {found.seen}, but {short_repr(odd)} does not"
    return ColumnKind("category", facts, "could also be: boolean", odd)
