"""Principal components of each block."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.features import few_rows
from ensemblefuse.features._block_transformer import (
    BlockTransformer,
    block_values,
    numbered,
    rows_to_learn_from,
    spread,
)

__all__ = ["BlockPCA"]

_DEFAULT = 0.95
# Of the precision of the numbers: values that differ by less than this differ by rounding.
_ROUNDING = 20


class BlockPCA(BlockTransformer):
    """Principal components of each block, learned on the rows in which it is present.

    In a row without the block, the components of the block are NaN. Columns are centred, but not scaled.

    Parameters
    ----------
    n_components : int, float, None or dict of str to these
        A whole number of components, limited by the block's rank; or the share of variance to keep, between 0 and 1; or
        None for all. Blocks that a dict does not name keep 0.95 of their variance. Directions in which rows differ by
        rounding alone are no components.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.
    random_state : int, RandomState or None
        Seed for the randomised solver. `PCA` uses it to find few components of a large block.

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    pcas_ : dict of str to PCA
        One for each block that is present in at least 2 rows. Every other block gives one column of NaN.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        If a row of a block is partly NaN, or if no block is present in 2 rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import BlockPCA
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0], "image__1": [0.0, 2.0, 4.0], "text__0": [1.0, None, 3.0]})
    >>> BlockPCA().set_output(transform="pandas").fit_transform(X).round(2)
       image__pca0  text__pca0
    0        -2.24        -1.0
    1         0.00         NaN
    2         2.24         1.0
    """

    def __init__(self, n_components=_DEFAULT, *, blocks=None, random_state=None):
        self.n_components = n_components
        self.blocks = blocks
        self.random_state = random_state

    @plain_inside
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the components.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self
        """
        blocks = self._read(X, reset=True)
        wanted = block_values(self.n_components, blocks.names, "n_components", _DEFAULT)
        for value in wanted.values():
            _check_count(value)
        # One seed for all blocks, so that their order has no effect.
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.pcas_ = {}
        for name, rows in rows_to_learn_from(self, blocks).items():
            count = min(wanted[name], *rows.shape) if isinstance(wanted[name], Integral) else wanted[name]
            self.pcas_[name] = _pca(count, seed, rows)
        return self

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Compute the components of new rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        return self._map_blocks(X, self._components)

    def _components(self, name: str, part: np.ndarray, there: np.ndarray) -> np.ndarray:
        if name not in self.pcas_ or not there.any():
            return np.full((len(part), self._widths()[name]), np.nan, dtype=part.dtype)
        return spread(few_rows.transform(self.pcas_[name], part[there]), there, part.dtype)

    def _widths(self) -> dict[str, int]:
        return {name: self.pcas_[name].n_components_ if name in self.pcas_ else 1 for name in self.blocks_}

    def _names_out(self) -> list[str]:
        return numbered({name: int(width) for name, width in self._widths().items()}, "pca")


def _pca(count: Any, seed: int, rows: np.ndarray) -> PCA:
    """Fit a PCA, with no component along which the rows differ by rounding alone.

    New rows may differ along it by more, and whatever standardises the components would make that a huge number.
    """
    with np.errstate(invalid="ignore"):  # a constant block has variance 0, and PCA divides by it
        pca = PCA(count, random_state=seed).fit(rows)
        spread = pca.transform(rows).std(axis=0)
        # Each column is rounded by its own size, and the components by the largest of them.
        sizes = np.square(pca.components_, dtype=float) @ np.square(rows, dtype=float).mean(axis=0)
        rounding = _ROUNDING * np.finfo(rows.dtype).eps * np.maximum(np.sqrt(sizes), spread.max())
        rank = max(1, int((spread > rounding).sum()))
        return PCA(rank, random_state=seed).fit(rows) if rank < pca.n_components_ else pca


def _check_count(value) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
    share = isinstance(value, (float, np.floating)) and 0 < value < 1
    if not (value is None or whole or share):
        raise ValueError(
            f"n_components must be a whole number from 1, a share of variance between 0 and 1, or None; got {value!r}."
        )
