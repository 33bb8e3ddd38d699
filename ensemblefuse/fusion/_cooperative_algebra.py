"""Linear models with a penalty on the disagreement of blocks: the algebra of cooperative learning.

Let X_m be blocks, centred and 0 in rows without the block, and w the row weights. All solvers here minimise over beta

    loss(sum_m X_m beta_m) + rho / 2 * sum_{m<l} sum_i w_i (x_im beta_m - x_il beta_l)^2 + penalty(beta)

A row i counts in the second sum only if it holds both blocks.
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
    """The blocks of the training rows.

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
        """Return the same problem with fewer columns, and the bases that lead back to the original columns.

        The result is exact with a ridge penalty, and also for the solution of least norm without any penalty. In both
        cases the coefficients lie in the span of the block's rows. So a block with more columns than rows is replaced
        by its coordinates in this span.
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
        """Return the matrix P of the agreement term ``beta @ P @ beta``, of shape (n_columns, n_columns)."""
        # The term is a sum of squares of A beta_m - B beta_l, so each pair of blocks adds four products.
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
        """Return the weighted rows, followed by one row for each pair of blocks in each row.

        With targets of 0, the least squares of these extra rows is the agreement term: a plain solver can be used.
        """
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
    """Compute the coefficients for each (rho, alpha), of shape (n_candidates, n_columns). ``y`` is centred.

    The loss is half the weighted sum of squares. The penalty is
    ``alpha * (l1_ratio * |beta|_1 + (1 - l1_ratio) / 2 * |beta|_2^2)``. With alpha 0, the coefficients are the ones of
    least norm.
    """
    if l1_ratio > 0 and any(alpha > 0 for _, alpha in candidates):
        return np.array([_elastic_net(design, y, rho, alpha, l1_ratio) for rho, alpha in candidates])
    small, bases = design.reduced()
    X = small.table * np.sqrt(small.weight)[:, None]
    target = X.T @ (np.sqrt(small.weight) * y)
    # Normal equations of the augmented rows, without building these rows: both matrices serve all rho and alpha.
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
    """Return the targets of the augmented rows: 0 for every difference."""
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
    # scikit-learn divides its loss by the number of rows, so alpha is divided too.
    solver = ElasticNet(alpha / len(rows), l1_ratio=l1_ratio, fit_intercept=False, max_iter=10_000)
    return solver.fit(rows, _targets(design, y, len(rows))).coef_


def logistic(design: Design, codes: np.ndarray, candidates: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Fit a (multinomial) logistic regression for each (rho, alpha).

    The loss is the weighted sum of -log p. The penalty is ``alpha / 2 * |beta|_2^2``, with alpha above 0.

    Together, both penalties are a quadratic form with the matrix ``alpha I + rho P = L L^T``. With
    ``theta = L^T beta``, this form is ``|theta|^2 / 2``. So plain logistic regression on ``X L^-T`` solves the problem
    exactly.

    Returns
    -------
    coefficients : ndarray of shape (n_candidates, n_outputs, n_columns)
        One output for two classes, otherwise one per class.
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
    """Return the coefficients of the original columns, before `Design.reduced`."""
    parts = [coefficients[..., span] for span in small.spans]
    return np.concatenate([p if basis is None else p @ basis for p, basis in zip(parts, bases, strict=True)], axis=-1)
