"""RBF kernels of blocks, approximated by columns for a linear estimator."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.kernel_approximation import Nystroem
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.features._block_transformer import (
    BlockTransformer,
    block_values,
    numbered,
    rows_to_learn_from,
    spread,
)

__all__ = ["BlockNystroem"]

_SAMPLE = 500


class BlockNystroem(BlockTransformer):
    """Nyström features of an RBF kernel of each block. Side by side, they approximate the average of the kernels.

    Nyström features have a length of at most 1. The usual penalties of linear estimators are far too strong for them.
    So the features of each block are multiplied by a factor: their total variance becomes the mean number of output
    columns per block, as with ``BlockScaler("equal")``. Each block then contributes its kernel divided by its trace,
    and `C` means the same as for standardised columns. Put a linear estimator directly after this transformer: another
    standardisation of the columns would change the kernel. Scale columns with different units before it.

    In a row without the block, the features of the block are NaN.

    Parameters
    ----------
    n_components : int or dict of str to int
        Number of rows that span the features, at most the number of present rows. Blocks that a dict does not name get
        300.
    gamma : "median", float or dict of str to these
        Parameter of the kernel ``exp(-gamma * squared distance)``. ``"median"``: 1 / median squared distance between
        present rows, or between 500 random ones if there are more. Blocks that a dict does not name get ``"median"``.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.
    random_state : int, RandomState or None
        Seed for the choice of rows. It has no effect on a block whose present rows are all used.

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    gamma_ : dict of str to float
    scale_ : dict of str to float
        Factor of each block.
    nystroems_ : dict of str to Nystroem
        One for each block that is present in at least 2 rows. Every other block gives one column of NaN.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        If a row of a block is partly NaN, or if no block is present in 2 rows.

    References
    ----------
    Williams and Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import BlockNystroem
    >>> X = np.random.default_rng(0).normal(size=(100, 6))
    >>> blocks = {"image": slice(0, 4), "text": slice(4, 6)}
    >>> Z = BlockNystroem(20, blocks=blocks, random_state=0).fit_transform(X)
    >>> Z.shape, float(Z[:, :20].var(axis=0).sum().round(6))
    ((100, 40), 20.0)
    """

    def __init__(self, n_components=300, *, gamma="median", blocks=None, random_state=None):
        self.n_components = n_components
        self.gamma = gamma
        self.blocks = blocks
        self.random_state = random_state

    @plain_inside
    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the rows and the width of the kernels, and learn the factors.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self
        """
        blocks = self._read(X, reset=True)
        counts = block_values(self.n_components, blocks.names, "n_components", 300)
        gammas = block_values(self.gamma, blocks.names, "gamma", "median")
        for name in blocks.names:
            _check(counts[name], gammas[name])
        # One seed for all blocks, so that their order has no effect.
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.nystroems_, self.gamma_, spreads = {}, {}, {}
        for name, rows in rows_to_learn_from(self, blocks).items():
            gamma = _median_gamma(rows, seed) if gammas[name] == "median" else float(gammas[name])
            count = min(counts[name], len(rows))
            self.gamma_[name] = gamma
            # With all rows there is nothing to choose: a seed would only change the order of the columns.
            choice = seed if count < len(rows) else 0
            self.nystroems_[name] = Nystroem(gamma=gamma, n_components=count, random_state=choice).fit(rows)
            spreads[name] = self.nystroems_[name].transform(rows).var(axis=0, dtype=np.float64).sum()
        width = np.mean([nystroem.n_components for nystroem in self.nystroems_.values()])
        # If all rows are the same, the only variance is rounding error, and it must not be scaled up.
        self.scale_ = {name: float(np.sqrt(width / v)) if v > 1e-8 else 1.0 for name, v in spreads.items()}
        return self

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Compute the features of new rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        return self._map_blocks(X, self._features)

    def _features(self, name: str, part: np.ndarray, there: np.ndarray) -> np.ndarray:
        if name not in self.nystroems_ or not there.any():
            return np.full((len(part), self._widths()[name]), np.nan, dtype=part.dtype)
        return spread(self.nystroems_[name].transform(part[there]) * self.scale_[name], there, part.dtype)

    def _widths(self) -> dict[str, int]:
        return {n: self.nystroems_[n].n_components if n in self.nystroems_ else 1 for n in self.blocks_}

    def _names_out(self) -> list[str]:
        return numbered(self._widths(), "nystroem")


def _median_gamma(rows: np.ndarray, seed: int) -> float:
    if len(rows) > _SAMPLE:
        rows = rows[np.random.default_rng(seed).choice(len(rows), _SAMPLE, replace=False)]
    distances = pdist(rows, "sqeuclidean")
    # With one-hot columns, over half of the distances may be 0: then use the mean. If all are 0, any gamma will do.
    typical = np.median(distances) or distances.mean() or 1.0
    return float(1 / typical)


def _check(count, gamma) -> None:
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
        raise ValueError(f"n_components must be a whole number from 1; got {count!r}.")
    number = isinstance(gamma, (int, float, np.number)) and not isinstance(gamma, bool) and 0 < gamma < np.inf
    if not number and not (isinstance(gamma, str) and gamma == "median"):
        raise ValueError(f'gamma must be "median" or a number above 0; got {gamma!r}.')
