"""How the samples of a picture file are to be taken, and which files Pillow would decode to other pixels.

Pillow decides by mode alone. These are the layouts that it accepts and misreads: they are corrected where the file says
enough, and refused otherwise. `tests/test_picture_decoders.py` compares each layout with other decoders.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

__all__ = ["AS_IT_IS", "Layout", "jpeg_2000_layout", "picture_layout", "tiff_layout"]

# Tags of a TIFF file.
_BITS, _COMPRESSION, _PHOTOMETRIC, _COLOUR_MAP, _PLANAR, _INKS = 258, 259, 262, 320, 284, 332
_EXTRA, _FORMAT, _SUBSAMPLING, _SAMPLES = 338, 339, 530, 277
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_UNCOMPRESSED, _SEPARATE = 1, 2
_INSTEAD = "save it as PNG, or as TIFF of 8 or 16 bits"
_SIZ = b"\xff\x4f\xff\x51"  # the beginning of a JPEG 2000 code stream
_MOST_BOXES = 1000
_LARGEST_BOX = 2**20
# Colour spaces of JPEG 2000: CMYK, sRGB, grey and sYCC.
_KNOWN_SPACES = (12, 16, 17, 18)
_JP2_CMYK = 12


@dataclass(frozen=True)
class Layout:
    """How the samples of a decoded picture are to be taken.

    Attributes
    ----------
    white : int
        The largest sample of a picture of more than 8 bits.
    inverted : bool
        Whether 0 is white in a picture of more than 8 bits. Pillow inverts only 8 bits and fewer.
    transparency : int
        Factor of the transparent grey value, which Pillow leaves unscaled.
    """

    white: int = 65535
    inverted: bool = False
    transparency: int = 1


AS_IT_IS = Layout()


def picture_layout(image: Any, file: BinaryIO) -> Layout:
    """Return how the samples of an opened, not yet decoded picture are to be taken.

    Parameters
    ----------
    image : PIL.ImageFile.ImageFile
    file : binary file
        The file that Pillow reads; its position is kept.

    Raises
    ------
    ValueError
        If Pillow would decode it to other pixels than the file holds.
    """
    if image.format == "TIFF":
        return tiff_layout(image.tag_v2)
    if image.format == "JPEG2000":
        place = file.tell()
        try:
            return jpeg_2000_layout(file)
        finally:
            file.seek(place)
    return _png_layout(image) if image.format == "PNG" else AS_IT_IS


# ---------------------------------------------------------------------- TIFF


def tiff_layout(tags: Any) -> Layout:
    """Return the layout of a page of a TIFF file, from its tags by number; raise ValueError as `picture_layout`."""
    bits = max(_numbers(tags, _BITS, 1))
    photometric, planar = tags.get(_PHOTOMETRIC), tags.get(_PLANAR, 1)
    kind = max(_numbers(tags, _FORMAT, _UNSIGNED))
    is_raw = tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
    is_jpeg = tags.get(_COMPRESSION) in (6, 7)
    wrong = ""
    if photometric is None and not is_jpeg:
        wrong = "without the tag PhotometricInterpretation: nothing says whether 0 is black or white"
    elif kind == _SIGNED:
        wrong = f"of signed samples of {bits} bits: nothing says which of them is black"
    elif kind == _FLOAT and photometric == _WHITE_IS_ZERO:
        wrong = "of floats of which 0 is white"
    elif kind == _UNSIGNED and bits > 16:
        wrong = f"of {bits} bits a sample"
    elif planar == _SEPARATE and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and any(_numbers(tags, _EXTRA, 0)):
        wrong = "of grey and transparency in two planes"
    elif planar == _SEPARATE and is_raw and bits > 8:
        wrong = f"of {bits} bits with one plane for each channel"
    elif photometric == _RGB and tags.get(_SAMPLES, 3) > 3 and _EXTRA not in tags:
        wrong = "with a fourth sample without a meaning (no tag ExtraSamples)"
    elif photometric == _YCBCR and is_raw and _numbers(tags, _SUBSAMPLING, 2) != (1, 1):
        wrong = "of uncompressed YCbCr with fewer samples of colour than of brightness"
    elif photometric == _CMYK and tags.get(_INKS, 1) != 1:
        wrong = "of other inks than cyan, magenta, yellow and black"
    elif photometric == _PALETTE and 0 < max(_numbers(tags, _COLOUR_MAP, 0)) < 256:
        wrong = "whose palette goes to 255 instead of 65535"
    if wrong:
        raise ValueError(f"a TIFF {wrong}; {_INSTEAD}")
    if kind == _UNSIGNED and 8 < bits < 16:
        return Layout(white=2**bits - 1, inverted=photometric == _WHITE_IS_ZERO)
    return Layout(inverted=True) if photometric == _WHITE_IS_ZERO and bits == 16 else AS_IT_IS


def _numbers(tags: Any, tag: int, default: int) -> tuple[int, ...]:
    value = tags.get(tag, default)
    return tuple(value) if isinstance(value, (tuple, list)) and value else (value or default,)


# ---------------------------------------------------------------------- PNG


def _png_layout(image: Any) -> Layout:
    """Return the layout of a PNG file: Pillow scales grey values of 2 and 4 bits, but not the transparent one."""
    if "transparency" not in image.info or not image.tile:
        return AS_IT_IS
    args = image.tile[0][3]
    raw = args if isinstance(args, str) else args[0]
    if raw == "RGB;16B":
        raise ValueError(f"a PNG of 16 bits with one transparent colour; {_INSTEAD} with an alpha channel")
    return Layout(transparency={"L;2": 85, "L;4": 17}.get(raw, 1))


# ---------------------------------------------------------------------- JPEG 2000


def jpeg_2000_layout(file: BinaryIO) -> Layout:
    """Return the layout of a JPEG 2000 file; raise ValueError as `picture_layout`."""
    boxes, samples = _boxes_and_samples(file)
    wrong = _wrong_boxes(boxes, len(samples)) if boxes else ""
    depths = {size & 0x7F for size, _, _ in samples}
    bits = max(depths, default=0) + 1
    if not samples:
        wrong = "whose header is damaged"
    elif any(size & 0x80 for size, _, _ in samples):
        wrong = "of signed samples: nothing says which of them is black"
    elif any(steps != (1, 1) for _, *steps_ in samples for steps in [tuple(steps_)]):
        wrong = "with fewer samples in some channels"
    elif len(depths) > 1:
        wrong = "with different numbers of bits in its channels"
    elif bits != 8 and (len(samples) > 1 or bits < 10):
        wrong = f"of {bits} bits" + (" a channel" if len(samples) > 1 else "")
    elif not boxes and len(samples) in (2, 4):
        wrong = f"with a {'second' if len(samples) == 2 else 'fourth'} sample without a meaning (a bare code stream)"
    if wrong:
        raise ValueError(f"a JPEG 2000 picture {wrong}; {_INSTEAD}")
    return AS_IT_IS


def _wrong_boxes(boxes: dict[bytes, bytes], n: int) -> str:
    """Return what in the boxes of a header Pillow would misread; "" if nothing."""
    if b"pclr" in boxes:
        return "with a palette"
    colour = boxes.get(b"colr", b"")
    space = int.from_bytes(colour[3:7], "big") if colour[:1] == b"\1" else None
    if space is not None and space not in _KNOWN_SPACES:
        return f"of colour space {space}"
    if n in (2, 4) and not (n == 4 and space == _JP2_CMYK) and b"cdef" not in boxes:
        return f"with a {'second' if n == 2 else 'fourth'} sample without a meaning (no channel definition)"
    if b"cdef" in boxes:
        meanings = _meanings(boxes[b"cdef"])
        n_colours = n - 1 if n in (2, 4) and space != _JP2_CMYK else n
        wanted = {i: (0, i + 1) for i in range(n_colours)} | ({n - 1: (1, 0)} if n_colours < n else {})
        if meanings != wanted:
            return "whose channels are in another order, or have another meaning than colour and transparency"
    return ""


def _meanings(box: bytes) -> dict[int, tuple[int, int]]:
    """Return the type and the colour of each channel, from a box of channel definitions."""
    if len(box) < 2 or len(box) != 2 + 6 * int.from_bytes(box[:2], "big"):
        return {}
    return {channel: (kind, colour) for channel, kind, colour in struct.iter_unpack(">HHH", box[2:])}


def _boxes_and_samples(file: BinaryIO) -> tuple[dict[bytes, bytes], list[tuple[int, int, int]]]:
    """Return the boxes of the header (none in a bare code stream), and of each channel its bits and its steps."""
    file.seek(0)
    if file.read(4) == _SIZ:
        return {}, _samples(file)
    boxes: dict[bytes, bytes] = {}
    size = file.seek(0, os.SEEK_END)
    for name, start, end in _walk(file, 0, size):
        if name == b"jp2h":
            for inner, first, last in _walk(file, start, end):
                file.seek(first)
                boxes.setdefault(inner, file.read(min(last - first, _LARGEST_BOX)))
        elif name == b"jp2c":
            file.seek(start)
            return boxes, _samples(file) if file.read(4) == _SIZ else []
    return boxes, []


def _walk(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each box."""
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8 or at >= end:
            return
        length, n = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, n = int.from_bytes(head[8:16], "big"), 16
        stop = end if length == 0 else at + length
        if stop < at + n:
            return
        yield head[4:8], at + n, min(stop, end)
        at = stop


def _samples(file: BinaryIO) -> list[tuple[int, int, int]]:
    """Return bits, horizontal and vertical step of each channel; the file stands behind the marker of the sizes."""
    head = file.read(38)
    n = int.from_bytes(head[36:38], "big")
    sizes = file.read(3 * n)
    return [(sizes[i], sizes[i + 1], sizes[i + 2]) for i in range(0, 3 * n, 3)] if len(sizes) == 3 * n else []
