"""Sound files that hold more or something else than their header says: read right, or refused."""

import io
import itertools
import struct

import numpy as np
import pytest
import soundfile

from ensemblefuse import AudioEncoder, EncodingError
from ensemblefuse.cells.sound import read_sound

RATE = 16_000
BLOCK = 200
TONE = (0.5 * np.sin(np.arange(12_000) / 9)).astype(np.float32)


def file_bytes(samples, kind, subtype=None, rate=RATE):
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, samples.ndim, subtype, format=kind) as file:
        file.write(samples)
    return buffer.getvalue()


def samples_of(content, rate=RATE):
    return np.concatenate(list(read_sound(content, rate).windows(2**14)))


def patched(content, at, new):
    return content[:at] + new + content[at + len(new) :]


# ---------------------------------------------------------------------- FLAC, written by hand


def checksum(data, polynomial, width):
    value = 0
    for byte in data:
        value ^= byte << (width - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value >> (width - 1) else value << 1) & ((1 << width) - 1)
    return value


def frame(samples, i, *, rate, bits, channels=1, size_code=7):
    """One frame with its samples as they are."""
    code = {8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}[bits]
    head = bytes([0xFF, 0xF8, size_code << 4 | 13, (channels - 1) << 4 | code << 1]) + chr(i).encode()
    head += struct.pack(">HH", len(samples) - 1, rate)
    content = "".join(
        "00000010" + "".join(format(int(value) % 2**bits, f"0{bits}b") for value in samples) for _ in range(channels)
    )
    content += "0" * (-len(content) % 8)
    head += bytes([checksum(head, 0x07, 8)])
    whole = head + int(content, 2).to_bytes(len(content) // 8, "big")
    return whole + struct.pack(">H", checksum(whole, 0x8005, 16))


def flac(samples, *, bits=16, declared=None, rates=None, depths=None, channels=None, before=b""):
    """A FLAC file in frames of 200 samples, each of which may have a rate, bits and channels of its own."""
    whole = np.rint(samples * 2 ** (bits - 1)).astype(np.int64)
    parts = [whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK)]
    n = len(whole) if declared is None else declared
    packed = RATE << 44 | 0 << 41 | (bits - 1) << 36 | n
    info = struct.pack(">HH", BLOCK, BLOCK) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    frames = [
        frame(
            part,
            i,
            rate=RATE if rates is None else rates[i],
            bits=bits if depths is None else depths[i],
            channels=1 if channels is None else channels[i],
        )
        for i, part in enumerate(parts)
    ]
    return before + b"fLaC\x80" + len(info).to_bytes(3, "big") + info + b"".join(frames)


SHORT = TONE[:1200]
ID3 = b"ID3\3\0\0\0\0\0\x14" + bytes(20)


@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("before", [b"", ID3], ids=["plain", "tag"])
def test_a_flac_is_read_as_its_numbers(bits, before):
    np.testing.assert_allclose(samples_of(flac(SHORT, bits=bits, before=before)), SHORT, atol=2.0 ** (2 - bits))


def test_a_flac_of_unknown_length_is_read_whole():
    np.testing.assert_allclose(samples_of(flac(SHORT, declared=0)), SHORT, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rates": [16_000] * 3 + [8_000] * 3}, "rate changes from 16000 to 8000 Hz after 600 samples"),
        ({"rates": [8_000] * 6}, "rate changes from 16000 to 8000 Hz after 0 samples"),
        ({"rates": [16_000] * 5 + [16_001]}, "rate changes from 16000 to 16001 Hz after 1000 samples"),
        ({"rates": [16_000] * 3 + [8_000] * 3, "before": ID3}, "rate changes"),
        ({"declared": 600}, "holds 1200 samples, but its header declares 600"),
        ({"declared": 1199}, "holds 1200 samples, but its header declares 1199"),
        ({"declared": 1201}, "cut short: the file holds 1200 of its 1201 samples"),
        ({"depths": [16] * 3 + [24] * 3}, "resolution changes from 16 to 24 bits after 600 samples"),
        ({"channels": [1] * 3 + [2] * 3}, "number of channels changes from 1 to 2 after 600 samples"),
        ({"bits": 12}, "not a sound file that can be read"),
        ({"bits": 20}, "not a sound file that can be read"),
        ({"bits": 32}, "not a sound file that can be read"),
    ],
    ids=str,
)
def test_a_flac_that_contradicts_its_header_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        samples_of(flac(SHORT, **options))


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_compressed_frames_are_not_suspected(subtype):
    """Noise of all kinds: by chance it holds the mark of a frame thousands of times."""
    rng = np.random.default_rng(0)
    noise = np.concatenate([rng.uniform(-1, 1, 30_000), np.zeros(9000), 0.3 * np.sin(np.arange(30_000) / 5)])
    content = file_bytes(np.stack([noise, -noise / 3], 1), "FLAC", subtype)
    assert len(samples_of(content)) == len(noise)


# ---------------------------------------------------------------------- MP3

MP3 = file_bytes(TONE, "MP3")
MARK = MP3.index(b"Xing")
N_FRAMES = int.from_bytes(MP3[MARK + 8 : MARK + 12], "big")


@pytest.mark.parametrize("n", [0, 1, 2, N_FRAMES // 2, N_FRAMES - 1, N_FRAMES])
@pytest.mark.parametrize("before", [b"", ID3], ids=["plain", "tag"])
def test_an_mp3_with_too_small_a_length_is_read_whole(n, before, tmp_path):
    content = before + patched(MP3, MARK + 8, struct.pack(">I", n))
    np.testing.assert_array_equal(samples_of(content), samples_of(MP3))
    (tmp_path / "sound.mp3").write_bytes(content)
    np.testing.assert_array_equal(samples_of(tmp_path / "sound.mp3"), samples_of(MP3))


@pytest.mark.parametrize("n", [N_FRAMES + 1, 10 * N_FRAMES, 2**32 - 1])
def test_an_mp3_with_too_large_a_length_gives_what_it_holds(n):
    got = samples_of(patched(MP3, MARK + 8, struct.pack(">I", n)))
    assert len(TONE) <= len(got) < len(TONE) + 2 * 1152
    np.testing.assert_allclose(got[: len(TONE)], samples_of(MP3), atol=1e-6)


def test_an_mp3_of_variable_rate_without_a_length_is_read_whole():
    """Its first half is silence, of small frames: the length guessed from them is far too small or too large."""
    sound = np.concatenate([np.zeros(RATE), 0.9 * np.random.default_rng(0).uniform(-1, 1, 2 * RATE)]).astype("f4")
    for samples in (sound, sound[::-1].copy()):
        content = file_bytes(samples, "MP3")
        without = content.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4))
        assert len(samples_of(content)) == len(samples)
        assert len(samples_of(without)) >= len(samples)


def test_an_mp3_that_changes_its_rate_is_refused():
    with pytest.raises(ValueError, match="rate changes from 16000 to 32000 Hz"):
        samples_of(MP3 + file_bytes(TONE, "MP3", rate=32_000))
    with pytest.raises(ValueError, match="channels change"):
        samples_of(MP3 + file_bytes(np.stack([TONE, TONE], 1), "MP3"))


def test_two_mp3_files_in_one_are_read_both():
    assert len(samples_of(MP3 + MP3)) >= 2 * len(TONE)


# ---------------------------------------------------------------------- lengths in headers

FLOATS = file_bytes(TONE, "WAV", "FLOAT")
WAV, AIFF, AU, CAF = (file_bytes(TONE, kind) for kind in ("WAV", "AIFF", "AU", "CAF"))
STEREO = file_bytes(np.stack([TONE, TONE], 1), "WAV")
TOO_SHORT = {
    "WAV": patched(WAV, WAV.index(b"data") + 4, struct.pack("<I", 4000)),
    "WAV, odd": patched(WAV, WAV.index(b"data") + 4, struct.pack("<I", 4001)),
    "WAV of floats": patched(FLOATS, FLOATS.index(b"data") + 4, struct.pack("<I", 4000)),
    "WAV in stereo": patched(STEREO, STEREO.index(b"data") + 4, struct.pack("<I", 4000)),
    "WAV of length 0": patched(WAV, WAV.index(b"data") + 4, struct.pack("<I", 0)),
    "AIFF": patched(AIFF, AIFF.index(b"SSND") + 4, struct.pack(">I", 4008)),
    "AU": patched(AU, 8, struct.pack(">I", 4000)),
    "CAF": patched(CAF, CAF.index(b"data") + 4, struct.pack(">Q", 4004)),
}


@pytest.mark.parametrize("name", TOO_SHORT)
def test_a_header_that_declares_too_few_samples(name):
    with pytest.raises(ValueError, match=r"its header is wrong: it declares \d+ bytes, and \d+ more follow"):
        samples_of(TOO_SHORT[name])


@pytest.mark.parametrize(
    "more",
    [
        bytes(4096),
        b"LIST" + struct.pack("<I", 12) + b"INFOINAM\0\0\0\0",
        b"bext" + struct.pack("<I", 602) + b"cut",
        b"my 1" + struct.pack("<I", 4) + b"1234",
        b"TAG" + b"title".ljust(125, b"\0"),
        b"\r\n",
    ],
    ids=["zeros", "chunk", "cut chunk", "own chunk", "tag", "line end"],
)
def test_what_may_follow_the_samples(more):
    np.testing.assert_allclose(samples_of(WAV + more), TONE, atol=1e-4)


@pytest.mark.parametrize("length", [0, 100, 2**32 - 1])
def test_the_length_of_the_whole_file_is_often_wrong_and_not_used(length):
    np.testing.assert_allclose(samples_of(patched(WAV, 4, struct.pack("<I", length))), TONE, atol=1e-4)


EXACT = [
    (kind, subtype)
    for kind, subtype in itertools.product(
        ("WAV", "AIFF", "AU", "CAF", "FLAC", "RF64", "W64", "NIST"),
        ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    )
    if soundfile.check_format(kind, subtype)
]


@pytest.mark.parametrize(("kind", "subtype"), EXACT)
def test_every_number_format_has_its_values(kind, subtype):
    step = {"PCM_S8": 2.0**-6, "PCM_U8": 2.0**-6, "PCM_16": 2.0**-14}.get(subtype, 2.0**-21)
    np.testing.assert_allclose(samples_of(file_bytes(TONE, kind, subtype)), TONE, atol=step)


# ---------------------------------------------------------------------- OGG


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_chain_of_ogg_sounds_is_refused(subtype):
    one, other = file_bytes(TONE, "OGG", subtype), file_bytes(TONE, "OGG", subtype, rate=8_000)
    assert len(samples_of(one)) == len(TONE)
    for chain in (one + one, one + other):
        with pytest.raises(ValueError, match="several sounds one after another"):
            samples_of(chain)


# ---------------------------------------------------------------------- rows, and another decoder


def test_such_sounds_are_bad_rows_with_a_way_out(tmp_path):
    (tmp_path / "rate.flac").write_bytes(flac(SHORT, rates=[16_000] * 3 + [8_000] * 3))
    encoder = AudioEncoder(features="librosa")
    with pytest.raises(EncodingError, match="after 600 samples; store it anew, for instance as WAV"):
        encoder.fit_transform({"clip": [str(tmp_path / "rate.flac"), TONE]})


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        flac(SHORT),
        flac(SHORT, bits=24),
        file_bytes(TONE, "FLAC", "PCM_24"),
        file_bytes(TONE, "WAV", "PCM_24"),
        file_bytes(TONE, "OGG"),
        WAV,
        FLOATS,
    ],
    ids=["FLAC by hand", "of 24 bits", "FLAC", "WAV of 24 bits", "OGG", "WAV", "WAV of floats"],
)
def test_the_samples_agree_with_those_of_libav(content):
    import av

    with av.open(io.BytesIO(content)) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        parts = [made.to_ndarray()[0] for part in container.decode(audio=0) for made in resampler.resample(part)]
    theirs, ours = np.concatenate(parts), samples_of(content)
    assert abs(len(theirs) - len(ours)) <= 512
    n = min(len(theirs), len(ours))
    np.testing.assert_allclose(ours[:n], theirs[:n], atol=1e-4)
