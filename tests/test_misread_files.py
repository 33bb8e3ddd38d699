"""Vectors of files that were once misread are not found again in a cache; those of all other files are."""

import hashlib
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from ensemblefuse import ImageEncoder, get_cache
from ensemblefuse.cache.cell_digests import keys_of
from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.cells.misread import was_misread


def file_bytes(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sound(kind, samples=None, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(4000) / 9) if samples is None else samples, 16_000, format=kind, **options)
    return buffer.getvalue()


GREY = Image.fromarray(np.arange(240, dtype=np.uint8).reshape(12, 20))
DEEP = Image.fromarray(np.arange(240, dtype=np.uint16).reshape(12, 20))
WAV = sound("WAV")
AT = WAV.index(b"data") + 4
MISREAD = {
    "TIFF, 0 is white": file_bytes(DEEP, "TIFF", tiffinfo={262: 0}),
    "second page": file_bytes(GREY, "TIFF", save_all=True, append_images=[Image.new("F", (20, 12))]).replace(
        b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00", b"\x06\x01\x03\x00\x01\x00\x00\x00\x00\x00"
    ),
    "JPEG 2000 without a meaning": file_bytes(Image.new("RGBA", (20, 12)), "JPEG2000", no_jp2=True),
    "WAV of too few bytes": WAV[:AT] + b"\x10\0\0\0" + WAV[AT + 4 :],
}
AS_BEFORE = {
    "TIFF": file_bytes(GREY.convert("RGB"), "TIFF"),
    "TIFF of 16 bits": file_bytes(DEEP, "TIFF"),
    "PNG": file_bytes(GREY, "PNG"),
    "PNG of 2 bits": file_bytes(GREY.convert("P", palette=Image.Palette.ADAPTIVE, colors=4), "PNG"),
    "JPEG": file_bytes(GREY, "JPEG"),
    "JPEG 2000": file_bytes(GREY.convert("RGB"), "JPEG2000"),
    "WAV": WAV,
    "FLAC": sound("FLAC"),
    "OGG": sound("OGG"),
    "MP3": sound("MP3"),
    "text": b"no media at all",
    "nothing": b"",
}


def former_key(content):
    """The key as all versions made it for a file."""
    digest = hashlib.sha256(content).hexdigest().encode()
    return hashlib.sha256(b"file:%d:%s" % (len(digest), digest)).digest()[:16]


@pytest.mark.parametrize("name", AS_BEFORE)
@pytest.mark.parametrize("form", ["bytes", "file"])
def test_other_files_have_their_former_keys(name, form, tmp_path):
    content = AS_BEFORE[name]
    (tmp_path / "file").write_bytes(content)
    cell = content if form == "bytes" else str(tmp_path / "file")
    assert cell_digest(cell, strings_are_paths=True) == former_key(content)


@pytest.mark.parametrize("name", MISREAD)
def test_misread_files_have_new_keys_and_both_are_forgotten(name, tmp_path):
    content = MISREAD[name]
    (tmp_path / "file").write_bytes(content)
    path, encoder = str(tmp_path / "file"), ImageEncoder()
    assert was_misread(io.BytesIO(content))
    new = cell_digest(content, strings_are_paths=True)
    assert new != former_key(content) and new == cell_digest(path, strings_are_paths=True)
    for cell in (content, path):
        assert set(keys_of(cell, encoder)) == {new, former_key(content)}
    lists = set(keys_of([path, path], encoder))
    assert len(lists) == 2 and lists == set(keys_of([content, content], encoder))


def test_a_vector_of_wrong_pixels_is_made_anew():
    encoder, content = ImageEncoder(features="color"), MISREAD["TIFF, 0 is white"]
    cache, recipe = get_cache(), encoder.recipe()
    cache.put(recipe, [former_key(content)], np.full((1, 73), 7.0))
    with_right_pixels = encoder.fit_transform([content])
    assert not (with_right_pixels == 7).any()
    np.testing.assert_array_equal(encoder.transform([content]), with_right_pixels)


def test_an_opened_tiff_is_told_from_the_same_numbers_with_another_meaning():
    images = [
        Image.open(io.BytesIO(content)) for content in (MISREAD["TIFF, 0 is white"], AS_BEFORE["TIFF of 16 bits"])
    ]
    keys = [cell_digest(image, strings_are_paths=True) for image in images]
    assert keys[0] != keys[1] == cell_digest(DEEP, strings_are_paths=True)
