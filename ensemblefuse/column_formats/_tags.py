"""Lists of tags, written as one text."""

from __future__ import annotations

import ast
import contextlib
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from ensemblefuse.column_formats._cells import (
    MOST_MARKS,
    MOST_MISSING,
    Found,
    UnreadableCell,
    clean,
    is_mark,
    texts_of,
)
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import loose_text

__all__ = ["may_be_tag_format", "read_tags", "tag_format"]

# Signs between tags, in the order in which they are tried.
_SEPARATORS = ("|", ";", "、", "，", ",", ",;", "、，", "/", "\n", "·", "#")
_LIST = "list"  # a Python or JSON list
# Backslashes that mean themselves, and of which Python warns; the first part skips those that mean something.
_BACKSLASH = re.compile(r"""(?<!\\)(?:\\\\)*\\(?![\\'"abfnrtvxuUN\n])""")
_MOST_LETTERS = 40
_LEAST_LISTS = 0.1  # share of cells with several tags
_LEAST_CELLS = 10
_SHORT_NUMBER = re.compile(r"\d{1,3}[^\W\d_]{0,3}")
_LEAST_KNOWN = 0.8  # share of tags that stand in another cell, too


def tag_format(cells: Iterable[Any], *, declared: bool = False) -> Found | None:
    """Find how the cells of a column list tags: short texts that most often stand in several cells.

    Parameters
    ----------
    cells : iterable
        Texts such as ``"drama|war"`` or ``"['drama', 'war']"``, lists of texts, and missing cells.
    declared : bool
        Whether somebody said that they are tags. Only the sign between them is asked for then.

    Returns
    -------
    Found or None
        None if the cells hold no lists, or lists of what hardly ever repeats.

    Examples
    --------
    >>> from ensemblefuse.column_formats import read_cell, tag_format
    >>> found = tag_format(["drama, war", "comedy; drama", "war", "comedy, romance; war", "romance"] * 3)
    >>> found.seen, read_cell("comedy, romance; war", found.format)
    ('lists of tags, 4 different ones, separated by , or ;', ['comedy', 'romance', 'war'])
    """
    texts, others = texts_of(cells)
    odd = {text: n for text, n in texts.items() if is_mark(text)}
    n_cells = texts.total() + len(others)
    if len(odd) > MOST_MISSING or (sum(odd.values()) > MOST_MARKS * n_cells and not declared):
        return None
    texts = Counter({text: n for text, n in texts.items() if text not in odd})
    lists = [_as_list(cell) for cell in others]
    if any(tags is None for tags in lists):
        return None
    best: tuple[tuple[int, int], str] | None = None
    for form in (_LIST, *_SEPARATORS):
        if lists and form != _LIST:
            break
        split = _all_split(texts, form, _MOST_LETTERS if not declared else 1000)
        if split is None:
            continue
        split += [(tags or [], 1) for tags in lists]
        # In 1/2, the sign is that of a fraction.
        counts = _counts(split, declared, are_lists=not texts, may_be_numbers=form != "/")
        several = sum(n for tags, n in split if len(tags) > 1) if declared else 0
        if counts is not None and (best is None or (-several, len(counts)) < best[0]):
            best = (-several, len(counts)), form
        if form == _LIST and best is not None:
            break
    if best is None:
        return None
    (_, n_tags), form = best
    how = "" if form == _LIST else f", separated by {' or '.join(form.replace(chr(10), '¶'))}"
    settings = {"kind": "tags", "separator": form, "missing": sorted({loose_text(text) for text in odd})}
    seen = f"lists of tags, {n_tags} different {'one' if n_tags == 1 else 'ones'}{how}"
    if form == _LIST and (field := _unread_field(texts, others)) is not None:
        seen += f": names of objects, whose other fields such as {short_repr(field)} are not read"
    return Found(settings, 1 - sum(odd.values()) / n_cells, odd, seen, None)


def may_be_tag_format(settings: dict[str, Any]) -> bool:
    """Return whether `read_tags` takes these settings."""
    sign = settings.get("separator")
    return settings.keys() == {"separator", "missing"} and isinstance(sign, str) and sign in (_LIST, *_SEPARATORS)


def read_tags(cell: Any, settings: dict[str, Any]) -> list[str] | None:
    """Return the tags of a cell; None for a blank cell."""
    if isinstance(cell, (bytes, bytearray)):
        cell = bytes(cell).decode(errors="replace")
    if isinstance(cell, str):
        if not clean(cell) or is_mark(cell):
            return None
        tags = _split(cell, settings["separator"])
        if tags is None:
            raise UnreadableCell(f"{short_repr(cell)} is not a list of texts")
        return tags
    tags = _as_list(cell)
    if tags is None:
        raise UnreadableCell(f"{short_repr(cell)} is not a list of texts")
    return tags


def _counts(
    lists: list[tuple[list[str], int]], declared: bool, *, are_lists: bool, may_be_numbers: bool
) -> Counter[str] | None:
    """Return in how many cells each tag stands; None if these are no tags.

    Cells that are lists by type need not hold several tags. A few such cells are no evidence that tags never repeat.
    """
    counts: Counter[str] = Counter()
    for tags, n in lists:
        for tag in set(tags):
            counts[tag] += n
    n_cells = sum(n for tags, n in lists if tags)  # a cell without tags says nothing of what tags are
    several = sum(n for tags, n in lists if len(tags) > 1)
    known = sum(n for n in counts.values() if n > 1)
    letters = sum(any(char.isalpha() for char in tag) for tag in counts)
    if not counts:
        return None
    repeat = known >= _LEAST_KNOWN * counts.total() and 2 * len(counts) <= counts.total()
    if are_lists:
        is_tags = repeat or n_cells < _LEAST_CELLS
    else:
        are_words = 2 * letters >= len(counts) or (may_be_numbers and _are_numbers_of_lists(lists))
        is_tags = several >= max(2, _LEAST_LISTS * n_cells) and repeat and are_words
    return counts if declared or is_tags else None


def _are_numbers_of_lists(lists: list[tuple[list[str], int]]) -> bool:
    """Return whether tags are numbers such as 8 and 7bis, most of which stand alone in other cells.

    Sizes, scores and coordinates have as many parts in each cell.
    """
    alone = {tags[0] for tags, _ in lists if len(tags) == 1}
    parts = {tag for tags, _ in lists if len(tags) > 1 for tag in tags}
    are_short = all(map(_SHORT_NUMBER.fullmatch, alone | parts))
    return are_short and 2 * len(parts & alone) >= len(parts)


def _all_split(texts: Counter[str], form: str, most: int) -> list[tuple[list[str], int]] | None:
    """Return the tags of all texts with the numbers of cells; None if one of them holds no tags in this form."""
    split = []
    for text, n in texts.items():
        tags = None if text.startswith("[{") and form != _LIST else _split(text, form)
        if tags is None or any(len(tag) > most for tag in tags):
            return None
        split.append((tags, n))
    return split


def _as_list(cell: Any) -> list[str] | None:
    if isinstance(cell, np.ndarray) and cell.ndim == 1:
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)) and cell and all(isinstance(tag, dict) for tag in cell):
        cell = [tag.get("name") for tag in cell]  # as in [{"id": 18, "name": "Drama"}]
    if not isinstance(cell, (list, tuple, set, frozenset)) or not all(isinstance(tag, str) for tag in cell):
        return None
    return _tidied(sorted(cell) if isinstance(cell, (set, frozenset)) else cell)


def _split(text: str, form: str) -> list[str] | None:
    """Return the tags of a text; None if it is not written in this form."""
    if form != _LIST:
        return _tidied(re.split(f"[{re.escape(form)}]", text))
    text = text.strip()
    if len(text) > 10_000 or text[:1] not in ("[", "(", "{") or text[-1:] not in ("]", ")", "}"):
        return None
    if not text[1:-1].strip():  # {} would be a dict
        return []
    try:
        return _as_list(_parsed(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return _unquoted(text[1:-1])


def _parsed(text: str) -> Any:
    """Return what a text says as Python writes it; objects in a list also as JSON does."""
    if text.startswith("[{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return ast.literal_eval(_BACKSLASH.sub(r"\\\g<0>", text))


def _unread_field(texts: Iterable[str], lists: Iterable[Any]) -> Any:
    """Return a field that objects in lists have beside their name; None if there is none."""
    written = (_parsed(text) for text in map(str.strip, texts) if text.startswith("[{"))
    objects = (tag for tags in chain(lists, written) for tag in tags if isinstance(tag, dict))
    return next((field for tag in objects for field in tag if field != "name"), None)


def _unquoted(inner: str) -> list[str] | None:
    """Return the tags of a list that most often has no quotes; None if it is no list of one level."""
    if re.search(r"[\[\](){}]", inner):
        return None
    try:
        return _tidied(next(csv.reader([inner], skipinitialspace=True), []))
    except csv.Error:  # a line break between the tags
        return None


def _tidied(tags: Iterable[str]) -> list[str]:
    """Return tags without blanks around them; each once, in the order of the cell."""
    return list(dict.fromkeys(tag for tag in (clean(tag) for tag in tags) if tag))
