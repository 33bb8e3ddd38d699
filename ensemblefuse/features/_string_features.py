"""Numbers for short strings, such as names, brands and titles."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_is_fitted

from ensemblefuse._calls import plain_inside
from ensemblefuse.table import is_missing

__all__ = ["StringFeatures"]

_FEWEST_SHARED = 2  # rows that a piece of text must occur in: what stands in one row tells nothing about another
_LEAST_SINGULAR_VALUE = 1e-9  # of the largest one


class StringFeatures(TransformerMixin, BaseEstimator):
    """Numbers for columns of short strings: the pieces of letters that they share, reduced to few components.

    Each column is cut into pieces of 1 to 4 letters, which are counted with TF-IDF. A truncated SVD makes
    `n_components` numbers of the counts. So `Trek Marlin 5` and `Trek Marlin 7` are near each other, and a string that
    fit never saw has numbers, too. The components of a column together have variance 1.

    Parameters
    ----------
    n_components : int
        Most components of a column. A column with few distinct strings has fewer: those in which they differ.
    max_features : int
        Most pieces of letters that are counted in a column: the most frequent ones. It bounds the size of the model.
    words : bool, default=True
        Whether a fusion may also read the strings as they are. In a pipeline of `make_fusion_pipeline`, decision-level
        fusion then has one more member over their words and characters, as for a `TextEncoder`. What this transformer
        returns does not change.
    random_state : int, RandomState or None
        Seed of the SVD.

    Attributes
    ----------
    vectorizers_ : list of TfidfVectorizer or None
        One for each column; None for a column without two distinct strings in fit.
    svds_ : list of TruncatedSVD or None
        One for each column; None where there are few enough pieces to take as they are.
    scales_ : ndarray of shape (n_columns,)
        Divisor of the components of each column.
    means_ : list of ndarray
        Means of the components of each column.
    has_missing_ : ndarray of bool of shape (n_columns,)
        Columns with missing cells in fit. They get one more number: 1 where the cell is missing. So does a column
        without components.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    TextEncoder : A network for texts of whole sentences.

    Notes
    -----
    A missing cell, and one of blanks only, has the mean of the column's components. Rows stay finite.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import StringFeatures
    >>> bikes = pd.DataFrame({"name": ["Trek Marlin 5", "Trek Marlin 7", "Giant Talon", "Giant Talon 2"]})
    >>> near = StringFeatures(2).fit(bikes).transform(pd.DataFrame({"name": ["Trek Marlin 6", "Trek Marlin 5"]}))
    >>> near.shape, bool(abs(near[0] - near[1]).max() < 0.1)
    ((2, 2), True)
    """

    def __init__(self, n_components=30, *, max_features=4000, words=True, random_state=0):
        self.n_components = n_components
        self.max_features = max_features
        self.words = words
        self.random_state = random_state

    @plain_inside
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the pieces and components of each column.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_columns)
            A cell is a str, or missing. Other values are taken as the text that str() makes of them.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `n_components` or `max_features` is no whole number from 1.
        """
        for name in ("n_components", "max_features"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1; got {value!r}.")
        _check_feature_names(self, X, reset=True)
        columns = _columns(X)
        self.n_features_in_ = len(columns)
        fitted = [self._fit_column(texts) for texts in columns]
        self.vectorizers_ = [vectorizer for vectorizer, _, _, _ in fitted]
        self.svds_ = [svd for _, svd, _, _ in fitted]
        self.means_ = [mean for _, _, mean, _ in fitted]
        self.scales_ = np.array([scale for _, _, _, scale in fitted])
        self.has_missing_ = np.array([any(text is None for text in texts) for texts in columns])
        return self

    def _fit_column(self, texts: list[str | None]) -> tuple[Any, Any, np.ndarray, float]:
        present = [text for text in texts if text is not None]
        distinct = set(present)
        if len(distinct) < 2:
            return None, None, np.zeros(0), 1.0
        vectorizer = TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=(1, 4),
            sublinear_tf=True,
            min_df=_FEWEST_SHARED if len(present) > len(distinct) or len(present) > 20 else 1,
            max_features=self.max_features,
        )
        try:
            counts = vectorizer.fit_transform(present)
        except ValueError:  # no piece is shared by two rows
            counts = vectorizer.set_params(min_df=1).fit_transform(present)
        n_components = min(self.n_components, len(distinct) - 1)
        if counts.shape[1] <= n_components:
            svd, values = None, counts.toarray()
        else:
            svd = TruncatedSVD(n_components, random_state=self.random_state)
            values = svd.fit_transform(counts)
            # Along the others the cells of fit differ by rounding alone, and new cells may differ by more.
            values = values[:, svd.singular_values_ > _LEAST_SINGULAR_VALUE * svd.singular_values_[0]]
        scale = float(np.sqrt(values.var(axis=0).sum()))
        return vectorizer, svd, values.mean(axis=0), scale if scale > 1e-9 else 1.0

    @plain_inside
    def transform(self, X: Any) -> np.ndarray:
        """Return the numbers of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_columns)

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        _check_feature_names(self, X, reset=False)
        _check_n_features(self, X, reset=False)
        parts = [self._transform_column(i, texts) for i, texts in enumerate(_columns(X))]
        return np.hstack(parts)

    def _transform_column(self, i: int, texts: list[str | None]) -> np.ndarray:
        vectorizer, svd, mean = self.vectorizers_[i], self.svds_[i], self.means_[i]
        values = np.zeros((len(texts), len(mean)))
        there = [row for row, text in enumerate(texts) if text is not None]
        if vectorizer is not None and there:
            counts = vectorizer.transform([texts[row] for row in there])
            found = counts.toarray() if svd is None else svd.transform(counts)[:, : len(mean)]
            values[there] = (found - mean) / self.scales_[i]
        if not self._marks_missing(i):
            return values
        return np.column_stack([values, [text is None for text in texts]]).astype(float)

    def _marks_missing(self, i: int) -> bool:
        return bool(self.has_missing_[i]) or self.vectorizers_[i] is None

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the numbers: ``name_0``, ``name_1``, ..., and ``name_missing``."""
        check_is_fitted(self)
        known = getattr(self, "feature_names_in_", None)
        if input_features is None:
            input_features = [f"x{i}" for i in range(self.n_features_in_)] if known is None else known
        names = []
        for i, column in enumerate(input_features):
            names += [f"{column}_{k}" for k in range(len(self.means_[i]))]
            names += [f"{column}_missing"] if self._marks_missing(i) else []
        return np.asarray(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.input_tags.allow_nan = True
        tags.input_tags.two_d_array = True
        return tags


def _columns(X: Any) -> list[list[str | None]]:
    """Return the texts of each column; None for a missing cell and for one of blanks."""
    frame = X.to_frame() if isinstance(X, pd.Series) else X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    return [[_text(cell) for cell in frame.iloc[:, i].tolist()] for i in range(frame.shape[1])]


def _text(cell: Any) -> str | None:
    if is_missing(cell):
        return None
    text = " ".join(str(cell).split())
    return text or None
