"""The columns of a table, as transformers that read cells and not numbers take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data

from ensemblefuse.table import check_flat, to_frame

__all__ = ["read_columns"]


def read_columns(transformer: Any, X: Any, *, reset: bool) -> list[pd.Series]:
    """Return each column of a table, after scikit-learn's checks of names and numbers of columns.

    Raises
    ------
    ValueError
        If the table of fit (`reset`) is empty, or a later table has other columns.
    """
    check_flat(X)
    validate_data(transformer, X, reset=reset, skip_check_array=True)
    frame = pd.DataFrame(X) if isinstance(X, np.ndarray) else to_frame(X)
    if reset and frame.empty:
        raise ValueError(f"X has {frame.shape[0]} rows and {frame.shape[1]} columns; fit needs at least one of each.")
    return [frame.iloc[:, i] for i in range(frame.shape[1])]
