"""Features of time series from random convolutional kernels (ROCKET), drawn from a seed. Uses no torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

__all__ = ["rocket_features"]

_LENGTHS = (7, 9, 11)
_WIDTH = max(_LENGTHS)
_REACH = _WIDTH // 2
_BLOCK = 4096  # samples that are convolved at once; bounds the memory for a long series, such as an hour at 1 kHz


@dataclass(frozen=True, eq=False)
class _Kernels:
    weights: np.ndarray  # (n_kernels, n_channels, 11); shorter kernels are padded with zeros at both ends
    lengths: np.ndarray
    biases: np.ndarray
    exponents: np.ndarray  # 0 to 1: from dilation 1 to the dilation at which a kernel spans the series
    padded: np.ndarray


@functools.lru_cache(maxsize=8)
def _draw(n_kernels: int, n_channels: int, seed: int) -> _Kernels:
    # RandomState's stream is frozen. That of default_rng may change with numpy, but cached embeddings stay for years.
    rng = np.random.RandomState(seed)
    lengths = rng.choice(_LENGTHS, n_kernels)
    biases = rng.uniform(-1, 1, n_kernels)
    exponents = rng.uniform(0, 1, n_kernels)
    padded = rng.randint(2, size=n_kernels).astype(bool)
    weights = np.zeros((n_kernels, n_channels, _WIDTH))
    for kernel, length in zip(weights, lengths, strict=True):
        most = min(n_channels, length)
        n_read = min(most, int(2 ** rng.uniform(0, np.log2(most + 1))))
        drawn = rng.normal(size=(n_read, length))
        start = (_WIDTH - length) // 2
        kernel[rng.permutation(n_channels)[:n_read], start : start + length] = drawn - drawn.mean(axis=1, keepdims=True)
    return _Kernels(weights, lengths, biases, exponents, padded)


def rocket_features(series: np.ndarray, *, n_kernels: int, seed: int) -> np.ndarray:
    """Compute the share of positive values and the maximum of one series' convolution with each random kernel.

    The kernels are ROCKET's: length 7, 9 or 11, normal weights of mean 0, bias uniform in [-1, 1], with or without
    padding. If there are several channels, each kernel reads a few random ones. The dilation grows with the series: for
    kernel k it is ``floor(((n_samples - 1) / (length - 1)) ** u)`` with u uniform in [0, 1], and at least 1. A kernel
    that is longer than the series is always padded. The result does not depend on other series. Each series is summed
    separately in float64, so that a value near zero has the same sign in every batch.

    Parameters
    ----------
    series : ndarray of shape (n_channels, n_samples), dtype float64
        Each channel has mean 0 and standard deviation 1.
    n_kernels : int
    seed : int

    Returns
    -------
    ndarray of shape (2 * n_kernels,), dtype float64
        All shares, then all maxima.

    References
    ----------
    A. Dempster, F. Petitjean and G. I. Webb. ROCKET: Exceptionally Fast and Accurate Time Series Classification Using
    Random Convolutional Kernels. Data Mining and Knowledge Discovery, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.encoders._rocket import rocket_features
    >>> features = rocket_features(np.zeros((1, 20)), n_kernels=50, seed=0)
    >>> bool(np.array_equal(features[:50], features[50:] > 0))  # the convolution of zeros is the bias
    True
    """
    kernels = _draw(n_kernels, len(series), seed)
    n_samples = series.shape[1]
    spans = np.maximum(n_samples - 1, 1) / (kernels.lengths - 1)
    dilations = np.maximum(spans**kernels.exponents, 1).astype(np.intp)
    # Outputs to leave out at each end: there, a kernel without padding would read beyond the series.
    margins = dilations * (kernels.lengths - 1) // 2
    margins[kernels.padded | (2 * margins >= n_samples)] = 0
    padded = np.pad(series, ((0, 0), (_REACH * dilations.max(), _REACH * dilations.max())))
    features = np.empty((2, n_kernels))
    for dilation, margin in sorted(set(zip(dilations.tolist(), margins.tolist(), strict=True))):
        chosen = np.flatnonzero((dilations == dilation) & (margins == margin))
        first = _REACH * (dilations.max() - dilation) + margin
        reach = padded[:, first : padded.shape[1] - first]
        features[:, chosen] = _pooled(reach, kernels.weights[chosen], kernels.biases[chosen], dilation)
    return features.ravel()


def _pooled(
    series: np.ndarray, weights: np.ndarray, biases: np.ndarray, dilation: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of positive values and the maxima of the convolutions of a padded series."""
    n_channels, n_samples = len(series), series.shape[1] - (_WIDTH - 1) * dilation
    windows = np.lib.stride_tricks.sliding_window_view(series, (_WIDTH - 1) * dilation + 1, axis=1)[:, :, ::dilation]
    flat = weights.reshape(len(weights), -1).T
    positive, largest = np.zeros(len(weights)), np.full(len(weights), -np.inf)
    for start in range(0, n_samples, _BLOCK):
        block = windows[:, start : start + _BLOCK].transpose(1, 0, 2).reshape(-1, n_channels * _WIDTH)
        values = block @ flat + biases
        positive += np.count_nonzero(values > 0, axis=0)
        largest = np.maximum(largest, values.max(axis=0))
    return positive / n_samples, largest
