"""Texts made worse. Each function takes a text, a share and a generator, and gives a text."""

from __future__ import annotations

import string

import numpy as np

__all__ = ["drop_words", "replace_letters", "swap_letters"]


def swap_letters(text: str, share: float, rng: np.random.Generator) -> str:
    """Pairs of neighbouring letters of a word change places, until this share of all letters has moved.

    At least one pair; no letter moves twice, and two equal letters are no pair. The length stays.
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
    """This share of all letters, at least one, becomes another letter from a to z. Length and case stay."""
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
    """This share of the words is left out: at least one, and never the last that is left.

    Words are what white space parts; what remains is joined by single spaces.
    """
    words = text.split()
    if len(words) < 2:
        return text
    n_dropped = min(len(words) - 1, max(1, round(share * len(words))))
    dropped = set(rng.choice(len(words), size=n_dropped, replace=False).tolist())
    return " ".join(word for i, word in enumerate(words) if i not in dropped)


def _count(share: float, text: str) -> int:
    """A share of the letters, at least 1."""
    return max(1, round(share * sum(map(str.isalpha, text))))
