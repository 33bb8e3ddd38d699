"""AudioEncoder: any readable sound to one vector, whatever its neighbours, its format and its rate."""

import io
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile
from numpy.testing import assert_allclose

from ensemblefuse import EncodingError, config_context
from ensemblefuse.encoders import _whisper
from ensemblefuse.encoders._audio import AudioEncoder

RATE = 16_000
BOTH = [None, "librosa"]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path):
    with config_context(cache=tmp_path / "cache"):
        yield


def tone(frequency=440.0, seconds=1.0, rate=RATE, noise=0.0):
    time = np.arange(round(seconds * rate)) / rate
    noises = np.random.default_rng(0).standard_normal(len(time))
    # A harmonic sound that swells and fades, nearer to speech than a bare sine.
    harmonics = sum(np.sin(2 * np.pi * frequency * k * time) / k for k in (1, 2, 3))
    return (0.3 * np.sin(np.pi * time / seconds) * harmonics + noise * noises).astype(np.float32)


def file_bytes(samples, rate=RATE, format="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def column(cells):
    """A table of one column; cell by cell, so that arrays stay cells."""
    values = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        values[i] = cell
    return pd.DataFrame({"clip": values})


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def sounds_of_many_lengths():
    lengths = [0.01, 0.3, 1.0, 1.2, 2.0, 0.9, 2.6, 0.02, 1.7, 0.5]
    return [tone(200 + 60 * i, seconds, noise=0.01) for i, seconds in enumerate(lengths)]


@pytest.mark.parametrize("features", BOTH)
@pytest.mark.parametrize("batch_size", [7, 64])
def test_a_sound_has_one_vector_whatever_the_batch(features, batch_size):
    clips = sounds_of_many_lengths()
    with config_context(cache=None):
        one_by_one = AudioEncoder(features=features, batch_size=1, device="cpu").fit_transform(column(clips))
        batched = AudioEncoder(features=features, batch_size=batch_size, device="cpu").fit_transform(
            column(clips[::-1])
        )
    assert one_by_one.shape == (10, 768 if features is None else 128) and one_by_one.dtype == np.float32
    assert_allclose(one_by_one, batched[::-1], rtol=1e-5, atol=1e-5)


def test_the_spectrogram_is_that_of_transformers():
    from transformers import WhisperFeatureExtractor

    samples = tone(seconds=1.3, noise=0.02)
    padded = np.pad(samples, (0, 2 * RATE - len(samples)))
    theirs = WhisperFeatureExtractor(feature_size=80)(padded, sampling_rate=RATE, padding=False, return_tensors="np")
    ours = _whisper.log_mel(samples, 2, 80)
    assert ours.shape == (80, 200)
    assert_allclose(ours, theirs["input_features"][0], atol=1e-4)


@pytest.mark.parametrize("features", BOTH)
def test_path_bytes_and_array_of_one_sound_have_one_vector(features, tmp_path):
    samples = tone()
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    flac = file_bytes(samples, format="FLAC", subtype="PCM_24")
    cells = [str(path), path, path.read_bytes(), flac, samples, samples.astype(np.float64), (samples, RATE)]
    vectors = AudioEncoder(features=features).fit_transform(column(cells))
    for vector in vectors[1:]:
        assert cosine(vectors[0], vector) > 0.99999
    assert_allclose(vectors[4], vectors[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("features", BOTH)
@pytest.mark.parametrize("format, subtype", [("OGG", "VORBIS"), ("MP3", None), ("OGG", "OPUS"), ("AIFF", None)])
def test_lossy_and_other_formats_are_read(features, format, subtype):
    noisy = tone(noise=0.05)  # in near silence Whisper hears what the codec left out
    cells = [noisy, file_bytes(noisy, format=format, subtype=subtype)]
    plain, coded = AudioEncoder(features=features).fit_transform(column(cells))
    assert cosine(plain, coded) > 0.95


@pytest.mark.parametrize("features", BOTH)
def test_the_sampling_rate_and_the_channels_hardly_change_the_vector(features, tmp_path):
    stereo = np.stack([tone(rate=44_100), tone(rate=44_100)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 44_100)
    cells = [tone(), tmp_path / "stereo.wav", (tone(rate=48_000), 48_000), (stereo, 44_100), tone(2500)]
    vectors = AudioEncoder(features=features).fit_transform(column(cells))
    for i in (1, 2, 3):
        assert cosine(vectors[0], vectors[i]) > 0.99, i
    assert cosine(vectors[0], vectors[4]) < 0.95 or features == "librosa"
    assert np.abs(vectors[0] - vectors[4]).max() > 10 * np.abs(vectors[0] - vectors[3]).max()


def test_stereo_is_averaged():
    left, right = tone(440), tone(700)
    mean, stereo = AudioEncoder(features="librosa").fit_transform(
        column([(left + right) / 2, (np.stack([left, right], axis=1), RATE)])
    )
    assert_allclose(mean, stereo, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("features", BOTH)
def test_silence_and_sounds_of_a_few_samples_have_finite_vectors(features):
    cells = [np.zeros(RATE), np.zeros(1), tone()[:1], tone()[:100], np.ones(5000), 1e-30 * tone(), 1e6 * tone()]
    vectors = AudioEncoder(features=features).fit_transform(column(cells))
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("features", BOTH)
def test_what_is_no_sound_is_a_bad_row_with_its_reason(features, tmp_path):
    empty, text, broken = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "broken.flac"
    empty.write_bytes(file_bytes(np.zeros(0)))
    text.write_text("no sound")
    broken.write_bytes(file_bytes(tone(noise=0.1), format="FLAC")[:9000])
    bad = {
        "no samples": empty,
        "no such file": str(tmp_path / "nowhere.wav"),
        "Format not recognised": text,
        "not a sound file": broken,
        "16000 samples are NaN": np.full(RATE, np.nan),
        "expected float samples from -1 to 1, got int16": np.zeros(100, dtype=np.int16),
        "sampling rate must be a number of Hz": (tone(), 0),
        "got shape": None,
        "or (n_samples, n_channels), got (2, 8000)": np.zeros((2, 8000)),
        "got int": 3,
        "cut short": file_bytes(tone())[:20_000],
        "got list": [0.0, 1.0],
    }
    table = column([tone(), *bad.values(), b""])
    with pytest.raises(EncodingError) as caught:
        AudioEncoder(features=features).fit_transform(table)
    reasons = [row.reason for row in caught.value.rows]
    expected = [reason for reason, cell in bad.items() if cell is not None] + ["no samples"]
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason
    with pytest.warns(UserWarning, match="12 of 14"):
        vectors = AudioEncoder(features=features, on_error="missing").fit_transform(table)
    assert np.isfinite(vectors[0]).all() and np.isnan(vectors[1:]).all()


def test_a_word_is_nearer_to_itself_in_another_voice_or_rate_than_to_another_word(tmp_path):
    import librosa

    from ensemblefuse.datasets import _speech

    voices = _speech.VOICES[0], _speech.VOICES[9]
    try:
        paths = [
            _speech.spoken(_speech.Utterance(word, voice, 165, 50), tmp_path)
            for word in ("seven", "two")
            for voice in voices
        ]
    except _speech.SpeechUnavailableError as error:
        pytest.skip(str(error))
    samples, rate = soundfile.read(paths[0])
    at_44_khz = librosa.resample(samples, orig_sr=rate, target_sr=44_100), 44_100
    seven, other_voice, two, _, resampled = AudioEncoder().fit_transform(column([*paths, at_44_khz]))
    assert cosine(seven, resampled) > 0.99
    assert cosine(seven, other_voice) > cosine(seven, two) + 0.1


def test_different_tones_have_different_vectors():
    low, again, high = AudioEncoder().fit_transform(column([tone(220), tone(222), tone(1500)]))
    assert cosine(low, again) > cosine(low, high) + 0.05


def test_a_long_sound_is_read_in_windows_and_pooled_over_all_its_frames(monkeypatch):
    monkeypatch.setattr(_whisper, "_WINDOW", 2 * RATE)
    encoder = AudioEncoder(device="cpu")
    first, second = tone(300, 2.0, noise=0.01), tone(900, 1.5, noise=0.01)
    with config_context(cache=None):
        whole, a, b = encoder.fit_transform(column([np.concatenate([first, second]), first, second])).astype(float)
    mean = (100 * a[:384] + 75 * b[:384]) / 175
    squares = (100 * (a[:384] ** 2 + a[384:] ** 2) + 75 * (b[:384] ** 2 + b[384:] ** 2)) / 175
    assert_allclose(whole[:384], mean, rtol=1e-4, atol=1e-5)
    assert_allclose(whole[384:], np.sqrt(squares - mean**2), rtol=1e-3, atol=1e-4)


def test_a_sound_of_over_thirty_seconds_has_a_vector():
    vector = AudioEncoder().fit_transform(column([tone(300, 31.0)]))
    assert vector.shape == (1, 768) and np.isfinite(vector).all()


def test_the_recipe_names_what_made_the_vector_and_nothing_else():
    assert AudioEncoder().recipe()["params"] == {"model": "whisper-tiny.en", "max_seconds": None}
    assert AudioEncoder(features="librosa").recipe()["params"] == {"features": "librosa", "max_seconds": None}
    assert AudioEncoder("nothing", features="librosa").recipe() == AudioEncoder(features="librosa").recipe()


def test_a_folder_of_a_model_is_known_by_its_content(tmp_path):
    import shutil

    from ensemblefuse.encoders._weights import packaged_path

    copy = shutil.copytree(packaged_path("whisper-tiny.en", needed_by="test"), tmp_path / "copy")
    recipe = AudioEncoder(copy).recipe()
    assert len(recipe["params"]["model"]) == 64 and "copy" not in json.dumps(recipe)
    clips = column([tone()])
    assert_allclose(AudioEncoder(str(copy)).fit_transform(clips), AudioEncoder().fit_transform(clips), rtol=1e-5)
    (copy / "model.bin").write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot load the folder 'copy' as a Whisper model"):
        AudioEncoder(copy).fit(column([tone(500)]))


@pytest.mark.parametrize(
    "params, message",
    [
        ({"model": "whisper-tiny"}, r"'whisper-tiny'. Did you mean 'whisper-tiny.en'"),
        ({"model": "librosa"}, 'Did you mean features="librosa"'),
        ({"features": "librossa"}, r"got 'librossa'. Did you mean 'librosa'"),
        ({"device": "mps"}, "device 'mps' cannot be used here"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
    ],
)
def test_a_wrong_parameter_is_an_error_with_the_near_name(params, message):
    with pytest.raises(ValueError, match=message):
        AudioEncoder(**params).fit(column([tone()]))


def test_a_fitted_encoder_pickles_to_under_a_kilobyte():
    assert len(pickle.dumps(AudioEncoder().fit(column([tone()])))) < 1000
