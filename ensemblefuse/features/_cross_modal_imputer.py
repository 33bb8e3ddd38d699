"""Imputation of a missing modality from the present ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
from scipy.linalg import pinvh
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics.pairwise import nan_euclidean_distances
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.blocks import SEPARATOR, Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features._block_transformer import BlockTransformer, spread
from ensemblefuse.features._cross_modal_vae import CrossModalVAE

__all__ = ["CrossModalImputer"]

_STRATEGIES = ("gaussian", "ridge", "knn", "mean", "vae")
_ALPHAS = np.logspace(-2, 5, 15)
_BATCH = 512
_KIND = "poe"  # of the three kinds of autoencoder, the best with half of the blocks missing


class CrossModalImputer(BlockTransformer):
    """Fill a block that is missing in a row from the blocks that the row holds. Present blocks are not changed.

    Each block is standardised. A block wider than `n_components` is reduced to that many principal components. The
    filled values are transformed back to the columns of the block. All strategies also work for combinations of blocks
    that did not occur in fit. A row without any block gets the means.

    Parameters
    ----------
    strategy : {"gaussian", "ridge", "knn", "mean", "vae"}
        ``"gaussian"``: the conditional mean under one Ledoit-Wolf covariance of all blocks, learned on the rows that
        hold all of them. ``"ridge"``: one ridge regression per block on all other blocks, with their gaps at the mean.
        It is learned on the rows that hold the block, with the penalty of the smallest leave-one-out error. ``"knn"``:
        the mean of the nearest rows of fit that hold the block. The distance uses the blocks that both rows hold.
        ``"mean"``: the mean of the rows that hold the block. ``"vae"``: what a `CrossModalVAE("poe")`
        generates, which reads the blocks whole. It takes some fifty times longer.
    add_indicator : bool
        Add a column ``block__missing`` for each block, 1 where it was missing. By its name it belongs to the block.
    n_components : int
        Number of principal components to which wider blocks are reduced.
    n_neighbors : int
        Number of nearest rows, for ``"knn"``.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.
    random_state : int, RandomState or None
        Seed for the randomised solver, with which `PCA` finds few components of a large block, and for ``"vae"``.

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    known_blocks_ : list of str
        Blocks that are present in some row of fit. Other blocks are filled with 0, and are not used to fill the rest.
    scalers_ : dict of str to StandardScaler
    pcas_ : dict of str to PCA
        One for each block wider than `n_components`.
    covariance_ : LedoitWolf or None
        With ``"gaussian"``. None if fewer than 2 rows hold all known blocks, or if only one block is known.
    ridges_ : dict of str to RidgeCV
        With ``"ridge"``.
    rows_ : ndarray of shape (n_samples, n_scores)
        With ``"knn"``: the rows of fit, standardised and reduced; NaN where missing.
    vae_ : CrossModalVAE
        With ``"vae"``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        If a row of a block is partly NaN, or if no row holds any block.

    References
    ----------
    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004. Conditional mean of a
    normal vector: Bishop, Pattern recognition and machine learning, 2006, equation 2.81.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from ensemblefuse import CrossModalImputer
    >>> image = np.linspace(0, 10, 101)
    >>> X = pd.DataFrame({"image__0": image, "text__0": 3 * image + 1})
    >>> X.loc[10, "text__0"] = np.nan
    >>> CrossModalImputer().fit_transform(X)[10].round(0)
    array([1., 4.])
    """

    def __init__(
        self,
        strategy="gaussian",
        *,
        add_indicator=False,
        n_components=100,
        n_neighbors=10,
        blocks=None,
        random_state=None,
    ):
        self.strategy = strategy
        self.add_indicator = add_indicator
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.blocks = blocks
        self.random_state = random_state

    @plain_inside
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn how the blocks depend on each other.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self
        """
        self._check_params()
        blocks = self._read(X, reset=True)
        self._learn_scores(blocks)
        if self.strategy == "vae":
            self._fit_vae(blocks)
            return self
        scores = self._scores(blocks)
        if self.strategy == "gaussian":
            self._fit_gaussian(scores)
        elif self.strategy == "ridge":
            self._fit_ridges(scores)
        elif self.strategy == "knn":
            self.rows_ = scores
        return self

    def _check_params(self) -> None:
        if self.strategy not in _STRATEGIES:
            raise ValueError(f"strategy must be one of {_STRATEGIES}; got {self.strategy!r}.")
        for name in ("n_components", "n_neighbors"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1; got {value!r}.")

    def _learn_scores(self, blocks: Blocks) -> None:
        """Learn means, scales and components of every block that is present in some row."""
        there = dict(zip(blocks.names, blocks.present, strict=True))
        self.known_blocks_ = [name for name in blocks.names if there[name].any()]
        unknown = [name for name in blocks.names if name not in self.known_blocks_]
        if not self.known_blocks_:
            raise ValueError(f"every block is missing in every row of X ({len(blocks)} rows); there is nothing to fit.")
        if unknown:
            warnings.warn(
                f"{type(self).__name__}: no row in fit holds the blocks {unknown}; they are filled with 0.",
                MissingModalityWarning,
                stacklevel=4,
            )
        # One seed for all blocks, so that their order has no effect.
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self.scalers_, self.pcas_, self._spans = {}, {}, {}
        start = 0
        for name in self.known_blocks_:
            rows = blocks.data[name][there[name]].astype(float)
            self.scalers_[name] = StandardScaler().fit(rows)
            count = min(self.n_components, len(rows))
            if rows.shape[1] > count:
                self.pcas_[name] = PCA(count, random_state=seed).fit(self.scalers_[name].transform(rows))
            stop = start + min(count, rows.shape[1])
            self._spans[name] = [start, stop]
            start = stop

    def _scores(self, blocks: Blocks) -> np.ndarray:
        """Return the known blocks side by side, standardised and reduced; NaN where missing."""
        parts = []
        for name, there in zip(blocks.names, blocks.present, strict=True):
            if name not in self.known_blocks_:
                continue
            start, stop = self._spans[name]
            values = np.empty((0, stop - start))
            if there.any():
                values = self.scalers_[name].transform(blocks.data[name][there].astype(float))
                values = self.pcas_[name].transform(values) if name in self.pcas_ else values
            parts.append(spread(values, there, float))
        return np.hstack(parts)

    def _restore(self, name: str, scores: np.ndarray) -> np.ndarray:
        """Compute the columns of a block from its scores."""
        values = self.pcas_[name].inverse_transform(scores) if name in self.pcas_ else scores
        return self.scalers_[name].inverse_transform(values)

    def _span(self, name: str) -> slice:
        return slice(*self._spans[name])

    def _fit_vae(self, blocks: Blocks) -> None:
        widths = [len(self.blocks_[name]) for name in self.known_blocks_]
        ends = np.cumsum(widths).tolist()
        spans = {n: list(range(end - w, end)) for n, w, end in zip(self.known_blocks_, widths, ends, strict=True)}
        self.vae_ = CrossModalVAE(_KIND, blocks=spans, random_state=self.random_state).fit(self._known(blocks))

    def _fit_gaussian(self, scores: np.ndarray) -> None:
        complete = scores[~np.isnan(scores).any(axis=1)]
        self.covariance_ = None
        if len(self.known_blocks_) == 1:
            return
        if len(complete) < 2:
            warnings.warn(
                f"{type(self).__name__}: {len(complete)} of {len(scores)} rows hold all blocks {self.known_blocks_}, "
                'too few for a covariance, so gaps are filled with means. strategy="ridge" and "knn" also learn from '
                "rows with gaps.",
                MissingModalityWarning,
                stacklevel=4,
            )
            return
        self.covariance_ = LedoitWolf().fit(complete)

    def _fit_ridges(self, scores: np.ndarray) -> None:
        filled = np.nan_to_num(scores, nan=0.0)
        self.ridges_ = {}
        for name in self.known_blocks_:
            span = self._span(name)
            there = ~np.isnan(scores[:, span.start])
            if len(self.known_blocks_) > 1 and there.sum() > 1:
                others = np.delete(filled, span, axis=1)[there]
                self.ridges_[name] = RidgeCV(_ALPHAS).fit(others, scores[there, span])

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Fill the gaps of new rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features), followed by the columns of ``add_indicator``
        """
        check_is_fitted(self)
        blocks = self._read(X, reset=False)
        dtype = np.result_type(*(part.dtype for part in blocks.data.values()))
        out = np.empty((len(blocks), self.n_features_in_), dtype=dtype)
        for name, columns in self.blocks_.items():
            out[:, columns] = blocks.data[name]
        gaps = dict(zip(blocks.names, ~blocks.present, strict=True))
        fill = self._generate(blocks) if self.strategy == "vae" else self._fill_scores(blocks)
        for name, gone in gaps.items():
            if gone.any():
                filled = fill(name, gone) if name in self.known_blocks_ else 0.0
                out[np.ix_(gone, self.blocks_[name])] = filled
        if self.add_indicator:
            out = np.hstack([out, np.column_stack(list(gaps.values())).astype(dtype)])
        return out

    def _fill_scores(self, blocks: Blocks) -> Callable[[str, np.ndarray], np.ndarray]:
        scores = self._fill(self._scores(blocks))
        return lambda name, gone: self._restore(name, scores[gone, self._span(name)])

    def _generate(self, blocks: Blocks) -> Callable[[str, np.ndarray], np.ndarray]:
        """Return a function that fills from the autoencoder, and rows without any block with the means."""
        table, some = self._known(blocks), np.asarray(blocks.present.any(axis=0))

        def fill(name: str, gone: np.ndarray) -> np.ndarray:
            made = self.vae_.reconstruct(table[gone], name)
            made[~some[gone]] = self.scalers_[name].mean_
            return made

        return fill

    def _known(self, blocks: Blocks) -> np.ndarray:
        return np.hstack([blocks.data[name] for name in self.known_blocks_]).astype(float)

    def _fill(self, scores: np.ndarray) -> np.ndarray:
        """Fill the NaN in the scores, one pattern of missing blocks at a time."""
        gone = np.column_stack([np.isnan(scores[:, self._span(name).start]) for name in self.known_blocks_])
        filled = np.nan_to_num(scores, nan=0.0)  # 0 is the mean
        if self.strategy == "mean":
            return filled
        for pattern in np.unique(gone[gone.any(axis=1) & ~gone.all(axis=1)], axis=0):
            rows = np.flatnonzero((gone == pattern).all(axis=1))
            lost = [name for name, is_gone in zip(self.known_blocks_, pattern, strict=True) if is_gone]
            if self.strategy == "gaussian":
                self._fill_gaussian(filled, rows, lost)
            elif self.strategy == "ridge":
                self._fill_ridge(filled, rows, lost)
            else:
                self._fill_knn(filled, scores, rows, lost)
        return filled

    def _fill_gaussian(self, filled: np.ndarray, rows: np.ndarray, lost: list[str]) -> None:
        if self.covariance_ is None:
            return
        missing = np.zeros(filled.shape[1], dtype=bool)
        for name in lost:
            missing[self._span(name)] = True
        cov, mean = self.covariance_.covariance_, self.covariance_.location_
        # A constant column can make the covariance of the present part singular. The pseudo-inverse ignores it.
        coef = pinvh(cov[np.ix_(~missing, ~missing)]) @ cov[np.ix_(~missing, missing)]
        known = filled[np.ix_(rows, ~missing)] - mean[~missing]
        filled[np.ix_(rows, missing)] = mean[missing] + known @ coef

    def _fill_ridge(self, filled: np.ndarray, rows: np.ndarray, lost: list[str]) -> None:
        given = filled[rows]  # a copy, so that the filled values of one block are not used to fill the next
        for name in lost:
            if name in self.ridges_:
                others = np.delete(given, self._span(name), axis=1)
                filled[rows, self._span(name)] = self.ridges_[name].predict(others).reshape(len(rows), -1)

    def _fill_knn(self, filled: np.ndarray, scores: np.ndarray, rows: np.ndarray, lost: list[str]) -> None:
        # All blocks have the same weight in the distance, whatever their width.
        size = np.concatenate([np.full(stop - start, np.sqrt(stop - start)) for start, stop in self._spans.values()])
        for name in lost:
            donors = self.rows_[~np.isnan(self.rows_[:, self._span(name).start])]
            values = donors[:, self._span(name)]
            for batch in gen_batches(len(rows), _BATCH):
                distance = nan_euclidean_distances(scores[rows[batch]] / size, donors / size)
                filled[rows[batch], self._span(name)] = self._mean_of_nearest(distance, values)

    def _mean_of_nearest(self, distance: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the mean of the nearest donors; 0 if a row has no block in common with any donor."""
        order = np.argsort(distance, axis=1, kind="stable")[:, : self.n_neighbors]  # NaN comes last
        usable = ~np.isnan(np.take_along_axis(distance, order, axis=1))
        total = (values[order] * usable[..., None]).sum(axis=1)
        return total / np.maximum(usable.sum(axis=1), 1)[:, None]

    def _names_out(self) -> list[str]:
        given = getattr(self, "feature_names_in_", [f"x{i}" for i in range(self.n_features_in_)])
        names = [str(name) for name in given]
        for block, columns in self.blocks_.items():
            for i in columns:
                if not names[i].startswith(f"{block}{SEPARATOR}"):
                    names[i] = f"{block}{SEPARATOR}{names[i]}"
        extra = [f"{block}{SEPARATOR}missing" for block in self.blocks_] if self.add_indicator else []
        return names + extra
