"""The networks on series and on sounds that are trained from scratch. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ensemblefuse.networks._sequences import MaskedNorm, pooled, until

__all__ = ["SeriesConvolutions", "SoundConvolutions"]


class SeriesConvolutions(nn.Module):
    """Convolutions over time, and mean and maximum over the samples (after Wang et al., IJCNN 2017).

    They read beyond both ends what stands there, and give no number for places beyond the ends.

    Parameters
    ----------
    n_channels : int
    widths, kernels, dilations : sequence of int
        One for each convolution.
    """

    def __init__(self, n_channels: int, widths: Sequence[int], kernels: Sequence[int], dilations: Sequence[int]):
        super().__init__()
        before = (n_channels, *widths)
        shapes = list(zip(before, widths, kernels, dilations, strict=False))
        self.layers = nn.ModuleList(nn.Conv1d(a, b, k, dilation=d) for a, b, k, d in shapes)
        self.norms = nn.ModuleList(MaskedNorm(width) for width in widths)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, 2 * widths[-1]).

        Parameters
        ----------
        x : tensor of shape (n, n_places, n_channels)
            Each series with the places beyond both ends that the layers read, and then 0.
        lengths : int tensor of shape (n,)
            Number of samples of each series itself.
        """
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x.transpose(1, 2)).transpose(1, 2)
            beyond = x.shape[1] - int(lengths.max())
            there = until(lengths + beyond, x.shape[1])
            x = torch.relu(norm.masked(x, there))  # type: ignore[operator]
        return pooled(x, until(lengths, x.shape[1]))


class SoundConvolutions(nn.Module):
    """Convolutions over time and frequency with poolings, the mean over frequency, mean and maximum over time.

    Parameters
    ----------
    widths : sequence of int
        One for each convolution.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        shapes = zip((1, *widths), widths, strict=False)
        self.layers = nn.ModuleList(nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in shapes)
        self.norms = nn.ModuleList(MaskedNorm(width) for width in widths)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, 2 * widths[-1]).

        Parameters
        ----------
        x : tensor of shape (n, n_frames, n_bands)
            0 behind the last frame of a sound.
        lengths : int tensor of shape (n,)
            Number of frames of each sound, at least 1.
        """
        x = x[:, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x).permute(0, 2, 3, 1)
            x = torch.relu(norm.masked(x, until(lengths, x.shape[1])))  # type: ignore[operator]
            # No number is below 0, so that the zeros behind a sound win no maximum.
            x = nn.functional.max_pool2d(x.permute(0, 3, 1, 2), 2, ceil_mode=True)
            lengths = (lengths + 1) // 2
        return pooled(x.mean(dim=3).transpose(1, 2), until(lengths, x.shape[2]))
