"""Sound files that lie, end early, or are none: one exception or a sound, in bounded time and memory."""

import contextlib
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import soundfile

from ensemblefuse import AudioEncoder, MissingModalityWarning
from ensemblefuse.cells.sound import read_sound
from ensemblefuse.cells.sound_file import _FORMATS

SECONDS = 5
# Of address space, libraries included.
MEMORY = 2 << 30
RATE = 8000


def file_bytes(samples, kind, subtype=None, rate=RATE, title=None):
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, samples.ndim, subtype, format=kind) as file:
        if title:
            file.title = title
        file.write(samples)
    return buffer.getvalue()


def tone(n=600, seed=0):
    return (0.3 * np.sin(np.arange(n) / 9) + 0.01 * np.random.default_rng(seed).normal(size=n)).astype(np.float32)


def settings():
    return (
        list(warnings.filters),
        str(np.random.get_state()),  # noqa: NPY002 - the legacy state is what must not change
        np.geterr(),
        threading.active_count(),
        len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
    )


def run_with_limit(code, *arguments, memory=None, seconds=60):
    """Runs Python in another process: one that hangs is ended, one that takes more memory fails."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))\n" if memory else ""
    command = [sys.executable, "-c", limit + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    # libmpg123 tells of what it finds in a file; an error inside a callback of libsndfile would be printed by Python.
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.stdout


def wav(*, n_bytes, channels=1, rate=RATE, bits=16, kind=1, riff=None, data=b"\0" * 64, order="<"):
    shape = kind, channels, rate, min(rate * channels * bits // 8, 2**32 - 1), channels * bits // 8 % 2**16, bits
    chunk = struct.pack(order + "4sIHHIIHH", b"fmt ", 16, *shape) + struct.pack(order + "4sI", b"data", n_bytes)
    return (
        (b"RIFF" if order == "<" else b"RIFX") + struct.pack(order + "I", riff or 36 + n_bytes) + b"WAVE" + chunk + data
    )


def patched(content, at, new):
    return content[:at] + new + content[at + len(new) :]


def flac(n_frames):
    """A FLAC file that promises so many samples: 36 bits, the last of the bytes 21 to 25."""
    content = file_bytes(tone(), "FLAC")
    return patched(content, 21, bytes([content[21] & 0xF0 | n_frames >> 32]) + struct.pack(">I", n_frames % 2**32))


def rf64(n_bytes):
    content = file_bytes(tone(), "RF64")
    assert content[12:16] == b"ds64"
    return patched(content, 20, struct.pack("<QQQ", n_bytes, n_bytes, n_bytes // 2))


def caf(n_bytes):
    content = file_bytes(tone(), "CAF")
    return patched(content, content.index(b"data") + 4, struct.pack(">q", n_bytes))


def aiff_frames(n_frames):
    content = file_bytes(tone(), "AIFF")
    return patched(content, content.index(b"COMM") + 10, struct.pack(">I", n_frames))


HUGE = np.where(np.arange(600) % 2, 3e38, -3e38).astype(np.float32)
BAD = {
    "nothing": (b"", "no samples"),
    "zeros": (bytes(1000), "Format not recognised; WAV, FLAC, OGG, MP3"),
    "text": (b"no sound at all", "Format not recognised"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "Format not recognised"),
    "film": (b"\0\0\0\x20ftypM4A " + bytes(99), "Format not recognised"),
    "one byte": (b"\xff", "Format not recognised"),
    "mark alone": (b"RIFF", "Format not recognised"),
    "picture in RIFF": (b"RIFF" + struct.pack("<I", 99) + b"WEBPVP8 " + bytes(99), "Format not recognised"),
    "chunks that make libsndfile wait for ever": (
        b"FORM\0\0\x10\0" + b"8SVX" + b"NAME\0\0\0\0" * 500,
        "not recognised",
    ),
    "the same behind a tag": (b"ID3\3\0\0\0\0\0\0FORM\0\0\x10\x008SVX" + b"NAME\0\0\0\0" * 500, "not recognised"),
    "tags without end": (b"ID3\3\0\0\0\0\0\0" * 100_000, "Format not recognised"),
    "matrix": (b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + bytes(999), "Format not recognised"),
    "chunks without end": (b"RIFF" + struct.pack("<I", 2**20) + b"WAVE" + b"junk\0\0\0\0" * 2**17, "."),
    "wav without samples": (wav(n_bytes=0, data=b""), "no samples"),
    "wav whose recorder wrote no length": (wav(n_bytes=0, riff=36, data=bytes(1200)), "no samples"),
    "wav of 2^31 bytes": (wav(n_bytes=2**31 - 2**17), "cut short: the file holds 108 of its 2147352620 bytes"),
    "wav of zero channels": (wav(n_bytes=64, channels=0), "."),
    "wav of 65535 channels": (wav(n_bytes=64, channels=65535), "."),
    "wav of zero Hz": (wav(n_bytes=64, rate=0), "."),
    "wav of 2^31 Hz": (wav(n_bytes=64, rate=2**31 - 1), "sampling rate is 2147483647 Hz"),
    "wav of 2^32 Hz": (wav(n_bytes=64, rate=2**32 - 1), "."),
    "wav of zero bits": (wav(n_bytes=64, bits=0), "."),
    "wav of 65535 bits": (wav(n_bytes=64, bits=65535), "."),
    "wav of an unknown coding": (wav(n_bytes=64, kind=0x1234), "."),
    "wav of half a day": (
        wav(n_bytes=10**7, rate=200, bits=8, data=bytes(10**7)),
        "lasts 13.89 hours; at most max_hours=4",
    ),
    "wav of 199 Hz": (wav(n_bytes=64, rate=199), "sampling rate is 199 Hz; sounds of 200 to 1 000 000 Hz"),
    "big-endian wav, cut": (wav(n_bytes=10_000, order=">"), "cut short"),
    "flac of 2^36 samples": (flac(2**36 - 1), "lasts 2386 hours|cut short"),
    "flac of three hours, cut": (flac(100_000_000), "cut short"),
    "rf64 of 2^63 bytes": (rf64(2**63 - 1), "cut short"),
    "rf64 of 2^64 bytes": (rf64(2**64 - 1), "cut short"),
    "w64 of 2^63 bytes": (patched(file_bytes(tone(), "W64"), 16, struct.pack("<Q", 2**63 - 1)), "cut short"),
    "caf of 2^63 bytes": (caf(2**63 - 1), "."),
    "caf of negative length": (caf(-(2**63)), "."),
    "au cut": (patched(file_bytes(tone(), "AU"), 8, struct.pack(">I", 2**31)), "cut short"),
    "aiff cut": (file_bytes(tone(), "AIFF")[:-100], "cut short"),
    "flac cut": (file_bytes(tone(5000), "FLAC")[:-2000], "."),
    "flac without frames": (file_bytes(tone(), "FLAC")[:42], "."),
    "ogg cut in a page": (file_bytes(tone(5000), "OGG")[:-100], "cut short"),
    "ogg of one page": (file_bytes(tone(5000), "OGG")[:58], "."),
    "mp3 of zeros": (b"\xff\xfb\x90\xc4" + bytes(5000), "."),
    "mp3 of marks": (b"\xff\xfb\x90\xc4" * 10_000, "."),
    "NaN": (file_bytes(np.full(600, np.nan), "WAV", "FLOAT"), "600 of its first 600 samples are NaN or infinite"),
    "infinite": (file_bytes(np.full(600, np.inf), "WAV", "DOUBLE"), "NaN or infinite"),
    "numbers that float32 does not hold": (file_bytes(np.full(600, 1e300), "WAV", "DOUBLE"), "NaN or infinite"),
    "numbers that the resampler cannot add": (file_bytes(HUGE, "WAV", "FLOAT"), "NaN or infinite"),
}


@contextlib.contextmanager
def at_most(seconds=SECONDS):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_exception(name, tmp_path):
    content, reason = BAD[name]
    path = tmp_path / "clip.mp3"
    path.write_bytes(content)
    before = settings()
    for cell in (content, path):
        with at_most(), pytest.raises(ValueError, match=reason) as caught:
            read_sound(cell, 16_000)
        assert str(caught.value)
    assert settings() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory by RLIMIT_AS")
def test_no_header_makes_memory():
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport test_hostile_sounds as t\n"
        "for content, _ in t.BAD.values():\n"
        "    try:\n        t.read_sound(content, 16_000)\n    except ValueError:\n        continue\n"
        "    raise SystemExit(1)\n"
    )
    run_with_limit(code, os.path.dirname(__file__), memory=MEMORY)


def test_all_bad_files_in_one_column_leave_the_good_rows():
    good = file_bytes(tone(), "WAV")
    cells = {"clip": [good, *(content for content, _ in BAD.values()), good + b"more"]}
    with pytest.warns(MissingModalityWarning, match=f"{len(BAD)} of {len(BAD) + 2} cells as missing"):
        out = AudioEncoder(features="librosa", on_error="missing").fit_transform(cells)
    assert np.isfinite(out[[0, -1]]).all() and np.isnan(out[1:-1]).all()


GOOD = {
    "length unknown to a wav's recorder": wav(n_bytes=2**32 - 1, riff=2**32 - 1, data=bytes(1200)),
    "a wav whose header counts eight bytes too many": wav(n_bytes=1200, riff=1244, data=bytes(1200)),
    "a wav cut in what comes after the samples": wav(n_bytes=1200, riff=9999, data=bytes(1200) + b"LIST\xff\xff\0\0IN"),
    "big-endian wav": wav(n_bytes=1200, data=bytes(1200), order=">"),
    "flac of unknown length": flac(0),
    "wav with a tail": file_bytes(tone(), "WAV") + bytes(99),
    "ogg with a tag of MP3 at its end": file_bytes(tone(), "OGG") + b"TAG" + bytes(125),
    "mp3 with a tag": b"ID3\3\0\0\0\0\1\0" + bytes(128) + file_bytes(tone(), "MP3"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_looks_bad_and_is_good_is_read(name, tmp_path):
    sound = read_sound(GOOD[name], RATE)
    assert len(sound.samples) == 600
    path = tmp_path / "clip.raw"  # a name that soundfile takes for a file without header
    path.write_bytes(GOOD[name])
    np.testing.assert_array_equal(read_sound(path, RATE).samples, sound.samples)


def test_every_cut_of_a_file_is_a_sound_or_an_exception():
    for kind in sorted(_FORMATS):
        content = file_bytes(tone(3000), kind)
        whole = len(read_sound(content, RATE).samples)
        for end in range(0, len(content), max(1, len(content) // 40)):
            with contextlib.suppress(ValueError), at_most():
                n = len(read_sound(content[:end], RATE).samples)
                # What can be read in part without a word: an MP3, and an OGG that ends between two pages.
                assert n == whole or (kind in ("MP3", "OGG") and 0 < n <= whole), (kind, end)


# ---------------------------------------------------------------------- what is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX's special files")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "socket.wav"))
        code = (
            "import sys\nfrom pathlib import Path\nfrom ensemblefuse.cells.sound import read_sound\n"
            "for name in ('pipe', 'socket', 'zero', 'folder', 'loop', 'gone', 'pipe.wav/below'):\n"
            "    try:\n        read_sound(Path(sys.argv[1], name + '.wav'), 16_000)\n"
            "    except (OSError, ValueError) as error:\n        print(name, type(error).__name__, str(error)[:18])\n"
        )
        lines = run_with_limit(code, tmp_path).splitlines()
    assert len(lines) == 7
    assert all("not a regular file" in line for line in lines[:4])
    assert "OSError" in lines[4] and "FileNotFoundError" in lines[5] and "NotADirectoryError" in lines[6]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX's special files")
def test_a_pipe_in_a_column_is_a_bad_row(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    code = (
        "import sys, warnings, numpy as np\nfrom ensemblefuse import AudioEncoder, set_config\n"
        "set_config(cache=None)\nwarnings.simplefilter('ignore')\n"
        "encoder = AudioEncoder(features='librosa', on_error='missing')\n"
        "cells = {'clip': [np.ones(99), sys.argv[1], '/dev/zero', np.zeros(9)]}\n"
        "print(np.isnan(encoder.fit_transform(cells)).any(axis=1).tolist())\n"
    )
    assert run_with_limit(code, tmp_path / "pipe.wav").strip() == "[False, True, True, False]"


def test_many_threads_read_as_one_does():
    from concurrent.futures import ThreadPoolExecutor

    contents = [content for _, content in valid_files()]
    expected = [read_sound(content, 16_000).samples for content in contents]
    before = settings()
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda content: read_sound(content, 16_000).samples, contents * 2))
    for samples, other in zip(seen, expected * 2, strict=True):
        np.testing.assert_array_equal(samples, other)
    assert settings() == before


# ---------------------------------------------------------------------- mutations


def valid_files():
    """A small file of every format and coding that is read, one and two channels."""
    files = []
    for kind in sorted(_FORMATS):
        for subtype in sorted(soundfile.available_subtypes(kind)):
            for samples in (tone(), np.stack([tone(), tone(seed=1)], axis=1)):
                try:
                    content = file_bytes(samples, kind, subtype, title="a title" if kind in ("WAV", "AIFF") else None)
                    read_sound(content, RATE)
                except (ValueError, RuntimeError, TypeError):  # not written by libsndfile, or not read
                    continue
                files.append((kind, content))
    return files


def with_right_checksums(content):
    """An OGG file whose pages pass: a decoder that only sees wrong checksums decodes nothing."""
    data, at = bytearray(content), 0
    while 0 <= (at := data.find(b"OggS", at)) < len(data) - 27:
        end = at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        data[at + 22 : at + 26] = bytes(4)
        data[at + 22 : at + 26] = ogg_checksum(data[at:end]).to_bytes(4, "little")
        at += 4
    return bytes(data)


def _checksum_table():
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_TABLE = _checksum_table()


def ogg_checksum(page):
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value


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
                number = int(rng.choice([0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
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
import test_hostile_sounds as t
warnings.simplefilter("error")
files, rng = t.valid_files(), np.random.default_rng(int(sys.argv[2]))
assert {kind for kind, _ in files} == set("WAV WAVEX W64 RF64 AIFF AU CAF FLAC OGG MP3 NIST".split())
t.read_sound(files[0][1], 16000)
n_sounds, slowest, before = 0, 0.0, t.settings()
for i in range(int(sys.argv[3])):
    kind, content = files[int(rng.integers(len(files)))]
    content = t.mutant(content, rng)
    if kind == "OGG" and i % 2:
        content = t.with_right_checksums(content)
    start = time.monotonic()
    try:
        sound = t.read_sound(content, 16000)
        for part in sound.windows(160_000):
            assert part.ndim == 1 and part.dtype == np.float32 and len(part) and np.isfinite(part).all(), (kind, i)
        n_sounds += 1
    except (OSError, ValueError) as error:
        str(error)
    spent = time.monotonic() - start
    slowest = max(slowest, spent)
    assert spent < t.SECONDS, (kind, spent, content[:80])
assert t.settings() == before
print(n_sounds, round(slowest, 2))
"""


def fuzz(n, seconds):
    """In a process of its own, with bounded memory: a crash of a decoder would end the test run."""
    here = os.path.dirname(__file__)
    out = run_with_limit(FUZZ, here, 20260, n, memory=MEMORY if sys.platform == "linux" else None, seconds=seconds)
    n_sounds, _ = out.split()
    assert n // 20 < int(n_sounds) < n // 2, "mutants must be neither all broken nor all whole"


def test_mutants_of_valid_files_are_sounds_or_exceptions():
    fuzz(400, seconds=120)


@pytest.mark.slow
def test_five_thousand_mutants():
    fuzz(5_000, seconds=900)
