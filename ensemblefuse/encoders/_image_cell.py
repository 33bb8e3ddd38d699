"""One image cell, of whatever kind, as an upright 8-bit RGB picture. Floor 2. Knows no network."""

from __future__ import annotations

import io
import os
import threading
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

_WHITE = (255, 255, 255)
_DEPTH = 65535
# `warnings.catch_warnings` swaps the filters of the whole process: one thread at a time.
_filters_lock = threading.Lock()


def read_rgb(cell: Any) -> Image.Image:
    """Read a cell as a person would see it: upright, 8-bit RGB, transparent parts on white.

    Parameters
    ----------
    cell : str, path, bytes, PIL image, or array of shape (height, width) or (height, width, 1, 3 or 4)
        A file (its first frame) or its content; a PIL image (its current frame; left unchanged); an array of uint8,
        of uint16 (0 to 65535) or of floats in [0, 1].

    Returns
    -------
    PIL.Image.Image
        Mode RGB, in memory; no file stays open.

    Raises
    ------
    TypeError
        If the cell is of another type.
    ValueError
        If an array has another shape, dtype or range.
    OSError
        If the file cannot be read, is no image, or is cut short.
    PIL.Image.DecompressionBombError
        If it holds more pixels than twice `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    if isinstance(cell, (str, os.PathLike)):
        with open(cell, "rb") as file:
            return _read_file(file)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _read_file(io.BytesIO(cell))
    if isinstance(cell, Image.Image):
        return _upright_rgb(cell)
    if isinstance(cell, np.ndarray):
        return _on_white(_from_array(cell))
    raise TypeError(
        f"an image cell must be a path, bytes, a PIL image or an array; got {type(cell).__module__}."
        f"{type(cell).__qualname__}"
    )


def _read_file(file: Any) -> Image.Image:
    with _filters_lock, warnings.catch_warnings():
        # Honest files pass PIL's first mark (89 million pixels); its second, twice that, stays an error.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(file)
    with image:
        image.load()
        return _upright_rgb(image)


def _upright_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        upright = _from_integers(upright)
    elif upright.mode == "F":
        upright = _from_array(np.asarray(upright))
    return _on_white(upright)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    canvas = Image.new("RGBA", layer.size, (*_WHITE, 255))
    return Image.alpha_composite(canvas, layer).convert("RGB")


def _from_integers(image: Image.Image) -> Image.Image:
    """A picture of more than 8 bits; `convert` would cut it off at 255 instead of scaling it."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _DEPTH:
        raise ValueError(
            f"a picture of mode {image.mode} must hold values from 0 to {_DEPTH}; got {values.min()} to {values.max()}"
        )
    grey = Image.fromarray(_scaled(values))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _scaled(values: np.ndarray) -> np.ndarray:
    return np.rint(values * (255 / _DEPTH)).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        hint = "; move the channels to the last axis" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ValueError(
            "an image array must have shape (height, width), (height, width, 1), (height, width, 3) or "
            f"(height, width, 4); got {array.shape}{hint}"
        )
    pixels = _as_uint8(array)
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.ndim == 3 and channels == 1 else pixels))


def _as_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of either byte order
        return _scaled(array)
    if array.dtype.kind != "f":
        raise ValueError(f"an image array must be of uint8, uint16 or floats in [0, 1]; got {array.dtype}")
    if not (array.min() >= 0 and array.max() <= 1):  # NaN fails both
        raise ValueError(f"an image array of floats must lie in [0, 1]; got {array.min():g} to {array.max():g}")
    return np.rint(array * 255.0).astype(np.uint8)
