"""Time series made worse. Each function takes values of shape (n_samples,) or (n_channels, n_samples)."""

from __future__ import annotations

import numpy as np

__all__ = ["add_relative_noise", "hold_values"]


def add_relative_noise(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose standard deviation is this share of the channel's own. A constant channel stays constant."""
    deviation = np.nanstd(values, axis=-1, keepdims=True)
    return values + share * deviation * rng.standard_normal(values.shape)


def hold_values(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A gap: one stretch of this share of the samples, at least one, holds the value before it, in all channels.

    A gap at the beginning holds the value after it. Held, because that is what a recorder writes while its sensor is
    silent, and because NaN would be another thing to each encoder: a bad row, or a straight line.
    """
    n_samples = values.shape[-1]
    held = values.copy()
    if n_samples > 1:
        length = min(n_samples - 1, max(1, round(share * n_samples)))
        start = int(rng.integers(n_samples - length + 1))
        held[..., start : start + length] = values[..., [start - 1 if start else length]]
    return held
