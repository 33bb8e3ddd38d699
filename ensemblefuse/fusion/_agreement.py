"""Linear models whose blocks are asked to agree: the algebra of cooperative learning.

For blocks X_m, centred and 0 in rows without the block, and weights w all solvers here minimise over beta

    loss(sum_m X_m beta_m) + rho / 2 * sum_{m<l} sum_i w_i (x_im beta_m - x_il beta_l)^2 + penalty(beta)

where row i counts in the second sum only if it holds both blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from scipy import linalg
from sklearn.linear_model import ElasticNet, LogisticRegression

__all__ = ["Design", "logistic", "penalised_least_squares"]


@dataclass
class Design:
    """Blocks of the training rows.

    Attributes
    ----------
    blocks : list of ndarray of shape (n_samples, n_columns)
        Centred; 0 in rows without the block.
    present : ndarray of shape (n_blocks, n_samples), dtype bool
    weight : ndarray of shape (n_samples,)
    """

    blocks: list[np.ndarray]
    present: np.ndarray
    weight: np.ndarray

    def __post_init__(self):
        edges = np.cumsum([0, *(block.shape[1] for block in self.blocks)])
        self.spans = [slice(a, b) for a, b in pairwise(edges)]
        self.table = np.hstack(self.blocks)

    def reduced(self) -> tuple[Design, list[np.ndarray | None]]:
        """The same problem in fewer columns, exact under a ridge penalty, and the bases that lead back.

        With such a penalty, or without any, the coefficients of least norm lie in the span of the block's rows; a block
        of more columns than rows is given by its coordinates there.
        """
        blocks, bases = [], []
        for block, present in zip(self.blocks, self.present, strict=True):
            basis = None
            if present.sum() < block.shape[1]:
                _, size, directions = linalg.svd(block[present], full_matrices=False)
                basis = directions[size > 1e-12 * size.max(initial=0.0)]
            blocks.append(block if basis is None else block @ basis.T)
            bases.append(basis)
        return Design(blocks, self.present, self.weight), bases

    def agreement(self) -> np.ndarray:
        """Matrix P of the agreement term, ``beta @ P @ beta``, of shape (n_columns, n_columns)."""
        X = self.table * np.sqrt(self.weight)[:, None]
        P = np.zeros((X.shape[1], X.shape[1]))
        for m, other in combinations(range(len(self.blocks)), 2):
            both = self.present[m] & self.present[other]
            A, B = X[both, self.spans[m]], X[both, self.spans[other]]
            P[self.spans[m], self.spans[m]] += A.T @ A
            P[self.spans[other], self.spans[other]] += B.T @ B
            P[self.spans[m], self.spans[other]] -= A.T @ B
            P[self.spans[other], self.spans[m]] -= B.T @ A
        return P

    def augmented(self, rho: float) -> np.ndarray:
        """Weighted rows, and below them one for each row and pair of blocks that it holds."""
        X = self.table * np.sqrt(self.weight)[:, None]
        parts = [X]
        for m, other in combinations(range(len(self.blocks)), 2):
            both = self.present[m] & self.present[other]
            difference = np.zeros((both.sum(), X.shape[1]))
            difference[:, self.spans[m]] = -np.sqrt(rho) * X[both, self.spans[m]]
            difference[:, self.spans[other]] = np.sqrt(rho) * X[both, self.spans[other]]
            parts.append(difference)
        return np.vstack(parts) if rho > 0 else X


def penalised_least_squares(
    design: Design, y: np.ndarray, candidates: list[tuple[float, float]], l1_ratio: float
) -> np.ndarray:
    """Coefficients for each (rho, alpha), of shape (n_candidates, n_columns); ``y`` is centred.

    The loss is half the weighted sum of squares, the penalty
    ``alpha * (l1_ratio * |beta|_1 + (1 - l1_ratio) / 2 * |beta|_2^2)``. Without a penalty: those of least norm.
    """
    if l1_ratio > 0 and any(alpha > 0 for _, alpha in candidates):
        return np.array([_elastic_net(design, y, rho, alpha, l1_ratio) for rho, alpha in candidates])
    small, bases = design.reduced()
    X = small.table * np.sqrt(small.weight)[:, None]
    target = X.T @ (np.sqrt(small.weight) * y)
    # The normal equations of the augmented rows, without these: their moments are the same for all rho and alpha.
    moments, agreement = X.T @ X, small.agreement()
    coefficients = []
    for rho, alpha in candidates:
        if alpha > 0:
            A = moments + rho * agreement
            A[np.diag_indices_from(A)] += alpha
            coefficients.append(linalg.solve(A, target, assume_a="pos"))
        else:
            coefficients.append(_least_norm(small, y, rho))
    return _expand(np.array(coefficients), small, bases)


def _targets(design: Design, y: np.ndarray, n_rows: int) -> np.ndarray:
    """Targets of the augmented rows: 0 for every difference."""
    target = np.zeros(n_rows)
    target[: len(y)] = np.sqrt(design.weight) * y
    return target


def _least_norm(design: Design, y: np.ndarray, rho: float) -> np.ndarray:
    rows = design.augmented(rho)
    return linalg.lstsq(rows, _targets(design, y, len(rows)))[0]


def _elastic_net(design: Design, y: np.ndarray, rho: float, alpha: float, l1_ratio: float) -> np.ndarray:
    if alpha == 0:
        return _least_norm(design, y, rho)
    rows = design.augmented(rho)
    # scikit-learn divides its loss by the number of rows.
    solver = ElasticNet(alpha / len(rows), l1_ratio=l1_ratio, fit_intercept=False, max_iter=10_000)
    return solver.fit(rows, _targets(design, y, len(rows))).coef_


def logistic(design: Design, codes: np.ndarray, candidates: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """(Multinomial) logistic regression for each (rho, alpha).

    The loss is the weighted sum of -log p, the penalty ``alpha / 2 * |beta|_2^2``; alpha is above 0.

    Both penalties together are a quadratic form with matrix ``alpha I + rho P = L L^T``. In ``theta = L^T beta`` it is
    ``|theta|^2 / 2``, so that plain logistic regression on ``X L^-T`` solves the problem exactly.

    Returns
    -------
    coefficients : ndarray of shape (n_candidates, n_outputs, n_columns)
        One output for two classes, else one a class.
    intercepts : ndarray of shape (n_candidates, n_outputs)
    """
    small, bases = design.reduced()
    agreement = small.agreement()
    coefficients, intercepts = [], []
    for rho, alpha in candidates:
        A = rho * agreement
        A[np.diag_indices_from(A)] += alpha
        L = linalg.cholesky(A, lower=True)
        Z = linalg.solve_triangular(L, small.table.T, lower=True).T
        model = LogisticRegression(C=1.0, tol=1e-6, max_iter=1000).fit(Z, codes, sample_weight=small.weight)
        coefficients.append(linalg.solve_triangular(L, model.coef_.T, lower=True, trans="T").T)
        intercepts.append(model.intercept_)
    return _expand(np.array(coefficients), small, bases), np.array(intercepts)


def _expand(coefficients: np.ndarray, small: Design, bases: list[np.ndarray | None]) -> np.ndarray:
    """Coefficients of the columns as they were before `Design.reduced`."""
    parts = [coefficients[..., span] for span in small.spans]
    return np.concatenate([p if basis is None else p @ basis for p, basis in zip(parts, bases, strict=True)], axis=-1)
