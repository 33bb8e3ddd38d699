"""Losses of pairs, of two views, and of hidden variables: what learns spaces that modalities share."""

from __future__ import annotations

from typing import Any

import torch

__all__ = [
    "contrastive",
    "correlation",
    "gaussian_kl",
    "info_nce",
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
    share = positives.to(similarity.dtype).expand_as(similarity)
    sides = []
    for axis in (-1, -2):
        partners = share.sum(dim=axis).clamp(min=1)
        sides.append(-(share * similarity.log_softmax(axis)).sum(dim=axis) / partners)
    return 0.5 * (sides[0] + sides[1]).mean(dim=-1)


def contrastive(distance: torch.Tensor, same: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Return ``d^2`` for pairs that belong together, and ``max(0, margin - d)^2`` for others (Hadsell et al., 2006)."""
    return torch.where(same > 0, distance**2, (margin - distance).clamp(min=0) ** 2)


def triplet(to_same: torch.Tensor, to_other: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    """Return ``max(0, margin + d(anchor, same) - d(anchor, other))``."""
    return (margin + to_same - to_other).clamp(min=0)


def correlation(a: torch.Tensor, b: torch.Tensor, ridge: float = 0.0) -> torch.Tensor:
    """Return the sum of the canonical correlations of two views of n rows (Andrew et al., ICML 2013).

    It does not change with invertible maps of a view. So views that maximise it are not aligned before a linear CCA.

    Parameters
    ----------
    a, b : tensors of shape (n, n_columns)
    ridge : float
        Added to the variances. A batch should have four rows a column.
    """
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    whitened = _inverse_root(a.T @ a / len(a), ridge) @ (a.T @ b / len(a)) @ _inverse_root(b.T @ b / len(b), ridge)
    return torch.linalg.svdvals(whitened).sum()


def _inverse_root(matrix: torch.Tensor, ridge: float) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(
        matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    )
    return vectors * values.clamp(min=1e-12).rsqrt() @ vectors.T


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
