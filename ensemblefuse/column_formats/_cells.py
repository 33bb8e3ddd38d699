"""What the formats share: cells without their typography, words that stand for missing cells, and what was found."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import is_missing, loose_text

__all__ = [
    "BY_ALL_CELLS",
    "LONGEST",
    "MOST_MARKS",
    "MOST_MISSING",
    "Found",
    "UnreadableCell",
    "are_measured",
    "clean",
    "frequent_word",
    "frequent_words",
    "is_mark",
    "odd_words",
    "texts_of",
]

# Blanks of all widths, and signs that only look different. Letters are left alone: full width means a full-width form.
_PLAIN = {
    **dict.fromkeys(map(ord, "\u00a0\u1680\u202f\u205f\u3000\t\r\f\v"), " "),
    **dict.fromkeys(range(0x2000, 0x200B), " "),
    **dict.fromkeys((0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF), None),
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    ord("\u2212"): "-",
    **dict(zip(range(0xFFE0, 0xFFE2), "\u00a2\u00a3", strict=True)),
    ord("\uffe5"): "\u00a5",
    ord("\uffe6"): "\u20a9",
    ord("\u066b"): ".",
    ord("\u066c"): ",",
}
BY_ALL_CELLS = "by all cells of the column"  # in a choice that another form of the same kind would decide otherwise
LONGEST = 80  # letters in a cell that is a number or a date
_MOST_WORDS = 3
_MOST_SHARE = 0.1
_LEAST_REPEATS = 3  # cells of a word that stands for missing cells in more of them
_MOST_VALUES = 40  # values that repeat may be categories, of which the word is one more
MOST_MARKS = 0.5  # share of the cells that may say "no value"
MOST_MISSING = 1000  # different texts for missing cells in a form: each cell is compared with them
# Texts that say "no value" in any table, in small letters. All that `pandas.read_csv` takes for missing are among them.
# Other signs may say something: stars are a rating.
_MARK_WORDS = """
    na n/a #n/a #na <na> n.a. n.a nan -nan null none nil unknown missing undefined tbd tba
    未知 无 無 暂无 不详 不明 未填 未填写 unbekannt k.a. inconnu desconocido sconosciuto"""
_MARK_SIGNS = "? / _ 1.#ind -1.#ind 1.#qnan -1.#qnan"
_MARKS = frozenset([*_MARK_WORDS.split(), *_MARK_SIGNS.split(), "#n/a n/a", "0000-00-00", "0000-00-00 00:00:00"])
_DASHES, _DOTS = "-\u2010\u2011\u2013\u2014\u2015", ".\u2026"


class Found(NamedTuple):
    """The written form of the cells of a column."""

    format: dict[str, Any]
    """Plain settings that JSON can hold, as `read_cell` takes them."""
    share: float
    """Share of cells that were read, among those that are neither missing nor blank."""
    odd: dict[str, int]
    """Texts that are taken for missing cells, and how many cells hold each."""
    seen: str
    """A phrase that says what the cells are."""
    choice: str | None
    """A sentence that says between which readings was chosen; None if the cells allow only one."""
    doubtful: tuple[str, ...] = ()
    """Words of ``missing``, and forms of dates, that may say something else; `choice` names them to a person."""
    bad: tuple[str, ...] = ()
    """Texts that are not written in this form, though nearly all others are."""


class UnreadableCell(ValueError):
    """Raised for a cell that is not written in the format of its column; the message begins with the cell."""


def clean(text: str) -> str:
    """Return a text with plain blanks, digits and signs, and without blanks at its ends."""
    if not text.isascii():
        text = text.translate(_PLAIN)
        text = re.sub(r"[^\W\D_]", lambda digit: str(unicodedata.decimal(digit[0])), text)
    return " ".join(text.split())


def texts_of(cells: Iterable[Any]) -> tuple[Counter[str], list[Any]]:
    """Return how many cells hold each text, without blank ones, and all cells that are neither text nor missing."""
    texts: Counter[str] = Counter()
    others = []
    for cell in cells:
        if is_missing(cell):
            continue
        if isinstance(cell, (bytes, bytearray)):
            cell = bytes(cell).decode(errors="replace")
        if isinstance(cell, str):
            texts[str(cell)] += 1
        else:
            others.append(cell)
    return Counter({text: n for text, n in texts.items() if clean(text[:LONGEST]) or clean(text)}), others


def odd_words(
    texts: Counter[str], n_others: int, is_read: Callable[[str], bool], *, digits: bool = False, frequent: bool = False
) -> dict[str, int] | None:
    """Return the texts that stand for missing cells, with their numbers; None if there are too many for that.

    A few words may: at most 3 in at most a tenth of the cells. Marks such as ``-`` or ``n/a`` may stand in up to half
    of them, and with `frequent` one word without digits, beside values that are no categories. Texts with a digit may
    only with `digits`: they often say something.
    """
    odd: dict[str, int] = {}
    words: Counter[str] = Counter()
    n_cells = texts.total() + n_others
    for text, n in texts.items():
        if is_read(text):
            continue
        odd[text] = n
        if not is_mark(text):
            words[loose_text(text)] += n
        has_digit = any(char.isdecimal() for char in text)
        are_rare = words.total() <= _MOST_SHARE * n_cells
        if (has_digit and not digits and not is_mark(text)) or len(words) > _MOST_WORDS:
            return None
        if not are_rare and (not frequent or len(words) > 1 or (has_digit and not is_mark(text))):
            return None
    if words.total() > _MOST_SHARE * n_cells:
        has_digit = any(char.isdecimal() for word in words for char in word)
        read = Counter({text: n for text, n in texts.items() if text not in odd})
        if has_digit or words.total() < _LEAST_REPEATS or not are_measured(read):
            return None
    few = len(odd) <= MOST_MISSING and sum(odd.values()) <= MOST_MARKS * n_cells
    return odd if few else None


def are_measured(texts: Counter[str]) -> bool:
    """Return whether texts are too many different ones to be categories."""
    return len(texts) > _MOST_VALUES or 2 * len(texts) > texts.total()


def frequent_words(odd: dict[str, int], n_cells: int) -> tuple[str, ...]:
    """Return the spellings of a word for missing cells in many of them; none if only a few cells hold such words."""
    words = tuple(text for text in odd if not is_mark(text))
    return words if sum(odd[word] for word in words) > _MOST_SHARE * n_cells else ()


def frequent_word(odd: dict[str, int], n_cells: int) -> str | None:
    """Return a choice that names a word for missing cells in many of them; None if there is none."""
    words = {word: odd[word] for word in frequent_words(odd, n_cells)}
    if not words:
        return None
    word, n = max(words.items(), key=lambda item: item[1])
    return f"{short_repr(word)} in {n} of {n_cells} cells is taken for missing; could also be: string"


def is_mark(text: str) -> bool:
    """Return whether a text says "no value" in any table: a word, a sign, dashes or dots of any number, or blanks.

    Examples
    --------
    >>> from ensemblefuse.column_formats import is_mark
    >>> [is_mark(text) for text in ("N/A", "unknown", "--", "?", "\u2605\u2605", "???", "cheap")]
    [True, True, True, True, False, False, False]
    """
    text = loose_text(clean(text))
    return text in _MARKS or not text.strip(_DASHES) or not text.strip(_DOTS)
