"""Numbers of later tables that lie far outside the range of fit, where a model knows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import counted
from ensemblefuse.schema._cells import is_number

__all__ = ["FarNumbers", "far_numbers", "far_text", "limits_of"]

_RANGES = 5.0  # a number is far if it lies so many times the range of fit beyond its end
_STRETCHED = 1.0  # and so many times the range on a scale that draws long tails in
_SHOWN = 5


@dataclass
class FarNumbers:
    """How many numbers of a column are far outside the range of fit, and a few of them.

    Attributes
    ----------
    count : int
    examples : list of float
        The first distinct ones, at most one more than a message shows. A server counts for as long as it runs.
    """

    count: int = 0
    examples: list[float] = field(default_factory=list)

    def add(self, other: FarNumbers) -> None:
        """Count those of another table, too."""
        self.count += other.count
        self.examples = list(dict.fromkeys([*self.examples, *other.examples]))[: _SHOWN + 1]


def limits_of(numbers: np.ndarray) -> list[float] | None:
    """Return the numbers below and above which others are far from those of fit; None if those are all equal.

    Long tails have values far beyond those of other rows, so the distance counts in two ways: in times the range of
    fit, and in times this range after an inverse hyperbolic sine, which is about a logarithm outside the middle half of
    the numbers.

    Parameters
    ----------
    numbers : ndarray of shape (n_samples,)
        Finite.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.schema import limits_of
    >>> low, high = limits_of(np.array([9.0, 10.0, 10.5, 11.0, 12.0]))
    >>> low < 0 and 20 < high < 1015
    True
    """
    low, first, middle, last, high = np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]).tolist()
    if low == high:
        return None
    scale = last - first or high - low
    with np.errstate(over="ignore"):  # where the middle half is next to nothing; `clip` takes infinite ends
        ends = np.arcsinh((np.array([low, high]) - middle) / scale)
    far = np.clip(ends + _STRETCHED * (ends[1] - ends[0]) * np.array([-1, 1]), -600, 600)
    below, above = (middle + scale * np.sinh(far)).tolist()
    span = _RANGES * (high - low)
    return [min(low - span, below), max(high + span, above)]


def far_numbers(X: pd.DataFrame, limits: Mapping[Any, Sequence[float]]) -> dict[Any, FarNumbers]:
    """Return the numbers beyond the limits of their columns, by column; X is read by its schema."""
    dtypes = zip(X.columns, X.dtypes.tolist(), strict=True)
    columns = [column for column, dtype in dtypes if str(column) in limits and is_number(dtype)]
    if not columns:
        return {}
    values = X[columns].to_numpy(np.float64, na_value=np.nan)
    low, high = np.array([limits[str(column)] for column in columns]).T
    far = (values < low) | (values > high)
    found = {columns[j]: values[far[:, j], j].tolist() for j in np.flatnonzero(far.any(axis=0)).tolist()}
    examples = {column: list(dict.fromkeys(numbers))[: _SHOWN + 1] for column, numbers in found.items()}
    return {column: FarNumbers(len(numbers), examples[column]) for column, numbers in found.items()}


def far_text(far: Mapping[Any, FarNumbers], ranges: Mapping[Any, Sequence[float]], n_rows: int) -> str:
    """Return one sentence for each column about its numbers that are far from those of fit; empty if there are none.

    `ranges` holds the smallest number of fit and the largest, first and last.
    """
    facts = []
    for column, numbers in far.items():
        shown = ", ".join(f"{number:g}" for number in numbers.examples[:_SHOWN])
        more = ", ..." if len(numbers.examples) > _SHOWN else ""
        low, *_, high = ranges[str(column)]
        held = "holds numbers" if numbers.count > 1 else "holds a number"
        facts.append(
            f"Column {column!r} {held} far outside the range of fit, {low:g} to {high:g}, in {numbers.count} of "
            f"{counted(n_rows, 'row')}: {shown}{more}."
        )
    return " ".join([*facts, "The model knows nothing of such rows; the unit may be another one."]) if facts else ""
