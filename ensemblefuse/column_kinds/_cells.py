"""What one cell holds, by its type, its first bytes or the name of its file."""

from __future__ import annotations

import datetime
import os
import re
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import numpy as np

__all__ = [
    "AUDIO_SUFFIXES",
    "DATES",
    "EMPTY_LIST",
    "IMAGE_SUFFIXES",
    "MEDIA",
    "NUMBERS",
    "SCALARS",
    "SEEN_OF",
    "VIDEO_SUFFIXES",
    "cell_kind",
    "is_blank",
    "is_empty_list",
    "suffix_of",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus"})


VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"}
)


MEDIA = ("image", "audio", "video")
NUMBERS = (bool, np.bool_, int, float, np.integer, np.floating, Decimal)
DATES = (datetime.date, np.datetime64)
SCALARS = (str, *NUMBERS, *DATES)
EMPTY_LIST = re.compile(r"\[\s*\]|\(\s*\)|\{\s*\}")
_PICTURE_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def cell_kind(cell: Any) -> str:
    """Return what one cell holds: a medium, ``"series"``, ``"graph"``, ``"tags"``, ``"text"`` or ``"other"``."""
    if isinstance(cell, np.ndarray):
        if cell.dtype.kind in "OUT" and cell.ndim == 1:
            return cell_kind(cell.tolist())
        return {1: "series", 2: "image", 3: "image", 4: "video"}.get(cell.ndim, "other")
    if isinstance(cell, (list, tuple, set, frozenset)):
        kind = _list_kind(list(cell))
        return "other" if kind == "series" and isinstance(cell, (set, frozenset)) else kind
    if isinstance(cell, bytes):
        is_webp = cell[:4] == b"RIFF" and cell[8:12] == b"WEBP"
        return "image" if is_webp or cell.startswith(_PICTURE_BYTES) else "other"
    if isinstance(cell, dict):
        return "graph" if "edge_index" in cell else "other"
    if type(cell).__module__.startswith(("torch_geometric.data.", "networkx.classes.")):
        return "graph"
    if type(cell).__module__.startswith("PIL."):
        return "image"
    if isinstance(cell, (str, os.PathLike)):
        suffix = suffix_of(cell)
        for kind, suffixes in zip(MEDIA, (IMAGE_SUFFIXES, AUDIO_SUFFIXES, VIDEO_SUFFIXES), strict=True):
            if suffix in suffixes:
                return kind
        return "text" if isinstance(cell, str) else "other"
    return "other"


def suffix_of(cell: str | os.PathLike) -> str:
    return PurePath(cell).suffix.lower() if len(str(cell)) < 4096 else ""


def _list_kind(parts: list[Any]) -> str:
    if all(isinstance(part, (int, float, np.number)) for part in parts):
        return "series"
    if not all(isinstance(part, str) for part in parts):
        return "other"
    # A list of paths is several pictures of one row, or the frames of a video: the user must say which.
    return "other" if any(cell_kind(part) in MEDIA for part in parts) else "tags"


SEEN_OF = {
    "image": "image files, PIL images or arrays of 2 or 3 dimensions",
    "audio": "sound files",
    "video": "video files, or arrays of 4 dimensions",
    "series": "arrays of one dimension",
    "graph": "graphs: edges between nodes",
}


def is_blank(cell: Any) -> bool:
    return isinstance(cell, str) and not cell.strip()


def is_empty_list(cell: Any) -> bool:
    if isinstance(cell, str):
        return EMPTY_LIST.fullmatch(cell.strip()) is not None
    if isinstance(cell, np.ndarray):
        return cell.shape == (0,)
    return isinstance(cell, (list, tuple, set, frozenset)) and not cell
