"""Losses of each row, without weights: of classes, numbers, and several tasks."""

from __future__ import annotations

import torch

__all__ = ["TaskBalance", "cross_entropy", "distillation", "smooth_targets", "squared_error"]

# A task's mean loss counts as at least this share of its first value. Without it, the weight of the easiest task grows
# without bound.
_LEAST = 0.05
_MEMORY = 0.9


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return ``-sum(targets log p)`` over the last axis; targets are probabilities of classes.

    Examples
    --------
    >>> import torch
    >>> from ensemblefuse.training.losses import cross_entropy
    >>> cross_entropy(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    tensor([1.3863])
    """
    return -(targets * logits.log_softmax(-1)).sum(-1)


def distillation(logits: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return ``T^2 KL(taught || softmax(logits / T))`` (Hinton et al., 2015).

    Parameters
    ----------
    logits : tensor of shape (..., n_classes)
    taught : tensor of shape (..., n_classes)
        Probabilities of a teacher, at the temperature.
    temperature : float
        The factor ``T^2`` keeps the gradients as large as they are without a temperature.

    Examples
    --------
    >>> import torch
    >>> from ensemblefuse.training.losses import distillation
    >>> distillation(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]), 2.0)
    tensor([1.2530])
    """
    own = torch.xlogy(taught, taught).sum(-1)
    return temperature**2 * (own + cross_entropy(logits / temperature, taught))


def squared_error(predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return half the squared error, which is Gaussian with unit variance up to a constant."""
    return 0.5 * (predicted - targets) ** 2


def smooth_targets(targets: torch.Tensor, share: float) -> torch.Tensor:
    """Return targets of which a share is divided equally among the classes; with 0, the same tensor."""
    return targets if share == 0 else targets * (1 - share) + share / targets.shape[-1]


class TaskBalance:
    """Weights of tasks by their uncertainty (Kendall et al., CVPR 2018), without a parameter to learn.

    For a loss L that stays, the learned uncertainty of a label is ``s = log 2L``, and that of a number with the squared
    error E is ``s = log E``. Both give a task the weight ``1 / 2L`` (L is half of E). Here L is a running mean, because
    in training it falls faster than s would follow.

    Examples
    --------
    >>> import torch
    >>> from ensemblefuse.training.losses import TaskBalance
    >>> TaskBalance().weights(torch.tensor([[0.25, 2.0]]))
    tensor([[2.0000, 0.2500]])
    """

    def __init__(self) -> None:
        self._first: torch.Tensor | None = None
        self._mean: torch.Tensor | None = None

    def weights(self, losses: torch.Tensor) -> torch.Tensor:
        """Take notice of the losses of a batch, of shape (k, n_tasks), and return the weights in the same shape.

        A loss that is NaN, of a task that no row of the batch knows, changes nothing.
        """
        losses = losses.detach()
        if self._mean is None or self._first is None:
            self._first = self._mean = losses
        else:
            self._first = torch.where(self._first.isnan(), losses, self._first)
            later = torch.where(self._mean.isnan(), losses, _MEMORY * self._mean + (1 - _MEMORY) * losses)
            self._mean = torch.where(losses.isnan(), self._mean, later)
        size = torch.maximum(self._mean, _LEAST * self._first)
        return torch.where(size > 0, 1 / (2 * size), torch.ones_like(size)).nan_to_num(1.0)
