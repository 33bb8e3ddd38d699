"""A video file or its bytes, opened with libav so that it can do no harm."""

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
# Containers that hold what they play. Playlists (HLS, DASH, concat) would open other files, or the network.
_FORMATS = "asf,avi,flv,ivf,matroska,mov,mpeg,mpegts,ogg,wav,webm"
_MOST_PACKETS = 2_000_000  # a day at 23 frames a second
_MOST_BOXES = 100_000
_MP4_BOXES = frozenset(
    {
        *(b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"mfra", b"sidx", b"ssix", b"udta"),
        *(b"uuid", b"meta", b"pdin", b"prft", b"emsg", b"pnot", b"PICT"),
    }
)


@contextlib.contextmanager
def open_bytes(cell: Any) -> Iterator[BinaryIO]:
    """A cell as a binary file.

    Parameters
    ----------
    cell : str, path or bytes

    Raises
    ------
    TypeError
        If it is of another type.
    ValueError
        If it is no regular file.
    OSError
        If there is no such file.
    """
    if isinstance(cell, (bytes, bytearray, memoryview)):
        yield io.BytesIO(cell)
        return
    if not isinstance(cell, (str, os.PathLike)):
        raise TypeError(f"expected a path or the bytes of a file; got {type(cell).__name__}")
    if not stat.S_ISREG(os.stat(cell).st_mode):  # to open a pipe would wait for its writer, and a device never ends
        raise ValueError("not a regular file")
    with Path(cell).open("rb") as file:
        yield file


@contextlib.contextmanager
def open_container(file: BinaryIO, *, needed_by: str) -> Iterator[Any]:
    """An open `av.container.InputContainer` that opens no other file and starts no threads.

    Parameters
    ----------
    file : binary file
    needed_by : str
        The class that the user called, for the message.

    Raises
    ------
    ValueError
        If the file is cut short, or libav cannot read it or fails while it is open.
    ImportError
        If PyAV is not installed.
    """
    av = import_optional("av", extra="video", needed_by=needed_by)
    _refuse_cut(file)
    try:
        # A frame may be larger than the header says. libav decodes a few to open a file, and then to give them.
        most = {"max_pixels": str(MAX_FRAME_PIXELS)}
        with av.open(file, options={"format_whitelist": _FORMATS, **most}, io_open=_open_nothing) as container:
            for stream in (*container.streams.video, *container.streams.audio):
                if stream.codec_context is not None:
                    stream.codec_context.thread_count = 1  # several cells are read at once
            for stream in container.streams.video:
                if stream.codec_context is not None:
                    stream.codec_context.options = most
            yield container
    except av.error.FFmpegError as error:  # among them kinds of NotImplementedError and MemoryError
        raise ValueError(f"damaged, or of a kind that libav cannot read ({error.strerror})") from error


def _open_nothing(url: str, flags: int, options: dict) -> Any:
    raise PermissionError("the file refers to another one")


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream in order of decoding, then None, for which the decoder gives what it still holds.

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
            if packet.size:  # an empty one is a picture that was left out (AVI); the decoder would take it for the end
                yield packet
    except IndexError as error:  # PyAV 18's own
        raise ValueError("damaged: a stream turns up in the middle that its beginning does not name") from error
    yield None


# ---------------------------------------------------------------------- length


def _refuse_cut(file: BinaryIO) -> None:
    """libav reads half a file without a word; its header tells how long it was meant to be."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(64)
    if start[:4] == b"RIFF":
        # A recorder that could not go back to its header leaves 0 or the largest number there.
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
    """Where the boxes of an MP4 or MOV file should end. Raises ValueError if one of them lists samples that lie."""
    end = 0
    for _ in range(_MOST_BOXES):
        file.seek(end)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or kind not in _MP4_BOXES:  # 0: up to the end of the file; others: what a camera put behind it
            break
        if kind == b"moov":
            file.seek(end)
            _refuse_lying_table(file.read(min(length, size)), size)
        end += length
        if end >= size:
            break
    return end


def _refuse_lying_table(moov: bytes, size: int) -> None:
    """libav makes a table of as many samples as a header of 20 bytes says, if all have one size."""
    at = -1
    while (at := moov.find(b"stsz", at + 1)) >= 4:
        length, n_bytes, n_samples = (int.from_bytes(moov[at + i : at + i + 4], "big") for i in (-4, 8, 12))
        if 20 <= length <= len(moov) and n_bytes * n_samples > size:
            raise ValueError(f"damaged: it says that it has {n_samples} samples of {n_bytes} bytes")


def _end_of_segment(start: bytes) -> int:
    """Where the segment of a Matroska file should end; 0 if it does not say, as in a live recording."""
    header_length, at = _vint(start, 4)
    at += header_length
    if start[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    length, begin = _vint(start, at + 4)
    return begin + length if length else 0


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number of EBML and the place after it; 0 for the number that means unknown."""
    if at >= len(data) or not data[at]:
        return 0, at + 1
    n_bytes = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + n_bytes], "big") & (2 ** (7 * n_bytes) - 1)
    return (0 if value == 2 ** (7 * n_bytes) - 1 else value), at + n_bytes
