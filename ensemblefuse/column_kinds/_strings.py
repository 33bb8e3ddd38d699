"""Columns of words: identifiers, categories, short strings, or free text."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from ensemblefuse.column_formats import is_mark, number_format
from ensemblefuse.column_kinds._categories import are_categories_of_text, facts_of_values
from ensemblefuse.column_kinds._identifiers import CODE_WORDS, NUMBERED, WEAK_REASONS, identifier_reason, says_id
from ensemblefuse.column_kinds._kind import DISTINCT, LEAST_CELLS, ColumnKind, has_digit
from ensemblefuse.column_kinds._names import says_quantity
from ensemblefuse.column_kinds._numbers import CODE_DIGITS
from ensemblefuse.column_kinds._words import are_in_capitals, are_phrases, median_words
from ensemblefuse.exceptions import counted, short_repr

__all__ = ["are_codes", "code_kind", "is_numeric", "worded"]

_REPEATS = 5  # mean number of cells of a value, from which on values are names out of a list, however many words
_TEXT_WORDS = 4  # median words of a cell, from which on it says more than a name
_SENTENCE_WORDS = 6  # a text of so many is no name, also if its words are in capitals
_NUMBERS = 0.8  # share of cells that are numbers, from which on the others may be mistakes
_SOME_NUMBERS = 0.5  # from which on all may be numbers, written in some way that nothing here reads
_MISTAKES = 3  # different texts that may be mistakes though they hold digits
_PLAIN = re.compile(r"[+-]?\d+(?:[.,]\d+)?", re.ASCII)
_NAME_WORDS = 8  # a text of more words is no name, also if it repeats


def are_codes(counts: Counter[str]) -> bool:
    """Return whether digits are codes and no numbers: they begin with 0, and all have the same length."""
    lengths = {len(text) for text in counts}
    return (
        len(lengths) == 1
        and max(lengths) > 1
        and all(text.isdecimal() for text in counts)
        and any(text.startswith("0") for text in counts)
    )


def code_kind(counts: Counter[str]) -> ColumnKind:
    n_cells = counts.total()
    some = "" if all(text.startswith("0") for text in counts) else "some "
    facts = f"{counted(len(counts), 'code')} in {counted(n_cells, 'cell')}, {some}with zeros at the beginning"
    if n_cells >= LEAST_CELLS and len(counts) >= DISTINCT * n_cells:
        return ColumnKind("identifier", facts, "could also be: string")
    return ColumnKind("category" if are_categories_of_text(counts) else "string", facts)


def worded(counts: Counter[str], name: str, *, mixed: bool) -> ColumnKind:
    """Return what words are: an identifier, a category, a short string, or free text."""
    n_cells, n_distinct = counts.total(), len(counts)
    words = median_words(counts)
    facts = facts_of_values(counts)
    is_named = says_id(name)
    odd = None if is_named else _odd_among_numbers(counts)
    surely_odd = odd if odd and odd.share >= _NUMBERS else None
    if not surely_odd and (reason := identifier_reason(counts, is_named=is_named)):
        is_quantity = reason.startswith(NUMBERED) and says_quantity(next(iter(counts)))  # Week 12
        is_weak = n_cells < LEAST_CELLS or is_quantity or reason.startswith(WEAK_REASONS)
        choice = "could also be: string" if is_weak else None
        return ColumnKind("identifier", f"{facts}, {reason}", choice)
    if (n_distinct <= 2 and words < _TEXT_WORDS - 1) or are_categories_of_text(counts):
        if surely_odd is None:
            return ColumnKind("category", facts)
        return ColumnKind("category", f"{facts}; {surely_odd.fact}", "could also be: number", surely_odd.text)
    if is_named and words <= CODE_WORDS:
        reason = "and the name says identifier of something with several rows"
        return ColumnKind("identifier", f"{facts}, {reason}", "could also be: string", of_groups=True)
    some = f"{counted(round(words, 1), 'word')} in the median" if words else f"such as {short_repr(next(iter(counts)))}"
    if odd and words < _TEXT_WORDS:
        return ColumnKind("string", f"{facts}, {some}; {odd.fact}", "could also be: number", odd.text)
    return _string_or_text(counts, f"{facts}, {some}", words, mixed=mixed)


def _string_or_text(counts: Counter[str], facts: str, words: float, *, mixed: bool) -> ColumnKind:
    """Return whether words are a short string, such as a name, or free text."""
    if mixed:
        return ColumnKind("string", f"{facts}, texts beside other values", "could also be: text")
    if words < _TEXT_WORDS - 1 or (words < _TEXT_WORDS and not are_phrases(counts)):
        return ColumnKind("string", facts)
    if counts.total() >= _REPEATS * len(counts) and words <= _NAME_WORDS:
        return ColumnKind("string", facts, "could also be: text")
    may_be_names = words < _SENTENCE_WORDS and are_in_capitals(counts)
    return ColumnKind("text", facts, "could also be: string" if may_be_names else None)


def is_numeric(text: str) -> bool:
    """Return whether a text is a number by itself; a code that begins with 0 is no mistake among numbers."""
    return number_format([re.sub(r"^0+(?=\d)", "", text)]) is not None


class _Odd(NamedTuple):
    """A text that is no number, among texts that are."""

    fact: str
    text: str
    share: float
    """Share of the cells that are numbers."""


def _odd_among_numbers(counts: Counter[str]) -> _Odd | None:
    """Return the first text that is no number, if at least half of the cells are numbers that can be compared."""
    n_cells = counts.total()
    if n_cells < 5:
        return None
    numbers = {text for text in counts if has_digit(text) and is_numeric(text)}
    are_one = number_format(numbers) is not None
    if not are_one:  # 12B and 71DF beside 18
        numbers = {text for text in numbers if _PLAIN.fullmatch(text)}
    n_numbers = sum(counts[text] for text in numbers)
    if n_numbers < _SOME_NUMBERS * n_cells or n_numbers == n_cells or number_format(numbers) is None:
        return None
    if any(text.isdecimal() and text.startswith("0") and len(text) >= CODE_DIGITS for text in numbers):
        return None  # codes, such as book numbers, of which some end with a letter
    others = [text for text in counts if text not in numbers]
    odd = [text for text in others if not is_mark(text)] or others
    fact = f"{n_numbers} of {n_cells} cells are numbers, but {short_repr(odd[0])} is not"
    are_few = len(others) <= _MISTAKES or not any(map(has_digit, others))
    if are_few and not are_one:
        return None  # 1OT beside 1 is a value as any other
    return _Odd(fact, odd[0], n_numbers / n_cells)
