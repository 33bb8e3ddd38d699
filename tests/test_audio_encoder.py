"""AudioEncoder: any readable sound to one vector, whatever its neighbours, its format and its rate."""

import io
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
from numpy.testing import assert_allclose

from ensemblefuse import EncodingError, config_context
from ensemblefuse.backbones import audio_whisper as _whisper
from ensemblefuse.cells import sound as _sound_cell
from ensemblefuse.cells.sound import read_sound
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


@pytest.mark.by_turns
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


# ---------------------------------------------------------------------- reading, against soundfile and librosa

DEPTHS = {
    "WAV": [
        "PCM_U8",
        "PCM_16",
        "PCM_24",
        "PCM_32",
        "FLOAT",
        "DOUBLE",
        "ULAW",
        "ALAW",
        "IMA_ADPCM",
        "MS_ADPCM",
        "GSM610",
    ],
    "FLAC": ["PCM_S8", "PCM_16", "PCM_24"],
    "OGG": ["VORBIS", "OPUS"],
    "MP3": ["MPEG_LAYER_III"],
    "AIFF": ["PCM_S8", "PCM_16", "PCM_24", "FLOAT"],
    "AU": ["PCM_16", "FLOAT"],
    "CAF": ["PCM_16", "ALAC_16"],
    "NIST": ["PCM_16"],
    "W64": ["PCM_24"],
    "RF64": ["PCM_16"],
}


def reference(content, rate):
    """All of a file at once, by soundfile and librosa."""
    import librosa

    samples, own_rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return librosa.resample(samples.mean(axis=1), orig_sr=own_rate, target_sr=rate)


@pytest.mark.by_turns
@pytest.mark.parametrize("kind, depth", [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths])
def test_every_format_depth_rate_and_number_of_channels_is_read(kind, depth):
    for rate in (8000, 48_000) if depth == "OPUS" else (8000, 16_000, 22_050, 44_100, 48_000):
        for n_channels in (1, 2, 6):
            samples = np.stack([tone(300 + 40 * i, 0.2, rate, noise=0.01) for i in range(n_channels)], axis=1)
            try:
                content = file_bytes(samples, rate, kind, depth)
            except soundfile.LibsndfileError:  # MP3 of six channels, GSM of two
                assert n_channels > 1
                continue
            read = read_sound(content, RATE).samples
            assert read.ndim == 1 and read.dtype == np.float32
            assert_allclose(read, reference(content, RATE), atol=1e-6)


@pytest.mark.parametrize("target", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "array"])
def test_reading_by_blocks_is_reading_at_once(kind, target, monkeypatch):
    monkeypatch.setattr(_sound_cell, "_BLOCK", 5000)
    monkeypatch.setattr(_sound_cell, "_IN_MEMORY", 1)
    stereo = np.stack([tone(300, 3.1, 44_100, noise=0.01), tone(500, 3.1, 44_100, noise=0.01)], axis=1)
    cell = (stereo, 44_100) if kind == "array" else file_bytes(stereo, 44_100, kind)
    whole = reference(file_bytes(stereo, 44_100, subtype="FLOAT") if kind == "array" else cell, target)
    sound = read_sound(cell, target)
    assert sound.samples is None
    for length in (1000, target, 10 * target):
        windows = list(sound.windows(length))
        assert {len(window) for window in windows[:-1]} <= {length} and 0 < len(windows[-1]) <= length
        assert_allclose(np.concatenate(windows), whole, atol=1e-6)


@pytest.mark.parametrize("features", BOTH)
def test_a_sound_that_is_not_held_in_memory_has_the_same_vector(features, monkeypatch, tmp_path):
    soundfile.write(tmp_path / "clip.flac", tone(300, 3.4, 44_100, noise=0.01), 44_100)
    clips, encoder = column([tmp_path / "clip.flac", tone()]), AudioEncoder(features=features, device="cpu")
    with config_context(cache=None):
        held = encoder.fit_transform(clips)
        monkeypatch.setattr(_sound_cell, "_BLOCK", 3000)
        monkeypatch.setattr(_sound_cell, "_IN_MEMORY", 1)
        assert_allclose(encoder.fit_transform(clips), held, rtol=1e-5, atol=1e-6)


def test_max_seconds_reads_the_beginning_alone_and_says_so_once(tmp_path):
    samples = tone(300, 2.0, 44_100, noise=0.01)
    soundfile.write(tmp_path / "long.wav", samples, 44_100, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", samples[:22_050], 44_100, subtype="FLOAT")
    cells = [tmp_path / "long.wav", tmp_path / "short.wav", (samples, 44_100), tmp_path / "long.wav", tone(300, 0.4)]
    with pytest.warns(UserWarning, match="cut 2 sounds of column 'clip' at max_seconds=0.5") as caught:
        vectors = AudioEncoder(features="librosa", max_seconds=0.5, batch_size=2).fit_transform(column(cells))
    assert len(caught) == 1
    for i in (0, 2, 3):
        assert_allclose(vectors[i], vectors[1], rtol=1e-5, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AudioEncoder(features="librosa", max_seconds=2).fit_transform(column(cells))
    recipes = [AudioEncoder(max_seconds=seconds).recipe() for seconds in (None, 1, 2)]
    assert recipes[0] != recipes[1] != recipes[2] and recipes[1] == AudioEncoder(max_seconds=1.0).recipe()


def test_librosa_features_of_a_long_sound_are_pooled_over_windows(monkeypatch):
    from ensemblefuse.encoders import _librosa_features

    monkeypatch.setattr(_librosa_features, "_WINDOW_SECONDS", 1)
    clip = tone(300, 2.5, noise=0.01)
    parts = [clip[:RATE], clip[RATE : 2 * RATE], clip[2 * RATE :]]
    frames = np.concatenate([_librosa_features.librosa_curves(part, RATE) for part in parts])
    with config_context(cache=None):
        vector = AudioEncoder(features="librosa").fit_transform(column([clip]))[0]
    assert_allclose(vector, np.hstack([frames.mean(axis=0), frames.std(axis=0)]), rtol=1e-5, atol=1e-5)


def test_a_long_file_takes_the_memory_of_five_minutes_at_most(tmp_path):
    import tracemalloc

    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(20):
            file.write(tone(300, 60.0, 8000))
    tracemalloc.start()
    try:
        sound = read_sound(path, RATE)
        n_samples = sum(len(window) for window in sound.windows(30 * RATE))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_samples == 20 * 60 * RATE and sound.samples is None
    assert peak < 4 * 300 * RATE + 4e6, f"{peak / 1e6:.0f} MB, where the sound has 77"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_process_does_not_grow_with_the_length_of_a_sound(tmp_path):
    """An hour takes no more than six minutes, besides what noise there is."""
    minute = tone(300, 60.0, 8000)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 8000, 1) as file:
        for _ in range(60):
            file.write(minute)
    code = (
        "import sys, warnings, resource\nfrom ensemblefuse import AudioEncoder, set_config\n"
        "set_config(cache=None)\nwarnings.simplefilter('ignore')\n"
        "AudioEncoder(features='librosa', max_seconds=float(sys.argv[2])).fit_transform({'clip': [sys.argv[1]]})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for seconds in (360, 3600):
        command = [sys.executable, "-c", code, str(tmp_path / "long.wav"), str(seconds)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 100_000, peaks  # kB; an hour at 16 kHz is 230 000


def test_the_warning_filters_the_seeds_and_the_threads_are_left_alone(tmp_path):
    import torch

    def state():
        seeds = str(np.random.get_state()), torch.random.get_rng_state().tolist()  # noqa: NPY002
        return list(warnings.filters), np.geterr(), seeds, torch.is_grad_enabled(), torch.get_num_threads()

    AudioEncoder(device="cpu").fit_transform(column([tone()]))
    before = state()
    for features in BOTH:
        cells = [file_bytes(tone(250, 0.7, 44_100), 44_100, kind) for kind in ("WAV", "FLAC", "OGG", "MP3")]
        AudioEncoder(features=features, device="cpu").fit_transform(column(cells))
    assert state() == before


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

    from ensemblefuse.backbones.weights import packaged_path

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
        ({"batch_size": True}, "batch_size must be a whole number of at least 1; got True"),
        ({"max_seconds": 0}, "max_seconds must be None or a number above 0; got 0"),
        ({"max_seconds": float("nan")}, "max_seconds must be None or a number above 0; got nan"),
        ({"max_seconds": "10"}, "max_seconds must be None or a number above 0; got '10'"),
        ({"max_seconds": True}, "max_seconds must be None or a number above 0; got True"),
        ({"features": 3}, r"features must be None or one of \['librosa'\]; got 3"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"model": "org/no-such-model"}, "unknown model 'org/no-such-model'"),
    ],
)
def test_a_wrong_parameter_is_an_error_with_the_near_name(params, message):
    with pytest.raises(ValueError, match=message):
        AudioEncoder(**params).fit(column([tone()]))


def test_a_model_that_is_no_name_is_an_error_of_type():
    with pytest.raises(TypeError, match="model must be a name or a folder; got 3"):
        AudioEncoder(3).fit(column([tone()]))


def test_a_fitted_encoder_pickles_to_under_a_kilobyte():
    assert len(pickle.dumps(AudioEncoder().fit(column([tone()])))) < 1000
