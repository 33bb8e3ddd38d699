"""The encoder of texts: a frozen sentence encoder. Never imports `fusion`."""

from __future__ import annotations

import difflib
import os
import threading
import warnings
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse._torch import resolve_device, shared_network
from ensemblefuse.backbones.frame_pooling import fewer_tokens
from ensemblefuse.backbones.text_model import (
    ENGLISH,
    MULTILINGUAL,
    packaged_text_model,
    sentence_network,
    text_model_folder,
    text_model_sources,
    text_model_token,
)
from ensemblefuse.backbones.text_static import StaticNetwork, is_static_folder
from ensemblefuse.backbones.text_transformers import POOLINGS, SentenceNetwork
from ensemblefuse.backbones.text_use import UniversalNetwork
from ensemblefuse.backbones.weights import PACKAGED, WeightsSource, packaged_path
from ensemblefuse.cells.text import checked_text, without_blanks
from ensemblefuse.encoders._base import BadRows, BaseEncoder
from ensemblefuse.encoders._tokens import TokenEncoder, pack_tokens
from ensemblefuse.encoders._unread_texts import unread_texts

__all__ = ["TextEncoder"]

_NEEDED_BY = "TextEncoder"
_LONG_TEXTS = ("cut", "chunk")
_PRECISIONS = ("float32", "int8")
_SHORT = 2**14  # characters; longer texts are first looked at in part
_MOST_CHARACTERS = 500_000
# Texts that were cut in this thread's current call of `_vectors`, and the limit of tokens.
_call = threading.local()


class TextEncoder(TokenEncoder):
    """Embed texts with a pretrained sentence encoder. Fitting trains nothing, and nothing is downloaded.

    The embedding is the result of ``encode`` of the model's own library, in float32 (a model that is stored in half
    precision is converted to float32 first).

    Parameters
    ----------
    model : str or path, default="all-MiniLM-L6-v2"
        - ``"all-MiniLM-L6-v2"`` [1]_ [2]_, 384 dimensions, Apache-2.0, English: it is part of an installed package.
        - ``"use-multilingual-v3"`` [4]_, 512 dimensions, Apache-2.0, 16 languages: Arabic, Chinese (simplified and
          traditional), Dutch, English, French, German, Italian, Japanese, Korean, Polish, Portuguese, Russian, Spanish,
          Thai and Turkish. A sentence and its translation have similar embeddings. It is part of an installed package,
          too, and runs on the CPU.
        - A folder of sentence-transformers, of a plain Hugging Face model such as BERT (its token vectors are pooled),
          or of static embeddings of model2vec [3]_ (``pip install "ensemblefuse[model2vec]"``; hundreds of times
          faster, but they ignore word order). A name that is also packaged is taken from the package; write
          ``"./name"`` for the folder.
        - A hub name such as ``"org/name"`` that is in the local Hugging Face cache. A name without an organisation is
          also looked up under ``sentence-transformers/``. The hub itself is never contacted.

        Code that comes with a model is not run.
    pooling : {None, "mean", "cls", "max"}, default=None
        How the vectors of a text's tokens are combined: their mean, the first one, or the maximum in each dimension.
        None takes the folder's own setting, or the mean if it has none.
    output : {"pooled", "tokens"}, default="pooled"
        ``"pooled"``: one vector for each text. ``"tokens"``: one column, of arrays of shape (n_tokens, width): the last
        hidden states of all tokens that the model reads, special ones too. They know their places. Attention of
        `NeuralFusionClassifier` reads such a block. Models without hidden states of tokens, and other values of
        `pooling`, `long_texts` and `precision` than the default, are refused.
    max_tokens : int, default=64
        Only with ``output="tokens"``: where a text has more, neighbours are averaged, in groups of equal size. The
        cache keeps this number of tokens for each text, 98 kB for the default model.
    long_texts : {"cut", "chunk"}, default="cut"
        What to do with a text that is longer than the model reads (256 tokens for the default, 512 for
        ``"use-multilingual-v3"``).

        - ``"cut"``: only its beginning is read, and one warning per call gives the number of newly encoded texts that
          were cut.
        - ``"chunk"``: it is read in windows of as many tokens as the model reads. Each window begins with the last
          eighth of the one before (rounded down). The embedding is the mean of the windows' embeddings, weighted by
          their numbers of tokens without special ones, and scaled to length 1 if the model's own embeddings are. For
          static embeddings it is the mean over all tokens.
    max_characters : int, default=500_000
        Largest number of characters of a text that are read, because a text costs as much as it is long. With
        ``"chunk"``, a longer text is a bad row. With ``"cut"``, reading ends as soon as there are more tokens than the
        model takes, and a longer text is a bad row only if its first `max_characters` have too few tokens. Not part of
        the cache key.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU. Not part of the cache key. Static embeddings and
        ``"use-multilingual-v3"`` are computed on the CPU.
    precision : {"float32", "int8"}, default="float32"
        ``"int8"``: 8-bit weights, run by ONNX Runtime on the CPU (``pip install "ensemblefuse[onnx]"``), in a quarter
        of the bytes and, for the default, a third to a half of the time. Texts go through the network one by one. The
        vectors differ from float32's (cosine 0.98 to 0.99 for the default), so it is part of the cache key. The 8-bit
        network is made in seconds when it is first needed. It is kept in the user's cache folder, or in the folder
        that the environment variable ``ENSEMBLEFUSE_WEIGHTS`` names.
    batch_size : int, default=32
        Number of texts, or windows, that go through the network at once. Not part of the cache key.
    words : bool, default=True
        Whether a fusion may also read the words of the texts. In a pipeline of `make_fusion_pipeline`, decision-level
        fusion with its default estimators then has two members for the modality: one over the embeddings, one over
        TF-IDF of words and characters, which it fits. What this encoder returns does not change. Not part of the cache
        key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with cells that are not texts: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 384 for the default. With ``output="tokens"``, the numbers kept for a text: those of
        `max_tokens` tokens and one more.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`, if the model is unknown (the message gives similar names), the folder does not hold
        a model that can be loaded, the model does not support `pooling` or `long_texts`, or the device does not exist.
    ImportError
        From `fit` and `transform`, if sentence-transformers, model2vec or the package with the weights is needed and
        not installed.

    Notes
    -----
    A cell is a str. An empty text, or one of white space only, is a missing text, as None is: its embedding would be
    the same in every such row, and a model would learn from it that the text is missing. A text without any token that
    a static model knows is a bad row.

    One warning per call counts the texts in other scripts than the Latin one that ``"all-MiniLM-L6-v2"`` was given, and
    distinct texts that have one embedding because a packaged model knows none of their words.

    All new texts of a call are encoded in the order of their lengths, because the longest text determines the cost of a
    batch. The rows of the output keep their order.

    References
    ----------
    .. [1] N. Reimers and I. Gurevych. Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks. EMNLP 2019.
    .. [2] W. Wang et al. MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
       Transformers. NeurIPS 2020.
    .. [3] S. Tulkens and T. van Dongen. Model2Vec: Fast State-of-the-Art Static Embeddings. 2024.
    .. [4] Y. Yang et al. Multilingual Universal Sentence Encoder for Semantic Retrieval. ACL 2020 (demonstrations).

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import TextEncoder
    >>> texts = ["a cat sleeps", "the kitten naps", None, "shares fell in London"]
    >>> embeddings = TextEncoder().fit_transform({"title": texts})
    >>> embeddings.shape, bool(np.isnan(embeddings[2]).all())
    ((4, 384), True)
    >>> bool(embeddings[0] @ embeddings[1] > embeddings[0] @ embeddings[3] + 0.3)
    True
    >>> english, chinese = TextEncoder("use-multilingual-v3").fit_transform(["the cat is asleep", "猫睡着了"])
    >>> bool(english @ chinese > 0.8)
    True
    """

    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {
        "model",
        "max_characters",
        "words",
    }  # `recipe` writes a digest
    # For encoders that were saved before these were parameters.
    precision: str = "float32"
    max_characters: int = _MOST_CHARACTERS
    words: bool = True

    def __init__(
        self,
        model: str | os.PathLike[str] = "all-MiniLM-L6-v2",
        *,
        pooling: str | None = None,
        output: str = "pooled",
        max_tokens: int = 64,
        long_texts: str = "cut",
        max_characters: int = _MOST_CHARACTERS,
        device: str = "auto",
        precision: str = "float32",
        batch_size: int = 32,
        words: bool = True,
        on_error: str = "raise",
    ):
        self.model = model
        self.pooling = pooling
        self.output = output
        self.max_tokens = max_tokens
        self.long_texts = long_texts
        self.max_characters = max_characters
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.words = words
        self.on_error = on_error

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the texts of one column, one per row; None for a blank one, which is a missing text."""
        return without_blanks(super().cells(X))

    def load(self, cell: Any) -> str:
        """Check one text.

        Parameters
        ----------
        cell : str

        Returns
        -------
        str
            The text. With ``long_texts="cut"``, of a very long one only a beginning that the model cannot read whole.

        Raises
        ------
        TypeError
            If the cell is not a str.
        ValueError
            If the text is empty, only white space, not valid Unicode, or too long.
        """
        text = checked_text(cell)
        if len(text) <= _SHORT:
            return text
        if self.long_texts == "cut":
            text = self._network().beginning(text, self.max_characters)
        self._refuse_long(text)
        return text

    def probe(self, cell: Any) -> None:
        """Check that a cell is a text; see `BaseEncoder.probe`."""
        text = checked_text(cell)
        if self.long_texts == "chunk":
            self._refuse_long(text)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed texts.

        Parameters
        ----------
        items : list of str

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
            With ``output="tokens"``, the tokens of each text packed into a row.
        """
        network, size = self._network(), self._batch_size()
        is_long = network.is_long(items)
        if any(is_long) and self.long_texts == "cut":
            cut = {text for text, long in zip(items, is_long, strict=True) if long}
            _call.cut, _call.limit = getattr(_call, "cut", set()) | cut, network.limit
        if self._gives_tokens:
            assert isinstance(network, SentenceNetwork)  # other models are refused
            tokens = network.token_vectors(items, size)
            return pack_tokens([fewer_tokens(own, self.max_tokens) for own in tokens], self.max_tokens)
        if self.long_texts == "cut" or not any(is_long):
            return network.encode(items, size)
        vectors = network.encode_windows([text for text, long in zip(items, is_long, strict=True) if long], size)
        out = np.empty((len(items), vectors.shape[1]), dtype=np.float32)
        out[np.array(is_long)] = vectors
        if not all(is_long):
            short = [text for text, long in zip(items, is_long, strict=True) if not long]
            out[~np.array(is_long)] = network.encode(short, size)
        return out

    def sort_key(self, cell: Any) -> int:
        """Return the length of a text. Texts of similar length share a batch.

        Parameters
        ----------
        cell : object

        Returns
        -------
        int
            0 if the cell is not a text.
        """
        return len(cell) if isinstance(cell, str) else 0

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return "a"

    def prepare(self) -> None:
        """Check the parameters and load the network, once per process for each model, pooling and device."""
        network = self._network()
        if self.long_texts == "chunk":
            network.check_windows()

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, pooling, and the packaged name or the folder's digest.

        Returns
        -------
        dict
            It contains no path: the same model in another place makes the same embeddings.
        """
        self._check_params()
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"]["model"] = text_model_token(self.model, needed_by=_NEEDED_BY)
            if self.precision == "float32":  # the same key as before this was a parameter
                del recipe["params"]["precision"]
        return recipe

    def weights_sources(self) -> list[WeightsSource]:
        """See `BaseEncoder.weights_sources`."""
        return text_model_sources(self.model, param="model", needed_by=type(self).__name__)

    def _refuse_long(self, text: str) -> None:
        if len(text) > self.max_characters:
            raise ValueError(
                f"a text of {len(text)} characters, of which more than max_characters={self.max_characters} would have "
                "to be read; split it into rows, or pass a larger max_characters"
            )

    def _check_params(self) -> None:
        self._batch_size()
        self._check_output(pooling=None, long_texts="cut", precision="float32")
        most = self.max_characters
        if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 1:
            raise ValueError(f"{_NEEDED_BY}: max_characters must be a whole number of at least 1; got {most!r}.")
        choices = (("pooling", (None, *POOLINGS)), ("long_texts", _LONG_TEXTS), ("precision", _PRECISIONS))
        for name, values in choices:
            value = getattr(self, name)
            if not any(value is known or (isinstance(value, str) and value == known) for known in values):
                close = difflib.get_close_matches(str(value), [known for known in values if known], n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"{_NEEDED_BY}: {name} must be one of {list(values)}; got {value!r}.{hint}")
        if self.precision == "int8" and self.device not in ("auto", "cpu"):
            raise ValueError(f'{_NEEDED_BY}: precision="int8" runs on device="cpu" only; got {self.device!r}.')
        if self.device not in ("auto", "cpu"):  # these two always work, and importing torch takes seconds
            resolve_device(self.device, needed_by=_NEEDED_BY)

    def _vectors(self, frame: pd.DataFrame, column: str) -> tuple[np.ndarray, BadRows]:
        _call.cut = set()
        result = super()._vectors(frame, column)
        if n_cut := len(_call.cut):
            texts, them = ("text", "it") if n_cut == 1 else ("texts", "them")
            warnings.warn(
                f"{type(self).__name__} cut {n_cut} {texts} of column {column!r} at the {_call.limit} tokens that the "
                f'model {os.fspath(self.model)!r} reads; the rest of {them} is ignored. Pass long_texts="chunk" to '
                f"read {them} whole.",
                UserWarning,
                stacklevel=5,
            )
        _call.cut = set()
        return result

    def _doubt(self, frame: pd.DataFrame, vectors: np.ndarray | None) -> str:
        token = packaged_text_model(self.model)
        if token is None:
            return ""
        cells = pd.Series(self.cells(frame), name=frame.columns[0], dtype=object)
        name = f'{type(self).__name__}("{token}")'
        return unread_texts(cells, vectors, encoder=name, is_english=token == ENGLISH)

    def _network(self) -> SentenceNetwork | StaticNetwork | UniversalNetwork:
        token, pooling = text_model_token(self.model, needed_by=_NEEDED_BY), self.pooling
        if token == MULTILINGUAL:
            self._refuse_settings("it sums the vectors of tokens in a way of its own", "it is run by its own package")
            build = lambda: UniversalNetwork(packaged_path(token, needed_by=_NEEDED_BY), needed_by=_NEEDED_BY)
            return shared_network(("text", token), build)
        if token not in PACKAGED and is_static_folder(folder := text_model_folder(self.model, needed_by=_NEEDED_BY)):
            self._refuse_settings("it always averages the vectors of tokens", "it has no matrix products")
            return shared_network(("text", token), lambda: StaticNetwork(folder, needed_by=_NEEDED_BY))
        device = "cpu" if self.precision == "int8" else resolve_device(self.device, needed_by=_NEEDED_BY)
        return sentence_network(
            self.model, device=device, needed_by=_NEEDED_BY, pooling=pooling, precision=self.precision
        )

    def _refuse_settings(self, why_no_pooling: str, why_no_precision: str) -> None:
        """Refuse `output`, `pooling` and `precision` for a model that is not a transformer."""
        model = os.fspath(self.model)
        if self._gives_tokens:
            raise ValueError(
                f'{_NEEDED_BY}: the model {model!r} does not take output="tokens": {why_no_pooling}. Pass '
                'output="pooled", or a transformer such as model="all-MiniLM-L6-v2".'
            )
        if self.pooling is not None:
            raise ValueError(
                f"{_NEEDED_BY}: the model {model!r} does not take pooling={self.pooling!r}: {why_no_pooling}. "
                "Pass pooling=None."
            )
        if self.precision != "float32":
            raise ValueError(
                f"{_NEEDED_BY}: the model {model!r} does not take precision={self.precision!r}: {why_no_precision}. "
                'Pass precision="float32".'
            )
