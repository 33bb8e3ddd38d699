"""Text models of sentence-transformers: pooling, texts in windows, 8-bit weights."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.backbones.forward import onnx_session, quiet_translation
from ensemblefuse.backbones.hub import quiet_transformers
from ensemblefuse.backbones.quantised import int8_onnx, kept

if TYPE_CHECKING:
    import torch

__all__ = ["OVERLAP", "POOLINGS", "SentenceNetwork", "a_beginning"]

POOLINGS = ("mean", "cls", "max")
_FIRST_PART = 2**14  # characters
_MARGIN = 32  # tokens that may depend on the place of a cut
OVERLAP = 8  # a window begins with the last eighth of the one before


class SentenceNetwork:
    """A model of sentence-transformers, or one of transformers with a pooling layer added, in float32.

    Parameters
    ----------
    folder : Path
    pooling : {None, "mean", "cls", "max"}
        None keeps the folder's own pooling.
    device : str
    token : str or None
        For 8-bit weights: digest of the model, under which the quantised file is kept. None is float32.
    name : str
        The user's name of the model, for the messages.
    needed_by : str
        The class that the user called, for the messages.

    Attributes
    ----------
    limit : int or None
        Largest number of tokens that the model reads, special tokens included; None if there is no limit.

    Raises
    ------
    ImportError
        If sentence-transformers is not installed.
    ValueError
        If the folder cannot be loaded, or the model does not support the pooling.
    """

    def __init__(
        self, folder: Path, *, pooling: str | None, device: str, name: str, needed_by: str, token: str | None = None
    ):
        self._name, self._needed_by = name, needed_by
        self._model = _load(folder, device, name, needed_by)
        if pooling is not None:
            self._set_pooling(pooling)
        tokenizer, limit = getattr(self._model, "tokenizer", None), getattr(self._model, "max_seq_length", None)
        self._tokenizer: Any = tokenizer if hasattr(tokenizer, "num_special_tokens_to_add") else None
        self.limit: int | None = limit if isinstance(limit, int) and self._tokenizer is not None else None
        # A fast tokenizer stores its truncation in itself: two threads would fail with "Already borrowed".
        self._lock = threading.Lock()
        if token is not None:
            self._quantise(token)

    def onnx(self) -> bytes:
        """Return the network from tokens to vectors, as ONNX, for any number of texts of any length.

        The inputs are those of `tokens`, each of shape (n, n_tokens) and dtype int64. The output ``embedding`` has
        shape (n, n_dims).

        Raises
        ------
        ValueError
            If the model has no tokenizer, or puts a prompt before every text.
        """
        self._refuse_prompt("be written as ONNX")
        return _to_onnx(self._model, self._tokenizer)

    def stages(self) -> list[torch.nn.Module]:
        """Return the network as stages, which share its layers; see `text_stages.cut_text`.

        Raises
        ------
        ValueError
            If the model has no tokenizer, or puts a prompt before every text.
        """
        from ensemblefuse.backbones.text_stages import cut_text

        self._refuse_prompt("be trained")
        return cut_text(self._model, self._tokenizer, self.tokens(["a", "b c d"]))

    def _refuse_prompt(self, what: str) -> None:
        if self._tokenizer is None or self._model.default_prompt_name is not None:
            raise ValueError(
                f"{self._needed_by}: the model {self._name!r} cannot {what}: it has no tokenizer, or puts a prompt "
                "before every text."
            )

    @property
    def special(self) -> list[int]:
        """Tokens that stand for no part of a text, such as the one at its beginning."""
        return list(self._tokenizer.all_special_ids)

    def tokens(self, texts: list[str], most: int | None = None) -> dict[str, np.ndarray]:
        """Return the inputs of the network of `onnx` for these texts, padded to the longest and cut at `limit`.

        With `most`, they are cut at this number of tokens if it is lower.
        """
        limit = min((n for n in (self.limit, most) if n is not None), default=None)
        with self._lock:
            encoded = self._tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="np")
        return {name: encoded[name] for name in self._tokenizer.model_input_names if name in encoded}

    def _quantise(self, token: str) -> None:
        """Run the network by ONNX Runtime from now on, each text alone and without padding; see `Int8Forward`."""
        import torch

        make = lambda: int8_onnx(self.onnx(), needed_by=self._needed_by)
        session = onnx_session(kept(make, token))
        names = [entry.name for entry in session.get_inputs()]

        def forward(features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            vectors = []
            for row, there in enumerate(features["attention_mask"].bool()):
                tokens = {name: features[name][row][there][None].numpy() for name in names}
                vectors.append(session.run(None, tokens)[0])
            return {**features, "sentence_embedding": torch.from_numpy(np.concatenate(vectors))}

        self._model.forward = forward

    def check_windows(self) -> None:
        """Raise ValueError if the model cannot read a long text in windows."""
        if self.limit is None:
            return
        if not self._tokenizer.is_fast:
            reason = "its tokenizer is not a fast one"
        elif self._model.default_prompt_name is not None:
            reason = f"it puts the prompt {self._model.default_prompt_name!r} before every text"
        elif self.limit <= self._n_special:
            reason = f"it reads {self.limit} tokens"
        else:
            return
        raise ValueError(
            f"{self._needed_by}: the model {self._name!r} cannot read long texts in windows, because {reason}. Pass "
            'long_texts="cut".'
        )

    def is_long(self, texts: list[str]) -> list[bool]:
        """Return which texts have more tokens than the model reads."""
        limit = self.limit
        if limit is None:
            return [False] * len(texts)
        prompt = self._model.prompts.get(self._model.default_prompt_name, "")
        texts = [prompt + text for text in texts]
        # A token takes at least one byte, so shorter texts need not be counted.
        maybe = [text for text in texts if len(text.encode()) + self._n_special > limit]
        if not maybe:
            return [False] * len(texts)
        with self._lock:
            counts = [len(ids) for ids in self._tokenizer(maybe, truncation=False, verbose=False)["input_ids"]]
        length_of = dict(zip(maybe, counts, strict=True))
        return [length_of.get(text, 0) > limit for text in texts]

    def beginning(self, text: str, most: int) -> str:
        """Return a beginning of a text that has more tokens than the model reads, and so gives the same vector.

        Parameters
        ----------
        text : str
        most : int
            Largest number of characters of the beginning.

        Returns
        -------
        str
            The whole text, if the model reads it whole or no such beginning has so few characters.
        """
        if self.limit is None:
            return text
        return a_beginning(text, most, self.limit, self._n_tokens)

    def _n_tokens(self, text: str) -> int:
        with self._lock:
            return len(self._tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return the result of the library's own ``encode``, which cuts texts at `limit`."""
        # A model of several modalities would take a text such as "cat.png" as the name of a file.
        is_text_model = set(getattr(self._model, "modalities", ["text"])) <= {"text"}
        inputs: list[Any] = list(texts) if is_text_model else [{"text": text} for text in texts]
        with self._lock:
            vectors = self._model.encode(inputs, batch_size=batch_size, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def encode_windows(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return the mean over each text's windows, weighted by their tokens; of length 1 if the model's vectors are.

        A window has as many tokens as the model reads, and begins with the last eighth of the one before.
        """
        assert self.limit is not None
        with self._lock:
            encoded = self._tokenizer(
                [self._lowered(text) for text in texts],
                truncation=True,
                max_length=self.limit,
                stride=(self.limit - self._n_special) // OVERLAP,
                return_overflowing_tokens=True,
                padding="longest",
                verbose=False,
            )
        text_of = np.array(encoded.pop("overflow_to_sample_mapping"))
        weights = np.array(encoded["attention_mask"]).sum(axis=1) - self._n_special
        parts = [self._forward(encoded, start, batch_size) for start in range(0, len(text_of), batch_size)]
        windows = np.concatenate(parts).astype(np.float64)
        sums = np.zeros((len(texts), windows.shape[1]))
        np.add.at(sums, text_of, windows * weights[:, None])
        vectors = sums / np.bincount(text_of, weights=weights, minlength=len(texts))[:, None]
        if any(type(module).__name__ == "Normalize" for module in self._model.children()):
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    def token_vectors(self, texts: list[str], batch_size: int) -> list[np.ndarray]:
        """Return for each text the last hidden states of its tokens, special ones too; texts are cut at `limit`.

        Returns
        -------
        list of ndarray of shape (n_tokens, width), dtype float32

        Raises
        ------
        ValueError
            If the model has no tokenizer, or no vectors of tokens.
        """
        if self._tokenizer is None:
            raise self._without_tokens()
        prompt = self._model.prompts.get(self._model.default_prompt_name, "")
        with self._lock:
            encoded = self._tokenizer(
                [self._lowered(prompt + text) for text in texts],
                truncation=self.limit is not None,
                max_length=self.limit,
                padding="longest",
                verbose=False,
            )
        there = np.array(encoded["attention_mask"], dtype=bool)
        states: list[np.ndarray] = []
        for start in range(0, len(texts), batch_size):
            states.extend(self._forward(encoded, start, batch_size, "token_embeddings"))
        return [own[mask] for own, mask in zip(states, there, strict=True)]

    def _without_tokens(self) -> ValueError:
        return ValueError(
            f'{self._needed_by}: the model {self._name!r} gives no vectors of tokens; pass output="pooled".'
        )

    @property
    def _n_special(self) -> int:
        return int(self._tokenizer.num_special_tokens_to_add())

    def _lowered(self, text: str) -> str:
        return text.lower() if any(getattr(m, "do_lower_case", False) for m in self._model.children()) else text

    def _forward(self, encoded: Any, start: int, size: int, output: str = "sentence_embedding") -> np.ndarray:
        import torch

        names = [name for name in self._tokenizer.model_input_names if name in encoded]
        features = {n: torch.tensor(encoded[n][start : start + size], device=self._model.device) for n in names}
        with torch.inference_mode():
            said = self._model(features)
        if output not in said:
            raise self._without_tokens()
        return said[output].float().cpu().numpy()

    def _set_pooling(self, pooling: str) -> None:
        """Replace the model's pooling layer."""
        layers = {name: m for name, m in self._model.named_children() if type(m).__name__ == "Pooling"}
        wrong = f"{self._needed_by}: the model {self._name!r} does not take pooling={pooling!r}"
        if len(layers) != 1:
            raise ValueError(f"{wrong}: it has no vectors of tokens. Pass pooling=None.")
        name, old = layers.popitem()
        width = getattr(old, "embedding_dimension", None) or old.word_embedding_dimension
        layer = type(old)(width, pooling_mode=pooling, include_prompt=getattr(old, "include_prompt", True))
        self._model._modules[name] = layer.to(self._model.device)
        try:
            self._model.encode(["a"], show_progress_bar=False)
        except RuntimeError as error:  # a later layer needs another width
            raise ValueError(f"{wrong}: the layers after it need another width. Pass pooling=None.") from error


def a_beginning(text: str, most: int, limit: int, n_tokens: Callable[[str], int]) -> str:
    """Return a beginning of a text with more than `limit` tokens, or the whole text; see `SentenceNetwork.beginning`.

    `n_tokens` counts the tokens of a part.
    """
    size = min(_FIRST_PART, most)
    while size < len(text):
        part = text[:size]
        # Cut behind a word: the tokens before it do not depend on what follows.
        part = part[: len(part.rstrip()) - len(part.split()[-1])] if len(part.split()) > 1 else part
        if n_tokens(part) > limit + _MARGIN:
            return part
        if size == most:
            break
        size = min(4 * size, most)
    return text


def _to_onnx(model: Any, tokenizer: Any) -> bytes:
    import torch

    example = tokenizer(["a", "b c"], padding=True, return_tensors="pt")
    names = [name for name in tokenizer.model_input_names if name in example]

    class Embedder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = model

        def forward(self, *tokens: torch.Tensor) -> torch.Tensor:
            return self.body(dict(zip(names, tokens, strict=True)))["sentence_embedding"]

    buffer: Any = io.BytesIO()
    axes = {**{name: {0: "n", 1: "n_tokens"} for name in names}, "embedding": {0: "n"}}
    tokens = tuple(example[name].to(model.device) for name in names)
    with torch.inference_mode(), quiet_translation():
        torch.onnx.export(
            Embedder(), tokens, buffer, dynamo=False, input_names=names, output_names=["embedding"], dynamic_axes=axes
        )
    return buffer.getvalue()


def _load(folder: Path, device: str, name: str, needed_by: str) -> Any:
    import torch

    library = import_optional("sentence_transformers", package="sentence-transformers", needed_by=needed_by)
    try:
        # Weights that a checkpoint lacks, such as BERT's pooler, are random. Keep the user's generator unchanged.
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model = library.SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False
            )
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{needed_by}: sentence-transformers cannot load the model {name!r} from its folder "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})."
        ) from error
    return model.float().eval().requires_grad_(False)
