"""Parts of a picture: cells of a grid, filled with the mean colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ensemblefuse.cells.image import read_rgb
from ensemblefuse.encoders import ImageEncoder
from ensemblefuse.inspection._part_explanation import MOST_BYTES, CannotExplain, PartExplanation, cell_table, unit_of
from ensemblefuse.inspection._row_model import RowModel, first_encoder

__all__ = ["ImageParts"]


class ImageParts:
    """The cells of a grid over a picture.

    `ImageEncoder` and networks on pictures get arrays of 8 bits instead of the cell. Other encoders get the type of the
    cell: an array of the same dtype and shape, or a PIL image.
    """

    def __init__(self, row: RowModel, name: str, cells: pd.DataFrame, settings: Any):
        self.column, self.cell = cells.columns[0], cells.iloc[0, 0]
        self.encoder, self.network = first_encoder(row.transformer(name)), row.picture_network(name)
        self.pixels = self._read()
        height, width = self.pixels.shape[:2]
        self.shape = min(settings.grid, height), min(settings.grid, width)
        self.rows, self.columns = (
            np.linspace(0, n, k + 1).round().astype(int) for n, k in zip((height, width), self.shape, strict=True)
        )
        self.n_parts, self.is_class = self.shape[0] * self.shape[1], row.code is not None
        self.n_at_once = max(1, MOST_BYTES // max(1, self.pixels.nbytes))

    def _read(self) -> np.ndarray:
        if isinstance(self.cell, (list, tuple)):
            raise CannotExplain(f"its cell holds {len(self.cell)} pictures; only a single picture can be explained")
        if isinstance(self.encoder, ImageEncoder):
            return np.asarray(self.encoder._read(self.cell, None))
        if isinstance(self.cell, np.ndarray):
            return self.cell
        if isinstance(self.cell, Image.Image) or self.network is not None:
            return np.asarray(read_rgb(self.cell))
        raise CannotExplain(
            f"{type(self.encoder).__name__} reads a {type(self.cell).__name__}, but a picture with parts removed is an "
            "array; this works for ImageEncoder, and for encoders whose cells are arrays or PIL images"
        )

    def cells(self, keep: np.ndarray) -> pd.DataFrame:
        """Return the picture with the mean colour in the grid cells that are not kept."""
        mean = self.pixels.mean(axis=(0, 1)).astype(self.pixels.dtype)
        made = []
        for kept in keep:
            picture = self.pixels.copy()
            for k in np.flatnonzero(~kept):
                r, c = divmod(int(k), self.shape[1])
                picture[self.rows[r] : self.rows[r + 1], self.columns[c] : self.columns[c + 1]] = mean
            made.append(Image.fromarray(picture) if isinstance(self.cell, Image.Image) else picture)
        return cell_table(self.column, made)

    def picture(self) -> np.ndarray | None:
        """Return the picture to show; None if it cannot be shown, such as an array of other numbers."""
        try:
            return np.asarray(read_rgb(self.pixels))
        except (TypeError, ValueError):
            return None

    def explanation(self, effects: np.ndarray, method: str) -> PartExplanation:
        """Return the grid with its effects."""
        unit = unit_of(method, self.is_class)
        return PartExplanation("image", method, effects.reshape(self.shape), self.picture(), unit=unit)
