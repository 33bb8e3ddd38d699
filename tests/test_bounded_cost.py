"""One cell costs a bounded time, messages have a bounded length, and cells known to be bad load no network."""

import base64
import io
import struct
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from ensemblefuse import (
    AudioEncoder,
    BaseEncoder,
    EncodingError,
    ImageEncoder,
    MissingModalityWarning,
    TextEncoder,
    TimeSeriesEncoder,
    VideoEncoder,
    VideoSoundEncoder,
    config_context,
)
from ensemblefuse.exceptions import reason_of


def wav(n_samples, rate):
    data = (9000 * np.sin(np.arange(n_samples))).astype("<i2").tobytes()
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + form + b"data" + struct.pack("<I", len(data)) + data
    )


def png(side=12, colour="teal"):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


# ---------------------------------------------------------------------- sounds


@pytest.mark.parametrize("rate", [1, 8, 199])
@pytest.mark.parametrize("form", ["bytes", "file", "array"])
def test_a_sound_of_few_samples_a_second_is_refused_before_it_is_resampled(rate, form, tmp_path):
    cell = wav(2000, rate) if form != "array" else (np.zeros(2000), rate)
    if form == "file":
        (tmp_path / "slow.wav").write_bytes(cell)
        cell = str(tmp_path / "slow.wav")
    encoder = AudioEncoder(features="librosa").fit([np.zeros(1600)])
    begin = time.process_time()
    with pytest.raises(EncodingError, match=r"rate.*200.*are for TimeSeriesEncoder"):
        encoder.transform([cell])
    assert time.process_time() - begin < 1


def test_the_least_rate_is_read():
    for cell in (wav(100, 200), (np.zeros(100), 200)):
        assert np.isfinite(AudioEncoder(features="librosa").fit_transform([cell])).all()


def test_the_sound_of_a_video_has_the_same_bound():
    encoder = VideoSoundEncoder(AudioEncoder(features="librosa"))
    with pytest.raises(EncodingError, match="sampling rate is 4 Hz"):
        encoder.fit_transform([wav(2000, 4)])


def test_hours_of_silence_in_a_small_file_are_refused_and_the_limit_can_be_raised():
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        file.write(np.zeros(8000 * 90, dtype=np.float32))
    content = buffer.getvalue()
    assert len(content) < 20_000
    with pytest.raises(EncodingError, match=r"lasts 0.025 hours; at most max_hours=0.02 are read.*larger max_hours"):
        AudioEncoder(features="librosa", max_hours=0.02).fit_transform([content])
    for more in ({"max_hours": 0.025}, {"max_hours": 0.02, "max_seconds": 1}):
        with pytest.warns(UserWarning, match="cut 1 sound") if "max_seconds" in more else config_context():
            assert np.isfinite(AudioEncoder(features="librosa", **more).fit_transform([content])).all()
    recipes = [AudioEncoder(max_hours=hours).recipe() for hours in (1, 2)]
    assert recipes[0] == recipes[1]
    with pytest.raises(ValueError, match="max_hours must be a number above 0; got 0"):
        AudioEncoder(max_hours=0).fit_transform([content])


# ---------------------------------------------------------------------- texts and series


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore:.*in another script than the Latin one")
@pytest.mark.parametrize(
    "text", ["gravel " * 300_000, "water\n" * 300_000, "水" * 600_000], ids=["words", "lines", "signs"]
)
def test_of_a_long_text_only_a_beginning_is_looked_at(text):
    encoder = TextEncoder().fit(["a"])
    begin = time.process_time()
    with pytest.warns(UserWarning, match="cut 1 text"), config_context(cache=None):
        encoder.transform([text])
    assert time.process_time() - begin < 2


def test_the_beginning_gives_the_vector_of_the_whole_text():
    rng = np.random.default_rng(0)
    words = ["gravel", "unbelievably", "x" * 120, "水山", "naïve", "e\u0301t", "well-known", "!", "\n"]
    text = " ".join(rng.choice(words, 4000))
    encoder = TextEncoder().fit(["a"])
    with pytest.warns(UserWarning, match="cut 1 text"), config_context(cache=None):
        cut = encoder.transform([text])
    assert len(encoder.load(text)) < len(text)
    np.testing.assert_array_equal(cut, encoder._network().encode([text], 1))


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("gravel " * 100_000, {"long_texts": "chunk"}),
        ("x" * 600_000, {}),  # one word is one token
        (" " * 600_000 + "a", {}),
        ("gravel " * 3000, {"long_texts": "chunk", "max_characters": 20_000}),
    ],
    ids=["windows", "one word", "blanks", "own limit"],
)
def test_a_text_that_would_have_to_be_read_further_is_a_bad_row(text, parameters):
    encoder = TextEncoder(**parameters)
    with pytest.raises(EncodingError, match=rf"a text of {len(text)} characters.*larger max_characters"):
        encoder.fit_transform([text])


def test_the_limit_of_a_text_is_not_in_the_recipe_and_is_checked():
    assert TextEncoder(max_characters=10).recipe() == TextEncoder().recipe()
    for wrong in (0, 1.5, True, "10"):
        with pytest.raises(ValueError, match="max_characters must be a whole number of at least 1"):
            TextEncoder(max_characters=wrong).fit(["a"])


def test_a_series_of_very_many_numbers_is_a_bad_row():
    encoder = TimeSeriesEncoder(max_samples=100)
    series = np.sin(np.arange(101.0))
    with pytest.raises(EncodingError, match=r"101 numbers; at most max_samples=100 are read.*larger max_samples"):
        encoder.fit_transform([series])
    assert np.isfinite(encoder.fit_transform([series[:100]])).all()
    assert encoder.recipe() == TimeSeriesEncoder().recipe()
    with pytest.raises(ValueError, match="max_samples must be a whole number"):
        TimeSeriesEncoder(max_samples=0).fit([series])


# ---------------------------------------------------------------------- messages

CONTENT = base64.b64encode(np.random.default_rng(0).bytes(200_000)).decode()
ENCODERS = {
    "image": ImageEncoder(features="color"),
    "sound": AudioEncoder(features="librosa"),
    "video": VideoEncoder(ImageEncoder(features="color")),
}


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "data:audio/wav;base64,"])
@pytest.mark.parametrize("length", [300, 6_000, len(CONTENT)])
@pytest.mark.parametrize("kind", ENCODERS)
def test_content_in_a_path_cell_is_told_in_a_short_line(kind, length, head):
    cells = pd.DataFrame({"file": pd.Series([head + CONTENT[:length]] * 6, dtype=object)})
    with pytest.raises(EncodingError, match=r"look like base64.*base64\.b64decode") as caught:
        ENCODERS[kind].fit_transform(cells)
    assert len(str(caught.value)) < 2500
    assert all(len(row.reason) < 400 and len(row.value) < 100 for row in caught.value.rows)


@pytest.mark.parametrize(
    "cell", ["a/long name " * 50_000, "x." * 50_000, ["no such file " * 10_000]], ids=["words", "dots", "list"]
)
def test_any_long_cell_is_told_in_a_short_line(cell):
    with pytest.raises(EncodingError) as caught:
        ImageEncoder(features="color").fit_transform({"file": [cell]})
    assert len(str(caught.value)) < 1000


def test_a_long_reason_is_cut():
    assert len(reason_of(ValueError("no " * 10_000))) < 600
    assert reason_of(ValueError("no")) == "ValueError: no"
    assert reason_of(FileNotFoundError(2, "No such file", "short.png")) == "no such file"


# ---------------------------------------------------------------------- no network for bad cells

BAD = {
    ImageEncoder: b"\x89PNG\r\n\x1a\n" + bytes(40),
    AudioEncoder: wav(100, 16_000)[:-50],
    TextEncoder: "\ud800",
    VideoEncoder: b"\0\0\0\x20ftypisom" + bytes(40),
    VideoSoundEncoder: b"\0\0\0\x20ftypisom" + bytes(40),
}


@pytest.mark.parametrize("cls", BAD)
@pytest.mark.parametrize("is_cached", [True, False])
def test_bad_cells_alone_prepare_nothing(cls, is_cached, monkeypatch):
    def prepare(self):
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(cls, "prepare", prepare)
    encoder = cls(on_error="missing")
    encoder.n_dims_ = 3
    encoder.n_features_in_ = 1
    cache = {} if is_cached else {"cache": None}
    with config_context(**cache), pytest.warns(MissingModalityWarning, match="treats 2 of 3 cells"):
        vectors = encoder.transform([BAD[cls], None, BAD[cls]])
    assert np.isnan(vectors).all() and vectors.shape == (3, 3)


def test_a_wrong_parameter_is_still_told_when_all_cells_are_bad():
    with config_context(cache=None), pytest.raises(ValueError, match="background must be a colour"):
        ImageEncoder(features="color", background="nothing", on_error="missing").fit([BAD[ImageEncoder]])


def test_a_good_cell_behind_bad_ones_is_encoded():
    cells = [BAD[ImageEncoder], png(), BAD[ImageEncoder], png(colour="red")]
    with pytest.warns(MissingModalityWarning, match="treats 2 of 4 cells"):
        vectors = ImageEncoder(features="color", on_error="missing").fit_transform(cells)
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, True, False]


def test_a_subclass_with_other_cells_is_not_probed():
    class FromDict(ImageEncoder):
        def load(self, cell):
            return super().load(cell["picture"])

    pixels = np.full((8, 8, 3), 9, np.uint8)
    assert np.isfinite(FromDict(features="color").fit_transform({"x": [{"picture": pixels}]})).all()


def test_the_order_of_the_hooks():
    calls = []

    class Recorder(BaseEncoder):
        def probe(self, cell):
            calls.append(("probe", cell))
            if cell < 0:
                raise ValueError("negative")

        def load(self, cell):
            calls.append(("load", cell))
            return cell

        def prepare(self):
            calls.append("prepare")

        def encode_batch(self, items):
            return np.array([[item] for item in items])

    with config_context(cache=None), pytest.raises(EncodingError, match="negative"):
        Recorder().fit_transform({"n": [-1.0, 2.0, 3.0]})
    assert calls == [("probe", -1.0), ("probe", 2.0), "prepare", ("load", 2.0), ("load", 3.0)]


@pytest.mark.slow
def test_a_later_run_with_a_bad_file_imports_no_torch(tmp_path):
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "bad.png").write_bytes(png()[:60])
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from ensemblefuse import ImageEncoder, config_context\n"
        "folder = sys.argv[1]\n"
        "with config_context(cache=folder + '/cache'):\n"
        "    encoder = ImageEncoder(on_error='missing')\n"
        "    encoder.fit_transform([folder + '/good.png', folder + '/bad.png'])\n"
        "print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    assert runs == ["True", "False"]
