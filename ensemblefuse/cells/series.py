"""Reader of a time series in a cell into an array of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.cells.numbers import rows_of_numbers

__all__ = ["GAPS", "MOST_CHANNELS", "MOST_SAMPLES", "read_series", "series_cells"]

GAPS = ("refuse", "interpolate")
# An array with more channels is most likely transposed. With these, the weights of 1000 random kernels take 45 MB.
MOST_CHANNELS = 512
MOST_SAMPLES = 2_000_000


def series_cells(X: pd.DataFrame, needed_by: str) -> list[Any] | None:
    """Return the series of a group of numeric columns, one a row, None for a row that is all NaN.

    None for one column that is not numeric: its cells are the series.

    Raises
    ------
    ValueError
        If some of several columns are not numeric.
    """
    if X.shape[1] == 1 and not pd.api.types.is_numeric_dtype(X.dtypes.iloc[0]):
        return None
    return rows_of_numbers(X, needed_by, "series")


def read_series(cell: Any, *, gaps: str, max_samples: int, max_channels: int | None = MOST_CHANNELS) -> np.ndarray:
    """Check one series.

    Parameters
    ----------
    cell : array or list of shape (n_samples,) or (n_channels, n_samples)
    gaps : {"refuse", "interpolate"}
        What to do with NaN: raise an error, or interpolate linearly between the neighbours in the channel.
    max_samples : int
        Largest number of samples over all channels.
    max_channels : int, optional

    Returns
    -------
    ndarray of shape (n_channels, n_samples), dtype float64

    Raises
    ------
    TypeError, ValueError
        If the cell is not a series of finite numbers, has no samples, or is too large.

    Examples
    --------
    >>> from ensemblefuse.cells.series import read_series
    >>> read_series([1, None, 3], gaps="interpolate", max_samples=9)
    array([[1., 2., 3.]])
    """
    if not isinstance(cell, (np.ndarray, list, tuple)):
        raise TypeError(f"expected a series of numbers, got {type(cell).__name__}")
    array = np.asarray(cell)
    if array.dtype.kind not in "biufO":
        raise TypeError(f"expected a series of numbers, got values of type {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(f"expected shape (n_samples,) or (n_channels, n_samples), got {array.shape}")
    if array.size == 0:
        raise ValueError("no samples")
    if array.size > max_samples:
        raise ValueError(
            f"{array.size} numbers; at most max_samples={max_samples} are read. Take fewer samples per unit "
            "of time, split it into rows, or pass a larger max_samples"
        )
    if max_channels is not None and array.ndim == 2 and len(array) > max_channels:
        raise ValueError(f"{len(array)} channels of {array.shape[1]} samples; is the array transposed?")
    if gaps == "interpolate":
        array = _without_gaps(np.atleast_2d(array)).reshape(array.shape)
    finite = np.isfinite(array)
    if not finite.all():
        place = np.argwhere(~finite)[0].tolist()
        raise ValueError(
            f"{int((~finite).sum())} of its {array.size} values are NaN or infinite, the first at position "
            f"{place[0] if array.ndim == 1 else tuple(place)}"
        )
    return np.atleast_2d(array)


def _without_gaps(channels: np.ndarray) -> np.ndarray:
    """Return the channels with each NaN interpolated linearly between its neighbours."""
    filled = channels.copy()
    for channel in filled:
        known = ~np.isnan(channel)
        if known.any() and not known.all():
            channel[~known] = np.interp(np.flatnonzero(~known), np.flatnonzero(known), channel[known])
    return filled
