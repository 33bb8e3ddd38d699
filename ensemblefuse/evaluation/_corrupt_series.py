"""Corruptions of time series: each function takes values of shape (n_samples,) or (n_channels, n_samples)."""

from __future__ import annotations

import numpy as np

__all__ = ["add_relative_noise", "hold_values"]


def add_relative_noise(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with this share of the channel's own standard deviation; a constant channel stays constant."""
    deviation = np.nanstd(values, axis=-1, keepdims=True)
    return values + share * deviation * rng.standard_normal(values.shape)


def hold_values(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Replace one stretch of this share of the samples, at least one, by the value before it, in all channels.

    A stretch at the beginning takes the value after it. A recorder also repeats the last value while its sensor is
    silent. NaN would not do: one encoder refuses it as a bad row, another draws a straight line.
    """
    n_samples = values.shape[-1]
    held = values.copy()
    if n_samples > 1:
        length = min(n_samples - 1, max(1, round(share * n_samples)))
        start = int(rng.integers(n_samples - length + 1))
        held[..., start : start + length] = values[..., [start - 1 if start else length]]
    return held
