"""Kernels of blocks: Gram matrices, absent blocks, and the alignment of a kernel with the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances, linear_kernel, rbf_kernel

from ensemblefuse.features import BlockScaler

__all__ = ["BlockKernel", "centred_alignment", "gram", "median_gamma"]

# At most this number of rows is used for the median of the squared distances.
_MEDIAN_ROWS = 2000


def gram(A: np.ndarray, B: np.ndarray, kernel: str, factor: float) -> np.ndarray:
    """Compute ``exp(-factor |a - b|^2)`` or ``factor <a, b>`` for all pairs, of shape (len(A), len(B))."""
    return rbf_kernel(A, B, gamma=factor) if kernel == "rbf" else factor * linear_kernel(A, B)


def median_gamma(Z: np.ndarray, weight: np.ndarray) -> float:
    """Return 1 / median squared distance between different rows; 1 if all rows are the same.

    The weight of a pair is the product of the weights of its rows, so that a row of weight 2 counts as two rows. If
    there are more than 2 000 rows, a sample of 2 000 is used, the same one in every call.
    """
    if len(Z) > _MEDIAN_ROWS:
        chosen = np.random.RandomState(0).permutation(len(Z))[:_MEDIAN_ROWS]
        Z, weight = Z[chosen], weight[chosen]
    i, j = np.triu_indices(len(Z), 1)
    squared = euclidean_distances(Z, squared=True)[i, j]
    different = squared > 1e-10 * squared.max(initial=0.0)  # distances of equal rows may be rounding errors
    if not different.any():
        return 1.0
    squared = squared[different]
    if (weight == weight[0]).all():
        return float(1 / np.median(squared))
    pairs = (weight[i] * weight[j])[different]
    order = np.argsort(squared)
    below = np.cumsum(pairs[order]) / pairs.sum()
    # As in np.median: the mean of both middle values, if the middle lies between two.
    middle = [squared[order][np.searchsorted(below, 0.5 + shift)] for shift in (-1e-12, 1e-12)]
    return float(1 / np.mean(middle))


@dataclass
class BlockKernel:
    """The kernel of one block over the training rows. Its attributes are plain arrays and numbers.

    A row without the block is represented by the (weighted) mean of the training rows in the feature space of the
    kernel: its kernel with a row is the mean over the training rows that hold the block. This mean is a point in the
    feature space. So Gram matrices, their sums and their products stay positive semi-definite.

    Attributes
    ----------
    kernel : {"rbf", "linear"}
    factor : float
        For the RBF kernel, gamma. For the linear kernel, 1 / mean squared length, so that its mean diagonal is 1.
    scaler : BlockScaler or None
        None if no training row holds the block. The kernel is then 0.
    rows : ndarray of shape (n_present, n_columns)
        Standardised training rows that hold the block.
    present : ndarray of shape (n_fit,), dtype bool
    mean : ndarray of shape (n_fit,)
        Kernel of the mean with each training row.
    mean_square : float
        Kernel of the mean with itself.
    share : ndarray of shape (n_present,)
        Weights of the rows. Their sum is 1.
    """

    kernel: str
    factor: float
    scaler: Any
    rows: np.ndarray
    present: np.ndarray
    mean: np.ndarray
    mean_square: float
    share: np.ndarray

    @classmethod
    def fit(
        cls, X: np.ndarray, present: np.ndarray, weight: np.ndarray, kernel: str, gamma: Any
    ) -> tuple[BlockKernel, np.ndarray]:
        """Fit the kernel. Return it, and its Gram matrix of the training rows, of shape (n_fit, n_fit)."""
        n = len(X)
        if not present.any():
            nothing = cls(kernel, 1.0, None, np.zeros((0, X.shape[1])), present, np.zeros(n), 0.0, np.zeros(0))
            return nothing, np.zeros((n, n))
        share = weight[present] / weight[present].sum()
        scaler = BlockScaler(None).fit(X[present], sample_weight=weight[present])
        rows = scaler.transform(X[present])
        if kernel == "linear":
            factor = float(1 / (share @ (rows**2).sum(axis=1) or 1.0))
        else:
            factor = median_gamma(rows, weight[present]) if gamma == "median" else float(gamma)
        own = gram(rows, rows, kernel, factor)
        mean = np.zeros(n)
        mean[present] = own @ share
        mean_square = float(share @ mean[present])
        mean[~present] = mean_square
        fitted = cls(kernel, factor, scaler, rows, present, mean, mean_square, share)
        return fitted, own if present.all() else fitted._spread(own, present)

    def between(self, X: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Compute the kernel of new rows with the training rows, of shape (len(X), n_fit)."""
        present = present & (self.scaler is not None)
        if not present.any():
            return np.tile(self.mean, (len(X), 1))
        return self._spread(gram(self.scaler.transform(X[present]), self.rows, self.kernel, self.factor), present)

    def _spread(self, known: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Extend the kernels between rows that hold the block: the other rows get the kernels of the mean."""
        full = np.empty((len(present), len(self.present)))
        full[~present] = self.mean
        full[np.ix_(present, self.present)] = known
        full[np.ix_(present, ~self.present)] = (known @ self.share)[:, None]
        return full


def centred_alignment(K: np.ndarray, L: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Compute the centred kernel alignment: the cosine between two centred Gram matrices.

    Parameters
    ----------
    K, L : ndarray of shape (n_samples, n_samples)
        Symmetric.
    weight : ndarray of shape (n_samples,), optional
        A row of weight 2 counts as two rows.

    Returns
    -------
    float
        Between 0 and 1 for positive semi-definite matrices; 0 if one of them is constant.

    References
    ----------
    Cortes, Mohri and Rostamizadeh, Algorithms for learning kernels based on centered alignment, JMLR 2012.
    """
    share = np.full(len(K), 1 / len(K)) if weight is None else weight / weight.sum()
    root = np.sqrt(share)
    K, L = _centred(K, share, root), _centred(L, share, root)
    norms = np.linalg.norm(K) * np.linalg.norm(L)
    return float(np.vdot(K, L) / norms) if norms > 0 else 0.0


def _centred(K: np.ndarray, share: np.ndarray, root: np.ndarray) -> np.ndarray:
    mean = K @ share
    centred = (K - mean - mean[:, None] + share @ mean) * root[:, None] * root
    constant = np.linalg.norm(centred) <= 1e-12 * np.abs(K).max()  # only rounding errors are left
    return np.zeros_like(centred) if constant else centred
