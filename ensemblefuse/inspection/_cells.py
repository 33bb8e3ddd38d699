"""Cells shown to people: a thumbnail of a picture, the beginning of anything else."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import PurePath
from typing import Any

import numpy as np

from ensemblefuse.column_kinds import IMAGE_SUFFIXES

__all__ = ["cell_html", "cell_text"]

_LONGEST = 200
_PIXELS = 96


def cell_text(cell: Any) -> str:
    """Return a cell as a short text."""
    if isinstance(cell, np.ndarray):
        return f"array {cell.shape} {cell.dtype}"
    if isinstance(cell, (float, np.floating)):
        return f"{cell:.4g}"
    text = str(cell)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def cell_html(cell: Any) -> str:
    """Return a cell as HTML: a picture as a thumbnail inside the page, all else as escaped text."""
    picture = _picture(cell)
    if picture is None:
        return html.escape(cell_text(cell))
    picture.thumbnail((_PIXELS, _PIXELS))
    file = io.BytesIO()
    picture.convert("RGB").save(file, "PNG")
    name = html.escape(cell_text(cell)) if isinstance(cell, (str, os.PathLike)) else ""
    code = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{code}" alt="{name}" title="{name}">'


def _picture(cell: Any) -> Any:
    """Return a copy of the picture in a cell, or in the file that it names; None if no picture can be shown."""
    from PIL import Image

    if isinstance(cell, Image.Image):
        return cell.copy()
    if isinstance(cell, np.ndarray) and cell.dtype == np.uint8 and cell.ndim in (2, 3) and cell.size:
        return Image.fromarray(cell) if cell.ndim == 2 or cell.shape[-1] in (3, 4) else None
    if isinstance(cell, (str, os.PathLike)) and PurePath(cell).suffix.lower() in IMAGE_SUFFIXES:
        try:
            with Image.open(cell) as picture:
                return picture.copy()
        except OSError:
            return None  # the text of the cell is shown instead
    return None
