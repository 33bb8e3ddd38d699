"""Additional training rows with some modalities left out."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, validate_data

from ensemblefuse._seeds import own_seed
from ensemblefuse.blocks import find_blocks, is_raw
from ensemblefuse.features.present_rows import missing_rows
from ensemblefuse.table import check_flat

__all__ = ["ModalityDropout"]


class ModalityDropout(BaseEstimator):
    """Add copies of the training rows with random blocks left out, so that a model learns to predict without them.

    It helps up to the rate of missing blocks used in training, not above it. It costs a little accuracy if nothing is
    missing. Use it on training rows only.

    Parameters
    ----------
    rate : float
        Probability of dropping each present block of a copy: at least 0 and below 1. A copy that would lose all its
        blocks keeps one of them, drawn at random.
    n_copies : int
        Copies of each row, in addition to the row itself.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.
    random_state : int, RandomState or None

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    sample_indices_ : ndarray of shape (n_samples * (1 + n_copies),)
        For each output row, the position of its source row. ``groups[sample_indices_]`` gives the groups of the output.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Neverova et al., ModDrop, IEEE TPAMI 2016. Tang et al., Bag of tricks for multimodal AutoML, 2024: it helps.
    MuteBench, 2026: it protects up to the trained rate only.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import ModalityDropout
    >>> X = pd.DataFrame({"image__0": [1.0, 2.0], "text__0": [3.0, 4.0]})
    >>> X_more, y_more, weight = ModalityDropout(n_copies=1, random_state=0).fit_resample(X, ["cat", "dog"])
    >>> X_more.shape, y_more.tolist(), weight.tolist()
    ((4, 2), ['cat', 'dog', 'cat', 'dog'], [0.5, 0.5, 0.5, 0.5])
    """

    def __init__(self, rate=0.3, *, n_copies=3, blocks=None, random_state=None):
        self.rate = rate
        self.n_copies = n_copies
        self.blocks = blocks
        self.random_state = random_state

    def fit_resample(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Any, np.ndarray]:
        """Return the rows, followed by their copies with blocks left out.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            A DataFrame may hold blocks of raw cells. Numbers are copied; X is not changed.
        y : array or Series of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples * (1 + n_copies), n_features)
            Same type as the input; dropped blocks are NaN. Rows of a DataFrame keep the index label of their original.
        y : array or Series of shape (n_samples * (1 + n_copies),)
        sample_weight : ndarray of shape (n_samples * (1 + n_copies),)
            A row and its copies together have the weight of the original row (1 by default).
        """
        self._check_params()
        check_consistent_length(X, y)
        check_flat(X)
        if isinstance(X, pd.DataFrame):
            validate_data(self, X, reset=True, skip_check_array=True)
            self.blocks_ = find_blocks(X.columns, self.blocks)
            parts = [_numbers(X.iloc[:, columns]) for columns in self.blocks_.values()]
        else:
            X = validate_data(self, X, reset=True, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
            self.blocks_ = find_blocks(range(X.shape[1]), self.blocks)
            parts = [X[:, columns] for columns in self.blocks_.values()]
        weight = _check_sample_weight(sample_weight, np.empty((len(X), 1)))
        rng = check_random_state(own_seed(self.random_state))
        rows = self.sample_indices_ = np.tile(np.arange(len(X)), 1 + self.n_copies)
        present = np.column_stack([~missing_rows(part) for part in parts])
        dropped = np.vstack([np.zeros_like(present), *(self._draw(present, rng) for _ in range(self.n_copies))])
        parts = [_blank(_take(part, rows), gone) for part, gone in zip(parts, dropped.T, strict=True)]
        return self._join(parts, X), _take(y, rows), weight[rows] / (1 + self.n_copies)

    def _join(self, parts: list, X):
        """Join the blocks into a table with the type and the columns of X."""
        if isinstance(X, np.ndarray):
            out = np.empty((len(parts[0]), X.shape[1]), dtype=X.dtype)
            for part, columns in zip(parts, self.blocks_.values(), strict=True):
                out[:, columns] = part
            return out
        index = X.index[self.sample_indices_]
        frames = [
            pd.DataFrame(part, columns=X.columns[columns]) if isinstance(part, np.ndarray) else part
            for part, columns in zip(parts, self.blocks_.values(), strict=True)
        ]
        out = pd.concat([frame.set_axis(index) for frame in frames], axis=1)
        return out if out.columns.equals(X.columns) else out[X.columns]

    def _check_params(self) -> None:
        if not isinstance(self.rate, (int, float, np.number)) or isinstance(self.rate, bool) or not 0 <= self.rate < 1:
            raise ValueError(f"rate must be a number from 0 to below 1; got {self.rate!r}.")
        if not isinstance(self.n_copies, Integral) or isinstance(self.n_copies, bool) or self.n_copies < 0:
            raise ValueError(f"n_copies must be a whole number from 0; got {self.n_copies!r}.")

    def _draw(self, present: np.ndarray, rng) -> np.ndarray:
        """Draw the blocks to drop from one copy of each row, as booleans of shape (n_samples, n_blocks)."""
        dropped = present & (rng.uniform(size=present.shape) < self.rate)
        # The present block with the highest draw stays, so that all present blocks are equally likely to stay.
        kept = np.where(present, rng.uniform(size=present.shape), -1.0).argmax(axis=1)
        bare = np.flatnonzero((dropped == present).all(axis=1))
        dropped[bare, kept[bare]] = False
        return dropped


def _numbers(part: pd.DataFrame):
    """Return an array if the block holds numbers, or the frame itself if it holds raw cells."""
    if is_raw(part):
        return part
    dtype = np.float32 if set(part.dtypes) == {np.dtype(np.float32)} else np.float64
    return part.to_numpy(dtype=dtype, na_value=np.nan)


def _take(values, rows: np.ndarray):
    return values.iloc[rows] if hasattr(values, "iloc") else np.asarray(values)[rows]


def _blank(part, gone: np.ndarray):
    if isinstance(part, np.ndarray):
        part[gone] = np.nan
        return part
    return part.mask(np.broadcast_to(gone[:, None], part.shape))
