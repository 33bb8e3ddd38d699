"""Dates as numbers."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import short_repr
from ensemblefuse.features._columns import ColumnFeatures, read_columns
from ensemblefuse.table import is_missing

__all__ = ["DateFeatures"]

# Name -> how pandas calls it. Monday is 0.
_PARTS = {"year": "year", "month": "month", "day": "day", "weekday": "day_of_week", "hour": "hour"}
# The parts that come round again, and after how many of their units.
_CYCLES = {"month": 12, "weekday": 7, "hour": 24}
_DAY = pd.Timedelta(days=1)


class DateFeatures(ColumnFeatures):
    """Turn dates into numbers: year, month, day, weekday, hour, and the days since the first date of fit.

    Parts that are the same in all dates of fit are left out, so whole days give no hour, and times of one day nothing
    but hours. A missing date gets the means of fit.

    Parameters
    ----------
    cyclic : bool
        Whether month, weekday and hour also come as sine and cosine, in which December and January are neighbours:
        linear models and kernels need that, trees do not.

    Attributes
    ----------
    parts_ : list of list of str
        Names of the numbers that each column gives.
    first_ : list of str
        The first date of each column, in ISO 8601; None if it has none.
    means_ : list of ndarray
        Means of the numbers of each column, for missing dates.
    has_missing_ : list of bool
        Whether each column had missing dates in fit. If so, one more number, 0 or 1, says where a date is missing.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError
        In `fit` and `transform`, if a cell is no date. A `ModalityTransformer` reads dates that are written as text.

    Notes
    -----
    The hour has a fraction for the minutes. Dates with a time zone give the parts of their own zone. Scale the numbers
    for models that need it: ``make_pipeline(DateFeatures(), StandardScaler())``.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DateFeatures
    >>> sold = pd.DataFrame({"sold": pd.to_datetime(["2024-02-28", None, "2024-03-01"])})
    >>> DateFeatures(cyclic=False).set_output(transform="pandas").fit_transform(sold)
       sold_month  sold_day  sold_weekday  sold_elapsed  sold_missing
    0         2.0      28.0           2.0           0.0           0.0
    1         2.5      14.5           3.0           1.0           1.0
    2         3.0       1.0           4.0           2.0           0.0
    """

    def __init__(self, *, cyclic: bool = True):
        self.cyclic = cyclic

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the first date, and which numbers differ between dates.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_columns)
            Each column holds dates: dtype datetime64, or objects such as `datetime.date`.
        y : ignored

        Returns
        -------
        self
        """
        columns = [_dates(cells) for cells in read_columns(self, X, reset=True)]
        # As text, because files of models hold no objects of pandas.
        self.first_ = [None if pd.isna(first := dates.min()) else first.isoformat() for dates in columns]
        self.parts_, self.means_, self.has_missing_ = [], [], []
        for dates, first in zip(columns, self.first_, strict=True):
            numbers = _numbers(dates, first, self.cyclic)
            varying = [name for name, values in numbers.items() if np.nanmax(values, initial=-np.inf) > _least(values)]
            if not {"year", "month", "day"} & set(varying) and "hour" in varying:
                varying.remove("elapsed")
            parts = varying or ["elapsed"]
            known = np.array([numbers[part] for part in parts])[:, dates.notna().to_numpy()]
            self.parts_.append(parts)
            self.means_.append(known.mean(axis=1) if known.size else np.zeros(len(parts)))
            self.has_missing_.append(bool(dates.isna().any()))
        return self

    def _numbers_of(self, i: int, cells: pd.Series) -> np.ndarray:
        dates = _dates(cells)
        numbers = _numbers(dates, self.first_[i], self.cyclic, self.parts_[i])
        block = np.column_stack([numbers[part] for part in self.parts_[i]])
        missing = dates.isna().to_numpy()
        block[missing | (self.first_[i] is None)] = self.means_[i]
        return np.column_stack([block, missing]) if self.has_missing_[i] else block

    def _names_of(self, i: int, column: Any) -> list[str]:
        return [f"{column}_{part}" for part in [*self.parts_[i], *["missing"] * bool(self.has_missing_[i])]]


def _dates(cells: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return cells
    for row, cell in zip(cells.index, cells.tolist(), strict=True):
        if not is_missing(cell) and not isinstance(cell, (datetime.date, np.datetime64)):
            raise TypeError(
                f"Column {cells.name!r} holds {short_repr(cell)} in row {row!r}, which is no date; convert the column "
                "with pandas.to_datetime(column, format=...)."
            )
    stamps = [pd.NaT if is_missing(cell) else pd.Timestamp(cell).as_unit("us") for cell in cells.tolist()]
    if len({stamp.tzinfo is None for stamp in stamps if stamp is not pd.NaT}) > 1:
        raise TypeError(f"Column {cells.name!r} holds dates with and without a time zone; give all of them one.")
    has_zone = any(stamp is not pd.NaT and stamp.tzinfo is not None for stamp in stamps)
    dtype = "datetime64[us, UTC]" if has_zone else "datetime64[us]"
    return pd.Series(stamps, index=cells.index, dtype=dtype)


def _numbers(
    dates: pd.Series, first: str | None, cyclic: bool, wanted: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Return numbers of dates by name, all of them or at least those that are wanted; NaN where a date is missing."""
    asked = {*_PARTS, "elapsed"} if wanted is None else {name.partition("_")[0] for name in wanted}
    # The array gives plain arrays at once; a Series makes another Series for each part.
    when = dates.array if isinstance(dates.array, pd.arrays.DatetimeArray) else dates.dt
    parts = {name: _part(when, field) for name, field in _PARTS.items() if name in asked}
    if "hour" in asked:
        parts["hour"] = parts["hour"] + _part(when, "minute") / 60
        parts["hour"] += _part(when, "second") / 3600
    numbers = dict(parts)
    for name, length in _CYCLES.items() if cyclic else ():
        if name in asked:
            angle = parts[name] * (2 * np.pi / length)
            numbers |= {f"{name}_sin": np.sin(angle), f"{name}_cos": np.cos(angle)}
    if "elapsed" in asked:
        since = np.full(len(dates), np.nan) if first is None else ((dates - pd.Timestamp(first)) / _DAY).to_numpy(float)
        numbers["elapsed"] = since
    return numbers


def _part(when: Any, field: str) -> np.ndarray:
    values = getattr(when, field)
    return values.astype(float) if isinstance(values, np.ndarray) else values.to_numpy(float, na_value=np.nan)


def _least(values: np.ndarray) -> float:
    """Return the smallest number, and a trifle: sines of equal angles may differ in the last bit."""
    return float(np.nanmin(values, initial=np.inf)) + 1e-9
