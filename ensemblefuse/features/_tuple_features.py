"""Cells that hold more than one number: numbers at a limit, and several numbers in each cell."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import UnreadableCell, censored_format, read_cell
from ensemblefuse.exceptions import short_repr
from ensemblefuse.features._columns import ColumnFeatures, read_columns
from ensemblefuse.table import is_missing

__all__ = ["CensoredFeatures", "NumberFeatures"]


class _TupleFeatures(ColumnFeatures):
    """Base class: each cell is a tuple of numbers, of one length in a column."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn how many numbers the cells of each column hold.

        Parameters
        ----------
        X : DataFrame or array of objects, of shape (n_samples, n_columns)
        y : ignored

        Returns
        -------
        self
        """
        columns = read_columns(self, X, reset=True)
        self.sizes_ = [self._size_of(cells) for cells in columns]
        blocks = [self._values(cells, size) for cells, size in zip(columns, self.sizes_, strict=True)]
        self.kept_ = [list(range(block.shape[1])) for block in blocks]
        return self

    def _numbers_of(self, i: int, cells: pd.Series) -> np.ndarray:
        return self._values(cells, self.sizes_[i])[:, self.kept_[i]]

    def _names_of(self, i: int, column: Any) -> list[str]:
        return [self._name(column, place) for place in self.kept_[i]]

    def _size_of(self, cells: pd.Series) -> int:
        raise NotImplementedError

    def _name(self, column: Any, i: int) -> str:
        raise NotImplementedError

    def _numbers(self, cell: Any) -> Any:
        """Return the numbers of a cell that is not missing, or something else if it has none."""
        return cell

    def _values(self, cells: pd.Series, size: int) -> np.ndarray:
        block = np.full((len(cells), size), np.nan)
        for i, (row, cell) in enumerate(zip(cells.index, cells.tolist(), strict=True)):
            if is_missing(cell):
                continue
            numbers = self._numbers(cell)
            if not _are_numbers(numbers) or len(numbers) != size:
                raise TypeError(f"Column {cells.name!r} holds {short_repr(cell)} in row {row!r}, {self._wanted(size)}.")
            block[i] = numbers
        return block

    def _wanted(self, size: int) -> str:
        return f"which is no tuple of {size} numbers, as in fit"


class CensoredFeatures(_TupleFeatures):
    """Turn numbers of which some say only a limit, such as ``<0.5`` or ``5+``, into the number and marks of limits.

    The value of such a cell is its limit. The true one is unknown, so another column says where it is below, and one
    more where it is above the limit: a model can give these rows a level of their own. Nothing is made up, as half the
    limit would be, and no cell is lost. Both marks always have a column, also if no cell of
    fit has such a limit: a later one would be an exact number.

    Attributes
    ----------
    sizes_ : list of int
        3 for each column: number, mark of a true number below it, mark of one above.
    kept_ : list of list of int
        Which of the three each column has in the output: all, but in files of older versions only marks that fit saw.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError
        In `fit` and `transform`, if a cell is neither such a number nor missing. A `ModalityTransformer` reads cells by
        the form of fit, also with units and decimal commas. Alone, this transformer reads plain numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import CensoredFeatures
    >>> values = pd.DataFrame({"crp": ["<0.5", 1.2, None, "0.9"]})
    >>> CensoredFeatures().set_output(transform="pandas").fit_transform(values)
       crp  crp_below  crp_above
    0  0.5        1.0        0.0
    1  1.2        0.0        0.0
    2  NaN        NaN        NaN
    3  0.9        0.0        0.0
    """

    _ENDS: ClassVar[tuple[str, ...]] = ("", "_below", "_above")
    _PLAIN: ClassVar[dict[str, Any]] = censored_format(["1.5"], declared=True).format  # type: ignore[union-attr]

    def _size_of(self, cells: pd.Series) -> int:
        return len(self._ENDS)

    def _name(self, column: Any, i: int) -> str:
        return f"{column}{self._ENDS[i]}"

    def _numbers(self, cell: Any) -> Any:
        if isinstance(cell, (tuple, list)):
            return cell
        try:
            return read_cell(cell, self._PLAIN)
        except UnreadableCell:
            return None

    def _wanted(self, size: int) -> str:
        return "which is no number, and no limit such as '<0.5'"


class NumberFeatures(_TupleFeatures):
    """Turn cells that hold several numbers, such as ``5x6x7 cm`` or ``120/80``, into a column for each of them.

    A `ModalityTransformer` reads the texts, in the form of fit. Alone, this transformer takes tuples or lists of
    numbers, of one length in each column.

    Attributes
    ----------
    sizes_ : list of int
        How many numbers the cells of each column hold.
    kept_ : list of list of int
        Which of them each column has in the output: all.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError
        In `fit` and `transform`, if a cell is no tuple of as many numbers as the others of fit.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import NumberFeatures
    >>> values = pd.DataFrame({"size": [(5.0, 6.0), None, (4.0, 7.0)]})
    >>> NumberFeatures().set_output(transform="pandas").fit_transform(values)
       size_1  size_2
    0     5.0     6.0
    1     NaN     NaN
    2     4.0     7.0
    """

    def _size_of(self, cells: pd.Series) -> int:
        first = next((cell for cell in cells.tolist() if not is_missing(cell)), ())
        return len(first) if _are_numbers(first) and len(first) else 1  # the cell itself is told of, or all are missing

    def _name(self, column: Any, i: int) -> str:
        return f"{column}_{i + 1}"


def _are_numbers(cell: Any) -> bool:
    """Return whether a cell is a tuple, a list or an array of real numbers."""
    if not isinstance(cell, (tuple, list, np.ndarray)):
        return False
    return all(isinstance(part, (int, float, np.integer, np.floating)) for part in cell)
