"""Parts of a text: words, which are deleted."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.inspection._part_explanation import CannotExplain, PartExplanation, cell_table, unit_of
from ensemblefuse.inspection._row_model import RowModel

__all__ = ["TextParts", "find_words"]

_MOST = 200  # parts; in longer texts several neighbouring words form one part
_ALONE = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))  # kana and Han: no spaces between


class TextParts:
    """The words of a text; without any word left, the cell is missing, as an empty text is."""

    n_at_once = 1024

    def __init__(self, row: RowModel, name: str, cells: pd.DataFrame, settings: Any):
        self.column, self.text = cells.columns[0], cells.iloc[0, 0]
        if not isinstance(self.text, str):
            raise CannotExplain(f"its cell is a {type(self.text).__name__}, not a str")
        words = find_words(self.text)
        size = -(-len(words) // _MOST) if words else 1
        self.spans = [(words[k][0], words[min(k + size, len(words)) - 1][1]) for k in range(0, len(words), size)]
        self.n_parts, self.is_class = len(self.spans), row.code is not None
        self.note = f"{len(words)} words in {self.n_parts} groups of up to {size}." if size > 1 else ""

    def cells(self, keep: np.ndarray) -> pd.DataFrame:
        """Return the text without the words that are not kept."""
        return cell_table(self.column, [self._without(kept) for kept in keep])

    def _without(self, kept: np.ndarray) -> str | None:
        """Delete the words that are not kept, each with the white space on its right if there is some on its left."""
        left, start = "", 0
        for (first, last), stays in zip(self.spans, kept, strict=True):
            if not stays:
                left = _joined(left, self.text[start:first])
                start = last
        left = _joined(left, self.text[start:])
        return left if left.strip() else None

    def explanation(self, effects: np.ndarray, method: str) -> PartExplanation:
        """Return the words with their effects."""
        rows = [(self.text[a:b], a, b, effect) for (a, b), effect in zip(self.spans, effects, strict=True)]
        table = pd.DataFrame(rows, columns=["token", "start", "end", "effect"])
        return PartExplanation("text", method, table, self.text, unit=unit_of(method, self.is_class), note=self.note)


def _joined(left: str, right: str) -> str:
    return left + (right.lstrip() if not left or left[-1].isspace() else right)


def find_words(text: str) -> list[tuple[int, int]]:
    """Find start and end of each word; a punctuation sign, or a character of Han or kana, is a word of its own.

    Examples
    --------
    >>> from ensemblefuse.inspection._occlude_text import find_words
    >>> [("It's well-made, 5 stars!")[a:b] for a, b in find_words("It's well-made, 5 stars!")]
    ["It's", 'well-made', ',', '5', 'stars', '!']
    """
    spans: list[tuple[int, int]] = []
    start = None
    for place, sign in enumerate(text):
        joins = sign in "'’-_" and 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum()
        alone = (unicodedata.category(sign)[0] in "PS" and not joins) or any(a <= ord(sign) <= b for a, b in _ALONE)
        if start is not None and (alone or sign.isspace()):
            spans.append((start, place))
            start = None
        if alone:
            spans.append((place, place + 1))
        elif start is None and not sign.isspace():
            start = place
    return spans if start is None else [*spans, (start, len(text))]
