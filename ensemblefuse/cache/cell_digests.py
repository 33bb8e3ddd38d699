"""Digests of cells, which are the keys of the cache."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ensemblefuse.cache._segment import KEY_SIZE
from ensemblefuse.cache.file_digests import content_token, file_key, file_token
from ensemblefuse.cells.misread import AS_IT_IS, tiff_layout, was_misread

__all__ = ["cell_digest", "feed_token", "keys_of"]


def cell_digest(cell: Any, *, strings_are_paths: bool, former: bool = False) -> bytes:
    """Return 16 bytes that identify the content of a cell. Files with equal content have equal digests.

    Parameters
    ----------
    cell : str, path, bytes, PIL image, array, number, bool, None, or list, tuple or dict of these
    strings_are_paths : bool
        Whether a str is the name of a file, whose content is hashed, or is itself the content.
    former : bool, default=False
        Whether to return the digest of versions before 0.2. It is another one for files that they misread, so that
        vectors of other pixels or samples are not used again.

    Raises
    ------
    TypeError
        If the cell is of another type.
    OSError
        If a file cannot be read.
    """
    if strings_are_paths and isinstance(cell, str):
        return file_key(cell, former=former)
    hasher = hashlib.sha256()
    _feed(hasher, cell, strings_are_paths, former)
    return hasher.digest()[:KEY_SIZE]


def _feed(hasher: Any, cell: Any, paths: bool, former: bool) -> None:
    if isinstance(cell, os.PathLike) or (paths and isinstance(cell, str)):
        feed_token(hasher, "file", file_token(cell, former=former))
    elif isinstance(cell, (bytes, bytearray, memoryview)):
        is_misread = paths and not former and was_misread(io.BytesIO(cell))
        feed_token(hasher, "file" if paths else "bytes", content_token(hashlib.sha256(cell).digest(), is_misread))
    elif isinstance(cell, str):
        feed_token(hasher, "text", cell.encode("utf-8", "surrogatepass"))
    elif isinstance(cell, (np.ndarray, np.generic)):
        _feed_array(hasher, np.asarray(cell), paths, former)
    elif isinstance(cell, (bool, int, float, complex, type(None))):
        feed_token(hasher, type(cell).__name__, repr(cell).encode())
    elif isinstance(cell, (list, tuple)):
        feed_token(hasher, "list", str(len(cell)).encode())
        for item in cell:
            _feed(hasher, item, paths, former)
    elif isinstance(cell, dict):
        feed_token(hasher, "dict", str(len(cell)).encode())
        for key in sorted(cell, key=repr):
            _feed(hasher, key, False, former)
            _feed(hasher, cell[key], paths, former)
    elif type(cell).__module__.startswith("PIL."):
        _feed_image(hasher, cell, former)
    else:
        raise TypeError(f"a cell of type {type(cell).__name__} cannot be encoded")


def _feed_array(hasher: Any, array: np.ndarray, paths: bool, former: bool) -> None:
    if array.dtype.hasobject:
        feed_token(hasher, "objects", str(array.shape).encode())
        for item in array.ravel():
            _feed(hasher, item, paths, former)
        return
    feed_token(hasher, "array", f"{array.dtype.str} {array.shape}".encode())
    hasher.update(np.ascontiguousarray(array).data)


def _feed_image(hasher: Any, image: Any, former: bool) -> None:
    """Feed the pixels, and what changes how they are read: mode, palette, transparency, orientation."""
    image.load()  # a file that is opened lazily has no palette yet
    palette = (image.palette.mode, image.palette.tobytes()) if image.palette is not None else None
    orientation = image.getexif().get(0x0112, 1)
    facts = (image.mode, image.size, palette, image.info.get("transparency"), orientation)
    note = "" if former else _note_of_tiff(image)
    feed_token(hasher, "image", (repr(facts) + note).encode())
    hasher.update(image.tobytes())


def _note_of_tiff(image: Any) -> str:
    """Return a note about an opened TIFF whose samples are not what the mode says; "" for all other pictures."""
    if not hasattr(image, "tag_v2"):
        return ""
    try:
        layout = tiff_layout(image.tag_v2)
    except ValueError:
        return " refused"
    return "" if layout == AS_IT_IS else repr(layout)


def feed_token(hasher: Any, kind: str, content: bytes) -> None:
    """Feed a hasher with content, so that content of another kind or length gives another hash."""
    hasher.update(f"{kind}:{len(content)}:".encode())
    hasher.update(content)


def keys_of(cell: Any, encoder: Any) -> Iterator[bytes]:
    """Yield the keys of a cell, as `encoder` reads it; without an encoder, as a path and as content.

    A file that versions before 0.2 misread has its former key, too.
    """
    readings = (True, False) if encoder is None else (encoder.strings_are_paths,)
    n_found = 0
    for strings_are_paths in readings:
        try:
            yield cell_digest(cell, strings_are_paths=strings_are_paths)
            yield cell_digest(cell, strings_are_paths=strings_are_paths, former=True)
        except (OSError, ValueError):
            if strings_are_paths is readings[-1] and n_found == 0:
                raise
            continue
        n_found += 1
