"""Bootstrap intervals over rows, or over groups of rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

__all__ = [
    "Resampling",
    "bootstrap_means",
    "interval",
    "lone_unit_note",
    "n_units",
    "read_seed",
    "resample_weights",
    "resampled_scores",
]

# Row weights held at once, over all resamples: 80 MB.
_AT_ONCE = 10_000_000


def resample_weights(n_rows: int, n_resamples: int, random_state: Any = None, groups: Any = None) -> np.ndarray:
    """Count how often each resample draws each row.

    Parameters
    ----------
    n_rows, n_resamples : int
    random_state : int, RandomState or None
    groups : array of shape (n_rows,), optional
        Rows of one group are drawn together: rows of one patient, or of one recording, are not independent.

    Returns
    -------
    ndarray of shape (n_resamples, n_rows), dtype float
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1; got {n_resamples!r}.")
    rng = check_random_state(random_state)
    units = np.arange(n_rows) if groups is None else np.asarray(groups)
    codes = np.unique(units, return_inverse=True)[1].reshape(-1)
    n_units = len(np.unique(codes))
    counts = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples)
    return counts[:, codes].astype(float)


def bootstrap_means(values: np.ndarray, draws: np.ndarray, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """Compute the weighted mean over the rows of each resample.

    Parameters
    ----------
    values : ndarray of shape (n_rows, ...)
    draws : ndarray of shape (n_resamples, n_rows)
        See `resample_weights`.
    sample_weight : ndarray of shape (n_rows,), optional

    Returns
    -------
    ndarray of shape (n_resamples, ...)
        NaN for a resample whose rows all have weight 0.
    """
    weight = draws if sample_weight is None else draws * sample_weight
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        flat = weight @ values.reshape(len(values), -1) / total[:, None]
    return flat.reshape(len(draws), *values.shape[1:])


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Compute the percentile interval over the first axis (Efron, 1979), and return its low and high end.

    NaN resamples are left out. The interval is NaN where all resamples are.

    Raises
    ------
    ValueError
        If `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"confidence_level must be between 0 and 1; got {level!r}.")
    tail = (1 - level) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN", category=RuntimeWarning)
        low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0)
    return low, high


def n_units(n_rows: int, sample_weight: np.ndarray | None = None, groups: np.ndarray | None = None) -> int:
    """Count the units that a bootstrap draws from: rows of a weight above 0, or groups of such rows."""
    weighty = np.ones(n_rows, dtype=bool) if sample_weight is None else sample_weight > 0
    return int(weighty.sum()) if groups is None else len(np.unique(groups[weighty]))


def lone_unit_note(n_rows: int, sample_weight: np.ndarray | None = None, groups: np.ndarray | None = None) -> list[str]:
    """Return a note that the result has no intervals, if there is one unit only: it has no spread."""
    unit = "row" if groups is None else "group"
    return [f"No intervals: there is only one {unit}."] if n_units(n_rows, sample_weight, groups) < 2 else []


def read_seed(random_state: Any) -> int:
    """Return an int seed, which draws the same resamples in every call."""
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def resampled_scores(
    values: np.ndarray,
    n_resamples: int,
    random_state: Any,
    sample_weight: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the mean of each column over the rows of each resample; all columns share the same resamples.

    The same seed draws the same rows in every call. Resamples are drawn in portions: 1000 of 100 000 rows at once
    would take 0.8 GB.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_scores)
    n_resamples : int
    random_state : int, RandomState or None
    sample_weight, groups : ndarray of shape (n_rows,), optional

    Returns
    -------
    ndarray of shape (n_resamples, n_scores)
        NaN if there are fewer than 2 rows (groups) to draw from: one has no spread.
    """
    rng, n_rows = check_random_state(random_state), len(values)
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1; got {n_resamples!r}.")
    if n_units(n_rows, sample_weight, groups) < 2:
        return np.full((n_resamples, values.shape[1]), np.nan)
    size = max(1, _AT_ONCE // n_rows)
    parts = [min(size, n_resamples - start) for start in range(0, n_resamples, size)]
    return np.concatenate(
        [bootstrap_means(values, resample_weights(n_rows, part, rng, groups), sample_weight) for part in parts]
    )


@dataclass(frozen=True, eq=False)
class Resampling:
    """Settings of a bootstrap over rows, with the means and intervals that it gives.

    Attributes
    ----------
    n_resamples : int
    level : float
        Level of the intervals.
    seed : int, RandomState or None
        With an int, all calls of `means` and `interval` share the same resamples; see `read_seed`.
    groups, sample_weight : ndarray of shape (n_rows,), optional
    """

    n_resamples: int = 1000
    level: float = 0.95
    seed: Any = 0
    groups: np.ndarray | None = None
    sample_weight: np.ndarray | None = None

    def check(self) -> None:
        """Raise ValueError if `n_resamples` or `level` is out of range, before any slow computation."""
        interval(resample_weights(1, self.n_resamples, 0), self.level)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Compute the mean of each column of `values` over each resample; see `resampled_scores`."""
        return resampled_scores(values, self.n_resamples, self.seed, self.sample_weight, self.groups)

    def interval(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the low and high end of the interval of each column's mean."""
        return interval(self.means(values), self.level)

    def notes(self, n_rows: int) -> list[str]:
        """Return a note if there are no intervals; see `lone_unit_note`."""
        return lone_unit_note(n_rows, self.sample_weight, self.groups)

    @property
    def caption(self) -> str:
        """Text for captions of results."""
        return f"{self.level:.0%} intervals from {self.n_resamples} resamples"
