"""Corrupted cells: each corruption does what its parameter says, the same in every run."""

import io

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from ensemblefuse import AudioEncoder, ImageEncoder, TextEncoder, TimeSeriesEncoder, WordVectorEncoder
from ensemblefuse.cells.image import read_rgb
from ensemblefuse.datasets import make_media
from ensemblefuse.datasets._base import write_wav
from ensemblefuse.evaluation._corruptions import CORRUPTIONS, corrupt, kind_of_encoder

ENCODER = {
    "image": ImageEncoder(features="color", background="black"),
    "text": TextEncoder(),
    "sound": AudioEncoder(features="librosa"),
    "series": TimeSeriesEncoder(),
}
RATE = 16_000
TEXT = "The quick brown Fox jumps over the lazy dog, and then some other animal comes by. " * 5


def made_worse(name, cell, severity, **params):
    return corrupt(cell, CORRUPTIONS[name], severity, encoder=ENCODER[CORRUPTIONS[name].kind], **params)


def photo(side=224, seed=0):
    """Smooth colours and fine texture."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(60, 190, (7, 7, 3), dtype=np.uint8)).resize((side, side), Image.BICUBIC)
    return Image.fromarray((np.asarray(rough) + rng.integers(0, 20, (side, side, 3))).clip(0, 255).astype(np.uint8))


def tones():
    """One in each of three bands, none of them constant."""
    time = np.arange(RATE) / RATE
    return sum(0.2 * np.sin(2 * np.pi * hertz * time) for hertz in (100, 1000, 6000)).astype(np.float32)


NOISE = np.random.default_rng(3).standard_normal(RATE).astype(np.float32)
CELL = {"image": photo(), "text": TEXT, "sound": NOISE, "series": np.sin(np.arange(200) / 7)}


def pixels(picture):
    return np.asarray(picture, dtype=float)


def distance(name, a, b):
    """How far apart two cells of a kind are."""
    kind = CORRUPTIONS[name].kind
    if kind == "text":
        return abs(len(a) - len(b)) or sum(x != y for x, y in zip(a, b, strict=True))
    a, b = (pixels(cell) if kind == "image" else cell for cell in (a, b))
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_every_encoder_of_cells_has_its_kind():
    assert {kind: kind_of_encoder(encoder) for kind, encoder in ENCODER.items()} == {kind: kind for kind in ENCODER}
    assert kind_of_encoder(WordVectorEncoder("words.txt")) == "text"
    assert kind_of_encoder(None) is None


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_0_is_the_cell_itself(name):
    cell = CELL[CORRUPTIONS[name].kind]
    assert made_worse(name, cell, 0) is cell


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_cell_depends_on_content_seed_and_severity_alone(name):
    cell = CELL[CORRUPTIONS[name].kind]
    first, again = made_worse(name, cell, 3), made_worse(name, cell.copy() if hasattr(cell, "copy") else cell, 3)
    assert distance(name, first, again) == 0
    assert distance(name, cell, first) > 0
    if name not in ("gaussian_blur", "jpeg", "brighter", "darker", "band_stop"):  # these draw nothing
        assert distance(name, first, made_worse(name, cell, 3, random_state=1)) > 0


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_is_more_severe_is_further_from_the_cell(name):
    cell = CELL[CORRUPTIONS[name].kind]
    away = [
        np.mean([distance(name, cell, made_worse(name, cell, severity, random_state=seed)) for seed in range(5)])
        for severity in range(6)
    ]
    assert away == sorted(away) and len(set(away)) == 6


def test_cells_of_other_content_have_other_draws():
    series = CELL["series"]
    noise = [made_worse("relative_noise", cell, 3) - cell for cell in (series, series + 1)]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.3
    shades = [np.full((50, 50, 3), grey, dtype=np.uint8) for grey in (120, 121)]
    noise = [pixels(made_worse("gaussian_noise", shade, 1)).ravel() for shade in shades]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.1


# ---------------------------------------------------------------------- pictures


def sharpness(picture):
    return np.mean(np.diff(pixels(picture).mean(axis=2)) ** 2)


def test_blur_takes_the_high_frequencies():
    left = [sharpness(made_worse("gaussian_blur", photo(), severity)) / sharpness(photo()) for severity in range(6)]
    assert left[0] == 1 and left[1] < 0.2 and left == sorted(left, reverse=True)


def test_blur_is_in_pixels_of_224():
    edge = np.zeros((448, 448, 3), dtype=np.uint8)
    edge[:, 224:] = 255
    rise = np.diff(pixels(made_worse("gaussian_blur", edge, 3))[200, :, 0])
    place = np.arange(len(rise))
    sigma = np.sqrt((rise * (place - (rise * place).sum() / rise.sum()) ** 2).sum() / rise.sum())
    assert_allclose(sigma, 3 * 448 / 224, rtol=0.05)


@pytest.mark.parametrize("side", [100, 224, 672])
def test_noise_has_its_sigma_at_224_pixels(side):
    grey = np.full((side, side, 3), 128, dtype=np.uint8)
    grains = pixels(made_worse("gaussian_noise", grey, 1).resize((min(side, 224),) * 2, Image.BOX))
    assert_allclose(grains.std(), 0.08 * 255, rtol=0.05)


@pytest.mark.parametrize(("severity", "quality"), [(1, 25), (5, 7)])
def test_jpeg_is_what_pillow_writes_at_the_quality(severity, quality):
    file = io.BytesIO()
    photo().save(file, format="JPEG", quality=quality)
    assert_array_equal(pixels(made_worse("jpeg", photo(), severity)), pixels(Image.open(file)))


def test_brightness_moves_the_value_and_keeps_the_hue():
    for name, shift in (("brighter", 0.1), ("darker", -0.1)):
        new, old = pixels(made_worse(name, photo(), 1)), pixels(photo())
        assert_allclose(new.max(axis=2) - old.max(axis=2), 255 * shift, atol=0.51)
        assert_allclose(new / new.max(axis=2, keepdims=True), old / old.max(axis=2, keepdims=True), atol=0.02)
    assert pixels(made_worse("brighter", np.zeros((8, 8), dtype=np.uint8), 5)).mean() == 128


def test_every_way_to_give_a_picture_is_read_as_the_encoder_reads_it(tmp_path):
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    for cell in (tmp_path / "clear.png", str(tmp_path / "clear.png"), (tmp_path / "clear.png").read_bytes(), clear):
        assert pixels(made_worse("gaussian_blur", cell, 1)).max() == 0  # on the encoder's own background
    several = made_worse("gaussian_noise", [photo(), photo()], 2)
    assert len(several) == 2 and distance("gaussian_noise", *several) > 0
    assert ENCODER["image"].fit_transform([several, [photo(32)]]).shape == (2, 73)
    in_array = np.array([str(tmp_path / "clear.png")] * 2, dtype=object)
    assert len(made_worse("jpeg", in_array, 1)) == 2
    assert read_rgb(made_worse("jpeg", photo(), 1)).mode == "RGB"


# ---------------------------------------------------------------------- texts


def edits(a, b):
    """Swaps of neighbours, if `b` is `a` with such swaps that do not overlap."""
    found, i = 0, 0
    while i < len(a):
        if a[i] == b[i]:
            i += 1
        else:
            assert a[i : i + 2] == b[i : i + 2][::-1]
            found, i = found + 1, i + 2
    return found


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_swaps_and_replacements_keep_the_length_and_count_their_letters(severity):
    n_letters = sum(map(str.isalpha, TEXT))
    swapped, replaced = (made_worse(name, TEXT, severity) for name in ("swapped_letters", "replaced_letters"))
    share = CORRUPTIONS["swapped_letters"].levels[severity - 1]
    assert edits(TEXT, swapped) == round(share / 2 * n_letters)
    assert [len(word) for word in swapped.split()] == [len(word) for word in TEXT.split()]
    differ = [(old, new) for old, new in zip(TEXT, replaced, strict=True) if old != new]
    assert len(differ) == round(CORRUPTIONS["replaced_letters"].levels[severity - 1] * n_letters)
    assert all(old.isupper() == new.isupper() and new.isalpha() for old, new in differ)


def test_dropped_words_are_the_share_that_is_stated():
    words = TEXT.split()
    for severity, share in enumerate(CORRUPTIONS["dropped_words"].levels, 1):
        left = made_worse("dropped_words", TEXT, severity).split()
        assert len(left) == len(words) - round(share * len(words))
        rest = iter(words)
        assert all(word in rest for word in left)  # in their order


@pytest.mark.parametrize("text", ["", "   ", "12 34", "a"])
def test_texts_too_short_to_be_made_worse_stay(text):
    assert made_worse("swapped_letters", text, 5) == text
    assert len(made_worse("replaced_letters", text, 5)) == len(text)
    assert (
        made_worse("dropped_words", text, 5).split() == (text.split() if text != "12 34" else ["12"]) or text == "12 34"
    )


def test_what_is_no_text_is_refused():
    with pytest.raises(TypeError, match="expected a text, got float"):
        made_worse("dropped_words", 3.5, 1)


# ---------------------------------------------------------------------- sounds


def power(samples):
    return np.mean(np.square(samples, dtype=float))


@pytest.mark.parametrize(("severity", "decibels"), [(1, 30), (3, 10), (5, 0)])
def test_noise_has_the_ratio_that_is_stated(severity, decibels):
    noise = made_worse("white_noise", tones(), severity) - tones()
    assert_allclose(10 * np.log10(power(tones()) / power(noise)), decibels, atol=0.5)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert_allclose(spectrum[:4000].sum() / spectrum[4000:].sum(), 1, rtol=0.1)  # white


def test_silence_stays_silence():
    assert not made_worse("white_noise", np.zeros(100, dtype=np.float32), 5).any()


def test_a_stopped_band_is_gone_and_the_others_are_there():
    for severity, octaves in enumerate(CORRUPTIONS["band_stop"].levels, 1):
        before, after = (np.abs(np.fft.rfft(s)) ** 2 for s in (NOISE, made_worse("band_stop", NOISE, severity)))
        hertz = np.fft.rfftfreq(RATE, 1 / RATE)
        inside = (hertz >= 1000 / 2 ** (octaves / 2)) & (hertz <= 1000 * 2 ** (octaves / 2))
        assert after[inside].sum() < 1e-6 * before[inside].sum()
        assert_allclose(after[~inside], before[~inside], rtol=1e-2, atol=1e-3)


def test_every_way_to_give_a_sound_is_read_at_the_rate_of_the_encoder(tmp_path):
    write_wav(tmp_path / "low.wav", tones()[::2].astype(float), RATE // 2)
    stereo = np.stack([tones(), tones()], axis=1)
    for cell in (tmp_path / "low.wav", (tmp_path / "low.wav").read_bytes(), stereo, (tones()[::2], RATE // 2)):
        worse = made_worse("white_noise", cell, 5)
        assert worse.shape == (RATE,) and worse.dtype == np.float32
    assert np.isfinite(ENCODER["sound"].fit_transform([worse])).all()


def test_a_sound_needs_its_encoder():
    with pytest.raises(TypeError, match="pass a function of your own"):
        corrupt(tones(), CORRUPTIONS["white_noise"], 1)


# ---------------------------------------------------------------------- series


def test_noise_is_in_deviations_of_the_channel():
    series = np.stack([1000 * np.sin(np.arange(5000) / 9), 5 + np.cos(np.arange(5000) / 9), np.full(5000, 7.0)])
    noise = made_worse("relative_noise", series, 2) - series
    assert_allclose(noise.std(axis=1)[:2] / series.std(axis=1)[:2], 0.2, rtol=0.05)
    assert not noise[2].any()


@pytest.mark.parametrize("shape", [(50,), (3, 50)])
def test_a_gap_holds_the_last_value(shape):
    series = np.random.default_rng(0).normal(size=shape)
    for severity, share in enumerate(CORRUPTIONS["gap"].levels, 1):
        for seed in range(20):
            held = made_worse("gap", series, severity, random_state=seed)
            places = np.flatnonzero((held != series).reshape(-1, 50).any(axis=0))
            assert_array_equal(places, np.arange(places[0], places[0] + round(share * 50)))
            source = places[0] - 1 if places[0] else places[-1] + 1
            assert (held[..., places] == series[..., [source]]).all()


def test_short_and_listed_series_keep_their_shape():
    for name in ("relative_noise", "gap"):
        assert made_worse(name, [3], 5).tolist() == [3.0]
        assert made_worse(name, [1, 2, 3], 5).shape == (3,)


def test_parameters_are_told_with_their_units(tmp_path):
    assert CORRUPTIONS["white_noise"].parameter(3) == "SNR 10 dB"
    assert CORRUPTIONS["darker"].parameter(1) == "value -0.1 of 1"
    assert CORRUPTIONS["gap"].parameter(0) == ""
    media = make_media(tmp_path, n_samples=3).frame
    assert made_worse("jpeg", media["photo"].iloc[0], 5).size == (64, 64)
