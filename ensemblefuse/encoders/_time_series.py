"""The encoder of time series: statistics and spectrum, or random kernels. Never imports `fusion`."""

from __future__ import annotations

import numbers
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.cells.series import GAPS, MOST_CHANNELS, MOST_SAMPLES, read_series, series_cells
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._rocket import rocket_features

__all__ = ["TimeSeriesEncoder"]

_NEEDED_BY = "TimeSeriesEncoder"
_FEATURES = ("statistics", "rocket")
# Parameters that only affect these features.
_ONLY_FOR = {"statistics": ("sampling_rate", "n_bands"), "rocket": ("n_kernels", "random_state")}
_SEGMENT = 1024  # samples of one spectrum; for longer series, spectra of half-overlapping segments are averaged
_FLOOR = 1e-10  # share of the power below which a band counts as empty


class TimeSeriesEncoder(BaseEncoder):
    """Embed time series of any length by statistics and spectrum, or by random kernels. Fitting trains nothing.

    With ``features="statistics"`` a channel gives ``16 + n_bands`` numbers. The first are mean, standard deviation,
    minimum, maximum, median, lower and upper quartile, skewness, excess kurtosis, slope per time unit, mean absolute
    change from sample to sample, share of steps that cross the mean, and autocorrelation at lag 1. The others come from
    Welch's estimate of the spectrum [1]_ about the mean: the share of power in each of `n_bands` equal bands (log10,
    not below -10), the spectral centroid, the spectral entropy (0 to 1), and the dominant frequency. For a constant
    series, undefined values are 0, and the power counts as evenly distributed over the bands.

    With ``features="rocket"`` a series gives ``2 * n_kernels + 2 * n_channels`` numbers: the share of positive values
    and the maximum of its convolution with each of `n_kernels` random kernels [2]_, then the mean and standard
    deviation of each channel. For the convolutions, each channel is scaled to mean 0 and standard deviation 1 (a
    constant one to 0).

    Parameters
    ----------
    features : {"statistics", "rocket"}, default="statistics"
        The features that describe a series. Random kernels can distinguish shapes that have the same spectrum. Most
        classifiers need these features scaled, and a penalty.
    sampling_rate : float, default=1.0
        Samples per unit of time, the same for all series. Slope, centroid and dominant frequency are in its units.
    n_bands : int, default=8
        Number of bands between frequency 0 and half the sampling rate.
    n_kernels : int, default=1000
        Number of random kernels. The paper uses 10000.
    random_state : int, default=0
        Seed of the kernels.
    gaps : {"refuse", "interpolate"}, default="refuse"
        What to do with NaN in a series: treat the row as bad, or interpolate linearly between the neighbours in the
        channel (at its ends: repeat the nearest number). A channel without any number, or with infinite numbers,
        always makes a bad row.
    max_samples : int, default=2_000_000
        A series of more numbers, over all channels, is a bad row: with random kernels, a million numbers take ten
        seconds of one core. Not part of the cache key.
    batch_size : int, default=256
        Number of series that are encoded between two writes to the cache. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with series that cannot be encoded: raise one error that lists all of them, or return rows of NaN
        with one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        ``n_channels * (16 + n_bands)``, or ``2 * n_kernels + 2 * n_channels``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`, if a parameter is out of its range, some of several columns are not numeric, or rows
        have different numbers of channels.

    Notes
    -----
    The table is either one column of series, or a group of numeric columns in order, with one series per row. The cells
    of the one column are 1-D arrays or lists of any length, or 2-D arrays of shape (n_channels, n_samples) with the
    same number of channels in each. A row of the group that is all NaN is missing. By default, a NaN among numbers
    makes a bad row, because a model would learn from any number that is put in its place.

    The kernels are ROCKET's, not those of its successor MiniRocket [3]_. MiniRocket's biases are quantiles of
    convolutions of training rows, so the embedding of a row would depend on other rows. With quantiles of the row
    itself, the share of positive values would be the same for every series. ROCKET draws everything from the seed. Its
    kernels are dilated up to the length of the series; if lengths differ, a kernel is dilated in proportion to each.
    With several channels, a kernel reads a few random ones, at most 11. A series with over 512 channels is a bad row.

    References
    ----------
    .. [1] P. D. Welch. The Use of Fast Fourier Transform for the Estimation of Power Spectra. IEEE Transactions on
       Audio and Electroacoustics, 1967.
    .. [2] A. Dempster, F. Petitjean and G. I. Webb. ROCKET: Exceptionally Fast and Accurate Time Series
       Classification Using Random Convolutional Kernels. Data Mining and Knowledge Discovery, 2020.
    .. [3] A. Dempster, D. F. Schmidt and G. I. Webb. MiniRocket: A Very Fast (Almost) Deterministic Transform for Time
       Series Classification. KDD 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import TimeSeriesEncoder
    >>> wave = np.sin(2 * np.pi * 5 * np.arange(100) / 50)  # 5 Hz, sampled at 50 Hz
    >>> encoder = TimeSeriesEncoder(sampling_rate=50, n_bands=4)
    >>> embeddings = encoder.fit_transform({"sensor": [wave, wave[:60], None]})
    >>> embeddings.shape, float(embeddings[0, -1])
    ((3, 20), 5.0)
    >>> TimeSeriesEncoder(features="rocket", n_kernels=100).fit_transform({"sensor": [wave, wave[:60]]}).shape
    (2, 202)
    """

    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"max_samples"}
    max_samples: int = MOST_SAMPLES  # for encoders that were saved before this was a parameter

    def __init__(
        self,
        *,
        features: str = "statistics",
        sampling_rate: float = 1.0,
        n_bands: int = 8,
        n_kernels: int = 1000,
        random_state: int = 0,
        gaps: str = "refuse",
        max_samples: int = MOST_SAMPLES,
        batch_size: int = 256,
        on_error: str = "raise",
    ):
        self.features = features
        self.sampling_rate = sampling_rate
        self.n_bands = n_bands
        self.n_kernels = n_kernels
        self.random_state = random_state
        self.gaps = gaps
        self.max_samples = max_samples
        self.batch_size = batch_size
        self.on_error = on_error

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the series, one per row: the cells of one column, or the rows of a group of numeric columns.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)

        Returns
        -------
        list of length n_samples
            None for a row of numeric columns that is all NaN.

        Raises
        ------
        ValueError
            If some of several columns are not numeric.
        """
        rows = series_cells(X, type(self).__name__)
        return super().cells(X) if rows is None else rows

    def load(self, cell: Any) -> np.ndarray:
        """Check one series.

        Parameters
        ----------
        cell : array or list of shape (n_samples,) or (n_channels, n_samples)

        Returns
        -------
        ndarray of shape (n_channels, n_samples), dtype float64

        Raises
        ------
        TypeError, ValueError
            If the cell is not a series of finite numbers, or has no samples.
        """
        most = MOST_CHANNELS if self.features == "rocket" else None
        return read_series(cell, gaps=self.gaps, max_samples=self.max_samples, max_channels=most)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Compute the features of series.

        Parameters
        ----------
        items : list of ndarray of shape (n_channels, n_samples), dtype float64

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        if self.features == "rocket":
            rows = [self._convolve(series) for series in items]
        else:
            rows = [np.concatenate([self._describe(channel) for channel in series]) for series in items]
        return np.stack(rows).astype(np.float32)

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, and the parameters of the chosen features.

        Returns
        -------
        dict
        """
        self._batch_size()
        for name, choices in (("features", _FEATURES), ("gaps", GAPS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{_NEEDED_BY}: {name} must be one of {list(choices)}; got {getattr(self, name)!r}.")
        rate, n_bands = self.sampling_rate, self.n_bands
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not 0 < float(rate) < np.inf:
            raise ValueError(f"{_NEEDED_BY}: sampling_rate must be a number above 0; got {rate!r}.")
        if isinstance(n_bands, bool) or not isinstance(n_bands, numbers.Integral) or not 1 <= n_bands <= _SEGMENT // 4:
            raise ValueError(
                f"{_NEEDED_BY}: n_bands must be a whole number from 1 to {_SEGMENT // 4}; got {n_bands!r}."
            )
        ranges = (("n_kernels", 1, 100_000), ("random_state", 0, 2**32 - 1), ("max_samples", 1, 2**62))
        for name, least, most in ranges:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= value <= most:
                raise ValueError(f"{_NEEDED_BY}: {name} must be a whole number from {least} to {most}; got {value!r}.")
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"] |= {"sampling_rate": float(rate), "n_bands": int(n_bands)}  # 50 and 50.0 give the same key
            others = [name for kind, names in _ONLY_FOR.items() if kind != self.features for name in names]
            recipe["params"] = {name: value for name, value in recipe["params"].items() if name not in others}
        return recipe

    def _convolve(self, series: np.ndarray) -> np.ndarray:
        """Return the features of the random kernels, then the mean and standard deviation of each channel."""
        scale = np.max(np.abs(series), axis=1, keepdims=True)
        scaled = series / np.where(scale > 0, scale, 1)
        mean = scaled.mean(axis=1, keepdims=True)
        constant = np.max(series, axis=1, keepdims=True) == np.min(series, axis=1, keepdims=True)
        centred = np.where(constant, 0, scaled - mean)
        deviation = np.sqrt(np.mean(centred**2, axis=1, keepdims=True))
        standard = centred / np.where(deviation > 0, deviation, 1)
        kernels = rocket_features(standard, n_kernels=int(self.n_kernels), seed=int(self.random_state))
        with np.errstate(over="ignore"):
            levels = np.concatenate([mean, deviation], axis=1) * scale
        return np.concatenate([kernels, levels.ravel()])

    def _describe(self, series: np.ndarray) -> np.ndarray:
        """Return the statistics of one channel."""
        # Divided by the largest value here, multiplied at the end: squares of 1e200 would overflow.
        scale = float(np.max(np.abs(series))) or 1.0
        scaled = series / scale
        constant = bool(np.max(series) == np.min(series))  # the computed mean may differ from it in the last digit
        centred = np.zeros_like(scaled) if constant else scaled - scaled.mean()
        deviation = float(np.sqrt(np.mean(centred**2)))
        standard = centred / deviation if deviation else centred
        steps = np.diff(scaled)
        quartiles = np.percentile(scaled, [50, 25, 75])
        in_units = [scaled.mean(), deviation, np.min(scaled), np.max(scaled), *quartiles]
        change = float(np.abs(steps).mean()) if len(steps) else 0.0
        shape = [np.mean(standard**3), np.mean(standard**4) - 3 if deviation else 0.0]
        order = [_crossings(standard), float((standard[1:] * standard[:-1]).sum() / len(standard))]
        slope = _slope(centred) * float(self.sampling_rate)
        with np.errstate(over="ignore"):  # an overflow is infinite in float32, and the row a bad one
            parts = [np.multiply(in_units, scale), shape, [slope * scale, change * scale], order]
        return np.concatenate([*parts, self._spectrum(standard)])

    def _spectrum(self, standard: np.ndarray) -> np.ndarray:
        """Return band shares, centroid, entropy and dominant frequency of a standardised series (or one of zeros)."""
        nyquist = float(self.sampling_rate) / 2
        power = _welch(standard, at_least=8 * self.n_bands)
        total = power.sum()
        if not total:
            return np.array([*[-np.log10(self.n_bands)] * self.n_bands, 0.0, 0.0, 0.0])
        share = power / total
        place = np.linspace(0, 1, len(share))  # 1 is half the sampling rate
        band = np.minimum((place * self.n_bands).astype(int), self.n_bands - 1)
        bands = np.bincount(band, weights=share, minlength=self.n_bands)
        positive = share[share > 0]
        entropy = -(positive * np.log(positive)).sum() / np.log(len(share))
        measures = [place @ share * nyquist, entropy, place[np.argmax(share)] * nyquist]
        return np.concatenate([np.log10(np.maximum(bands, _FLOOR)), measures])


def _crossings(centred: np.ndarray) -> float:
    """Return the share of steps that change the side of zero. A value of exactly 0 has the side of the one before."""
    sides = np.sign(centred)
    sides = sides[sides != 0]
    return float((sides[1:] != sides[:-1]).sum() / (len(centred) - 1)) if len(centred) > 1 else 0.0


def _slope(centred: np.ndarray) -> float:
    """Return the least-squares slope per sample."""
    time = np.arange(len(centred)) - (len(centred) - 1) / 2
    return float(time @ centred / (time @ time)) if len(centred) > 1 else 0.0


def _welch(series: np.ndarray, *, at_least: int) -> np.ndarray:
    """Return the power at evenly spaced frequencies up to half the sampling rate, averaged over Hann windows.

    This uses numpy, because the import of scipy.signal takes over a second. A series shorter than `at_least` samples is
    padded with zeros, so that every band contains a frequency.
    """
    length = min(len(series), _SEGMENT)
    segments = np.lib.stride_tricks.sliding_window_view(series, length)[:: max(1, length // 2)]
    window = np.hanning(length + 2)[1:-1]  # without zeros at its ends: 1 or 2 samples keep their power
    n_fft = max(length + length % 2, at_least + at_least % 2)
    power = np.zeros(n_fft // 2 + 1)
    for first in range(0, len(segments), 64):  # 64 at a time bound the memory of a long series
        power += (np.abs(np.fft.rfft(segments[first : first + 64] * window, n=n_fft, axis=1)) ** 2).sum(axis=0)
    return power / len(segments)
