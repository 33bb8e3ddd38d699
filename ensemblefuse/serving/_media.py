"""Files in cells: the source of their bytes, and checks of their headers. Nothing here decodes a file."""

from __future__ import annotations

import base64
import binascii
import io
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ensemblefuse.cells.image import decoding_cost
from ensemblefuse.cells.image import open_image as open_picture
from ensemblefuse.cells.sound_file import open_sound
from ensemblefuse.cells.video import is_animation
from ensemblefuse.cells.video_file import open_container
from ensemblefuse.exceptions import short_repr
from ensemblefuse.serving._errors import CellError, found

__all__ = ["FileReader", "check_picture", "check_sound", "check_video", "wanted_files"]

_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's value
_MICROSECONDS = 1_000_000
_STEREO = 2 * 48_000  # values in a second of an ordinary sound


class FileReader:
    """Reader of the bytes of the file objects in one request.

    Parameters
    ----------
    uploads : mapping of str to bytes, or None
        Parts of the form by name; None if the body is not a form.
    folder : Path or None
        Folder whose files cells may name.
    max_bytes : int
        Largest number of bytes of all files that are named by path.

    Attributes
    ----------
    used : set of str
        Uploads that a cell has named.
    pixels, seconds : float
        Totals of the files that were read so far.
    cost : float
        Total of all cells that were read so far: of each, its share of what a cell may have.
    costs : list of float
        That of each row.
    """

    def __init__(self, uploads: Mapping[str, bytes] | None, folder: Path | None, max_bytes: int):
        self.uploads, self.folder, self.max_bytes = uploads, folder, max_bytes
        self.used: set[str] = set()
        self.pixels = self.seconds = self.cost = 0.0
        self.costs: list[float] = []
        self._by_path: dict[str, bytes] = {}

    def read(self, cell: Any) -> bytes:
        """Return the bytes of one file object.

        Raises
        ------
        CellError
            If the cell is not a file object, or names a file that may not be read.
        """
        sources: dict[str, Callable[[str], bytes]] = {"base64": _decode}
        if self.uploads is not None:
            sources["upload"] = self._upload
        if self.folder is not None:
            sources["path"] = self._path
        if not isinstance(cell, dict) or len(cell) != 1 or next(iter(cell)) not in sources:
            named = f" with {', '.join(short_repr(name) for name in list(cell)[:3])}" if isinstance(cell, dict) else ""
            raise CellError(f"expected {wanted_files(sources)}; got {found(cell)}{named}")
        source, value = next(iter(cell.items()))
        if not isinstance(value, str):
            raise CellError(f"{source!r} must be a string; got {found(value)}")
        content = sources[source](value)
        if not content:
            raise CellError("the file is empty; use null if there is none")
        return content

    def _upload(self, name: str) -> bytes:
        assert self.uploads is not None
        if name not in self.uploads:
            raise CellError(f"the form has no file part {short_repr(name)}; it has {len(self.uploads)}")
        self.used.add(name)
        return self.uploads[name]

    def _path(self, name: str) -> bytes:
        if name not in self._by_path:
            assert self.folder is not None
            left = self.max_bytes - sum(map(len, self._by_path.values()))
            self._by_path[name] = _read_inside(self.folder, name, left)
        return self._by_path[name]


def wanted_files(sources: Any) -> str:
    """Return how to write a file in a cell, for a message."""
    shown = {"base64": '{"base64": "..."}', "upload": '{"upload": "name of a part"}', "path": '{"path": "a/file"}'}
    return " or ".join(shown[source] for source in sources)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CellError("'base64' is not valid base64 (RFC 4648, section 4, with padding)") from error


def _read_inside(folder: Path, name: str, most: int) -> bytes:
    """Return the bytes of a regular file in a folder; nothing is revealed about files outside, not even existence."""
    refusal = CellError(f"there is no file {short_repr(name)} in the served folder")
    if "\0" in name or not name or Path(name).is_absolute():
        raise refusal
    try:
        root = folder.resolve(strict=True)
        path = (root / name).resolve(strict=True)
        if not path.is_relative_to(root):
            raise refusal
        # If the file was replaced in the meantime, these flags follow no link and wait for no pipe.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise refusal
            content = file.read(most + 1)
    except (OSError, RuntimeError) as error:
        raise refusal from error
    if len(content) > most:
        raise CellError("the files that the request names by path have more bytes than max_body allows")
    return content


# ---------------------------------------------------------------------- headers


def check_picture(content: bytes, max_pixels: int) -> int:
    """Return the number of pixels of a picture according to its header; pixels that decode slowly count several times.

    Raises
    ------
    CellError
        If it is not a picture, or has more than `max_pixels`.
    """
    try:
        with open_picture(file := io.BytesIO(content)) as image:
            width, height = image.size
            cost = decoding_cost(image, file) if width * height <= max_pixels else 0
    except Exception as error:  # Pillow's readers raise anything on damaged content
        raise CellError(f"{_said(error, 'not a picture that can be read')}") from error
    if width * height > max_pixels:
        raise CellError(f"a picture of {width} x {height} pixels; at most {max_pixels} are allowed in a cell")
    if cost > max_pixels:
        raise CellError(
            f"a picture of {width} x {height} pixels of a kind that decodes slowly: they count as {cost}, and at most "
            f"{max_pixels} are allowed in a cell"
        )
    return cost


def check_sound(content: bytes, max_seconds: float) -> float:
    """Return the seconds of a sound according to its header; more values than 48 kHz in stereo count as longer.

    Raises
    ------
    CellError
        If it is not a sound, or has more than `max_seconds`.
    """
    try:
        with open_sound(content, max_hours=None) as file:
            frames, rate, channels = file.frames, file.samplerate, file.channels
    except (ValueError, OSError, RuntimeError) as error:
        raise CellError(_said(error, "not a sound that can be read")) from error
    if frames == _UNKNOWN_LENGTH:
        raise CellError(f"its header does not state its length; at most {max_seconds:g} seconds are allowed")
    seconds = max(frames / rate, frames * channels / _STEREO)
    if seconds > max_seconds:
        much = f", as much as {seconds:.0f} of stereo at 48 kHz" if seconds > frames / rate else ""
        raise CellError(f"a sound of {frames / rate:.0f} seconds{much}; at most {max_seconds:g} are allowed")
    return seconds


def check_video(content: bytes, max_seconds: float, max_pixels: int) -> tuple[float, float]:
    """Return the seconds of a video according to its header, and the pixels of a frame if it is an animation.

    Raises
    ------
    CellError
        If it is not a video, is longer than `max_seconds`, or has frames of more than `max_pixels`.
    """
    if is_animation(io.BytesIO(content)):
        return 0.0, check_picture(content, max_pixels)
    try:
        with open_container(io.BytesIO(content), needed_by="VideoEncoder") as container:
            seconds = (container.duration or 0) / _MICROSECONDS
            pixels = max((s.codec_context.width * s.codec_context.height for s in container.streams.video), default=0)
    except (ValueError, OSError, RuntimeError, AttributeError) as error:
        raise CellError(_said(error, "not a video that can be read")) from error
    if seconds > max_seconds:
        raise CellError(f"a video of {seconds:.0f} seconds; at most {max_seconds:g} are allowed")
    if pixels > max_pixels:
        raise CellError(f"a video with frames of {pixels} pixels; at most {max_pixels} are allowed")
    return seconds, 0.0


def _said(error: Exception, otherwise: str) -> str:
    """Return the message of the library's own readers about a damaged file; for other errors only the class."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, (ValueError, OSError)) and text else f"{otherwise} ({type(error).__name__})"
