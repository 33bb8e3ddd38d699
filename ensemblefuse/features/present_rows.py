"""A wrapper that lets any transformer work with missing modalities."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import plain_inside
from ensemblefuse._fitting import check_components
from ensemblefuse.features import few_rows
from ensemblefuse.table import is_missing

__all__ = ["PresentRows", "missing_rows", "takes_sequence"]


def missing_rows(X: Any) -> np.ndarray:
    """Return the rows in which every cell is missing, as a boolean array of shape (n_samples,)."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub":
        lost = np.isnan(X) if X.dtype.kind == "f" else np.zeros(X.shape, dtype=bool)
        return lost if X.ndim == 1 else np.asarray(lost.all(axis=1))
    frame = X.to_frame() if isinstance(X, pd.Series) else pd.DataFrame(X)
    lost = np.ones(len(frame), dtype=bool)
    for i in range(frame.shape[1]):
        lost &= np.array([is_missing(cell) for cell in frame.iloc[:, i].tolist()], dtype=bool)
    return lost


class PresentRows(TransformerMixin, BaseEstimator):
    """Fit and apply a transformer to the rows with at least one present cell. Other rows become NaN.

    `make_fusion_pipeline` wraps transformers in it, so that a PCA or an imputer never gets, and never fills, a missing
    modality. The parameters of the transformer are set as if there were no wrapper: ``set_params(n_components=8)``.

    Parameters
    ----------
    transformer : transformer
        A transformer with dense or sparse numeric output. The output here is dense.

    Attributes
    ----------
    transformer_ : transformer
        Fitted on the present rows.
    n_features_out_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from ensemblefuse import PresentRows
    >>> X = np.array([[1.0, 5.0], [np.nan, np.nan], [3.0, 9.0]])
    >>> PresentRows(StandardScaler()).fit_transform(X)
    array([[-1., -1.],
           [nan, nan],
           [ 1.,  1.]])
    """

    def __init__(self, transformer):
        self.transformer = transformer

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameter `transformer` and, with ``deep=True``, the parameters of the transformer."""
        nested = self.transformer.get_params(deep=True) if deep and hasattr(self.transformer, "get_params") else {}
        return {**nested, "transformer": self.transformer}

    def set_params(self, **params: Any) -> Self:
        """Set the transformer, or its parameters."""
        if "transformer" in params:
            self.transformer = params.pop("transformer")
        if params:
            self.transformer.set_params(**params)
        return self

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the transformer on the present rows.

        Parameters
        ----------
        X : DataFrame, Series or array of shape (n_samples, n_features)
        y : array of shape (n_samples,), optional

        Returns
        -------
        self
        """
        self.fit_transform(X, y)
        return self

    @plain_inside
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> np.ndarray:
        """Fit on the present rows and transform them; see `fit` and `transform`."""
        present = ~missing_rows(X)
        if not present.any():
            raise ValueError(
                f"{type(self.transformer).__name__} has nothing to fit: all {len(present)} rows are missing."
            )
        shape: tuple[int, ...] = getattr(X, "shape", ())
        if len(shape) == 2:
            names = ", ".join(map(repr, list(getattr(X, "columns", []))[:3]))
            what = f"a modality ({names})" if names else "its modality"
            check_components(what, self.transformer, int(present.sum()), shape[1])
        self.transformer_ = clone(self.transformer)
        values = _dense(self.transformer_.fit_transform(_take(X, present), None if y is None else _take(y, present)))
        self.n_features_out_ = values.shape[1]
        self._dtype_out = values.dtype.str if values.dtype.kind == "f" else "float64"
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        return self._spread(values, present)

    def transform(self, X: Any) -> np.ndarray:
        """Transform the present rows.

        Parameters
        ----------
        X : DataFrame, Series or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features_out_)
            A row of NaN where all cells of the input row are missing.
        """
        return self.values_of(X)

    @plain_inside
    def values_of(self, X: Any) -> np.ndarray:
        """Return the array that `transform` makes, whatever `set_output` says of the frame around it."""
        check_is_fitted(self, "transformer_")
        present = ~missing_rows(X)
        if not present.any():
            dtype = getattr(self, "_dtype_out", "float64")  # older files do not have it
            return np.full((len(present), self.n_features_out_), np.nan, dtype=dtype)
        return self._spread(_dense(few_rows.transform(self.transformer_, _take(X, present))), present)

    def _spread(self, values: np.ndarray, present: np.ndarray) -> np.ndarray:
        if len(values) != present.sum():
            raise ValueError(
                f"{type(self.transformer).__name__} returned {len(values)} rows for {present.sum()} input rows. A "
                "transformer of a sequence of texts, such as TfidfVectorizer, needs its column as 'title', not as "
                "['title']."
            )
        if present.all():
            return values
        dtype = values.dtype if values.dtype.kind == "f" else np.float64
        out = np.full((len(present), values.shape[1]), np.nan, dtype=dtype)
        out[present] = values
        return out

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the transformer's own names, or ``"0"``, ``"1"``, ... if it has none."""
        check_is_fitted(self, "transformer_")
        try:
            return self.transformer_.get_feature_names_out(input_features)
        except (AttributeError, ValueError):
            return np.array([str(i) for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.transformer).input_tags
        tags.input_tags.allow_nan = True
        return tags


def _take(X, rows):
    return X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]


def _dense(values) -> np.ndarray:
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    return values.reshape(len(values), -1)


def takes_sequence(encoder: Any) -> bool:
    """Return whether a transformer needs one column (a sequence) instead of a table."""
    while isinstance(encoder, (Pipeline, PresentRows)):
        if isinstance(encoder, PresentRows):
            encoder = encoder.transformer
        else:
            encoder = next((s for _, s in encoder.steps if s is not None and not isinstance(s, str)), None)
    return encoder is not None and not get_tags(encoder).input_tags.two_d_array
