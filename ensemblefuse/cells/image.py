"""Reader of an image cell of any kind into an upright 8-bit RGB picture."""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ensemblefuse.cells._picture_layout import AS_IT_IS, Layout, picture_layout, tiff_layout

# Pillow's own limit: twice the default `Image.MAX_IMAGE_PIXELS`. A user's setting of the latter is not in the recipe.
MAX_PIXELS = 178_956_970
WHITE = (255, 255, 255)
_DEPTH = 65535
_STRIP = 1 << 20  # pixels
_TO_8_BITS = np.rint(np.arange(_DEPTH + 1) * (255 / _DEPTH)).astype(np.uint8)
# Pillow decodes most formats at 20 to 300 million pixels a second. For these decoders a pixel counts as several, so
# that `max_pixels` bounds the time.
_SLOWNESS = {"jpeg2k": 4, "qoi": 8, "dds_rgb": 8, "ppm_plain": 8, "bmp_rle": 8}
_USUAL_SCANS = 16  # of a progressive JPEG; each takes about as long as a whole picture of few details
# Formats that are recognised by their first bytes and read by Pillow alone. EPS is left out, because its reader starts
# Ghostscript. So are formats without such bytes (IM, PCD, SPIDER): they accept files that are not pictures. TGA has no
# such bytes either, but is in use; so it comes last.
FORMATS = (
    "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF", "HEIF", "DDS", "ICNS", "ICO", "JPEG2000", "PCX", "PSD",
    "QOI", "SGI", "TGA",
)  # fmt: skip
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")  # a frame can only be decoded after all frames before it
_PAGED = ("TIFF", "MPO")
_DRAWINGS = {
    b"<svg": "an SVG drawing",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "an EPS document",
}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_rgb(
    cell: Any,
    *,
    background: tuple[int, int, int] = WHITE,
    frame: int = 0,
    max_pixels: int = MAX_PIXELS,
    short_side: int | None = None,
) -> Image.Image:
    """Read a cell as a viewer shows it: upright, 8-bit RGB, transparent parts on a background.

    Parameters
    ----------
    cell : str, path, bytes, PIL image, or array of shape (height, width) or (height, width, 1, 3 or 4)
        A file or its content; a PIL image (its current frame is read, and it is not changed); an array of uint8, of
        uint16 (0 to 65535) or of floats in [0, 1].
    background : tuple of 3 int, default=(255, 255, 255)
        Red, green and blue behind transparent parts.
    frame : int, default=0
        Frame of an animation or page of a file; -1 is the last.
    max_pixels : int, default=178956970
        Largest number of pixels that a file's header may give. In an animation, all frames up to the one that is read
        count.
    short_side : int or None, default=None
        Number of pixels that the short side needs. A JPEG file of at least four times this size is decoded at a half, a
        quarter or an eighth of its size, so that at least twice `short_side` remains. None decodes it in full.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, in memory; no file stays open.

    Raises
    ------
    TypeError
        If the cell is of another type.
    ValueError
        If an array or picture has another shape, dtype or range; if a file is damaged, has more pixels than
        `max_pixels`, or has fewer frames.
    OSError
        If the file cannot be read, is not a regular file, is not an image, or is truncated.
    """
    if isinstance(cell, (str, os.PathLike)):
        with open_regular(cell) as file:
            return _read_file(file, background, frame, max_pixels, short_side)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _read_file(io.BytesIO(cell), background, frame, max_pixels, short_side)
    if isinstance(cell, Image.Image):
        return _upright_rgb(cell, background, tiff_layout(cell.tag_v2) if hasattr(cell, "tag_v2") else AS_IT_IS)
    if isinstance(cell, np.ndarray):
        return _on_background(_from_array(cell), background)
    raise TypeError(
        f"an image cell must be a path, bytes, a PIL image or an array; got {type(cell).__module__}."
        f"{type(cell).__qualname__}"
    )


def open_regular(path: str | os.PathLike[str]) -> Any:
    """Open a regular file to read its bytes. A pipe would wait forever for a writer, and a device never ends."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # `open` itself refuses a directory
        raise OSError(f"not a regular file: {os.fspath(path)!r} is a pipe, a socket or a device")
    return Path(path).open("rb")


def _read_file(
    file: Any, background: tuple[int, int, int], frame: int, max_pixels: int, short_side: int | None
) -> Image.Image:
    try:
        with open_image(file) as image:
            _check_size(image, max_pixels)
            if frame:
                _seek(image, frame, max_pixels)
            _check_cost(image, file, max_pixels)
            layout = picture_layout(image, file)
            if short_side is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (2 * short_side, 2 * short_side))
            image.load()
            return _upright_rgb(image, background, layout)
    except (OSError, ValueError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # some of Pillow's readers raise it for a part of the file
        raise ValueError(str(error)) from error
    except Exception as error:  # on damaged content Pillow's readers raise any error, even NotImplementedError
        raise ValueError(f"damaged or of a kind that Pillow cannot decode ({type(error).__name__}: {error})") from error


def _accepts(accept: Any, prefix: bytes) -> bool:
    try:
        return accept(prefix) is True
    except (IndexError, struct.error):  # of a file of few bytes, before Pillow 12
        return False


def open_image(file: Any) -> Any:
    """Open an image like `Image.open`, but only of `FORMATS`, and without the warning about large pictures.

    That warning could only be silenced by a filter of the whole process, which would affect other threads.
    """
    Image.init()
    prefix = file.read(16)
    reason = ""
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or (accept is not None and not _accepts(accept, prefix)):
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as in `Image.open`
            reason = reason or (f" (it begins like {name}: {error})" if accept is not None else "")
    file.seek(0)
    start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    for mark, what in _DRAWINGS.items():
        if start.startswith(mark) or (mark == b"<svg" and start.startswith((b"<?xml", b"<!")) and mark in start):
            raise UnidentifiedImageError(f"{what} has no pixels: rasterise it first, for instance to PNG")
    what = "an empty file" if not prefix else f"a picture{reason}"
    raise UnidentifiedImageError(f"cannot identify {what}; formats that can be read: {', '.join(FORMATS)}")


def _check_size(image: Image.Image, max_pixels: int, n_frames: int = 1) -> None:
    width, height = image.size
    if width * height * n_frames > max_pixels:
        frames = f", {n_frames} frames to decode" if n_frames > 1 else ""
        raise ValueError(f"{width} x {height} pixels{frames}: more than max_pixels={max_pixels}")


def decoding_cost(image: Any, file: Any) -> int:
    """Return the number of pixels of an opened picture, multiplied where its decoder is slow.

    Parameters
    ----------
    image : PIL.ImageFile.ImageFile
        Not yet decoded.
    file : binary file
        The file that Pillow reads; its position is kept.
    """
    factor = float(max((_SLOWNESS.get(tile[0], 1) for tile in image.tile[:1]), default=1))
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        place = file.tell()
        file.seek(0)
        factor = max(1.0, sum(part.count(b"\xff\xda") for part in iter(lambda: file.read(_STRIP), b"")) / _USUAL_SCANS)
        file.seek(place)
    return int(image.width * image.height * factor)


def _check_cost(image: Any, file: Any, max_pixels: int) -> None:
    cost = decoding_cost(image, file)
    if cost > max_pixels:
        raise ValueError(
            f"{image.width} x {image.height} pixels of a kind of {image.format} that decodes slowly: they count as "
            f"{cost}, more than max_pixels={max_pixels}. Save it as PNG, or pass a larger max_pixels"
        )


def _seek(image: Any, frame: int, max_pixels: int) -> None:
    n_frames = getattr(image, "n_frames", 1) if image.format in (*_ANIMATED, *_PAGED) else 1
    index = frame + n_frames if frame < 0 else frame
    if not 0 <= index < n_frames:
        raise ValueError(f"frame={frame} does not exist: the file has {n_frames} frame{'s' if n_frames > 1 else ''}")
    if image.format in _ANIMATED:
        _check_size(image, max_pixels, index + 1)
    try:
        image.seek(index)
    except EOFError as error:
        raise ValueError(f"frame={frame} does not exist, although the file declares {n_frames} frames") from error
    _check_size(image, max_pixels)


def _orientation(image: Image.Image) -> Any:
    """Return the orientation in the EXIF record; 1 if the record cannot be read, as in viewers."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, struct.error):
        return 1


def _upright_rgb(image: Image.Image, background: tuple[int, int, int], layout: Layout) -> Image.Image:
    if not image.width * image.height:
        raise ValueError(f"a picture of {image.width} x {image.height} pixels")
    image.load()  # this turns a TIFF and removes its orientation
    turn = _TURNS.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode.startswith("I"):
        upright = _from_integers(upright, layout)
    elif upright.mode == "F":
        upright = _from_array(np.asarray(upright))
    elif layout.transparency != 1:
        upright = upright.copy()
        upright.info["transparency"] = image.info["transparency"] * layout.transparency
    return _on_background(upright, background)


def _on_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    width, height = image.size
    out = Image.new("RGB", image.size)
    step = max(1, _STRIP // width)
    for top in range(0, height, step):  # in strips, because a whole picture would be copied four times
        strip = image.crop((0, top, width, min(top + step, height)))
        layer = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        canvas = Image.new("RGBA", layer.size, (*background, 255))
        out.paste(Image.alpha_composite(canvas, layer).convert("RGB"), (0, top))
    return out


def _from_integers(image: Image.Image, layout: Layout) -> Image.Image:
    """Scale a picture of more than 8 bits. `convert` would clip it at 255 instead."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > layout.white:
        raise ValueError(
            f"a picture of mode {image.mode} must hold values from 0 to {layout.white}; got {values.min()} to "
            f"{values.max()}"
        )
    levels = _TO_8_BITS
    if layout != AS_IT_IS:
        levels = np.rint(np.arange(layout.white + 1) * (255 / layout.white)).astype(np.uint8)
        levels = levels[::-1] if layout.inverted else levels
    grey = Image.fromarray(levels[values])
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, np.uint8(0), np.uint8(255))))
    return grey


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
        return _TO_8_BITS[array]
    if array.dtype.kind != "f":
        raise ValueError(f"an image array must be of uint8, uint16 or floats in [0, 1]; got {array.dtype}")
    if not (array.min() >= 0 and array.max() <= 1):  # NaN fails both
        raise ValueError(
            f"a picture of floats must lie in [0, 1]; got {array.min():g} to {array.max():g}. Divide all of them by "
            "one number: a range taken from each picture would make dark ones bright"
        )
    return np.rint(array * 255.0).astype(np.uint8)
