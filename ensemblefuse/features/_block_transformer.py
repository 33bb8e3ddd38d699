"""What the transformers of blocks share: reading blocks, rows without a block, names of the output."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from ensemblefuse.blocks import SEPARATOR, Blocks, find_blocks, read_block
from ensemblefuse.exceptions import MissingModalityWarning

__all__ = ["BlockTransformer", "block_values", "check_names", "numbered", "rows_to_learn_from", "spread"]


class BlockTransformer(TransformerMixin, BaseEstimator):
    """Reads a table of named blocks; a subclass defines `_names_out`."""

    def _read(self, X: Any, *, reset: bool) -> Blocks:
        """The blocks of X; a row of a block is whole, or wholly NaN."""
        array = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        if reset:
            self.blocks_ = find_blocks(getattr(self, "feature_names_in_", range(array.shape[1])), self.blocks)
        labels = X.index.tolist() if isinstance(X, pd.DataFrame) else list(range(len(array)))
        data, present = {}, []
        for name, columns in self.blocks_.items():
            data[name], there = read_block(name, array[:, columns], labels, raw=False, allow_partial=False)
            present.append(there)
        return Blocks(data, np.array(present), labels)

    def _names_out(self) -> list[str]:
        raise NotImplementedError

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the columns of the output.

        Parameters
        ----------
        input_features : array of shape (n_features,), optional
            Only checked against the names seen in fit.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array(self._names_out(), dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A block that is NaN throughout is always taken; NaN beside numbers never.
        tags.input_tags.allow_nan = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def check_names(given: Any, names: list[str], what: str) -> None:
    """Refuse what names a block that X does not have."""
    unknown = sorted(set(given) - set(names), key=str)
    if unknown:
        raise ValueError(f"{what} names unknown blocks {unknown}; X has the blocks {names}.")


def block_values(value: Any, names: list[str], what: str, default: Any) -> dict[str, Any]:
    """One value a block, from a value for all or from a dict; blocks that the dict leaves out get the default."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    check_names(value, names, what)
    return {name: value.get(name, default) for name in names}


def rows_to_learn_from(transformer: Any, blocks: Blocks) -> dict[str, np.ndarray]:
    """The present rows of each block that has two; a warning names the other blocks, an error says that none has."""
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
            f"{type(transformer).__name__} learns nothing of blocks that are present in fewer than 2 rows "
            f"(block: rows) {few}; their output is one column of NaN.",
            MissingModalityWarning,
            stacklevel=3,
        )
    return rows


def spread(values: np.ndarray, present: np.ndarray, dtype: Any) -> np.ndarray:
    """The values of the present rows in their places; the other rows are NaN."""
    out = np.full((len(present), values.shape[1]), np.nan, dtype=dtype)
    out[present] = values
    return out


def numbered(names: Mapping[str, int], kind: str) -> list[str]:
    """Names ``block__kind0``, ``block__kind1``, ... for as many columns as each block has."""
    return [f"{name}{SEPARATOR}{kind}{i}" for name, width in names.items() for i in range(width)]
