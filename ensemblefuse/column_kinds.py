"""Detection of what a column of a table holds, from its cells."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.table import is_missing

__all__ = ["AUDIO_SUFFIXES", "IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "cell_kind", "column_kind"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus"})


VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"}
)


_EMBEDDING_NAME = re.compile(r"(?:^|[^a-z])emb(?:ed(?:ding)?)?s?(?:$|[^a-z])", re.IGNORECASE)


_NUMBERS = (bool, np.bool_, int, float, np.integer, np.floating, Decimal)

_LEAST_UNIT = 16  # with this many numbers in each cell, a norm of 1 in all cells is not a coincidence


def column_kind(column: pd.Series) -> tuple[str, str]:
    """Detect what a column holds, and give the reason.

    Parameters
    ----------
    column : Series

    Returns
    -------
    kind : {"image", "audio", "video", "text", "number", "category", "series", "embedding", "graph",
        "empty", "ambiguous"}
    reason : str
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        cells = [cell for cell in column.tolist() if not is_missing(cell)]
        kind, reason = _object_kind(cells) if cells else ("empty", "no cell holds a value")
        return (kind, reason) if kind in ("image", "audio", "video", "empty") else ("category", "dtype category")
    if pd.api.types.is_bool_dtype(column.dtype):
        return "category", f"dtype {column.dtype}"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number", f"dtype {column.dtype}"
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        return "ambiguous", f"dtype {column.dtype}: a date is not a modality as it is"
    cells = [cell for cell in column.tolist() if not is_missing(cell)]
    if not cells:
        return "empty", "no cell holds a value"
    kind, reason = _object_kind(cells)
    says_embedding = _embedding_reason(str(column.name), cells) if kind == "series" else None
    return ("embedding", says_embedding) if says_embedding else (kind, reason)


def _embedding_reason(name: str, cells: list[Any]) -> str | None:
    """Return why arrays of one dimension are embeddings and not series of equal length; None without such evidence."""
    n_dims = len(cells[0])
    if any(len(cell) != n_dims or np.asarray(cell).dtype.kind not in "iuf" for cell in cells):
        return None
    if _EMBEDDING_NAME.search(name):
        return f"arrays of {n_dims} numbers, and the column's name says embedding"
    if n_dims >= _LEAST_UNIT and all(abs(np.linalg.norm(cell) - 1) < 1e-3 for cell in cells):
        return f"arrays of {n_dims} numbers, each of norm 1"
    return None


def _object_kind(cells: list[Any]) -> tuple[str, str]:
    types = {type(cell) for cell in cells}
    if all(issubclass(kind, (bool, np.bool_)) for kind in types):
        return "category", "true or false"
    if all(issubclass(kind, _NUMBERS) for kind in types):
        return "number", "numbers in a column of objects"
    kinds = {cell_kind(cell) for cell in cells}
    if len(kinds) > 1:
        return "ambiguous", "the cells are of several kinds: " + ", ".join(sorted(kinds))
    kind = kinds.pop()
    if kind != "text":
        return kind, {
            "image": "image files, PIL images or arrays of 2 or 3 dimensions",
            "audio": "sound files",
            "video": "video files, or arrays of 4 dimensions",
            "series": "arrays of one dimension",
            "graph": "graphs: edges between nodes",
        }.get(kind, "cells of a type that no default encoder takes")
    return _text_kind(cells)


def cell_kind(cell: Any) -> str:
    """Return what one cell holds, as `column_kind` names it; never ``"number"``, ``"category"`` or ``"embedding"``."""
    if isinstance(cell, np.ndarray):
        return {1: "series", 4: "video"}.get(cell.ndim, "image")
    if isinstance(cell, (list, tuple)):
        return "series" if all(isinstance(value, (int, float, np.number)) for value in cell) else "ambiguous"
    if isinstance(cell, dict):
        return "graph" if "edge_index" in cell else "ambiguous"
    if type(cell).__module__.startswith(("torch_geometric.data.", "networkx.classes.")):
        return "graph"
    if type(cell).__module__.startswith("PIL."):
        return "image"
    if isinstance(cell, (str, os.PathLike)):
        suffix = PurePath(cell).suffix.lower() if len(str(cell)) < 4096 else ""
        if suffix in IMAGE_SUFFIXES:
            return "image"
        if suffix in AUDIO_SUFFIXES:
            return "audio"
        if suffix in VIDEO_SUFFIXES:
            return "video"
        return "text" if isinstance(cell, str) else "ambiguous"
    return "ambiguous"


def _text_kind(cells: list[str]) -> tuple[str, str]:
    """Distinguish free text from a category by its words and repetitions; between the two, return ``"ambiguous"``."""
    n_distinct, n_cells = len(set(cells)), len(cells)
    words = float(np.median([len(cell.split()) for cell in cells]))
    facts = f"{n_distinct} distinct values in {n_cells} cells, {words:g} words in the median"
    if words >= 3:
        return "text", facts
    if n_distinct <= max(2, min(50, n_cells // 10)):
        return "category", facts
    if words >= 2:
        return "text", facts
    return "ambiguous", f"{facts}: single words may be text, a category or an identifier"
