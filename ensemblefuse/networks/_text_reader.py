"""Texts as networks take them: words of a vocabulary, or tokens of a pretrained network."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse.backbones.text_transformers import SentenceNetwork
from ensemblefuse.cells.text import checked_text, split_words
from ensemblefuse.networks._reader import CellReader

if TYPE_CHECKING:
    import torch

__all__ = ["TokenReader", "WordReader", "learn_vocabulary"]

# Share of the tokens that are left out in training.
_DROPPED = {"none": 0.0, "light": 0.1, "strong": 0.3}
# Tokens of a text are filled up to a multiple of this number, so that a prefix makes arrays of few shapes.
_STEP = 16
_MOST_CHARACTERS = 500_000
# Longer words are hardly words, and an array of texts is as wide as the longest.
_LONGEST_WORD = 40
_FEWEST_ROWS = 2


def learn_vocabulary(texts: Iterable[Sequence[str]], most: int) -> np.ndarray:
    """Return the words that stand in at least two texts, those in the most texts first.

    Parameters
    ----------
    texts : iterable of sequence of str
        The words of each text.
    most : int
        Largest number of words.

    Examples
    --------
    >>> from ensemblefuse.networks._text_reader import learn_vocabulary
    >>> learn_vocabulary([["a", "red", "fox"], ["a", "a", "cat"], ["red", "a"]], 9).tolist()
    ['a', 'red']
    """
    held_by = Counter(word for words in texts for word in set(words) if len(word) <= _LONGEST_WORD)
    frequent = sorted((word for word, n in held_by.items() if n >= _FEWEST_ROWS), key=lambda w: (-held_by[w], w))
    return np.array(frequent[:most], dtype=str)


@dataclass(frozen=True)
class _TextReader(CellReader):
    augment: str | Callable[[str, np.random.Generator], str]
    max_length: int

    def _kept(self, n: int, rng: np.random.Generator | None) -> np.ndarray:
        """Return which of n tokens are kept: all without `rng`, and always some."""
        share = 0.0 if rng is None or callable(self.augment) else _DROPPED[self.augment]
        kept = np.ones(n, dtype=bool) if rng is None or share == 0 else rng.random(n) >= share
        return kept if kept.any() else np.ones(n, dtype=bool)


@dataclass(frozen=True)
class WordReader(_TextReader):
    """Reads texts as the numbers of their words; 0 stands for all words that the vocabulary lacks."""

    vocabulary: Sequence[str]

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.vocabulary, 1)}

    def words(self) -> dict[str, Any]:
        """See `CellReader.words`."""
        digest = hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()
        return {"max_length": int(self.max_length), "vocabulary": digest}

    @property
    def limit(self) -> str:
        """See `CellReader.limit`."""
        return f"max_length={self.max_length} words"

    def load(self, cell: Any) -> str:
        """Check one text."""
        text = checked_text(cell)
        if len(text) > _MOST_CHARACTERS or len(split_words(text, self.max_length + 1)) > self.max_length:
            self.cut[text] = None
        return text[:_MOST_CHARACTERS]

    def array(self, item: str, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the numbers of the words, of shape (n_words,), dtype int64."""
        if rng is not None and callable(self.augment):
            item = self.augment(item, rng)
        numbers = [self._number_of.get(word, 0) for word in split_words(item, self.max_length)] or [0]
        return np.array(numbers, dtype=np.int64)[self._kept(len(numbers), rng)]

    def join(self, arrays: Sequence[np.ndarray], *, after_prefix: bool) -> tuple[torch.Tensor, ...]:
        """Return the numbers of shape (n, n_words), and how many words each text has."""
        import torch

        from ensemblefuse.networks._sequences import pad

        return pad(arrays), torch.tensor([len(array) for array in arrays])


@dataclass(frozen=True)
class TokenReader(_TextReader):
    """Reads texts as the tokens of a pretrained network, cut where it ends to read."""

    network: SentenceNetwork

    def words(self) -> dict[str, Any]:
        """See `CellReader.words`. The tokens are identified by the backbone."""
        return {"max_length": int(self.max_length), "step": _STEP}

    @property
    def limit(self) -> str:
        """See `CellReader.limit`."""
        return f"{min(self.max_length, self.network.limit or self.max_length)} tokens"

    def load(self, cell: Any) -> str:
        """Check one text; of a very long one, return a beginning that the network cannot read whole."""
        text = checked_text(cell)
        beginning = self.network.beginning(text, _MOST_CHARACTERS)[:_MOST_CHARACTERS]
        if self.network.is_long([beginning])[0] or len(self._tokens(beginning, self.max_length + 1)) > self.max_length:
            self.cut[text] = None
        return beginning

    def array(self, item: str, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the tokens, and -1 behind the last one, of shape (n_places,), dtype int64."""
        from ensemblefuse.backbones.text_stages import NO_TOKEN

        places = self.group(item)
        if rng is not None and callable(self.augment):
            item = self.augment(item, rng)  # it may have made the text longer
        tokens = self._tokens(item, min(places, self.max_length))
        special = np.isin(tokens, self.network.special)
        kept = tokens[self._kept(len(tokens), rng) | special]
        return np.pad(kept, (0, places - len(kept)), constant_values=NO_TOKEN)

    def group(self, cell: Any) -> int:
        """Return the number of places for the tokens of a text."""
        return -(-len(self._tokens(cell, self.max_length)) // _STEP) * _STEP

    def join(self, arrays: Sequence[np.ndarray], *, after_prefix: bool) -> tuple[torch.Tensor, ...]:
        """Return one tensor: tokens, states of tokens with a mask as their last column, or features."""
        from ensemblefuse.backbones.text_stages import NO_TOKEN
        from ensemblefuse.networks._sequences import pad

        return (pad(arrays, 0 if after_prefix else NO_TOKEN),)

    def _tokens(self, text: str, most: int) -> np.ndarray:
        return self.network.tokens([text], most)["input_ids"][0].astype(np.int64)
