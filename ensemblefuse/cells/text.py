"""Check of a text cell, and whether texts are English by their letters."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

__all__ = ["checked_text", "foreign_share", "is_in_other_script", "split_words", "without_blanks"]

_READ = 10_000  # characters of a text whose letters are counted
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_RUN_OF_LETTERS = re.compile(r"[^\W\d_]+")
# Han, kana, Thai, Lao, Burmese and Khmer are written without blanks between words.
_UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_WORD = re.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})\w)+")
_SIGNS = "ªºµ"  # letters to Unicode, but signs of numbers and units


def checked_text(cell: Any) -> str:
    """Return `cell` if it is a text that is not empty; raise `TypeError` or `ValueError` otherwise."""
    if not isinstance(cell, str):
        raise TypeError(f"expected text, got {type(cell).__name__}")
    if not cell.strip():
        raise ValueError("empty text")
    cell.encode()  # refuse a lone surrogate here, before the whole batch fails
    return str(cell)


def without_blanks(cells: Iterable[Any]) -> list[Any]:
    """Return cells with None for texts that are empty, or only white space: files write a missing text so.

    Examples
    --------
    >>> from ensemblefuse.cells.text import without_blanks
    >>> without_blanks(["a cat", "", " ", None])
    ['a cat', None, None, None]
    """
    return [None if isinstance(cell, str) and not cell.strip() else cell for cell in cells]


def foreign_share(texts: Iterable[str]) -> float:
    """Return the share of letters that are not of English words, from 0 (all English, or no letters) to 1.

    It counts the letters of all scripts but the Latin one, and all Latin letters of words that have an accent or a
    letter beyond a to z.

    Parameters
    ----------
    texts : iterable of str
        Of a long text, the first 10 000 characters are counted.

    Returns
    -------
    float

    Notes
    -----
    English networks such as MiniLM read é as e, so no accented letter is unknown to them. But few English words have
    one, while 16 to 35 % of the letters of French, Spanish, Portuguese, Polish and Turkish sentences are in such words,
    and MiniLM understands these languages badly: the cosine of a sentence and its translation is 0.1 to 0.3, that of
    unrelated sentences 0.4. German, Dutch and Italian have few accents; their words look English to this function.

    Examples
    --------
    >>> from ensemblefuse.cells.text import foreign_share
    >>> foreign_share(["a cat sleeps", "iPhone 12"]), foreign_share(["一只猫", "кошка"])
    (0.0, 1.0)
    >>> foreign_share(["a café"]), foreign_share(["iPhone 手机壳"])
    (0.8, 0.3333333333333333)
    """
    n_letters = n_foreign = 0
    for text in texts:
        plain, accented, other = _count_letters(text)
        n_letters += plain + accented + other
        n_foreign += accented + other
    return n_foreign / n_letters if n_letters else 0.0


def is_in_other_script(text: str) -> bool:
    """Return whether at least half of a text's letters are of another script than the Latin one."""
    if text.isascii():
        return False
    plain, accented, other = _count_letters(text)
    return 2 * other >= plain + accented + other > 0


def _count_letters(text: str) -> tuple[int, int, int]:
    """Return the numbers of letters in plain words, in words with letters beyond a to z, and of other scripts."""
    text = text[:_READ]
    if text.isascii():
        return len(text.encode().translate(None, _NO_LETTERS)), 0, 0
    plain = accented = other = 0
    for run in _RUN_OF_LETTERS.findall(unicodedata.normalize("NFC", text)):
        if run.isascii():
            plain += len(run)
            continue
        letters = [letter for letter in run if letter.isalpha() and letter not in _SIGNS]
        latin = "".join(letter for letter in letters if letter.isascii() or _is_latin(letter))
        other += len(letters) - len(latin)
        if latin.isascii():
            plain += len(latin)
        else:
            accented += len(latin)
    return plain, accented, other


@cache
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN ")


def split_words(text: str, most: int) -> list[str]:
    """Return the first words of a text, in lower case. Each sign of a script without blanks is a word.

    Examples
    --------
    >>> from ensemblefuse.cells.text import split_words
    >>> split_words("A red, red Fox", 3), split_words("iPhone 手机", 9)
    (['a', 'red', 'red'], ['iphone', '手', '机'])
    """
    found = _WORD.finditer(text.lower())
    return [match.group() for match in itertools.islice(found, most)]
