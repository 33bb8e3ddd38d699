"""Scaling of blocks with different widths and units, so that they become comparable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.blocks import find_blocks
from ensemblefuse.features import few_rows

__all__ = ["BlockScaler"]

_METHODS = ("equal", "mfa", "frobenius", "unit", None)
# A column counts as constant if its standard deviation is below this share of its mean: such a spread may be rounding
# error. The bound for float64 is half of its digits, because the values may have been computed in float32.
_CONSTANT = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-8}
_BATCH = 128


class BlockScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Standardise each column, then scale each block so that no modality dominates because it has many columns.

    NaN stays NaN and is ignored in the statistics. A column counts as constant if its standard deviation is below 1e-8
    of its mean (1e-6 in float32). It is centred but not scaled, because scaling would enlarge small differences in new
    rows too much. A column with a mean near 0 is always scaled: it may just be in small units.

    Parameters
    ----------
    method : {"equal", "mfa", "frobenius", "unit", None}
        ``"equal"``: every block gets the same total variance, the mean number of columns per block.
        ``"mfa"``: divide by the block's first singular value. ``"frobenius"``: divide by its Frobenius norm.
        ``"unit"``: every row of a block gets length 1. None: only standardise. A row that is partly NaN counts with its
        other cells.
    weights : dict of str to float, optional
        Weight of each block; 1 for blocks that are not named. A linear kernel of the result is the weighted sum of the
        blocks' kernels.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    scaler_ : StandardScaler
    scale_ : dict of str to float
        Factor of each block. With ``"unit"``, it is applied after the rows are scaled to length 1.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Escofier and Pagès, multiple factor analysis, 1983 (``"mfa"``).

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import BlockScaler
    >>> X = pd.DataFrame({"a__0": [0.0, 2.0], "b__0": [0.0, 2.0], "b__1": [0.0, 4.0], "b__2": [2.0, 0.0]})
    >>> BlockScaler().fit(X).scale_
    {'a': 1.414..., 'b': 0.816...}
    """

    def __init__(self, method="equal", *, weights=None, blocks=None):
        self.method = method
        self.weights = weights
        self.blocks = blocks

    @plain_inside
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find the blocks, and learn means and scales.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : ignored
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self
        """
        if self.method not in _METHODS:
            raise ValueError(f"method must be one of {_METHODS}; got {self.method!r}.")
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        self.blocks_ = find_blocks(getattr(self, "feature_names_in_", range(X.shape[1])), self.blocks)
        weights = self._block_weights()
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        with np.errstate(invalid="ignore", divide="ignore"):  # a block without any present row has no mean
            self.scaler_ = StandardScaler().fit(X, sample_weight=weight)
            self.scaler_.scale_[np.sqrt(self.scaler_.var_) <= _CONSTANT[X.dtype] * np.abs(self.scaler_.mean_)] = 1.0
        mean_width = float(np.mean([len(columns) for columns in self.blocks_.values()]))
        self.scale_ = {
            name: float(np.sqrt(weights[name]) * self._factor(X, columns, weight, mean_width))
            for name, columns in self.blocks_.items()
        }
        return self

    def _block_weights(self) -> dict[str, float]:
        given = self.weights or {}
        if not isinstance(given, Mapping):
            raise ValueError(f"weights must be a dict of block name to number; got {self.weights!r}.")
        unknown = sorted(set(given) - set(self.blocks_))
        if unknown:
            raise ValueError(f"weights names unknown blocks {unknown}; X has the blocks {list(self.blocks_)}.")
        weights = {name: float(given.get(name, 1.0)) for name in self.blocks_}
        if any(not np.isfinite(w) or w < 0 for w in weights.values()):
            raise ValueError(f"weights must be finite and at least 0; got {self.weights!r}.")
        return weights

    def _factor(self, X: np.ndarray, columns: np.ndarray, weight: np.ndarray | None, mean_width: float) -> float:
        if self.method == "equal":
            return np.sqrt(mean_width / len(columns))
        if self.method not in ("mfa", "frobenius"):
            return 1.0
        block = X[:, columns]
        present = ~np.isnan(block).all(axis=1)
        if not present.any():
            return 1.0
        rows = np.ones(present.sum()) if weight is None else weight[present]
        Z = (block[present] - self.scaler_.mean_[columns]) / self.scaler_.scale_[columns]
        Z = np.nan_to_num(Z, copy=False, nan=0.0) * np.sqrt(rows)[:, None]
        norm = np.linalg.norm(Z) if self.method == "frobenius" else np.linalg.norm(Z, 2) / np.sqrt(rows.sum())
        return float(1 / norm) if norm > 0 else 1.0

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Scale new rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self, "scale_")
        array = few_rows.checked_floats(self, X)
        Z = self.scaler_.transform(array, copy=False) if _is_own(array, X) else few_rows.transform(self.scaler_, array)
        if self.method == "unit":
            self._to_unit_length(Z)
        factors = np.empty(Z.shape[1], dtype=Z.dtype)
        for name, columns in self.blocks_.items():
            factors[columns] = self.scale_[name]
        Z *= factors
        return Z

    def _to_unit_length(self, Z: np.ndarray) -> None:
        """Scale the rows of each block to length 1, in place and in batches to save memory."""
        for batch in gen_batches(len(Z), _BATCH):
            for columns in self.blocks_.values():
                norm = np.sqrt(np.nansum(Z[batch, columns] ** 2, axis=1, keepdims=True))
                Z[batch, columns] /= np.where(norm == 0, 1.0, norm)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _is_own(array: np.ndarray, X) -> bool:
    """Return whether an array is a copy of X, so that it may be overwritten."""
    if isinstance(X, pd.DataFrame):
        # If the frame keeps its columns in one array, its first column shows whether memory is shared. If it has
        # several arrays, pandas has copied.
        return array.flags.writeable and not np.may_share_memory(array, X.iloc[:, 0].to_numpy())
    return array is not X and array.base is None
