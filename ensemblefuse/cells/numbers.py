"""Reader of a group of numeric columns into one array per row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["rows_of_numbers"]


def rows_of_numbers(X: pd.DataFrame, needed_by: str, cells: str) -> list[Any]:
    """Return one array for each row of a group of numeric columns; None for a row that is all NaN.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
    needed_by : str
        The class that the user called, for the message.
    cells : str
        What a single column may hold instead, for the message.

    Raises
    ------
    ValueError
        If some of the columns are not numeric.
    """
    other = [name for name in X.columns if not _is_numeric(X[name])]
    if other:
        raise ValueError(
            f"{needed_by} takes one column of {cells}, or a group of numeric columns; of {X.shape[1]} columns these "
            f"are not numeric: {other}. Declare one modality for each column of {cells}."
        )
    table = X.to_numpy(dtype=np.float64, na_value=np.nan)
    return [None if np.isnan(row).all() else row for row in table]


def _is_numeric(cells: pd.Series) -> bool:
    """Return whether a column is one of numbers; integers and floats side by side are a column of objects."""
    if cells.dtype != object:
        return pd.api.types.is_numeric_dtype(cells.dtype)
    return pd.api.types.infer_dtype(cells, skipna=True) == "mixed-integer-float"
