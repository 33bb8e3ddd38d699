"""Files that lie, end early, or are no pictures: one exception or a picture, in bounded time and memory."""

import contextlib
import gzip
import importlib.util
import io
import os
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile

from ensemblefuse import ImageEncoder, MissingModalityWarning
from ensemblefuse.cells.image import FORMATS, read_rgb

SECONDS = 5
# Of address space, libraries included: a picture at the bound of `max_pixels` takes twice 0.7 GB.
MEMORY = 3 << 30


def file_bytes(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *chunks, pixels=b"\0" * 4, bits=8, colour=2):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    end = png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + end


def tiff(entries, extra=b""):
    """A little-endian TIFF with one directory of (tag, type, count, value)."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + b"\0\0\0\0" + extra


def bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 16, 0, 0, 54) + header + b"\0" * 16


def gif(width, height, n_frames):
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * n_frames + b";"
    )


def ico(content, side=0):
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(content), 22) + content


def qoi(width, height, pixels=b""):
    return b"qoif" + struct.pack(">IIBB", width, height, 3, 0) + pixels


def dds_of_unknown_pixels():
    header = struct.pack("<7I44x", 124, 0x1007, 4, 4, 16, 0, 0)
    return b"DDS " + header + struct.pack("<II4s5I", 32, 4, b"XXXX", 0, 0, 0, 0, 0) + b"\0" * 20 + b"\0" * 64


MILLIONS = zlib.compress(b"\0" * (80 << 20))  # once: every process that collects the tests does it
BAD = {
    "nothing": (b"", "cannot identify an empty file"),
    "zeros": (b"\0" * 1000, "cannot identify"),
    "text": (b"no picture", "cannot identify"),
    "font": (b"\0\1\0\0\0\x0c\0\x80\0\3\0\x40GSUB" + b"\0" * 200, "cannot identify"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing has no pixels: rasterise it first"),
    "svg with a head": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg/>', "an SVG drawing has no pixels"),
    "pdf": (b"%PDF-1.7\n", "a PDF document has no pixels: rasterise it first"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript document has no pixels"),
    "png of 2^31 - 1 squared": (png(2**31 - 1, 2**31 - 1), "2147483647 x 2147483647 pixels: more than max_pixels"),
    "png of 0 x 0": (png(0, 0), ""),
    "png without pixels": (png(13_000, 13_000), ""),
    "png with a bomb in its text": (png(1, 1, png_chunk(b"zTXt", b"a\0\0" + MILLIONS)), "too large"),
    "png with a bomb in its text, version 2": (
        png(1, 1, png_chunk(b"iTXt", b"a\0\1\0\0\0" + MILLIONS)),
        "too large",
    ),
    "png with a bomb in its profile": (
        png(1, 1, png_chunk(b"iCCP", b"a\0\0" + MILLIONS)),
        "too large",
    ),
    "jpeg of 65500 squared": (
        file_bytes(Image.new("L", (8, 8)), "JPEG").replace(b"\x08\0\x08\0\x08", b"\x08\xff\xdc\xff\xdc"),
        "65500 x 65500 pixels: more than max_pixels",
    ),
    "gif of 65535 squared": (gif(65535, 65535, 1), "65535 x 65535 pixels: more than max_pixels"),
    "bmp of negative width": (bmp(-2, 2), ""),
    "bmp of the least height": (bmp(2, -(2**31)), "more than max_pixels|"),
    "bmp of 2^31 - 1 squared": (bmp(2**31 - 1, 2**31 - 1), "more than max_pixels"),
    "tiff of 2^32 - 1 squared": (tiff([(256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1)]), ""),
    "tiff of 2^32 - 1 strips": (
        tiff([
            *[(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)],
            *[(273, 4, 2**32 - 1, 8), (278, 4, 1, 1), (279, 4, 2**32 - 1, 8)],
        ]),
        "",
    ),
    "tiff whose directory is itself": (b"II*\0" + struct.pack("<IHI", 8, 0, 8), ""),
    "webp cut off": (file_bytes(Image.new("RGB", (99, 99), "red"), "WEBP")[:40], ""),
    "ico with a large png": (ico(png(60_000, 60_000)), ""),
    "ico of itself": (ico(ico(b"")), ""),
    "icns of one box": (b"icns" + struct.pack(">I", 2**31) + b"ic10" + struct.pack(">I", 0), ""),
    "qoi of 2^32 - 1 squared": (qoi(2**32 - 1, 2**32 - 1), "more than max_pixels"),
    "qoi without pixels": (qoi(13_000, 13_000), ""),
    "dds that Pillow has no code for": (dds_of_unknown_pixels(), "damaged or of a kind that Pillow cannot decode"),
    "psd of many channels": (b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 65535, 2**31, 2**31, 8, 3), ""),
    "plain ppm of many digits": (b"P3 " + b"9" * 5000 + b" 1 255\n", ""),
    "jpeg 2000 of 2^31": (b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">8I", *[2**31] * 2, 0, 0, *[2**31] * 4), ""),
    "svg in gzip": (gzip.compress(b"<svg/>"), "cannot identify"),
}  # fmt: skip


@contextlib.contextmanager
def at_most(seconds=SECONDS):
    """Fails if the body takes longer; a body that never ends is a dead test run, so watch the clock from outside."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def settings():
    return (
        list(warnings.filters),
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        ImageFile.MAXBLOCK,
        Image.WARN_POSSIBLE_FORMATS,
        str(np.random.get_state()),  # noqa: NPY002 - the legacy state is what must not change
        threading.active_count(),
    )


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of what it finds in a file
def test_a_bad_file_is_one_exception(name):
    content, reason = BAD[name]
    before = settings()
    with at_most(), pytest.raises((OSError, ValueError), match=reason) as caught:
        read_rgb(content)
    assert not isinstance(caught.value, MemoryError) and str(caught.value)
    assert settings() == before


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_bad_files_in_one_column_leave_the_good_rows():
    good = file_bytes(Image.new("RGB", (20, 20), "red"), "PNG")
    cells = {"photo": [good, *(content for content, _ in BAD.values()), good + b"more"]}
    with pytest.warns(MissingModalityWarning, match=f"{len(BAD)} of {len(BAD) + 2} cells as missing"):
        out = ImageEncoder(features="color", on_error="missing").fit_transform(cells)
    assert np.isfinite(out[[0, -1]]).all() and np.isnan(out[1:-1]).all()


def test_what_looks_bad_and_is_good_is_read(tmp_path):
    assert read_rgb(bmp(2, -2)).size == (2, 2), "a negative height stands for rows from the top"
    many = gif(1, 1, 5000)
    with at_most():
        assert read_rgb(many).size == read_rgb(many, frame=-1).size == (1, 1)
    wrong_name = tmp_path / "photo.svg"
    wrong_name.write_bytes(file_bytes(Image.new("RGB", (3, 2)), "WEBP"))
    assert read_rgb(wrong_name).size == (3, 2)


def test_the_last_frame_of_a_huge_animation_is_refused():
    bomb = gif(12_000, 12_000, 3000)
    with (
        at_most(),
        pytest.raises(ValueError, match="12000 x 12000 pixels, 3000 frames to decode: more than max_pixels"),
    ):
        read_rgb(bomb, frame=-1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_cut_of_a_file_is_a_picture_or_an_exception():
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "QOI"):
        content = file_bytes(Image.fromarray(noise(16)), kind)
        for end in range(0, len(content), max(1, len(content) // 40)):
            with contextlib.suppress(OSError, ValueError), at_most():
                assert read_rgb(content[:end]).mode == "RGB"
        assert read_rgb(content).size == (16, 16)


# ---------------------------------------------------------------------- what is no file


def run_with_limit(code, *arguments, memory=None, seconds=60):
    """Runs Python in another process: one that hangs is ended, one that takes more memory fails."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))\n" if memory else ""
    command = [sys.executable, "-c", limit + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX's special files")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        code = (
            "import sys\nfrom pathlib import Path\nfrom ensemblefuse.cells.image import read_rgb\n"
            "for name in ('pipe', 'socket', 'zero', 'folder', 'loop', 'gone', 'pipe.png/below'):\n"
            "    try:\n        read_rgb(Path(sys.argv[1], name + '.png'))\n"
            "    except OSError as error:\n        print(name, type(error).__name__, str(error)[:18])\n"
        )
        lines = run_with_limit(code, tmp_path).splitlines()
    names = ["pipe", "socket", "zero", "folder", "loop", "gone"]
    assert [line.split()[0] for line in lines] == [*names, "pipe.png/below"]
    assert all("not a regular file" in line for line in lines[:3])
    assert "IsADirectoryError" in lines[3] and "OSError" in lines[4] and "FileNotFoundError" in lines[5]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX's special files")
def test_a_pipe_in_a_column_is_a_bad_row(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    code = (
        "import sys, warnings, numpy as np\nfrom ensemblefuse import ImageEncoder, set_config\n"
        "set_config(cache=None)\n"
        "ok = np.zeros((8, 8, 3), np.uint8)\n"
        "warnings.simplefilter('ignore')\n"
        "encoder = ImageEncoder(features='color', on_error='missing')\n"
        "cells = {'photo': [ok, sys.argv[1], '/dev/zero', [ok, sys.argv[1]]]}\n"
        "print(np.isnan(encoder.fit_transform(cells)).any(axis=1).tolist())\n"
    )
    assert run_with_limit(code, tmp_path / "pipe.png").strip() == "[False, True, True, True]"


# ---------------------------------------------------------------------- threads


def test_many_threads_read_as_one_does():
    from concurrent.futures import ThreadPoolExecutor

    kinds = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")
    contents = [file_bytes(Image.fromarray(noise(64, seed)), kind) for seed in range(5) for kind in kinds]
    expected = [read_rgb(content).tobytes() for content in contents]
    before = settings()
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda content: read_rgb(content).tobytes(), contents * 4))
    assert seen == expected * 4
    assert settings() == before


# ---------------------------------------------------------------------- mutations


def noise(side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def valid_files():
    """A few small files of each format that Pillow can write, in several modes."""
    colour, smooth = Image.fromarray(noise(24)), Image.radial_gradient("L").resize((40, 30))
    pictures = [colour, smooth, smooth.convert("P"), smooth.convert("1"), colour.convert("RGBA"), smooth.convert("LA")]
    pictures += [colour.convert("CMYK"), Image.fromarray(noise(20)[:, :, 0].astype(np.uint16) * 200)]
    files = []
    Image.init()
    for kind in FORMATS:
        options = {
            "JPEG": [{}, {"progressive": True}],
            "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}],
        }
        for picture in pictures if kind in Image.SAVE else []:
            for option in options.get(kind, [{}]):
                # JPEG takes none of these, and Pillow before 13 has spoiled the process's memory when it says so.
                if picture.mode in ("P", "1", "I;16") and option.get("compression") == "jpeg":
                    continue
                with contextlib.suppress(OSError, ValueError, KeyError):  # a mode that the format has not
                    files.append((kind, file_bytes(picture, kind, **option)))
    frames = [Image.fromarray(noise(12, seed)) for seed in range(3)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        files.append((kind, file_bytes(frames[0], kind, save_all=True, append_images=frames[1:])))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    files += [(kind, file_bytes(colour, kind, exif=exif)) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    return files


def mutant(content, rng):
    """Up to eight changes: bytes, bits, numbers at their bounds, a part cut out, doubled, or moved."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        if len(data) < 8:
            break
        # Headers lie near the beginning: half of the changes go there.
        place = int(rng.integers(min(len(data), 64) if rng.random() < 0.5 else len(data)))
        length = int(rng.integers(1, 1 + min(64, len(data) - place)))
        match int(rng.integers(6)):
            case 0:
                data[place] = int(rng.integers(256))
            case 1:
                data[place] ^= 1 << int(rng.integers(8))
            case 2:
                number = int(rng.choice([0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                size = int(rng.choice([1, 2, 4]))
                data[place : place + size] = (number % 256**size).to_bytes(size, str(rng.choice(["little", "big"])))
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length]
            case _:
                data = data[: place + 1]
    return bytes(data)


FUZZ = """
import sys, time, warnings
sys.path.insert(0, sys.argv[1])
import numpy as np
import test_hostile_images as t
warnings.simplefilter("ignore")
files, rng = t.valid_files(), np.random.default_rng(int(sys.argv[2]))
assert {kind for kind, _ in files} >= set("BMP GIF JPEG PNG PPM TIFF WEBP DDS ICO PCX QOI SGI TGA MPO".split())
n_pictures, slowest, before = 0, 0.0, t.settings()
for i in range(int(sys.argv[3])):
    kind, content = files[i % len(files)]
    content = t.mutant(content, rng)
    start = time.monotonic()
    try:
        for frame, short_side in ((0, None), (-1, 4)):
            picture = t.read_rgb(content, frame=frame, short_side=short_side)
            assert picture.mode == "RGB" and min(picture.size) > 0
            n_pictures += 1
    except (OSError, ValueError) as error:
        str(error)
    spent = time.monotonic() - start
    slowest = max(slowest, spent)
    assert spent < 2 * t.SECONDS, (kind, spent, content[:80])
assert t.settings() == before
print(n_pictures, round(slowest, 2))
"""


def fuzz(n, seconds):
    """In a process of its own, with bounded memory: a crash of a decoder would end the test run."""
    here = os.path.dirname(__file__)
    out = run_with_limit(FUZZ, here, 20260, n, memory=MEMORY if sys.platform == "linux" else None, seconds=seconds)
    n_pictures, _ = out.split()
    assert n // 20 < int(n_pictures) < 2 * n, "mutants must be neither all broken nor all whole"


def test_mutants_of_valid_files_are_pictures_or_exceptions():
    fuzz(100, seconds=120)


@pytest.mark.slow
def test_ten_thousand_mutants():
    fuzz(10_000, seconds=1800)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory by RLIMIT_AS")
def test_the_largest_honest_bomb_stays_within_memory(tmp_path):
    """As many pixels as `max_pixels` lets through, all of them there, with alpha: the worst that is no error."""
    side = 13_377
    compressor = zlib.compressobj(9)
    pixels = b"".join(compressor.compress(b"\0" * (1 + 4 * side)) for _ in range(side)) + compressor.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    code = "import sys\nfrom ensemblefuse.cells.image import read_rgb\nprint(read_rgb(sys.argv[1]).size)\n"
    assert len(bomb) < 1 << 20
    assert run_with_limit(code, tmp_path / "bomb.png", memory=MEMORY, seconds=120).strip() == f"({side}, {side})"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_broken_samples_of_pillow_itself(tmp_path):
    """Its source distribution carries the files of its own tests, among them those of its security fixes."""
    has_pip = importlib.util.find_spec("pip") is not None
    pip = [sys.executable, "-m", "pip"] if has_pip else [shutil.which("pip") or "pip is not installed"]
    command = [*pip, "download", f"pillow=={PIL.__version__}", "--no-deps", "--no-binary", ":all:", "-d", tmp_path]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the source distribution of Pillow cannot be had: {error}")
    archives = list(tmp_path.glob("*.tar.gz"))
    with tarfile.open(archives[0]) as archive:
        archive.extractall(tmp_path / "pillow", filter="data")
    folders = list((tmp_path / "pillow").glob("*/Tests/images"))
    if not folders:
        pytest.skip("this source distribution carries no test images")
    code = (
        "import sys, time, warnings\nfrom pathlib import Path\n"
        "from ensemblefuse.cells.image import read_rgb\n"
        "warnings.simplefilter('ignore')\n"
        "counts = [0, 0]\n"
        "for path in sorted(Path(sys.argv[1]).rglob('*')):\n"
        "    if not path.is_file(): continue\n"
        "    start = time.monotonic()\n"
        "    try:\n        read_rgb(path); counts[0] += 1\n"
        "    except (OSError, ValueError): counts[1] += 1\n"
        "    assert time.monotonic() - start < 10, path\n"
        "print(*counts)\n"
    )
    n_read, n_refused = map(int, run_with_limit(code, folders[0], memory=MEMORY, seconds=900).split())
    assert n_read > 300 and n_refused > 50
