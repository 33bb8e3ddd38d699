"""Reader of an untrusted sound file: checks of its format and declared length, and its samples block by block."""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.cells._sound_frames import begins_like_variable_mp3, flac_fault, read_mp3, with_length

__all__ = ["MOST_HOURS", "RATES", "checked_rate", "file_blocks", "open_sound", "refuse_long", "was_misread"]

_NEEDED_BY = "AudioEncoder"
# Rates in Hz that a sound may have. A file costs as much as it lasts: at 1 Hz, 172 kB would last a day.
RATES = (200.0, 1e6)
MOST_HOURS = 4.0
_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's mark
_OGG_PAGE = 65_307  # largest number of bytes
# First bytes of accepted files. libsndfile reads fifteen more formats; some of their readers loop on a broken file.
_MARKS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b".snd", b"dns.", b"caff", b"fLaC", b"OggS", b"NIST")
_INNER_MARKS = {b"FORM": (b"AIFF", b"AIFC"), b"RIFF": (b"WAVE",), b"RIFX": (b"WAVE",)}
_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "NIST", "MP3"})
# Formats whose header declares where the samples end, and the chunks of some: bytes of a length, and their order.
_CHUNKS = {b"RIFF": (4, "little"), b"RIFX": (4, "big"), b"FORM": (4, "big"), b"caff": (8, "big")}
_DECLARED = frozenset({*_CHUNKS, b"RF64", b"BW64", b".snd", b"dns."})
_NOTES = frozenset({b"LIST", b"INFO", b"bext", b"iXML", b"id3 ", b"PEAK", b"cue ", b"NAME", b"ANNO", b"APPL", b"info"})
_TAGS = (b"TAG", b"ID3", b"APETAGEX")  # that some programs append to any file
_MP3_FRAME = 1152  # samples
_PROBED = 2**16  # bytes
_IN_MEMORY = 2**26  # bytes of a file
_MOST_TAGS = 16
_MOST_CHUNKS = 1000


@contextlib.contextmanager
def open_sound(source: Any, *, max_hours: float | None) -> Iterator[Any]:
    """Open a `soundfile.SoundFile`. Its length comes from the header: do not allocate memory by it.

    Parameters
    ----------
    source : str, path or bytes
    max_hours : float or None
        If its header declares more, it is refused. None refuses no length.

    Raises
    ------
    OSError
        If the file does not exist.
    ValueError
        If it is not a regular file, is empty, has another format, is truncated, holds more than its header declares, is
        several sounds one after another, changes its rate, or libsndfile cannot read it.
    """
    soundfile = import_optional("soundfile", needed_by=_NEEDED_BY)
    with _open_bytes(source) as (stream, size):
        start = _refuse_other_formats(stream)
        _refuse_cut(stream, size)
        stream.seek(start)
        kind = stream.read(4)
        if kind == b"OggS":
            _refuse_chained(stream, start)
        elif kind == b"fLaC" or kind[:1] == b"\xff":
            stream = _checked_frames(stream, start, kind == b"fLaC")
        stream.seek(0)
        with _plain_errors(soundfile), soundfile.SoundFile(_Careful(stream)) as file:
            if file.format not in _FORMATS:
                raise ValueError(_NO_SOUND.format(f"it is of the format {file.format}"))
            checked_rate(file.samplerate)
            if max_hours is not None and file.frames != _UNKNOWN_LENGTH and file.format != "MP3":
                refuse_long(file.frames, file.samplerate, max_hours)
            yield file


def file_blocks(file: Any, n_frames: int) -> Iterator[np.ndarray]:
    """Yield the samples of an open sound in blocks.

    Parameters
    ----------
    file : soundfile.SoundFile
    n_frames : int
        Largest number of samples in a block, over all channels.

    Yields
    ------
    ndarray of shape (at most n_frames, n_channels), dtype float32
        A view of one buffer, which the next block overwrites.

    Raises
    ------
    ValueError
        If the file holds fewer samples than its header declares, or cannot be decoded.
    """
    buffer = np.empty((max(1, n_frames // file.channels), file.channels), dtype=np.float32)
    n_read = 0
    # Not `file.read`, which computes the rest from `file.frames`. After each block soundfile would seek to the current
    # position, which a FLAC of unknown length does not support.
    file.seekable = lambda: False
    while n := file.buffer_read_into(buffer, dtype="float32"):
        n_read += n
        yield buffer[:n]
    # The length of an MP3 is an estimate.
    if n_read < file.frames != _UNKNOWN_LENGTH and file.format != "MP3":
        raise ValueError(f"cut short: the file holds {n_read} of its {file.frames} samples")


def checked_rate(rate: float) -> float:
    """Return a sampling rate in Hz; raise ValueError if no sound has it."""
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(
            f"its sampling rate is {rate:.10g} Hz; sounds of {RATES[0]:g} to 1 000 000 Hz can be read. Measurements of "
            "lower rates are for TimeSeriesEncoder"
        )
    return rate


def refuse_long(n_frames: int, rate: float, max_hours: float) -> None:
    """Raise ValueError for a sound of more hours."""
    hours = n_frames / rate / 3600
    if hours > max_hours:
        raise ValueError(
            f"it lasts {hours:.4g} hours; at most max_hours={max_hours:g} are read. Split it into rows, pass a larger "
            "max_hours, or pass max_seconds to read its beginning"
        )


@contextlib.contextmanager
def _open_bytes(source: Any) -> Iterator[tuple[BinaryIO, int]]:
    if not isinstance(source, (str, os.PathLike)):
        if len(source) == 0:
            raise ValueError("no samples")
        yield io.BytesIO(source), len(source)
        return
    status = os.stat(source)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer, and a device never ends
        raise ValueError("not a regular file")
    if not status.st_size:
        raise ValueError("no samples")
    # Opened by number, because soundfile treats a name that ends with .raw as a file without a header.
    number = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    with open(number, "rb", buffering=2**18) as file:
        yield file, status.st_size


class _Careful:
    """A stream whose `seek` never raises: libsndfile ignores errors of a callback, and Python would print them."""

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
    except soundfile.LibsndfileError as error:  # its own text names an internal object, not the file
        raise ValueError(f"not a sound file that can be read: {error.error_string}") from error


_NO_SOUND = "not a sound file that can be read: {}; WAV, FLAC, OGG, MP3, AIFF, AU, CAF and NIST SPHERE are"


def _refuse_other_formats(stream: BinaryIO) -> int:
    """Return where the sound begins, behind ID3 tags; raise ValueError for formats that libsndfile shall not read."""
    at = 0
    for _ in range(_MOST_TAGS):
        stream.seek(at)
        header = stream.read(12)
        if header[:3] != b"ID3" or len(header) < 10:
            break
        at += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(header[6:10], (21, 14, 7, 0), strict=True))
    kind = header[:4]
    is_mpeg = len(header) > 1 and header[0] == 0xFF and header[1] >= 0xE0
    if not is_mpeg and (kind not in _MARKS or header[8:12] not in _INNER_MARKS.get(kind, (header[8:12],))):
        raise ValueError(_NO_SOUND.format("Format not recognised"))
    return at


def _refuse_cut(stream: BinaryIO, size: int) -> None:
    """Raise ValueError if a file is shorter or longer than it declares. libsndfile reads most such files silently."""
    stream.seek(0)
    header = stream.read(28)
    promised = _end_of_last_page(stream, size) if header[:4] == b"OggS" else _promised_size(stream, header)
    if size < promised:
        raise ValueError(f"cut short: the file holds {size} of its {promised} bytes")
    if promised and header[:4] in _DECLARED and (n_more := _undeclared(stream, header[:4], promised, size)):
        raise ValueError(
            f"its header is wrong: it declares {promised} bytes, and {n_more} more follow that it does not describe"
        )


def _undeclared(stream: BinaryIO, kind: bytes, at: int, size: int) -> int:
    """Return the number of bytes behind the samples that are neither chunks nor tags nor zeros."""
    width, order = _CHUNKS.get(kind, (0, "big"))
    for _ in range(_MOST_CHUNKS if width else 0):
        at += at % 2 if width == 4 else 0
        stream.seek(at)
        header = stream.read(4 + width)
        end = at + 4 + width + int.from_bytes(header[4:], order)  # type: ignore[arg-type]
        if len(header) < 4 + width or not all(32 <= byte < 127 for byte in header[:4]):
            break
        if end > size + 1 and header[:4] not in _NOTES:
            break
        at = min(end, size)
    stream.seek(at)
    start = stream.read(8)
    if start.startswith(_TAGS) or len(start) < 8:
        return 0
    return max(0, size - at) if any(start) or any(any(part) for part in iter(lambda: stream.read(2**16), b"")) else 0


def _refuse_chained(stream: BinaryIO, at: int) -> None:
    """Raise ValueError for an OGG file of several sounds: libsndfile reads the first one only."""
    is_begun = False
    while True:
        stream.seek(at)
        page = stream.read(27 + 255)
        if len(page) < 27 or page[:4] != b"OggS":
            return
        is_first = bool(page[5] & 2)
        if is_first and is_begun:
            raise ValueError("it is several sounds one after another (a chained OGG); store each in a file of its own")
        is_begun = is_begun or not is_first
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])


def _checked_frames(stream: BinaryIO, start: int, is_flac: bool) -> BinaryIO:
    """Return the stream of a FLAC or MP3 file, of an MP3 with a false length one with the right length.

    Raises
    ------
    ValueError
        If the file contradicts its header, and cannot be read all the same.
    """
    with _content(stream) as data:
        if is_flac:
            if fault := flac_fault(data, start):
                raise ValueError(f"{fault}; store it anew, for instance as WAV")
            return stream
        mp3 = read_mp3(data, start)
        if mp3 is None:
            return stream
        if mp3.fault:
            raise ValueError(f"{mp3.fault} after {mp3.n_samples} samples; store each part in a file of its own")
        length = _guessed_length(stream) + 2 * _MP3_FRAME if mp3.declared is None else mp3.declared
        return io.BytesIO(with_length(data, mp3)) if length < mp3.n_samples else stream


def _guessed_length(stream: BinaryIO) -> int:
    """Return the number of samples that libsndfile would read of an MP3 without a length; 0 if it cannot open it."""
    soundfile = import_optional("soundfile", needed_by=_NEEDED_BY)
    stream.seek(0)
    with contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(_Careful(stream)) as file:
        return 0 if file.frames == _UNKNOWN_LENGTH else int(file.frames)
    return 0


@contextlib.contextmanager
def _content(stream: BinaryIO) -> Iterator[Any]:
    """Yield the bytes of a stream; those of a large file are not read into memory."""
    if isinstance(stream, io.BytesIO):
        yield stream.getvalue()
        return
    if stream.seek(0, os.SEEK_END) <= _IN_MEMORY:
        stream.seek(0)
        yield stream.read()
        return
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def was_misread(file: BinaryIO) -> bool:
    """Return whether versions before 0.2 may have read a part of a sound and taken it for the whole.

    This is known for a header that declares too few bytes, and for an MP3 of variable bit rate without a length. It is
    not looked for where the whole file would have to be searched: FLAC, OGG, MP3 with a false length.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) in _DECLARED:
        try:
            _refuse_cut(file, size)
        except ValueError:
            return True
        return False
    try:
        start = _refuse_other_formats(file)
    except ValueError:
        return False
    file.seek(start)
    return begins_like_variable_mp3(file.read(_PROBED), 0)


def _promised_size(stream: BinaryIO, header: bytes) -> int:
    """Return the declared number of bytes up to the end of the samples; 0 if the file does not declare it.

    A recorder that could not complete its header leaves the largest number there, which counts as not declared.
    """
    kind = header[:4]
    if kind in (b"RIFF", b"RIFX"):
        return _end_of_chunk(stream, b"data", "little" if kind == b"RIFF" else "big")
    if kind == b"FORM":
        return _end_of_chunk(stream, b"SSND", "big")
    if kind == b"caff":
        return _end_of_chunk(stream, b"data", "big", start=8, width=8)
    if kind in (b"RF64", b"BW64") and header[12:16] == b"ds64":
        return int.from_bytes(header[20:28], "little") + 8
    if kind == b"riff":  # Sony's Wave64
        return int.from_bytes(header[16:24], "little")
    if kind == b"NIST":
        stream.seek(0)
        return _nist_size(stream.read(1024))
    if kind in (b".snd", b"dns."):
        order: Any = "big" if kind == b".snd" else "little"
        start, length = int.from_bytes(header[4:8], order), int.from_bytes(header[8:12], order)
        return start + length if length < 2**32 - 1 else 0
    return 0


def _end_of_chunk(stream: BinaryIO, name: bytes, order: Any, *, start: int = 12, width: int = 4) -> int:
    """Return where a chunk should end; 0 if not declared. The length in the file's first header is often wrong.

    `width` is the number of bytes of a length. If it is 4, chunks begin at even offsets.
    """
    at = start
    for _ in range(_MOST_CHUNKS):
        stream.seek(at)
        header = stream.read(4 + width)
        length = int.from_bytes(header[4:], order)
        if len(header) < 4 + width or length >= 2 ** (8 * width - 1) - 2**16:
            return 0
        at += 4 + width + length
        if header[:4] == name:
            return at
        at += length % 2 if width == 4 else 0
    return 0


def _nist_size(header: bytes) -> int:
    """Return the declared number of bytes of a NIST SPHERE file, whose header is text."""
    numbers = {name: int(number) for name, number in re.findall(rb"\n(\w+) -i (\d{1,12})(?=\n)", header)}
    factors = [numbers.get(name, 0) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    return len(header) + math.prod(factors)


def _end_of_last_page(stream: BinaryIO, size: int) -> int:
    """Return where the last page of an OGG file should end; 0 if no page is found."""
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
