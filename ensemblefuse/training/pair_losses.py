"""Losses of pairs, of two views, and of hidden variables: what learns spaces that modalities share."""

from __future__ import annotations

from typing import Any

import torch

__all__ = [
    "contrastive",
    "correlation",
    "discrepancy",
    "gaussian_kl",
    "info_nce",
    "info_nce_of_rows",
    "product_of_experts",
    "reverse_gradient",
    "triplet",
]


def info_nce(similarity: torch.Tensor, positives: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross entropy of finding the partner in a batch, from both sides.

    Parameters
    ----------
    similarity : tensor of shape (..., n, n)
        Of row i of one view and row j of the other, divided by the temperature.
    positives : bool tensor of shape (..., n, n), optional
        Which pairs belong together; by default only the diagonal. Equal texts, and rows of one group, are partners of
        one another (Khosla et al., NeurIPS 2020). A row with several partners has the mean of their losses.

    Examples
    --------
    >>> import torch
    >>> from ensemblefuse.training.pair_losses import info_nce
    >>> info_nce(torch.zeros(7, 7))
    tensor(1.9459)
    """
    if positives is None:
        positives = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return info_nce_of_rows(similarity, positives).mean(dim=-1)


def info_nce_of_rows(similarity: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    """Return the terms of which `info_nce` is the mean, of shape (..., n); 0 for a row without partners."""
    share = positives.to(similarity.dtype).expand_as(similarity)
    sides = []
    for axis in (-1, -2):
        partners = share.sum(dim=axis).clamp(min=1)
        sides.append(-(share * similarity.log_softmax(axis)).sum(dim=axis) / partners)
    return 0.5 * (sides[0] + sides[1])


def contrastive(distance: torch.Tensor, same: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Return ``d^2`` for pairs that belong together, and ``max(0, margin - d)^2`` for others (Hadsell et al., 2006)."""
    return torch.where(same > 0, distance**2, (margin - distance).clamp(min=0) ** 2)


def triplet(to_same: torch.Tensor, to_other: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    """Return ``max(0, margin + d(anchor, same) - d(anchor, other))``."""
    return (margin + to_same - to_other).clamp(min=0)


def correlation(
    a: torch.Tensor, b: torch.Tensor, ridge: float = 0.0, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the sum of the canonical correlations of two views of n rows (Andrew et al., ICML 2013).

    It does not change with invertible maps of a view. So views that maximise it are not aligned before a linear CCA.

    Parameters
    ----------
    a, b : tensors of shape (..., n, n_columns)
    ridge : float
        Added to the variances. A batch should have four rows a column.
    weight : tensor of shape (..., n), optional
        Of the rows; 0 for one that lacks a view.
    """
    share = torch.ones_like(a[..., 0]) if weight is None else weight
    share = (share / share.sum(dim=-1, keepdim=True).clamp(min=1e-12)).unsqueeze(-1)
    a, b = (view - (share * view).sum(dim=-2, keepdim=True) for view in (a, b))
    # The singular values are those of a matrix whitened by inverse roots, whose gradient is infinite where two
    # variances are equal.
    roots = [_root((share * view).mT @ view, ridge) for view in (a, b)]
    half = torch.linalg.solve_triangular(roots[0], (share * a).mT @ b, upper=False)
    return torch.linalg.svdvals(torch.linalg.solve_triangular(roots[1], half.mT, upper=False)).sum(dim=-1)


def _root(matrix: torch.Tensor, ridge: float) -> torch.Tensor:
    """Return the Cholesky factor of a matrix with a ridge, and a little more, so that there always is one."""
    size = matrix.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None].detach()
    least = 100 * torch.finfo(matrix.dtype).eps * size + torch.finfo(matrix.dtype).tiny
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.cholesky(matrix + (ridge + least) * eye)


def discrepancy(a: torch.Tensor, b: torch.Tensor, weight_a: torch.Tensor, weight_b: torch.Tensor) -> torch.Tensor:
    """Return the squared maximum mean discrepancy of two sets of rows (Gretton et al., JMLR 2012, equation 2).

    It is 0 for equal sets. The kernel is the mean of three Gaussians, whose variances are 1/4, 1 and 4 times the mean
    squared distance between the sets (Long et al., ICML 2015).

    Parameters
    ----------
    a, b : tensors of shape (..., n, n_columns)
    weight_a, weight_b : tensors of shape (..., n)
        0 for a row that is not in the set.
    """
    shares = [(w / w.sum(dim=-1, keepdim=True).clamp(min=1e-12)).unsqueeze(-1) for w in (weight_a, weight_b)]
    length = lambda x: (x**2).sum(dim=-1)
    squares = lambda x, y: (length(x).unsqueeze(-1) + length(y).unsqueeze(-2) - 2 * x @ y.mT).clamp(min=0)
    mean = lambda kernel, v, w: (v.mT @ kernel @ w)[..., 0, 0]
    across = squares(a, b)
    size = mean(across, *shares).detach().clamp(min=1e-12)[..., None, None]
    kernel = lambda square: sum((-square / (2 * scale * size)).exp() for scale in (0.25, 1.0, 4.0)) / 3
    alike = mean(kernel(squares(a, a)), shares[0], shares[0]) + mean(kernel(squares(b, b)), shares[1], shares[1])
    return alike - 2 * mean(kernel(across), *shares)


def gaussian_kl(
    mean: torch.Tensor, variance: torch.Tensor, prior_mean: Any = 0.0, prior_variance: Any = 1.0
) -> torch.Tensor:
    """Return KL(N(mean, variance) || N(prior_mean, prior_variance)), summed over the last axis."""
    prior = torch.as_tensor(prior_variance, dtype=variance.dtype, device=variance.device)
    ratio = variance / prior
    return 0.5 * (ratio - 1 - ratio.log() + (mean - prior_mean) ** 2 / prior).sum(dim=-1)


def product_of_experts(
    means: torch.Tensor, variances: torch.Tensor, present: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of the product of Gaussians and N(0, 1) (Wu and Goodman, NeurIPS 2018).

    Parameters
    ----------
    means, variances : tensors of shape (n_experts, n, width)
    present : tensor of shape (n_experts, n)
        0 for an expert that knows nothing of the row.
    """
    precision = present.unsqueeze(-1) / variances
    total = 1 + precision.sum(dim=0)
    return (means * precision).sum(dim=0) / total, 1 / total


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor, share: float) -> torch.Tensor:
        context.share = share
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -context.share * gradients[0], None


def reverse_gradient(x: torch.Tensor, share: float) -> torch.Tensor:
    """Return x, with its gradient times ``-share`` (Ganin et al., JMLR 2016): what it feeds is learned to fail."""
    return _Reversal.apply(x, share)
