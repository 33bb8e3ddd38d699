"""Directions of blocks that vary together: generalised and classical canonical correlation, PLS.

Each function takes the blocks as centred rows, already multiplied by the square root of their weight. It returns one
matrix per block, with at most `count` columns. See `CommonSpaceProjector`.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import eigh
from sklearn.cross_decomposition import PLSRegression

__all__ = ["canonical_directions", "partial_least_squares", "principal_directions"]

_Parts = dict[str, np.ndarray]


def canonical_directions(parts: _Parts, count: int, method: str, reg: float, size: float) -> _Parts:
    """Compute GCCA, MCCA or (for two blocks) CCA from one thin decomposition of each block.

    Let ``X_m = U S V'`` and ``B_m = U S / sqrt(S^2 + rho)``. The left singular vectors G of ``[B_1 ... B_M]`` are the
    common scores of GCCA. Its right singular vectors, whitened, are the directions of MCCA. The singular vectors of
    ``B_1' B_2`` give the directions of CCA.
    """
    whiten, white = {}, {}
    for name, X in parts.items():
        S, V = _thin(X)
        whiten[name] = V / np.sqrt(S**2 + reg * (X**2).sum() / X.shape[1])
        white[name] = X @ whiten[name]
    if method == "cca":
        left, right = white.values()
        P, _, Q = np.linalg.svd(left.T @ right, full_matrices=False)
        turns = dict(zip(parts, (P[:, :count], Q[:count].T), strict=True))
    else:
        vectors, common = _leading(np.hstack(list(white.values())), count)
        if method == "gcca":
            turns = {name: B.T @ common for name, B in white.items()}
        else:
            ends = np.cumsum([B.shape[1] for B in white.values()])[:-1]
            turns = {n: v * np.sqrt(len(parts)) for n, v in zip(parts, np.split(vectors, ends), strict=True)}
    found = {name: whiten[name] @ turns[name] * np.sqrt(size) for name in parts}
    signs = _signs(np.vstack(list(found.values())))  # the same for all blocks, so that correlations stay positive
    return {name: W * signs for name, W in found.items()}


def principal_directions(parts: _Parts, count: int) -> _Parts:
    """Compute the first principal axes of each block, with the signs of scikit-learn's PCA."""
    axes = {name: _thin(X)[1][:, ::-1][:, :count] for name, X in parts.items()}
    return {name: V * _signs(V) for name, V in axes.items()}


def partial_least_squares(parts: _Parts, targets: _Parts, count: int) -> _Parts:
    """Compute directions of each block that vary with the target, with a positive largest loading of the target."""
    out = {}
    for name, X in parts.items():
        # PLSRegression subtracts the plain mean, but only the weighted mean of these rows is 0. Together with their
        # mirror images, their plain mean is 0, so that nothing is subtracted.
        rows, target = np.vstack([X, -X]), np.vstack([targets[name], -targets[name]])
        with warnings.catch_warnings():
            # Once the target is fully explained, all further directions are 0. This needs no warning.
            warnings.filterwarnings("ignore", "y residual is constant", UserWarning)
            model = PLSRegression(count, scale=False).fit(rows, target)
        loadings = model.y_loadings_
        out[name] = model.x_rotations_ * np.where(loadings[abs(loadings).argmax(axis=0), np.arange(count)] < 0, -1, 1)
    return out


def _thin(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nonzero singular values and their right singular vectors, from the smaller of X'X and XX'."""
    tall = X.shape[0] >= X.shape[1]
    squares, vectors = eigh(X.T @ X if tall else X @ X.T)
    there = squares > squares[-1] * len(squares) * np.finfo(float).eps
    squares, vectors = squares[there], vectors[:, there]
    S = np.sqrt(squares)
    return S, vectors if tall else X.T @ (vectors / S)


def _leading(B: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return right and left singular vectors of the first `count` singular values above 0, in descending order."""
    tall = B.shape[0] >= B.shape[1]
    gram = B.T @ B if tall else B @ B.T
    if not len(gram):
        return np.empty((B.shape[1], 0)), np.empty((B.shape[0], 0))
    squares, vectors = eigh(gram, subset_by_index=[max(0, len(gram) - count), len(gram) - 1])
    there = np.flatnonzero(squares > squares[-1] * len(gram) * np.finfo(float).eps)[::-1]
    squares, vectors = squares[there], vectors[:, there]
    other = (B if tall else B.T) @ vectors / np.sqrt(squares)
    return (vectors, other) if tall else (other, vectors)


def _signs(columns: np.ndarray) -> np.ndarray:
    """Return signs that make the largest entry of each column positive, whatever the order of the blocks."""
    return np.where(columns[abs(columns).argmax(axis=0), np.arange(columns.shape[1])] < 0, -1.0, 1.0)
