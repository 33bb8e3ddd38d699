"""Parts of a table: columns, replaced by usual values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.inspection._part_explanation import CannotExplain, PartExplanation, unit_of
from ensemblefuse.inspection._row_model import RowModel
from ensemblefuse.schema import read_by_schema
from ensemblefuse.table import is_missing

__all__ = ["ColumnParts"]


class ColumnParts:
    """The columns of a modality; a removed column gets its usual value, computed from the background rows.

    The usual value is the median for numbers, and the most frequent value for anything else. The model itself does not
    keep the rows of fit, so other rows must provide it.
    """

    n_at_once = 1024

    def __init__(self, row: RowModel, name: str, cells: pd.DataFrame, settings: Any):
        self.row, self.n_parts, self.is_class = cells, cells.shape[1], row.code is not None
        self.shown = {column: _shown(column, cells[column].iloc[0], row) for column in cells.columns}
        known = settings.background
        known = pd.DataFrame(known) if isinstance(known, np.ndarray) else known
        absent = [column for column in cells.columns if column not in known]
        if absent:
            raise CannotExplain(f"background lacks its columns {absent[:5]}")
        if len(known) < 2:
            raise CannotExplain(
                "the values that replace its columns come from other rows, but X has only one; pass background=, such "
                "as the rows of fit"
            )
        known = read_by_schema(known[list(cells.columns)], row.parts.schema).table
        kinds = {column: held["kind"] for column, held in row.parts.schema.items()}
        self.usual = {column: _usual(column, known[column], kinds.get(column)) for column in cells.columns}

    def cells(self, keep: np.ndarray) -> pd.DataFrame:
        """Return the row with usual values in the columns that are not kept."""
        columns = {}
        for column, kept in zip(self.row.columns, keep.T, strict=True):
            own, usual = self.row[column].iloc[0], self.usual[column]
            columns[column] = pd.Series([own if stays else usual for stays in kept])
            dtype = self.row[column].dtype
            if not pd.api.types.is_numeric_dtype(dtype):
                columns[column] = columns[column].astype(dtype)
        return pd.DataFrame(columns)

    def explanation(self, effects: np.ndarray, method: str) -> PartExplanation:
        """Return the columns with their effects."""
        index = pd.Index(self.row.columns, name="column")
        note = "A removed column is replaced by the median, or the most frequent value, of other rows."
        shown = pd.Series([self.shown[column] for column in self.row.columns], index=index, dtype=object)
        return PartExplanation(
            "columns", method, pd.Series(effects, index=index), shown, unit=unit_of(method, self.is_class), note=note
        )


def _shown(column: Any, cell: Any, row: RowModel) -> Any:
    """Return a cell as it is shown: texts that are read as dates stay as they are, since a time of day has no date.

    Numbers that are read as dates are shown as days: a gap in their column makes floats of all.
    """
    held = row.parts.schema.get(column, {})
    if held.get("kind") != "date" or "format" not in held or column not in row.row:
        return cell
    given = row.row[column].iloc[0]
    is_number = isinstance(given, (int, float, np.integer, np.floating)) and not is_missing(cell)
    return cell.date().isoformat() if is_number else given


def _usual(column: Any, cells: pd.Series, kind: str | None) -> Any:
    cells = cells.dropna()
    if not len(cells):
        raise CannotExplain(f"background holds no value in column {column!r}")
    numeric = pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype)
    if numeric and kind in (None, "number"):
        return float(cells.median())
    try:
        return cells.mode().iloc[0]
    except TypeError:
        raise CannotExplain(f"the most frequent value of column {column!r} cannot be determined") from None
