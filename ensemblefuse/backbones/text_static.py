"""Text models of model2vec: static embeddings, the mean of the vectors of a text's tokens."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional

__all__ = ["StaticNetwork", "is_static_folder"]


def is_static_folder(folder: Path) -> bool:
    """Return whether model2vec saved a folder: its weights then have a matrix called ``embeddings``."""
    from safetensors import SafetensorError, safe_open

    weights = folder / "model.safetensors"
    if not weights.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    try:
        with safe_open(weights, framework="numpy") as file:
            return "embeddings" in file.keys()  # noqa: SIM118
    except SafetensorError:  # the error is reported when the folder is loaded
        return False


class StaticNetwork:
    """A model of model2vec (Tulkens and van Dongen, 2024), which runs in numpy on any machine.

    Parameters
    ----------
    folder : Path
    needed_by : str
        The class that the user called, for the messages.

    Attributes
    ----------
    limit : int or None
        Largest number of tokens of a text that are used; None if all are.

    Raises
    ------
    ImportError
        If model2vec is not installed.
    ValueError
        If model2vec cannot load the folder.
    """

    def __init__(self, folder: Path, *, needed_by: str):
        library = import_optional("model2vec", extra="model2vec", needed_by=needed_by)
        try:
            self._model: Any = library.StaticModel.from_pretrained(folder)
        except (ImportError, MemoryError):
            raise
        except Exception as error:
            raise ValueError(
                f"{needed_by}: model2vec cannot load the folder {folder.name!r} "
                f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})."
            ) from error
        self._model.embedding = np.asarray(self._model.embedding, dtype=np.float32)
        self.limit: int | None = self._model.max_length
        self._lock = threading.Lock()  # a call sets the tokenizer's truncation

    def check_windows(self) -> None:
        """Do nothing, because any model can read a long text whole; see `SentenceNetwork.check_windows`."""

    def is_long(self, texts: list[str]) -> list[bool]:
        """Return which texts have more than `limit` tokens."""
        if self.limit is None:
            return [False] * len(texts)
        with self._lock:
            return [self._is_long(text, self.limit) for text in texts]

    def beginning(self, text: str, most: int) -> str:
        """Return a beginning of a text that gives the same vector; see `SentenceNetwork.beginning`."""
        return text if self.limit is None else text[: self.limit * self._model.median_token_length + 1]

    def _is_long(self, text: str, limit: int) -> bool:
        if len(text.encode()) <= limit:  # a token takes at least one byte
            return False
        # model2vec first cuts by characters, then by tokens.
        tokens = self._model.tokenizer.encode(text[: limit * self._model.median_token_length], add_special_tokens=False)
        return len(text) > limit * self._model.median_token_length or bool(tokens.overflowing)

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return the result of model2vec's own ``encode``, in float32."""
        return self._encode(texts, batch_size, self.limit)

    def encode_windows(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return the mean over all tokens, equal to that of windows without overlap, weighted by their tokens."""
        return self._encode(texts, batch_size, None)

    def _encode(self, texts: list[str], batch_size: int, limit: int | None) -> np.ndarray:
        with self._lock:
            vectors = self._model.encode(texts, batch_size=batch_size, max_length=limit, use_multiprocessing=False)
        if not vectors.any(axis=1).all():  # model2vec returns zeros for a text without known tokens
            raise ValueError("none of its tokens is known to the model")
        return vectors
