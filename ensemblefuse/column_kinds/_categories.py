"""Whether values repeat so often that they are categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ensemblefuse.exceptions import counted, short_repr

__all__ = ["COVERED", "MOST_CATEGORIES", "are_categories", "are_categories_of_text", "facts_of_values"]

MOST_CATEGORIES = 40  # values that are categories; rarer ones beside them are pooled
_MOST_CODES = 100  # the same for single words
_CODE_REPEATS = 20  # mean number of cells of such a word
COVERED = 0.9  # share of the cells that these values must hold


def are_categories(counts: Iterable[int], n_cells: int, most: int = MOST_CATEGORIES) -> bool:
    """Return whether values are categories: a few of those that repeat hold nearly all cells."""
    least = 2 if n_cells < 30 else 3
    held = sum(sorted((n for n in counts if n >= least), reverse=True)[:most])
    return held >= COVERED * n_cells


def are_categories_of_text(counts: Counter[str]) -> bool:
    """Return whether texts are categories; more of them if they are single words that repeat, as codes of states do."""
    are_codes = all(" " not in text for text in counts) and counts.total() >= _CODE_REPEATS * len(counts)
    most = _MOST_CODES if are_codes else MOST_CATEGORIES
    return are_categories(counts.values(), counts.total(), most)


def facts_of_values(counts: Counter[str]) -> str:
    """Return how many values there are, and two that differ in capitals alone, if there are such."""
    facts = f"{counted(len(counts), 'distinct value')} in {counted(counts.total(), 'cell')}"
    if len(counts) > _MOST_CODES:
        return facts
    spelled: dict[str, str] = {}
    for text in counts:
        first = spelled.setdefault(text.casefold(), text)
        if first != text:
            return f"{facts}, of which {short_repr(first)} and {short_repr(text)} differ in capitals alone"
    return facts
