"""Words of texts in any script."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np

__all__ = ["SAMPLE", "are_in_capitals", "are_phrases", "median_words", "n_words"]

SAMPLE = 5000  # distinct texts whose words are counted
_READ = 5000  # letters of a text whose words are counted


# Scripts that put no blanks between words, with the letters of a word in the mean.
_UNSPACED = {
    "CJK": 1.6,
    "HIRAGANA": 2.5,
    "KATAKANA": 3.5,
    "KATAKANA-HIRAGANA": 3.5,
    "THAI": 4.5,
    "LAO": 4.5,
    "KHMER": 4.5,
    "MYANMAR": 4.5,
}


def n_words(text: str) -> float:
    """Return the number of words with letters; in scripts without blanks, it is estimated from the letters.

    Examples
    --------
    >>> from ensemblefuse.column_kinds import n_words
    >>> n_words("a red bicycle"), round(n_words("这家餐厅的菜很好吃"))
    (3.0, 6)
    """
    text = text[:_READ]
    if text.isascii():
        return float(sum(any(map(str.isalpha, token)) for token in text.split()))
    spaced, words = [], 0.0
    for char in text:
        # The scripts begin at U+0E00; a look-up of each letter of a long French text would take its time.
        script = unicodedata.name(char, "").partition(" ")[0] if char >= "\u0e00" and char.isalpha() else ""
        letters = _UNSPACED.get(script)
        words += 0 if letters is None else 1 / letters
        spaced.append(char if letters is None else " ")
    return words + sum(any(map(str.isalpha, token)) for token in "".join(spaced).split())


def median_words(counts: Counter[str]) -> float:
    """Return the median number of words of the cells, of a sample where there are many distinct ones."""
    texts = list(counts)[:: max(1, len(counts) // SAMPLE)]
    return float(np.median(np.repeat([n_words(text) for text in texts], [counts[text] for text in texts])))


def are_phrases(counts: Counter[str]) -> bool:
    """Return whether most words after the first begin with a small letter: names have capitals and digits."""
    later = [word for text in counts for word in text.split()[1:]]
    return sum(word[0].islower() for word in later) > len(later) / 2


def are_in_capitals(counts: Counter[str]) -> bool:
    """Return whether most words after the first begin with a capital, and are not all capitals, as in names."""
    later = [word for text in counts for word in text.split()[1:]]
    return sum(word[0].isupper() and not word.isupper() for word in later) > len(later) / 2
