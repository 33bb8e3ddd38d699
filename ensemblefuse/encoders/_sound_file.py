"""One sound file, opened with distrust: what it is, what it promises, its samples block by block. Floor 2."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ensemblefuse._optional import import_optional

__all__ = ["LONGEST_HOURS", "RATES", "file_blocks", "open_sound"]

_NEEDED_BY = "AudioEncoder"
# Rates in Hz that a sound may have.
RATES = (1.0, 1e6)
LONGEST_HOURS = 24
_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's
_OGG_PAGE = 65_307  # bytes of the longest


@contextlib.contextmanager
def open_sound(source: Any, *, whole: bool) -> Iterator[Any]:
    """An open `soundfile.SoundFile`. Its length is what the header says: do not allocate by it.

    Parameters
    ----------
    source : str, path or bytes
    whole : bool
        Whether all of it is wanted: then one of over 24 hours is refused.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is no regular file, is empty, is cut short, or libsndfile cannot read it.
    """
    soundfile = import_optional("soundfile", needed_by=_NEEDED_BY)
    with _open_bytes(source) as (stream, size):
        _refuse_cut(stream, size)
        stream.seek(0)
        with _plain_errors(soundfile), soundfile.SoundFile(_Careful(stream)) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise ValueError(f"its sampling rate is {file.samplerate} Hz; from 1 to 1 000 000 are read")
            if whole and file.frames != _UNKNOWN_LENGTH and file.format != "MP3":
                refuse_long(file.frames, file.samplerate)
            yield file


def file_blocks(file: Any, n_frames: int) -> Iterator[np.ndarray]:
    """Samples of an open sound in blocks.

    Parameters
    ----------
    file : soundfile.SoundFile
    n_frames : int
        Length of a block.

    Yields
    ------
    ndarray of shape (at most n_frames, n_channels), dtype float32
        A view of one buffer, which the next block overwrites.

    Raises
    ------
    ValueError
        If the file holds fewer samples than it promises, or what stands in it cannot be decoded.
    """
    buffer = np.empty((max(1, n_frames // file.channels), file.channels), dtype=np.float32)
    n_read = 0
    # Not `file.read`, which asks `file.frames` how much is left.
    while n := file.buffer_read_into(buffer, dtype="float32"):
        n_read += n
        yield buffer[:n]
    # The length of an MP3 is an estimate.
    if n_read < file.frames != _UNKNOWN_LENGTH and file.format != "MP3":
        raise ValueError(f"cut short: the file holds {n_read} of its {file.frames} samples")


def refuse_long(n_frames: int, rate: float) -> None:
    """Raise ValueError for a sound of over 24 hours."""
    hours = n_frames / rate / 3600
    if hours > LONGEST_HOURS:
        raise ValueError(
            f"it lasts {hours:.4g} hours; at most {LONGEST_HOURS} are read. Cut it into rows, or pass max_seconds"
        )


@contextlib.contextmanager
def _open_bytes(source: Any) -> Iterator[tuple[BinaryIO, int]]:
    if not isinstance(source, (str, os.PathLike)):
        if len(source) == 0:
            raise ValueError("no samples")
        yield io.BytesIO(source), len(source)
        return
    status = os.stat(source)
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for its writer, and a device never ends
        raise ValueError("not a regular file")
    if not status.st_size:
        raise ValueError("no samples")
    # By number: soundfile takes a name that ends with .raw for a file without a header.
    number = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    with open(number, "rb", buffering=2**18) as file:
        yield file, status.st_size


class _Careful:
    """A stream whose `seek` refuses nothing: libsndfile cannot hear an error, and Python would print it."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.readinto, self.tell = stream.readinto, stream.tell  # type: ignore[attr-defined]

    def read(self, n: int = -1) -> bytes:
        return self._stream.read(n)

    def write(self, data: bytes) -> int:
        raise io.UnsupportedOperation("write")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._stream.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return self._stream.seek(0, os.SEEK_END)


@contextlib.contextmanager
def _plain_errors(soundfile: Any) -> Iterator[None]:
    try:
        yield
    except soundfile.LibsndfileError as error:  # its text names the object, not the user's file
        raise ValueError(f"not a sound file that can be read: {error.error_string}") from error


def _refuse_cut(stream: BinaryIO, size: int) -> None:
    """libsndfile reads half a WAV, AIFF, AU or OGG without a word; the file tells how long it was meant to be."""
    header = stream.read(28)
    promised = _end_of_last_page(stream, size) if header[:4] == b"OggS" else _promised_size(header)
    if size < promised:
        raise ValueError(f"cut short: the file holds {size} of its {promised} bytes")


def _promised_size(header: bytes) -> int:
    """Bytes that a file should have; 0 if it does not say.

    A recorder that could not go back to its header leaves 0 or the largest number there.
    """
    kind, inner = header[:4], header[8:12]
    if (kind, inner) in ((b"RIFF", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC"), (b"RIFX", b"WAVE")):
        length = int.from_bytes(header[4:8], "little" if kind == b"RIFF" else "big")
        return length + 8 if length < 2**31 - 2**16 else 0
    if kind in (b"RF64", b"BW64") and header[12:16] == b"ds64":
        return int.from_bytes(header[20:28], "little") + 8
    if kind == b"riff":  # Sony's Wave64
        return int.from_bytes(header[16:24], "little")
    if kind == b".snd":
        start, length = int.from_bytes(header[4:8], "big"), int.from_bytes(header[8:12], "big")
        return start + length if length < 2**32 - 1 else 0
    return 0


def _end_of_last_page(stream: BinaryIO, size: int) -> int:
    """Where the last page of an OGG file should end; 0 if none is found."""
    start = max(0, size - 2 * _OGG_PAGE)
    stream.seek(start)
    tail = stream.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return start + at + 27 + (page[26] if len(page) > 26 else 0)
    return start + at + 27 + page[26] + sum(page[27 : 27 + page[26]])
