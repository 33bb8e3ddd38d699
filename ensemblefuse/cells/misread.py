"""Files of which versions before 0.2 may have read other pixels or samples than the file holds.

Their cached vectors must not be used again. So such a file has another cache key than before. The keys of all other
files are as they were.
"""

from __future__ import annotations

from typing import BinaryIO

from ensemblefuse.cells._picture_layout import AS_IT_IS, picture_layout, tiff_layout
from ensemblefuse.cells.sound_file import was_misread as was_misread_sound

__all__ = ["AS_IT_IS", "tiff_layout", "was_misread"]

_HEAD = 26  # bytes, up to the bits and the kind of a PNG
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
_JPEG_2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
# Bits and kind of PNG files whose transparent colour Pillow takes for another.
_PNG = ((2, 0), (4, 0), (16, 2))
_MOST_PAGES = 100


def was_misread(file: BinaryIO) -> bool:
    """Return whether versions before 0.2 may have read a picture or sound to other pixels or samples.

    Parameters
    ----------
    file : binary file
        Of any content; for most, only the first bytes are read.
    """
    head = file.read(_HEAD)
    if head.startswith((*_TIFF, *_JPEG_2000)) or (head.startswith(b"\x89PNG") and tuple(head[24:26]) in _PNG):
        return _was_misread_picture(file)
    return not head.startswith((b"\x89PNG", b"\xff\xd8")) and was_misread_sound(file)


def _was_misread_picture(file: BinaryIO) -> bool:
    from ensemblefuse.cells.image import open_image

    try:
        file.seek(0)
        with open_image(file) as image:
            n_pages = getattr(image, "n_frames", 1)
            for page in range(min(n_pages, _MOST_PAGES)):
                image.seek(page)
                if picture_layout(image, file) != AS_IT_IS:
                    return True
            return n_pages > _MOST_PAGES
    except Exception:  # Pillow's readers raise any error; a file that they cannot open has no vector
        return True
