"""Reader of an untrusted video file through libav: no other files, no threads, checks of its declared length."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ensemblefuse._optional import import_optional

__all__ = ["MAX_FRAME_PIXELS", "open_bytes", "open_container", "packets"]

MAX_FRAME_PIXELS = 36_000_000  # 8K: 8192 x 4320
# Containers with their own content. Playlists (HLS, DASH, concat) would open other files or the network.
_FORMATS = "asf,avi,flv,ivf,matroska,mov,mpeg,mpegts,ogg,wav,webm"
_MOST_PACKETS = 2_000_000  # a day at 23 frames per second
_MOST_BOXES = 100_000
_MP4_BOXES = frozenset(
    {
        *(b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"mfra", b"sidx", b"ssix", b"udta"),
        *(b"uuid", b"meta", b"pdin", b"prft", b"emsg", b"pnot", b"PICT"),
    }
)


@contextlib.contextmanager
def open_bytes(cell: Any) -> Iterator[BinaryIO]:
    """Open a cell as a binary file.

    Parameters
    ----------
    cell : str, path or bytes

    Raises
    ------
    TypeError
        If the cell is of another type.
    ValueError
        If it is not a regular file.
    OSError
        If the file does not exist.
    """
    if isinstance(cell, (bytes, bytearray, memoryview)):
        yield io.BytesIO(cell)
        return
    if not isinstance(cell, (str, os.PathLike)):
        raise TypeError(f"expected a path or the bytes of a file; got {type(cell).__name__}")
    if not stat.S_ISREG(os.stat(cell).st_mode):  # opening a pipe would wait for its writer, and a device never ends
        raise ValueError("not a regular file")
    with Path(cell).open("rb") as file:
        yield file


@contextlib.contextmanager
def open_container(file: BinaryIO, *, needed_by: str) -> Iterator[Any]:
    """Open an `av.container.InputContainer` that opens no other file and starts no threads.

    Parameters
    ----------
    file : binary file
    needed_by : str
        The class that the user called, for the message.

    Raises
    ------
    ValueError
        If the file is truncated, or libav cannot read it or fails while it is open.
    ImportError
        If PyAV is not installed.
    """
    av = import_optional("av", extra="video", needed_by=needed_by)
    _refuse_cut(file)
    try:
        # A frame may be larger than the header declares. libav decodes both to open a file and to return frames.
        most = {"max_pixels": str(MAX_FRAME_PIXELS)}
        with av.open(file, options={"format_whitelist": _FORMATS, **most}, io_open=_open_nothing) as container:
            for stream in (*container.streams.video, *container.streams.audio):
                if stream.codec_context is not None:
                    stream.codec_context.thread_count = 1  # several cells are read at once
            for stream in container.streams.video:
                if stream.codec_context is not None:
                    stream.codec_context.options = most
            yield container
    except av.error.FFmpegError as error:  # subclasses include kinds of NotImplementedError and MemoryError
        raise ValueError(f"damaged, or of a kind that libav cannot read ({error.strerror})") from error


def _open_nothing(url: str, flags: int, options: dict) -> Any:
    raise PermissionError("the file refers to another file")


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream in the order of decoding, then None, which flushes the decoder.

    Raises
    ------
    ValueError
        If libav has no decoder for the stream, or there are over two million packets.
    """
    if stream.codec_context is None:
        raise ValueError(f"its {stream.type} stream is of a kind that libav cannot decode, or the header is damaged")
    try:
        for place, packet in enumerate(container.demux(stream)):
            if place > _MOST_PACKETS:
                raise ValueError(f"it has more than {_MOST_PACKETS} packets")
            if packet.size:  # an empty packet is a dropped picture (AVI), which the decoder would take as the end
                yield packet
    except IndexError as error:  # raised by PyAV 18
        raise ValueError("damaged: it contains a stream that its header does not declare") from error
    yield None


# ---------------------------------------------------------------------- length


def _refuse_cut(file: BinaryIO) -> None:
    """Raise ValueError if a file is shorter than its header declares. libav reads such a file without an error."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(64)
    if start[:4] == b"RIFF":
        # A recorder that could not complete its header leaves 0 or the largest number there.
        length = int.from_bytes(start[4:8], "little")
        promised = length + 8 if length < 2**31 - 2**16 else 0
    elif start[:4] == b"\x1a\x45\xdf\xa3":
        promised = _end_of_segment(start)
    else:
        promised = _end_of_boxes(file, size) if start[4:8] in _MP4_BOXES else 0
    file.seek(0)
    if size < promised:
        raise ValueError(f"cut short: the file holds {size} of its {promised} bytes")


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the boxes of an MP4 or MOV file should end. Raise ValueError for an impossible table of samples."""
    end = 0
    for _ in range(_MOST_BOXES):
        file.seek(end)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or kind not in _MP4_BOXES:  # 0: up to the end; unknown: appended by a camera
            break
        if kind == b"moov":
            file.seek(end)
            _refuse_lying_table(file.read(min(length, size)), size)
        end += length
        if end >= size:
            break
    return end


def _refuse_lying_table(moov: bytes, size: int) -> None:
    """Raise ValueError if a header declares more samples than the file can hold.

    If all samples have the same size, libav allocates a table for as many as a header of 20 bytes declares.
    """
    at = -1
    while (at := moov.find(b"stsz", at + 1)) >= 4:
        length, n_bytes, n_samples = (int.from_bytes(moov[at + i : at + i + 4], "big") for i in (-4, 8, 12))
        if 20 <= length <= len(moov) and n_bytes * n_samples > size:
            raise ValueError(f"damaged: it declares {n_samples} samples of {n_bytes} bytes")


def _end_of_segment(start: bytes) -> int:
    """Return where the segment of a Matroska file should end; 0 if not declared, as in a live recording."""
    header_length, at = _vint(start, 4)
    at += header_length
    if start[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    length, begin = _vint(start, at + 4)
    return begin + length if length else 0


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of EBML and the offset after it; 0 if the number means unknown."""
    if at >= len(data) or not data[at]:
        return 0, at + 1
    n_bytes = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + n_bytes], "big") & (2 ** (7 * n_bytes) - 1)
    return (0 if value == 2 ** (7 * n_bytes) - 1 else value), at + n_bytes
