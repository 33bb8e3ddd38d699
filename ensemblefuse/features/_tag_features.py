"""Lists of tags as numbers."""

from __future__ import annotations

from collections import Counter
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import short_repr
from ensemblefuse.features._columns import ColumnFeatures, read_columns
from ensemblefuse.table import is_missing

__all__ = ["TagFeatures"]


class TagFeatures(ColumnFeatures):
    """Turn lists of tags into numbers: one column for each frequent tag, which says whether a cell has it.

    Two more columns hold how many tags a cell has, and how many of them are rare. A tag that fit never saw counts
    among the tags of its cell, and nowhere else.

    Parameters
    ----------
    min_frequency : int or float
        A tag has its own column if it stands in at least so many cells of fit, or in this share of them.
    max_tags : int, optional
        At most so many tags of a column have their own; the most frequent ones do.

    Attributes
    ----------
    tags_ : list of list of str
        Tags of each column with their own output, in alphabetical order.
    rare_tags_ : list of list of str
        The other tags of fit.
    has_missing_ : list of bool
        Whether each column had missing cells in fit. If so, one more number, 0 or 1, says where a cell is missing.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        In `fit`, if a parameter is out of its range.
    TypeError
        In `fit` and `transform`, if a cell is no list of texts. A `ModalityTransformer` reads lists that are written as
        one text.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import TagFeatures
    >>> films = pd.DataFrame({"genre": [["drama", "war"], ["drama"], ["comedy"]]})
    >>> tags = TagFeatures().set_output(transform="pandas").fit(films)
    >>> tags.transform(pd.DataFrame({"genre": [["drama", "war", "noir"], []]}))
       genre=drama  genre_n_rare  genre_n_tags
    0          1.0           1.0           3.0
    1          0.0           0.0           0.0
    """

    def __init__(self, *, min_frequency: float = 2, max_tags: int | None = 100):
        self.min_frequency = min_frequency
        self.max_tags = max_tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the frequent tags of each column.

        Parameters
        ----------
        X : DataFrame or array of objects, of shape (n_samples, n_columns)
            Each cell is a list, tuple, set or array of str, or missing.
        y : ignored

        Returns
        -------
        self
        """
        self._check_parameters()
        columns = [_lists(cells) for cells in read_columns(self, X, reset=True)]
        self.tags_, self.rare_tags_, self.has_missing_ = [], [], []
        for lists in columns:
            counts = Counter(tag for tags in lists for tag in set(tags or ()))
            least = self.min_frequency
            least = least if isinstance(least, Integral) else least * len(lists)
            frequent = sorted((tag for tag, n in counts.items() if n >= least), key=lambda tag: (-counts[tag], tag))
            self.tags_.append(sorted(frequent[: self.max_tags]))
            self.rare_tags_.append(sorted(counts.keys() - set(self.tags_[-1])))
            self.has_missing_.append(any(tags is None for tags in lists))
        return self

    def _numbers_of(self, i: int, cells: pd.Series) -> np.ndarray:
        lists = _lists(cells)
        place = {tag: j for j, tag in enumerate(self.tags_[i])}
        rare, n_tags = set(self.rare_tags_[i]), len(place)
        block = np.zeros((len(lists), n_tags + 3))
        for row, tags in zip(block, lists, strict=True):
            row[[place[tag] for tag in set(tags or ()) if tag in place]] = 1
            row[n_tags:] = len(rare.intersection(tags or ())), len(set(tags or ())), tags is None
        kept = [
            *range(n_tags),
            *([n_tags] if rare else []),
            n_tags + 1,
            *([n_tags + 2] if self.has_missing_[i] else []),
        ]
        return block[:, kept]

    def _names_of(self, i: int, column: Any) -> list[str]:
        names = [f"{column}={tag}" for tag in self.tags_[i]]
        names += [f"{column}_n_rare"] * bool(self.rare_tags_[i]) + [f"{column}_n_tags"]
        return names + [f"{column}_missing"] * self.has_missing_[i]

    def _check_parameters(self) -> None:
        least, most = self.min_frequency, self.max_tags
        is_count = isinstance(least, Integral) and least >= 1
        if isinstance(least, bool) or not (is_count or (isinstance(least, Real) and 0 < least < 1)):
            raise ValueError(f"min_frequency must be a whole number from 1, or a share between 0 and 1; got {least!r}.")
        if most is not None and not (isinstance(most, Integral) and most >= 1):
            raise ValueError(f"max_tags must be a whole number from 1, or None; got {most!r}.")


def _lists(cells: pd.Series) -> list[list[str] | None]:
    lists: list[list[str] | None] = []
    for row, cell in zip(cells.index, cells.tolist(), strict=True):
        if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)) and all(isinstance(tag, str) for tag in cell):
            lists.append(list(cell))
        elif is_missing(cell):
            lists.append(None)
        else:
            raise TypeError(
                f"Column {cells.name!r} holds {short_repr(cell)} in row {row!r}, which is no list of texts; split the "
                "texts first, as in column.str.split('|')."
            )
    return lists
