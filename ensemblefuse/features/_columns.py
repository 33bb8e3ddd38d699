"""The columns of a table, as transformers that read cells and not numbers take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from ensemblefuse._calls import plain_inside
from ensemblefuse.table import check_flat, to_frame

__all__ = ["ColumnFeatures", "read_columns"]


class ColumnFeatures(TransformerMixin, BaseEstimator):
    """Base class: the cells of each column become numbers by what `fit` learned of this column.

    Subclasses define `fit`, ``_numbers_of(i, cells)`` and ``_names_of(i, column)``, for the column of number i.
    """

    @plain_inside
    def transform(self, X: Any) -> np.ndarray:
        """Return the numbers of all cells, those of each column side by side.

        Parameters
        ----------
        X : DataFrame or array of objects, of shape (n_samples, n_columns)

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        return np.hstack([self._numbers_of(i, cells) for i, cells in enumerate(read_columns(self, X, reset=False))])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the output columns.

        Parameters
        ----------
        input_features : array of shape (n_columns,), optional
            Names of the columns; those of fit by default.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        columns = enumerate(_check_feature_names_in(self, input_features))
        return np.array([name for i, column in columns for name in self._names_of(i, column)], dtype=object)

    def _numbers_of(self, i: int, cells: pd.Series) -> np.ndarray:
        raise NotImplementedError

    def _names_of(self, i: int, column: Any) -> list[str]:
        raise NotImplementedError

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags


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
