"""Encoders that give the vectors of a cell's tokens instead of one vector: what they pack for the cache, and unpack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.encoders._base import BaseEncoder

__all__ = ["TokenEncoder", "pack_tokens", "unpack_tokens"]

_OUTPUTS = ("pooled", "tokens")


class TokenEncoder(BaseEncoder):
    """Base of encoders with the parameters `output` and `max_tokens`.

    The cache, and all code on the way to it, keeps one vector of fixed length for each cell. So the tokens of a cell
    are packed into one: their number, the tokens one after the other, and zeros up to `max_tokens` tokens.
    """

    # For encoders that were saved before these were parameters.
    output: str = "pooled"
    max_tokens: int = 64

    @property
    def _gives_tokens(self) -> bool:
        return self.output == "tokens"

    def _given(self, vectors: np.ndarray) -> np.ndarray:
        return unpack_tokens(vectors, self.max_tokens) if self._gives_tokens else vectors

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the output columns; with ``output="tokens"``, there is one, ``"tokens"``."""
        if not self._gives_tokens:
            return super().get_feature_names_out(input_features)
        check_is_fitted(self, "n_dims_")
        return np.array(["tokens"], dtype=object)

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on; see `BaseEncoder.recipe`."""
        recipe = super().recipe()
        if recipe is not None and not self._gives_tokens:  # the same key as before these were parameters
            for name in ("output", "max_tokens"):
                recipe["params"].pop(name, None)  # a subclass may have no such parameter
        return recipe

    def _check_output(self, **needed: Any) -> None:
        """Raise an error for a wrong `output` or `max_tokens`, or a parameter that has no meaning with tokens."""
        cls, most = type(self).__name__, self.max_tokens
        if self.output not in _OUTPUTS:
            raise ValueError(f"{cls}: output must be one of {list(_OUTPUTS)}; got {self.output!r}.")
        if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 1:
            raise ValueError(f"{cls}: max_tokens must be a whole number of at least 1; got {most!r}.")
        for name, value in needed.items():
            if self._gives_tokens and getattr(self, name) != value:
                raise ValueError(f'{cls}: output="tokens" takes {name}={value!r} only; got {getattr(self, name)!r}.')


def pack_tokens(cells: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Return one row for each cell: its number of tokens, their vectors, and zeros.

    Parameters
    ----------
    cells : sequence of n ndarray of shape (n_tokens, width)
        Each with 1 to `most` tokens.
    most : int

    Returns
    -------
    ndarray of shape (n, 1 + most * width), dtype float32

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.encoders._tokens import pack_tokens, unpack_tokens
    >>> packed = pack_tokens([np.array([[0.5, 2.0]])], 2)
    >>> packed
    array([[1. , 0.5, 2. , 0. , 0. ]], dtype=float32)
    >>> unpack_tokens(packed, 2)[0, 0]
    array([[0.5, 2. ]], dtype=float32)
    """
    width = cells[0].shape[1]
    out = np.zeros((len(cells), 1 + most * width), dtype=np.float32)
    for row, tokens in zip(out, cells, strict=True):
        row[0] = len(tokens)
        row[1 : 1 + tokens.size] = tokens.ravel()
    return out


def unpack_tokens(packed: np.ndarray, most: int) -> np.ndarray:
    """Return a column of arrays of shape (n_tokens, width), None for a row of NaN; see `pack_tokens`.

    Returns
    -------
    ndarray of shape (n, 1), dtype object
    """
    out = np.empty((len(packed), 1), dtype=object)
    for i, row in enumerate(packed):
        if not np.isnan(row[0]):
            out[i, 0] = row[1:].reshape(most, -1)[: int(row[0])].copy()
    return out
