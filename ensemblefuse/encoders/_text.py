"""Texts to vectors with a frozen sentence encoder. Never imports `fusion`."""

from __future__ import annotations

import difflib
import os
import threading
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse._torch import resolve_device, shared_network
from ensemblefuse.backbones.hub import find_model_folder
from ensemblefuse.backbones.text_static import StaticNetwork, is_static_folder
from ensemblefuse.backbones.text_transformers import POOLINGS, SentenceNetwork
from ensemblefuse.backbones.weights import PACKAGED, WeightsSource, folder_digest, packaged_path
from ensemblefuse.cells.text import checked_text
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.exceptions import BadRow

__all__ = ["TextEncoder"]

_NEEDED_BY = "TextEncoder"
_PACKAGED_TEXT_MODELS = ("all-MiniLM-L6-v2",)
_HUB_ORGANISATION = "sentence-transformers"
_LONG_TEXTS = ("cut", "chunk")
_PRECISIONS = ("float32", "int8")
# Texts cut in the `_vectors` call that this thread is in, and where.
_call = threading.local()


class TextEncoder(BaseEncoder):
    """Embed texts with a pretrained sentence encoder. Fitting trains nothing, and nothing is downloaded.

    The embedding is what the library of the model gives by its own ``encode``, in float32 (a model stored in half
    precision is raised to float32 first).

    Parameters
    ----------
    model : str or path, default="all-MiniLM-L6-v2"
        - ``"all-MiniLM-L6-v2"`` [1]_ [2]_, 384 dimensions, Apache-2.0, English: it comes inside an installed package.
        - A folder: of sentence-transformers; a plain Hugging Face model such as BERT, whose token vectors are then
          pooled; or static embeddings of model2vec [3]_ (``pip install "ensemblefuse[model2vec]"``), hundreds of
          times faster and blind to word order. A name that is packaged too is taken from the package; write
          ``"./name"`` for the folder.
        - A hub name such as ``"org/name"`` that is in the local Hugging Face cache; a name without an organisation is
          also looked for under ``sentence-transformers/``. The hub itself is never asked.

        Code that comes with a model is not run.
    pooling : {None, "mean", "cls", "max"}, default=None
        What becomes of the vectors of a text's tokens: their mean, the first one, or the greatest value in each
        dimension. None is what the folder says, the mean if it says nothing.
    long_texts : {"cut", "chunk"}, default="cut"
        What to do with a text longer than the model reads (256 tokens for the default).

        - ``"cut"``: its beginning alone counts, and one warning a call says how many of the newly encoded texts were
          cut.
        - ``"chunk"``: it is read in windows of as many tokens as the model reads. Each begins with the last eighth of
          the one before (rounded down). The embedding is the mean of the windows' embeddings, weighted by their
          tokens without those that mark the ends, and brought back to length 1 if the model's embeddings have it. For
          static embeddings: the mean over all tokens.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU. Not part of the cache key. Static embeddings are
        averaged on the CPU.
    precision : {"float32", "int8"}, default="float32"
        ``"int8"``: weights of 8 bits, by ONNX Runtime on the CPU (``pip install "ensemblefuse[onnx]"``), in a quarter
        of the bytes and, for the default, a third to a half of the time; texts go through the network one by one. The
        vectors differ from float32's (cosine 0.98 to 0.99 for the default), so it is part of the cache key. It is made
        when it is first needed, in seconds, and kept in the user's cache folder, or in the one that the environment
        variable ``ENSEMBLEFUSE_WEIGHTS`` names.
    batch_size : int, default=32
        Texts, or windows, that go through the network at once. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with a cell that is no text: one error that lists all of them, or a row of NaN and one
        `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 384 for the default.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`: unknown model (with near names), a folder that holds no model that can be loaded,
        a pooling or way with long texts that the model does not take, a device that is not there.
    ImportError
        From `fit` and `transform`: sentence-transformers or model2vec, or the package that carries the weights, is
        not installed.

    Notes
    -----
    A cell is a str. An empty text, or one of white space alone, is a bad row: an embedding of nothing is the same
    for every such row, and a model would learn from it that the text is missing. Use None for a missing text. So is a
    text of which a static model knows no token.

    All new texts of a call are encoded in the order of their lengths, because a batch costs what its longest text
    costs; the rows keep their order.

    References
    ----------
    .. [1] N. Reimers and I. Gurevych. Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks. EMNLP 2019.
    .. [2] W. Wang et al. MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
       Transformers. NeurIPS 2020.
    .. [3] S. Tulkens and T. van Dongen. Model2Vec: Fast State-of-the-Art Static Embeddings. 2024.

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
    """

    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"model"}  # `recipe` puts a digest there
    precision: str = "float32"  # of encoders that were saved before this was a parameter

    def __init__(
        self,
        model: str | os.PathLike[str] = "all-MiniLM-L6-v2",
        *,
        pooling: str | None = None,
        long_texts: str = "cut",
        device: str = "auto",
        precision: str = "float32",
        batch_size: int = 32,
        on_error: str = "raise",
    ):
        self.model = model
        self.pooling = pooling
        self.long_texts = long_texts
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.on_error = on_error

    def load(self, cell: Any) -> str:
        """Check one text.

        Parameters
        ----------
        cell : str

        Returns
        -------
        str
            The text as it stands.

        Raises
        ------
        TypeError
            If the cell is no str.
        ValueError
            If the text is empty, white space alone, or no valid Unicode.
        """
        return checked_text(cell)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed texts.

        Parameters
        ----------
        items : list of str

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        network, size = self._network(), self._batch_size()
        is_long = network.is_long(items)
        if not any(is_long):
            return network.encode(items, size)
        if self.long_texts == "cut":
            cut = {text for text, long in zip(items, is_long, strict=True) if long}
            _call.cut, _call.limit = getattr(_call, "cut", set()) | cut, network.limit
            return network.encode(items, size)
        vectors = network.encode_windows([text for text, long in zip(items, is_long, strict=True) if long], size)
        out = np.empty((len(items), vectors.shape[1]), dtype=np.float32)
        out[np.array(is_long)] = vectors
        if not all(is_long):
            short = [text for text, long in zip(items, is_long, strict=True) if not long]
            out[~np.array(is_long)] = network.encode(short, size)
        return out

    def sort_key(self, cell: Any) -> int:
        """Length of a text: texts of like length share a batch.

        Parameters
        ----------
        cell : object

        Returns
        -------
        int
            0 for what is no text.
        """
        return len(cell) if isinstance(cell, str) else 0

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return "a"

    def prepare(self) -> None:
        """Check the parameters and load the network, once a process for one model, pooling and device."""
        network = self._network()
        if self.long_texts == "chunk":
            network.check_windows()

    def recipe(self) -> dict[str, Any] | None:
        """What the embeddings depend on: class, version, pooling, and the packaged name or the folder's digest.

        Returns
        -------
        dict
            No path in it: the same model in another place makes the same embeddings.
        """
        self._check_params()
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"]["model"] = _model_token(self.model)
            if self.precision == "float32":  # the key of what was cached before this was a parameter
                del recipe["params"]["precision"]
        return recipe

    def weights(self) -> list[WeightsSource]:
        """See `BaseEncoder.weights`."""
        kind, token = type(self).__name__, _model_token(self.model)
        if token in PACKAGED:
            return [WeightsSource.packaged(kind, token)]
        return [WeightsSource(kind, "model", os.fspath(self.model), _find_folder(self.model))]

    def _check_params(self) -> None:
        self._batch_size()
        choices = (("pooling", (None, *POOLINGS)), ("long_texts", _LONG_TEXTS), ("precision", _PRECISIONS))
        for name, values in choices:
            value = getattr(self, name)
            if not any(value is known or (isinstance(value, str) and value == known) for known in values):
                close = difflib.get_close_matches(str(value), [known for known in values if known], n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"{_NEEDED_BY}: {name} must be one of {list(values)}; got {value!r}.{hint}")
        if self.precision == "int8" and self.device not in ("auto", "cpu"):
            raise ValueError(f'{_NEEDED_BY}: precision="int8" runs on device="cpu" only; got {self.device!r}.')
        if self.device not in ("auto", "cpu"):  # these two always work; asking torch costs seconds of import
            resolve_device(self.device, needed_by=_NEEDED_BY)

    def _vectors(self, frame: pd.DataFrame, column: str) -> tuple[np.ndarray, list[BadRow]]:
        _call.cut = set()
        result = super()._vectors(frame, column)
        if n_cut := len(_call.cut):
            warnings.warn(
                f"{type(self).__name__} cut {n_cut} texts of column {column!r} at the {_call.limit} tokens that the "
                f'model {os.fspath(self.model)!r} reads; what comes after does not count. Pass long_texts="chunk" to '
                "read all of them.",
                UserWarning,
                stacklevel=5,
            )
        _call.cut = set()
        return result

    def _network(self) -> SentenceNetwork | StaticNetwork:
        token, pooling = _model_token(self.model), self.pooling
        if token not in PACKAGED and is_static_folder(folder := _find_folder(self.model)):
            if pooling is not None:
                raise ValueError(
                    f"{_NEEDED_BY}: the model {os.fspath(self.model)!r} does not take pooling={pooling!r}: it averages "
                    "the vectors of tokens by nature. Pass pooling=None."
                )
            if self.precision != "float32":
                raise ValueError(
                    f"{_NEEDED_BY}: the model {os.fspath(self.model)!r} takes no precision={self.precision!r}: it "
                    'multiplies no matrices. Pass precision="float32".'
                )
            return shared_network(("text", token), lambda: StaticNetwork(folder, needed_by=_NEEDED_BY))
        is_int8 = self.precision == "int8"
        device = "cpu" if is_int8 else resolve_device(self.device, needed_by=_NEEDED_BY)
        return shared_network(
            ("text", token, pooling, device, self.precision),
            lambda: SentenceNetwork(
                packaged_path(token, needed_by=_NEEDED_BY) if token in PACKAGED else _find_folder(self.model),
                pooling=pooling,
                device=device,
                name=os.fspath(self.model),
                needed_by=_NEEDED_BY,
                token=f"text {token} {pooling}" if is_int8 else None,
            ),
        )


def _model_token(model: Any) -> str:
    """What stands for the model in the cache key: a packaged name, or a digest of its folder."""
    if isinstance(model, str) and model.removeprefix(f"{_HUB_ORGANISATION}/") in _PACKAGED_TEXT_MODELS:
        return model.removeprefix(f"{_HUB_ORGANISATION}/")
    return folder_digest(_find_folder(model))


def _find_folder(model: Any) -> Path:
    """The folder of a model that is not packaged."""
    return find_model_folder(
        model,
        needed_by=_NEEDED_BY,
        packaged=_PACKAGED_TEXT_MODELS,
        marks=("modules.json", "config.json"),
        organisation=_HUB_ORGANISATION,
    )
