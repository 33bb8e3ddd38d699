"""Corruptions of texts: each function takes a text, a share and a generator, and returns a text."""

from __future__ import annotations

import string

import numpy as np

__all__ = ["drop_words", "replace_letters", "swap_letters"]


def swap_letters(text: str, share: float, rng: np.random.Generator) -> str:
    """Swap pairs of neighbouring letters within words, until this share of all letters has moved.

    At least one pair is swapped. No letter moves twice, and two equal letters are not a pair. The length stays.
    """
    letters = list(text)
    pairs = [i for i in range(len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha() and text[i] != text[i + 1]]
    left = _count(share / 2, text)
    moved: set[int] = set()
    for i in rng.permutation(pairs).tolist():
        if left and not {i, i + 1} & moved:
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
            moved |= {i, i + 1}
            left -= 1
    return "".join(letters)


def replace_letters(text: str, share: float, rng: np.random.Generator) -> str:
    """Replace this share of all letters, at least one, by another letter from a to z; keep length and case."""
    letters = list(text)
    places = [i for i, letter in enumerate(text) if letter.isalpha()]
    if not places:
        return text
    for i in rng.choice(places, size=min(len(places), _count(share, text)), replace=False).tolist():
        others = [letter for letter in string.ascii_lowercase if letter != text[i].lower()]
        new = others[rng.integers(len(others))]
        letters[i] = new.upper() if text[i].isupper() else new
    return "".join(letters)


def drop_words(text: str, share: float, rng: np.random.Generator) -> str:
    """Drop this share of the words, at least one, but never all of them.

    Words are separated by white space; the remaining words are joined by single spaces.
    """
    words = text.split()
    if len(words) < 2:
        return text
    n_dropped = min(len(words) - 1, max(1, round(share * len(words))))
    dropped = set(rng.choice(len(words), size=n_dropped, replace=False).tolist())
    return " ".join(word for i, word in enumerate(words) if i not in dropped)


def _count(share: float, text: str) -> int:
    """Return the number of letters in this share of them, at least 1."""
    return max(1, round(share * sum(map(str.isalpha, text))))
