"""What a column holds, as all modules of this room say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ensemblefuse.column_formats import Found
from ensemblefuse.column_kinds._cells import DATES
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import item

__all__ = [
    "CONSTANT_CELLS",
    "DISTINCT",
    "EMPTY",
    "LEAST_CELLS",
    "UNUSED",
    "ColumnKind",
    "constant_kind",
    "facts_of",
    "has_digit",
    "has_letter",
    "kind_of_form",
    "share_of",
]

UNUSED = frozenset({"empty", "constant", "identifier", "address", "duration", "other"})
"""Kinds of columns that a model does not learn from as they are."""


CONSTANT_CELLS = 3  # with fewer cells, it is no evidence that all are equal
LEAST_CELLS = 10  # with fewer cells, it is no evidence that all are distinct
DISTINCT = 0.9  # share of distinct values in a column of identifiers


class ColumnKind(NamedTuple):
    """What a column holds."""

    kind: str
    """One of the kinds that `column_kind` names."""
    seen: str
    """The facts that decided."""
    choice: str | None = None
    """Between which readings was chosen; None if the cells allow only one."""
    odd: str | None = None
    """A text that cannot be read as nearly all others."""
    form: Found | None = None
    """The written form of the cells; None if they are values, or of another kind."""
    alone: bool = False
    """Whether it is an identifier only if no other column of the table looks like one: a row has many ranks."""
    of_groups: bool = False
    """Whether it identifies what has several rows."""
    is_refused: bool = False
    """Whether some cells cannot be read as the kind, so that a fit stops at them; `seen` tells of them."""


EMPTY = ColumnKind("empty", "no cell holds a value")


def constant_kind(value: Any, n_cells: int) -> ColumnKind:
    if isinstance(value, DATES):
        value = str(value)
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    return ColumnKind("constant", f"all {n_cells} cells are {short_repr(item(value))}")


def kind_of_form(kind: str, found: Found, n_cells: int, choice: str | None = None) -> ColumnKind:
    return ColumnKind(kind, facts_of(found, n_cells), choice or found.choice, form=found)


def facts_of(found: Found, n_cells: int) -> str:
    """Return what was found, with the share of cells that could be read if it is not all of them."""
    if not found.odd:
        return found.seen
    words = sorted(found.odd, key=lambda word: -found.odd[word])
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    shown = ", ".join(map(short_repr, words[:3])) + more
    verb = "stands" if len(words) == 1 else "stand"
    return f"{found.seen}; {found.share:.1%} of {n_cells} cells can be read, and {shown} {verb} for missing cells"


def share_of(counts: Counter[str], test: Callable[[str], Any]) -> float:
    return sum(n for text, n in counts.items() if test(text)) / counts.total()


def has_digit(text: str) -> bool:
    return any(map(str.isdecimal, text))


def has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))
