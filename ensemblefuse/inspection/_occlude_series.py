"""Parts of a series: windows, set to the mean of the series."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.inspection._part_explanation import CannotExplain, PartExplanation, cell_table, unit_of
from ensemblefuse.inspection._row_model import RowModel

__all__ = ["SeriesParts"]


class SeriesParts:
    """Windows of equal length of a series, over all channels."""

    n_at_once = 1024

    def __init__(self, row: RowModel, name: str, cells: pd.DataFrame, settings: Any):
        self.table, self.cell = cells, cells.iloc[0, 0]
        self.is_grouped = cells.shape[1] > 1 or pd.api.types.is_numeric_dtype(cells.dtypes.iloc[0])
        try:
            values = cells.to_numpy(dtype=float)[0] if self.is_grouped else np.asarray(self.cell, dtype=float)
        except (TypeError, ValueError):
            raise CannotExplain(f"its cell is a {type(self.cell).__name__}, not a series of numbers") from None
        self.values = values
        self.n_samples = int(np.shape(values)[-1])
        self.edges = np.linspace(0, self.n_samples, min(3 * settings.grid, self.n_samples) + 1).round().astype(int)
        self.n_parts, self.is_class = len(self.edges) - 1, row.code is not None

    def cells(self, keep: np.ndarray) -> pd.DataFrame:
        """Return the series with its mean in the windows that are not kept."""
        mean = np.nanmean(self.values, axis=-1, keepdims=True)
        stays = np.repeat(keep, np.diff(self.edges), axis=1)  # of each sample
        made = [np.where(row, self.values, mean) for row in stays]
        if self.is_grouped:
            return pd.DataFrame(np.array(made), columns=self.table.columns)
        return cell_table(self.table.columns[0], made)

    def explanation(self, effects: np.ndarray, method: str) -> PartExplanation:
        """Return the windows with their effects."""
        index = pd.Index(self.edges[:-1], name="first sample")
        return PartExplanation(
            "series",
            method,
            pd.Series(effects, index=index, name="effect"),
            np.atleast_2d(self.values),
            edges=(self.edges,),
            unit=unit_of(method, self.is_class),
        )
