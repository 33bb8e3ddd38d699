"""True and false in all spellings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ensemblefuse.column_formats._cells import Found, UnreadableCell, clean, odd_words, texts_of
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import loose_text

__all__ = ["boolean_format", "read_boolean"]

# English, Chinese, German, French, Spanish and Italian, Portuguese, Russian, Japanese, Korean, and signs.
_TRUE_WORDS = """
    true t yes y on 1 1.0 enabled checked 是 真 有 对 對 ja j oui sí si sim да はい 예 네 ✓ ✔ ☑"""
_FALSE_WORDS = """
    false f no n off 0 0.0 disabled unchecked 否 假 无 無 错 錯 nein non não nao нет いいえ 아니오 아니요 ✗ ✘ ☐"""
_TRUE, _FALSE = frozenset(_TRUE_WORDS.split()), frozenset(_FALSE_WORDS.split())
_ALL = _TRUE | _FALSE


def boolean_format(cells: Iterable[Any]) -> Found | None:
    """Find whether the cells of a column say true and false.

    Parameters
    ----------
    cells : iterable
        Texts, booleans, the numbers 0 and 1, and missing cells.

    Returns
    -------
    Found or None
        None if the cells say something else, or if all are numbers.

    Examples
    --------
    >>> from ensemblefuse.column_formats import boolean_format, read_cell
    >>> found = boolean_format(["Yes", "no", None, "YES ", "n"])
    >>> found.seen, [read_cell(cell, found.format) for cell in ("yes", "No", "", True)]
    ('Yes or no', [True, False, None, True])
    """
    texts, others = texts_of(cells)
    if any(not _is_flag(cell) for cell in others):
        return None
    odd = odd_words(texts, len(others), lambda text: _word(text) in _ALL)
    read = [_word(text) for text in texts if odd is not None and text not in odd]
    booleans = [cell for cell in others if isinstance(cell, (bool, np.bool_))]
    if odd is None or not (read or booleans) or (not booleans and all(word[0] in "01" for word in read)):
        return None
    settings = {"kind": "boolean", "missing": sorted({loose_text(text) for text in odd})}
    said = Counter(str(bool(cell)).lower() for cell in booleans)
    for text, n in texts.items():
        said[clean(text)] += n
    names = [_most_frequent(said, words) for words in (_TRUE, _FALSE)]
    seen = " or ".join(names) if all(names) else f"only {''.join(names)}"
    n_cells = texts.total() + len(others)
    return Found(settings, 1 - sum(odd.values()) / n_cells, odd, seen, None)


def _most_frequent(said: Counter[str], words: frozenset[str]) -> str:
    """Return the spelling of some words that stands in most cells; an empty one if none does."""
    return next((text for text, _ in said.most_common() if _word(text) in words), "")


def _word(text: str) -> str:
    return loose_text(clean(text)) if len(text) < 40 else "?"


def _is_flag(cell: Any) -> bool:
    if isinstance(cell, (bool, np.bool_)):
        return True
    return isinstance(cell, (int, float, np.integer, np.floating)) and cell in (0, 1)


def read_boolean(cell: Any, settings: dict[str, Any]) -> bool | None:
    """Return whether a cell says true; None for a blank cell."""
    if _is_flag(cell):
        return bool(cell)
    text = bytes(cell).decode(errors="replace") if isinstance(cell, (bytes, bytearray)) else cell
    word = _word(text) if isinstance(text, str) else "?"
    if not word:
        return None
    if word not in _ALL:
        raise UnreadableCell(f"{short_repr(cell)} is neither true nor false")
    return word in _TRUE
