"""The linear model with which an autoencoder of blocks begins: principal components, and ridge regressions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh
from sklearn.linear_model import RidgeCV

__all__ = ["linear_start"]

_ALPHAS = np.logspace(-2, 5, 15)
# Share of the variance of a latent variable that one block leaves open: no block knows all of it, or nothing.
_OPEN = (0.02, 0.98)
_LEAST_VARIANCE = 1e-3
_FEW = 3


def linear_start(
    blocks: Sequence[np.ndarray], present: np.ndarray, weight: np.ndarray, n_latent: int, kind: str
) -> dict[str, np.ndarray]:
    """Return weights of the linear maps and the variances of an autoencoder, by the names of its state.

    The latent variables begin as the principal components of all blocks, with gaps at the mean. An expert begins as the
    ridge regression of these on its block. A decoder begins as what is best with these experts (the second step of an
    EM algorithm); with ``kind="conditional"`` as the ridge regression of its block on the others instead.

    Parameters
    ----------
    blocks : sequence of arrays of shape (n_rows, width)
        Prepared; 0 in rows that lack the block.
    present : ndarray of shape (n_rows, n_blocks)
    weight : ndarray of shape (n_rows,)
    n_latent : int
    kind : str
    """
    latent = _leading_scores(np.hstack(blocks), weight, n_latent)
    out, said = {}, []
    for m, block in enumerate(blocks):
        rows = present[:, m] > 0
        coef, offset, left = _ridge(block[rows], latent[rows], weight[rows])
        left = np.clip(left, *_OPEN)
        said.append((block @ coef + offset, left))
        # A Gaussian that, times N(0, 1), has the variance `left` and the mean of the regression.
        out[f"experts.{m}.linear.weight"] = coef / (1 - left)
        out[f"experts.{m}.linear.bias"] = (offset / (1 - left))[None]
        out[f"experts.{m}.log_variance"] = np.log(left / (1 - left))[None]
    joined = _joined(said, present, kind)
    for m, block in enumerate(blocks):
        rows = present[:, m] > 0
        x, w = block[rows], weight[rows]
        coef, offset = np.zeros((n_latent, x.shape[1])), np.zeros(x.shape[1])
        if kind == "conditional":
            given = present * (np.arange(len(blocks)) != m)
            beside = np.hstack([*(part * given[:, [o]] for o, part in enumerate(blocks)), given])[rows]
            out[f"decoders.{m}.skip.weight"], offset, left = _ridge(beside, x, w)
            out[f"decoders.{m}.skip.bias"] = np.zeros((1, x.shape[1]))
        elif len(x) < _FEW:
            left = np.ones(x.shape[1])
        else:
            coef, offset, left = _decode([(mean[rows], var[rows], share[rows] * w) for mean, var, share in joined], x)
        out[f"decoders.{m}.linear.weight"], out[f"decoders.{m}.linear.bias"] = coef, offset[None]
        out[f"decoders.{m}.log_variance"] = np.log(np.maximum(left, _LEAST_VARIANCE))[None]
    return {name: values.astype(np.float32) for name, values in out.items()}


def _joined(said: list[tuple[np.ndarray, np.ndarray]], present: np.ndarray, kind: str) -> list[tuple]:
    """Return mean, variance and share of each Gaussian that is drawn from, of shape (n_rows, n_latent) or (n_rows,)."""
    if kind == "mixture":
        shares = present / present.sum(axis=1, keepdims=True)
        return [(mean, np.broadcast_to(left, mean.shape), shares[:, m]) for m, (mean, left) in enumerate(said)]
    precision = 1 + sum(present[:, [m]] * (1 / left - 1) for m, (_, left) in enumerate(said))
    mean = sum(present[:, [m]] * mean / left for m, (mean, left) in enumerate(said)) / precision
    return [(mean, 1 / precision, np.ones(len(present)))]


def _decode(parts: list[tuple], x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coefficients, intercepts and residual variances of the best linear decoder of Gaussian latent variables.

    Parameters
    ----------
    parts : list of (mean, variance, weight)
        A row may be drawn from several Gaussians.
    x : ndarray of shape (n_rows, width)
    """
    mean, spread = (np.vstack([part[i] for part in parts]) for i in (0, 1))
    weight = np.concatenate([part[2] for part in parts])
    weight, x = weight / weight.sum(), np.vstack([x] * len(parts))
    centre, middle = weight @ mean, weight @ x
    mean, x = mean - centre, x - middle
    both = (mean.T * weight) @ mean + np.diag(weight @ spread)
    shared = (mean.T * weight) @ x
    coef = np.linalg.solve(both, shared)
    return coef, middle - centre @ coef, weight @ x**2 - (shared * coef).sum(axis=0)


def _leading_scores(table: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Return the leading principal components of rows, of variance 1, and 0 for those without variance."""
    centred = table - np.average(table, axis=0, weights=weight)
    values, vectors = eigh((centred.T * weight) @ centred / weight.sum())
    values, vectors = np.maximum(values[::-1][:count], 0.0), vectors[:, ::-1][:, :count]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    size = np.where(values > 1e-10 * max(values[0], 1e-300), values, np.inf)
    scores = np.zeros((len(table), count))
    scores[:, : len(values)] = centred @ vectors / np.sqrt(size)
    return scores


def _ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coefficients, intercepts and residual variances of ridge regressions with one penalty.

    The variances are those of the rows of fit, raised by the ratio of the leave-one-out error to the error there.
    """
    if len(x) < _FEW:
        return np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1]), np.ones(y.shape[1])
    model = RidgeCV(_ALPHAS).fit(x, y, sample_weight=weight / weight.mean())
    coef, offset = model.coef_.reshape(y.shape[1], -1).T, np.reshape(model.intercept_, -1)
    left = np.average((y - x @ coef - offset) ** 2, axis=0, weights=weight)
    worse = float(np.clip(-model.best_score_ / max(left.mean(), 1e-12), 1.0, 10.0))
    return coef, offset, left * worse
