"""Layers of networks on sequences of unequal length: what stands behind an end is never read. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

__all__ = ["MaskedNorm", "pad", "pooled", "until"]


def pad(arrays: Sequence[np.ndarray], fill: float = 0) -> torch.Tensor:
    """Return arrays of unequal length, along their first axis, as one tensor with `fill` behind the ends.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.networks._sequences import pad
    >>> pad([np.array([1, 2]), np.array([3])], fill=-1).tolist()
    [[1, 2], [3, -1]]
    """
    longest = max(map(len, arrays))
    shape = (len(arrays), longest, *arrays[0].shape[1:])
    out = np.full(shape, fill, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(out)


def until(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """Return which places of sequences are before their ends, of shape (n, longest)."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def pooled(x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return mean and maximum over the places that are there, of shape (n, 2 * width).

    Parameters
    ----------
    x : tensor of shape (n, length, width)
    there : bool tensor of shape (n, length)
        True somewhere in each row.
    """
    there = there[..., None]
    mean = (x * there).sum(dim=1) / there.sum(dim=1)
    return torch.cat([mean, x.masked_fill(~there, -torch.inf).amax(dim=1)], dim=1)


class MaskedNorm(nn.BatchNorm1d):
    """Batch normalisation of tensors of shape (n, length, ..., width) over the places that are there; 0 elsewhere."""

    def masked(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Normalise the places that are there, given as a bool tensor of shape (n, length)."""
        known = x[there]
        out = torch.zeros_like(x)
        out[there] = self(known.flatten(0, -2)).view(known.shape)
        return out
