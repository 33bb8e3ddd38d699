"""The base class of the transformers of blocks, and functions that they share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from ensemblefuse.blocks import SEPARATOR, Blocks, find_blocks, read_block
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features import few_rows
from ensemblefuse.table import check_flat

__all__ = ["BlockTransformer", "block_values", "check_names", "numbered", "rows_to_learn_from", "spread"]


class BlockTransformer(TransformerMixin, BaseEstimator):
    """Base class of transformers that read a table of named blocks.

    A subclass has a parameter `blocks` and defines `fit` and `transform`. Both call ``self._read(X, reset=...)``, with
    ``reset=True`` in `fit`. This returns a `Blocks` with an array of shape (n_samples, n_columns) for each block. In
    `fit` it also sets `blocks_`. `transform` returns an array of shape (n_samples, n_features_out). The hook
    ``_names_out()`` returns the n_features_out names of its columns, as a list of str.
    """

    def _read(self, X: Any, *, reset: bool) -> Blocks:
        """Return the blocks of X. Raise an error if a row of a block is partly NaN."""
        check_flat(X)
        if not reset:
            array = few_rows.checked_floats(self, X)
        else:
            array = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
            self.blocks_ = find_blocks(getattr(self, "feature_names_in_", range(array.shape[1])), self.blocks)
        labels = X.index.tolist() if isinstance(X, pd.DataFrame) else list(range(len(array)))
        data, present = {}, []
        for name, columns in self.blocks_.items():
            data[name], there = read_block(name, array[:, columns], labels, raw=False, allow_partial=False)
            present.append(there)
        return Blocks(data, np.array(present), labels)

    def _map_blocks(self, X: Any, compute: Callable[[str, np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return ``compute(name, block, present)`` of all blocks side by side."""
        blocks = self._read(X, reset=False)
        parts = zip(blocks.data.items(), blocks.present, strict=True)
        return np.hstack([compute(name, part, there) for (name, part), there in parts])

    def _names_out(self) -> list[str]:
        """Return the names of the columns that `transform` gives."""
        raise NotImplementedError

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the output columns.

        Parameters
        ----------
        input_features : array of shape (n_features,), optional
            Names to compare with those seen in fit. They have no other effect.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array(self._names_out(), dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A row that is NaN in all columns of a block is always accepted; NaN beside numbers never is.
        tags.input_tags.allow_nan = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def check_names(given: Any, names: list[str], what: str) -> None:
    """Raise an error if `given` names a block that X does not have."""
    unknown = sorted(set(given) - set(names), key=str)
    if unknown:
        raise ValueError(f"{what} names unknown blocks {unknown}; X has the blocks {names}.")


def block_values(value: Any, names: list[str], what: str, default: Any) -> dict[str, Any]:
    """Return one value per block, from one value for all blocks or from a dict.

    Blocks that the dict leaves out get the default.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    check_names(value, names, what)
    return {name: value.get(name, default) for name in names}


def rows_to_learn_from(transformer: Any, blocks: Blocks) -> dict[str, np.ndarray]:
    """Return the present rows of each block that has at least two.

    Warn about the other blocks. Raise an error if no block has two rows.
    """
    counts = dict(zip(blocks.names, blocks.present.sum(axis=1).tolist(), strict=True))
    rows = {n: blocks.data[n][there] for n, there in zip(blocks.names, blocks.present, strict=True) if counts[n] >= 2}
    if not rows:
        raise ValueError(
            f"{type(transformer).__name__} needs a block that is present in at least 2 rows; X has "
            f"n_samples = {len(blocks)}, and its blocks are present in (block: rows) {counts}."
        )
    few = {name: count for name, count in counts.items() if count < 2}
    if few:
        warnings.warn(
            f"{type(transformer).__name__} learns nothing about blocks that are present in fewer than 2 rows "
            f"(block: rows) {few}; their output is one column of NaN.",
            MissingModalityWarning,
            stacklevel=4,
        )
    return rows


def spread(values: np.ndarray, present: np.ndarray, dtype: Any) -> np.ndarray:
    """Return an array with the values in the present rows, and NaN in the other rows."""
    out = np.full((len(present), values.shape[1]), np.nan, dtype=dtype)
    out[present] = values
    return out


def numbered(names: Mapping[str, int], kind: str) -> list[str]:
    """Return names ``block__kind0``, ``block__kind1``, ... for all columns of each block."""
    return [f"{name}{SEPARATOR}{kind}{i}" for name, width in names.items() for i in range(width)]
