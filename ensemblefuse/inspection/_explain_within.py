"""Explanation of the inside of a modality of one row, by removing parts of its raw cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_kinds import cell_kind, column_kind
from ensemblefuse.encoders import (
    AudioEncoder,
    GraphEncoder,
    ImageEncoder,
    PrecomputedEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    VideoEncoder,
    VideoSoundEncoder,
    WordVectorEncoder,
)
from ensemblefuse.features.present_rows import takes_sequence
from ensemblefuse.inspection._gradcam import gradcam
from ensemblefuse.inspection._occlude_columns import ColumnParts
from ensemblefuse.inspection._occlude_image import ImageParts
from ensemblefuse.inspection._occlude_series import SeriesParts
from ensemblefuse.inspection._occlude_sound import SoundParts
from ensemblefuse.inspection._occlude_text import TextParts
from ensemblefuse.inspection._part_explanation import CannotExplain, PartExplanation
from ensemblefuse.inspection._row_model import RowModel, first_encoder
from ensemblefuse.inspection._surrogates import by_lime, by_shap

__all__ = ["METHODS", "Settings", "explain_inside"]

METHODS = ("occlusion", "gradcam", "lime", "shap")
_OF_ENCODER = {
    ImageEncoder: "image",
    AudioEncoder: "sound",
    TextEncoder: "text",
    WordVectorEncoder: "text",
    TimeSeriesEncoder: "series",
}
_NOT_EXPLAINED = (GraphEncoder, PrecomputedEncoder, VideoEncoder, VideoSoundEncoder)
_OF_CELL = {"image": "image", "text": "text", "series": "series", "audio": "sound"}
_PARTS = {"image": ImageParts, "text": TextParts, "sound": SoundParts, "series": SeriesParts, "columns": ColumnParts}


@dataclass(frozen=True)
class Settings:
    """Settings for explaining the inside of modalities; see `explain_row`."""

    method: str
    background: Any
    grid: int
    n_samples: int
    random_state: int


def explain_inside(row: RowModel, name: str, settings: Settings, *, must: bool) -> PartExplanation:
    """Explain the inside of one modality; with ``must=False``, return the reason if that is impossible."""
    try:
        parts = find_parts(row, name, settings)
        ask = lambda keep: value_of(row, name, parts, keep)
        if settings.method == "gradcam" and isinstance(parts, ImageParts):
            must = True  # the user chose this method for pictures, so a failure is an error
            return gradcam(row, name, parts)
        if settings.method in ("occlusion", "gradcam"):
            effects = _by_occlusion(ask, parts.n_parts)
        else:
            surrogate = by_lime if settings.method == "lime" else by_shap
            effects = surrogate(ask, parts.n_parts, settings.n_samples, settings.random_state)
        return parts.explanation(effects, "occlusion" if settings.method == "gradcam" else settings.method)
    except CannotExplain as error:
        if must:
            raise ValueError(f"modality {name!r} cannot be explained inside: {error}") from error
        return PartExplanation(kind="none", method=settings.method, note=f"Not explained inside: {error}")


def find_parts(row: RowModel, name: str, settings: Settings) -> Any:
    """Return the removable parts of a modality."""
    if row.step is not None and name not in row.parts.columns:
        raise CannotExplain("the pipeline does not name its columns")
    cells = row.cells(name)
    return _PARTS[_kind(row, name, cells, settings)](row, name, cells, settings)


def _kind(row: RowModel, name: str, cells: pd.DataFrame, settings: Settings) -> str:
    if row.step is None:
        return "columns"
    transformer = row.transformer(name)
    encoder = first_encoder(transformer)
    for cls, known_kind in _OF_ENCODER.items():
        if isinstance(encoder, cls):
            return known_kind
    if isinstance(encoder, _NOT_EXPLAINED):
        raise CannotExplain(f"removing parts of a cell is not implemented for {type(encoder).__name__}")
    if cells.shape[1] > 1:
        return "columns"
    column, cell = cells.columns[0], cells.iloc[0, 0]
    kind: str | None
    if encoder is not None:
        kind = _of_cell(cell, encoder)
    elif hasattr(transformer, "transform") and takes_sequence(transformer):
        kind = _of_cell(cell, None)
    else:
        known = settings.background if column in settings.background else cells
        kind = _OF_CELL.get(column_kind(known[column])[0], "columns")
    if kind is None:
        raise CannotExplain(f"{type(encoder).__name__} reads a {type(cell).__name__}, which has no known parts")
    return kind


def _of_cell(cell: Any, encoder: Any) -> str | None:
    """Return the kind of a cell, if the class of the encoder does not determine it; None if it has no known parts."""
    if isinstance(cell, str):
        return None if getattr(encoder, "strings_are_paths", False) else "text"
    if isinstance(cell, tuple) and len(cell) == 2 and isinstance(cell[0], np.ndarray):
        return "sound"
    if isinstance(cell, (int, float, np.number)):
        return "columns"
    return _OF_CELL.get(cell_kind(cell))


def _by_occlusion(ask: Callable[[np.ndarray], np.ndarray], n_parts: int) -> np.ndarray:
    """Compute the drop of the value when each part is removed alone."""
    values = ask(np.vstack([np.ones((1, n_parts), dtype=bool), ~np.eye(n_parts, dtype=bool)]))
    return values[0] - values[1:]


def value_of(row: RowModel, name: str, parts: Any, keep: np.ndarray) -> np.ndarray:
    """Return the value with only some parts of a modality kept.

    Parameters
    ----------
    keep : ndarray of shape (n, n_parts), dtype bool

    Returns
    -------
    ndarray of shape (n,)
    """
    step = parts.n_at_once
    return np.concatenate([row.of_cells(name, parts.cells(keep[k : k + step])) for k in range(0, len(keep), step)])
