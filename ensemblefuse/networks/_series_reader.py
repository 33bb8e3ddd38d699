"""Time series as networks take them, and what is done to them in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse.cells.series import MOST_SAMPLES, read_series
from ensemblefuse.networks._reader import CellReader

if TYPE_CHECKING:
    import torch

__all__ = ["SeriesReader", "channel_scales", "shortened"]

# Standard deviations of noise, in those of the channel, and of the logarithm of a factor.
_STRENGTHS = {"light": (0.05, 0.1), "strong": (0.2, 0.3)}
# Standardised values beyond this would overflow in the layers.
_LARGEST = 1e6


def shortened(series: np.ndarray, most: int) -> np.ndarray:
    """Return a series of at most `most` samples: means of neighbours, of equally many but for the last.

    Parameters
    ----------
    series : ndarray of shape (n_channels, n_samples)
    most : int

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.networks._series_reader import shortened
    >>> shortened(np.array([[1.0, 3.0, 5.0, 7.0, 9.0]]), 3)
    array([[2., 6., 9.]])
    """
    n = series.shape[1]
    step = -(-n // most)
    if step == 1:
        return series
    starts = np.arange(0, n, step)
    counts = np.diff(np.r_[starts, n])
    return np.add.reduceat(series / counts.repeat(counts), starts, axis=1)


def channel_scales(series: Sequence[np.ndarray], weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel over all samples; 1 for a constant channel.

    Parameters
    ----------
    series : sequence of ndarray of shape (n_channels, n_samples)
    weight : ndarray of shape (n_series,)
    """
    largest = np.max([np.abs(one).max(axis=1) for one in series], axis=0)
    largest[largest == 0] = 1.0  # divided by it, so that squares of 1e200 do not overflow
    counts = weight * [one.shape[1] for one in series]
    share = counts / counts.sum()
    mean = share @ np.array([(one / largest[:, None]).mean(axis=1) for one in series])
    square = share @ np.array([((one / largest[:, None] - mean[:, None]) ** 2).mean(axis=1) for one in series])
    scale = np.where(square > 1e-20, np.sqrt(square), 1.0)
    return mean * largest, scale * largest


@dataclass(frozen=True)
class SeriesReader(CellReader):
    """Reads series as `TimeSeriesEncoder` does.

    Attributes
    ----------
    augment : {"none", "light", "strong"} or callable
    gaps : {"refuse", "interpolate"}
    max_length : int
    reach : int
        How many samples the layers read beyond either end: the series goes on with its other end.
    mean, scale : ndarray of shape (n_channels,), or None before they are learned
    """

    augment: str | Callable[[np.ndarray, np.random.Generator], np.ndarray]
    gaps: str
    max_length: int
    reach: int
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    def words(self) -> dict[str, Any]:
        """See `CellReader.words`."""
        scales = [None if part is None else part.tolist() for part in (self.mean, self.scale)]
        return {"gaps": self.gaps, "max_length": int(self.max_length), "scales": scales}

    def load(self, cell: Any) -> np.ndarray:
        """Read a series, of shape (n_channels, n_samples), dtype float64."""
        series = read_series(cell, gaps=self.gaps, max_samples=MOST_SAMPLES)
        if self.mean is not None and len(series) != len(self.mean):
            raise ValueError(f"the number of channels is {len(series)}, and it was {len(self.mean)} in fit")
        return shortened(series, self.max_length)

    def array(self, item: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return an array of shape (n_samples + 2 * reach, n_channels), dtype float32."""
        if rng is not None and callable(self.augment):
            item = np.atleast_2d(self.augment(item, rng))
        assert self.mean is not None and self.scale is not None
        values = (item.T - self.mean) / self.scale
        if rng is not None and isinstance(self.augment, str) and self.augment != "none":
            noise, factor = _STRENGTHS[self.augment]
            values = values * np.exp(factor * rng.normal()) + noise * rng.normal(size=values.shape)
        values = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
        return np.pad(values, ((self.reach, self.reach), (0, 0)), mode="wrap")

    def join(self, arrays: Sequence[np.ndarray], *, after_prefix: bool) -> tuple[torch.Tensor, ...]:
        """Return the arrays, of shape (n, n_places, n_channels), and the numbers of samples."""
        import torch

        from ensemblefuse.networks._sequences import pad

        return pad(arrays), torch.tensor([len(array) - 2 * self.reach for array in arrays])
