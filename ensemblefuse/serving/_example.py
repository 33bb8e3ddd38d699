"""One row to start from, for the page: a row that the model was saved with, or usual numbers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ensemblefuse.serving._cells import RowReader
from ensemblefuse.serving._info import Column
from ensemblefuse.serving._media import FileReader
from ensemblefuse.serving._settings import ServerSettings
from ensemblefuse.table import is_missing

__all__ = ["example_row"]


def example_row(
    example: pd.DataFrame | None, columns: Mapping[str, Column], reader: RowReader, settings: ServerSettings
) -> dict[str, Any]:
    """Return cells by column as a request gives them; columns without a cell that can be sent are left out.

    Parameters
    ----------
    example : DataFrame or None
        Rows that the model was saved with; of these, the first one of those that hold most. Without them, numbers are
        the medians of fit.
    columns : dict of str to Column
    reader : RowReader
        Only cells that it accepts are returned.
    settings : ServerSettings
    """
    if example is None:
        return {name: column.median for name, column in columns.items() if column.median is not None}
    rows = [_cells(row, columns) for row in example.to_dict("records")]
    read = [{name: cell for name, cell in row.items() if _accepted({name: cell}, reader, settings)} for row in rows]
    return max(read, key=len)


def _accepted(row: dict[str, Any], reader: RowReader, settings: ServerSettings) -> bool:
    return not reader.read([row], FileReader(None, None, settings.max_body))[1]


def _cells(row: Mapping[Any, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
    made = {}
    for name, column in columns.items():
        cell = row.get(name)
        if cell is not None and not is_missing(cell):
            value = _as_json(cell, column.kind)
            if value is not None:
                made[name] = value
    return made


def _as_json(cell: Any, kind: str) -> Any:
    """Return a cell as a JSON value; None if there is no form of it that a request can have."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, np.ndarray) and kind == "image":
        cell = _as_png(cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)) and all(isinstance(item, bytes) for item in cell):
        return [_as_json(item, kind) for item in cell] or None
    if isinstance(cell, bytes):
        return {"base64": base64.b64encode(cell).decode()}
    if isinstance(cell, (pd.Timestamp, pd.Timedelta)):
        return cell.isoformat()
    try:
        json.dumps(cell, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return cell


def _as_png(pixels: np.ndarray) -> Any:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        return None
    file = io.BytesIO()
    try:
        Image.fromarray(pixels).save(file, "PNG")
    except (TypeError, ValueError, OSError):  # channels that a PNG does not have
        return None
    return file.getvalue()
