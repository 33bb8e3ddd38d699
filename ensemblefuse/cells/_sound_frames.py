"""Frames of FLAC and MP3 files, found without decoding: what libsndfile leaves out or takes for something else.

libsndfile believes the header. It stops where a FLAC or MP3 header says that the sound ends, even if more follows. It
takes a part of another rate as if it had the rate of the header.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Mp3", "begins_like_variable_mp3", "flac_fault", "read_mp3", "with_length"]

# ---------------------------------------------------------------------- FLAC

_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FLAC_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_FLAC_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, *(256 << i for i in range(8)))
_FLAC_BITS = (0, 8, 12, -1, 16, 20, 24, 32)
_MOST_CHECKED = 4_000_000  # bytes whose checksum is computed
_WORDS = ("rate", "resolution", "number of channels")
_UNITS = (" Hz", " bits", "")
_STREAM_INFO = 34  # bytes


class _Stream(NamedTuple):
    """Facts of a file or a frame. In a frame, 0 means the same as in the file's header."""

    rate: int
    bits: int
    channels: int


class _Flac(NamedTuple):
    """One frame."""

    size: int
    stream: _Stream
    number: int
    is_variable: bool


def flac_fault(data: Any, start: int) -> str:
    """Return what in a FLAC file contradicts its header; "" if nothing.

    Parameters
    ----------
    data : bytes or mmap
    start : int
        Where the mark fLaC stands.
    """
    at, info = start + 4, b""
    is_last = False
    while not is_last and at + 4 <= len(data):
        is_last, kind, length = data[at] >= 0x80, data[at] & 0x7F, int.from_bytes(data[at + 1 : at + 4], "big")
        if kind == 0:
            info = bytes(data[at + 4 : at + 4 + _STREAM_INFO])
        at += 4 + length
    if len(info) < _STREAM_INFO:
        return ""
    packed = int.from_bytes(info[10:18], "big")
    header = _Stream(packed >> 44, (packed >> 36 & 31) + 1, (packed >> 41 & 7) + 1)
    declared, n_samples = packed & (2**36 - 1), 0
    for frame in _flac_frames(data, at, header):
        for word, unit, found, wanted in zip(_WORDS, _UNITS, frame.stream, header, strict=True):
            if found not in (0, wanted):
                return f"its {word} changes from {wanted} to {found}{unit} after {n_samples} samples"
        n_samples += frame.size
    if declared and n_samples > declared:
        return f"it holds {n_samples} samples, but its header declares {declared}"
    return ""


def _flac_frames(data: Any, at: int, header: _Stream) -> Iterator[_Flac]:
    """Yield the frames that follow each other by number.

    The mark of a frame also occurs by chance. So a frame of another kind than the header counts only if the one before
    it ends there, by its checksum.
    """
    expected, begin, n_left = None, at, _MOST_CHECKED
    for match in _SYNC.finditer(data, at):
        place = match.start()
        if expected is None and place != at:
            return
        frame = _flac_frame(bytes(data[place : place + 16]))
        if frame is None or (expected is not None and frame.number != expected):
            continue
        is_odd = any(found not in (0, wanted) for found, wanted in zip(frame.stream, header, strict=True))
        if is_odd and place > begin:
            n_left -= place - begin
            if n_left < 0:
                return
            if _crc(data[begin:place], 0x8005, 16) != 0:
                continue
        yield frame
        expected, begin = frame.number + (frame.size if frame.is_variable else 1), place


def _flac_frame(head: bytes) -> _Flac | None:
    """Return the facts of a frame; None if its header is none, or its checksum is wrong."""
    if len(head) < 6 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    number, at = _coded_number(head, 4)
    if number < 0:
        return None
    code, rate_code = head[2] >> 4, head[2] & 15
    n_size, n_rate = {6: 1, 7: 2}.get(code, 0), {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    end = at + n_size + n_rate
    if len(head) <= end or _crc(head[:end], 7, 8) != head[end]:
        return None
    size = int.from_bytes(head[at : at + n_size], "big") + 1 if n_size else _FLAC_SIZES[code]
    coded = int.from_bytes(head[at + n_size : end], "big") * {12: 1000, 14: 10}.get(rate_code, 1)
    rate = coded if n_rate else _FLAC_RATES[rate_code]
    channels = min((head[3] >> 4) + 1, 8) if head[3] >> 4 < 8 else 2
    return _Flac(size, _Stream(rate, _FLAC_BITS[head[3] >> 1 & 7], channels), number, bool(head[1] & 1))


def _coded_number(head: bytes, at: int) -> tuple[int, int]:
    """Return a number in the manner of UTF-8, of up to 7 bytes, and the place after it; -1 if it is none."""
    first = head[at]
    n_more = 0 if first < 0x80 else 7 - (~first & 0xFF).bit_length()
    if n_more == 0:
        return (first, at + 1) if first < 0x80 else (-1, at)
    rest = head[at + 1 : at + 1 + n_more]
    if (n_more == 1 and first < 0xC0) or len(rest) < n_more or any(byte >> 6 != 2 for byte in rest):
        return -1, at
    number = first & (0x3F >> n_more)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, at + 1 + n_more


def _crc(data: bytes, polynomial: int, width: int) -> int:
    table = _TABLES.get(width) or _TABLES.setdefault(width, _crc_table(polynomial, width))
    crc, shift, mask = 0, width - 8, (1 << width) - 1
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> shift ^ byte]
    return crc


_TABLES: dict[int, list[int]] = {}


def _crc_table(polynomial: int, width: int) -> list[int]:
    table = []
    for crc in range(256):
        crc <<= width - 8
        for _ in range(8):
            crc = crc << 1 ^ polynomial if crc >> (width - 1) else crc << 1
            crc &= (1 << width) - 1
        table.append(crc)
    return table


# ---------------------------------------------------------------------- MP3

_MPEG_1, _LAYER_3 = 3, 1
# kbit/s by version (MPEG 1 or a later one) and layer (3: I, 2: II, 1: III).
_KBITS = {
    (True, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[False, 1] = _KBITS[False, 2]
_HERTZ = (44100, 48000, 32000)
_PROBED = 50  # frames
_LENGTH_MARKS = (b"Xing", b"Info", b"VBRI")


class _Mpeg(NamedTuple):
    length: int
    rate: int
    is_mono: bool
    n_samples: int
    kbits: int


class Mp3(NamedTuple):
    """Facts of an MP3 file, from the headers of its frames.

    Attributes
    ----------
    start : int
        Where the first frame begins.
    n_samples : int
        Number of samples of the frames that follow each other; a frame that only holds a length is not counted.
    declared : int or None
        Number of samples that the header declares; None if it declares none.
    fault : str
        What makes it several sounds; "" if nothing.
    """

    start: int
    n_samples: int
    declared: int | None
    fault: str


def read_mp3(data: Any, start: int) -> Mp3 | None:
    """Return the facts of an MP3 file whose first frame begins at `start`; None if no frame begins there."""
    first = _mpeg_frame(data, start)
    if first is None:
        return None
    mark, n_samples = _length_at(data, start, first), 0
    declared = None if mark is None else _declared(bytes(data[start + mark : start + mark + 18]))
    declared = None if declared is None else declared * first.n_samples
    for place, frame in _mpeg_frames(data, start):
        for word, found, wanted in (("rate", frame.rate, first.rate), ("channels", frame.is_mono, first.is_mono)):
            if found != wanted:
                change = f" from {wanted} to {found} Hz" if word == "rate" else ""
                return Mp3(start, n_samples, declared, f"its {word} change{'s' * (word == 'rate')}{change}")
        if place != start or mark is None:
            n_samples += frame.n_samples
    return Mp3(start, n_samples, declared, "")


def begins_like_variable_mp3(data: bytes, start: int) -> bool:
    """Return whether the first frames of an MP3 file state no length and have different bit rates."""
    first = _mpeg_frame(data, start)
    if first is None or _length_at(data, start, first) is not None:
        return False
    probed = [frame.kbits for (_, frame), _ in zip(_mpeg_frames(data, start), range(_PROBED), strict=False)]
    return len(set(probed)) > 1


def with_length(data: Any, mp3: Mp3) -> bytes:
    """Return the content of an MP3 file, from its first frame on, with its true length in a Xing header."""
    first = _mpeg_frame(data, mp3.start)
    assert first is not None
    n_frames = mp3.n_samples // first.n_samples
    mark = _length_at(data, mp3.start, first)
    content = bytes(data[mp3.start :])
    if mark is not None and mp3.declared is not None and content[mark : mark + 4] != b"VBRI":
        return content[: mark + 8] + struct.pack(">I", n_frames) + content[mark + 12 :]
    frame = bytearray(first.length)
    frame[:4] = content[:4]
    frame[1] |= 1  # without a checksum
    at = _side_end(frame, first)
    new = b"Xing" + struct.pack(">II", 1, n_frames)
    frame[at : at + len(new)] = new
    return bytes(frame[: first.length]) + content


def _declared(mark: bytes) -> int | None:
    """Return the number of frames behind a mark of a length; None if it holds none."""
    at = 14 if mark[:4] == b"VBRI" else 8
    has_number = mark[:4] == b"VBRI" or (len(mark) > 7 and mark[7] & 1)
    return int.from_bytes(mark[at : at + 4], "big") if has_number and len(mark) >= at + 4 else None


def _length_at(data: Any, start: int, frame: _Mpeg) -> int | None:
    """Return where in the first frame the mark of a length stands; None if there is none."""
    content = bytes(data[start : start + min(frame.length, 64)])
    return next((at for mark in _LENGTH_MARKS if (at := content.find(mark, 4)) > 0), None)


def _side_end(head: Any, frame: _Mpeg) -> int:
    """Return where the side information of a frame of layer III ends."""
    is_first = head[1] >> 3 & 3 == _MPEG_1
    return 4 + ((17 if is_first else 9) if frame.is_mono else (32 if is_first else 17))


def _mpeg_frames(data: Any, at: int) -> Iterator[tuple[int, _Mpeg]]:
    while (frame := _mpeg_frame(data, at)) is not None:
        yield at, frame
        at += frame.length


def _mpeg_frame(data: Any, at: int) -> _Mpeg | None:
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    rate_code, kbit_code = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 0 or rate_code == 3 or kbit_code in (0, 15):
        return None
    is_first = version == _MPEG_1
    kbits = _KBITS[is_first, layer][kbit_code]
    rate = _HERTZ[rate_code] >> {3: 0, 2: 1, 0: 2}[version]
    padding = head[2] >> 1 & 1
    if layer == 3:
        return _Mpeg((12000 * kbits // rate + padding) * 4, rate, head[3] >> 6 == 3, 384, kbits)
    n_samples = 1152 if is_first or layer == 2 else 576
    return _Mpeg(n_samples * 125 * kbits // rate + padding, rate, head[3] >> 6 == 3, n_samples, kbits)
