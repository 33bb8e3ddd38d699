"""Texts to vectors with a frozen sentence encoder. Floor 2; never imports `fusion`."""

from __future__ import annotations

import contextlib
import difflib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse._optional import import_optional
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._torch import resolve_device, shared_network
from ensemblefuse.encoders._weights import PACKAGED, folder_digest, packaged_path
from ensemblefuse.exceptions import BadRow

__all__ = ["TextEncoder"]

_NEEDED_BY = "TextEncoder"
_PACKAGED_TEXT_MODELS = ("all-MiniLM-L6-v2",)
_HUB_ORGANISATION = "sentence-transformers"
# Texts cut in the `_vectors` call that this thread is in.
_call = threading.local()


class TextEncoder(BaseEncoder):
    """Embed texts with a pretrained sentence encoder. Fitting trains nothing, and nothing is downloaded.

    The embedding is what sentence-transformers' own ``encode`` gives, in float32 (a model stored in half precision
    is raised to float32 first). A text longer than the model reads, `max_seq_length` tokens (256 for the default),
    is cut there: its beginning alone counts, and one warning a call says how many of the newly encoded texts were
    cut. Split long documents into rows beforehand if their ends matter.

    Parameters
    ----------
    model : str or path, default="all-MiniLM-L6-v2"
        - ``"all-MiniLM-L6-v2"`` [1]_ [2]_, 384 dimensions, Apache-2.0, English: it comes inside an installed package.
        - A folder: of sentence-transformers, or a plain Hugging Face model, whose token vectors are then averaged.
          A name that is packaged too is taken from the package; write ``"./name"`` for the folder.
        - A hub name such as ``"org/name"`` that is in the local Hugging Face cache; a name without an organisation is
          also looked for under ``sentence-transformers/``. The hub itself is never asked.

        Code that comes with a model is not run.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU. Not part of the cache key.
    batch_size : int, default=32
        Texts that go through the network at once. Not part of the cache key.
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
        a device that is not there.
    ImportError
        From `fit` and `transform`: sentence-transformers, or the package that carries the weights, is not installed.

    Notes
    -----
    A cell is a str. An empty text, or one of white space alone, is a bad row: an embedding of nothing is the same
    for every such row, and a model would learn from it that the text is missing. Use None for a missing text.

    References
    ----------
    .. [1] N. Reimers and I. Gurevych. Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks. EMNLP 2019.
    .. [2] W. Wang et al. MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
       Transformers. NeurIPS 2020.

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

    def __init__(
        self,
        model: str | os.PathLike[str] = "all-MiniLM-L6-v2",
        *,
        device: str = "auto",
        batch_size: int = 32,
        on_error: str = "raise",
    ):
        self.model = model
        self.device = device
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
        model, lock = self._network()
        # A model of several modalities would take a text such as "cat.png" for the name of a file.
        inputs = items if set(getattr(model, "modalities", ["text"])) <= {"text"} else [{"text": t} for t in items]
        with lock:  # a fast tokenizer holds its truncation in itself: two threads would fail with "Already borrowed"
            _call.n_cut = getattr(_call, "n_cut", 0) + _count_cut(model, items)
            _call.limit = getattr(model, "max_seq_length", None)
            vectors = model.encode(inputs, batch_size=self._batch_size(), show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return "a"

    def prepare(self) -> None:
        """Check the parameters and load the network, once a process for one model and device."""
        self._network()

    def recipe(self) -> dict[str, Any] | None:
        """What the embeddings depend on: class, version, and the packaged model's name or the folder's digest.

        Returns
        -------
        dict
            No path in it: the same model in another place makes the same embeddings.
        """
        self._batch_size()
        if self.device not in ("auto", "cpu"):  # these two always work; asking torch costs seconds of import
            resolve_device(self.device, needed_by=_NEEDED_BY)
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"]["model"] = _model_token(self.model)
        return recipe

    def _vectors(self, frame: pd.DataFrame, column: str) -> tuple[np.ndarray, list[BadRow]]:
        _call.n_cut = 0
        result = super()._vectors(frame, column)
        if _call.n_cut:
            warnings.warn(
                f"{type(self).__name__} cut {_call.n_cut} texts of column {column!r} at the {_call.limit} tokens that "
                f"the model {os.fspath(self.model)!r} reads; what comes after does not count.",
                UserWarning,
                stacklevel=4,
            )
        return result

    def _network(self) -> tuple[Any, Any]:
        token = _model_token(self.model)
        device = resolve_device(self.device, needed_by=_NEEDED_BY)
        return shared_network(("text", token, device), lambda: _build(self.model, device))


def checked_text(cell: Any) -> str:
    """`cell` if it is a text that holds something; `TypeError` or `ValueError` otherwise."""
    if not isinstance(cell, str):
        raise TypeError(f"expected text, got {type(cell).__name__}")
    if not cell.strip():
        raise ValueError("empty text")
    cell.encode()  # a lone surrogate is refused here, before it costs the whole batch
    return str(cell)


def _model_token(model: Any) -> str:
    """What stands for the model in the cache key: a packaged name, or a digest of its folder."""
    if isinstance(model, str) and model.removeprefix(f"{_HUB_ORGANISATION}/") in _PACKAGED_TEXT_MODELS:
        return model.removeprefix(f"{_HUB_ORGANISATION}/")
    return folder_digest(_find_folder(model))


def _find_folder(model: Any) -> Path:
    """The folder of a model that is not packaged."""
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"{_NEEDED_BY}: model must be a name or a folder; got {model!r}.")
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
            raise ValueError(f"{_NEEDED_BY}: the folder {str(model)!r} holds no modules.json and no config.json.")
        return folder
    hub_folder = _find_in_hub_cache(model) if isinstance(model, str) else None
    if hub_folder is not None:
        return hub_folder
    cache, cached_names = _hub_cache()
    known = [*_PACKAGED_TEXT_MODELS, *cached_names]
    short = {name.split("/")[-1].lower(): name for name in known}
    close = difflib.get_close_matches(Path(model).name.lower(), short, n=1)
    hint = f" Did you mean {short[close[0]]!r}?" if close else ""
    raise ValueError(
        f"{_NEEDED_BY}: unknown model {os.fspath(model)!r}.{hint} It is no packaged model "
        f"({', '.join(_PACKAGED_TEXT_MODELS)}), no folder below {os.getcwd()}, and not in the Hugging Face cache "
        f"{cache} ({len(cached_names)} models). Nothing is downloaded: fetch it first, for instance with "
        "huggingface_hub.snapshot_download, or pass its folder."
    )


def _find_in_hub_cache(name: str) -> Path | None:
    hub = import_optional("huggingface_hub", package="huggingface-hub", needed_by=_NEEDED_BY)
    candidates = [name] if "/" in name else [name, f"{_HUB_ORGANISATION}/{name}"]
    for candidate in candidates:
        with contextlib.suppress(OSError, ValueError):  # not cached; not a possible name
            folder = Path(hub.snapshot_download(candidate, cache_dir=_hub_cache()[0], local_files_only=True))
            if (folder / "modules.json").is_file() or (folder / "config.json").is_file():
                return folder
    return None


def _hub_cache() -> tuple[Path, list[str]]:
    """The cache folder of huggingface_hub, and the names of the models in it."""
    constants = import_optional("huggingface_hub.constants", package="huggingface-hub", needed_by=_NEEDED_BY)
    folder = Path(constants.HF_HUB_CACHE)
    names = [p.name.removeprefix("models--").replace("--", "/") for p in folder.glob("models--*")]
    return folder, sorted(names)


def _build(model: Any, device: str) -> tuple[Any, Any]:
    """The sentence-transformers model, and the lock that its tokenizer needs."""
    library = import_optional("sentence_transformers", package="sentence-transformers", needed_by=_NEEDED_BY)
    token = _model_token(model)
    folder = packaged_path(token, needed_by=_NEEDED_BY) if token in PACKAGED else _find_folder(model)
    try:
        with _quiet():
            network = library.SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False
            )
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{_NEEDED_BY}: sentence-transformers cannot load the model {os.fspath(model)!r} from its folder "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})."
        ) from error
    return network.float().eval(), threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no chatter of transformers; its settings are the user's again afterwards."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _count_cut(model: Any, texts: list[str]) -> int:
    """How many texts have more tokens than the model reads."""
    from transformers import PreTrainedTokenizerBase

    limit, tokenizer = getattr(model, "max_seq_length", None), getattr(model, "tokenizer", None)
    if not isinstance(limit, int) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        return 0
    # A token takes at least one byte, and two more mark the ends: shorter texts need no counting.
    long = [text for text in texts if len(text.encode()) + 2 > limit]
    if not long:
        return 0
    return sum(len(ids) > limit for ids in tokenizer(long, truncation=False, verbose=False)["input_ids"])
