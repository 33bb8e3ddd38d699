"""Columns of words: identifiers, categories, short strings, or free text."""

from __future__ import annotations

import re
from collections import Counter

from ensemblefuse.column_formats import number_format
from ensemblefuse.column_kinds._categories import are_categories_of_text, facts_of_values
from ensemblefuse.column_kinds._identifiers import CODE_WORDS, identifier_reason, says_id
from ensemblefuse.column_kinds._kind import DISTINCT, LEAST_CELLS, ColumnKind, counted, has_digit
from ensemblefuse.column_kinds._numbers import CODE_DIGITS
from ensemblefuse.column_kinds._words import are_phrases, median_words
from ensemblefuse.exceptions import short_repr

__all__ = ["are_codes", "code_kind", "is_numeric", "worded"]

_REPEATS = 5  # mean number of cells of a value, from which on values are names out of a list, however many words
_TEXT_WORDS = 4  # median words of a cell, from which on it says more than a name
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
    facts = f"{len(counts)} codes in {n_cells} cells, with zeros at the beginning"
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
    if not odd and (reason := identifier_reason(counts, is_named=is_named)):
        choice = "could also be: string" if n_cells < LEAST_CELLS else None
        return ColumnKind("identifier", f"{facts}, {reason}", choice)
    if (n_distinct <= 2 and words < _TEXT_WORDS - 1) or are_categories_of_text(counts):
        facts += f"; {odd[0]}" if odd else ""
        return ColumnKind("category", facts, "could also be: number" if odd else None, odd[1] if odd else None)
    if is_named and words <= CODE_WORDS:
        reason = "and the name says identifier of something with several rows"
        return ColumnKind("identifier", f"{facts}, {reason}", "could also be: string")
    if odd:
        advice = "correct such cells, or make them missing"
        return ColumnKind("other", f"{odd[0]}; {advice}", "could also be: string", odd[1])
    some = f"{counted(round(words, 1), 'word')} in the median" if words else f"such as {short_repr(next(iter(counts)))}"
    facts += f", {some}"
    if mixed:
        return ColumnKind("string", f"{facts}, texts beside other values", "could also be: text")
    if words >= _TEXT_WORDS or (words >= _TEXT_WORDS - 1 and are_phrases(counts)):
        if n_cells >= _REPEATS * n_distinct and words <= _NAME_WORDS:
            return ColumnKind("string", facts, "could also be: text")
        return ColumnKind("text", facts)
    return ColumnKind("string", facts)


def is_numeric(text: str) -> bool:
    """Return whether a text is a number by itself; a code that begins with 0 is no mistake among numbers."""
    return number_format([re.sub(r"^0+(?=\d)", "", text)]) is not None


def _odd_among_numbers(counts: Counter[str]) -> tuple[str, str] | None:
    """Return a fact and the first text among numbers that is none; None if most texts are no numbers."""
    n_cells = counts.total()
    if n_cells < 5:
        return None
    numbers = {text for text in counts if has_digit(text) and is_numeric(text)}
    n_numbers = sum(counts[text] for text in numbers)
    if n_numbers < 0.8 * n_cells or n_numbers == n_cells:
        return None
    if any(text.isdecimal() and text.startswith("0") and len(text) >= CODE_DIGITS for text in numbers):
        return None  # codes, such as book numbers, of which some end with a letter
    odd = next(text for text in counts if text not in numbers)
    return f"{n_numbers} of {n_cells} cells are numbers, but {short_repr(odd)} is not", odd
